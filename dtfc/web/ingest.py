"""From a request's body into the store, at the pace of the disk.

A write is on its way to the disk thread while the next MiB arrives: receiving,
and hashing with writing, overlap, and memory holds two blocks an upload.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dtfc.disk import Disk, Lane
from dtfc.errors import Absent, StaysDeleted, TooLarge

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from dtfc.digest import Digest
    from dtfc.store.blobs import Store
    from dtfc.store.incoming import Intake, Stored
    from dtfc.web.body import RequestBody

#: Bytes for each trip to the disk thread: large enough that the trip costs
#: nothing beside hashing (2.2 ms a MiB), small enough to keep memory flat.
BLOCK = 1024 * 1024


class Ingest:
    """One blob on its way in.

    Args:
        store: where it goes.
        disk: where blocking work runs.
        limit: most bytes it may have; None for no limit.
    """

    def __init__(self, store: Store, disk: Disk, limit: int | None) -> None:
        self._store = store
        self._lane = Lane(disk)
        self._limit = limit
        self._intake: Intake | None = None
        self._writing: Deferred[None] | None = None
        self._received = 0

    async def open(self, length: int | None, *, want_sha256: bool = False) -> None:
        """Make room.

        Args:
            length: bytes that will come, where that is known.
            want_sha256: whether :meth:`commit` is to check a SHA-256 as well.

        Raises:
            TooLarge: more than the limit.
            NoSpace: there is no room for it.
            StoreFailure: the disk refuses.
        """
        self._check_limit(length or 0)
        await self._lane.run(self._open, length, want_sha256)

    def _open(self, length: int | None, want_sha256: bool) -> None:  # noqa: FBT001 -- run by the lane
        # Kept here and not returned: if the coroutine is cancelled meanwhile,
        # close() must still find it.
        self._intake = self._store.intake(length, want_sha256=want_sha256)

    async def write(self, blocks: Sequence[bytes]) -> None:
        """Queue blocks for the disk, once the blocks before are written.

        Raises:
            TooLarge: more came than the limit allows.
            NoSpace: the disk is full.
            StoreFailure: the disk refuses.
        """
        self._received += sum(map(len, blocks))
        self._check_limit(self._received)
        await self._settle()
        self._writing = self._lane.run(self._write, blocks)

    def _write(self, blocks: Sequence[bytes]) -> None:
        if self._intake is not None:
            self._intake.write(blocks)

    async def receive(self, body: RequestBody) -> None:
        """Write a whole body.

        Raises:
            DtfcError: whatever stopped it; nothing is stored then.
        """
        while blocks := await body.read(BLOCK):
            await self.write(blocks)

    async def commit(
        self,
        name: str | None,
        *,
        digest: Digest | None = None,
        sha256: bytes | None = None,
        deliberate: bool = True,
    ) -> Stored:
        """Make it a blob, durably.

        Args:
            name: the file name it came with.
            digest: the SHA-512 it must have, if one was promised.
            sha256: the same for SHA-256.
            deliberate: False for a copy that another node sends.

        Raises:
            StaysDeleted: a copy of what was deleted here.
            WrongDigest, WrongLength: it is not what was announced.
            Denied: an operator's marker forbids this blob.
            NoSpace, StoreFailure: the disk refuses.
        """
        await self._settle()
        return await self._lane.run(
            self._commit, name, digest=digest, sha256=sha256, deliberate=deliberate
        )

    def _commit(self, name: str | None, **promised: Any) -> Stored:
        if self._intake is None:
            raise RuntimeError("commit before open")
        return commit(self._intake, name, **promised)

    def close(self) -> None:
        """Leave no trace of what was not committed."""
        writing, self._writing = self._writing, None
        if writing is not None:
            # Its failure was reported by another way, or nobody is left to hear.
            writing.addErrback(lambda _failure: None)
        self._lane.run(self._discard)

    def _discard(self) -> None:
        if self._intake is not None:
            self._intake.discard()

    async def _settle(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    def _check_limit(self, length: int) -> None:
        if self._limit is not None and length > self._limit:
            raise TooLarge(self._limit, "--max-body")


def commit(
    intake: Intake,
    name: str | None,
    *,
    digest: Digest | None = None,
    sha256: bytes | None = None,
    deliberate: bool = True,
) -> Stored:
    """Make what an intake took a blob; all else as of :meth:`Ingest.commit` (blocks)."""
    try:
        return intake.commit(name, digest=digest, sha256=sha256, deliberate=deliberate)
    except Absent as absent:
        # Deleted while its body came.
        raise StaysDeleted(absent.digest_hex) from absent
