"""Whatever is accepted here, h11 accepts too, and reads the same in it.

The exceptions, all meant:

- An empty line before the request line: skipped here (RFC 9112 section 2.2
  SHOULD), refused by h11. It is left away before h11 reads.
- An absolute-form target: cut here into host and path, passed on whole by h11.
- Expect: 100-continue without a body: nothing to wait for here; h11 waits.
- The value of Transfer-Encoding: as sent here; h11 makes it small.
- Upgrade: taken no notice of here (RFC 9110 section 7.8 MAY); h11 waits for
  its user to decide, so whether the connection stays is not compared.
- Blanks between a chunk's size and its extensions: taken here (RFC 9112
  section 7.1.1 has BWS there, and RFC 9110 section 5.6.3 says MUST), refused
  by h11. The one payload with them is left out.
"""

from __future__ import annotations

import random
from typing import TypeVar

import h11
import pytest
from h11._state import MIGHT_SWITCH_PROTOCOL

from dtfc.http.chunked import BadChunk, ChunkedDecoder
from dtfc.http.heads import BadHead, HeadReader, RequestHead
from tests.http.framing_table import TABLE

# Of each pair the first list is good and taken more often, so that about half
# of all heads are good as a whole.
METHODS = [["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"], ["get", "FOO", "G@T", ""]]
TARGETS = [
    ["/", "/a?b", "/%20", "//", "http://h/p?q", "http://h", "https://h:1?q", "/|"],
    ["*", "/%2", "/a#b", "h:80", "", "/é", "http://", "http://u@h/"],
]
VERSIONS = [["1.1", "1.1", "1.0", "1.2", "1.9"], ["2.0", "1.", "1.10", "x"]]
HOSTS = [
    ["Host: a", "Host:a:80 ", "host: [::1]", "HOST: a.b."],
    ["Host:", "Host: a..b", "Host : a", "Host: a\r\nHost: a", "Y: z"],
]
NAMES = [["X", "Accept", "X-Y_z.~", "Connection", "Connection", "Expect"], ["X Y", "", "X ", " X"]]
COLONS = [[":", ": ", ":\t "], [" : ", " ", ""]]
VALUES = [
    ["", "y", "a, b", "close", "Close", "keep-alive", "keep-alive, close", ",close,", "é", "a\tb ",
     "100-continue", "100-Continue", "100-continue, 100-continue"],
    ["100-continue, x", "a\x01", "a\rb", "a\nb: c", "a\x00", "a\x7f"],
]  # fmt: skip
FRAMINGS = [
    ["", "", "Content-Length: 0", "Content-Length: 5", "content-length:05", "CONTENT-LENGTH: 5 ",
     "Transfer-Encoding: chunked", "transfer-encoding:CHUNKED "],
    ["Content-Length: 5, 5", "Content-Length: +5", "Content-Length: 5\r\nContent-Length: 5",
     "Content-Length: 99999999999999999999", "Transfer-Encoding: gzip, chunked",
     "Transfer-Encoding: ,chunked", "Transfer-Encoding: identity",
     "Transfer-Encoding: chunked;a=b", "Transfer-Encoding: chunked\r\nContent-Length: 5"],
]  # fmt: skip
CHUNKED = [
    [b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0;c\r\nX: y\r\n\r\n",
     b"05\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", b'5;a="b;c"\r\nhello\r\n000\r\n\r\n'],
    [b"5 \r\nhello\r\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhello\r\n0\r\nX : y\r\n\r\n"],
]  # fmt: skip


T = TypeVar("T")


class Corpus:
    """Heads and bodies made by a grammar that is sometimes wrong."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def one_of(self, choices: list[list[T]]) -> T:
        good, bad = choices
        return self._chance.choice(good if self._chance.random() < 0.92 else bad)

    def head(self) -> bytes:
        fields = [self.one_of(HOSTS), self.one_of(FRAMINGS)]
        fields += [
            "".join(map(self.one_of, (NAMES, COLONS, VALUES)))
            for _ in range(self._chance.randint(0, 3))
        ]
        self._chance.shuffle(fields)
        line = f"{self.one_of(METHODS)} {self.one_of(TARGETS)} HTTP/{self.one_of(VERSIONS)}"
        text = "\r\n".join([line, *filter(None, fields)]) + "\r\n\r\n"
        return (b"\r\n" if self._chance.random() < 0.1 else b"") + text.encode()

    def chunked(self) -> bytes:
        return self.one_of(CHUNKED) + b"more"


def ours(raw: bytes) -> tuple[RequestHead, bytes] | None:
    """The head and what follows it, or None if it is refused."""
    reader = HeadReader()
    reader.feed(raw)
    try:
        head = reader.next()
    except BadHead:
        return None
    assert head is not None
    return head, reader.take_rest()


def compare(raw: bytes, head: RequestHead, body: bytes) -> None:
    """Let h11 read a head that was accepted, and the body after it.

    h11 raises RemoteProtocolError, which fails the test, for what it refuses.
    """
    theirs = h11.Connection(h11.SERVER)
    theirs.receive_data(raw.removeprefix(b"\r\n"))
    request = theirs.next_event()
    assert isinstance(request, h11.Request)
    assert request.method.decode() == head.method
    compare_targets(request.target, head)
    assert names_and_values(request.headers.raw_items()) == names_and_values(head.fields)
    if head.has_body:
        assert theirs.they_are_waiting_for_100_continue is head.expects_continue
    compare_bodies(theirs, head, body)
    if theirs.their_state is not MIGHT_SWITCH_PROTOCOL:
        assert (theirs.their_state is h11.MUST_CLOSE) is head.close


def names_and_values(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [
        (name, value.lower() if name.lower() == b"transfer-encoding" else value)
        for name, value in fields
    ]


def compare_targets(whole: bytes, head: RequestHead) -> None:
    if whole.startswith(b"/") or whole == b"*":
        assert whole == head.target
        return
    _, _, rest = whole.partition(b"://")
    assert rest.startswith(head.host)
    target = rest.removeprefix(head.host)
    assert head.target in (target, b"/" + target, target or b"*")


def compare_bodies(theirs: h11.Connection, head: RequestHead, body: bytes) -> None:
    data = b""
    while isinstance(event := theirs.next_event(), h11.Data):
        data += event.data
    assert isinstance(event, h11.EndOfMessage)
    if head.chunked:
        decoder = ChunkedDecoder()
        assert b"".join(decoder.feed(body)) == data
        assert decoder.done
        rest = decoder.rest
    else:
        length = head.content_length or 0
        assert body[:length] == data
        rest = body[length:]
    assert theirs.trailing_data[0] == rest


@pytest.mark.parametrize("seed", range(20))
def test_a_corpus(seed: int) -> None:
    corpus = Corpus(seed)
    accepted = 0
    for _ in range(500):
        raw = corpus.head()
        read = ours(raw)
        if read is None:
            continue
        body = corpus.chunked() if read[0].chunked else b"hello world"
        if read[0].chunked:
            try:
                ChunkedDecoder().feed(body)
            except BadChunk:
                continue
        compare(raw + body, read[0], body)
        accepted += 1
    assert accepted > 150


def test_the_good_payloads_of_the_table() -> None:
    accepted = 0
    for payload in TABLE:
        if payload.expected[0] <= {200, 201, 204}:
            read = ours(payload.raw)
            if read is None or (read[0].chunked and payload.closes):
                continue  # refused further on, in its body
            if payload.name == "an extension with blanks":
                continue
            compare(payload.raw, *read)
            accepted += 1
    assert accepted > 80
