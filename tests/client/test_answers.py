"""What nodes answer, read with care: what makes no sense is an error that says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from dtfc.client.answers import (
    Senseless,
    info_of,
    page_of,
    parsed,
    peers_of,
    receipt_of,
)
from dtfc.client.failures import (
    ClientError,
    NotAllowed,
    NotFound,
    Rejected,
    Unavailable,
    Unreachable,
    WrongBytes,
    failure_of,
    worst,
)

DIGEST = "ab" * 64


def test_info() -> None:
    info = info_of(
        {"sha512": DIGEST, "length": 5, "filename": "a", "names": ["b", "a"], "stored_at": 1.5}
    )

    assert (info.length, info.filename, info.names, info.stored_at) == (5, "a", ("b", "a"), 1.5)


def test_what_a_node_does_not_tell_is_none() -> None:
    info = info_of({"sha512": DIGEST, "length": 5, "stored_at": "yesterday"})

    assert (info.filename, info.names, info.stored_at) == (None, (), None)


def test_a_page() -> None:
    page = page_of(
        {"files": [{"name": "a", "sha512": DIGEST, "length": 5, "stored_at": None}], "next": "x"}
    )

    assert [(row.name, row.length, row.stored_at) for row in page.rows] == [("a", 5, None)]
    assert page.next == "x"


def test_a_receipt() -> None:
    receipt = receipt_of(
        {
            "id": "8a",
            "sha512": DIGEST,
            "status": "pending",
            "peers": {"http://a": {"state": "pending", "reason": "away"}},
            "was_here": True,
        }
    )

    assert (receipt.complete, receipt.peers["http://a"].reason) == (False, "away")


@pytest.mark.parametrize(
    ("read", "told"),
    [
        (info_of, {}),
        (info_of, {"sha512": DIGEST}),
        (info_of, {"sha512": "ab", "length": 1}),
        (info_of, {"sha512": DIGEST, "length": -1}),
        (info_of, {"sha512": DIGEST, "length": True}),
        (page_of, {}),
        (page_of, {"files": 5}),
        (page_of, {"files": [5]}),
        (page_of, {"files": [{"sha512": DIGEST}]}),
        (page_of, {"files": [{"name": "a"}]}),
        (receipt_of, {"sha512": DIGEST, "id": "8a", "status": "pending"}),
        (receipt_of, {"sha512": DIGEST, "id": 8, "status": "pending", "peers": {}}),
    ],
)
def test_nonsense_is_refused(read: Callable[[Any], object], told: dict[str, Any]) -> None:
    with pytest.raises(Senseless):
        read(told)


def test_peers_of_nonsense_are_none() -> None:
    assert peers_of({"peers": [5, None], "health": "x"}).urls == ()


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"<html>", b"\xff", b"[" * 100_000])
def test_only_an_object_is_an_answer(body: bytes) -> None:
    with pytest.raises(Senseless):
        parsed(body)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFound),
        (410, NotFound),
        (401, NotAllowed),
        (403, NotAllowed),
        (429, Unavailable),
        (503, Unavailable),
        (413, Rejected),
        (500, Rejected),
        (507, Rejected),
        (302, Rejected),
        (460, WrongBytes),
    ],
)
def test_kinds(status: int, kind: type[ClientError]) -> None:
    assert type(failure_of("http://a", status, {}, b"")) is kind


def test_a_promise_that_was_not_kept_is_wrong_bytes() -> None:
    body = json.dumps({"title": "x", "algorithm": "SHA-512", "actual": "1"}).encode()

    assert type(failure_of("http://a", 422, {}, body)) is WrongBytes


def test_a_node_of_2015_says_a_status_and_no_more() -> None:
    error = failure_of("http://a", 404, {}, b"<html>")

    assert (str(error), error.members) == ("Not Found (404)", {})


def test_what_a_node_says_cannot_move_the_cursor() -> None:
    body = json.dumps({"title": "\x1b[2J", "detail": "a\nb" + "x" * 1000}).encode()

    error = failure_of("http://a", 400, {}, body)

    assert str(error).isprintable()
    assert len(str(error)) < 600


def test_when_to_ask_again() -> None:
    assert failure_of("http://a", 503, {"retry-after": "7"}, b"").retry_after == 7


def test_of_several_nodes_not_found_counts_least() -> None:
    found = worst([NotFound("a"), Unreachable("b"), NotFound("c")])

    assert type(found) is Unreachable
