"""Preconditions: RFC 9110 section 13."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.http.dates import http_date
from dtfc.http.preconditions import (
    EntityTag,
    Representation,
    failed_precondition,
    if_range_holds,
    parse_entity_tags,
    precondition_for_write,
)

AT = 784111777
NOW, BEFORE, AFTER = http_date(AT), http_date(AT - 1), http_date(AT + 1)
REP = Representation(10, '"e"', AT)
UNDATED = Representation(10, '"e"', None)


def of(fields: dict[str, str | list[str]]) -> Callable[[str], Sequence[str]]:
    lines = {name: [value] if isinstance(value, str) else value for name, value in fields.items()}
    return lambda name: lines.get(name, [])


@pytest.mark.parametrize(
    ("values", "tags"),
    [
        (["*"], "*"),
        ([" * "], "*"),
        (['"a"'], (EntityTag('"a"', weak=False),)),
        (['W/"a"'], (EntityTag('"a"', weak=True),)),
        (['""'], (EntityTag('""', weak=False),)),
        (['"a,b" , "c"'], (EntityTag('"a,b"', weak=False), EntityTag('"c"', weak=False))),
        (['"a"', 'W/"b"'], (EntityTag('"a"', weak=False), EntityTag('"b"', weak=True))),
        ([', ,"a",,'], (EntityTag('"a"', weak=False),)),
        ([""], ()),
        (['"\xe9\xff\x80!#~"'], (EntityTag('"\xe9\xff\x80!#~"', weak=False),)),
        (['"W/"'], (EntityTag('"W/"', weak=False),)),
        (["a"], None),
        (['"a'], None),
        (['a"'], None),
        (['"a" "b"'], None),
        (['"a""b"'], None),
        (['w/"a"'], None),  # 8.8.3: the W is case-sensitive
        (['W/ "a"'], None),
        (["W/a"], None),
        (['"a b"'], None),  # no blank inside
        (['"a\x7f"'], None),
        (['"a\\"b"'], None),  # no escapes: the backslash is a character like any other
        (['*, "a"'], None),
        (["*", "*"], None),
        (['"a", b'], None),
        (['"a"; "b"'], None),
    ],
)
def test_entity_tags_are_read(values: list[str], tags: object) -> None:
    assert parse_entity_tags(values) == tags


@given(st.lists(st.from_regex(r'\A(W/)?"[\x21\x23-\x7e\x80-\xff]*"\Z'), min_size=1, max_size=6))
def test_any_list_of_entity_tags_is_read_back(tags: list[str]) -> None:
    read = parse_entity_tags([", ".join(tags)])
    assert isinstance(read, tuple)
    assert [("W/" if tag.weak else "") + tag.opaque for tag in read] == tags


@pytest.mark.parametrize(
    "text", ['"' * 16000, '"a",' * 4000 + "x", "," * 16000 + "x", " \t" * 8000 + "x", "W/" * 8000]
)
def test_no_list_of_entity_tags_costs_time(text: str) -> None:
    start = time.perf_counter()
    parse_entity_tags([text])
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({}, None),
        # 13.1.1 If-Match
        ({"if-match": '"e"'}, None),
        ({"if-match": "*"}, None),
        ({"if-match": '"x", "e"'}, None),
        ({"if-match": ['"x"', '"e"']}, None),
        ({"if-match": '"x"'}, 412),
        ({"if-match": 'W/"e"'}, 412),  # strong comparison
        ({"if-match": "e"}, 412),  # cannot be read: false
        ({"if-match": '"e", broken'}, 412),
        ({"if-match": ""}, 412),  # an empty list matches nothing
        # 13.1.4 If-Unmodified-Since
        ({"if-unmodified-since": NOW}, None),
        ({"if-unmodified-since": AFTER}, None),
        ({"if-unmodified-since": BEFORE}, 412),
        ({"if-unmodified-since": "yesterday"}, None),
        ({"if-unmodified-since": [BEFORE, BEFORE]}, None),
        ({"if-match": '"e"', "if-unmodified-since": BEFORE}, None),  # ignored beside If-Match
        # 13.1.2 If-None-Match
        ({"if-none-match": '"e"'}, 304),
        ({"if-none-match": 'W/"e"'}, 304),  # weak comparison
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"x", "e"'}, 304),
        ({"if-none-match": '"x"'}, None),
        ({"if-none-match": "e"}, None),  # cannot be read: send it
        ({"if-none-match": ""}, None),
        # 13.1.3 If-Modified-Since
        ({"if-modified-since": NOW}, 304),
        ({"if-modified-since": AFTER}, 304),
        ({"if-modified-since": BEFORE}, None),
        ({"if-modified-since": "0"}, None),
        ({"if-modified-since": [NOW, NOW]}, None),
        ({"if-none-match": '"x"', "if-modified-since": NOW}, None),  # ignored beside it
        ({"if-none-match": "broken", "if-modified-since": NOW}, None),
        # 13.2.2 the order
        ({"if-match": '"x"', "if-none-match": '"e"'}, 412),
        ({"if-match": '"e"', "if-none-match": '"e"'}, 304),
        ({"if-unmodified-since": BEFORE, "if-none-match": '"e"'}, 412),
        ({"if-unmodified-since": NOW, "if-modified-since": NOW}, 304),
    ],
)
def test_reads_are_judged(
    method: str, fields: dict[str, str | list[str]], outcome: int | None
) -> None:
    assert failed_precondition(method, of(fields), REP) == outcome


@pytest.mark.parametrize(
    "fields", [{"if-modified-since": AFTER}, {"if-unmodified-since": http_date(0)}]
)
def test_dates_are_ignored_where_none_is_known(fields: dict[str, str | list[str]]) -> None:
    assert failed_precondition("GET", of(fields), UNDATED) is None


@pytest.mark.parametrize(
    ("fields", "there", "not_there"),
    [
        ({}, None, None),
        ({"if-none-match": "*"}, 412, None),  # create only
        ({"if-none-match": '"e"'}, 412, None),
        ({"if-none-match": 'W/"e"'}, 412, None),
        ({"if-none-match": '"x"'}, None, None),
        ({"if-none-match": "broken"}, 412, 412),  # a guard that cannot be read holds nothing
        ({"if-match": "*"}, None, 412),
        ({"if-match": '"e"'}, None, 412),
        ({"if-match": '"x"'}, 412, 412),
        ({"if-match": "broken"}, 412, 412),
        ({"if-match": "*", "if-none-match": '"e"'}, 412, 412),
        ({"if-unmodified-since": BEFORE}, 412, None),
        ({"if-unmodified-since": NOW}, None, None),
        ({"if-modified-since": NOW}, None, None),  # 13.1.3: GET and HEAD only
    ],
)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_writes_are_judged(
    method: str, fields: dict[str, str | list[str]], there: int | None, not_there: int | None
) -> None:
    judged = [precondition_for_write(method, of(fields), each) for each in (REP, None)]
    assert judged == [there, not_there]


@pytest.mark.parametrize("exists", [REP, None])
def test_options_knows_no_conditions(exists: Representation | None) -> None:
    assert precondition_for_write("OPTIONS", of({"if-match": '"x"'}), exists) is None


@pytest.mark.parametrize(
    ("values", "holds"),
    [
        ([], True),
        (['"e"'], True),
        (['W/"e"'], False),  # 13.1.5: strong comparison
        (['"x"'], False),
        (["*"], False),
        (['"e", "e"'], False),
        (['"e"', '"e"'], False),
        (["e"], False),
        ([""], False),
        ([NOW], True),
        (["Sunday, 06-Nov-94 08:49:37 GMT"], True),
        ([BEFORE], False),
        ([AFTER], False),  # exactly Last-Modified, not "not older than"
        (["tomorrow"], False),
    ],
)
def test_if_range_is_judged(values: list[str], *, holds: bool) -> None:
    assert if_range_holds(values, REP) is holds


@pytest.mark.parametrize("value", [NOW, "tomorrow"])
def test_if_range_with_a_date_is_false_where_none_is_known(value: str) -> None:
    assert not if_range_holds([value], UNDATED)
