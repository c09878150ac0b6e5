"""Where else a blob can be had: ``Link`` fields, and ``GET /<digest>.meta4``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtfc import __version__
from dtfc.errors import Absent
from dtfc.http.links import METALINK, MetalinkFile, Mirror, country_of, link_values
from dtfc.names import content_disposition, name_in_xml
from dtfc.store.chunkmap import CHUNK
from dtfc.web.blobs import name_of
from dtfc.web.chunkmaps import map_of
from dtfc.web.holding import Holding
from dtfc.web.transmit import Pace

if TYPE_CHECKING:
    from dtfc.digest import Digest
    from dtfc.disk import Disk
    from dtfc.integrity.upkeep import Upkeep
    from dtfc.peers.mirrors import Mirrors
    from dtfc.store.blobs import Store
    from dtfc.web.blobs import Blobs
    from dtfc.web.request import Request

GENERATOR = f"dtfc/{__version__}"

#: What the path of a node's own request ends in: it asks others by itself.
_FOR_NODES = b"/nopeerload"


class Links:
    """Says in the heads of answers where else a blob can be had.

    Args:
        mirrors: knows where.
    """

    def __init__(self, mirrors: Mirrors) -> None:
        self._mirrors = mirrors

    def of(self, digest: Digest, length: int) -> tuple[Mirror, ...] | None:
        """Return where else a blob of so many bytes can be had; None if that is not said."""
        # One piece is here before a second connection is made.
        if length <= CHUNK or not self._mirrors.names_any:
            return None
        return self._mirrors.of(digest)

    def still(self, digest: Digest, told: tuple[Mirror, ...] | None) -> bool:
        """Whether what was said (:meth:`of`) is still right."""
        return told is None or self._mirrors.still(digest, told)

    async def recall(self, request: Request, digest: Digest, length: int) -> None:
        """Remember who was given a blob, before it is answered with."""
        if length > CHUNK and _wants_links(request):
            await self._mirrors.recall(digest)

    def put(self, request: Request, digest: Digest, length: int) -> None:
        """Set the fields of an answer."""
        if _wants_links(request):
            values = link_values(digest, self.of(digest, length))
            if values:
                request.responseHeaders.setRawHeaders("Link", values)

    def look_for_more(self, request: Request, digest: Digest, length: int) -> None:
        """See to it that the next answer knows more, if this one knew of nobody."""
        if length > CHUNK and _wants_links(request):
            self._mirrors.find_later(digest, length)


def _wants_links(request: Request) -> bool:
    # A signature is for one path of one node.
    return request.fresh_for is None and not request.path.endswith(_FOR_NODES)


class MetalinkPages:
    """Answers with Metalink files.

    Args:
        blobs: says who may read, and what peers say of a blob.
        store: this node's blobs.
        disk: where blocking work runs.
        upkeep: verifies them.
        mirrors: knows who else has them.
        zone: where this node stands; replaced when the configuration is read again.
    """

    def __init__(
        self,
        blobs: Blobs,
        store: Store,
        disk: Disk,
        upkeep: Upkeep,
        mirrors: Mirrors,
        *,
        zone: str = "",
    ) -> None:
        self._blobs = blobs
        self._store = store
        self._disk = disk
        self._upkeep = upkeep
        self._mirrors = mirrors
        self.zone = zone

    @property
    def answers(self) -> bool:
        """Whether there are such files."""
        return self._mirrors.names_any

    async def describe(self, request: Request, digest: Digest) -> None:
        """Answer with the Metalink of a blob; nothing is loaded for it.

        Raises:
            Absent, PeersUnreached: nobody has it, as far as is known.
            Corrupt: it is damaged here.
            DtfcError: as the gate and the store say.
        """
        await self._blobs.admit_reader(request, digest)
        holding = Holding(self._store, self._disk, self._upkeep.checks)
        try:
            info, reading = await holding.open(digest)
            found = await map_of(reading, holding.lane, self._upkeep)
        except Absent as absent:
            if absent.deleted:
                raise
            remote = await self._blobs.remote(digest)
            # The length is a peer's word: it is no reason to doubt another's.
            mirrors = await self.places(request, digest, None)
            length, stored_name, hashes = remote.length, remote.name, b""
        else:
            mirrors = await self.places(request, digest, info.length)
            length, stored_name, hashes = info.length, info.name, found.hashes
        finally:
            holding.close()
        name = name_of(request, stored_name) or digest.hex
        file = MetalinkFile(
            name_in_xml(name, digest.hex),
            length,
            digest.hex,
            mirrors,
            piece=CHUNK,
            hashes=hashes,
            generator=GENERATOR,
        )
        await _send(request, file, f"{name}.meta4")

    async def places(self, request: Request, digest: Digest, length: int | None) -> list[Mirror]:
        """Return where a blob can be had, the best place first.

        Args:
            request: who asks, and under which name.
            digest: which blob.
            length: its bytes; None if it is not here, so that this node comes last.
        """
        own = Mirror(f"{request.site.edge.origin_of(request)}/{digest}", country_of(self.zone))
        await self._mirrors.find(digest, length)
        others = self._mirrors.of(digest)
        return [*others, own] if length is None else [own, *others]


async def _send(request: Request, file: MetalinkFile, name: str) -> None:
    request.setResponseCode(200)
    request.put("Content-Type", METALINK)
    request.put("Content-Length", str(file.size))
    request.put("Content-Disposition", content_disposition(name, inline=False))
    request.put("Accept-Ranges", "none")
    request.put("Cache-Control", "no-store")
    pace = Pace()
    request.registerProducer(pace, True)
    try:
        request.write(b"")
        if request.method != b"HEAD":
            for block in file.blocks():
                await pace.turn()
                request.write(block)
    finally:
        if request.channel is not None:
            request.unregisterProducer()
    request.finish()
