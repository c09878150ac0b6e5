"""What is counted of each answer, and how cheaply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.web.tally import BLOB, BOUNDS, ROUTES, Tally, route_of

HEX = b"aB" * 64


@pytest.mark.parametrize(
    ("path", "route"),
    [
        (b"/", "front"),
        (b"/" + HEX, "blob"),
        (b"/" + HEX + b"/photo.jpg", "blob"),
        (b"/" + HEX + b"/nopeerload", "blob"),
        (b"/" + HEX + b"/info", "about"),
        (b"/" + HEX + b"/chunks", "about"),
        (b"/" + HEX + b"/ffmetadata", "about"),
        (b"/" + HEX + b".meta4", "about"),
        (b"/" + HEX + b".torrent", "about"),
        (b"/" + HEX + b".jpg", "name"),
        (b"/" + HEX + b"/allpeers", "deletions"),
        (b"/deletions", "deletions"),
        (b"/deletions/compare", "deletions"),
        (b"/uploads/", "uploads"),
        (b"/uploads/" + b"x" * 43, "uploads"),
        (b"/couchdb/photos/missing", "couchdb"),
        (b"/page/page.js", "front"),
        (b"/status.json", "node"),
        (b"/health.html", "node"),
        (b"/metrics", "node"),
        (b"/photo.jpg", "name"),
        (b"/" + b"a" * 127, "name"),
        (b"/" + b"g" * 128, "name"),
        (b"/" + HEX + b"0", "name"),
        (b"/no/such/thing", "other"),
        (b"*", "other"),
    ],
)
def test_classes_of_urls(path: bytes, route: str) -> None:
    assert route_of(path) == route


@given(st.binary(max_size=300))
def test_there_are_few_of_them(path: bytes) -> None:
    assert route_of(b"/" + path) in ROUTES


@pytest.mark.parametrize(("seconds", "place"), [(0.0, 0), (0.001, 0), (0.0011, 1), (601.0, -1)])
def test_a_duration_is_in_the_class_whose_bound_it_does_not_exceed(
    seconds: float, place: int
) -> None:
    tally = Tally()
    tally.note(BLOB, seconds)
    assert tally.took[BLOB][place] == 1


def test_what_the_fast_lane_answers_at_once_is_in_the_first_class() -> None:
    tally = Tally()
    tally.hits, tally.slow_hits = 10, 1
    tally.note(BLOB, 2.0)
    classes = tally.durations()[BLOB]
    assert (classes[0], classes[BOUNDS.index(2.5)], sum(classes)) == (9, 1, 10)
