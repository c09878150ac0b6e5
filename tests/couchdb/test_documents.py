"""What feeds and documents say: whole, byte by byte, and garbage."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.couchdb.documents import (
    Change,
    Last,
    Lines,
    Reference,
    as_parameter,
    parse_line,
    references_of,
    sequence,
)
from dtfc.digest import Digest

ONE = Digest.of(b"one")
ENTRY = {"sha512": ONE.hex, "length": 3, "content_type": "image/jpeg", "stub": True}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def line(**more: Any) -> bytes:
    return json.dumps(
        {"seq": "7-abc", "id": "a", "changes": [{"rev": "2-b"}, {"rev": "1-c"}], **more}
    ).encode()


def test_a_change_is_read() -> None:
    assert parse_line(line(doc={"_id": "a"})) == Change(
        '"7-abc"', "a", False, ("2-b", "1-c"), {"_id": "a"}
    )


def test_a_deletion_is_one() -> None:
    found = parse_line(line(deleted=True))
    assert isinstance(found, Change)
    assert found.deleted


@pytest.mark.parametrize("value", [0, 12, "12-g1AAA", [12, "g1AAA"], None])
def test_a_sequence_is_sent_back_as_it_came(value: object) -> None:
    assert json.loads(sequence(value)) == value
    if isinstance(value, str):
        assert as_parameter(sequence(value)) == value
    else:
        assert as_parameter(sequence(value)) == sequence(value)


def test_the_end_of_a_feed_is_no_change() -> None:
    assert parse_line(b'{"last_seq":"9-x","pending":0}') == Last('"9-x"')


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", b"{", b"[]", b"1", b"null", b"{}", b"<html>", b"[" * 100_000),
        *(line(id=1), line(id=""), line(changes=None), line(changes=[]), line(changes=[1])),
        *(line(changes=[{}]), line(changes=[{"rev": 1}]), line(changes=[{"rev": "1-a"}, {}])),
    ],
)
def test_what_is_no_change_is_said(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_line(wrong)


@given(JSON)
def test_no_json_does_more_than_that(value: Any) -> None:
    try:
        found = parse_line(json.dumps(value).encode())
    except ValueError:
        return
    assert isinstance(found, Change | Last)


def test_references_are_read() -> None:
    found = references_of({"_id": "a", "dtfc": {"photo.jpg": ENTRY}})
    assert found == ((Reference("photo.jpg", ONE, 3, "image/jpeg"),), 0)


def test_capitals_keep_a_blob_too() -> None:
    found, _ = references_of({"dtfc": {"a": {"sha512": ONE.hex.upper()}}})
    assert found == (Reference("a", ONE),)


def test_what_a_deleted_document_kept_is_no_reference() -> None:
    assert references_of({"_deleted": True, "dtfc": {"a": ENTRY}}) == ((), 0)


@pytest.mark.parametrize(
    "entry", [None, 1, "x", [], {}, {"sha512": 1}, {"sha512": ""}, {"sha512": ONE.hex[1:]}]
)
def test_what_makes_no_sense_is_counted_and_hides_no_other(entry: object) -> None:
    found, wrong = references_of({"dtfc": {"bad": entry, "good": ENTRY}})
    assert ([each.name for each in found], wrong) == (["good"], 1)


@pytest.mark.parametrize("wrong", [{"length": -1}, {"length": True}, {"length": "3"}])
def test_a_wrong_length_is_no_reason_to_drop_a_reference(wrong: dict[str, object]) -> None:
    found, _ = references_of({"dtfc": {"a": {**ENTRY, **wrong}}})
    assert found == (Reference("a", ONE, None, "image/jpeg"),)


@given(st.dictionaries(st.text(), JSON))
def test_no_document_is_an_error(document: dict[str, Any]) -> None:
    references_of(document)
    found, wrong = references_of({"dtfc": document})
    assert len(found) + wrong == len(document)


@given(JSON)
def test_nor_is_anything_in_place_of_the_map(value: Any) -> None:
    found, _ = references_of({"dtfc": value})
    assert found == ()


FEED = b'{"a":1}\n\n\n{"b":2}\r\n  \n{"c":3}\n{"half"'


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(FEED)])
def test_lines_are_the_same_however_they_come(size: int) -> None:
    lines = Lines()
    found = [each for at in range(0, len(FEED), size) for each in lines.feed(FEED[at : at + size])]
    assert found == [b'{"a":1}', b'{"b":2}', b'{"c":3}']
    assert lines.rest == b'{"half"'


def test_heartbeats_alone_take_no_memory() -> None:
    lines = Lines(longest=10)
    assert [each for _ in range(100) for each in lines.feed(b"\n")] == []
    assert lines.rest == b""


@pytest.mark.parametrize("size", [1, 11])
def test_an_endless_line_is_not_kept(size: int) -> None:
    lines = Lines(longest=10)
    for _ in range(10 // size):
        assert list(lines.feed(b"x" * size)) == []
    with pytest.raises(ValueError, match="more than 10 bytes"):
        list(lines.feed(b"x" * size))
