"""How a blob goes, and what is remembered of it in its folder.

A deletion here is a tombstone, durable before the first byte goes. A deletion
everywhere has a record as well (:mod:`dtfc.store.records`), which stands in the
tombstone; beside a marker that is not ours to change (an operator's, or the
tombstone of a deletion that was meant for this node alone), and of a revival, it
stands in a file of its own. So the tree holds all of it, and the catalog can be
made anew from there.

Every method takes what it needs to know from the folder, whose lock the caller
holds or which it takes itself, so processes and threads agree.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import stat
from typing import TYPE_CHECKING

from dtfc.errors import DtfcError, NoSpace, StoreFailure
from dtfc.store import notes
from dtfc.store.facts import BlobInfo, Deleted, Heard, Marker
from dtfc.store.listing import Tombstone
from dtfc.store.records import Record, newest, next_deletion, next_revival

if TYPE_CHECKING:
    from collections.abc import Callable

    from dtfc.digest import Digest
    from dtfc.store.catalog import Catalog
    from dtfc.store.folders import Folders
    from dtfc.store.layout import Layout
    from dtfc.store.memory import Memory
    from dtfc.store.repair import Repair
    from dtfc.store.volume import Volume

#: Bytes of the disk for each level of a new folder.
_FOLDER_COSTS = 4096


class Graves:
    """Deletes blobs, and keeps what is remembered of that.

    Args:
        layout: where blobs lie.
        volume: the file system.
        folders: their folders.
        catalog: told of every deletion before it is acknowledged.
        memory: told of every record before the catalog is.
        repair: keeps the quarantine.
        release: removes what was collected of a blob that is deleted.
    """

    def __init__(
        self,
        layout: Layout,
        volume: Volume,
        folders: Folders,
        catalog: Catalog,
        *,
        memory: Memory,
        repair: Repair,
        release: Callable[[Digest], None],
    ) -> None:
        self._layout = layout
        self._volume = volume
        self._folders = folders
        self._catalog = catalog
        self._memory = memory
        self._repair = repair
        self._release = release

    # -- deleting -----------------------------------------------------------

    def bury(self, digest: Digest) -> Deleted:
        """Delete a blob here: its tombstone is durable before the first byte goes.

        A marker of the operator's stays as it is, and the bytes go all the same.

        Raises:
            NoSpace: there is not even room for an empty marker; nothing has
                changed.
            StoreFailure: as the operating system says.
        """
        with self._folders.making(digest) as folder:
            info = describe(self._volume, folder, digest)
            marker = self._marker(folder)
            self._catalog.begin(digest)
            at = text_of(marker, "deleted")
            line = b""
            buried = True
            if marker is None:
                at = now()
                line = notes.tombstone_line(at, self._layout.node_id, info)
                buried = self._bury(folder, line)
            self._folders.sync(digest, folder)
            clear(self._volume, folder)
            if at is None and info is not None:
                # No tombstone says so, and a log may still hold the bytes.
                with contextlib.suppress(NoSpace):
                    self._volume.replace(folder, notes.NAMES, notes.names_file(()))
            self._folders.sync_leaf(digest, folder)
            if not buried:
                self._bury_after_all(digest, folder, line)
            self._repair.release(digest)
            self._release(digest)
            node = text_of(marker, "node") or self._layout.node_id
            self._catalog.forget(digest, None if at is None else Tombstone(digest, at, node))
        return Deleted(info, at)

    def bury_everywhere(self, digest: Digest, name: str) -> Deleted:
        """Delete a blob here, and remember what all the others must hear.

        Args:
            digest: the blob.
            name: the id of the deletion.

        Raises:
            NoSpace: there is no room for the record; the blob may be gone from
                this node, but the others will not hear of it.
            StoreFailure: as the operating system says.
        """
        with self._folders.making(digest) as folder:
            known = self._known(folder, digest)
            record = next_deletion(known, digest, name=name, at=now(), node=self._layout.node_id)
            info = self._bury_with(folder, record)
        return Deleted(info, record.at, record)

    def hear(self, record: Record) -> Heard:
        """Take a record that another node has told, if it is newer than what is known.

        A deletion takes the blob away and leaves a tombstone. A revival lifts
        such a tombstone, so that the blob may be loaded again; a tombstone of
        this node's own, or an operator's marker, stays.

        Raises:
            NoSpace, StoreFailure: it is not remembered.
        """
        digest = record.digest
        self._require_room(digest)
        with self._folders.making(digest) as folder:
            known = self._known(folder, digest)
            if known is not None and not record.newer_than(known):
                self._catch_up(folder, known)
                return Heard(known, changed=False)
            if record.deleted:
                return Heard(record, changed=True, info=self._bury_with(folder, record))
            self._catalog.begin(digest)
            self.write_record(folder, record)
            self._folders.sync(digest, folder)
            self._lift_void(folder, record)
            self._memory.note(record)
            self._tell_catalog(folder, digest)
        return Heard(record, changed=True)

    def _catch_up(self, folder: int, record: Record) -> None:
        """Do what the disk refused when a record came first: it stands in the tree alone.

        Raises:
            StoreFailure: the disk refuses again.
        """
        digest = record.digest
        if self._memory.get(digest) == record:
            return
        marker = self._marker(folder)
        if record.deleted and marker is not None:
            clear(self._volume, folder)
            self._folders.sync_leaf(digest, folder)
        self._memory.note(record, ours=self._layout.node_id)
        self._tell_catalog(folder, digest)

    def _require_room(self, digest: Digest) -> None:
        """Keep the reserve for what frees the disk: the deletion of what is here.

        Raises:
            NoSpace: to remember something of what never was here would eat into it.
        """
        with self._volume.failing("open a blob's folder"):
            folder = self._folders.open(digest)
        if folder is None:
            self._volume.require_room(_FOLDER_COSTS * len(self._layout.levels(digest)))
        else:
            os.close(folder)

    def _bury_with(self, folder: int, record: Record) -> BlobInfo | None:
        """Delete under a record; the caller holds the lock."""
        digest = record.digest
        info = describe(self._volume, folder, digest)
        marker = self._marker(folder)
        self._catalog.begin(digest)
        line = notes.tombstone_line(record.at, record.node, info, record)
        ours = marker is None or notes.is_spread(marker)
        buried = True
        if marker is None:
            buried = self._bury(folder, line)
        elif ours:
            self._volume.replace(folder, notes.TOMBSTONE, line)
        else:
            buried = self._wrote_record(folder, record)
        self._folders.sync(digest, folder)
        clear(self._volume, folder)
        if ours and buried:
            # What stood there before is older than what the tombstone says now.
            with self._volume.failing("remove an older record"):
                remove_file(folder, notes.RECORD)
        self._folders.sync_leaf(digest, folder)
        self._repair.release(digest)
        self._release(digest)
        try:
            if not buried:
                # There is room now, or the record is not to be had.
                if ours:
                    self._volume.replace(folder, notes.TOMBSTONE, line)
                else:
                    self.write_record(folder, record)
                self._folders.sync_leaf(digest, folder)
        except DtfcError:
            self._tell_catalog(folder, digest)
            raise
        # Before the catalog, which then counts the digest as settled.
        self._memory.note(record, ours=self._layout.node_id)
        self._tell_catalog(folder, digest)
        return info

    def _wrote_record(self, folder: int, record: Record) -> bool:
        try:
            self.write_record(folder, record)
        except NoSpace:
            return False
        return True

    def _bury(self, folder: int, line: bytes) -> bool:
        """Write a tombstone; on a full disk an empty marker, which needs no block.

        Returns:
            Whether it is the tombstone.
        """
        try:
            self._volume.replace(folder, notes.TOMBSTONE, line)
        except NoSpace:
            with self._volume.failing("write a marker"):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                os.close(os.open(notes.TOMBSTONE, flags, 0o644, dir_fd=folder))
            return False
        return True

    def _bury_after_all(self, digest: Digest, folder: int, line: bytes) -> None:
        """Put the tombstone in the place of the empty marker, now that there is room.

        If there still is none, the empty marker stays: the blob is deleted all
        the same, but only the operator can allow it again.
        """
        with contextlib.suppress(NoSpace):
            self._volume.replace(folder, notes.TOMBSTONE, line)
            self._folders.sync_leaf(digest, folder)

    # -- coming back ----------------------------------------------------------

    def revival_of(self, folder: int, digest: Digest, name: str) -> Record | None:
        """Return the record that a client's PUT has to leave; None if it needs none.

        Raises:
            BadInput: the counter is at its end.
            StoreFailure: as the operating system says.
        """
        known = self._record(folder, digest)
        if known is None or not known.deleted:
            return None
        return next_revival(known, name=name, at=now(), node=self._layout.node_id)

    def is_deleted(self, folder: int, digest: Digest) -> bool:
        """Tell whether the record says that a blob is deleted everywhere."""
        known = self._record(folder, digest)
        return known is not None and known.deleted

    def note(self, record: Record) -> None:
        """Remember a record that stands in the tree; call it before the catalog is told."""
        self._memory.note(record)

    def write_record(self, folder: int, record: Record) -> None:
        """Write a record into its own file; the caller syncs the folder.

        Raises:
            NoSpace, StoreFailure: as the operating system says.
        """
        self._volume.replace(folder, notes.RECORD, record.line())

    def lift(self, folder: int) -> None:
        """Remove a tombstone; the caller syncs the folder.

        Raises:
            StoreFailure: as the operating system says.
        """
        with self._volume.failing("lift a tombstone"):
            os.unlink(notes.TOMBSTONE, dir_fd=folder)

    # -- after a crash ----------------------------------------------------------

    def settle(self, folder: int, digest: Digest) -> None:
        """Bring to its end what was cut off, and tell the catalog; the caller holds the lock.

        Raises:
            StoreFailure: as the operating system says.
        """
        known = self._record(folder, digest)
        if known is not None:
            with contextlib.suppress(DtfcError):
                self._agree(folder, known)
            self._memory.note(known, ours=self._layout.node_id)
        stone = self._marker(folder)
        if text_of(stone, "deleted") is not None:
            self._finish(folder, digest)
        self._tell_catalog(folder, digest)

    def _agree(self, folder: int, known: Record) -> None:
        """Make the tombstone say what the record says."""
        marker = self._marker(folder)
        if known.deleted and marker is None and not notes.exists(folder, notes.DATA):
            line = notes.tombstone_line(known.at, known.node, None, known)
            self._volume.replace(folder, notes.TOMBSTONE, line)
            self._folders.sync(known.digest, folder)
        elif not known.deleted:
            # Whoever wrote the record had made durable all that comes before.
            self._lift_void(folder, known)

    def _lift_void(self, folder: int, revival: Record) -> None:
        """Remove the tombstone of a deletion everywhere that a revival has overcome."""
        with self._volume.failing("read a marker"):
            stone = notes.read_stone(folder)
        if notes.is_spread(stone):
            self.lift(folder)
            self._folders.sync_leaf(revival.digest, folder)

    def _finish(self, folder: int, digest: Digest) -> None:
        """Take away what a deletion left that was cut off, or a PUT before it lifted a tombstone.

        Where that fails, the tombstone hides it all the same.
        """
        with contextlib.suppress(DtfcError, OSError):
            if any(notes.exists(folder, name) for name in (notes.DATA, notes.NAMES)):
                self._folders.sync(digest, folder)
                clear(self._volume, folder)
                self._folders.sync_leaf(digest, folder)

    def _tell_catalog(self, folder: int, digest: Digest) -> None:
        """Make the catalog say what the folder says; the caller holds its lock."""
        stone = self._marker(folder)
        info = describe(self._volume, folder, digest)
        at = text_of(stone, "deleted")
        if info is not None and at is None:
            # Whatever an operator's marker says: it comes and goes unseen.
            self._catalog.record(info)
            return
        tombstone = None if at is None else Tombstone(digest, at, text_of(stone, "node"))
        self._catalog.forget(digest, tombstone)

    # -- reading ------------------------------------------------------------------

    def _marker(self, folder: int) -> Marker | None:
        with self._volume.failing("read a marker"):
            return notes.read_404(folder)

    def _known(self, folder: int, digest: Digest) -> Record | None:
        """Return the newest that is known, also if somebody has removed it from the tree."""
        remembered: Record | None = None
        with contextlib.suppress(StoreFailure):
            remembered = self._memory.get(digest)
        return newest(self._record(folder, digest), remembered)

    def _record(self, folder: int, digest: Digest) -> Record | None:
        with self._volume.failing("read the record of a deletion"):
            return notes.read_record(folder, digest)


def now() -> str:
    """Return the time, for people."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


def describe(volume: Volume, folder: int, digest: Digest) -> BlobInfo | None:
    """Return the facts of the blob in a folder, whatever its markers; None if there is none.

    Raises:
        StoreFailure: as the operating system says.
    """
    with volume.failing("look at a blob"):
        try:
            facts = os.stat(notes.DATA, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(facts.st_mode):
            return None
        names = notes.read_names(folder)
    return BlobInfo(digest, facts.st_size, facts.st_mtime, names[-1] if names else None, names)


def clear(volume: Volume, folder: int) -> None:
    """Take away everything of a blob but what denies it; the caller holds the lock.

    Raises:
        StoreFailure: as the operating system says.
    """
    for name in (notes.DATA, notes.NAMES, notes.CHUNKS):
        with volume.failing("remove a blob"):
            remove_file(folder, name)


def remove_file(folder: int, name: str) -> None:
    """Remove what has that name; a folder stays, for it was never a blob's.

    Raises:
        OSError: it is there, and cannot be removed.
    """
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        try:
            kept = stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            kept = True
        if not kept:
            raise error from None


def text_of(marker: Marker | None, key: str) -> str | None:
    """Return a text that a tombstone holds."""
    value = marker.facts.get(key) if marker is not None else None
    return value if isinstance(value, str) else None
