"""A document with one more file in it: nothing else of it changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.couchdb.documents import references_of
from dtfc.couchdb.fileentries import encoded, entry_of, with_entry
from dtfc.errors import TooLarge

ENTRY = {"sha512": "ab" * 64, "length": 5, "content_type": "image/jpeg", "stub": True}
OLD = {
    "_id": "a",
    "_rev": "3-c",
    "title": "Fjäll",
    "_attachments": {"x.txt": {"stub": True, "digest": "md5-x", "revpos": 2, "length": 1}},
    "dtfc": {"other.jpg": {"sha512": "cd" * 64, "length": 1, "by": "bea"}},
    "n": 12345678901234567890,
    "f": 1.0,
}


def test_a_document_that_is_not_there_is_made() -> None:
    assert with_entry(None, "a", "p.jpg", ENTRY) == {"_id": "a", "dtfc": {"p.jpg": ENTRY}}


def test_all_else_stays() -> None:
    new = with_entry(OLD, "a", "p.jpg", ENTRY)
    assert new == {**OLD, "dtfc": {**OLD["dtfc"], "p.jpg": ENTRY}}  # type: ignore[dict-item]


def test_the_old_document_is_left_alone() -> None:
    before = json.dumps(OLD)
    with_entry(OLD, "a", "other.jpg", ENTRY)
    assert json.dumps(OLD) == before


def test_an_entry_that_says_the_same_is_left_as_it_is() -> None:
    old = {**OLD, "dtfc": {"p.jpg": {**ENTRY, "caption": "mine"}}}
    assert with_entry(old, "a", "p.jpg", ENTRY) is None


@pytest.mark.parametrize(
    "there",
    [{**ENTRY, "length": 6}, {**ENTRY, "stub": 1}, {"sha512": ENTRY["sha512"]}, None, "x", []],
)
def test_one_that_says_something_else_is_replaced(there: Any) -> None:
    new = with_entry({"_id": "a", "dtfc": {"p.jpg": there}}, "a", "p.jpg", ENTRY)
    assert new is not None
    assert new["dtfc"]["p.jpg"] is not there


@pytest.mark.parametrize("files", [None, [], "x", 7])
def test_what_is_no_place_for_files_is_not_overwritten(files: Any) -> None:
    with pytest.raises(ValueError, match="no object"):
        with_entry({"_id": "a", "dtfc": files}, "a", "p.jpg", ENTRY)


def test_what_a_put_answers_is_entered() -> None:
    stub = {**ENTRY, "filename": "p.jpg", "replicas": 2}
    assert entry_of(stub) == ENTRY


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON, max_size=5).filter(lambda each: "dtfc" not in each))
def test_whatever_a_document_holds_comes_back_as_it_was(held: dict[str, Any]) -> None:
    old = json.loads(json.dumps({**held, "_id": "a"}))
    new = with_entry(old, "a", "p.jpg", ENTRY)
    assert new is not None
    found = json.loads(encoded(new, 10**9))
    assert [reference.name for reference in references_of(found)[0]] == ["p.jpg"]
    del found["dtfc"]
    assert list(found.items()) == list(old.items())


def test_a_document_has_a_largest_size() -> None:
    length = len(encoded(OLD, 10**9))
    assert len(encoded(OLD, length)) == length
    with pytest.raises(TooLarge):
        encoded(OLD, length - 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_json_is_not_sent(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encoded({"x": value}, 1000)
