"""Heads: what comes out of good ones, when bad ones are refused, and that cuts do not matter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.http.heads import BadHead, HeadReader, Limits, RequestHead
from tests.http.framing_table import TABLE, get, lines, put

OUTCOME = RequestHead | tuple[int, str, str] | None


def read(raw: bytes, limits: Limits | None = None) -> RequestHead:
    reader = HeadReader(limits)
    reader.feed(raw)
    head = reader.next()
    assert head is not None
    return head


def outcome(raw: bytes, step: int, limits: Limits | None = None) -> tuple[OUTCOME, bytes]:
    """Feed in steps; return the first head or refusal, and the bytes not used up."""
    reader = HeadReader(limits)
    for at in range(0, len(raw), step):
        reader.feed(raw[at : at + step])
        try:
            head = reader.next()
        except BadHead as failure:
            return (failure.status, failure.title, failure.detail), b""
        if head is not None:
            return head, reader.take_rest() + raw[at + step :]
    return None, b""


def refusal(raw: bytes, limits: Limits | None = None) -> BadHead:
    with pytest.raises(BadHead) as caught:
        read(raw, limits)
    return caught.value


def test_all_that_a_head_says() -> None:
    head = read(
        lines(
            b"PUT /a%20b?c=d HTTP/1.1",
            b"Host: localhost:8080",
            b"X-One: \t two words \t",
            b"Content-Length: 12",
            b"Expect: 100-Continue",
            b"Connection: TE, Close",
        )
    )
    assert head == RequestHead(
        method="PUT",
        target=b"/a%20b?c=d",
        path=b"/a%20b",
        query=b"c=d",
        version=(1, 1),
        fields=[
            (b"Host", b"localhost:8080"),
            (b"X-One", b"two words"),
            (b"Content-Length", b"12"),
            (b"Expect", b"100-Continue"),
            (b"Connection", b"TE, Close"),
        ],
        host=b"localhost:8080",
        content_length=12,
        chunked=False,
        expects_continue=True,
        close=True,
    )


def test_a_head_with_as_little_as_may_be() -> None:
    head = read(b"GET / HTTP/1.0\r\n\r\n")
    assert (head.fields, head.host, head.content_length, head.close) == ([], b"", None, True)


@pytest.mark.parametrize(
    ("fields", "has_body"),
    [
        ((), False),
        ((b"Content-Length: 0",), False),
        ((b"Content-Length: 1",), True),
        ((b"Transfer-Encoding: chunked",), True),
    ],
)
def test_has_body(fields: tuple[bytes, ...], has_body: bool) -> None:  # noqa: FBT001 - a column of the table
    assert read(put(*fields)).has_body is has_body


@pytest.mark.parametrize(("sent", "version"), [(b"0", (1, 0)), (b"1", (1, 1)), (b"7", (1, 1))])
def test_version(sent: bytes, version: tuple[int, int]) -> None:
    assert read(get(version=b"HTTP/1." + sent)).version == version


def test_the_url_stands_above_the_host() -> None:
    head = read(get(target=b"http://other:81/x?y"))
    assert (head.host, head.target) == (b"other:81", b"/x?y")


@pytest.mark.parametrize(
    ("raw", "expects"),
    [
        (put(b"Expect: 100-continue", b"Content-Length: 1"), True),
        (put(b"Expect: 100-continue", b"Transfer-Encoding: chunked"), True),
        (put(b"Expect: 100-continue", b"Expect: 100-Continue", b"Content-Length: 1"), True),
        (put(b"Expect: 100-continue", b"Content-Length: 0"), False),
        (put(b"Expect: 100-continue"), False),
        (put(b"Expect:", b"Content-Length: 1"), False),
        (lines(b"PUT / HTTP/1.0", b"Expect: 100-continue", b"Content-Length: 1"), False),
    ],
)
def test_expects_continue(raw: bytes, expects: bool) -> None:  # noqa: FBT001 - a column of the table
    assert read(raw).expects_continue is expects


def test_heads_come_out_one_by_one() -> None:
    reader = HeadReader()
    reader.feed(get(target=b"/1") + b"\r\n" + get(target=b"/2") + b"GET /3")
    heads = [reader.next(), reader.next(), reader.next()]
    assert [head and head.target for head in heads] == [b"/1", b"/2", None]


def test_the_rest_is_what_follows_the_head() -> None:
    reader = HeadReader()
    reader.feed(put(b"Content-Length: 5", body=b"hel"))
    reader.next()
    assert reader.take_rest() == b"hel"
    assert reader.take_rest() == b""


def test_the_reader_goes_on_after_a_body() -> None:
    reader = HeadReader()
    reader.feed(put(b"Content-Length: 5", body=b"hello"))
    reader.next()
    reader.take_rest()
    reader.feed(get(target=b"/next"))
    head = reader.next()
    assert head
    assert head.target == b"/next"


@pytest.mark.parametrize(
    ("raw", "started"), [(b"", False), (b"\r\n", False), (b"G", True), (b"\r\nG", True)]
)
def test_started(raw: bytes, started: bool) -> None:  # noqa: FBT001 - a column of the table
    reader = HeadReader()
    reader.feed(raw)
    assert reader.next() is None
    assert reader.started is started


def test_not_started_after_a_head() -> None:
    reader = HeadReader()
    reader.feed(get())
    reader.next()
    assert not reader.started


def test_a_refusal_is_final_and_keeps_nothing() -> None:
    reader = HeadReader()
    reader.feed(b"nonsense\r\n\r\n")
    with pytest.raises(BadHead) as first:
        reader.next()
    reader.feed(get())
    with pytest.raises(BadHead) as second:
        reader.next()
    assert first.value is second.value
    assert not reader.started


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16",
        b"\n",
        b"\rG",
        b"\r\n\r",
        b"GET /\n",
        b"GET /\rx",
        b"GET /\x00",
        b"GET /\r\n",
        b"get\r\n",
        b"GET / HTTP/2.0\r\n",
        b"GET / HTTP/1.1\r\nHost: a\n",
        b"GET / HTTP/1.1\r\nHost: a\rb",
        b"GET / HTTP/1.1\r\nHost: a\x00",
        b"GET / HTTP/1.1\r\n\n",
        b"GET " + b"/" * 8189,
        b"GET / HTTP/1.1\r\n" + b"X" * (16384 - 16),
    ],
)
def test_refused_at_the_first_byte_that_proves_it(raw: bytes) -> None:
    reader = HeadReader()
    reader.feed(raw[:-1])
    assert reader.next() is None
    reader.feed(raw[-1:])
    with pytest.raises(BadHead):
        reader.next()


LINE = b"GET / HTTP/1.1"


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(
    ("limits", "status"),
    [
        (Limits(line_bytes=len(LINE)), None),
        (Limits(line_bytes=len(LINE) - 1), 414),
        (Limits(head_bytes=len(lines(LINE, b"Host: a"))), None),
        (Limits(head_bytes=len(lines(LINE, b"Host: a")) - 1), 431),
        (Limits(head_bytes=len(LINE)), 431),
        (Limits(fields=1), None),
        (Limits(fields=0), 431),
    ],
)
def test_limits_to_the_byte(limits: Limits, status: int | None, step: int) -> None:
    result, _ = outcome(lines(LINE, b"Host: a"), step, limits)
    assert (result[0] if isinstance(result, tuple) else None) == status


def test_the_empty_line_before_counts_for_no_limit() -> None:
    limits = Limits(head_bytes=len(lines(LINE, b"Host: a")), line_bytes=len(LINE))
    assert read(b"\r\n" + lines(LINE, b"Host: a"), limits).method == "GET"


def test_no_byte_is_scanned_twice() -> None:
    """Only a CR at the very end, which may still get its LF, is looked at again."""
    reader = HeadReader()
    raw = get(b"X: " + b"ab\tc" * 3000)[:-1]
    for at in range(len(raw)):
        reader.feed(raw[at : at + 1])
        assert reader.next() is None
        assert reader._scanned >= at


def test_tls_is_called_by_its_name() -> None:
    assert "TLS" in refusal(b"\x16\x03\x01").detail


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (get(b"X : y"), "field line 2 has a blank between the name and the colon"),
        (get(b"X: y", b" z"), "field line 3 begins with a blank"),
        (get(b"nothing"), "field line 2 has no colon"),
        (get(b": y"), "field line 2 has no name"),
        (get(b"X(: y"), "the name in field line 2"),
        (get(b"X-A: a\tb\x02"), "the value of X-A holds the control character 0x02"),
        (get(b"X-A: a\x7f"), "the value of X-A holds the control character 0x7f"),
        (get(b"X: a\nb"), "an LF without a CR"),
        (get(b"X: a\rb"), "a CR that no LF follows"),
        (get(b"X: a\x00"), "a NUL byte"),
        (b"\r\n\r\n" + get(), "an empty line"),
        (b"\n" + get(), "an empty line"),
        (b" " + get(), "begins with the name of its method"),
        (lines(b"GET  / HTTP/1.1"), "one blank"),
        (lines(b"G@T / HTTP/1.1"), "the method holds"),
        (lines(b"GET /\xff HTTP/1.1"), "visible ASCII"),
        (lines(b"GET / http/1.1"), "written as HTTP/1.1"),
        (lines(b"GET / HTTP/1.1"), "must have a Host field"),
        (lines(b"FETCH / HTTP/1.1", b"Host: a"), "FETCH is not a method"),
    ],
)
def test_the_detail_says_what_is_wrong(raw: bytes, words: str) -> None:
    failure = refusal(raw)
    assert words in failure.detail
    assert str(failure) == f"{failure.title}: {failure.detail}"


SAMPLES = st.sampled_from([each.raw for each in TABLE if len(each.raw) < 2000])


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A payload of the table with some bytes put in, taken out or replaced."""
    raw = bytearray(draw(SAMPLES))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(raw)))
        cut = draw(st.integers(0, 2))
        raw[at : at + cut] = draw(
            st.binary(max_size=2)
            | st.sampled_from([b"\r\n", b"\r", b"\n", b"\0", b" ", b":", b","])
        )
    return bytes(raw)


SMALL = Limits(head_bytes=90, line_bytes=40, fields=3)


@given(raw=mangled() | st.binary(max_size=60), small=st.booleans(), step=st.integers(1, 50))
def test_how_it_is_cut_makes_no_difference(raw: bytes, small: bool, step: int) -> None:  # noqa: FBT001 - both are drawn
    limits = SMALL if small else None
    assert outcome(raw, step, limits) == outcome(raw, len(raw) + 1, limits)


@pytest.mark.parametrize("stray", [b"\n", b"\r", b"\0", b"\r\r\n", b"\r\n", b"x"])
@pytest.mark.parametrize("limits", [None, Limits(line_bytes=16), Limits(head_bytes=40)])
def test_a_stray_byte_at_each_place_is_told_the_same_however_cut(
    stray: bytes, limits: Limits | None
) -> None:
    good = lines(b"GET /abcdef HTTP/1.1", b"Host: a", b"X: yyyyyyyyyy")
    for at in range(len(good)):
        raw = good[:at] + stray + good[at:]
        assert outcome(raw, 1, limits) == outcome(raw, len(raw), limits)


@given(raw=mangled(), after=st.binary(max_size=30))
def test_what_follows_makes_no_difference(raw: bytes, after: bytes) -> None:
    result, rest = outcome(raw, len(raw) + 1)
    if result is not None:
        wanted = (result, rest + after if isinstance(result, RequestHead) else b"")
        assert outcome(raw + after, len(raw) + len(after)) == wanted


@given(raw=mangled())
def test_what_comes_out_can_be_relied_on(raw: bytes) -> None:
    head, _ = outcome(raw, len(raw) + 1)
    if isinstance(head, RequestHead):
        assert head.target in (
            b"*",
            head.path if head.query is None else head.path + b"?" + head.query,
        )
        assert head.path.startswith(b"/") or head.path == b"*"
        assert head.content_length is None or not head.chunked
        assert head.host or head.version == (1, 0)
        for _, value in head.fields:
            assert value == value.strip(b" \t")
            assert not set(value) & {0, 10, 13}
