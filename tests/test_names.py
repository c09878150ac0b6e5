"""File names in and out: the protocol's section 1, RFC 6266, RFC 8187."""

from __future__ import annotations

import re
import sys
import unicodedata
from email.message import Message
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from werkzeug.http import parse_options_header

from dtfc.errors import BadName
from dtfc.names import MAX_BYTES, check_name, content_disposition, name_from_segment

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
DIRECTIONS = [chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))]
TAKEN_MARKS = ["\u200e", "\u200f", "\u061c", "\u200b", "\u200d", "\ufeff", "\xad", "\xa0"]


# Names in.


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"photo.jpg", "photo.jpg"),
        (b"a%20b", "a b"),
        (b"a+b", "a+b"),  # a plus is a plus in a path
        (b"100%25", "100%"),
        (b"%2541", "%41"),  # decoded once
        (b"%c3%A9", "é"),
        (b"e%CC%81", "é"),  # NFC
        ("é".encode(), "é"),
        (b"...", "..."),
        (b".bashrc", ".bashrc"),
        (b"a%3Fb%23c%3B", "a?b#c;"),
        (b"%F0%9F%93%B7.jpg", "\U0001f4f7.jpg"),
        (b"%22%27", "\"'"),
    ],
)
def test_segments_are_decoded_once(raw: bytes, name: str) -> None:
    assert name_from_segment(raw) == name


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b".",
        b"..",
        b"%2e%2E",
        b"a%2Fb",
        b"a/b",
        b"a%5cb",
        b"a\\b",
        b"a%00b",
        b"a%0d%0ab",
        b"%zz",
        b"%",
        b"%4",
        b"a%",
        b"a%4",
        b"%%41",
        b"%+1",
        b"% 1",
        b"%\xc3\xa9",
        b"%ff",
        b"%c3",
        b"%c0%af",  # an overlong slash
        b"%ed%a0%80",  # a surrogate
        b"\xff",
        b"%E2%80%AEgpj.exe",
        b"%E2%80%A8",
        b"%C2%85",
        b"a" * 256,
        b"%C3%A9" * 128,
    ],
)
def test_segments_that_are_no_name_are_refused(raw: bytes) -> None:
    with pytest.raises(BadName):
        name_from_segment(raw)


@pytest.mark.parametrize(
    "character", [*CONTROLS, *DIRECTIONS, "/", "\\", "\u2028", "\u2029", "\ud800"]
)
@pytest.mark.parametrize("pattern", ["{}", "a{}", "{}b", "a{}b"])
def test_a_refused_character_is_refused_anywhere(character: str, pattern: str) -> None:
    with pytest.raises(BadName):
        check_name(pattern.format(character))


@pytest.mark.parametrize("character", TAKEN_MARKS)
def test_marks_that_real_names_have_are_taken(character: str) -> None:
    assert check_name(f"a{character}b") == f"a{character}b"


def test_no_refusal_repeats_the_character_that_it_refuses() -> None:
    for character in [*CONTROLS, *DIRECTIONS]:
        with pytest.raises(BadName) as caught:
            check_name(f"a{character}b")
        assert str(caught.value).isascii()


@pytest.mark.parametrize(
    "name",
    ["a" * MAX_BYTES, "é" * 127 + "a", "한" * 85, unicodedata.normalize("NFD", "\u0390" * 127)],
)
def test_the_longest_names_are_taken(name: str) -> None:
    assert check_name(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    "name", ["a" * (MAX_BYTES + 1), "é" * 128, "a" * 10**6, "a" + "\u0327\u0301" * 10**6]
)
def test_longer_names_are_refused(name: str) -> None:
    with pytest.raises(BadName, match="255 bytes"):
        check_name(name)


def test_normalizing_makes_no_refused_character_of_a_taken_one() -> None:
    made: set[str] = set()
    for code in range(sys.maxunicode + 1):
        try:
            name = check_name(f"a{chr(code)}")
        except BadName:
            continue
        made.update(name)
    assert not made.intersection([*CONTROLS, *DIRECTIONS, *"/\\\u2028\u2029"])


@given(st.text(max_size=100))
def test_a_checked_name_passes_again_unchanged(text: str) -> None:
    try:
        name = check_name(text)
    except BadName:
        return
    assert check_name(name) == name


@given(st.text(max_size=60))
def test_a_name_survives_its_percent_encoding(text: str) -> None:
    try:
        name = check_name(text)
    except BadName:
        return
    assert name_from_segment(quote(name, safe="").encode()) == name


@given(st.binary(max_size=60))
def test_any_segment_is_a_name_or_refused(raw: bytes) -> None:
    try:
        name = name_from_segment(raw)
    except BadName:
        return
    assert name == unicodedata.normalize("NFC", name)


# Names out.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("photo.jpg", 'filename="photo.jpg"'),
        ("a b;c=d,e'f.txt", 'filename="a b;c=d,e\'f.txt"'),
        ("Müller.jpg", "filename=\"Muller.jpg\"; filename*=UTF-8''M%C3%BCller.jpg"),
        ("日本.pdf", "filename=\"__.pdf\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.pdf"),
        ('say "hi".txt', "filename=\"say _hi_.txt\"; filename*=UTF-8''say%20%22hi%22.txt"),
        ("100%.txt", "filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"),
        (".bashrc", 'filename="bashrc"'),  # no hidden file unawares
        ("...", 'filename="file"'),
        ("", 'filename="file"'),
        ("../../etc/passwd", 'filename="_.._etc_passwd"'),
        ("a\\b", 'filename="a_b"'),
        ("a\r\nSet-Cookie: b", 'filename="a__Set-Cookie: b"'),
        ("exe\u202egpj.exe", 'filename="exe_gpj.exe"'),
        ("old\udcff.txt", 'filename="old_.txt"'),  # a byte that was no UTF-8
    ],
)
def test_content_disposition_is_written(name: str, value: str) -> None:
    assert content_disposition(name, inline=False) == f"attachment; {value}"


def test_inline_is_written() -> None:
    assert content_disposition("a.jpg", inline=True) == 'inline; filename="a.jpg"'


def test_a_name_of_an_old_store_that_is_too_long_is_cut_between_characters() -> None:
    value = content_disposition("é" * 200, inline=False)
    assert value.endswith("''" + "%C3%A9" * 127)


FIELD = re.compile(
    r"(?:attachment|inline); filename=\"(?P<plain>[\x20\x21\x23\x24\x26-\x5b\x5d-\x7e]+)\""
    r"(?:; filename\*=UTF-8''(?P<ext>(?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-F]{2})+))?"
)


def test_no_code_point_breaks_out_of_the_field() -> None:
    """Every code point there is, surrogates included, alone and between letters."""
    for code in range(sys.maxunicode + 1):
        value = content_disposition(f"a{chr(code)}b", inline=False)
        match = FIELD.fullmatch(value)
        assert match, (hex(code), value)
        assert "/" not in match["plain"], hex(code)


@given(st.text(st.characters(codec=None)))
@example("\ud83d\ude00")
@example(".\u0301.")
@example("\u0301")
def test_no_text_breaks_out_of_the_field(name: str) -> None:
    match = FIELD.fullmatch(content_disposition(name, inline=False))
    assert match
    assert not match["plain"].startswith(".")


def downloaded_as(name: str) -> str:
    """What a client should save it as: the name without leading dots."""
    return name.lstrip(".")


@given(st.text(min_size=1, max_size=80))
@example("".join(map(chr, range(0x20, 0x7F))).replace("/", "").replace("\\", ""))
@example("a'b''c*.txt")
def test_every_name_is_read_back_by_two_parsers(text: str) -> None:
    try:
        name = check_name(text)
    except BadName:
        return
    assume(downloaded_as(name))
    value = content_disposition(name, inline=False)
    kind, options = parse_options_header(value)
    assert (kind, options["filename"]) == ("attachment", downloaded_as(name))
    # The email package takes the first of the two forms, and strips blanks.
    message = Message()
    plain, extended, rest = value.partition("filename*=")
    message["Content-Disposition"] = f"attachment; {extended}{rest}" if extended else plain
    assert message.get_filename() == downloaded_as(name).strip()
