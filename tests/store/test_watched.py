"""A blob kept open notices every change of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.errors import Absent, Denied
from dtfc.store.blobs import Store, open_store
from dtfc.store.watched import SETTLED, WatchedBlob

CONTENT = b"watched"
DIGEST = Digest.of(CONTENT)
SECOND = 1_000_000_000


def put(store: Store, name: str = "a") -> None:
    intake = store.intake(None)
    intake.write([CONTENT])
    intake.commit(name)


def settle() -> None:
    """Let the file system's clock move on."""
    time.sleep(SETTLED / 1e9 + 0.02)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "store"))
    put(store)
    return store


@pytest.fixture
def watched(store: Store) -> WatchedBlob:
    settle()
    watched = store.watch(DIGEST)
    assert watched is not None
    return watched


def append_name(store: Store) -> None:
    with open(store.layout.names(DIGEST), "a") as names:
        names.write("by hand\n")


def rewrite(store: Store) -> None:
    os.chmod(store.layout.data(DIGEST), 0o600)
    Path(store.layout.data(DIGEST)).write_bytes(b"changed")


def restore_times(store: Store) -> None:
    """Change the bytes and put the mtime back, as a careless restore does."""
    path = store.layout.data(DIGEST)
    before = os.stat(path)
    rewrite(store)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[Store], object]] = {
    "a 404 marker": lambda store: Path(store.layout.marker(DIGEST, 404)).touch(),
    "a 403 marker": lambda store: Path(store.layout.marker(DIGEST, 403)).touch(),
    "deletion": lambda store: store.delete(DIGEST),
    "a new name": lambda store: put(store, "b"),
    "removal by hand": lambda store: os.unlink(store.layout.data(DIGEST)),
    "a name written by hand": append_name,
    "other bytes": rewrite,
    "other bytes with the old mtime": restore_times,
}


def test_nothing_changed(watched: WatchedBlob) -> None:
    assert watched.unchanged()
    watched.close()


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_noticed(store: Store, watched: WatchedBlob, change: str) -> None:
    CHANGES[change](store)

    assert not watched.unchanged()
    watched.close()


def test_a_blob_that_has_just_changed_is_not_watched(store: Store) -> None:
    put(store, "fresh name")

    assert store.watch(DIGEST) is None


@pytest.mark.parametrize(
    ("changed", "settled"),
    [
        (lambda now: now - now % SECOND, False),
        (lambda now: now - now % SECOND - 2 * SECOND, True),
        (lambda now: now | 1, False),
        (lambda now: (now - SECOND // 2) | 1, True),
    ],
    ids=["this second", "two seconds ago", "this tick", "half a second ago"],
)
def test_it_depends_on_the_tick_when_a_change_will_show(
    watched: WatchedBlob, changed: Callable[[int], int], *, settled: bool
) -> None:
    at = changed(time.time_ns())
    watched._seen = (at, at, 0)
    assert watched.settled() is settled
    watched.close()


def test_an_absent_blob_is_absent(store: Store) -> None:
    with pytest.raises(Absent):
        store.watch(Digest.of(b"other"))


def test_a_denied_blob_is_denied(store: Store) -> None:
    Path(store.layout.marker(DIGEST, 403)).touch()

    with pytest.raises(Denied):
        store.watch(DIGEST)


def test_closing_closes_every_descriptor(watched: WatchedBlob) -> None:
    before = len(os.listdir("/proc/self/fd"))

    watched.close()
    watched.close()

    assert len(os.listdir("/proc/self/fd")) == before - 3
