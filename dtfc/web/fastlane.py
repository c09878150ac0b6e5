"""The hot GET, answered without the tree.

A request for a blob that was served lately is answered straight from the
connection: no router, no coroutine, no disk thread. Everything that is not
plainly such a request, or is not plainly unchanged, takes the tree, which
gives the same answer; so this file may refuse whatever it likes, and a
property test holds both roads together.

What makes it safe:

* A head counts as plain if the strict parser of ``dtfc.http.heads`` found
  nothing in it beyond a few fields that change nothing. Clients repeat
  themselves, so its verdict on everything after the request line is remembered
  (:class:`Tails`), and only a Range, cut out before, may differ.
* Blobs are kept open (``web.hotblobs``) with their folders; three fstats tell
  whether a marker, a name or a byte has changed since (``store.watched``).
* Deny files and the policy are asked in each turn of the loop: all that is
  answered in one turn had arrived when the turn began.
* Bytes come from the page cache or not at all: a read that would wait for the
  disk takes the tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import datetimeToString

from dtfc.access.links import without_signature
from dtfc.http.heads import BadHead, HeadReader, Limits, RequestHead
from dtfc.peers.receivers import LARGE
from dtfc.web.accesslog import About
from dtfc.web.hotblobs import HotBlob, HotBlobs
from dtfc.web.tally import BLOB

#: Who says so is bounded in what is large.
NODE = b"dtfc-node"

#: Fields that change nothing in the answer to a GET of a blob.
HARMLESS = frozenset(
    {
        b"host",
        b"user-agent",
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"connection",
        b"cache-control",
        b"pragma",
        b"referer",
        b"dnt",
        b"priority",
        b"upgrade-insecure-requests",
        b"sec-fetch-dest",
        b"sec-fetch-mode",
        b"sec-fetch-site",
        b"sec-fetch-user",
        b"want-digest",
        b"want-repr-digest",
        NODE,
    }
)

#: Longest head that is looked at here.
LONGEST_HEAD = 2048

#: Heads whose parsing is remembered.
MOST_TAILS = 1024

_GET = b"GET /"
_HEX_END = len(_GET) + 128
_ENDINGS = (b" HTTP/1.1\r\n", b"/nopeerload HTTP/1.1\r\n")
_RANGE = b"\r\nRange: bytes="
_SIGNED = b"\r\nSignature"
_SIGNATURE = re.compile(
    rb"\r\nSignature-Input: [!-~](?:[ -~]*[!-~])?\r\nSignature: [!-~](?:[ -~]*[!-~])?(?=\r\n)"
)


class Tail(NamedTuple):
    """What follows a plain GET's request line, as the parser understood it.

    Args:
        referrer: its Referer, or ``-``.
        agent: its User-Agent, or ``-``.
        node: whether it says which node asks.
    """

    referrer: str
    agent: str
    node: bool = False


class Tails:
    """What the parser made of the heads that came lately.

    Args:
        limits: of heads, as for the tree.
        takes_host: whether the node answers under a name; asked once for each head.
    """

    def __init__(
        self, limits: Limits, takes_host: Callable[[str], bool] = lambda _host: True
    ) -> None:
        self._limits = limits
        self._takes_host = takes_host
        self._known: dict[bytes, Tail | None] = {}

    def look_up(self, tail: bytes) -> Tail | None:
        """Return what a plain head ends in; None if it is not plain.

        Args:
            tail: everything after the request line, Range cut out.
        """
        try:
            return self._known[tail]
        except KeyError:
            found = self._parse(tail)
        if len(self._known) >= MOST_TAILS:
            self._known.clear()
        self._known[tail] = found
        return found

    def _parse(self, tail: bytes) -> Tail | None:
        reader = HeadReader(self._limits)
        reader.feed(_GET + b"0" * 128 + _ENDINGS[1] + tail)
        try:
            head = reader.next()
        except BadHead:
            return None
        # The Range that was cut out is a field, and bytes, of its own.
        room = self._limits.head_bytes - len(tail) > LONGEST_HEAD
        if head is None or reader.take_rest() or not room or not _is_plain(head):
            return None
        if not self._takes_host(head.host.decode("latin-1")):
            return None
        # So are a peer's signature and what it covers.
        if len(head.fields) + 3 > self._limits.fields:
            return None
        said = {name.lower(): value.decode("latin-1") for name, value in head.fields}
        agent = said.get(b"user-agent", "-")
        return Tail(without_signature(said.get(b"referer", "-")), agent, NODE in said)


def _is_plain(head: RequestHead) -> bool:
    return (
        not head.close
        and not head.has_body
        and not head.expects_continue
        and all(name.lower() in HARMLESS for name, _ in head.fields)
    )


class Hit(NamedTuple):
    """A head that asks for a hot blob; the same each time that it comes.

    Args:
        blob: which blob.
        line: the request line, for the access log.
        tail: what followed it.
        status: 200 for the whole, 206 for a part.
        counts_as: what ``web.tally`` counts it as.
        about: for the access log.
        for_node: whether a node asks, which needs to know no other.
    """

    blob: HotBlob
    line: str
    tail: Tail
    status: int
    counts_as: tuple[str, str, int]
    about: About
    for_node: bool = False


#: A head, the first byte that it asks for, and how many.
Match = tuple[Hit, int, int]


class FastLane:
    """Recognises hot GETs.

    Args:
        blobs: what is kept open.
        limits: of heads.
        admits: whether anybody may GET at this moment.
        clock: the reactor.
        takes_host: whether the node answers under a name, as Host has it.

    Attributes:
        now: when the turn of the loop began, seconds since the epoch.
        date: the Date field of that time.
    """

    def __init__(
        self,
        blobs: HotBlobs,
        limits: Limits,
        admits: Callable[[], bool],
        clock: IReactorTime,
        takes_host: Callable[[str], bool] = lambda _host: True,
    ) -> None:
        self.blobs = blobs
        self.now = 0.0
        self.date = b""
        self._tails = Tails(limits, takes_host)
        self._admits = admits
        self._clock = clock
        self._wholes: dict[bytes, Match] = {}
        self._parts: dict[tuple[bytes, bytes], Hit] = {}
        self._second = -1
        self._turn = 0
        self._in_turn = False
        self._open = False

    def match(self, data: bytes) -> Match | None:
        """Return what a plain, hot GET asks for; None for anything else.

        Args:
            data: all that came, when nothing had come before.
        """
        match = self._wholes.get(data)
        if match is None:
            # Of ranges only the numbers differ: what stands around them is known.
            before, _, rest = data.partition(_RANGE)
            text, _, after = rest.partition(b"\r\n")
            hit = self._parts.get((before, after))
            if hit is None:
                return self._look_at(data)
            start, count = _one_range(text, hit.blob.length)
            if not count or (hit.tail.node and count > LARGE):
                return None
            match = hit, start, count
        blob = match[0].blob
        if not self._in_turn:
            self._begin_turn()
        if blob.checked != self._turn and not self._unchanged(blob):
            return self._look_at(data)
        return match if self._open else None

    def _look_at(self, data: bytes) -> Match | None:
        line_end = _end_of_line(data)
        if _SIGNED in data and line_end:
            # Whoever signs it, a GET gets the same; without that, heads repeat themselves.
            plain = _SIGNATURE.sub(b"", data)
            return None if _SIGNED in plain else self.match(plain)
        # Nothing may follow the head: what looks like a Range there is none.
        if not line_end or data.find(b"\r\n\r\n", line_end - 2) != len(data) - 4:
            return None
        blob = self.blobs.get(data[len(_GET) : _HEX_END])
        if blob is None:
            return None
        if not self._in_turn:
            self._begin_turn()
        if not self._unchanged(blob) or not self._open:
            return None
        match = self._parse(blob, data, line_end)
        return match if match and match[2] else None

    def _parse(self, blob: HotBlob, data: bytes, line_end: int) -> Match | None:
        """Understand a head that did not come before, and remember it."""
        before, found, rest = data.partition(_RANGE)
        text, _, after = rest.partition(b"\r\n")
        if found:
            span = _one_range(text, blob.length)
            tail = (before + b"\r\n" + after)[line_end:]
        else:
            span = 0, blob.length
            tail = data[line_end:]
        known = self._tails.look_up(tail)
        if known is None or (known.node and span[1] > LARGE):
            return None
        status = 206 if found else 200
        line = data[: line_end - 2].decode("ascii")
        about = About("GET", BLOB, "hot", data[len(_GET) : _HEX_END].decode("ascii").lower())
        for_node = data.startswith(_ENDINGS[1], _HEX_END)
        hit = Hit(blob, line, known, status, ("GET", BLOB, status), about, for_node)
        match = hit, *span
        if found:
            _make_room(self._parts)
            self._parts[before, after] = hit
        elif blob.length:
            _make_room(self._wholes)
            self._wholes[data] = match
        return match

    def _unchanged(self, blob: HotBlob) -> bool:
        """Whether nothing about a blob has changed, asked once a turn of the loop."""
        if blob.checked == self._turn:
            return True
        if blob.closed:
            return False
        if not blob.watched.unchanged():
            self.blobs.drop(blob)
            return False
        blob.checked = self._turn
        return True

    def _begin_turn(self) -> None:
        self._in_turn = True
        self._turn += 1
        self._clock.callLater(0, self._end_turn)
        self.now = self._clock.seconds()
        second = int(self.now)
        if second != self._second:
            self._second = second
            self.date = datetimeToString(second)
        self._open = self._admits()

    def _end_turn(self) -> None:
        self._in_turn = False


def _make_room(known: dict[Any, Any]) -> None:
    if len(known) >= MOST_TAILS:
        known.clear()


def _end_of_line(data: bytes) -> int:
    """Return where the head of a blob's GET goes on after its first line; 0 if it is none."""
    if data.startswith(_GET) and len(data) <= LONGEST_HEAD:
        for ending in _ENDINGS:
            if data.startswith(ending, _HEX_END):
                return _HEX_END + len(ending)
    return 0


def _one_range(text: bytes, length: int) -> tuple[int, int]:
    """Return first byte and count of the one satisfiable range of a field's value.

    The count is 0 for anything else: the tree judges it.
    """
    first, _, last = text.partition(b"-")
    if not first.isdigit() or len(text) > 38:
        return 0, 0
    start = int(first)
    if last.isdigit():
        stop = int(last) + 1
        if stop > length:  # noqa: PLR1730 -- a comparison costs less than a call
            stop = length
    elif text.endswith(b"-") and not last:
        stop = length
    else:
        return 0, 0
    return (start, stop - start) if start < stop else (0, 0)
