"""What is kept of a design document that is there, and when it is left alone."""

from __future__ import annotations

from dtfc.couchdb.design import BY_SHA512, ID, VALIDATE, merged


def test_where_none_is_it_is_made() -> None:
    assert merged(None) == {
        "_id": ID,
        "language": "javascript",
        "validate_doc_update": VALIDATE,
        "views": {"by_sha512": {"map": BY_SHA512}},
    }


def test_one_that_will_do_is_left_alone() -> None:
    there = {**(merged(None) or {}), "_rev": "1-a"}
    assert merged(there) is None


def test_what_others_added_stays() -> None:
    there = {
        "_id": ID,
        "_rev": "3-c",
        "filters": {"mine": "function(doc){return true}"},
        "views": {"mine": {"map": "function(doc){}"}, "by_sha512": {"map": "old"}},
    }
    new = merged(there)
    assert new is not None
    assert (new["_rev"], new["filters"]) == ("3-c", there["filters"])
    assert set(new["views"]) == {"mine", "by_sha512"}
    assert new["views"]["by_sha512"] == {"map": BY_SHA512}


def test_views_that_are_none_are_replaced() -> None:
    new = merged({"_id": ID, "views": 7})
    assert new is not None
    assert set(new["views"]) == {"by_sha512"}
