"""An open blob, for as long as somebody reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtfc.disk import Disk, Lane
from dtfc.integrity.reading import Reading

if TYPE_CHECKING:
    from dtfc.digest import Digest
    from dtfc.integrity.reading import Checks
    from dtfc.store.blobs import BlobInfo, OpenBlob, Store


class Holding:
    """An open blob that is closed behind the last read, whoever was cancelled.

    Args:
        store: where it lies.
        disk: where blocking work runs.
        checks: verifies what is read of it.
    """

    def __init__(self, store: Store, disk: Disk, checks: Checks) -> None:
        self._store = store
        self._checks = checks
        self.lane = Lane(disk)
        self._blob: OpenBlob | None = None
        self._reading: Reading | None = None

    async def open(self, digest: Digest) -> tuple[BlobInfo, Reading]:
        """Open the blob, on the lane.

        Raises:
            Absent, Denied, StoreFailure: as the store says.
        """
        return await self.lane.run(self._open, digest)

    def _open(self, digest: Digest) -> tuple[BlobInfo, Reading]:
        self._close()
        blob = self._blob = self._store.open(digest)
        self._reading = Reading(self._checks, digest, blob.fd, blob.length)
        return blob.info, self._reading

    def close(self) -> None:
        """Close it, after everything that was queued."""
        self.lane.run(self._close)

    def _close(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.close()
        blob, self._blob = self._blob, None
        if blob is not None:
            blob.close()
