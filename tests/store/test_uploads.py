"""Uploads that resume: what is kept of them, and who has them."""

from __future__ import annotations

import errno
import os
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.errors import (
    Busy,
    Denied,
    NoSpace,
    StoreFailure,
    UnknownUpload,
    WrongDigest,
    WrongLength,
)
from dtfc.store import durable
from dtfc.store.blobs import Store, open_store
from dtfc.store.upload import Upload
from dtfc.store.uploads import STATE, Spool, Uploads
from dtfc.store.uploadstate import (
    LINE_LENGTH,
    Announced,
    Known,
    Place,
    State,
    content_of,
    read_state,
)

BYTES = random.Random(8).randbytes(3 * (1 << 20) + 5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(str(tmp_path / "store"), fan_out=2)
    yield opened
    opened.close()


@pytest.fixture
def again(store: Store) -> Callable[[], Uploads]:
    """Return the uploads as another process of the same boot sees them."""

    def opened() -> Uploads:
        door, volume = store.uploads._door, store.uploads._volume
        return Uploads(store.layout.own("uploads"), door, volume, lambda: 0.0)

    return opened


def begun(store: Store, content: bytes = BYTES, **announced: object) -> Upload:
    told = Announced(**{"name": "a.bin", "length": len(content), **announced})  # type: ignore[arg-type]
    return store.uploads.create(told)


def fed(upload: Upload, content: bytes, step: int = 700_000) -> Upload:
    for at in range(0, len(content), step):
        upload.write([content[at : at + step]])
    return upload


def stored(store: Store, content: bytes = BYTES) -> bytes:
    with store.open(Digest.of(content)) as blob:
        return os.pread(blob.fd, blob.length + 1, 0)


# -- the way of most --------------------------------------------------------------------


def test_an_upload_in_one_go_becomes_a_blob(store: Store) -> None:
    upload = fed(begun(store), BYTES)

    upload.enter()

    assert stored(store) == BYTES


def test_it_has_the_name_that_was_announced(store: Store) -> None:
    fed(begun(store), BYTES).enter()

    assert store.stat(Digest.of(BYTES)).name == "a.bin"


def test_it_has_a_chunk_map(store: Store) -> None:
    fed(begun(store), BYTES).enter()

    assert os.path.exists(f"{store.layout.folder(Digest.of(BYTES))}/chunks")


def test_it_goes_on_where_it_was(store: Store) -> None:
    upload = fed(begun(store), BYTES[:1_500_000])
    upload.close()

    upload = store.uploads.take(upload.name)

    assert upload.offset == 1_500_000


def test_what_was_hashed_is_not_read_again(store: Store) -> None:
    upload = fed(begun(store), BYTES[:1_500_000])
    upload.close()

    upload = store.uploads.take(upload.name)

    assert not upload.behind


def test_another_process_reads_it_again(store: Store, again: Callable[[], Uploads]) -> None:
    upload = fed(begun(store), BYTES[:1_500_000])
    upload.close()

    upload = again().take(upload.name)

    assert upload.behind


def test_another_process_ends_it_right(store: Store, again: Callable[[], Uploads]) -> None:
    upload = fed(begun(store), BYTES[:1_500_000])
    upload.close()
    upload = again().take(upload.name)

    fed(upload, BYTES[1_500_000:]).enter()

    assert stored(store) == BYTES


def test_what_was_hashed_is_forgotten_when_another_process_was_at_it(
    store: Store, again: Callable[[], Uploads]
) -> None:
    upload = fed(begun(store), BYTES[:1000])
    upload.close()
    other = again().take(upload.name)
    other.begin_part()
    other.write([b"x" * 500])
    other.end_part(right=False)
    fed(other, BYTES[1000:2000]).close()

    upload = fed(store.uploads.take(upload.name), BYTES[2000:])
    upload.enter()

    assert stored(store) == BYTES


def test_bytes_are_hashed_beside_those_that_come(
    store: Store, again: Callable[[], Uploads]
) -> None:
    upload = fed(begun(store), BYTES[:2_500_000])
    upload.close()
    upload = again().take(upload.name)

    upload.catch_up(1)
    upload.write([BYTES[2_500_000:2_600_000]])
    upload.catch_up(8)
    fed(upload, BYTES[2_600_000:]).enter()

    assert stored(store) == BYTES


def test_the_bytes_are_freed_at_the_end(store: Store) -> None:
    upload = fed(begun(store), BYTES)
    upload.enter()

    upload.is_stored({"sha512": "x"})

    assert os.listdir(store.layout.own("uploads")) == [upload.name + STATE]


def test_what_became_of_it_is_kept(store: Store, again: Callable[[], Uploads]) -> None:
    upload = fed(begun(store), BYTES)
    upload.enter()
    upload.is_stored({"sha512": "x"})
    upload.close()

    assert again().take(upload.name).known.stored == {"sha512": "x"}


def test_an_empty_upload(store: Store) -> None:
    upload = begun(store, b"")

    upload.enter()

    assert stored(store, b"") == b""


# -- offsets ----------------------------------------------------------------------------


def test_a_process_that_was_killed_loses_nothing(
    store: Store, again: Callable[[], Uploads]
) -> None:
    upload = fed(begun(store), BYTES[:1_000_000])
    # As a kill does: nothing is closed but the descriptor.
    os.close(upload._source.fd)

    assert again().take(upload.name).offset == 1_000_000


def rebooted(store: Store, upload: Upload) -> None:
    """Make an upload one of an earlier boot."""
    path = f"{store.layout.own('uploads')}/{upload.name}{STATE}"
    found = read_state(Path(path).read_bytes())
    assert found is not None
    Path(path).write_bytes(content_of(replace(found.place, boot="another-boot"), found.known))


def test_after_a_loss_of_power_only_what_is_durable_counts(
    store: Store, again: Callable[[], Uploads]
) -> None:
    upload = fed(begun(store), BYTES[:1_000_000])
    upload.sync()
    fed(upload, BYTES[1_000_000:1_200_000])
    os.close(upload._source.fd)
    rebooted(store, upload)

    assert again().take(upload.name).offset == 1_000_000


def test_what_does_not_count_is_cut_off(store: Store, again: Callable[[], Uploads]) -> None:
    upload = fed(begun(store), BYTES[:1_000_000])
    upload.sync()
    fed(upload, b"garbage")
    os.close(upload._source.fd)
    rebooted(store, upload)

    fed(again().take(upload.name), BYTES[1_000_000:]).enter()

    assert stored(store) == BYTES


class FailsOnce:
    """An fsync that fails for the first of certain files, and succeeds from then on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, of: Callable[[str], bool]) -> None:
        self._of = of
        self._failed = False
        self._sync = durable.sync
        monkeypatch.setattr(durable, "sync", self)

    def __call__(self, fd: int) -> None:
        if not self._failed and self._of(os.readlink(f"/proc/self/fd/{fd}")):
            self._failed = True
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._sync(fd)


@pytest.mark.skipif(sys.platform != "linux", reason="the names of descriptors are in Linux' /proc")
def test_bytes_that_could_not_be_made_durable_have_to_come_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = fed(begun(store), BYTES[:1000])
    upload.sync()
    fed(upload, BYTES[1000:2000])
    FailsOnce(monkeypatch, lambda path: path.endswith(upload.name))
    with pytest.raises(StoreFailure):
        upload.sync()

    upload.close()

    assert store.uploads.take(upload.name).offset == 1000


@pytest.mark.skipif(sys.platform != "linux", reason="the names of descriptors are in Linux' /proc")
def test_nothing_is_written_behind_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = fed(begun(store), BYTES[:1000])
    FailsOnce(monkeypatch, lambda path: path.endswith(upload.name))
    with pytest.raises(StoreFailure):
        upload.sync()

    with pytest.raises(StoreFailure):
        upload.write([BYTES[1000:2000]])


@pytest.mark.skipif(sys.platform != "linux", reason="the names of descriptors are in Linux' /proc")
def test_after_them_it_ends_right(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = fed(begun(store), BYTES)
    FailsOnce(monkeypatch, lambda path: path.endswith(upload.name))
    with pytest.raises(StoreFailure):
        upload.sync()
    upload.close()

    fed(store.uploads.take(upload.name), BYTES).enter()

    assert stored(store) == BYTES


def test_an_offset_that_could_not_be_noted_is_noted_again(
    store: Store, again: Callable[[], Uploads], monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = fed(begun(store), BYTES[:1000])
    with monkeypatch.context() as patched:
        patched.setattr(store.uploads, "note", _no_note)
        with pytest.raises(StoreFailure):
            upload.sync()

    upload.sync()

    assert again().durable(upload.name) == 1000


def _no_note(*_args: object, **_options: object) -> None:
    raise StoreFailure("note how far an upload is", OSError(errno.EIO, "no"))


def test_a_file_shorter_than_it_was_is_believed(store: Store, again: Callable[[], Uploads]) -> None:
    upload = fed(begun(store), BYTES[:1000])
    upload.close()
    os.truncate(f"{store.layout.own('uploads')}/{upload.name}", 10)

    assert again().take(upload.name).offset == 10


def test_more_than_was_announced_is_refused(store: Store) -> None:
    upload = begun(store, b"abc")

    with pytest.raises(WrongLength):
        upload.write([b"abcd"])


def test_what_is_refused_does_not_count(store: Store) -> None:
    upload = begun(store, b"abc")
    with pytest.raises(WrongLength):
        upload.write([b"abcd"])

    assert upload.offset == 0


def test_a_length_that_is_told_later(store: Store) -> None:
    upload = fed(begun(store, length=None), b"abc")
    upload.set_length(3)

    assert upload.complete


def test_a_length_is_told_once(store: Store) -> None:
    upload = begun(store, b"abc")

    with pytest.raises(WrongLength):
        upload.set_length(4)


def test_a_length_below_what_is_here(store: Store) -> None:
    upload = fed(begun(store, length=None), b"abc")

    with pytest.raises(WrongLength):
        upload.set_length(2)


def test_an_upload_that_is_not_whole_is_no_blob(store: Store) -> None:
    upload = fed(begun(store), BYTES[:10])

    with pytest.raises(WrongLength):
        upload.enter()


# -- parts with a checksum --------------------------------------------------------------


def test_a_part_that_is_right_counts(store: Store) -> None:
    upload = begun(store)
    upload.begin_part()
    fed(upload, BYTES[:1000])
    upload.end_part(right=True)

    assert upload.offset == 1000


def test_a_part_that_is_wrong_does_not(store: Store) -> None:
    upload = fed(begun(store), BYTES[:1000])
    upload.begin_part()
    fed(upload, b"wrong")
    upload.end_part(right=False)

    fed(upload, BYTES[1000:]).enter()

    assert stored(store) == BYTES


def test_a_wrong_part_with_a_promise_of_sha256(store: Store) -> None:
    upload = fed(begun(store, sha256="0" * 64), BYTES[:1000])
    upload.begin_part()
    fed(upload, b"wrong")
    upload.end_part(right=False)
    fed(upload, BYTES[1000:])

    with pytest.raises(WrongDigest, match=Digest.of(BYTES).hex[:0] + "SHA-256"):
        upload.enter()


def test_a_part_that_nobody_compared_goes_with_its_process(
    store: Store, again: Callable[[], Uploads]
) -> None:
    upload = fed(begun(store), BYTES[:1000])
    upload.begin_part()
    fed(upload, b"unproven")
    os.close(upload._source.fd)

    assert again().take(upload.name).offset == 1000


def test_a_part_that_was_cut_off_goes(store: Store) -> None:
    upload = fed(begun(store), BYTES[:1000])
    upload.begin_part()
    fed(upload, b"unproven")
    upload.close()

    assert store.uploads.take(upload.name).offset == 1000


def test_what_is_durable_of_a_part_is_what_was_before_it(store: Store) -> None:
    upload = fed(begun(store), BYTES[:1000])
    upload.begin_part()
    fed(upload, BYTES[1000:2000])

    assert upload.sync() == 1000


# -- promises ---------------------------------------------------------------------------


def test_the_digest_that_was_promised(store: Store) -> None:
    fed(begun(store, sha512=Digest.of(BYTES).hex), BYTES).enter()

    assert stored(store) == BYTES


def test_another_digest_than_was_promised(store: Store) -> None:
    upload = fed(begun(store, sha512=Digest.of(b"").hex), BYTES)

    with pytest.raises(WrongDigest):
        upload.enter()


def test_what_is_not_as_promised_goes(store: Store) -> None:
    upload = fed(begun(store, sha512=Digest.of(b"").hex), BYTES)
    with pytest.raises(WrongDigest):
        upload.enter()

    assert os.listdir(store.layout.own("uploads")) == []


def test_a_marker_of_the_operator_denies_the_end(store: Store) -> None:
    folder = store.layout.folder(Digest.of(BYTES))
    os.makedirs(folder)
    Path(f"{folder}/403").touch()
    upload = fed(begun(store), BYTES)

    with pytest.raises(Denied):
        upload.enter()


# -- an end that was cut off ------------------------------------------------------------


def test_an_end_that_was_cut_off_before_it_was_noted(
    store: Store, again: Callable[[], Uploads]
) -> None:
    upload = fed(begun(store), BYTES)
    upload.enter()
    os.close(upload._source.fd)

    again().take(upload.name).enter()

    assert stored(store) == BYTES


def test_it_does_not_touch_the_blob_that_it_became(
    store: Store, again: Callable[[], Uploads]
) -> None:
    upload = fed(begun(store), BYTES)
    upload.enter()
    os.close(upload._source.fd)
    rebooted(store, upload)

    again().take(upload.name).close()

    assert stored(store) == BYTES


def test_bytes_that_were_not_freed_are_freed(store: Store, again: Callable[[], Uploads]) -> None:
    upload = fed(begun(store), BYTES)
    upload.enter()
    upload._home.keep(upload.name, Place(), Known(stored={"sha512": "x"}))
    os.close(upload._source.fd)

    again().take(upload.name)

    assert os.listdir(store.layout.own("uploads")) == [upload.name + STATE]


# -- who has it -------------------------------------------------------------------------


def test_it_is_taken_once(store: Store, again: Callable[[], Uploads]) -> None:
    upload = begun(store)

    with pytest.raises(Busy):
        again().take(upload.name)
    upload.close()


def test_who_wants_it_leaves_a_wish(store: Store, again: Callable[[], Uploads]) -> None:
    upload = begun(store)

    again().wish(upload.name)

    assert store.uploads.is_wanted(upload.name)
    upload.close()


def test_a_wish_goes_when_it_is_granted(store: Store, again: Callable[[], Uploads]) -> None:
    upload = begun(store)
    again().wish(upload.name)
    upload.close()

    taken = again().take(upload.name)

    assert not store.uploads.is_wanted(upload.name)
    taken.close()


def test_one_that_never_was(store: Store) -> None:
    with pytest.raises(UnknownUpload):
        store.uploads.take("x" * 43)


def test_one_that_was_given_up(store: Store) -> None:
    upload = begun(store)
    upload.discard()

    with pytest.raises(UnknownUpload):
        store.uploads.look(upload.name)


def test_bytes_without_a_state_are_no_upload(store: Store) -> None:
    Path(f"{store.layout.own('uploads')}/{'x' * 43}").write_bytes(b"abc")

    with pytest.raises(UnknownUpload):
        store.uploads.take("x" * 43)


def test_it_can_be_looked_at_while_it_is_taken(store: Store) -> None:
    upload = begun(store)

    assert store.uploads.look(upload.name).known.announced.name == "a.bin"
    upload.close()


# -- parts that are joined --------------------------------------------------------------


def test_parts_are_joined(store: Store) -> None:
    parts = [fed(begun(store, BYTES[:7]), BYTES[:7]), fed(begun(store, BYTES[7:]), BYTES[7:])]
    whole = begun(store)

    for part in parts:
        part.read_into(whole)
    whole.enter()

    assert stored(store) == BYTES


def test_the_bytes_of_a_joined_part_are_freed(store: Store) -> None:
    part = fed(begun(store, b"abc", is_part=True), b"abc")

    part.joined_in("other")

    assert store.uploads.spool() == Spool(0, 0)


# -- all of them ------------------------------------------------------------------------


def test_what_is_open_is_counted(store: Store) -> None:
    fed(begun(store), BYTES[:1000]).close()
    fed(begun(store), BYTES[:24]).close()

    assert store.uploads.spool() == Spool(2, 1024)


def aged(store: Store, upload: Upload) -> None:
    for name in os.listdir(store.layout.own("uploads")):
        if name.startswith(upload.name):
            os.utime(f"{store.layout.own('uploads')}/{name}", (1000, 1000))


def test_an_upload_that_nobody_goes_on_with_expires(store: Store) -> None:
    upload = begun(store)
    upload.close()
    aged(store, upload)

    assert store.uploads.expire(2000) == 1


def test_nothing_of_it_is_left(store: Store) -> None:
    upload = begun(store)
    upload.close()
    aged(store, upload)
    store.uploads.expire(2000)

    assert os.listdir(store.layout.own("uploads")) == []


def test_an_upload_that_is_held_does_not_expire(store: Store) -> None:
    upload = begun(store)
    aged(store, upload)

    assert store.uploads.expire(2000) == 0
    upload.close()


def test_an_upload_that_somebody_went_on_with_at_the_last_moment_does_not_expire(
    store: Store, again: Callable[[], Uploads], monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = begun(store)
    upload.close()
    aged(store, upload)
    opens = Uploads._open

    def open_late(path: str) -> int:
        monkeypatch.undo()
        fed(again().take(upload.name), BYTES[:9]).close()
        return opens(path)

    monkeypatch.setattr(Uploads, "_open", staticmethod(open_late))
    store.uploads.expire(2000)

    assert store.uploads.take(upload.name).offset == 9


def test_what_was_touched_later_does_not_expire(store: Store) -> None:
    begun(store).close()

    assert store.uploads.expire(2000) == 0


def test_what_is_known_of_a_complete_one_expires_too(store: Store) -> None:
    name = store.uploads.record(Announced(length=3), {"sha512": "x"})
    os.utime(f"{store.layout.own('uploads')}/{name}{STATE}", (1000, 1000))

    store.uploads.expire(2000)

    with pytest.raises(UnknownUpload):
        store.uploads.look(name)


def test_what_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), fan_out=2, reserve=1 << 60)

    with pytest.raises(NoSpace):
        begun(store)
    store.close()


# -- its file ---------------------------------------------------------------------------


def test_the_state_comes_back_as_it_went() -> None:
    place = Place(12, 3, unproven=True, boot="8f1c1cdc-5e1c-4c5b-8e4b-5f9a6f4b0f65")
    announced = Announced("ä", 5, "0" * 128, None, "a YQ==", is_part=True, parts=("x", "y"))
    known = Known(announced, 7.5, {"sha512": "x"}, "z")

    assert read_state(content_of(place, known)) == State(place, 0, known)


def test_the_newer_line_counts() -> None:
    content = content_of(Place(1, 1), Known())
    line = Place(5, 2).line()

    found = read_state(content[:LINE_LENGTH] + line + content[2 * LINE_LENGTH :])

    assert found == State(Place(5, 2, boot="-" * 36), 1, Known())


@pytest.mark.parametrize("kept", range(0, LINE_LENGTH, 7))
def test_a_line_that_is_torn_does_not(kept: int) -> None:
    content = content_of(Place(1, 1), Known())
    torn = Place(5, 2).line()[:kept] + content[LINE_LENGTH + kept : 2 * LINE_LENGTH]

    found = read_state(content[:LINE_LENGTH] + torn + content[2 * LINE_LENGTH :])

    assert found is not None
    assert found.place.offset == 1


def test_offset_that_a_killed_process_did_not_make_durable_is_made_so(
    store: Store, again: Callable[[], Uploads]
) -> None:
    upload = fed(begun(store), BYTES[:1000])
    os.close(upload._source.fd)
    upload = again().take(upload.name)

    upload.sync()

    assert again().durable(upload.name) == 1000
    upload.close()


def test_a_line_has_one_length() -> None:
    assert {len(Place(n, n, boot="b" * n).line()) for n in (0, 7, 99)} == {LINE_LENGTH}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        Place().line(),
        Place().line() + b"[]",
        Place().line() + b"{}",
        Place().line() + b"null",
        content_of(Place(), Known())[:-40],
        content_of(Place(), Known()).replace(b'"length": null', b'"length": -1'),
        content_of(Place(), Known()).replace(b'"parts": []', b'"parts": [1]'),
        content_of(Place(), Known()).replace(b'"stored": null', b'"stored": 1'),
        content_of(Place(), Known()).replace(b'"name": null', b'"nom": null'),
    ],
)
def test_what_is_no_state(content: bytes) -> None:
    assert read_state(content) is None


def test_bytes_that_come_touch_it(store: Store) -> None:
    upload = begun(store)
    folder = store.layout.own("uploads")
    os.utime(f"{folder}/{upload.name}{STATE}", (1000, 1000))
    os.utime(f"{folder}/{upload.name}", (2000, 2000))

    assert store.uploads.look(upload.name).touched_at == 2000
    upload.close()
