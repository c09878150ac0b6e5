"""Selectors beside a real server's ``_find``: pouchdb-server.

It differs from CouchDB in a few things, which are left out here: it knows no
``$beginsWith`` and ``$keyMapMatch``, moves no ``$not`` to the conditions, so that
what is missing is not what it should be, lets an ``$or`` of nothing match nothing,
and ends an array that ``$elemMatch`` looks at where its first element is no object.
"""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from dtfc.couchdb.selectors import Selector
from tests.live.test_couchdb_live import Pouch, pouch

__all__ = ["pouch"]

DOCUMENTS: list[dict[str, Any]] = [
    {"_id": "bare"},
    {"_id": "photo", "type": "photo", "year": 2026, "tags": ["sea", "sun"], "rank": 1},
    {"_id": "film", "type": "film", "year": 1999, "tags": ["sun"], "rank": 2.5},
    {"_id": "text", "type": "text", "year": "2026", "tags": [], "rank": -3},
    {"_id": "null", "type": None, "year": None, "tags": None, "rank": None},
    {"_id": "odd", "type": ["photo"], "year": {"of": 2026}, "tags": "sun", "rank": True},
    {"_id": "deep", "type": "photo", "place": {"city": "Omaha", "at": {"lat": 41}}, "a.b": 1},
    {"_id": "list", "people": [{"name": "ada", "age": 36}, {"name": "bea", "age": 20}]},
    {"_id": "numbers", "sizes": [1, 2, 3], "year": 0, "rank": 7},
]

SELECTORS: list[dict[str, Any]] = [
    {"type": "photo"},
    {"type": None},
    {"type": {"$eq": ["photo"]}},
    {"year": {"$gt": 1999}},
    {"year": {"$gte": 1999}},
    {"year": {"$lt": 2026}},
    {"year": {"$lte": 2026}},
    {"year": {"$gt": None}},
    {"year": {"$lt": "3"}},
    {"year": {"$gt": 0, "$lt": 2000}},
    {"rank": {"$lt": True}},
    {"rank": {"$gte": True}},
    {"rank": {"$gt": -5}},
    {"year": {"$exists": True}},
    {"year": {"$exists": False}},
    {"place.city": "Omaha"},
    {"place": {"city": "Omaha"}},
    {"place.at.lat": {"$gt": 40}},
    {"a\\.b": 1},
    {"type": {"$in": ["photo", "film"]}},
    {"tags": {"$in": ["sea"]}},
    {"type": {"$nin": ["photo"]}, "year": {"$gt": None}},
    {"tags": {"$all": ["sun", "sea"]}},
    {"tags": {"$size": 0}},
    {"tags": {"$size": 2}},
    {"rank": {"$mod": [2, 1]}},
    {"rank": {"$mod": [3, 1]}},
    {"type": {"$type": "array"}},
    {"year": {"$type": "object"}},
    {"year": {"$type": "null"}},
    {"rank": {"$type": "number"}},
    {"rank": {"$type": "boolean"}},
    {"type": {"$type": "string"}},
    {"type": {"$regex": "^(ph|f)"}},
    {"type": {"$regex": "[lm]+$"}},
    {"type": {"$regex": "x|t{1}o"}},
    {"people": {"$elemMatch": {"name": "ada", "age": {"$gt": 30}}}},
    {"people": {"$elemMatch": {"name": "bea", "age": {"$gt": 30}}}},
    {"people": {"$allMatch": {"age": {"$gt": 10}}}},
    {"people": {"$allMatch": {"age": {"$gt": 30}}}},
    {"sizes": {"$elemMatch": {"$gt": 2}}},
    {"sizes": {"$allMatch": {"$lt": 3}}},
    {"$and": [{"type": "photo"}, {"year": {"$gt": 2000}}]},
    {"$or": [{"type": "film"}, {"place.city": "Omaha"}]},
    {"$nor": [{"type": "photo"}, {"year": 1999}], "type": {"$gt": None}, "year": {"$gt": None}},
    {"$not": {"type": "photo"}, "type": {"$gt": None}},
    {"type": "photo", "$or": [{"year": 2026}, {"year": 1999}]},
]


def find(server: Pouch, selector: dict[str, Any]) -> list[str]:
    request = urllib.request.Request(  # noqa: S310 -- it is http
        f"{server.url}/selectors/_find",
        json.dumps({"selector": selector, "limit": 100}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return sorted(each["_id"] for each in json.loads(answer.read())["docs"])


@pytest.fixture(scope="module")
def filled(pouch: Pouch) -> Pouch:
    assert pouch.ask("PUT", "/selectors")[0] == 201
    assert pouch.ask("POST", "/selectors/_bulk_docs", {"docs": DOCUMENTS})[0] == 201
    return pouch


@pytest.mark.parametrize("selector", SELECTORS, ids=lambda each: json.dumps(each)[:60])
def test_a_server_finds_the_same(filled: Pouch, selector: dict[str, Any]) -> None:
    wanted = Selector(selector)
    mine = sorted(str(each["_id"]) for each in DOCUMENTS if wanted.matches(each))
    assert mine == find(filled, selector)
