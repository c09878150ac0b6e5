"""After a power cut: whatever the tree has lost, the log brings back; never what was deleted."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from dtfc.digest import Digest
from dtfc.errors import Absent, Denied, StoreFailure
from dtfc.store.blobs import Store, open_store
from dtfc.store.log import BLOCK
from dtfc.store.replay import searching
from dtfc.store.together import Small, Together
from tests.store.conftest import FailingDisk, take_linux_away

GROUPS = [
    [Small(bytes([10 * group + number]) * 700, f"name-{group}{number}") for number in range(3)]
    for group in range(4)
]
ALL = [small for group in GROUPS for small in group]
DIGESTS = [Digest.of(small.body) for small in ALL]


def cut_power(store: Store, together: Together) -> str:
    """Stop without a word, as far as that can be done in a process; return the folder."""
    together._let_go()
    base = store.layout.basedir
    store.catalog.close()
    store.close()
    return base


@pytest.fixture
def begun(store: Store) -> tuple[Store, Together]:
    together = store.together()
    for group in GROUPS:
        together.put(group)
    return store, together


LOSSES: dict[str, Callable[[str], object]] = {
    "nothing": lambda folder: folder,
    "the folder": shutil.rmtree,
    "the bytes": lambda folder: os.truncate(writable(folder, "data"), 0),
    "half of the bytes": lambda folder: os.truncate(writable(folder, "data"), 300),
    "some bytes": lambda folder: Path(writable(folder, "data")).write_bytes(bytes(700)),
    "the file": lambda folder: os.unlink(f"{folder}/data"),
    "the name": lambda folder: os.truncate(f"{folder}/filename", 0),
    "the name's bytes": lambda folder: Path(folder, "filename").write_bytes(bytes(8)),
    "all files": lambda folder: list(map(os.unlink, map(str, Path(folder).iterdir()))),
}


def writable(folder: str, name: str) -> str:
    path = f"{folder}/{name}"
    os.chmod(path, 0o644)
    return path


@pytest.mark.parametrize("loss", LOSSES)
def test_what_the_tree_lost_comes_back(begun: tuple[Store, Together], loss: str) -> None:
    store, together = begun
    layout = store.layout
    base = cut_power(store, together)
    for digest in DIGESTS:
        LOSSES[loss](layout.folder(digest))
    opened = open_store(base, reserve=0)
    for small, digest in zip(ALL, DIGESTS, strict=True):
        with opened.open(digest) as blob:
            assert os.pread(blob.fd, 1000, 0) == small.body
            assert blob.info.names == (small.name,)
    listed = {row.digest for row in opened.catalog.by_name().rows}
    assert listed == set(DIGESTS)
    assert os.listdir(opened.layout.own("log")) == ["lock"]
    opened.close()


@pytest.mark.parametrize("loss", ["nothing", "the bytes", "the folder"])
def test_a_log_is_replayed_where_nothing_of_linux_is(
    begun: tuple[Store, Together], disk: FailingDisk, loss: str
) -> None:
    """A disk may be carried to another system, where each blob has to be synced by itself."""
    store, together = begun
    layout = store.layout
    base = cut_power(store, together)
    for digest in DIGESTS:
        LOSSES[loss](layout.folder(digest))
    disk.record()
    with pytest.MonkeyPatch.context() as patch:
        take_linux_away(patch)
        opened = open_store(base, reserve=0)
        synced = {path for name, path in disk.calls if name == "fsync"}
        for small, digest in zip(ALL, DIGESTS, strict=True):
            folder = layout.folder(digest)
            assert {f"{folder}/data", f"{folder}/filename", folder} <= synced
            assert os.path.dirname(folder) in synced
            with opened.open(digest) as blob:
                assert os.pread(blob.fd, 1000, 0) == small.body
        assert os.listdir(layout.own("log")) == ["lock"]
        opened.close()


def test_a_blob_that_cannot_be_synced_keeps_the_log(
    begun: tuple[Store, Together],
) -> None:
    base = cut_power(*begun)
    real = os.fsync

    def fsync(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/data"):
            raise OSError(errno.EIO, "lost")
        real(fd)

    with pytest.MonkeyPatch.context() as patch:
        take_linux_away(patch)
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(StoreFailure):
            open_store(base, reserve=0)
    assert len(os.listdir(f"{base}/.dtfc/log")) == 2


def test_litter_beside_the_logs_is_passed_by(store: Store) -> None:
    above = Path(store.layout.own("log"))
    (above / ".DS_Store").touch()
    os.symlink("/", above / "link")
    base = store.layout.basedir
    store.close()
    open_store(base, reserve=0).close()
    assert {".DS_Store", "link"} <= set(os.listdir(above))


def test_every_prefix_of_the_log(begun: tuple[Store, Together], tmp_path: Path) -> None:
    """Whatever the log holds comes back; what it does not hold had not been acknowledged."""
    store, together = begun
    layout = store.layout
    fan_out = layout.fan_out
    base = cut_power(store, together)
    [own] = [name for name in os.listdir(layout.own("log")) if name != "lock"]
    content = Path(base, ".dtfc/log", own, "log-0").read_bytes()
    written = BLOCK * (1 + len(GROUPS))
    for end in range(BLOCK, written + 1, 331):
        other = tmp_path / f"cut-{end}"
        open_store(str(other), fan_out=fan_out, reserve=0).close()
        folder = other / ".dtfc/log/0123456789abcdef"
        folder.mkdir()
        (folder / "log-0").write_bytes(content[:end])
        opened = open_store(str(other), reserve=0)
        found = set(opened.walk())
        assert found == set(DIGESTS[: len(found)])
        # All groups that are whole.
        assert len(found) >= 3 * ((end - BLOCK) // BLOCK)
        for digest in found:
            assert opened.stat(digest).length == 700
        opened.close()
        shutil.rmtree(other)


def test_a_replay_that_was_cut_off_is_begun_again(
    begun: tuple[Store, Together], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, together = begun
    layout = store.layout
    base = cut_power(store, together)
    for digest in DIGESTS:
        shutil.rmtree(layout.folder(digest))
    real = os.link
    for _ in range(3):
        links = 0

        def link(*args: object, **kwargs: object) -> None:
            nonlocal links
            links += 1
            if links > 3:
                raise SystemExit
            real(*args, **kwargs)  # type: ignore[arg-type] # handed through

        monkeypatch.setattr(os, "link", link)
        with pytest.raises(SystemExit):
            open_store(base, reserve=0)
        monkeypatch.undo()
    opened = open_store(base, reserve=0)
    assert set(opened.walk()) == set(DIGESTS)
    opened.close()


def test_a_deletion_is_not_undone(begun: tuple[Store, Together]) -> None:
    store, together = begun
    store.delete(DIGESTS[0])
    base = cut_power(store, together)
    opened = open_store(base, reserve=0)
    with pytest.raises(Absent) as raised:
        opened.stat(DIGESTS[0])
    assert raised.value.deleted
    assert set(opened.walk()) == set(DIGESTS[1:])
    opened.close()


def test_a_deletion_that_was_cut_off_goes_on(begun: tuple[Store, Together]) -> None:
    """The tombstone is durable, and the bytes, which were not, are gone or back."""
    store, together = begun
    stone = Path(store.layout.marker(DIGESTS[0], 404))
    store.delete(DIGESTS[0])
    base = cut_power(store, together)
    (stone.parent / "data").write_bytes(b"")
    opened = open_store(base, reserve=0)
    assert not opened.holds(DIGESTS[0])
    opened.close()


def test_what_was_put_after_a_deletion_stays(begun: tuple[Store, Together]) -> None:
    store, together = begun
    store.delete(DIGESTS[0])
    intake = store.intake(None)
    intake.write([ALL[0].body])
    intake.commit("later")
    base = cut_power(store, together)
    opened = open_store(base, reserve=0)
    assert opened.stat(DIGESTS[0]).name == "later"
    opened.close()


def test_a_name_that_came_later_stays_the_current_one(begun: tuple[Store, Together]) -> None:
    store, together = begun
    store.store_again(DIGESTS[0], "later")
    data = writable(store.layout.folder(DIGESTS[0]), "data")
    base = cut_power(store, together)
    os.truncate(data, 0)
    opened = open_store(base, reserve=0)
    assert opened.stat(DIGESTS[0]).names == (ALL[0].name, "later")
    opened.close()


def test_the_log_of_a_living_process_is_left_alone(begun: tuple[Store, Together]) -> None:
    store, together = begun
    other = open_store(store.layout.basedir, reserve=0)
    assert len(os.listdir(store.layout.own("log"))) == 2
    # Each goes on for itself.
    theirs = other.together()
    assert all(theirs.put([Small(b"theirs", None)]))
    assert all(together.put([Small(b"ours", None)]))
    theirs.close()
    other.close()
    base = cut_power(store, together)
    opened = open_store(base, reserve=0)
    assert {Digest.of(b"ours"), Digest.of(b"theirs")} < set(opened.walk())
    opened.close()


def test_opening_waits_for_a_replay(small: Store) -> None:
    opened = threading.Event()

    def second() -> None:
        open_store(small.layout.basedir, reserve=0).close()
        opened.set()

    with searching(small.layout):
        thread = threading.Thread(target=second)
        thread.start()
        assert not opened.wait(0.2)
    assert opened.wait(10)
    thread.join()


def test_two_puts_of_one_blob_in_two_processes(small: Store) -> None:
    other = open_store(small.layout.basedir, reserve=0)
    one, two = small.together(), other.together()
    bodies = [number.to_bytes(4, "big") * 50 for number in range(300)]
    results: dict[int, list[object]] = {}

    def run(number: int, together: Together) -> None:
        results[number] = [
            result
            for at in range(0, 300, 10)
            for result in together.put([Small(body, "n") for body in bodies[at : at + 10]])
        ]

    threads = [
        threading.Thread(target=run, args=(number, each)) for number, each in enumerate((one, two))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for first, second in zip(results[0], results[1], strict=True):
        assert (first is None) is not (second is None)
    one.close()
    two.close()
    other.close()
    assert small.catalog.totals().blobs == 300
    assert os.listdir(small.layout.own("log")) == ["lock"]


def test_on_a_full_disk_the_log_waits(begun: tuple[Store, Together], disk: FailingDisk) -> None:
    store, together = begun
    layout = store.layout
    base = cut_power(store, together)
    for digest in DIGESTS[:6]:
        os.truncate(writable(layout.folder(digest), "data"), 3)
    disk.fail("pwritev", errno.ENOSPC, 1, ever_after=True)
    opened = open_store(base, reserve=0)
    disk.heal()
    assert set(opened.walk()) == set(DIGESTS[6:])
    opened.close()
    opened = open_store(base, reserve=0)
    assert set(opened.walk()) == set(DIGESTS)
    assert os.listdir(layout.own("log")) == ["lock"]
    opened.close()


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("loss", ["the bytes", "half of the bytes", "some bytes", "the file"])
def test_what_an_operator_denies_is_mended_and_stays_denied(
    begun: tuple[Store, Together], loss: str, status: Literal[403, 404]
) -> None:
    store, together = begun
    folder = store.layout.folder(DIGESTS[0])
    marker = Path(store.layout.marker(DIGESTS[0], status))
    marker.touch()
    LOSSES[loss](folder)
    base = cut_power(store, together)

    again = open_store(base, reserve=0)
    with pytest.raises((Absent, Denied)):
        again.open(DIGESTS[0])
    marker.unlink()
    with again.open(DIGESTS[0]) as blob:
        assert os.pread(blob.fd, 10_000, 0) == ALL[0].body
    again.close()


def test_what_was_deleted_beside_an_operators_marker_stays_deleted(
    begun: tuple[Store, Together],
) -> None:
    store, together = begun
    marker = Path(store.layout.marker(DIGESTS[0], 404))
    marker.touch()
    store.delete(DIGESTS[0])
    base = cut_power(store, together)

    again = open_store(base, reserve=0)
    assert not again.keeps(DIGESTS[0])
    marker.unlink()
    with pytest.raises(Absent):
        again.open(DIGESTS[0])
    again.close()
