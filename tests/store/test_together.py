"""Small blobs stored together: durable as a group, visible whole, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.errors import Absent, StoreFailure
from dtfc.store import capabilities, syscalls
from dtfc.store.blobs import Store, Stored, open_store
from dtfc.store.capabilities import Capability
from dtfc.store.log import BLOCK
from dtfc.store.together import LONGEST, Small, Together, possible
from tests.store.conftest import GROUPS_NEED, FailingDisk, call_of

GROUP = [Small(bytes([number]) * 500, f"name-{number}") for number in range(5)]
DIGESTS = [Digest.of(small.body) for small in GROUP]


@pytest.fixture
def together(store: Store) -> Iterator[Together]:
    made = store.together()
    yield made
    made.close()


def put(store: Store, body: bytes, name: str | None) -> Stored:
    intake = store.intake(len(body))
    intake.write([body])
    return intake.commit(name)


def crash(store: Store, together: Together) -> Store:
    """Let both go as a killed process does; open the store anew."""
    together._let_go()
    base = store.layout.basedir
    store.close()
    return open_store(base, reserve=0)


def test_a_group_is_stored(store: Store, together: Together) -> None:
    results = together.put(GROUP)
    for small, digest, result in zip(GROUP, DIGESTS, results, strict=True):
        assert isinstance(result, Stored)
        assert result.new
        assert result.info == store.stat(digest)
        with store.open(digest) as blob:
            assert os.pread(blob.fd, 1000, 0) == small.body
            assert os.fstat(blob.fd).st_mode & 0o777 == 0o444
    listed = {(row.name, row.digest) for row in store.catalog.by_name().rows}
    assert listed == {(f"name-{number}", digest) for number, digest in enumerate(DIGESTS)}


def test_a_blob_without_a_name(store: Store, together: Together) -> None:
    [result] = together.put([Small(b"", None)])
    assert isinstance(result, Stored)
    assert store.stat(Digest.of(b"")).names == ()


def test_nothing_is_left_after_a_clean_end(store: Store) -> None:
    together = store.together()
    together.put(GROUP)
    together.close()
    assert os.listdir(store.layout.own("log")) == ["lock"]


def test_the_log_is_durable_before_anything_is_visible(
    store: Store, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    name = call_of("fdatasync")
    real = getattr(os, name)

    def sync(fd: int) -> None:
        seen.append(any(map(store.holds, DIGESTS)))
        real(fd)

    monkeypatch.setattr(os, name, sync)
    together.put(GROUP)
    assert seen == [False]


@pytest.mark.parametrize("what", ["here", "deleted", "marked"])
def test_what_has_a_folder_is_left_to_the_door(store: Store, together: Together, what: str) -> None:
    put(store, GROUP[0].body, "first")
    if what == "deleted":
        store.delete(DIGESTS[0])
    elif what == "marked":
        Path(store.layout.marker(DIGESTS[0], 403)).touch()
    results = together.put(GROUP)
    assert results[0] is None
    assert all(isinstance(result, Stored) for result in results[1:])


@pytest.mark.parametrize(
    "small",
    [
        Small(b"x", None, Digest.of(b"y")),
        Small(b"x", "line\nend"),
        Small(bytes(LONGEST + 1), None),
    ],
    ids=["another digest", "a bad name", "too long"],
)
def test_what_the_door_refuses_is_left_to_it(
    store: Store, together: Together, small: Small
) -> None:
    assert together.put([small]) == [None]
    assert list(store.walk()) == []


def test_the_same_bytes_twice_in_a_group(store: Store, together: Together) -> None:
    one, other = together.put([GROUP[0], Small(GROUP[0].body, "other")])
    assert isinstance(one, Stored)
    assert other is None
    assert store.stat(DIGESTS[0]).names == ("name-0",)


def test_a_full_disk_is_left_to_the_door(store: Store, together: Together) -> None:
    store.set_reserve(1 << 60)
    assert together.put(GROUP) == [None] * 5


def test_a_log_that_does_not_become_durable(
    store: Store, together: Together, disk: FailingDisk
) -> None:
    assert all(together.put(GROUP[:2]))
    disk.fail("fdatasync", errno.EIO, 1)
    results = together.put(GROUP[2:])
    disk.heal()
    assert all(isinstance(result, StoreFailure) for result in results)
    assert together.lost
    assert store.failed_syncs == 1
    assert set(store.walk()) == set(DIGESTS[:2])
    assert together.put([Small(b"later", None)]) == [None]
    # Nor does it come back.
    opened = crash(store, together)
    assert set(opened.walk()) == set(DIGESTS[:2])
    opened.close()


def test_a_tree_that_does_not_become_durable_is_stored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path), fan_out=2, reserve=0)
    together = store.together()
    together.put(GROUP)
    before = store.open(DIGESTS[0])

    def failing(_fd: int) -> None:
        raise OSError(errno.EIO, "lost")

    monkeypatch.setattr(syscalls, "sync_filesystem", failing)
    together.close()
    monkeypatch.undo()
    assert together.lost
    store.close()
    # The kernel may show bytes that it could not write: they are not believed.
    opened = open_store(str(tmp_path), reserve=0)
    with before, opened.open(DIGESTS[0]) as after:
        assert not os.path.sameopenfile(before.fd, after.fd)
    assert opened.stat(DIGESTS[0]).names == ("name-0",)
    assert os.listdir(opened.layout.own("log")) == ["lock"]
    opened.close()


@pytest.mark.parametrize("function", ["open", "mkdir", "pwritev", "fchmod", "stat"])
def test_whatever_fails_nothing_half_is_seen(
    store: Store, together: Together, disk: FailingDisk, function: str
) -> None:
    for nth in range(1, 1000):
        group = [Small(f"{function}{nth}{number}".encode(), f"n{number}") for number in range(3)]
        disk.fired = 0
        disk.fail(function, errno.ENOSPC, nth)
        results = together.put(group)
        disk.heal()
        for small, result in zip(group, results, strict=True):
            digest = Digest.of(small.body)
            if isinstance(result, Stored):
                assert store.stat(digest) == result.info
            else:
                with pytest.raises(Absent):
                    store.stat(digest)
        if together.lost:
            # It was the log itself.
            assert function == "pwritev"
            return
        if not disk.fired:
            return
    pytest.fail("it never ran through")


def test_a_delete_that_comes_between(
    store: Store, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.catalog.record_new

    def record_late(*args: object) -> None:
        store.delete(DIGESTS[0])
        real(*args)  # type: ignore[arg-type] # handed through

    monkeypatch.setattr(store.catalog, "record_new", record_late)
    together.put(GROUP)
    monkeypatch.undo()
    assert DIGESTS[0] not in {row.digest for row in store.catalog.by_name().rows}
    assert DIGESTS[1] in {row.digest for row in store.catalog.by_name().rows}


def test_logs_take_turns(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), fan_out=2, reserve=0)
    together = Together(
        store.layout, store._volume, store._folders, store.catalog, store.settle, size=8 * BLOCK
    )
    bodies = [number.to_bytes(4, "big") * 1000 for number in range(40)]
    for body in bodies:
        assert isinstance(together.put([Small(body, None)])[0], Stored)
    opened = crash(store, together)
    assert set(opened.walk()) == {Digest.of(body) for body in bodies}
    opened.close()


@pytest.mark.parametrize("lacking", sorted(GROUPS_NEED, key=str))
def test_without_the_calls_there_is_none(
    store: Store, monkeypatch: pytest.MonkeyPatch, lacking: Capability
) -> None:
    assert possible()
    monkeypatch.setattr(capabilities, "_here", set(GROUPS_NEED) - {lacking})
    assert not possible()
    with pytest.raises(syscalls.Unsupported):
        store.together()
    monkeypatch.undo()
    assert set(os.listdir(store.layout.own("log"))) <= {"lock"}
