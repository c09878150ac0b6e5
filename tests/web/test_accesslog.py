"""The access log: one line a request, whatever a client sends."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dtfc.http.traces import Trace
from dtfc.web.accesslog import (
    FLUSH,
    MOST_LINES,
    MOST_WAITING,
    About,
    AccessLog,
    Entry,
    as_json,
    combined,
)

ENTRY = Entry(1_000_000.5, "192.0.2.1", "GET / HTTP/1.1", 200, 12, 0.25, "http://r/", "curl/8")
COMBINED = re.compile(
    r'\S+ - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] "[^"]*" \d+ \d+ "[^"]*" "[^"]*"\Z'
)


def test_the_combined_format() -> None:
    assert combined(ENTRY) == (
        '192.0.2.1 - - [12/Jan/1970:13:46:40 +0000] "GET / HTTP/1.1" 200 12 "http://r/" "curl/8"'
    )


def test_the_json_format() -> None:
    told = json.loads(as_json(ENTRY._replace(about=About("GET", "front", id="7-1"))))
    assert told == {
        "kind": "access",
        "at": 1000000.5,
        "id": "7-1",
        "client": "192.0.2.1",
        "request": "GET / HTTP/1.1",
        "method": "GET",
        "route": "front",
        "status": 200,
        "bytes": 12,
        "received": 0,
        "duration": 0.25,
        "referrer": "http://r/",
        "agent": "curl/8",
    }


def test_a_blob_and_a_trace() -> None:
    trace = Trace("a" * 32, "b" * 16, "c" * 16, "01")
    about = About("GET", "blob", "loaded", "d" * 128, 0, "bytes=0-3", "7-1", trace)
    told = json.loads(as_json(ENTRY._replace(about=about)))
    expected = {
        "cache": "loaded",
        "sha512": "d" * 128,
        "range": "bytes=0-3",
        "trace": "a" * 32,
        "span": "b" * 16,
        "parent": "c" * 16,
    }
    assert {name: told.get(name) for name in expected} == expected


def test_a_part_that_the_fast_lane_sent_has_its_range() -> None:
    told = json.loads(as_json(ENTRY._replace(status=206, first=5, sent=10)))
    assert told["range"] == "bytes=5-14"


def test_ids_differ() -> None:
    ids = {json.loads(as_json(ENTRY))["id"] for _ in range(100)}
    assert len(ids) == 100


def test_who_it_was_stands_in_the_place_of_the_user() -> None:
    entry = ENTRY._replace(principal="camera")
    assert combined(entry).startswith("192.0.2.1 - camera [12/Jan")
    assert json.loads(as_json(entry))["principal"] == "camera"


@given(st.text(), st.text(), st.text())
def test_nothing_breaks_out_of_its_quotes(line: str, referrer: str, agent: str) -> None:
    written = combined(ENTRY._replace(line=line, referrer=referrer, agent=agent))

    assert COMBINED.match(written)
    assert written.isascii()
    assert written.isprintable()


@given(st.text(), st.text())
def test_json_is_one_line_in_ascii(line: str, agent: str) -> None:
    written = as_json(ENTRY._replace(line=line, agent=agent))

    assert "\n" not in written
    assert written.isascii()
    assert json.loads(written)["request"] == line


def test_lines_are_written_together_and_soon() -> None:
    clock, written = Clock(), list[list[str]]()
    log = AccessLog(lambda lines: written.append(list(lines)), "combined", clock)
    log.note(ENTRY)
    log.note(ENTRY)
    assert written == []

    clock.advance(FLUSH)

    assert written == [[combined(ENTRY)] * 2]
    assert clock.getDelayedCalls() == []


def test_many_lines_are_not_kept_waiting() -> None:
    clock, written = Clock(), list[list[str]]()
    log = AccessLog(lambda lines: written.append(list(lines)), "combined", clock)

    for _ in range(MOST_LINES):
        log.note(ENTRY)

    assert [len(lines) for lines in written] == [MOST_LINES]


class SlowDisk:
    """Finishes nothing until it is told to."""

    def __init__(self) -> None:
        self.under_way: list[Deferred[Any]] = []

    def run(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        work(*args, **kwargs)
        self.under_way.append(Deferred())
        return self.under_way[-1]


def test_while_the_disk_is_busy_lines_wait() -> None:
    clock, written, disk = Clock(), list[list[str]](), SlowDisk()
    log = AccessLog(lambda lines: written.append(list(lines)), "combined", clock, disk)
    log.note(ENTRY)
    clock.advance(FLUSH)
    for _ in range(MOST_LINES + 5):
        log.note(ENTRY)
    clock.advance(FLUSH)
    assert [len(lines) for lines in written] == [1]

    disk.under_way[0].callback(None)
    clock.advance(FLUSH)

    assert [len(lines) for lines in written] == [1, MOST_LINES + 5]
    assert clock.getDelayedCalls() == []


def test_no_more_lines_wait_than_are_allowed() -> None:
    clock, written, disk = Clock(), list[list[str]](), SlowDisk()
    log = AccessLog(lambda lines: written.append(list(lines)), "combined", clock, disk)
    log.note(ENTRY)
    clock.advance(FLUSH)

    for _ in range(MOST_WAITING):
        log.note(ENTRY)

    assert [len(lines) for lines in written] == [1, MOST_WAITING]


@pytest.mark.parametrize("form", ["combined", "json"])
def test_flushing_leaves_nothing_behind(form: str) -> None:
    clock, written = Clock(), list[list[str]]()
    log = AccessLog(lambda lines: written.append(list(lines)), form, clock)
    log.note(ENTRY)

    log.flush()
    log.flush()

    assert len(written) == 1
    assert clock.getDelayedCalls() == []
