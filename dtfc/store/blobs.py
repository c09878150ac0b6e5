"""The store: what is here, and every way in and out.

Blocking code. A :class:`Store` may be used from many threads at once, and
several processes may have the same store open; what keeps them apart is on the
disk (``flock`` on a blob's folder, on a partial, on a temporary file).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Self

from dtfc.digest import Digest
from dtfc.errors import Absent, BrokenStore, StaysDeleted, StoreFailure
from dtfc.store import notes
from dtfc.store.catalog import Catalog, Reindexed
from dtfc.store.collected import Collected
from dtfc.store.door import Door, forbidden, holds, refuse_marked
from dtfc.store.facts import BlobInfo, Deleted, Heard, Marker, Space, Stored
from dtfc.store.folders import Folders
from dtfc.store.graves import Graves
from dtfc.store.incoming import Intake
from dtfc.store.layout import Layout, is_shard, open_layout
from dtfc.store.looking import Watched
from dtfc.store.memory import Memory
from dtfc.store.partials import Partial, Partials
from dtfc.store.power import Running
from dtfc.store.records import Record
from dtfc.store.repair import Repair
from dtfc.store.replay import Replay
from dtfc.store.together import Together
from dtfc.store.uploads import Uploads
from dtfc.store.volume import Volume
from dtfc.store.watched import WatchedBlob

__all__ = [
    "DEFAULT_RESERVE",
    "BlobInfo",
    "Deleted",
    "Marker",
    "OpenBlob",
    "Space",
    "Store",
    "Stored",
    "open_store",
]

DEFAULT_RESERVE = 64 << 20
_PROBE = bytes(4096)

# What the catalog has to know of a blob's folder.
_REMEMBERED = (notes.DATA, notes.TOMBSTONE, notes.RECORD)


class OpenBlob:
    """A blob that is open for reading, and stays readable if it is deleted meanwhile.

    Args:
        info: its facts at the time.
        fd: the descriptor, which belongs to this object.
    """

    __slots__ = ("fd", "info")

    def __init__(self, info: BlobInfo, fd: int) -> None:
        self.info = info
        self.fd = fd

    @property
    def length(self) -> int:
        """In bytes."""
        return self.info.length

    def close(self) -> None:
        """Close the descriptor; harmless when repeated."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def open_store(
    basedir: str,
    *,
    temp: str | None = None,
    fan_out: int | None = None,
    reserve: int = DEFAULT_RESERVE,
    anonymous_files: bool = True,
) -> Store:
    """Open the store at ``basedir``, or make one; quick, however large it is.

    A tree of the 2015 program is taken over as it is.

    Args:
        basedir: the store's folder.
        temp: where bytes are written until they are whole; it must be on the
            same file system, else it is not used and ``store.temp_refused``
            says why.
        fan_out: 64 or 2 for a new store; None takes 64, or what is there.
        reserve: bytes of the file system kept back from blobs.
        anonymous_files: False does without ``O_TMPFILE`` even where there is one.

    Raises:
        BrokenStore: its own files make no sense, are of a later version, or
            have another fan-out.
        NoSpace, StoreFailure: the operating system refuses.
    """
    layout = open_layout(basedir, fan_out)
    volume = Volume(layout, temp=temp, reserve=reserve, anonymous_files=anonymous_files)
    folders = Folders(layout, volume)
    try:
        catalog = Catalog(
            layout.own("catalog"),
            populated=lambda: _has_shards(layout.basedir),
            shows=lambda digest: holds(folders, digest),
        )
        try:
            with volume.failing("open its folder"):
                running = Running(layout.own("running"), catalog.require_reindex)
            try:
                # Until now it may have been given another form: from here on it is not.
                _require_form(layout)
            except BaseException:
                running.close()
                raise
        except BaseException:
            catalog.close()
            raise
    except BaseException:
        folders.close()
        raise
    store = Store(layout, volume, folders, catalog, running)
    try:
        store.recover()
    except BaseException:
        store.close()
        raise
    return store


def _require_form(layout: Layout) -> None:
    if open_layout(layout.basedir) != layout:
        raise BrokenStore(layout.basedir, "was given another fan-out while it was opened")


def _has_shards(base: str) -> bool:
    return any(is_shard(name) for name in os.listdir(base))


class Store:
    """One store; made by :func:`open_store`.

    Args:
        layout: where blobs lie.
        volume: the file system.
        folders: the folders of blobs.
        catalog: the index.
        running: the sign that the store is open.
    """

    def __init__(
        self, layout: Layout, volume: Volume, folders: Folders, catalog: Catalog, running: Running
    ) -> None:
        self.layout = layout
        self.catalog = catalog
        self._volume = volume
        self._folders = folders
        self._running = running
        self.repair = Repair(layout, volume, folders, catalog)
        self.memory = Memory(catalog)
        self.collected = Collected(layout, volume, folders, catalog)
        self._graves = Graves(
            layout,
            volume,
            folders,
            catalog,
            memory=self.memory,
            repair=self.repair,
            release=self.collected.release,
        )
        self._door = Door(layout, volume, folders, catalog, repair=self.repair, graves=self._graves)
        self._partials = Partials(layout.own("partial"), self._door, volume)
        self.uploads = Uploads(layout.own("uploads"), self._door, volume, time.time)

    @property
    def node_id(self) -> str:
        """32 hexadecimal digits that name this node for ever."""
        return self.layout.node_id

    @property
    def needs_reindex(self) -> bool:
        """Whether the catalog may disagree with the tree, so that it must be rebuilt."""
        return self.catalog.needs_reindex

    @property
    def temp_refused(self) -> str | None:
        """Why the folder asked for is not used for temporary files; None if it is."""
        return self._volume.temp_refused

    @property
    def failed_syncs(self) -> int:
        """How many fsyncs have failed since the store was opened."""
        return self._volume.failed_syncs

    def note_failed_sync(self) -> None:
        """Count an fsync that failed in another process which writes for this one."""
        self._volume.count_failed_sync()

    def recover(self) -> None:
        """Tidy up after processes that were killed; safe while others run.

        Raises:
            StoreFailure: as the operating system says.
        """
        self._volume.sweep()
        self._partials.sweep()
        Replay(self.layout, self._volume, self._folders, self._door).run()
        for digest in self.catalog.unsettled():
            self.settle(digest)

    def close(self) -> None:
        """Close the store; nothing may be in progress. Harmless when repeated."""
        # The catalog first: its last bytes are on the disk before the sign goes.
        self.catalog.close()
        self._running.close()
        self._folders.close()

    # -- out ----------------------------------------------------------------

    @contextlib.contextmanager
    def _folder(self, digest: Digest, operation: str) -> Iterator[int | None]:
        """Hold the folder of a blob, unlocked, and map what goes wrong inside."""
        with self._volume.failing(operation):
            fd = self._folders.open(digest)
            try:
                yield fd
            finally:
                if fd is not None:
                    os.close(fd)

    def marker(self, digest: Digest) -> Marker | None:
        """Return what denies a blob, if anything does; 403 wins over 404.

        Raises:
            StoreFailure: as the operating system says.
        """
        with self._folder(digest, "read a marker") as folder:
            return None if folder is None else notes.read_marker(folder)

    def may_store(self, digest: Digest) -> None:
        """Return if a blob may be stored; a tombstone does not stand in the way.

        Raises:
            Denied: an operator's marker forbids it.
            StoreFailure: as the operating system says.
        """
        marker = self.marker(digest)
        if marker is not None and marker.by_operator:
            raise forbidden(marker, digest, self.layout)

    def stat(self, digest: Digest) -> BlobInfo:
        """Return the facts of a blob.

        Raises:
            Absent: it is not here, or a 404 marker says so (``deleted``).
            Denied: a 403 marker.
            StoreFailure: as the operating system says.
        """
        with self._folder(digest, "look at a blob") as folder:
            if folder is None:
                raise Absent(digest.hex)
            refuse_marked(notes.read_marker(folder), digest, self.layout)
            info = self._door.describe(folder, digest)
            if info is None:
                # It may have been deleted since we looked for a marker.
                refuse_marked(notes.read_marker(folder), digest, self.layout)
                raise self._absent(folder, digest)
            return info

    def open(self, digest: Digest) -> OpenBlob:
        """Open a blob for reading.

        Only a regular file, reached through no symbolic link, is a blob.

        Raises:
            Absent: it is not here, or a 404 marker says so (``deleted``).
            Denied: a 403 marker.
            StoreFailure: as the operating system says.
        """
        with self._folder(digest, "open a blob") as folder:
            if folder is None:
                raise Absent(digest.hex)
            refuse_marked(notes.read_marker(folder), digest, self.layout)
            fd = notes.open_regular(folder, notes.DATA)
            if fd is None:
                # It may have been deleted since we looked for a marker.
                refuse_marked(notes.read_marker(folder), digest, self.layout)
                raise self._absent(folder, digest)
            try:
                facts = os.fstat(fd)
                names = notes.read_names(folder)
            except BaseException:
                os.close(fd)
                raise
            name = names[-1] if names else None
            return OpenBlob(BlobInfo(digest, facts.st_size, facts.st_mtime, name, names), fd)

    def _absent(self, folder: int, digest: Digest) -> Absent:
        """Say that a blob is not here; of one that is deleted everywhere, that it will not be.

        Its tombstone is not there if it could not be: an operator's marker was
        in its place, and has been taken away.
        """
        return Absent(digest.hex, deleted=self._graves.is_deleted(folder, digest))

    def watch(self, digest: Digest) -> WatchedBlob | None:
        """Open a blob together with its folder, to answer for it again and again.

        Returns:
            None while it has only just changed: a further change might not show.

        Raises:
            Absent, Denied, StoreFailure: as :meth:`open`.
        """
        with self._folder(digest, "watch a blob") as folder:
            if folder is None:
                raise Absent(digest.hex)
            # Before anything is read: what changes later then shows.
            seen = os.fstat(folder).st_ctime_ns
            names = notes.open_regular(folder, notes.NAMES)
            blob: OpenBlob | None = None
            try:
                blob = self.open(digest)
                held = os.dup(folder)
            except BaseException:
                if blob is not None:
                    blob.close()
                if names is not None:
                    os.close(names)
                raise
            watched = WatchedBlob(blob.info, blob.fd, held, -1 if names is None else names, seen)
            if watched.settled() and watched.unchanged():
                return watched
            watched.close()
            return None

    def holds(self, digest: Digest) -> bool:
        """Tell whether a blob is here and may be read.

        Raises:
            StoreFailure: as the operating system says.
        """
        with self._volume.failing("look at a blob"):
            return holds(self._folders, digest)

    def walk(self) -> Iterator[Digest]:
        """Yield every digest that has its data here, denied or not, in order.

        Raises:
            StoreFailure: a folder cannot be listed.
        """
        for digest, folder in self._folders.walk():
            if notes.is_regular(folder, notes.DATA):
                yield digest

    def survey(
        self,
        after: Digest | None,
        stray: Callable[[str], object],
        unlisted: Callable[[str], object],
    ) -> Iterator[tuple[Digest, int]]:
        """Walk over every folder of a blob, whatever lies in it.

        Args:
            after: begin behind this one.
            stray: told of every path that leads to no blob.
            unlisted: told of every folder that cannot be listed.

        Yields:
            The digest, and the descriptor of its folder, which is closed when
            the next one is asked for.

        Raises:
            StoreFailure: not even the store's own folder can be listed.
        """
        return self._folders.walk(after, stray, unlisted)

    @contextlib.contextmanager
    def folder_of(self, digest: Digest) -> Iterator[int]:
        """Hold the folder of a blob open.

        Raises:
            Absent: it has none.
            StoreFailure: as the operating system says.
        """
        with self._folder(digest, "open a blob's folder") as folder:
            if folder is None:
                raise Absent(digest.hex)
            yield folder

    def missing(self) -> Iterator[Digest | None]:
        """Yield what the catalog says is here, and is not.

        Nothing while the catalog itself waits to be rebuilt.

        Yields:
            The digest; None for each blob that is here, or in a folder that
            cannot be read, so that who asks can pace it.
        """
        last: Digest | None = None
        while not self.needs_reindex and (page := self.catalog.digests(last)):
            for digest in page:
                # Unless it went while we looked.
                yield digest if self._is_gone(digest) and self.catalog.has(digest) else None
            last = page[-1]

    def _is_gone(self, digest: Digest) -> bool:
        try:
            return not self.keeps(digest) and self.marker(digest) is None
        except StoreFailure:
            return False  # who knows

    # -- in -----------------------------------------------------------------

    def intake(self, length: int | None, *, want_sha256: bool = False) -> Intake:
        """Begin to store bytes.

        Args:
            length: how many will come, if that is known.
            want_sha256: whether a SHA-256 will be compared at the end.

        Raises:
            NoSpace: they do not fit beside the reserve.
            StoreFailure: as the operating system says.
        """
        return Intake(self._door, self._volume, length, want_sha256=want_sha256)

    def together(self) -> Together:
        """Begin to store small blobs in groups; for one thread, which closes it.

        Raises:
            Unsupported: this system lacks a call that is needed.
            NoSpace, StoreFailure: there is no room for its logs.
        """
        return Together(self.layout, self._volume, self._folders, self.catalog, self.settle)

    def partial(self, digest: Digest) -> Partial:
        """Begin to load a blob, or go on with what an earlier process left.

        Raises:
            Busy: it is being loaded already, by this process or another one.
            NoSpace, StoreFailure: as the operating system says.
        """
        return self._partials.open(digest)

    def watch_partial(self, digest: Digest) -> Watched | None:
        """Look at what another process loads; None if there is nothing to be seen (yet).

        Raises:
            StoreFailure: as the operating system says.
        """
        return self._partials.watch(digest)

    def expire_partials(self, older_than_seconds: float, now: float) -> int:
        """Remove loads that nobody has gone on with; return how many.

        Args:
            older_than_seconds: since the last byte.
            now: seconds since 1970.

        Raises:
            StoreFailure: they cannot be listed.
        """
        return self._partials.expire(now - older_than_seconds)

    def store_again(self, digest: Digest, name: str | None) -> BlobInfo:
        """Store a blob once more that is here, without its bytes, durably.

        Raises:
            BadName: the name cannot be kept.
            Absent, Denied: as :meth:`stat`.
            NoSpace, StoreFailure: as the operating system says.
        """
        return self._door.again(digest, name)

    # -- away ---------------------------------------------------------------

    def delete(self, digest: Digest) -> Deleted:
        """Delete a blob, and block its digest: neither a load nor a peer brings it back.

        The tombstone is durable before the first byte goes. A marker of the
        operator's stays as it is, and the bytes go all the same.

        Raises:
            NoSpace: there is not even room for a tombstone; nothing has changed.
            StoreFailure: as the operating system says.
        """
        deleted = self._graves.bury(digest)
        self._partials.drop(digest)
        return deleted

    def delete_everywhere(self, digest: Digest, name: str) -> Deleted:
        """Delete a blob here, and leave a record of it that the other nodes must hear.

        Args:
            digest: the blob.
            name: the id of the deletion, 32 hexadecimal digits; its receipt is
                called so.

        Raises:
            NoSpace: there is no room for the record; the blob may be gone from
                this node, but the others will not hear of it.
            StoreFailure: as the operating system says.
        """
        deleted = self._graves.bury_everywhere(digest, name)
        self._partials.drop(digest)
        return deleted

    def hear(self, record: Record) -> Heard:
        """Take what another node has told of a deletion everywhere, or of what came after.

        Older records than the one that is known change nothing, nor does the
        same one again.

        Raises:
            NoSpace, StoreFailure: it is not remembered.
        """
        heard = self._graves.hear(record)
        if heard.changed and record.deleted:
            self._partials.drop(record.digest)
        return heard

    def may_copy(self, digest: Digest) -> None:
        """Return if a copy that another node sends may be stored.

        Raises:
            StaysDeleted: it was deleted here, or everywhere.
            Denied: an operator's marker forbids it.
            StoreFailure: as the operating system says.
        """
        with self._folder(digest, "read a marker") as folder:
            if folder is None:
                return
            marker = notes.read_marker(folder)
            if marker is not None and marker.by_operator:
                raise forbidden(marker, digest, self.layout)
            if marker is not None or self._graves.is_deleted(folder, digest):
                raise StaysDeleted(digest.hex)

    # -- the disk -----------------------------------------------------------

    @property
    def reserve(self) -> int:
        """Bytes of the file system that are kept back."""
        return self._volume.reserve

    def set_reserve(self, reserve: int) -> None:
        """Keep back so many bytes of the file system from now on."""
        self._volume.reserve = reserve

    def space(self) -> Space:
        """Say how much room there is.

        Raises:
            StoreFailure: the file system does not answer.
        """
        return self._volume.space()

    def writable(self) -> None:
        """Try whether a PUT could be stored now: writes, syncs and drops a small file.

        Raises:
            NoSpace: only the reserve is left.
            StoreFailure: the disk refuses, or has lost writes since the store
                was opened.
        """
        self._volume.require_room(len(_PROBE))
        probe = self._volume.scratch()
        try:
            with self._volume.failing("write", len(_PROBE)):
                os.pwrite(probe.fd, _PROBE, 0)
            self._volume.sync(probe.fd, "make a test file durable")
        finally:
            probe.drop()

    # -- the catalog --------------------------------------------------------

    def reindex(self, stopped: Callable[[], bool] = lambda: False) -> Reindexed:
        """Rebuild the catalog from the tree; PUTs and DELETEs may go on.

        Args:
            stopped: asked again and again; True gives up, to be done another time.

        Raises:
            Draining: it was given up.
            StoreFailure: the tree cannot be listed, or the catalog not read.
        """
        return self.catalog.reindex(self, stopped)

    def folders(self) -> Iterator[Digest]:
        """Yield every digest that has data, a tombstone or a record here, in order.

        Raises:
            StoreFailure: a folder cannot be listed.
        """
        for digest, folder in self._folders.walk():
            if any(notes.is_regular(folder, name) for name in _REMEMBERED):
                yield digest

    def keeps(self, digest: Digest) -> bool:
        """Tell whether a blob's bytes are here, whatever an operator's marker says.

        Raises:
            StoreFailure: as the operating system says.
        """
        with self._folder(digest, "look at a blob") as folder:
            if folder is None or not notes.is_regular(folder, notes.DATA):
                return False
            marker = notes.read_404(folder)
            return marker is None or marker.by_operator

    def settle(self, digest: Digest) -> None:
        """Make the catalog say of one digest what the tree says.

        Raises:
            StoreFailure: as the operating system says.
        """
        self._door.settle(digest)
