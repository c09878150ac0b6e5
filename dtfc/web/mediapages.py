"""``/ffmetadata``: what ffprobe says of a blob."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from dtfc.errors import Absent, Corrupt
from dtfc.store.chunkmap import CHUNK
from dtfc.web.fields import caching
from dtfc.web.holding import Holding
from dtfc.web.source import BlobSource

if TYPE_CHECKING:
    from dtfc.digest import Digest
    from dtfc.disk import Disk
    from dtfc.integrity.upkeep import Upkeep
    from dtfc.media.probe import Prober, Result
    from dtfc.store.blobs import Store
    from dtfc.web.blobs import Blobs
    from dtfc.web.request import Request

JSON = "application/json"

#: Seconds for which a cache may keep it: another ffprobe may say more.
MAX_AGE = 3600

#: Times that a file is opened anew because it was healed while it was verified.
TRIES = 3


class MediaPages:
    """Answers with what ffprobe says.

    Args:
        prober: asks it.
        blobs: says who may read.
        store: this node's blobs.
        disk: where blocking work runs.
        upkeep: verifies them.
        load: gets from the peers what is not here.
    """

    def __init__(  # noqa: PLR0917 -- the rooms that it joins
        self,
        prober: Prober,
        blobs: Blobs,
        store: Store,
        disk: Disk,
        upkeep: Upkeep,
        load: Callable[[Digest], Awaitable[object]],
    ) -> None:
        self._prober = prober
        self._blobs = blobs
        self._store = store
        self._disk = disk
        self._upkeep = upkeep
        self._load = load

    async def describe(self, request: Request, digest: Digest) -> None:
        """Answer with the metadata of a media file; load it first if it is not here.

        Raises:
            NoProgram: there is no ffprobe; said before anything is loaded.
            NotMedia, ProbeFailed, TooManyProbes: as the prober says.
            DtfcError: as the gate, the store and the loader say.
        """
        await self._blobs.admit_reader(request, digest)
        _ = self._prober.program
        try:
            await self._disk.run(self._store.stat, digest)
        except Absent as absent:
            if absent.deleted:
                raise
            await self._load(digest)

        def on_file(use: Callable[[int], Awaitable[Result]]) -> Awaitable[Result]:
            return self._on_file(digest, use)

        said = await self._prober.describe(digest.hex, on_file)
        request.put("Cache-Control", caching(MAX_AGE, request))
        body = json.dumps({"sha512": digest.hex, **said}, ensure_ascii=False)
        request.answer(200, body.encode("utf-8", "replace") + b"\n", JSON)

    async def _on_file(self, digest: Digest, use: Callable[[int], Awaitable[Result]]) -> Result:
        """Verify all of a blob, and hand over its file.

        All of it: what a reader of media files looks at is for the file to say.

        Raises:
            Corrupt: it is damaged, and cannot be healed.
        """
        for _ in range(TRIES):
            holding = Holding(self._store, self._disk, self._upkeep.checks)
            try:
                info, reading = await holding.open(digest)
                source = BlobSource(reading, self._upkeep.healing.heal, self._upkeep.clock)
                files = set()
                for start in range(0, max(info.length, 1), CHUNK):
                    count = min(CHUNK, info.length - start)
                    ready = source.ready(start, count)
                    files.add(
                        ready if ready >= 0 else await source.prepare(holding.lane, start, count)
                    )
                if len(files) == 1:
                    return await use(files.pop())
            finally:
                holding.close()
        raise Corrupt(digest.hex)
