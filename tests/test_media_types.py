"""Media types: what browsers are told."""

from __future__ import annotations

import mimetypes
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc import media_types
from dtfc.media_types import OCTET_STREAM, content_type, is_safe_inline


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (None, OCTET_STREAM),
        ("", OCTET_STREAM),
        ("photo.jpg", "image/jpeg"),
        ("PHOTO.JPEG", "image/jpeg"),
        ("IMG_0001.HEIC", "image/heic"),
        ("a.b.c.png", "image/png"),
        ("scan.tif", "image/tiff"),
        ("film.mkv", "video/matroska"),
        ("film.mp4", "video/mp4"),
        ("song.mp3", "audio/mpeg"),
        ("paper.pdf", "application/pdf"),
        ("letter.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("backup.tar.gz", "application/gzip"),
        ("disk.iso", "application/vnd.efi.iso"),
        ("notes.txt", "text/plain; charset=utf-8"),
        ("page.html", "text/html; charset=utf-8"),
        ("data.json", "application/json"),
        ("jpg", OCTET_STREAM),
        ("photo.jpg.", OCTET_STREAM),
        ("photo.jpg ", OCTET_STREAM),
        ("photo.unheard-of", OCTET_STREAM),
        ("x.\u212apg", OCTET_STREAM),
    ],
)
def test_the_ending_decides(name: str | None, kind: str) -> None:
    assert content_type(name) == kind


@pytest.mark.parametrize(
    ("kind", "safe"),
    [
        ("image/jpeg", True),
        ("IMAGE/JPEG", True),
        ("image/png; x=y", True),
        ("video/mp4", True),
        ("audio/flac", True),
        ("text/plain", True),
        ("text/plain; charset=utf-8", True),
        ("application/pdf", True),
        ("image/svg+xml", False),
        ("Image/SVG+XML; charset=utf-8", False),
        ("image/svg", False),
        ("text/html; charset=utf-8", False),
        ("text/xml", False),
        ("text/javascript", False),
        ("application/xhtml+xml", False),
        ("application/octet-stream", False),
        ("multipart/related", False),
        ("", False),
        ("imagery/jpeg", False),
    ],
)
def test_only_what_holds_no_script_is_shown(kind: str, *, safe: bool) -> None:
    assert is_safe_inline(kind) is safe


def test_the_machine_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mimetypes, "guess_type", lambda *_: ("text/evil", None))
    mimetypes.add_type("text/evil", ".dtfcevil")
    assert [content_type("a.dtfcevil"), content_type("a.jpg")] == [OCTET_STREAM, "image/jpeg"]


def test_no_ending_stands_twice_in_the_table() -> None:
    endings = [each for group in media_types._TABLE.values() for each in group.split()]
    assert sorted(endings) == sorted(set(endings))


@pytest.mark.parametrize("kind", sorted(media_types._TABLE))
def test_each_type_is_well_formed(kind: str) -> None:
    assert re.fullmatch(r"[a-z]+/[a-z0-9][a-z0-9.+-]*", kind)


@pytest.mark.parametrize("ending", ["html", "htm", "svg", "xml", "xhtml", "xht", "js", "mhtml"])
def test_what_could_run_in_a_browser_is_saved(ending: str) -> None:
    assert not is_safe_inline(content_type(f"a.{ending}"))


@given(st.text())
def test_any_name_gives_a_plain_field_value(name: str) -> None:
    assert re.fullmatch(r"[\x21-\x7e]+(; charset=utf-8)?", content_type(name))
