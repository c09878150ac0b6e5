"""Torrents as BEP 3 and BEP 19 have them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.http.torrents import MOST_PIECES, bencoded, piece_of, torrent
from tests.support.bencode import read_bencoded

MIB = 1 << 20
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.integers() | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=6), inner),
    max_leaves=12,
)


@given(VALUES)
def test_any_value_is_read_back(value: Any) -> None:
    assert read_bencoded(bencoded(value)) == value


def test_a_torrent() -> None:
    written = torrent("é.iso", 2 * MIB, b"p" * 40, ["http://a/x", "http://b/x"], "dtfc/1")

    assert read_bencoded(written) == {
        b"created by": b"dtfc/1",
        b"encoding": b"UTF-8",
        b"info": {
            b"length": 2 * MIB,
            b"name": "é.iso".encode(),
            b"piece length": MIB,
            b"pieces": b"p" * 40,
        },
        b"url-list": [b"http://a/x", b"http://b/x"],
    }


@pytest.mark.parametrize(
    ("length", "piece"),
    [
        (0, MIB),
        (1, MIB),
        (MOST_PIECES * MIB, MIB),
        (MOST_PIECES * MIB + 1, 2 * MIB),
        (1 << 40, 64 * MIB),
    ],
)
def test_pieces_grow_before_there_are_too_many(length: int, piece: int) -> None:
    assert piece_of(length) == piece
