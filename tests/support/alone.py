"""The upkeep of a node that has no peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from dtfc.digest import Digest
from dtfc.disk import Disk
from dtfc.errors import Absent
from dtfc.integrity.reading import Mode
from dtfc.integrity.scrubber import Pace
from dtfc.integrity.upkeep import Upkeep
from dtfc.store.blobs import Store


class NoPieces:
    """Nobody has anything."""

    async def fetch(
        self, digest: Digest, _length: int, _start: int, _count: int, _is_right: Callable[..., bool]
    ) -> bytes:
        raise Absent(digest.hex, everywhere=True)


def upkeep_alone(store: Store, disk: Disk, pieces: Any = None) -> Upkeep:
    """Return what verifies and heals; not started, so it does not scrub.

    Args:
        store: whose blobs.
        disk: where blocking work runs.
        pieces: of blobs; nobody has any, if None.
    """

    def load(digest: Digest) -> Deferred[object]:
        return fail(Absent(digest.hex, everywhere=True))

    return Upkeep(
        store,
        disk,
        pieces or NoPieces(),
        load,
        Clock(),
        mode=Mode.CHUNK,
        pace=Pace(),
        retry_every=60.0,
    )
