"""The grammar of tokens and field lines."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.http.fields import elements, field_lines, is_token, stray

TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters
NAMES = st.text(TOKEN_CHARACTERS, min_size=1, max_size=12).map(str.encode)
VALUES = st.binary(max_size=20).filter(
    lambda value: (
        value == value.strip(b" \t")
        and not any(c < 32 and c != 9 for c in value)
        and 127 not in value
    )
)
BLANKS = st.sampled_from([b"", b" ", b"\t", b" \t "])


@pytest.mark.parametrize("code", range(256))
def test_what_is_a_token(code: int) -> None:
    assert is_token(bytes([code])) is (chr(code) in TOKEN_CHARACTERS)


@given(fields=st.lists(st.tuples(NAMES, VALUES, BLANKS, BLANKS), max_size=5))
def test_good_lines_come_out_as_they_are(fields: list[tuple[bytes, bytes, bytes, bytes]]) -> None:
    block = b"".join(b"%b:%b%b%b\r\n" % (name, a, value, z) for name, value, a, z in fields)
    assert field_lines(block) == [(name, value) for name, value, _, _ in fields]


@given(lines=st.lists(st.binary(max_size=12), max_size=5))
def test_nothing_is_skipped(lines: list[bytes]) -> None:
    block = b"".join(line + b"\r\n" for line in lines)
    if stray(block, 0, len(block)) is not None:
        return
    fields = field_lines(block)
    if isinstance(fields, list):
        assert len(fields) == block.count(b"\r\n")
    else:
        assert "field line" in fields or "value of" in fields


@pytest.mark.parametrize(
    "line", [b"a" * 60_000, b"X:" + b" " * 60_000 + b"\x01", b"X:" + b" a" * 30_000 + b"\x01"]
)
def test_long_bad_lines_take_linear_time(line: bytes) -> None:
    """With a pattern that backtracks, each of these takes minutes."""
    assert isinstance(field_lines(line + b"\r\n"), str)


@pytest.mark.parametrize(
    ("data", "start", "found"),
    [
        (b"a\r\nb", 0, None),
        (b"a\rb", 0, 1),
        (b"a\nb", 0, 1),
        (b"a\x00b", 0, 1),
        (b"a\r", 0, None),
        (b"a\r\n", 2, None),
        (b"a\n\n", 2, 2),
        (b"", 0, None),
    ],
)
def test_stray(data: bytes, start: int, found: int | None) -> None:
    result = stray(data, start, len(data))
    assert (result and result[0]) == found


def test_elements_of_several_lines() -> None:
    assert elements([b"a, b\t,", b"", b"c"]) == [b"a", b"b", b"", b"", b"c"]
