"""What feeds and documents say: whole, byte by byte, and garbage."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.couchdb.documents import (
    Change,
    Page,
    Reference,
    as_parameter,
    parse_page,
    purges,
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


def page(*changes: Any, **more: Any) -> bytes:
    return json.dumps({"results": changes, "last_seq": "9-x", **more}).encode()


def change(**more: Any) -> dict[str, Any]:
    return {"seq": "7-abc", "id": "a", "changes": [{"rev": "2-b"}, {"rev": "1-c"}], **more}


def test_changes_are_read() -> None:
    found = parse_page(b"\n\n" + page(change(doc={"_id": "a"}), change(id="b", deleted=True)))
    assert found == Page(
        (
            Change("a", False, ("2-b", "1-c"), {"_id": "a"}),
            Change("b", True, ("2-b", "1-c"), None),
        ),
        '"9-x"',
    )


@pytest.mark.parametrize(
    ("said", "pending"), [(7, 7), (0, 0), (-1, None), ("7", None), (True, None), (None, None)]
)
def test_how_many_changes_come_behind_a_page(said: object, pending: int | None) -> None:
    assert parse_page(page(pending=said)).pending == pending


@pytest.mark.parametrize("value", [0, 12, "12-g1AAA", [12, "g1AAA"], None])
def test_a_sequence_is_sent_back_as_it_came(value: object) -> None:
    assert json.loads(sequence(value)) == value
    if isinstance(value, str):
        assert as_parameter(sequence(value)) == value
    else:
        assert as_parameter(sequence(value)) == sequence(value)


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", b"{", b"[]", b"1", b"null", b"{}", b"<html>", b"[" * 100_000),
        *(b'{"results":[]}', b'{"results":1,"last_seq":1}'),
        *map(
            page,
            [
                *({}, None, 1, change(id=1), change(id=""), change(changes=None)),
                *(change(changes=[]), change(changes=[1]), change(changes=[{}])),
                *(change(changes=[{"rev": 1}]), change(changes=[{"rev": "1-a"}, {}])),
            ],
        ),
    ],
)
def test_what_is_no_page_is_said(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_page(wrong)


@given(JSON)
def test_no_change_does_more_than_that(value: Any) -> None:
    try:
        found = parse_page(page(value))
    except ValueError:
        return
    assert len(found.changes) == 1


@pytest.mark.parametrize(
    ("told", "times"),
    [(0, 0), (7, 7), ("12-g1AAAAB", 12), ("0", 0), (None, 0), ("x", 0), (True, 0), ("9" * 99, 0)],
)
def test_purges_are_counted(told: object, times: int) -> None:
    assert purges(told) == times


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
