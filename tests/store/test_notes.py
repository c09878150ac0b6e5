from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.errors import BadName
from dtfc.store import notes
from dtfc.store.facts import BlobInfo

NAME = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), min_size=1)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"", ()),
        (b"\n\n\n", ()),
        (b"a", ("a",)),
        (b"a\nb\n", ("a", "b")),
        (b"a\nb", ("a", "b")),
        (b"a\r\n\r\nb\r\n", ("a", "b")),
        (b"a\nb\na\n", ("b", "a")),
        (b"f\xfc\n", ("f�",)),
        ("ü\u2028x\n".encode(), ("ü\u2028x",)),
    ],
)
def test_file_of_names_as_others_wrote_it(
    tmp_path: Path, folder: int, content: bytes, names: tuple[str, ...]
) -> None:
    (tmp_path / "filename").write_bytes(content)
    assert notes.read_names(folder) == names


def test_missing_file_of_names(folder: int) -> None:
    assert notes.read_names(folder) == ()


def test_huge_file_of_names_is_read_from_its_end(tmp_path: Path, folder: int) -> None:
    (tmp_path / "filename").write_bytes(b"".join(b"%0200d\n" % n for n in range(20_000)))
    names = notes.read_names(folder)
    assert len(names) == notes.MOST_NAMES
    assert int(names[-1]) == 19_999


def test_line_without_end_is_no_reason_to_read_for_ever(tmp_path: Path, folder: int) -> None:
    (tmp_path / "filename").write_bytes(b"x" * (3 << 20) + b"\nlast\n")
    assert notes.read_names(folder) == ("last",)


def test_file_of_names_that_is_a_link_has_none(tmp_path: Path, folder: int) -> None:
    (tmp_path / "other").write_text("secret\n")
    os.symlink("other", tmp_path / "filename")
    assert notes.read_names(folder) == ()


def test_file_of_names_that_is_a_fifo_has_none(tmp_path: Path, folder: int) -> None:
    os.mkfifo(tmp_path / "filename")
    assert notes.read_names(folder) == ()


@given(st.lists(NAME, max_size=20), NAME)
def test_a_name_that_comes_again_moves_to_the_end(names: list[str], name: str) -> None:
    after = notes.with_name(names, name)
    assert after[-1] == name
    assert after.count(name) == 1
    assert list(after[:-1]) == [each for each in names if each != name]


def test_the_oldest_name_goes_first() -> None:
    names = [str(number) for number in range(notes.MOST_NAMES)]
    assert notes.with_name(names, "new")[0] == "1"
    assert len(notes.with_name(names, "new")) == notes.MOST_NAMES


@given(names=st.lists(NAME, unique=True, max_size=20))
def test_names_survive_the_file(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.mktemp("names")
    (path / "filename").write_bytes(notes.names_file(names))
    fd = os.open(path, os.O_RDONLY)
    try:
        assert notes.read_names(fd) == tuple(names)
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", ["", "a\nb", "a\r", "\0", "\ud800", "x" * 1025])
def test_name_that_the_file_cannot_hold(name: str) -> None:
    with pytest.raises(BadName):
        notes.check_line(name)


def test_no_marker(folder: int) -> None:
    assert notes.read_marker(folder) is None


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"gone", b"{}", b"[]", b'{"deleted": 1}', b"\xff\xfe", b"{" * 5000]
)
def test_marker_without_our_line_is_the_operators(
    tmp_path: Path, folder: int, content: bytes
) -> None:
    (tmp_path / "404").write_bytes(content)
    marker = notes.read_marker(folder)
    assert marker is not None
    assert marker.status == 404
    assert marker.by_operator


def test_tombstone_tells_its_facts(tmp_path: Path, folder: int) -> None:
    info = BlobInfo(Digest.of(b""), 7, 0.0, "ü", ("ü",))
    (tmp_path / "404").write_bytes(notes.tombstone_line("2026-01-01", "ab", info))
    marker = notes.read_marker(folder)
    assert marker is not None
    assert not marker.by_operator
    assert marker.facts == {"deleted": "2026-01-01", "node": "ab", "length": 7, "name": "ü"}


def test_403_wins_over_404(tmp_path: Path, folder: int) -> None:
    (tmp_path / "404").touch()
    (tmp_path / "403").touch()
    marker = notes.read_marker(folder)
    assert marker is not None
    assert marker.status == 403


@pytest.mark.parametrize("name", ["403", "404"])
def test_marker_of_any_kind_is_a_marker(tmp_path: Path, folder: int, name: str) -> None:
    os.symlink("nowhere", tmp_path / name)
    marker = notes.read_marker(folder)
    assert marker is not None
    assert marker.by_operator


@pytest.mark.skipif(not hasattr(os, "O_NOATIME"), reason="needs Linux's O_NOATIME")
def test_reading_is_not_noted_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x")
    folder = os.open(tmp_path, os.O_RDONLY)
    fd = notes.open_regular(folder, "data")

    assert fd is not None
    assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NOATIME
    os.close(fd)
    os.close(folder)


def test_a_file_of_another_user_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").write_bytes(b"x")
    folder = os.open(tmp_path, os.O_RDONLY)
    real, noatime = os.open, 1 << 20
    monkeypatch.setattr(notes, "_NOATIME", noatime)

    def open_as_another(path: str, flags: int, *, dir_fd: int) -> int:
        if flags & noatime:
            raise PermissionError(errno.EPERM, "not the owner")
        return real(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", open_as_another)
    fd = notes.open_regular(folder, "data")

    assert fd is not None
    os.close(fd)
    os.close(folder)
