"""Blobs kept open, with the heads of their answers, so that a GET finds them ready."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable

from dtfc.digest import Digest
from dtfc.http.links import Mirror, link_values
from dtfc.http.ranges import Plan
from dtfc.store.watched import WatchedBlob
from dtfc.web.fields import BY_ALL, EMBEDDING, SAFE, Fields, content_fields, validator_fields
from dtfc.web.request import SERVER
from dtfc.web.source import BlobSource

#: Blobs up to this size are kept in memory with their head while they are hot.
SMALL = 8 * 1024


class HotBlob:
    """A blob that can be answered for at once.

    Args:
        watched: the blob, open; belongs to this object.
        source: sends it, verified; belongs to this object.
        max_age: seconds for which caches may keep it.
        discard: runs what closes it, off the loop: the last close of a deleted file frees
            its space, which takes the kernel a while.
        told: what answers say to browsers beside what all say.
        mirrors: where else it can be had, for all but nodes; None if that is not said.
    """

    __slots__ = (
        "_alone",
        "_answer",
        "_answer_date",
        "_discard",
        "_part",
        "_part_alone",
        "_users",
        "_whole",
        "checked",
        "closed",
        "length",
        "mirrors",
        "source",
        "watched",
    )

    def __init__(
        self,
        watched: WatchedBlob,
        source: BlobSource,
        max_age: int,
        discard: Callable[[Callable[[], None]], object],
        *,
        told: Fields | None = None,
        mirrors: tuple[Mirror, ...] | None = None,
    ) -> None:
        self.mirrors = mirrors
        self.watched = watched
        self.source = source
        self._discard = discard
        self.length = watched.info.length
        self._users = 0
        self.closed = False
        self.checked = 0
        """The turn of the loop in which it was found unchanged."""
        self._answer = b""
        self._answer_date = b""
        info = watched.info
        shared = validator_fields(info.digest, int(info.stored_at), max_age)

        links: Fields = [("Link", value) for value in link_values(info.digest, mirrors)]

        def template(status: bytes, planned: Plan, links: Fields) -> bytes:
            content = content_fields(info.digest, planned, info.name, inline=False)
            # Only what everybody may read gets here.
            fields = [*SAFE, (EMBEDDING, BY_ALL), *(told or []), *shared, *content, *links]
            lines = b"".join(
                b"%b: %b\r\n" % (name.encode("ascii"), value.encode("latin-1"))
                for name, value in fields
            )
            head = b"HTTP/1.1 %b\r\nServer: %b\r\nDate: \x00\r\n%b\r\n" % (status, SERVER, lines)
            return head.replace(b"%", b"%%").replace(b"\x00", b"%b")

        def whole(links: Fields) -> bytes:
            return template(b"200 OK", Plan(200, (), self.length), links)

        def part(links: Fields) -> bytes:
            # Stand-ins that no real field holds, replaced by the places for numbers.
            planned = Plan(206, (), 0, (("Content-Range", f"bytes \x01-\x02/{self.length}"),))
            return (
                template(b"206 Partial Content", planned, links)
                .replace(b"\r\nContent-Length: 0\r\n", b"\r\nContent-Length: %d\r\n", 1)
                .replace(b"\x01", b"%d")
                .replace(b"\x02", b"%d")
            )

        self._alone, self._part_alone = whole([]), part([])
        self._whole = whole(links) if links else self._alone
        self._part = part(links) if links else self._part_alone

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
            # Once a second: it costs less than to remember that it was done.
            if not self.source.reading.is_right(body):
                return None
            self._answer = self.whole_head(date) + body
            self._answer_date = date
        return self._answer

    def whole_head(self, date: bytes, *, alone: bool = False) -> bytes:
        """Return the head of a 200; ``alone`` names no other place."""
        return (self._alone if alone else self._whole) % date

    def part_head(self, date: bytes, start: int, count: int, *, alone: bool = False) -> bytes:
        """Return the head of a 206; likewise."""
        template = self._part_alone if alone else self._part
        return template % (date, count, start, start + count - 1)

    def hold(self) -> None:
        """Keep it open while it is sent."""
        self._users += 1

    def release(self) -> None:
        """Note that it is sent."""
        self._users -= 1
        if self.closed and not self._users:
            self._discard(self._let_go)

    def _let_go(self) -> None:
        self.source.reading.close()
        self.watched.close()

    def close(self) -> None:
        """Close it once nobody sends it any more."""
        if self.closed:
            return
        self.closed = True
        self.checked = 0
        if not self._users:
            self._discard(self._let_go)


class HotBlobs:
    """The blobs asked for lately, at most so many.

    Args:
        most: blobs kept open, three descriptors each; 0 keeps none.

    Attributes:
        still: tells whether a blob's head still says right where else it can be had.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.still: Callable[[Digest, tuple[Mirror, ...] | None], bool] = _nothing_changes
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
        """Let go of what has changed: a deleted blob's disk space waits for it.

        And of what others are known to have since, or no more: its head says so.
        """
        for blob in list(self._blobs.values()):
            right = self.still(blob.watched.info.digest, blob.mirrors)
            if not right or not blob.watched.unchanged():
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


def _nothing_changes(_digest: Digest, _told: object) -> bool:
    return True


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
