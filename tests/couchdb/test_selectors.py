"""Selectors, as CouchDB's documentation and ``mango_selector.erl`` have them."""

from __future__ import annotations

from functools import cmp_to_key
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.couchdb.collation import compare
from dtfc.couchdb.selectors import LONGEST_TEXT, MOST_STEPS, BadSelector, Selector

DOCUMENT: dict[str, Any] = {
    "_id": "holiday",
    "type": "photo",
    "year": 2026,
    "half": 0.5,
    "minus": -7,
    "none": None,
    "yes": True,
    "empty": [],
    "tags": ["sea", "sun"],
    "sizes": [1, 2, 3],
    "nested": [[1, 2]],
    "place": {"city": "Omaha", "at": {"lat": 41.2}},
    "dotted.name": 1,
    "$money": 5,
    "people": [{"name": "ada", "age": 36}, {"name": "bea"}],
    "dtfc": {"photo.jpg": {"content_type": "image/jpeg", "length": 48213}},
}

MATCHES: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"type": "photo"}, True),
    ({"type": "film"}, False),
    ({"type": "photo", "year": 2026}, True),
    ({"type": "photo", "year": 2025}, False),
    ({"year": {"$gt": 2000, "$lt": 2027}}, True),
    ({"place": {"city": "Omaha"}}, True),
    ({"place.city": "Omaha"}, True),
    ({"place.at": {"lat": {"$gt": 41}}}, True),
    ({"place": {"at.lat": 41.2}}, True),
    ({"dotted\\.name": 1}, True),
    ({"dotted.name": 1}, False),
    ({"\\$money": 5}, True),
    ({"tags.1": "sun"}, True),
    ({"tags.2": "sun"}, False),
    ({"tags.x": "sun"}, False),
    ({"tags.2": {"$exists": False}}, False),
    # Types in order: null, booleans, numbers, texts, arrays, objects.
    ({"none": {"$lt": False}}, True),
    ({"yes": {"$lt": 0}}, True),
    ({"yes": {"$eq": 1}}, False),
    ({"year": {"$lt": ""}}, True),
    ({"type": {"$lt": []}}, True),
    ({"tags": {"$lt": {}}}, True),
    ({"year": {"$gte": 2026.0}}, True),
    ({"tags": {"$eq": ["sea", "sun"]}}, True),
    ({"tags": ["sea"]}, False),
    ({"tags": {"$gt": ["sea"]}}, True),
    ({"place.at": {"$eq": {"lat": 41.2}}}, True),
    ({"year": {"$lte": 2026}}, True),
    ({"year": {"$ne": 2025}}, True),
    # What is missing matches nothing else.
    ({"missing": {"$exists": False}}, True),
    ({"missing": {"$exists": True}}, False),
    ({"none": {"$exists": True}}, True),
    ({"none": {"$exists": False}}, False),
    ({"missing": {"$ne": 1}}, False),
    ({"missing": None}, False),
    ({"missing": {"$nin": [1]}}, False),
    ({"$not": {"missing": 1}}, False),
    ({"$nor": [{"missing": 1}]}, False),
    ({"$not": {"missing": {"$exists": True}}}, True),
    ({"type.below": {"$exists": False}}, False),
    ({"place.below": {"$exists": False}}, True),
    ({"none": {"$type": "null"}}, True),
    ({"yes": {"$type": "boolean"}}, True),
    ({"half": {"$type": "number"}}, True),
    ({"type": {"$type": "string"}}, True),
    ({"tags": {"$type": "array"}}, True),
    ({"place": {"$type": "object"}}, True),
    ({"$not": {"place": {"$type": "array"}}}, True),
    ({"type": {"$in": ["film", "photo"]}}, True),
    ({"type": {"$in": []}}, False),
    ({"type": {"$nin": ["film"]}}, True),
    ({"type": {"$nin": []}}, True),
    ({"tags": {"$in": ["sun"]}}, True),
    ({"tags": {"$nin": ["sun"]}}, False),
    ({"yes": {"$in": [1]}}, False),
    ({"tags": {"$size": 2}}, True),
    ({"tags": {"$size": 3}}, False),
    ({"type": {"$size": 5}}, False),
    ({"year": {"$mod": [5, 1]}}, True),
    ({"minus": {"$mod": [3, -1]}}, True),
    ({"minus": {"$mod": [3, 2]}}, False),
    ({"half": {"$mod": [1, 0]}}, False),
    ({"yes": {"$mod": [1, 0]}}, False),
    ({"type": {"$regex": "^ph"}}, True),
    ({"type": {"$regex": "(?i)OTO$"}}, True),
    ({"type": {"$regex": "^oto"}}, False),
    ({"year": {"$regex": "2"}}, False),
    ({"$not": {"type": {"$regex": "film"}}}, True),
    ({"type": {"$beginsWith": "pho"}}, True),
    ({"type": {"$beginsWith": "hot"}}, False),
    ({"year": {"$beginsWith": "2"}}, False),
    ({"$and": [{"type": "photo"}, {"year": 2026}]}, True),
    ({"$and": [{"type": "photo"}, {"year": 1}]}, False),
    ({"$and": []}, True),
    ({"$or": [{"type": "film"}, {"year": 2026}]}, True),
    ({"$or": [{"type": "film"}, {"year": 1}]}, False),
    ({"$or": []}, True),
    ({"type": {"$or": ["film", "photo"]}}, True),
    ({"place": {"$or": [{"city": "Rome"}, {"at": {"lat": 41.2}}]}}, True),
    ({"missing": {"$or": [{"$exists": False}, 1]}}, True),
    ({"$not": {"type": "photo"}}, False),
    ({"type": {"$not": {"$eq": "film"}}}, True),
    ({"$not": {"$not": {"type": "photo"}}}, True),
    ({"$not": {"type": "photo", "year": 1}}, True),
    ({"$not": {"$or": [{"type": "film"}, {"year": 1}]}}, True),
    ({"$nor": [{"type": "film"}, {"year": 1}]}, True),
    ({"$nor": [{"type": "photo"}, {"year": 1}]}, False),
    ({"$not": {"$nor": [{"type": "photo"}]}}, True),
    ({"tags": {"$all": ["sun", "sea"]}}, True),
    ({"tags": {"$all": ["sun", "rain"]}}, False),
    ({"tags": {"$all": []}}, False),
    ({"type": {"$all": ["photo"]}}, False),
    ({"sizes": {"$all": [[1, 2, 3]]}}, True),
    ({"nested": {"$all": [[1, 2]]}}, True),
    ({"$not": {"tags": {"$all": ["rain"]}}}, True),
    ({"sizes": {"$elemMatch": {"$gt": 2}}}, True),
    ({"sizes": {"$elemMatch": {"$gt": 2, "$lt": 3}}}, False),
    ({"people": {"$elemMatch": {"name": "ada", "age": {"$gt": 30}}}}, True),
    ({"people": {"$elemMatch": {"name": "bea", "age": {"$gt": 30}}}}, False),
    ({"people": {"$elemMatch": {"$not": {"age": 36}}}}, True),
    ({"people": {"$elemMatch": {"$nor": [{"age": 36}, {"name": "bea"}]}}}, False),
    ({"$not": {"people": {"$elemMatch": {"name": "cy"}}}}, True),
    ({"empty": {"$elemMatch": {"$gt": 0}}}, False),
    ({"type": {"$elemMatch": {"$gt": 0}}}, False),
    ({"sizes": {"$allMatch": {"$gt": 0}}}, True),
    ({"sizes": {"$allMatch": {"$gt": 1}}}, False),
    ({"people": {"$allMatch": {"name": {"$exists": True}}}}, True),
    ({"empty": {"$allMatch": {"$gt": 0}}}, False),
    ({"dtfc": {"$keyMapMatch": {"$eq": "photo.jpg"}}}, True),
    ({"dtfc": {"$keyMapMatch": {"$regex": r"\.(jpe?g|png)$"}}}, True),
    ({"dtfc": {"$keyMapMatch": {"$eq": "other.jpg"}}}, False),
    ({"tags": {"$keyMapMatch": {"$eq": "sea"}}}, False),
    ({"dtfc": {"photo\\.jpg": {"content_type": {"$beginsWith": "image/"}}}}, True),
]


@pytest.mark.parametrize(("selector", "matches"), MATCHES, ids=lambda each: str(each)[:60])
def test_a_document_matches_as_in_couchdb(selector: dict[str, Any], *, matches: bool) -> None:
    assert Selector(selector).matches(DOCUMENT) is matches


@pytest.mark.parametrize(
    ("given_", "why"),
    [
        ([], "a selector is an object"),
        ("all", "a selector is an object"),
        ({"a": {"$like": "x"}}, r"\$like is no operator"),
        ({"$near": 1}, r"\$near is about no field"),
        ({"a": {"$text": "x"}}, r"\$text is not to be had here"),
        ({"$gt": 5}, r"\$gt is about no field"),
        ({"$and": [{}]}, r"\$eq is about no field"),
        ({"$and": {"a": 1}}, r"\$and takes an array"),
        ({"$not": [1]}, r"\$not takes an object"),
        ({"a": {"$elemMatch": 1}}, r"\$elemMatch takes an object"),
        ({"a": {"$in": 1}}, r"\$in takes an array"),
        ({"a": {"$nin": "x"}}, r"\$nin takes an array"),
        ({"a": {"$all": 1}}, r"\$all takes an array"),
        ({"a": {"$exists": 1}}, r"\$exists takes true or false"),
        ({"a": {"$type": "text"}}, r"\$type takes one of null, boolean"),
        ({"a": {"$type": []}}, r"\$type takes one of null, boolean"),
        ({"a": {"$size": -1}}, r"\$size takes a number"),
        ({"a": {"$size": True}}, r"\$size takes a number"),
        ({"a": {"$mod": [0, 1]}}, r"\$mod takes \[divisor, rest\]"),
        ({"a": {"$mod": [True, 1]}}, r"\$mod takes \[divisor, rest\]"),
        ({"a": {"$mod": 2}}, r"\$mod takes"),
        ({"a": {"$regex": "(a"}}, r"\$regex '\(a': a \( that nothing closes"),
        ({"a": {"$regex": 1}}, r"\$regex takes a text"),
        ({"a": {"$beginsWith": 1}}, r"\$beginsWith takes a text"),
        ({"": 1}, "a part of it is empty"),
        ({"a..b": 1}, "a part of it is empty"),
    ],
)
def test_what_is_no_selector_is_refused(given_: Any, why: str) -> None:
    with pytest.raises(BadSelector, match=why):
        Selector(given_)


def test_one_that_is_too_deep_is_refused() -> None:
    selector: dict[str, Any] = {"a": 1}
    for _ in range(60):
        selector = {"$not": selector}
    with pytest.raises(BadSelector, match="conditions within conditions"):
        Selector(selector)


def test_a_document_that_takes_too_much_is_given_up() -> None:
    selector = Selector({"a": {"$allMatch": {"$gt": 0}}})
    assert selector.matches({"a": [1] * (MOST_STEPS + 1)}) is None


def test_patterns_are_not_looked_for_in_long_texts() -> None:
    selector = Selector({"a": {"$regex": "x"}})
    assert [selector.matches({"a": "x" * each}) for each in (LONGEST_TEXT, LONGEST_TEXT + 1)] == [
        True,
        False,
    ]


numbers = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 1.0]))
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text("ab", max_size=2))
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    ),
    max_leaves=6,
)
full = st.fixed_dictionaries(dict.fromkeys("abc", values))


@given(st.lists(values, max_size=8))
def test_every_two_values_have_one_order(found: list[Any]) -> None:
    ordered = sorted(found, key=cmp_to_key(compare))
    assert all(compare(a, b) <= 0 for at, a in enumerate(ordered) for b in ordered[at:])


def conditions(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda each, name: {name: each}, several, st.sampled_from(["$and", "$or"])),
        st.builds(lambda each: {"$nor": each}, several),
        st.builds(lambda each: {"$not": each}, inner),
    )


operators = st.one_of(
    st.builds(
        lambda name, value: {name: value},
        st.sampled_from(["$lt", "$lte", "$eq", "$ne", "$gte", "$gt"]),
        values,
    ),
    st.builds(
        lambda name, value: {name: value},
        st.sampled_from(["$in", "$nin", "$all"]),
        st.lists(values, min_size=1, max_size=3),
    ),
    st.sampled_from([{"$exists": True}, {"$type": "array"}, {"$size": 1}, {"$mod": [2, 1]}]),
    st.sampled_from([{"$regex": "a+"}, {"$beginsWith": "a"}, {"$elemMatch": {"$gt": 1}}]),
)
fields = st.builds(lambda name, each: {name: each}, st.sampled_from("abc"), operators)
selectors = st.recursive(fields, conditions, max_leaves=6)


@given(selectors, full)
def test_not_is_the_contrary_where_no_field_is_missing(
    selector: dict[str, Any], document: dict[str, Any]
) -> None:
    said = Selector(selector).matches(document)
    assert Selector({"$not": selector}).matches(document) is (not said)


@given(st.lists(selectors, min_size=1, max_size=3), st.dictionaries(st.sampled_from("abc"), values))
def test_and_and_or_are_all_and_any(several: list[Any], document: dict[str, Any]) -> None:
    said = [Selector(each).matches(document) for each in several]
    both = [Selector({name: several}).matches(document) for name in ("$and", "$or")]
    assert both == [all(said), any(said)]


@given(
    st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["a", "a.b", "$and", "$in", "$mod", "$not", "$regex", "$exists"]),
                inner,
                max_size=2,
            )
        ),
        max_leaves=8,
    ),
    st.dictionaries(st.sampled_from("abc"), values),
)
def test_whatever_is_given_it_is_read_or_refused(given_: Any, document: dict[str, Any]) -> None:
    try:
        selector = Selector(given_)
    except BadSelector as error:
        assert str(error)  # noqa: PT017 -- either way is right
    else:
        assert isinstance(selector.matches(document), bool)
