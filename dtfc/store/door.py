"""The one door in: bytes are written, hashed, made durable, and only then have a digest.

The order of a commit (each step is done before the next one begins):

1. the bytes are whole, have the promised digest, are read-only, and are synced;
2. the blob's folder is there and locked, and no marker forbids the blob;
3. its name is written (a blob never lacks its name);
4. the file is linked into place, which replaces nothing;
5. the folder, and those that lead to it, are synced;
6. a tombstone, if a deliberate PUT lifts one, is removed, and that is synced; if
   it was of a deletion everywhere, the record of the revival is durable before;
7. the catalog knows the blob.

What is cut off before step 4 leaves no blob; after it, a whole one that was
never acknowledged.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from dataclasses import dataclass

from dtfc.digest import Digest
from dtfc.errors import Absent, Denied, DtfcError
from dtfc.store import notes
from dtfc.store.catalog import Catalog
from dtfc.store.chunkmap import CHUNK, ChunkMap
from dtfc.store.collected import renew
from dtfc.store.facts import BlobInfo, Marker, Stored
from dtfc.store.folders import Folders
from dtfc.store.graves import Graves, clear, describe
from dtfc.store.layout import Layout
from dtfc.store.records import Record
from dtfc.store.repair import Repair
from dtfc.store.volume import Scratch, Volume


def refuse_marked(marker: Marker | None, digest: Digest, layout: Layout) -> None:
    """Refuse what a marker denies to readers and loads.

    Raises:
        Denied: a 403.
        Absent: a 404, an operator's or a tombstone.
    """
    if marker is None:
        return
    if marker.status == 404:
        raise Absent(digest.hex, deleted=True)
    raise forbidden(marker, digest, layout)


def forbidden(marker: Marker, digest: Digest, layout: Layout) -> Denied:
    """Return the refusal that an operator's marker stands for."""
    return Denied(
        f"a marker of this node's operator (the file {marker.status}) denies this blob",
        f"to allow it, the operator removes {layout.relative(digest)}/{marker.status}",
    )


def holds(folders: Folders, digest: Digest) -> bool:
    """Tell whether a blob is here and may be read.

    Raises:
        OSError: that cannot be found out.
    """
    folder = folders.open(digest)
    if folder is None:
        return False
    try:
        return notes.read_marker(folder) is None and notes.is_regular(folder, notes.DATA)
    finally:
        os.close(folder)


@dataclass(frozen=True, slots=True)
class Whole:
    """Bytes that are whole and have a digest.

    Args:
        file: that holds them; its own name, if any, stays.
        digest: what they hash to.
        length: how many they are.
        map: their chunk map; None if they need none.
    """

    file: Scratch
    digest: Digest
    length: int
    map: ChunkMap | None = None


class Door:
    """What every commit goes through.

    Args:
        layout: where blobs lie.
        volume: the file system.
        folders: their folders.
        catalog: told of every blob before it is acknowledged.
        repair: keeps the quarantine.
        graves: what is remembered of deletions.
    """

    def __init__(
        self,
        layout: Layout,
        volume: Volume,
        folders: Folders,
        catalog: Catalog,
        *,
        repair: Repair,
        graves: Graves,
    ) -> None:
        self._layout = layout
        self._volume = volume
        self._folders = folders
        self._catalog = catalog
        self._repair = repair
        self._graves = graves

    def has(self, digest: Digest, length: int) -> bool:
        """Tell whether these bytes lie here already, denied or not.

        Raises:
            StoreFailure: as the operating system says.
        """
        with self._volume.failing("look at a blob"):
            folder = self._folders.open(digest)
        if folder is None:
            return False
        try:
            return self._length(folder) == length
        finally:
            os.close(folder)

    def allow_load(self, digest: Digest) -> None:
        """Refuse a load of what was deleted here, or is denied, as :meth:`enter` does.

        Raises:
            Denied: an operator's marker forbids it.
            Absent: it was deleted here.
            StoreFailure: as the operating system says.
        """
        with self._volume.failing("look at a blob"):
            folder = self._folders.open(digest)
        if folder is None:
            return
        try:
            self._tombstone(folder, digest, deliberate=False)
            self._revival(folder, digest, deliberate=False)
        finally:
            os.close(folder)

    def seal(self, source: Scratch) -> None:
        """Make a file's bytes read-only and durable, once.

        Raises:
            NoSpace, StoreFailure: they are not durable, and never will be.
        """
        if not source.sealed:
            with self._volume.failing("make a blob read-only"):
                os.fchmod(source.fd, 0o444)
            self._volume.sync(source.fd, "make a blob's bytes durable")
            source.sealed = True

    def enter(self, whole: Whole, name: str | None, *, deliberate: bool) -> Stored:
        """Store bytes that are whole.

        Args:
            whole: the bytes.
            name: the file name to store it under.
            deliberate: True for a client's PUT, which lifts a tombstone; False
                for a load, or a copy that another node sends: these never do.

        Raises:
            Denied: an operator's marker forbids it.
            Absent: a load of what was deleted here.
            NoSpace, StoreFailure: the operating system refuses; nothing is
                stored.
        """
        digest = whole.digest
        with self._folders.making(digest) as folder:
            tombstone = self._tombstone(folder, digest, deliberate=deliberate)
            revival = self._revival(folder, digest, deliberate=deliberate)
            self._catalog.begin(digest)
            info, new = self._place(folder, whole, name, again=tombstone)
            if revival is not None:
                # The bytes are durable, and hidden: from here on it is a PUT.
                self._revive(folder, revival, new=new)
            if tombstone:
                self._graves.lift(folder)
            # It is seen from here on, so the catalog must say so, whatever comes.
            if revival is not None:
                self._graves.note(revival)
            self._catalog.record(info)
            if tombstone:
                self._folders.sync_leaf(digest, folder)
        return Stored(info, new=new, revival=revival)

    def _tombstone(self, folder: int, digest: Digest, *, deliberate: bool) -> bool:
        with self._volume.failing("read a marker"):
            marker = notes.read_marker(folder)
        if marker is None:
            return False
        if not deliberate:
            refuse_marked(marker, digest, self._layout)
        if marker.by_operator:
            raise forbidden(marker, digest, self._layout)
        # What the deletion left behind when it was cut off goes now, so that
        # the blob comes back without the names it was deleted with.
        clear(self._volume, folder)
        return True

    def _revival(self, folder: int, digest: Digest, *, deliberate: bool) -> Record | None:
        if deliberate:
            return self._graves.revival_of(folder, digest, secrets.token_hex(16))
        if self._graves.is_deleted(folder, digest):
            raise Absent(digest.hex, deleted=True)
        return None

    def _revive(self, folder: int, revival: Record, *, new: bool) -> None:
        try:
            self._graves.write_record(folder, revival)
        except DtfcError:
            # Nobody would hear that it is back. What stays is not always hidden:
            # the tombstone is missing where an operator's marker stood for it.
            if new:
                self._undo(folder, revival.digest)
            raise
        self._folders.sync_leaf(revival.digest, folder)

    def _place(
        self, folder: int, whole: Whole, name: str | None, *, again: bool
    ) -> tuple[BlobInfo, bool]:
        new = False
        digest = whole.digest
        try:
            here = self._length(folder)
            if here is not None and not self._is_sound(folder, whole, here):
                self._quarantine(folder, digest)
                here = None
            if here is None:
                self.seal(whole.file)
                self._name_new(folder, digest, name, again=again)
                self._map_new(folder, whole.map)
                with self._volume.failing("link a blob into place", whole.length):
                    try:
                        whole.file.link(folder, notes.DATA)
                        new = True
                    except FileExistsError:
                        # By a program that knows no locks. Its bytes are not
                        # ours, so they must be what they claim to be.
                        here = self._length(folder)
                        if here is None or not self._is_sound(folder, whole, here):
                            raise
            if not new:
                self._sync_theirs(folder)
                with self._volume.failing("note that a blob was stored again"):
                    renew(folder)
                if name is not None:
                    self._add_name(folder, name)
            info = self._present(folder, digest)
            # Nothing that can fail comes after this, but the lifting of a tombstone.
            self._folders.sync(digest, folder)
        except BaseException:
            if new:
                # Not durable, so not stored. Under a tombstone it was never
                # visible; else it was, for a moment, and whole.
                self._undo(folder, digest)
            self._catalog.abandon(digest)
            raise
        return info, new

    def _is_sound(self, folder: int, whole: Whole, here: int) -> bool:
        """Tell whether what lies in the blob's place has the blob's bytes.

        To say yes to a PUT of a blob whose copy here has rotted would be to
        lose it; and the right bytes are at hand.
        """
        if here != whole.length:
            return False
        with self._volume.failing("read a blob"):
            fd = notes.open_regular(folder, notes.DATA)
            if fd is None:
                return False
            try:
                return _same(fd, whole.file.fd, whole.length)
            finally:
                os.close(fd)

    def _length(self, folder: int) -> int | None:
        """Return the size of the data that is here; -1 if it is no regular file."""
        with self._volume.failing("look at a blob"):
            try:
                facts = os.stat(notes.DATA, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return None
        return facts.st_size if stat.S_ISREG(facts.st_mode) else -1

    def _quarantine(self, folder: int, digest: Digest) -> None:
        """Move aside what lies in the blob's place and is not the blob."""
        with self._volume.failing("move a damaged blob aside"):
            self._repair.move_aside(folder, digest)

    def _map_new(self, folder: int, chunk_map: ChunkMap | None) -> None:
        """Write the chunk map of a blob that is not here yet; an older one is of no use.

        It can be made again at any time, so it is not made durable.
        """
        if chunk_map is not None:
            self._volume.replace(folder, notes.CHUNKS, chunk_map.content(), durable=False)

    def _name_new(self, folder: int, digest: Digest, name: str | None, *, again: bool) -> None:
        """Write the name of a blob that is not here yet.

        Names that lie there are of no blob, unless its bytes are in quarantine.
        Of one that was deleted it is written that it has none, too: a log may
        still know the name that went with the deletion.
        """
        if self._repair.is_quarantined(digest):
            if name is not None:
                self._add_name(folder, name)
            return
        if name is not None or again:
            names = () if name is None else (name,)
            self._volume.replace(folder, notes.NAMES, notes.names_file(names))
            return
        with self._volume.failing("remove a stale name"), contextlib.suppress(FileNotFoundError):
            os.unlink(notes.NAMES, dir_fd=folder)

    def _sync_theirs(self, folder: int) -> None:
        """Make the bytes that are here already durable: another program may have put them."""
        with self._volume.failing("open a blob"):
            fd = notes.open_regular(folder, notes.DATA)
        if fd is not None:
            try:
                self._volume.sync(fd, "make a blob's bytes durable")
            finally:
                os.close(fd)

    def _add_name(self, folder: int, name: str) -> None:
        """Make a name the current one; the caller holds the lock, and syncs.

        Raises:
            NoSpace, StoreFailure: as the operating system says.
        """
        with self._volume.failing("read a blob's names"):
            names = notes.read_names(folder)
        if not names or names[-1] != name:
            wanted = notes.names_file(notes.with_name(names, name))
            self._volume.replace(folder, notes.NAMES, wanted)

    def _undo(self, folder: int, digest: Digest) -> None:
        """Take away what was just placed; of a blob in quarantine its names and map stay."""
        names = [notes.DATA]
        with contextlib.suppress(DtfcError):
            if not self._repair.is_quarantined(digest):
                names += [notes.NAMES, notes.CHUNKS]
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)

    def again(self, digest: Digest, name: str | None) -> BlobInfo:
        """Store a blob once more that is here, without its bytes, durably.

        Raises:
            BadName: the name cannot be kept.
            Absent, Denied: the blob is not here, or a marker denies it.
            NoSpace, StoreFailure: as the operating system says.
        """
        if name is not None:
            notes.check_line(name)
        with self._folders.existing(digest) as folder:
            if folder is None:
                raise Absent(digest.hex)
            with self._volume.failing("read a marker"):
                refuse_marked(notes.read_marker(folder), digest, self._layout)
            self._present(folder, digest)
            self._catalog.begin(digest)
            with self._volume.failing("note that a blob was stored again"):
                renew(folder)
            if name is not None:
                self._add_name(folder, name)
            # What leads to the folder as well: it may stand in a log alone.
            self._folders.sync(digest, folder)
            info = self._present(folder, digest)
            self._catalog.record(info)
            return info

    def settle(self, digest: Digest) -> None:
        """Make the catalog say of one digest what the tree says.

        Raises:
            StoreFailure: as the operating system says.
        """
        if not self._settled(digest):
            # No folder, so no blob; unless a PUT makes one right now, and then
            # what we forget here may be what it has just entered.
            self._catalog.forget(digest)
            self._settled(digest)

    def _settled(self, digest: Digest) -> bool:
        with self._folders.existing(digest) as folder:
            if folder is None:
                return False
            self._graves.settle(folder, digest)
            return True

    def _present(self, folder: int, digest: Digest) -> BlobInfo:
        info = self.describe(folder, digest)
        if info is None:
            raise Absent(digest.hex)
        return info

    def describe(self, folder: int, digest: Digest) -> BlobInfo | None:
        """Return the facts of the blob in a folder, whatever its markers; None if there is none.

        Raises:
            StoreFailure: as the operating system says.
        """
        return describe(self._volume, folder, digest)


def _same(one: int, other: int, length: int) -> bool:
    """Tell whether two files begin with the same so many bytes; what cannot be read differs.

    Raises:
        OSError: as the operating system says, but for what the disk has lost.
    """
    for at in range(0, length, CHUNK):
        size = min(CHUNK, length - at)
        try:
            theirs = os.pread(one, size, at)
        except OSError as error:
            if error.errno == errno.EIO:
                return False
            raise
        if theirs != os.pread(other, size, at):
            return False
    return True
