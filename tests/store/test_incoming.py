from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.errors import (
    Absent,
    BadName,
    NoSpace,
    StoreFailure,
    WrongDigest,
    WrongLength,
)
from dtfc.store import capabilities, incoming, syscalls
from dtfc.store.blobs import Store, open_store
from dtfc.store.incoming import Intake, Stored
from tests.store.conftest import FailingDisk, call_of

DATA = b"some bytes" * 100
DIGEST = Digest.of(DATA)


@pytest.fixture
def any_store(tmp_path: Path, fan_out: int, *, anonymous: bool) -> Iterator[Store]:
    """Return a new store in each form, with each kind of temporary file."""
    opened = open_store(
        str(tmp_path / "store"), fan_out=fan_out, reserve=0, anonymous_files=anonymous
    )
    yield opened
    opened.close()


def put(store: Store, data: bytes = DATA, name: str | None = "name") -> Stored:
    intake = store.intake(len(data))
    intake.write([data])
    return intake.commit(name)


def content(store: Store, digest: Digest) -> bytes:
    with store.open(digest) as blob:
        return os.pread(blob.fd, blob.length + 1, 0)


def litter(store: Store) -> list[str]:
    return os.listdir(store.layout.own("tmp"))


def test_what_was_put_is_there(any_store: Store) -> None:
    stored = put(any_store)
    assert stored.new
    assert stored.info == any_store.stat(DIGEST)
    assert content(any_store, DIGEST) == DATA


def test_facts_of_what_was_put(any_store: Store) -> None:
    info = put(any_store).info
    assert (info.digest, info.length, info.name, info.names) == (
        DIGEST,
        len(DATA),
        "name",
        ("name",),
    )


def test_stored_bytes_are_read_only(any_store: Store) -> None:
    put(any_store)
    assert os.stat(any_store.layout.data(DIGEST)).st_mode & 0o777 == 0o444


def test_commit_leaves_nothing_but_the_blob(any_store: Store) -> None:
    put(any_store)
    assert litter(any_store) == []
    assert sorted(os.listdir(any_store.layout.folder(DIGEST))) == ["data", "filename"]
    assert os.stat(any_store.layout.data(DIGEST)).st_nlink == 1


def test_empty_blob(store: Store) -> None:
    assert put(store, b"").info.length == 0
    assert content(store, Digest.of(b"")) == b""


@given(blocks=st.lists(st.binary(max_size=30), max_size=20), known=st.booleans())
def test_blocks_of_any_size_make_the_same_blob(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[bytes], *, known: bool
) -> None:
    whole = b"".join(blocks)
    store = open_store(str(tmp_path_factory.mktemp("store")), fan_out=2, reserve=0)
    intake = store.intake(len(whole) if known else None)
    for at in range(0, len(blocks), 3):
        intake.write(blocks[at : at + 3])
    assert intake.received == len(whole)
    assert intake.commit(None).info.digest == Digest.of(whole)
    assert content(store, Digest.of(whole)) == whole
    store.close()


def test_the_same_bytes_again_are_not_new(any_store: Store) -> None:
    first = put(any_store)
    again = put(any_store)
    assert not again.new
    assert again.info == first.info
    assert litter(any_store) == []


def test_the_same_bytes_under_another_name_add_it(any_store: Store) -> None:
    put(any_store, name="a")
    put(any_store, name="b")
    assert put(any_store, name="a").info.names == ("b", "a")


def test_the_same_name_again_is_written_once(store: Store) -> None:
    put(store, name="a")
    before = os.stat(store.layout.names(DIGEST)).st_ino
    put(store, name="a")
    assert os.stat(store.layout.names(DIGEST)).st_ino == before


def test_without_a_name_there_is_no_file_of_names(store: Store) -> None:
    assert put(store, name=None).info.names == ()
    assert not os.path.exists(store.layout.names(DIGEST))


def test_names_that_a_cut_off_put_left_are_of_no_blob(store: Store) -> None:
    os.makedirs(store.layout.folder(DIGEST))
    Path(store.layout.names(DIGEST)).write_text("never acknowledged\n")
    assert put(store, name="a").info.names == ("a",)


def test_stale_names_do_not_stick_to_a_blob_without_name(store: Store) -> None:
    os.makedirs(store.layout.folder(DIGEST))
    Path(store.layout.names(DIGEST)).write_text("never acknowledged\n")
    assert put(store, name=None).info.names == ()


def test_promised_digests_that_are_right(store: Store) -> None:
    intake = store.intake(None, want_sha256=True)
    intake.write([DATA])
    assert intake.commit("x", digest=DIGEST, sha256=hashlib.sha256(DATA).digest()).new


def test_promised_digest_that_is_wrong(any_store: Store) -> None:
    intake = any_store.intake(len(DATA))
    intake.write([DATA])
    other = Digest.of(b"other")
    with pytest.raises(WrongDigest) as raised:
        intake.commit("x", digest=other)
    assert (raised.value.expected, raised.value.actual) == (other.hex, DIGEST.hex)
    assert not any_store.holds(DIGEST)
    assert litter(any_store) == []


def test_promised_sha256_that_is_wrong(store: Store) -> None:
    intake = store.intake(None, want_sha256=True)
    intake.write([DATA])
    with pytest.raises(WrongDigest, match="SHA-256"):
        intake.commit("x", sha256=bytes(32))
    assert not store.holds(DIGEST)


def test_sha256_that_was_not_asked_for_cannot_be_compared(store: Store) -> None:
    intake = store.intake(None)
    intake.write([DATA])
    with pytest.raises(ValueError, match="want_sha256"):
        intake.commit("x", sha256=bytes(32))


def test_fewer_bytes_than_announced(any_store: Store) -> None:
    intake = any_store.intake(len(DATA) + 1)
    intake.write([DATA])
    with pytest.raises(WrongLength) as raised:
        intake.commit("x")
    assert (raised.value.expected, raised.value.actual) == (len(DATA) + 1, len(DATA))
    assert not any_store.holds(DIGEST)
    assert litter(any_store) == []


def test_more_bytes_than_announced(any_store: Store) -> None:
    intake = any_store.intake(3)
    with pytest.raises(WrongLength):
        intake.write([b"12", b"34"])
    assert litter(any_store) == []


def test_name_that_cannot_be_kept(store: Store) -> None:
    intake = store.intake(None)
    with pytest.raises(BadName):
        intake.commit("two\nlines")
    assert not store.holds(Digest.of(b""))


def test_discard_leaves_nothing(any_store: Store) -> None:
    intake = any_store.intake(None)
    intake.write([DATA])
    intake.discard()
    intake.discard()
    assert litter(any_store) == []


def test_discard_after_commit_is_harmless(any_store: Store) -> None:
    intake = any_store.intake(None)
    intake.write([DATA])
    intake.commit("x")
    intake.discard()
    assert content(any_store, DIGEST) == DATA


def test_more_than_fits_is_refused_before_the_first_byte(any_store: Store) -> None:
    with pytest.raises(NoSpace):
        any_store.intake(1 << 60)
    assert litter(any_store) == []


def test_bytes_of_unknown_number_stop_at_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path / "store"), fan_out=2, reserve=1 << 20)
    intake = store.intake(None)
    real = os.statvfs(tmp_path)
    frsize = real.f_frsize

    class Nearly:
        f_bavail = (3 << 20) // frsize
        f_frsize = frsize
        f_files = f_favail = 0

    monkeypatch.setattr(os, "statvfs", lambda _: Nearly)
    intake.write([bytes(1 << 20)])
    with pytest.raises(NoSpace):
        intake.write([bytes((2 << 20) + frsize)])
    store.close()


def test_wrong_size_in_its_place_is_moved_aside(store: Store) -> None:
    put(store)
    os.chmod(store.layout.data(DIGEST), 0o644)
    Path(store.layout.data(DIGEST)).write_bytes(b"torn")
    assert put(store).new
    assert content(store, DIGEST) == DATA
    aside = os.listdir(store.layout.own("quarantine"))
    assert len(aside) == 1
    assert Path(store.layout.own("quarantine"), aside[0]).read_bytes() == b"torn"


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_cannot_be_a_blob_is_moved_out_of_its_place(
    store: Store, tmp_path: Path, kind: str
) -> None:
    os.makedirs(store.layout.folder(DIGEST))
    path = store.layout.data(DIGEST)
    (tmp_path / "secret").write_bytes(DATA)
    {
        "link": lambda: os.symlink(tmp_path / "secret", path),
        "fifo": lambda: os.mkfifo(path),
        "folder": lambda: os.mkdir(path),
    }[kind]()
    assert put(store).new
    assert content(store, DIGEST) == DATA


def test_bytes_of_another_program_are_synced_before_they_are_acknowledged(
    store: Store, disk: FailingDisk
) -> None:
    os.makedirs(store.layout.folder(DIGEST))
    Path(store.layout.data(DIGEST)).write_bytes(DATA)
    disk.record()
    assert not put(store).new
    assert ("fsync", store.layout.data(DIGEST)) in disk.calls


def test_order_of_a_commit(any_store: Store, disk: FailingDisk) -> None:
    folder, base = any_store.layout.folder(DIGEST), any_store.layout.basedir
    put(any_store, b"warms up the catalog")
    disk.record()
    put(any_store)
    calls = disk.calls
    synced = [at for at, (call, path) in enumerate(calls) if call == "fsync" and "tmp" in path]
    named = calls.index(("rename", f"{folder}/filename"))
    linked = calls.index(("link", f"{folder}/data"))
    # The bytes, then the draft of the names, each before it gets its place.
    assert synced[0] < synced[1] < named < linked
    after = [path for call, path in calls[linked:] if call == "fsync"]
    assert after[0] == folder
    parents = {os.path.dirname(path) for path in after if path.startswith(f"{base}/")}
    assert base in parents | set(after)
    made = [at for at, (call, _) in enumerate(calls) if call == "mkdir"]
    assert max(made) < linked


def test_every_new_folder_is_synced_before_the_acknowledgement(
    any_store: Store, disk: FailingDisk
) -> None:
    disk.record()
    put(any_store)
    made = [path for call, path in disk.calls if call == "mkdir"]
    synced = [path for call, path in disk.calls if call == "fsync"]
    assert len(made) == (64 if any_store.layout.fan_out == 64 else 3)
    assert {os.path.dirname(path) for path in made} <= set(synced)


def attempt(store: Store) -> Stored | Exception:
    try:
        return put(store)
    except (NoSpace, StoreFailure) as error:
        return error


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize(
    "call", ["open", "pwritev", "fchmod", "fsync", "mkdir", "rename", "link", "unlink", "stat"]
)
def test_nth_failure_of_every_call_leaves_nothing_or_a_whole_blob(
    tmp_path: Path, *, anonymous: bool, call: str, number: int
) -> None:
    """The n-th call fails, for n = 1, 2, 3 … until nothing fails any more."""
    for nth in range(1, 60):
        store = open_store(
            str(tmp_path / f"{nth}"), fan_out=2, reserve=0, anonymous_files=anonymous
        )
        with pytest.MonkeyPatch.context() as patch:
            from_here = failing(patch, call, number, nth)
            outcome = attempt(store)
        if isinstance(outcome, Exception):
            expected = NoSpace if number == errno.ENOSPC else StoreFailure
            assert isinstance(outcome, expected), (nth, outcome)
            assert litter(store) == []
            with pytest.raises(Absent):
                store.stat(DIGEST)
        else:
            assert content(store, DIGEST) == DATA
            assert store.stat(DIGEST).name == "name"
        store.close()
        if not from_here:
            return
    pytest.fail("it never stopped failing")


def failing(patch: pytest.MonkeyPatch, call: str, number: int, nth: int) -> list[int]:
    """Let the n-th call fail; what is returned is empty until it did."""
    call = call_of(call)
    real = getattr(os, call)
    seen = 0
    fired: list[int] = []

    def once(*args: object, **kwargs: object) -> object:
        nonlocal seen
        seen += 1
        if seen == nth:
            fired.append(nth)
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    patch.setattr(os, call, once)
    return fired


def test_failed_sync_of_the_bytes_is_not_tried_again(store: Store, disk: FailingDisk) -> None:
    intake = store.intake(None)
    intake.write([DATA])
    disk.fail("fsync", errno.EIO, 1)
    with pytest.raises(StoreFailure):
        intake.commit("x")
    with pytest.raises(StoreFailure):
        intake.write([b"more"])
    assert store.failed_syncs == 1


def test_bytes_after_a_discard_reach_no_other_file(any_store: Store, tmp_path: Path) -> None:
    intake = any_store.intake(None)
    intake.discard()
    # The lowest free descriptor is given out again: it was the intake's.
    with open(tmp_path / "other", "wb+") as other:
        with pytest.raises(StoreFailure):
            intake.write([DATA])
        assert os.fstat(other.fileno()).st_size == 0


def test_failed_write_ends_the_intake(store: Store, disk: FailingDisk) -> None:
    intake: Intake = store.intake(None)
    disk.fail("pwritev", errno.ENOSPC, 1)
    with pytest.raises(NoSpace):
        intake.write([DATA])
    disk.heal()
    with pytest.raises(StoreFailure):
        intake.write([DATA])


def test_the_disk_is_asked_to_begin_before_the_end(
    small: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(incoming, "_WRITE_EVERY", 1000)
    monkeypatch.setattr(
        syscalls, "start_writing", lambda _fd, offset, length: asked.append((offset, length))
    )
    intake = small.intake(None)
    for _ in range(5):
        intake.write([b"x" * 600])
    intake.commit(None)
    assert asked == [(0, 1200), (1200, 1200)]


def test_where_the_disk_cannot_be_asked_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    syscalls.start_writing(-1, 0, 10)
    monkeypatch.setattr(capabilities, "_here", set())
    syscalls.start_writing(0, 0, 10)
