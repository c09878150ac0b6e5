"""What is believed of a peer's reply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.errors import BadInput
from dtfc.http.dates import http_date
from dtfc.http.ranges import Representation, parse_range, plan
from dtfc.http.replies import (
    MAX_LENGTH,
    ContentRange,
    Offer,
    Refusal,
    judge_reply,
    parse_content_range,
    range_field,
)

DIGEST = Digest.of(b"the blob")
OTHER = Digest.of(b"another")
HOUR = 3600


def judged(
    status: int,
    fields: dict[str, str | list[str]],
    offset: int = 40,
    known_length: int | None = None,
    *,
    end: int | None = None,
    now: float | None = None,
) -> Offer | Refusal:
    lines = {name: [value] if isinstance(value, str) else value for name, value in fields.items()}
    return judge_reply(
        status,
        lambda name: lines.get(name, []),
        offset,
        known_length,
        DIGEST.hex,
        end=end,
        now=now,
    )


def piece(value: str = "bytes 40-99/100", **more: str | list[str]) -> dict[str, str | list[str]]:
    return {
        "content-range": value,
        **{name.replace("_", "-"): each for name, each in more.items()},
    }


# Asking.


@pytest.mark.parametrize(
    ("start", "end", "field"),
    [(0, None, "bytes=0-"), (40, None, "bytes=40-"), (40, 41, "bytes=40-40"), (0, 9, "bytes=0-8")],
)
def test_range_fields_are_written(start: int, end: int | None, field: str) -> None:
    assert range_field(start, end) == field


@pytest.mark.parametrize(("start", "end"), [(-1, None), (5, 5), (5, 4), (-5, 2)])
def test_a_range_of_no_bytes_cannot_be_asked_for(start: int, end: int | None) -> None:
    with pytest.raises(ValueError, match="no bytes"):
        range_field(start, end)


# Content-Range: RFC 9110 section 14.4.


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("bytes 0-0/1", ContentRange(0, 0, 1)),
        ("bytes 40-99/100", ContentRange(40, 99, 100)),
        ("bytes 40-99/*", ContentRange(40, 99, None)),
        ("Bytes 40-99/100", ContentRange(40, 99, 100)),
        (" bytes 40-99/100\t", ContentRange(40, 99, 100)),
        (f"bytes 0-1/{MAX_LENGTH}", ContentRange(0, 1, MAX_LENGTH)),
    ],
)
def test_content_range_is_read(value: str, parsed: ContentRange) -> None:
    assert parse_content_range(value) == parsed


@pytest.mark.parametrize(
    "value",
    [
        "",
        "bytes */100",
        "bytes 99-40/100",
        "bytes 40-100/100",
        "bytes 40-99/99",
        "bytes 40-99",
        "bytes=40-99/100",
        "bytes  40-99/100",
        "bytes 40 - 99/100",
        "bytes +40-99/100",
        "bytes 4_0-99/100",
        "bytes 40-99/+100",
        "bytes 40-99/100, bytes 0-1/100",
        "items 40-99/100",
        "bytes \u0664-9/10",
        f"bytes 0-1/{MAX_LENGTH + 1}",
        "bytes 0-" + "9" * 19 + "/*",
        "bytes 0-1/" + "9" * 5000,
        "bytes 40-99/100\n",
    ],
)
def test_a_content_range_that_makes_no_sense_is_bad_input(value: str) -> None:
    with pytest.raises(BadInput):
        parse_content_range(value)


# Replies that are taken.


@pytest.mark.parametrize(
    ("fields", "known_length", "offer"),
    [
        (piece(), None, Offer(40, 60, 100)),
        (piece(), 100, Offer(40, 60, 100)),
        (piece("bytes 40-99/*"), 100, Offer(40, 60, 100)),
        (piece(content_length="60"), None, Offer(40, 60, 100)),
        (piece(content_encoding="identity"), None, Offer(40, 60, 100)),
        (piece(etag=DIGEST.etag), None, Offer(40, 60, 100)),
        (piece(etag=DIGEST.etag.upper()), None, Offer(40, 60, 100)),
        (piece(etag='"1f4-5e"'), None, Offer(40, 60, 100)),  # a proxy's or a 2015 node's own
        (piece(etag=f"W/{OTHER.etag}"), None, Offer(40, 60, 100)),  # weak: says nothing of bytes
        (piece(transfer_encoding="chunked"), None, Offer(40, 60, 100)),
    ],
)
def test_the_rest_of_the_blob_is_taken(
    fields: dict[str, str | list[str]], known_length: int | None, offer: Offer
) -> None:
    assert judged(206, fields, 40, known_length) == offer


@pytest.mark.parametrize(
    ("end", "value"), [(70, "bytes 40-69/100"), (100, "bytes 40-99/100"), (170, "bytes 40-99/100")]
)
def test_a_piece_is_taken_where_it_ends_as_asked(end: int, value: str) -> None:
    assert judged(206, piece(value), end=end) == Offer(40, min(end, 100) - 40, 100)


@pytest.mark.parametrize("offset", [0, 40])
def test_the_whole_is_taken_from_its_start(offset: int) -> None:
    assert judged(200, {"content-length": "100"}, offset, 100) == Offer(0, 100, 100)


def test_an_empty_blob_is_taken() -> None:
    assert judged(200, {"content-length": "0"}, 0) == Offer(0, 0, 0)


# Replies that are refused.


@pytest.mark.parametrize(
    ("fields", "known_length"),
    [
        ({}, None),
        ({"content-length": "60"}, None),
        ({"content-type": "multipart/byteranges; boundary=x", "content-length": "300"}, None),
        (piece("bytes 0-99/100"), None),  # another start
        (piece("bytes 41-99/100"), None),
        (piece("bytes 40-98/100"), None),  # another end
        (piece("bytes 40-99/100"), 101),  # another length
        (piece("bytes 40-99/*"), None),  # how long is it?
        (piece("bytes 40-99/*"), 101),
        (piece("bytes */100"), None),
        (piece("nonsense"), None),
        ({"content-range": ["bytes 40-99/100"] * 2}, None),
        (piece(content_length="61"), None),
        (piece(content_length="-60"), None),
        (piece(content_length="+60"), None),
        (piece(content_length="6_0"), None),
        (piece(content_length=["60", "60"]), None),
        (piece(content_length="9" * 5000), None),
        (piece(content_encoding="gzip"), None),
        (piece(content_encoding="identity, br"), None),
        (piece(content_encoding=["identity", "gzip"]), None),
        (piece(etag=OTHER.etag), None),
    ],
)
def test_a_wrong_piece_is_refused(
    fields: dict[str, str | list[str]], known_length: int | None
) -> None:
    refusal = judged(206, fields, 40, known_length)
    assert isinstance(refusal, Refusal)
    assert refusal.kind == "wrong"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"transfer-encoding": "chunked"},
        {"content-length": "99"},
        {"content-length": ["100", "100"]},
        {"content-length": "1e2"},
        {"content-length": str(MAX_LENGTH + 1)},
        {"content-length": "100", "content-encoding": "gzip"},
        {"content-length": "100", "etag": OTHER.etag},
    ],
)
def test_a_wrong_whole_is_refused(fields: dict[str, str | list[str]]) -> None:
    refusal = judged(200, fields, 0, 100)
    assert isinstance(refusal, Refusal)
    assert refusal.kind == "wrong"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, "denied"),
        (403, "denied"),
        (404, "absent"),
        (410, "absent"),
        (408, "busy"),
        (429, "busy"),
        (502, "busy"),
        (503, "busy"),
        (504, "busy"),
        (100, "wrong"),
        (201, "wrong"),
        (204, "wrong"),
        (301, "wrong"),
        (304, "wrong"),
        (400, "wrong"),
        (412, "wrong"),
        (416, "wrong"),
        (500, "wrong"),
        (999, "wrong"),
    ],
)
def test_each_other_status_has_its_kind(status: int, kind: str) -> None:
    # An error page may be gzipped, and is then still an error page.
    fields = piece(content_encoding="gzip", content_length="5")
    assert judged(status, fields) == Refusal(kind, f"it answered {status}")  # type: ignore[arg-type]


def test_an_end_before_what_was_asked_is_refused() -> None:
    refusal = judged(206, piece("bytes 40-59/100"), end=70)
    assert isinstance(refusal, Refusal)
    assert "70" in refusal.reason


@pytest.mark.parametrize(
    ("value", "now", "seconds"),
    [
        ("0", None, 0),
        ("120", None, 120),
        ("99999999", None, 86400),  # no peer rests for longer than a day
        ("9" * 5000, None, None),
        ("-1", None, None),
        ("1.5", None, None),
        ("soon", None, None),
        (http_date(10 * HOUR), 9.0 * HOUR, HOUR),
        (http_date(10 * HOUR), 11.0 * HOUR, 0),
        (http_date(1000 * HOUR), 0.0, 86400),
        (http_date(10 * HOUR), None, None),
    ],
)
def test_retry_after_is_read(value: str, now: float | None, seconds: int | None) -> None:
    assert judged(503, {"retry-after": value}, now=now) == Refusal(
        "busy", "it answered 503", seconds
    )


def test_two_retry_after_lines_are_ignored() -> None:
    assert judged(503, {"retry-after": ["1", "2"]}) == Refusal("busy", "it answered 503")


@given(st.integers(1, 5000), st.data())
def test_what_our_own_nodes_send_is_taken(length: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, length - 1))
    end = data.draw(st.none() | st.integers(start + 1, length + 10))
    asked = range_field(start, end)
    assert parse_range([asked]) is not None
    sent = plan(
        "GET",
        lambda name: [asked] if name == "range" else [],
        Representation(length, DIGEST.etag, 0),
        "text/plain",
        "boundary",
    )
    fields = dict[str, str | list[str]](sent.fields, **{"content-length": str(sent.length)})
    fields = {name.lower(): value for name, value in fields.items()}
    stop = length if end is None else min(end, length)
    assert judged(sent.status, fields, start, end=end) == Offer(start, stop - start, length)


@given(
    st.sampled_from([200, 206, 416]),
    st.dictionaries(
        st.sampled_from(["content-range", "content-length", "content-encoding", "etag"]),
        st.lists(st.text(max_size=20) | st.from_regex(r"bytes [0-9]+-[0-9]+/[0-9*]+"), max_size=2),
    ),
)
def test_no_reply_makes_the_judge_raise(status: int, fields: dict[str, list[str]]) -> None:
    assert isinstance(judged(status, {**fields}), Offer | Refusal)
