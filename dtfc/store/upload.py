"""One upload, held: bytes are added at its end, made durable, and become a blob.

Rules of this file: an offset that is told is durable before. Bytes count from
the moment they are written; those of a part with a checksum when it was compared.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from dtfc.digest import Digest
from dtfc.errors import DtfcError, WrongDigest, WrongLength
from dtfc.store.chunkmap import CHUNK
from dtfc.store.door import Door, Whole
from dtfc.store.uploadstate import SLOTS
from dtfc.store.volume import Scratch, Volume, write_all

if TYPE_CHECKING:
    from dtfc.store.facts import Stored
    from dtfc.store.incoming import Growth
    from dtfc.store.uploadstate import Known, Place, State


class Home(Protocol):
    """Where an upload lies: what :class:`dtfc.store.uploads.Uploads` does for it."""

    def keep(self, name: str, place: Place, known: Known) -> None:
        """Replace what is known of it, durably."""

    def note(self, name: str, line: bytes, slot: int, *, durable: bool) -> None:
        """Note how far it is."""

    def remember(self, name: str, number: int, slot: int, source: Scratch, growth: Growth) -> None:
        """Keep what was hashed of it."""

    def remove(self, name: str) -> None:
        """Take it away."""


class Upload:
    """An upload that is held.

    Used from one thread at a time, but :meth:`catch_up` may run in another one
    beside.

    Args:
        name: its id.
        source: its bytes, locked; without a descriptor if it is over.
        state: what its file says of it, durably.
        growth: what is hashed of it.
        offset: bytes that have come, durable or not.
        home: where it lies.
        door: where the whole goes.
        volume: the file system.
    """

    def __init__(
        self,
        name: str,
        source: Scratch,
        state: State,
        growth: Growth,
        *,
        offset: int,
        home: Home,
        door: Door,
        volume: Volume,
    ) -> None:
        self.name = name
        self.known = state.known
        self.offset = offset
        """Bytes that have come."""
        self._source = source
        self._place = state.place
        # Which line is durable: the other one is written over.
        self._durable = state.slot
        self._unsynced = False
        self._growth = growth
        self._home = home
        self._door = door
        self._volume = volume
        self._part_from: int | None = None
        self._lost: DtfcError | None = None
        # Who hashes holds it, and who changes what was hashed.
        self._hashing = threading.Lock()
        if source.fd >= 0:
            self._note(durable=False)

    @property
    def length(self) -> int | None:
        """Of the whole, in bytes; None while that is not known."""
        return self.known.announced.length

    @property
    def complete(self) -> bool:
        """Whether all bytes have come."""
        return self.known.over or self.offset == self.length

    @property
    def behind(self) -> bool:
        """Whether more bytes have come than were hashed."""
        return self._source.fd >= 0 and self._growth.length < self.offset

    # -- what is known ----------------------------------------------------------------

    def set_length(self, length: int) -> None:
        """Note how long the whole is, durably.

        Raises:
            WrongLength: it was announced to be another one, or more has come.
            NoSpace, StoreFailure: as the operating system says.
        """
        if self.length == length:
            return
        if self.length is not None:
            raise WrongLength(self.length, length)
        if length < self.offset:
            raise WrongLength(length, self.offset)
        self._know(replace(self.known, announced=replace(self.known.announced, length=length)))

    def joined_in(self, name: str) -> None:
        """Note that its bytes are part of another upload now, and free them.

        Raises:
            NoSpace, StoreFailure: as the operating system says.
        """
        self._know(replace(self.known, joined=name))
        self.drop_bytes()

    def is_stored(self, stub: dict[str, Any]) -> None:
        """Note that it is a blob now, and what its client is answered.

        Raises:
            NoSpace, StoreFailure: as the operating system says.
        """
        self._know(replace(self.known, stored=stub))
        self.drop_bytes()

    def _know(self, known: Known) -> None:
        self._home.keep(self.name, self._place, known)
        self._durable = 0
        self.known = known

    # -- more ---------------------------------------------------------------------------

    def reserve(self, count: int) -> None:
        """Make sure that so many more bytes fit.

        Raises:
            NoSpace: they do not.
        """
        self._volume.require_room(count)

    def begin_part(self) -> None:
        """Let what comes now wait for its checksum: :meth:`end_part` says whether it is right.

        Raises:
            StoreFailure: as the operating system says.
        """
        # What is there is durable first: it is where a part that is wrong goes back to.
        self.sync()
        with self._hashing:
            self._growth.mark()
        self._part_from = self.offset
        self._place = replace(self._place, unproven=True)
        self._note(durable=False)

    def end_part(self, *, right: bool) -> None:
        """Keep a part, or discard it.

        Raises:
            StoreFailure: as the operating system says.
        """
        start, self._part_from = self._part_from, None
        if not right and start is not None:
            self._cut_to(start)
        if right:
            self._make_durable()
            self._place = replace(self._place, offset=self.offset)
        self._place = replace(self._place, unproven=False)
        self._note(durable=right)

    def write(self, blocks: Sequence[bytes]) -> None:
        """Take the next bytes.

        Raises:
            WrongLength: these are more than were announced; nothing of them counts.
            NoSpace, StoreFailure: as the operating system says; what was there
                before stays.
        """
        if self._lost is not None:
            # These belong behind bytes that are not there any more.
            raise self._lost
        size = sum(map(len, blocks))
        if self.length is not None and self.offset + size > self.length:
            raise WrongLength(self.length, self.offset + size)
        try:
            with self._hashing:
                level = self._growth.length == self.offset
                if level:
                    self._growth.append(blocks)
            if not level:
                self._volume.require_room(size)
                with self._volume.failing("write", size):
                    write_all(self._source.fd, blocks, self.offset)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self._source.fd, self.offset)
            raise
        self.offset += size

    def _cut_to(self, offset: int) -> None:
        with self._hashing, self._volume.failing("discard a part of an upload"):
            os.ftruncate(self._source.fd, offset)
            self.offset = offset
            if self._growth.length <= offset:
                return
            try:
                self._growth.rewind(offset)
            except ValueError:
                self._growth.restart()

    def catch_up(self, most: int = 8) -> None:
        """Hash what is there behind what was hashed.

        Args:
            most: MiB to read.

        Raises:
            StoreFailure: it cannot be read.
        """
        for _ in range(most):
            with self._hashing, self._volume.failing("read an upload"):
                at = self._growth.length
                left = self.offset - at
                if left <= 0 or self._source.fd < 0:
                    return
                content = os.pread(self._source.fd, min(left, CHUNK - at % CHUNK), at)
                if not content:
                    raise OSError(5, "an upload is shorter than it was")
                self._growth.take([content])

    def sync(self) -> int:
        """Make all that has come durable; return how much of it counts.

        Raises:
            NoSpace, StoreFailure: it is not, and never will be.
        """
        counts = self.offset if self._part_from is None else self._part_from
        if self._source.fd >= 0 and counts != self._place.offset:
            before = self._place.offset
            self._make_durable()
            self._place = replace(self._place, offset=counts)
            try:
                self._note(durable=True)
            except DtfcError:
                # Nobody is told of it before it is noted.
                self._place = replace(self._place, offset=before)
                raise
        return counts

    def _make_durable(self) -> None:
        """Make the bytes durable; those that cannot be are taken away.

        The kernel forgets what it could not write: the next fsync would succeed, and
        the whole would be a blob that has the right digest and the wrong bytes.
        """
        if self._lost is not None:
            raise self._lost
        try:
            self._volume.sync(self._source.fd, "make an upload durable")
        except DtfcError as error:
            self._lost = error
            self._cut_to(self._place.offset)
            raise

    def _note(self, *, durable: bool) -> None:
        self._place = replace(self._place, number=self._place.number + 1)
        if self._unsynced:
            # An fsync of that file has failed, and is not tried again: there is a new one.
            self._home.keep(self.name, self._place, self.known)
            self._durable, self._unsynced = 0, False
            return
        slot = (self._durable + 1) % SLOTS
        self._unsynced = durable
        self._home.note(self.name, self._place.line(), slot, durable=durable)
        if durable:
            self._durable, self._unsynced = slot, False

    # -- its end ------------------------------------------------------------------------

    def enter(self) -> Stored:
        """Make the whole a blob; when this returns it is durable.

        The upload stays until :meth:`is_stored` is told: whoever repeats this
        finds the blob.

        Raises:
            WrongDigest: it is not what was promised; the upload is gone.
            WrongLength: not all of it is here.
            Absent, Denied, BadName, NoSpace, StoreFailure: as the door says.
        """
        while self.behind:
            self.catch_up()
        if self.offset != self.length:
            raise WrongLength(self.length or 0, self.offset)
        with self._hashing:
            digest = Digest(self._growth.sha512.digest())
            self._compare(digest)
            if not self._door.has(digest, self.offset):
                self._door.seal(self._source)
            whole = Whole(self._source, digest, self.offset, self._growth.chunk_map())
            return self._door.enter(whole, self.known.announced.name, deliberate=True)

    def _compare(self, digest: Digest) -> None:
        told = self.known.announced
        actual = {"SHA-512": (told.sha512, digest.hex)}
        if told.sha256 is not None:
            actual["SHA-256"] = (told.sha256, self._growth.sha256.hexdigest())
        for algorithm, (expected, found) in actual.items():
            if expected is not None and expected != found:
                self.discard()
                raise WrongDigest(algorithm, expected, found)

    def read_into(self, other: Upload) -> None:
        """Append all bytes to another upload.

        Raises:
            NoSpace, StoreFailure: as the operating system says.
        """
        at = 0
        while at < self.offset:
            with self._volume.failing("read a part of an upload"):
                content = os.pread(self._source.fd, CHUNK, at)
                if not content:
                    raise OSError(5, "an upload is shorter than it was")
            other.write([content])
            at += len(content)

    def close(self) -> None:
        """Let others have it; what came of a part that waits for its checksum goes.

        Harmless when repeated.

        Raises:
            NoSpace, StoreFailure: what has come is not durable.
        """
        if self._source.fd < 0:
            return
        try:
            if self._part_from is not None:
                self.end_part(right=False)
            self.sync()
            with self._hashing:
                number = self._place.number
                self._home.remember(self.name, number, self._durable, self._source, self._growth)
        finally:
            with self._hashing:
                self._source.path = None
                self._source.drop()

    def discard(self) -> None:
        """Take it away; harmless when repeated."""
        self._home.remove(self.name)
        self._part_from = None
        self._source.path = None
        self._source.drop()

    def drop_bytes(self) -> None:
        """Free its bytes, which are elsewhere by now."""
        with self._hashing:
            # Its name goes with it; the blob has its own.
            self._source.drop()
