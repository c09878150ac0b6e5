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
* Blobs are kept open (:class:`HotBlobs`) with their folders; two fstats tell
  whether a marker, a name or a byte has changed since (``store.watched``).
* Deny files and the policy are asked on each request, as in the tree.
* Bytes come from the page cache or not at all: a read that would wait for the
  disk takes the tree.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime

from dtfc.http.heads import BadHead, HeadReader, Limits, RequestHead
from dtfc.http.ranges import Plan, Span
from dtfc.store.watched import WatchedBlob
from dtfc.web.fields import content_fields, validator_fields
from dtfc.web.request import SERVER

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
    }
)

#: Longest head that is looked at here.
LONGEST_HEAD = 2048

#: Heads whose parsing is remembered.
MOST_TAILS = 1024

#: Blobs up to this size are kept in memory with their head while they are hot.
SMALL = 8 * 1024

#: Parts up to this size are copied into one write with their head; larger ones
#: are cheaper to send from the file.
ONE_WRITE = 16 * 1024

_GET = b"GET /"
_HEX_END = len(_GET) + 128
_ENDINGS = (b" HTTP/1.1\r\n", b"/nopeerload HTTP/1.1\r\n")
_RANGE = b"\r\nRange: bytes="


@dataclass(frozen=True, slots=True)
class Tail:
    """What follows a plain GET's request line, as the parser understood it.

    Args:
        agent: its User-Agent, or ``-``.
        referrer: its Referer, or ``-``.
    """

    agent: str
    referrer: str


class Tails:
    """What the parser made of the heads that came lately.

    Args:
        limits: of heads, as for the tree.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
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
        if len(head.fields) >= self._limits.fields:
            return None
        said = {name.lower(): value.decode("latin-1") for name, value in head.fields}
        return Tail(said.get(b"user-agent", "-"), said.get(b"referer", "-"))


def _is_plain(head: RequestHead) -> bool:
    return (
        not head.close
        and not head.has_body
        and not head.expects_continue
        and all(name.lower() in HARMLESS for name, _ in head.fields)
    )


class HotBlob:
    """A blob that can be answered for at once.

    Args:
        watched: the blob, open; belongs to this object.
        max_age: seconds for which caches may keep it.
        discard: closes it, off the loop: the last close of a deleted file frees
            its space, which takes the kernel a while.
    """

    __slots__ = (
        "_answer",
        "_answer_date",
        "_discard",
        "_part",
        "_users",
        "_whole",
        "closed",
        "length",
        "watched",
    )

    def __init__(
        self,
        watched: WatchedBlob,
        max_age: int,
        discard: Callable[[WatchedBlob], object] = WatchedBlob.close,
    ) -> None:
        self.watched = watched
        self._discard = discard
        self.length = watched.info.length
        self._users = 0
        self.closed = False
        self._answer = b""
        self._answer_date = b""
        info = watched.info
        shared = validator_fields(info.digest, int(info.stored_at), max_age)

        def template(status: bytes, planned: Plan) -> bytes:
            fields = shared + content_fields(info.digest, planned, info.name, inline=False)
            lines = b"".join(
                b"%b: %b\r\n" % (name.encode("ascii"), value.encode("latin-1"))
                for name, value in fields
            )
            head = b"HTTP/1.1 %b\r\nServer: %b\r\nDate: \x00\r\n%b\r\n" % (status, SERVER, lines)
            return head.replace(b"%", b"%%").replace(b"\x00", b"%b")

        self._whole = template(b"200 OK", Plan(200, (), self.length))
        # Stand-ins that no real field holds, replaced by the places for numbers.
        part = Plan(206, (), 0, (("Content-Range", f"bytes \x01-\x02/{self.length}"),))
        self._part = (
            template(b"206 Partial Content", part)
            .replace(b"\r\nContent-Length: 0\r\n", b"\r\nContent-Length: %d\r\n", 1)
            .replace(b"\x01", b"%d")
            .replace(b"\x02", b"%d")
        )

    def whole(self, date: bytes) -> bytes | None:
        """Return the whole answer of a small blob; None if it is not small, or not at hand.

        It is the same for everybody within a second.
        """
        if self._answer_date != date:
            if not 0 < self.length <= SMALL:
                return None
            body = bytearray(self.length)
            if not read_now(self.watched.fd, memoryview(body), 0):
                return None
            self._answer = self.whole_head(date) + body
            self._answer_date = date
        return self._answer

    def whole_head(self, date: bytes) -> bytes:
        """Return the head of a 200."""
        return self._whole % date

    def part_head(self, date: bytes, span: Span) -> bytes:
        """Return the head of a 206."""
        return self._part % (date, span.length, span.start, span.stop - 1)

    def hold(self) -> None:
        """Keep it open while it is sent."""
        self._users += 1

    def release(self) -> None:
        """Note that it is sent."""
        self._users -= 1
        if self.closed and not self._users:
            self._discard(self.watched)

    def close(self) -> None:
        """Close it once nobody sends it any more."""
        if self.closed:
            return
        self.closed = True
        if not self._users:
            self._discard(self.watched)


class HotBlobs:
    """The blobs asked for lately, at most so many.

    Args:
        most: blobs kept open, three descriptors each; 0 keeps none.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._blobs: OrderedDict[bytes, HotBlob] = OrderedDict()

    def get(self, digest_hex: bytes) -> HotBlob | None:
        """Return a blob that is kept, changed or not; it is the latest one asked for then."""
        blob = self._blobs.get(digest_hex)
        if blob is not None:
            self._blobs.move_to_end(digest_hex)
        return blob

    def drop(self, blob: HotBlob) -> None:
        """Let go of a blob that has changed."""
        key = blob.watched.info.digest.hex.encode("ascii")
        if self._blobs.get(key) is blob:
            del self._blobs[key]
        blob.close()

    def has(self, digest_hex: bytes) -> bool:
        """Whether a blob is kept, changed or not."""
        return digest_hex in self._blobs

    def drop_changed(self) -> None:
        """Let go of what has changed: a deleted blob's disk space waits for it."""
        for blob in list(self._blobs.values()):
            if not blob.watched.unchanged():
                self.drop(blob)

    def keep(self, blob: HotBlob) -> None:
        """Keep a blob; the one that was not asked for the longest makes room."""
        key = blob.watched.info.digest.hex.encode("ascii")
        earlier = self._blobs.pop(key, None)
        if earlier is not None:
            earlier.close()
        if self.most <= 0:
            blob.close()
            return
        self._blobs[key] = blob
        while len(self._blobs) > self.most:
            self._blobs.popitem(last=False)[1].close()

    def clear(self) -> None:
        """Close all."""
        for blob in self._blobs.values():
            blob.close()
        self._blobs.clear()


class Hit(NamedTuple):
    """A request that can be answered at once.

    Args:
        blob: which blob.
        line: the request line, for the access log.
        tail: what followed it.
        span: the part asked for; None for the whole.
    """

    blob: HotBlob
    line: str
    tail: Tail
    span: Span | None


class FastLane:
    """Recognises hot GETs.

    Args:
        blobs: what is kept open.
        limits: of heads.
        admits: whether anybody may GET at this moment.
        clock: the reactor.
    """

    def __init__(
        self,
        blobs: HotBlobs,
        limits: Limits,
        admits: Callable[[], bool],
        clock: IReactorTime,
    ) -> None:
        self.blobs = blobs
        self._tails = Tails(limits)
        self._admits = admits
        self._clock = clock
        self._repeats: dict[bytes, Hit] = {}
        self._checked: set[HotBlob] = set()
        self._admitted: bool | None = None

    def match(self, data: bytes) -> Hit | None:
        """Return what a plain, hot GET asks for; None for anything else.

        Args:
            data: all that came, when nothing had come before.
        """
        repeat = self._repeats.get(data)
        if repeat is None:
            return self._look_at(data)
        if repeat.blob.closed:
            del self._repeats[data]
            return self._look_at(data)
        good = self._unchanged(repeat.blob) and self._open_to_all()
        return repeat if good else None

    def _look_at(self, data: bytes) -> Hit | None:
        line_end = _end_of_line(data)
        # Nothing may follow the head: what looks like a Range there is none.
        if not line_end or data.find(b"\r\n\r\n", line_end - 2) != len(data) - 4:
            return None
        blob = self.blobs.get(data[len(_GET) : _HEX_END])
        if blob is None or not self._unchanged(blob) or not self._open_to_all():
            return None
        tail = data[line_end:]
        span: Span | None = None
        at = data.find(_RANGE, line_end - 2)
        if at >= 0:
            stop = data.find(b"\r\n", at + len(_RANGE))
            span = _one_range(data[at + len(_RANGE) : stop], blob.length)
            if span is None:
                return None
            tail = data[line_end : at + 2] + data[stop + 2 :]
        elif not blob.length:
            return None
        known = self._tails.look_up(tail)
        if known is None:
            return None
        hit = Hit(blob, data[: line_end - 2].decode("ascii"), known, span)
        if span is None:  # ranges seldom repeat
            if len(self._repeats) >= MOST_TAILS:
                self._repeats.clear()
            self._repeats[data] = hit
        return hit

    def _unchanged(self, blob: HotBlob) -> bool:
        """Whether nothing about a blob has changed, asked once a turn of the loop.

        All that is answered in one turn had arrived when the turn began.
        """
        if blob in self._checked:
            return True
        if not blob.watched.unchanged():
            self.blobs.drop(blob)
            return False
        self._until_next_turn()
        self._checked.add(blob)
        return True

    def _open_to_all(self) -> bool:
        """Whether anybody may GET, asked once a turn of the loop."""
        if self._admitted is None:
            self._until_next_turn()
            self._admitted = self._admits()
        return self._admitted

    def _until_next_turn(self) -> None:
        if not self._checked and self._admitted is None:
            self._clock.callLater(0, self._forget)

    def _forget(self) -> None:
        self._checked.clear()
        self._admitted = None


def _end_of_line(data: bytes) -> int:
    """Return where the head of a blob's GET goes on after its first line; 0 if it is none."""
    if data.startswith(_GET) and len(data) <= LONGEST_HEAD:
        for ending in _ENDINGS:
            if data.startswith(ending, _HEX_END):
                return _HEX_END + len(ending)
    return 0


def _one_range(text: bytes, length: int) -> Span | None:
    """Return the one satisfiable range of a field's value; the tree judges the rest."""
    first, dash, last = text.partition(b"-")
    if not dash or not first.isdigit() or len(text) > 38:
        return None
    start = int(first)
    if last:
        if not last.isdigit():
            return None
        stop = min(int(last) + 1, length)
    else:
        stop = length
    return Span(start, stop - start) if start < stop else None


def read_now(fd: int, into: memoryview, offset: int) -> bool:
    """Fill a buffer from the page cache; False if that would wait for the disk.

    Where the kernel cannot tell, the answer is False: the tree has threads.
    """
    if not _CAN_TELL:
        return False
    try:
        return os.preadv(fd, [into], offset, os.RWF_NOWAIT) == len(into)
    except OSError:
        return False


_CAN_TELL = hasattr(os, "preadv") and hasattr(os, "RWF_NOWAIT")
