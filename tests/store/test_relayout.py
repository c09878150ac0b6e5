"""A store is given the other form: whole, interrupted at every step, and back."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dtfc.store.relayout
from dtfc.digest import Digest
from dtfc.errors import Absent, BrokenStore, Busy, Denied, NoSpace
from dtfc.store import capabilities, syscalls
from dtfc.store.blobs import Store, open_store
from dtfc.store.capabilities import Capability
from dtfc.store.chunkmap import CHUNK
from dtfc.store.relayout import relayout

#: One of more than a chunk, so that it has a map.
CONTENTS = {"a.txt": b"a", "b.bin": b"b" * (CHUNK + 1), "c": b"", "d.txt": b"d"}
DELETED = Digest.of(b"deleted")
FORBIDDEN = Digest.of(b"forbidden")

#: What changes the disk, and where a process may die before or after.
STEPS = ("mkdir", "rename", "rmdir", "link", "unlink", "fsync")
CALLS = ("rename_new", "sync_filesystem")


def put(store: Store, name: str | None, content: bytes) -> Digest:
    intake = store.intake(len(content))
    intake.write([content])
    return intake.commit(name).info.digest


@pytest.fixture(params=[64, 2], ids=["to 2", "to 64"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A store with blobs, a tombstone and a marker, in either form."""
    base = tmp_path / "store"
    store = open_store(str(base), fan_out=request.param, reserve=0)
    for name, content in CONTENTS.items():
        put(store, "earlier", content)
        put(store, name, content)
    put(store, "x", b"deleted")
    store.delete(DELETED)
    put(store, "x", b"forbidden")
    Path(store.layout.marker(FORBIDDEN, 403)).touch()
    store.close()
    return base


def fan_out_of(base: Path) -> int:
    return int(json.loads((base / ".dtfc/format").read_text())["fan_out"])


def other(base: Path) -> int:
    return 2 if fan_out_of(base) == 64 else 64


def check(base: Path, fan_out: int) -> None:
    """See that everything is in the store, in that form and in no other."""
    store = open_store(str(base), reserve=0)
    try:
        assert store.layout.fan_out == fan_out
        assert not store.needs_reindex
        assert sorted(store.walk()) == sorted([*map(Digest.of, CONTENTS.values()), FORBIDDEN])
        for name, content in CONTENTS.items():
            digest = Digest.of(content)
            with store.open(digest) as blob:
                assert os.pread(blob.fd, len(content) + 1, 0) == content
                assert blob.info.names == ("earlier", name)
            assert (Path(store.layout.folder(digest)) / "chunks").exists() == (len(content) > CHUNK)
        with pytest.raises(Absent) as absent:
            store.stat(DELETED)
        assert absent.value.deleted
        with pytest.raises(Denied):
            store.stat(FORBIDDEN)
        assert folders_in(base) == needed(store)
    finally:
        store.close()


def folders_in(base: Path) -> set[str]:
    found = {os.path.relpath(path, base) for path, _, _ in os.walk(base)}
    return {path for path in found if path != "." and not path.startswith(".dtfc")}


def needed(store: Store) -> set[str]:
    """Return the folders that lead to what the store has, and those alone."""
    found = set()
    for digest in [*store.walk(), DELETED]:
        path = store.layout.relative(digest)
        while path:
            found.add(path)
            path = os.path.dirname(path)
    return found


def test_it_has_the_other_form(base: Path) -> None:
    wanted = other(base)

    done = relayout(str(base), wanted, reserve=0)

    assert (done.fan_out, done.moved, done.left) == (wanted, len(CONTENTS) + 2, ())
    check(base, wanted)


def test_and_back(base: Path) -> None:
    before = folders_in(base)
    was = fan_out_of(base)

    relayout(str(base), other(base), reserve=0)
    relayout(str(base), was, reserve=0)

    assert folders_in(base) == before
    check(base, was)


def test_the_node_keeps_its_id(base: Path) -> None:
    before = json.loads((base / ".dtfc/format").read_text())["node"]

    relayout(str(base), other(base), reserve=0)

    assert json.loads((base / ".dtfc/format").read_text())["node"] == before


def test_what_has_the_form_stays_as_it_is(base: Path) -> None:
    is_now = fan_out_of(base)

    done = relayout(str(base), is_now, reserve=0)

    assert (done.moved, done.removed) == (0, 0)
    check(base, is_now)


def test_a_store_that_is_open_is_left_alone(base: Path) -> None:
    store = open_store(str(base), reserve=0)
    try:
        with pytest.raises(Busy):
            relayout(str(base), other(base), reserve=0)
    finally:
        store.close()
    check(base, fan_out_of(base))


def test_a_tree_of_2015_becomes_one_of_two_levels(tmp_path: Path) -> None:
    digest = Digest.of(b"old")
    folder = tmp_path.joinpath(*(digest.hex[at : at + 2] for at in range(0, 128, 2)))
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(b"old")
    (folder / "filename").write_text("old.txt\n")

    relayout(str(tmp_path), 2, reserve=0)

    store = open_store(str(tmp_path), reserve=0)
    assert (store.layout.fan_out, store.stat(digest).names) == (2, ("old.txt",))
    store.close()


def test_what_is_no_blob_s_stays_and_is_told(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), fan_out=64, reserve=0)
    digest = put(store, "a", b"a")
    store.close()
    stray = Path(store.layout.folder(digest)).parent / "README"
    stray.write_text("hello")

    done = relayout(str(tmp_path), 2, reserve=0)

    assert done.left == (os.path.relpath(stray.parent, tmp_path),)
    assert stray.read_text() == "hello"


def test_a_link_in_the_tree_leads_nowhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "cd").mkdir(parents=True)
    store = open_store(str(tmp_path / "store"), fan_out=64, reserve=0)
    digest = put(store, "a", b"a")
    store.close()
    first, second = digest.hex[:2], "00" if digest.hex[2:4] != "00" else "01"
    (tmp_path / "store" / first / second).symlink_to(elsewhere)

    relayout(str(tmp_path / "store"), 2, reserve=0)

    assert (elsewhere / "cd").is_dir()


def test_what_is_in_the_way_stops_it(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), fan_out=64, reserve=0)
    digest = put(store, "a", b"a")
    data = Path(store.layout.data(digest))
    store.close()
    in_the_way = tmp_path / digest.hex[:2] / digest.hex[2:4] / digest.hex[4:]
    in_the_way.mkdir()

    with pytest.raises(BrokenStore, match="in the way"):
        relayout(str(tmp_path), 2, reserve=0)

    assert data.read_bytes() == b"a"
    in_the_way.rmdir()
    assert relayout(str(tmp_path), 2, reserve=0).moved == 1


def test_without_room_it_stops(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), fan_out=2, reserve=0)
    put(store, "a", b"a")
    store.close()

    with pytest.raises(NoSpace):
        relayout(str(tmp_path), 64, reserve=1 << 60)


def test_no_node_starts_on_a_store_that_is_half_done(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = other(base)
    interrupted(base, wanted, monkeypatch)

    with pytest.raises(BrokenStore, match=f"dtfc relayout --fan-out {wanted}"):
        open_store(str(base))


def test_it_goes_on(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = other(base)
    interrupted(base, wanted, monkeypatch)

    relayout(str(base), wanted, reserve=0)

    check(base, wanted)


def test_or_goes_back(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    was = fan_out_of(base)
    interrupted(base, other(base), monkeypatch)

    relayout(str(base), was, reserve=0)

    check(base, was)


def interrupted(base: Path, wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move some blobs, and stop."""
    real = syscalls.rename_new
    count = 0

    def some(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count > 2:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(syscalls, "rename_new", some)
        with pytest.raises(KeyboardInterrupt):
            relayout(str(base), wanted, reserve=0)


def test_without_linux_s_calls(base: Path) -> None:
    wanted = other(base)
    with capabilities_off():
        relayout(str(base), wanted, reserve=0)

    check(base, wanted)


def test_without_linux_s_calls_nothing_is_replaced(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), fan_out=64, reserve=0)
    digest = put(store, "a", b"a")
    store.close()
    (tmp_path / digest.hex[:2] / digest.hex[2:4] / digest.hex[4:]).mkdir()

    with capabilities_off(), pytest.raises(BrokenStore, match="in the way"):
        relayout(str(tmp_path), 2, reserve=0)


@contextlib.contextmanager
def capabilities_off() -> Iterator[None]:
    on = capabilities.switch_off(Capability.RENAME_NEW, Capability.SYNC_FILESYSTEM)
    try:
        yield
    finally:
        on()


class Steps:
    """What a process does to the disk, until it is killed.

    Of the folders that are made and removed, each the same as the one before, some are left out;
    and that the store is opened first, which others test.
    """

    def __init__(self, last: int) -> None:
        self._last = last
        self._count = self._folders = 0
        self._opening = False

    def watch(self) -> None:
        """Count from now on, in this process."""
        dtfc.store.relayout.open_store = self._opened  # type: ignore[attr-defined] # imported there
        for place, names in ((os, STEPS), (syscalls, CALLS)):
            for name in names:
                setattr(place, name, self._counted(name, getattr(place, name)))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            if not self._opening and self._counts(name):
                if self._count == self._last:
                    os.kill(os.getpid(), signal.SIGKILL)
                self._count += 1
            return real(*arguments, **more)

        return call

    def _counts(self, name: str) -> bool:
        if name not in ("mkdir", "rmdir"):
            return True
        self._folders += 1
        return self._folders % 16 == 1

    def _opened(self, *arguments: Any, **more: Any) -> Store:
        self._opening = True
        store = open_store(*arguments, **more)
        close = store.close

        def closed() -> None:
            close()
            self._opening = False

        store.close = closed  # type: ignore[method-assign] # to see when it is over
        return store


def dies_at(step: int, base: Path, fan_out: int) -> bool:
    """Convert a store in a process that is killed at one step; False if there are not so many."""
    child = os.fork()
    if not child:
        code = 1
        try:
            Steps(step).watch()
            relayout(str(base), fan_out, reserve=0)
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status != 0


@pytest.mark.parametrize("fan_out", [64, 2], ids=["to 2", "to 64"])
def test_killed_at_every_step(tmp_path: Path, fan_out: int) -> None:
    wanted = 2 if fan_out == 64 else 64
    before = tmp_path / "before"
    store = open_store(str(before), fan_out=fan_out, reserve=0)
    digests = [put(store, "a", b"a"), put(store, "b", b"b")]
    store.close()
    step = 0
    while True:
        base = tmp_path / "store"
        shutil.copytree(before, base, copy_function=shutil.copy2)
        killed = dies_at(step, base, wanted)
        # It goes on, and every other time back.
        final = fan_out if killed and step % 2 else wanted

        relayout(str(base), final, reserve=0)

        store = open_store(str(base), reserve=0)
        assert store.layout.fan_out == final
        assert sorted(store.walk()) == sorted(digests), step
        assert {store.stat(digest).names for digest in digests} == {("a",), ("b",)}
        levels = {len(Path(store.layout.relative(digest)).parts) for digest in digests}
        depth = {path.count("/") + 1 for path in folders_in(base)}
        assert max(depth) == max(levels), step
        store.close()
        shutil.rmtree(base)
        if not killed:
            break
        step += 1
    assert step > 15
