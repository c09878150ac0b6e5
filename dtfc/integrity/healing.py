"""What is done about a blob that turned out to be damaged.

Its wrong chunk is fetched from a peer, checked, and sent in the response that
found it; meanwhile the blob is made whole in the background, in a new file. If
no peer has the chunk, the blob goes to quarantine, and the response is cut
before the chunk. From quarantine it is brought back when a peer has what is
missing.

Rules of this file: one mending a blob, joined by all who need it; nothing that
goes wrong here leaves a wrong byte where it can be read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtfc.digest import Digest
from dtfc.disk import Disk, Lane
from dtfc.errors import Absent, Corrupt, Draining, DtfcError, PeersUnreached, StoreFailure
from dtfc.integrity.damaged import Damaged, Pieces
from dtfc.integrity.examining import examine
from dtfc.integrity.mending import Mending, Patch
from dtfc.integrity.reading import Reading
from dtfc.store.blobs import Store
from dtfc.store.chunkmap import CHUNK
from dtfc.store.repair import Repair


class Healing:
    """Mends what is damaged, or puts it aside.

    Args:
        store: where it lies.
        disk: where blocking work runs.
        pieces: gets right bytes.
        most: blobs that are read or copied whole at once; each takes a disk
            thread for as long as that lasts.
    """

    _log = Logger()

    def __init__(self, store: Store, disk: Disk, pieces: Pieces, most: int = 2) -> None:
        self._store = store
        self._repair: Repair = store.repair
        self._disk = disk
        self._pieces = pieces
        self._damaged: dict[Digest, Damaged] = {}
        self._lacking: dict[str, int] = {}
        self._turns = DeferredSemaphore(most)
        self._stopping = False
        self.healed = 0
        """Blobs made whole so far."""
        self.healed_chunks = 0
        """Chunks that came from a peer so far."""
        self.quarantined = 0
        """Blobs put aside so far."""

    # -- in a response --------------------------------------------------------

    async def heal(self, reading: Reading, chunk: int | None) -> None:
        """Make a chunk of a blob that is being sent available, from a peer.

        The reading takes the chunk from there; the blob is mended meanwhile.

        Args:
            reading: of the damaged file.
            chunk: which one is wrong; None if only the whole is known to be.

        Raises:
            Corrupt: no peer has it, and the blob is in quarantine now; or this
                node cannot store what a peer has.
        """
        try:
            damaged = await self._find(reading, chunk)
            with self._used(damaged):
                try:
                    await self._fetch(damaged, chunk or 0)
                except (Absent, PeersUnreached):
                    if not await self._right_after_all(damaged):
                        raise
                    reading.forget_map()
                    return
                reading.take_from(damaged.patch)
                self._begin(damaged)
        except (Absent, PeersUnreached) as error:
            await self._put_aside(reading.digest, reading.inode, error)
            raise Corrupt(reading.digest.hex, chunk) from error
        except DtfcError as error:
            # The disk, say. It is found again by who reads it next.
            digest = reading.digest.hex
            self._log.error("{digest} is damaged and stays: {why}", digest=digest, why=str(error))
            raise Corrupt(digest, chunk) from error

    @contextlib.contextmanager
    def _used(self, damaged: Damaged) -> Iterator[None]:
        """Keep a damaged file meanwhile; nobody mends what no peer had anything of."""
        damaged.users += 1
        try:
            yield
        finally:
            damaged.users -= 1
            if not damaged.users and damaged.mending is None:
                if self._damaged.get(damaged.digest) is damaged:
                    del self._damaged[damaged.digest]
                self._disk.run(damaged.close)

    async def heal_later(self, reading: Reading, chunk: int | None) -> None:
        """Begin to mend a blob that a peer asked for; the peer asks somebody else.

        Args:
            reading: of the damaged file.
            chunk: which one is wrong.

        Raises:
            Corrupt: always.
        """
        mending = Deferred.fromCoroutine(self.mend(reading.digest))
        mending.addErrback(lambda failure: self._log.failure("mending", failure))
        raise Corrupt(reading.digest.hex, chunk)

    async def _find(self, reading: Reading, chunk: int | None) -> Damaged:
        """Return the file with what was fetched for it.

        Raises:
            Absent: it has no chunk map, so nobody can say what to fetch.
        """
        if chunk is None:
            raise Absent(reading.digest.hex)
        known = self._damaged.get(reading.digest)
        if known is not None and known.inode == reading.inode:
            return known
        damaged = await self._opened(reading)
        # Somebody else may have been quicker meanwhile.
        known = self._damaged.setdefault(reading.digest, damaged)
        if known is not damaged and known.inode == damaged.inode:
            damaged.close()
            return known
        self._damaged[reading.digest] = damaged
        return damaged

    async def _opened(self, reading: Reading) -> Damaged:
        lane = Lane(self._disk)
        opened: list[Damaged | None] = []
        try:
            await lane.run(lambda: opened.append(self._open(reading)))
        except BaseException:
            # The client may have left while it was opened.
            lane.run(_close_all, opened)
            raise
        if opened[0] is None:
            raise Absent(reading.digest.hex)
        return opened[0]

    def _open(self, reading: Reading) -> Damaged | None:
        chunk_map = self._repair.read_map(reading.digest, reading.length)
        if chunk_map is None and reading.length > CHUNK:
            return None
        patch = Patch(self._repair.scratch())
        try:
            fd = os.dup(reading.fd)
        except OSError as error:
            patch.close()
            raise StoreFailure("open a damaged blob", error) from error
        return Damaged(reading.digest, fd, reading.length, chunk_map, patch)

    async def _fetch(self, damaged: Damaged, index: int) -> None:
        """Get a chunk into the patch; whoever wants it meanwhile waits for the same."""
        while not damaged.patch.has(index):
            others = damaged.fetching.get(index)
            if others is not None:
                # Fired when the one who fetches it has ended, however.
                turn: Deferred[None] = Deferred()
                others.append(turn)
                await turn
                continue
            waiting = damaged.fetching[index] = []
            try:
                content = await self._chunk(damaged, index)
                await self._disk.run(damaged.patch.put, index, content)
            except OSError as error:
                raise StoreFailure("write a healed chunk", error) from error
            finally:
                del damaged.fetching[index]
                for each in waiting:
                    if not each.called:
                        each.callback(None)

    async def _chunk(self, damaged: Damaged, index: int) -> bytes:
        start = index * CHUNK
        content = await self._pieces.fetch(
            damaged.digest,
            damaged.length,
            start,
            min(CHUNK, damaged.length - start),
            damaged.is_right(index),
        )
        self.healed_chunks += 1
        return content

    # -- the blob as a whole --------------------------------------------------

    async def mend(self, digest: Digest) -> bool:
        """Make a damaged blob whole, or put it aside.

        Returns:
            Whether it is whole now.
        """
        known = self._damaged.get(digest)
        if known is None:
            try:
                opened = await self._disk.run(self._open_blob, digest)
            except DtfcError:
                return False  # it has gone meanwhile
            if isinstance(opened, int):
                await self._put_aside(digest, opened, Absent(digest.hex))
                return False
            # Somebody else may have been quicker meanwhile.
            known = self._damaged.setdefault(digest, opened)
            if known is not opened:
                self._disk.run(opened.close)
        done = self.healed
        await self._join(known)
        return self.healed > done

    def _open_blob(self, digest: Digest) -> Damaged | int:
        """Open a blob to mend it; its inode if the whole has to be loaded."""
        with self._store.open(digest) as blob:
            chunk_map = self._repair.read_map(digest, blob.length)
            if chunk_map is None and blob.length > CHUNK:
                return os.fstat(blob.fd).st_ino
            patch = Patch(self._repair.scratch())
            try:
                fd = os.dup(blob.fd)
            except OSError as error:
                patch.close()
                raise StoreFailure("open a damaged blob", error) from error
            return Damaged(digest, fd, blob.length, chunk_map, patch)

    def _begin(self, damaged: Damaged) -> Deferred[None]:
        if damaged.mending is None:
            damaged.mending = Deferred.fromCoroutine(self._mend(damaged))
        return damaged.mending

    async def _join(self, damaged: Damaged) -> None:
        # A Deferred of one's own: who is cancelled must not stop the mending.
        done: Deferred[None] = Deferred()

        def tell(result: Failure | None) -> Failure | None:
            if not done.called:
                done.callback(None)
            return result

        self._begin(damaged).addBoth(tell)
        await done

    async def _mend(self, damaged: Damaged) -> None:
        lane = Lane(self._disk)
        digest = damaged.digest
        try:
            if await self._rebuild(damaged, lane):
                self.healed += 1
                self._log.info("healed {digest}", digest=digest.hex)
        except Draining:
            pass
        except (Absent, PeersUnreached, Corrupt) as error:
            if not await self._right_after_all(damaged):
                await self._put_aside(digest, damaged.inode, error)
        except DtfcError as error:
            self._log.error("{digest} is damaged and stays: {why}", digest=digest.hex, why=error)
        except Exception:  # noqa: BLE001 - nobody waits for it, so it has to be told here
            self._log.failure("mending {digest}", digest=digest.hex)
        finally:
            if self._damaged.get(digest) is damaged:
                del self._damaged[digest]
            lane.run(damaged.close)

    async def _right_after_all(self, damaged: Damaged) -> bool:
        """Whether the digest says that nothing is damaged.

        The map may lie, or the disk have erred once. One examination a blob,
        joined by all who ask.
        """
        if damaged.map is None:
            return False
        if damaged.doubt is None:
            damaged.doubt = Deferred.fromCoroutine(self._doubt(damaged))
        done: Deferred[bool] = Deferred()

        def tell(result: bool) -> bool:  # noqa: FBT001 -- a callback
            if not done.called:
                done.callback(result)
            return result

        damaged.doubt.addCallback(tell)
        return await done

    async def _doubt(self, damaged: Damaged) -> bool:
        with self._used(damaged):
            await self._turns.acquire()
            try:
                return await self._disk.run(self._is_right, damaged)
            except Draining:
                return True  # nobody can say, so it stays
            except Exception:  # noqa: BLE001 - somebody waits, and has to be told something
                self._log.failure("reading {digest}", digest=damaged.digest.hex)
                return False
            finally:
                self._turns.release()

    def _is_right(self, damaged: Damaged) -> bool:
        """Take the digest of the whole; if that is right, so is the map that it gives."""
        try:
            found = examine(
                damaged.fd, damaged.digest, damaged.length, None, stopped=lambda: self._stopping
            )
        except OSError:
            return False
        if found.made is not None and found.made != damaged.map:
            self._repair.write_map(found.made)
        return found.right

    async def _rebuild(self, damaged: Damaged, lane: Lane) -> bool:
        mendings: list[Mending] = []

        def open_one() -> None:
            # Kept, so that it is closed whoever is cancelled.
            mendings.append(
                Mending(
                    self._repair,
                    damaged.fd,
                    damaged.digest,
                    damaged.length,
                    damaged.map,
                    stopped=lambda: self._stopping,
                )
            )

        await self._turns.acquire()
        try:
            await lane.run(open_one)
            mending = mendings[0]
            for index in await lane.run(mending.copy, damaged.patch):
                damaged.lacking = index
                content = await self._chunk(damaged, index)
                await lane.run(mending.put, index, content)
            await lane.run(mending.verify)
            return await lane.run(
                self._repair.put_right, damaged.digest, mending.new, damaged.inode
            )
        except OSError as error:
            raise StoreFailure("mend a blob", error) from error
        finally:
            lane.run(_close_all, mendings)
            self._turns.release()

    async def _put_aside(self, digest: Digest, inode: int | None, why: DtfcError) -> None:
        try:
            moved = await self._disk.run(self._repair.quarantine, digest, inode)
        except DtfcError as error:
            self._log.error("{digest} is damaged: {why}", digest=digest.hex, why=error)
            return
        if moved:
            self.quarantined += 1
            self._log.error(
                "{digest} is damaged, and in quarantine now: {why}", digest=digest.hex, why=why
            )

    # -- what lies in quarantine ----------------------------------------------

    async def retry(self, load: Callable[[Digest], Deferred[object]]) -> int:
        """Try to bring back what lies in quarantine; return how many blobs are here again.

        Args:
            load: brings a blob from the peers, for one that has no chunk map.
        """
        entries = await self._disk.run(lambda: list(self._repair.quarantined()))
        back = 0
        there = {path for _, path in entries}
        self._lacking = {path: chunk for path, chunk in self._lacking.items() if path in there}
        for digest, path in entries:
            if self._stopping:
                break
            try:
                back += await self._bring_back(digest, path, load)
            except (Absent, PeersUnreached):
                continue
            except DtfcError as error:
                self._log.warn("{digest} stays in quarantine: {why}", digest=digest.hex, why=error)
        return back

    async def _bring_back(
        self, digest: Digest, path: str, load: Callable[[Digest], Deferred[object]]
    ) -> bool:
        if digest in self._damaged:
            return False
        damaged = await self._disk.run(self._open_quarantined, digest, path)
        if damaged is None:
            await load(digest)
        else:
            self._damaged[digest] = damaged
            lane = Lane(self._disk)
            try:
                if path in self._lacking:
                    # Nothing is copied until somebody has what nobody had last time.
                    await self._fetch(damaged, self._lacking[path])
                if not await self._rebuild(damaged, lane):
                    return False
            except Corrupt:
                await load(digest)
            except (Absent, PeersUnreached):
                if damaged.lacking is not None:
                    self._lacking[path] = damaged.lacking
                if damaged.map is not None:
                    raise
                # It may have been cut off, and no peer has one of that length.
                await load(digest)
            finally:
                del self._damaged[digest]
                lane.run(damaged.close)
        self.healed += 1
        self._log.info("{digest} is back from quarantine", digest=digest.hex)
        return True

    def _open_quarantined(self, digest: Digest, path: str) -> Damaged | None:
        """Open what can be mended; None if the whole has to be loaded.

        Raises:
            Absent: it need not be brought back.
        """
        if self._store.holds(digest) or self._store.marker(digest) is not None:
            self._repair.release(digest)
            raise Absent(digest.hex)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            length = os.fstat(fd).st_size
            chunk_map = self._repair.read_map(digest, length)
            if chunk_map is None and length > CHUNK:
                os.close(fd)
                return None
            patch = Patch(self._repair.scratch())
            return Damaged(digest, fd, length, chunk_map, patch)
        except BaseException:
            os.close(fd)
            raise

    async def stop(self) -> None:
        """Give up what is under way; it is found again."""
        self._stopping = True
        for damaged in list(self._damaged.values()):
            if damaged.mending is not None:
                await self._join(damaged)


def _close_all(opened: Sequence[Mending | Damaged | None]) -> None:
    for each in opened:
        if each is not None:
            each.close()
