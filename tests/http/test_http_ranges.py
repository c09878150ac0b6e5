"""Range, the server's side: RFC 9110 sections 14 and 15.3.7."""

from __future__ import annotations

import email
import email.policy
import time
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.http import parse_range_header

from dtfc.http.ranges import (
    MAX_FIELD,
    MAX_RANGES,
    Plan,
    Representation,
    Span,
    Spec,
    parse_range,
    plan,
)

ETAG = '"e"'
KIND = "image/jpeg"
BOUNDARY = "b" * 32


def planned(
    range_: str | None, length: int = 100, method: str = "GET", **fields: list[str]
) -> Plan:
    given = {name.replace("_", "-"): values for name, values in fields.items()}
    if range_ is not None:
        given["range"] = [range_]
    rep = Representation(length, ETAG, 0)
    return plan(method, lambda name: given.get(name, []), rep, KIND, BOUNDARY)


def rendered(answer: Plan, data: bytes) -> bytes:
    return b"".join(
        data[part.start : part.start + part.length] if isinstance(part, Span) else part
        for part in answer.parts
    )


WHOLE = Plan(200, (Span(0, 100),), 100)


@pytest.mark.parametrize(
    ("range_", "start", "last"),
    [
        ("bytes=0-0", 0, 0),  # 14.1.2: the first byte only
        ("bytes=0-99", 0, 99),
        ("bytes=99-99", 99, 99),
        ("bytes=10-", 10, 99),
        ("bytes=10-100", 10, 99),  # 14.1.2: a last-pos past the end is the end
        ("bytes=10-99999999999999999999999999", 10, 99),  # 14.2: survive huge numerals
        ("bytes=-1", 99, 99),
        ("bytes=-100", 0, 99),
        ("bytes=-101", 0, 99),  # 14.1.2: a suffix longer than the file is the file
        ("bytes=-" + "9" * 900, 0, 99),
        ("bytes=" + "0" * 900 + "5-7", 5, 7),
        ("BYTES=5-7", 5, 7),  # 14.1: range units have no case
        ("bytes= 5-7 ", 5, 7),
        ("bytes=,5-7,,", 5, 7),  # 5.6.1.2: empty list members
        ("bytes=5-7,100-,-0", 5, 7),  # 14.2: satisfiable if one of them is
        ("bytes=5-7,6-9", 5, 9),  # 15.3.7.2: overlapping
        ("bytes=5-7,8-9", 5, 9),  # adjacent
        ("bytes=8-9,5-7", 5, 9),
        ("bytes=0-0,50-50", 0, 50),  # a gap smaller than a part's header
        ("bytes=" + "0-," * 300, 0, 99),  # 17.15: the same range many times
    ],
)
def test_one_range_is_sent_with_206(range_: str, start: int, last: int) -> None:
    count = last - start + 1
    assert planned(range_) == Plan(
        206, (Span(start, count),), count, (("Content-Range", f"bytes {start}-{last}/100"),)
    )


@pytest.mark.parametrize(
    "range_",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=5",
        "bytes=a-b",
        "bytes=5-4",  # 14.1.1: last before first is invalid
        "bytes=9" + "9" * 40 + "-" + "9" * 40,  # also where both are huge
        "bytes=0-1,5-4",  # one invalid member makes the set invalid
        "bytes=+1-2",
        "bytes=1-+2",
        "bytes=0_0-1",
        "bytes=1 - 2",
        "bytes=1- 2",
        "bytes=0x1-2",
        "bytes=1.0-2",
        "bytes=--1",
        "bytes=-1-2",
        "bytes=1-2-3",
        "bytes=\u0661-\u0662",  # digits, but not RFC 5234's
        "bytes=1-2;3-4",
        "bytes =1-2",
        " bytes=1-2",
        "bytes:1-2",
        "items=0-1",  # 14.2: an unknown unit
        "none",
        "bytes=0-1\n",
    ],
)
def test_what_is_no_range_set_is_ignored(range_: str | None) -> None:
    assert planned(range_) == WHOLE


@pytest.mark.parametrize(
    "range_",
    [
        "bytes=100-",
        "bytes=100-200",
        "bytes=-0",  # 14.1.2: a suffix of nothing is not satisfiable
        "bytes=-" + "0" * 500,
        "bytes=100-,-0",
        "bytes=99999999999999999999-",
        "bytes=" + "9" * 900 + "-",
    ],
)
def test_a_range_without_any_byte_is_416_with_the_length(range_: str) -> None:
    assert planned(range_) == Plan(416, fields=(("Content-Range", "bytes */100"),))


@pytest.mark.parametrize("range_", ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0", "bytes=5-"])
def test_an_empty_file_has_no_ranges(range_: str) -> None:
    assert planned(range_, length=0) == Plan(200)


def test_head_ignores_range() -> None:
    assert planned("bytes=0-9", method="HEAD") == Plan(200, (), 100)


def test_two_range_lines_are_ignored() -> None:
    assert planned(None, range=["bytes=0-1", "bytes=5-6"]) == WHOLE


def test_a_range_field_of_the_most_characters_counts() -> None:
    text = "bytes=" + "0" * (MAX_FIELD - len("bytes=0-")) + "0-"
    assert (len(text), planned(text).status) == (MAX_FIELD, 206)


def test_a_longer_range_field_is_ignored() -> None:
    assert planned("bytes=" + "0" * (MAX_FIELD - len("bytes=0-")) + "00-") == WHOLE


def test_a_failed_if_range_sends_the_whole() -> None:
    assert planned("bytes=0-9", if_range=['"other"']) == WHOLE


def test_a_right_if_range_sends_the_range() -> None:
    assert planned("bytes=0-9", if_range=[ETAG]).status == 206


def test_preconditions_go_before_ranges() -> None:
    assert planned("bytes=1000-", if_none_match=[ETAG]) == Plan(304)


def test_parts_are_framed_as_section_14_6_shows() -> None:
    data = bytes(range(256)) * 8
    answer = planned("bytes=2000-2009,0-9", length=len(data))
    assert rendered(answer, data) == b"".join(
        [
            b"\r\n--%b\r\nContent-Type: image/jpeg\r\n" % BOUNDARY.encode(),
            b"Content-Range: bytes 2000-2009/2048\r\n\r\n" + data[2000:2010],
            b"\r\n--%b\r\nContent-Type: image/jpeg\r\n" % BOUNDARY.encode(),
            b"Content-Range: bytes 0-9/2048\r\n\r\n" + data[:10],
            b"\r\n--%b--\r\n" % BOUNDARY.encode(),
        ]
    )


def test_a_multipart_answer_has_no_content_range_of_its_own() -> None:
    assert planned("bytes=0-9,2000-", length=3000).fields == (
        ("Content-Type", f"multipart/byteranges; boundary={BOUNDARY}"),
    )


def test_a_joined_range_stands_where_its_first_member_stood() -> None:
    answer = planned("bytes=5000-5009,100-109,9000-9009,5010-5019,90-99", length=10_000)
    spans = [part for part in answer.parts if isinstance(part, Span)]
    assert spans == [Span(5000, 20), Span(90, 20), Span(9000, 10)]


def spread(count: int) -> str:
    return "bytes=" + ",".join(f"{each * 1000}-{each * 1000}" for each in range(count))


def test_the_most_ranges_are_sent_as_parts() -> None:
    spans = [part for part in planned(spread(MAX_RANGES), 10**6).parts if isinstance(part, Span)]
    assert len(spans) == MAX_RANGES


def test_one_range_more_sends_the_whole() -> None:
    assert planned(spread(MAX_RANGES + 1), 10**6) == Plan(200, (Span(0, 10**6),), 10**6)


def test_many_ranges_that_join_to_few_are_not_too_many() -> None:
    text = "bytes=" + ",".join(f"{each}-{each}" for each in range(100)) + ",5000-"
    assert planned(text, 6000).status == 206


def test_parts_that_would_cost_more_than_the_stretch_are_sent_as_one_range() -> None:
    # The gap of 198 bytes is larger than one header, and smaller than two and the end.
    answer = planned("bytes=0-0,-1", length=200)
    assert answer == Plan(206, (Span(0, 200),), 200, (("Content-Range", "bytes 0-199/200"),))


@pytest.mark.parametrize("boundary", ["", "a b", 'a"', "x" * 71, "a\r\nb", "ä"])
def test_a_boundary_that_needs_quotes_is_an_error(boundary: str) -> None:
    rep = Representation(5000, ETAG, 0)
    given = {"range": ["bytes=0-0,4000-"]}
    with pytest.raises(ValueError, match="boundary"):
        plan("GET", lambda name: given.get(name, []), rep, KIND, boundary)


@pytest.mark.parametrize("kind", ["", "a/b\r\nX: y", "a/ä", "a/b\n"])
def test_a_content_type_that_is_no_field_value_is_an_error(kind: str) -> None:
    rep = Representation(5000, ETAG, 0)
    given = {"range": ["bytes=0-0,4000-"]}
    with pytest.raises(ValueError, match="media type"):
        plan("GET", lambda name: given.get(name, []), rep, kind, BOUNDARY)


@pytest.mark.parametrize(
    "range_",
    [
        "bytes=" + "9" * 1_000_000 + "-",
        "bytes=" + "0-," * 400_000,
        "bytes=" + "," * 1_000_000,
        "bytes=" + ",".join("9" * 8 + "-" for _ in range(100)),
    ],
)
def test_no_range_field_costs_time(range_: str) -> None:
    start = time.perf_counter()
    planned(range_)
    assert time.perf_counter() - start < 0.5


bounds = st.integers(0, 3000)
specs = st.one_of(
    st.tuples(bounds, bounds).map(lambda pair: f"{min(pair)}-{max(pair)}"),
    bounds.map(lambda first: f"{first}-"),
    bounds.map(lambda count: f"-{count}"),
)


@given(st.lists(specs, min_size=1, max_size=30), st.integers(1, 2500))
@example(["0-0", "-1"], 400)
def test_multipart_answers_are_read_alike_by_the_email_parser(
    members: list[str], length: int
) -> None:
    data = bytes(ord("a") + place % 26 for place in range(length))
    answer = planned("bytes=" + ",".join(members), length)
    body = rendered(answer, data)
    assert (len(body), len(body) <= length) == (answer.length, True)
    if answer.status != 206 or len(answer.parts) == 1:
        return
    head = "".join(f"{name}: {value}\r\n" for name, value in answer.fields).encode()
    message: Any = email.message_from_bytes(head + b"\r\n" + body, policy=email.policy.HTTP)
    parts: list[EmailMessage] = list(message.iter_parts())
    assert len(parts) == len(answer.parts) // 2
    for part in parts:
        start, _, rest = str(part["Content-Range"]).removeprefix("bytes ").partition("-")
        last, _, total = rest.partition("/")
        content = part.get_payload(decode=True)
        assert (content, int(total)) == (data[int(start) : int(last) + 1], length)


@given(st.text(max_size=1100))
@example("bytes=" + "-" * 500)
def test_any_text_is_answered(text: str) -> None:
    assert planned(text).status in (200, 206, 416)


@given(st.text(alphabet="0159-, \t=_+", max_size=30))
def test_what_werkzeug_reads_is_read_alike(text: str) -> None:
    """Where Werkzeug reads a set (it refuses unordered ones and ``-0``), so do we, the same."""
    theirs = parse_range_header(f"bytes={text}")
    ours = parse_range([f"bytes={text}"])
    if theirs is None or ours is None:
        # Werkzeug takes blanks around the hyphen; the grammar has none there.
        compact = text.replace(" ", "").replace("\t", "")
        assert theirs is None or compact != text
        return
    assert [_as_werkzeug(spec) for spec in ours] == theirs.ranges


def _as_werkzeug(spec: Spec) -> tuple[int, int | None]:
    if spec.first is None:
        return (-(spec.last or 0), None)
    return (spec.first, None if spec.last is None else spec.last + 1)


@given(specs)
def test_one_range_is_what_werkzeug_would_send(member: str) -> None:
    theirs = parse_range_header(f"bytes={member}")
    if theirs is None or (int(member.partition("-")[2] or 0) > 1000 and member[0] == "-"):
        return  # it has no "-0", and calls a suffix longer than the file unsatisfiable
    span = theirs.range_for_length(1000)
    expected = () if span is None else (Span(span[0], span[1] - span[0]),)
    assert planned(f"bytes={member}", 1000).parts == expected
