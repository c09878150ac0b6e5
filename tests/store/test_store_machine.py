"""The store against a dictionary: whatever happens in whatever order."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from dtfc.digest import Digest
from dtfc.errors import Absent, Denied, DtfcError, StoreFailure, WrongDigest
from dtfc.store.blobs import Store, open_store
from dtfc.store.incoming import Intake
from dtfc.store.partials import Partial
from dtfc.store.together import Small, Together

BLOBS = [b"", b"a", b"bb" * 50, bytes(range(256)) * 20]
NAMES = [None, "a", "b.txt", "ü"]
blob = st.sampled_from(BLOBS)
name = st.sampled_from(NAMES)


def with_name(names: list[str], new: str | None) -> list[str]:
    return names if new is None else [*(each for each in names if each != new), new]


class StoreMachine(RuleBasedStateMachine):
    """One store, and what it should hold."""

    fan_out: int
    anonymous: bool

    intakes = Bundle("intakes")

    @initialize()
    def begin(self) -> None:
        self.base = tempfile.mkdtemp(prefix="dtfc-machine-")
        self.blobs: dict[bytes, list[str]] = {}
        self.deleted: set[bytes] = set()
        self.marked: dict[bytes, set[int]] = {data: set() for data in BLOBS}
        self.partials: dict[bytes, Partial] = {}
        self.partial_bytes: dict[bytes, bytes] = {}
        self.open_intakes: list[Intake] = []
        self.together: Together | None = None
        self.in_log: set[bytes] = set()
        self.first_names: dict[bytes, list[str]] = {}
        self.store: Store = self.opened(self.fan_out)

    def opened(self, fan_out: int | None) -> Store:
        return open_store(self.base, fan_out=fan_out, reserve=0, anonymous_files=self.anonymous)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.let_go()
            self.end_together()
            self.store.close()
            shutil.rmtree(self.base)

    def let_go(self) -> None:
        for intake in self.open_intakes:
            intake.discard()
        self.open_intakes.clear()
        for partial in self.partials.values():
            partial.close()
        self.partials.clear()

    def expect_stored(self, data: bytes, names: str | None, commit: Any) -> None:
        """Commit, and compare what comes of it with what should."""
        if self.marked[data]:
            with pytest.raises(Denied):
                commit()
            return
        stored = commit()
        assert stored.new is (data not in self.blobs)
        self.deleted.discard(data)
        self.blobs[data] = with_name(self.blobs.get(data, []), names)
        assert list(stored.info.names) == self.blobs[data]

    @rule(data=blob, name=name, known=st.booleans(), cuts=st.integers(1, 700))
    def put(self, data: bytes, name: str | None, cuts: int, *, known: bool) -> None:
        intake = self.store.intake(len(data) if known else None)
        intake.write([data[at : at + cuts] for at in range(0, len(data), cuts)])
        self.expect_stored(data, name, lambda: intake.commit(name, digest=Digest.of(data)))

    @rule(group=st.lists(st.tuples(blob, name), min_size=1, max_size=4))
    def put_together(self, group: list[tuple[bytes, str | None]]) -> None:
        if self.together is None:
            self.together = self.store.together()
        results = self.together.put([Small(data, name) for data, name in group])
        for (data, name), result in zip(group, results, strict=True):
            assert not isinstance(result, StoreFailure)
            if result is None:
                # It has a folder, if only because it came twice in the group.
                assert os.path.isdir(self.store.layout.folder(Digest.of(data)))
                continue
            assert data not in self.blobs
            assert data not in self.deleted
            self.blobs[data] = with_name([], name)
            assert list(result.info.names) == self.blobs[data]
            self.first_names[data] = list(self.blobs[data])
            self.in_log.add(data)

    @rule()
    def settle(self) -> None:
        if self.together is not None:
            self.together.settle()
            self.together._join()
            self.in_log.clear()

    @rule(lost=st.sets(blob), how=st.sampled_from(["folder", "bytes", "file"]))
    def lose_power(self, lost: set[bytes], how: str) -> None:
        """The process dies, and the tree loses what nothing but the log has made durable."""
        self.let_go()
        if self.together is not None:
            self.together._let_go()
            self.together = None
        layout = self.store.layout
        self.store.close()
        for data in lost & self.in_log & self.blobs.keys():
            folder = layout.folder(Digest.of(data))
            if self.marked[data] or list(self.blobs[data]) != self.named_first(data):
                continue  # something later has made its folder durable
            if how == "folder":
                shutil.rmtree(folder)
            elif how == "file":
                os.unlink(f"{folder}/data")
            else:
                os.chmod(f"{folder}/data", 0o644)
                os.truncate(f"{folder}/data", 0)
        self.in_log.clear()
        self.store = self.opened(None)

    def named_first(self, data: bytes) -> list[str]:
        return self.first_names.get(data, [])

    @rule(target=intakes, data=blob)
    def begin_put(self, data: bytes) -> tuple[Intake, bytes]:
        intake = self.store.intake(None)
        intake.write([data])
        self.open_intakes.append(intake)
        return intake, data

    @rule(begun=consumes(intakes), name=name)
    def end_put(self, begun: tuple[Intake, bytes], name: str | None) -> None:
        intake, data = begun
        if intake not in self.open_intakes:
            # The store was closed meanwhile, as by a process that was killed.
            with pytest.raises(DtfcError):
                intake.write([b"more"])
            return
        self.open_intakes.remove(intake)
        self.expect_stored(data, name, lambda: intake.commit(name))

    @rule(begun=consumes(intakes))
    def give_up_put(self, begun: tuple[Intake, bytes]) -> None:
        begun[0].discard()
        if begun[0] in self.open_intakes:
            self.open_intakes.remove(begun[0])

    @rule(data=blob, promised=blob, name=name)
    def put_with_a_promise(self, data: bytes, promised: bytes, name: str | None) -> None:
        if data == promised:
            return
        intake = self.store.intake(None)
        intake.write([data])
        with pytest.raises(WrongDigest):
            intake.commit(name, digest=Digest.of(promised))

    @rule(data=blob, name=name.filter(bool))
    def add_name(self, data: bytes, name: str) -> None:
        if self.readable(data):
            self.store.store_again(Digest.of(data), name)
            self.blobs[data] = with_name(self.blobs[data], name)
        else:
            with pytest.raises((Absent, Denied)):
                self.store.store_again(Digest.of(data), name)

    @rule(data=blob)
    def delete(self, data: bytes) -> None:
        gone = self.store.delete(Digest.of(data))
        assert (gone.info is not None) is (data in self.blobs)
        if gone.info is not None:
            assert list(gone.info.names) == self.blobs.pop(data)
        if 404 not in self.marked[data]:
            self.deleted.add(data)
        self.in_log.discard(data)
        if data in self.partial_bytes and data not in self.partials:
            del self.partial_bytes[data]

    @rule(data=blob, status=st.sampled_from([403, 404]))
    def mark(self, data: bytes, status: Literal[403, 404]) -> None:
        path = Path(self.store.layout.marker(Digest.of(data), status))
        os.makedirs(path.parent, exist_ok=True)
        path.write_bytes(b"")
        self.marked[data].add(status)
        if status == 404:
            # The operator's file has taken the place of the tombstone.
            self.deleted.discard(data)

    @rule(data=blob)
    def unmark(self, data: bytes) -> None:
        for status in self.marked[data]:
            os.unlink(f"{self.store.layout.folder(Digest.of(data))}/{status}")
        self.marked[data] = set()

    @rule(data=blob)
    def open_partial(self, data: bytes) -> None:
        if data in self.partials:
            return
        partial = self.store.partial(Digest.of(data))
        assert partial.absorb() == len(self.partial_bytes.setdefault(data, b""))
        self.partials[data] = partial

    @rule(data=blob, more=st.binary(min_size=1, max_size=5) | st.none())
    def write_partial(self, data: bytes, more: bytes | None) -> None:
        """Add the next right bytes, or some that may be wrong."""
        if data not in self.partials:
            return
        so_far = self.partial_bytes[data]
        piece = data[len(so_far) :] if more is None else more
        self.partials[data].write([piece])
        self.partial_bytes[data] = so_far + piece
        assert self.partials[data].length == len(so_far + piece)

    @rule(data=blob, name=name)
    def commit_partial(self, data: bytes, name: str | None) -> None:
        partial = self.partials.get(data)
        if partial is None:
            return
        if self.partial_bytes[data] != data:
            with pytest.raises(WrongDigest):
                partial.commit(name)
            partial.restart()
            self.partial_bytes[data] = b""
        elif self.marked[data] or data in self.deleted:
            with pytest.raises((Absent, Denied)):
                partial.commit(name)
            partial.discard()
            del self.partials[data], self.partial_bytes[data]
        else:
            self.expect_stored(data, name, lambda: partial.commit(name))
            partial.close()
            del self.partials[data], self.partial_bytes[data]

    @rule(data=blob)
    def close_partial(self, data: bytes) -> None:
        if data in self.partials:
            self.partials.pop(data).close()

    @rule()
    def reindex(self) -> None:
        self.store.reindex()
        assert not self.store.needs_reindex

    @precondition(lambda self: hasattr(self, "store"))
    @rule()
    def reopen(self) -> None:
        self.let_go()
        self.end_together()
        self.store.close()
        self.store = self.opened(None)

    def end_together(self) -> None:
        if self.together is not None:
            self.together.close()
            self.together = None
        self.in_log.clear()

    def readable(self, data: bytes) -> bool:
        return data in self.blobs and not self.marked[data]

    @invariant()
    def blobs_are_what_they_should_be(self) -> None:
        for data in BLOBS:
            digest = Digest.of(data)
            assert self.store.holds(digest) is self.readable(data)
            if self.readable(data):
                with self.store.open(digest) as opened:
                    assert os.pread(opened.fd, len(data) + 1, 0) == data
                    assert list(opened.info.names) == self.blobs[data]
                    assert opened.info == self.store.stat(digest)
            elif 403 in self.marked[data]:
                with pytest.raises(Denied):
                    self.store.open(digest)
            else:
                with pytest.raises(Absent) as raised:
                    self.store.stat(digest)
                gone = data in self.deleted or bool(self.marked[data])
                assert raised.value.deleted is gone

    @invariant()
    def tree_is_what_it_should_be(self) -> None:
        assert set(self.store.walk()) == {Digest.of(data) for data in self.blobs}

    @invariant()
    def catalog_knows_every_blob(self) -> None:
        known = {(row.name, row.digest) for row in self.store.catalog.by_name().rows}
        for data, names in self.blobs.items():
            expected = {(each, Digest.of(data)) for each in names}
            if self.readable(data):
                assert expected <= known
            else:
                assert expected.isdisjoint(known)
        held = {Digest.of(data) for data in self.blobs}
        assert {digest for _, digest in known} <= held
        assert self.store.catalog.unsettled() == []

    @invariant()
    def nothing_lies_about(self) -> None:
        own = self.store.layout.own
        named = 0 if self.anonymous else len(self.open_intakes)
        assert len(os.listdir(own("tmp"))) == named
        assert os.listdir(own("quarantine")) == []
        assert set(os.listdir(own("partial"))) == {
            Digest.of(data).hex for data in self.partial_bytes
        }


class FullSplit(StoreMachine):
    fan_out = 64
    anonymous = True


class TwoLevels(StoreMachine):
    fan_out = 2
    anonymous = True


class NamedFiles(StoreMachine):
    fan_out = 2
    anonymous = False


TestFullSplit = FullSplit.TestCase
TestFullSplit.settings = settings(stateful_step_count=20)
TestTwoLevels = TwoLevels.TestCase
TestTwoLevels.settings = settings(stateful_step_count=40)
TestNamedFiles = NamedFiles.TestCase
TestNamedFiles.settings = settings(stateful_step_count=20)
