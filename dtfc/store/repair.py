"""Putting right what lies under a digest: chunk maps, healed bytes, quarantine.

A damaged blob is never changed in place. Healed bytes are a new file, renamed
over the old one; what cannot be healed moves to ``.dtfc/quarantine`` (its names
and its chunk map stay where they are, for the day it comes back).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import time

from dtfc.digest import Digest
from dtfc.errors import DtfcError
from dtfc.store import notes
from dtfc.store.catalog import Catalog
from dtfc.store.chunkmap import ChunkMap, map_size, read_map
from dtfc.store.facts import BlobInfo
from dtfc.store.folders import Folders
from dtfc.store.layout import Layout
from dtfc.store.volume import Scratch, Volume

_ENTRY = re.compile(r"([0-9a-f]{128})\.\d+\Z")

# A folder's time of change may stay the same for as long as a tick of the
# kernel's clock, so a list made within it may be older than the latest change.
_SETTLED = 1_000_000_000


class Repair:
    """Changes to what lies under a digest that leave the digest as it is.

    Args:
        layout: where blobs lie.
        volume: the file system.
        folders: the folders of blobs.
        catalog: the index.
    """

    def __init__(self, layout: Layout, volume: Volume, folders: Folders, catalog: Catalog) -> None:
        self._layout = layout
        self._volume = volume
        self._folders = folders
        self._catalog = catalog
        self._listed: tuple[int, dict[Digest, list[str]]] = (-1, {})

    # -- chunk maps -----------------------------------------------------------

    def read_map(self, digest: Digest, length: int) -> ChunkMap | None:
        """Return a blob's chunk map; None if there is none that is whole.

        Args:
            digest: the blob.
            length: of the blob, in bytes.

        Raises:
            StoreFailure: as the operating system says.
        """
        with self._volume.failing("read a chunk map"):
            folder = self._folders.open(digest)
            if folder is None:
                return None
            try:
                fd = notes.open_regular(folder, notes.CHUNKS)
            finally:
                os.close(folder)
            if fd is None:
                return None
            with open(fd, "rb") as file:
                return read_map(file.read(map_size(length) + 1), digest, length)

    def write_map(self, chunk_map: ChunkMap) -> None:
        """Put a blob's chunk map beside it.

        It is not made durable, for it can be made again at any time. On a full
        disk, or where the blob has gone, nothing happens.
        """
        with contextlib.suppress(DtfcError, OSError):
            content = chunk_map.content()
            self._volume.require_room(len(content))
            with self._folders.existing(chunk_map.digest) as folder:
                if folder is not None and notes.is_regular(folder, notes.DATA):
                    self._volume.replace(folder, notes.CHUNKS, content, durable=False)

    def drop_map(self, digest: Digest) -> bool:
        """Remove a chunk map that lies without the bytes it is of; tell whether there was one.

        Raises:
            StoreFailure: as the operating system says.
        """
        with self._folders.existing(digest) as folder:
            if folder is None or not notes.exists(folder, notes.CHUNKS):
                return False
            with self._volume.failing("remove a chunk map"):
                if notes.exists(folder, notes.DATA) or self.is_quarantined(digest):
                    return False
                os.unlink(notes.CHUNKS, dir_fd=folder)
            return True

    # -- healed bytes ---------------------------------------------------------

    def scratch(self) -> Scratch:
        """Open a file that leaves no trace unless it is put in place.

        Raises:
            NoSpace, StoreFailure: as the operating system says.
        """
        return self._volume.scratch()

    def require_room(self, needed: int) -> None:
        """Refuse what would eat into the reserve.

        Raises:
            NoSpace: there is no room.
            StoreFailure: as the operating system says.
        """
        self._volume.require_room(needed)

    def put_right(self, digest: Digest, source: Scratch, damaged: int) -> bool:
        """Put right bytes in the place of damaged ones, durably.

        Args:
            digest: the blob; the caller has taken it of every byte of ``source``.
            source: the new file.
            damaged: the inode that it shall replace, there or in quarantine.

        Returns:
            False if something else lies there by now, or a marker denies the
            blob, and nothing was done.

        Raises:
            NoSpace, StoreFailure: as the operating system says; the damaged
                file is still where it was.
        """
        with self._folders.existing(digest) as folder:
            if folder is None:
                return False
            with self._volume.failing("look at a blob"):
                facts = _facts(folder)
                if facts is None:
                    marked = notes.read_marker(folder) is not None
                    facts = None if marked else self._quarantined_facts(digest, damaged)
            if facts is None or facts.st_ino != damaged:
                return False
            self._catalog.begin(digest)
            with self._volume.failing("make a healed blob read-only"):
                # When it was stored has not changed.
                os.utime(source.fd, ns=(facts.st_atime_ns, facts.st_mtime_ns))
                os.fchmod(source.fd, 0o444)
            self._volume.sync(source.fd, "make a healed blob durable")
            self._rename_over(source, folder)
            self._folders.sync_leaf(digest, folder)
            names = notes.read_names(folder)
            length = os.fstat(source.fd).st_size
            name = names[-1] if names else None
            self._catalog.record(BlobInfo(digest, length, facts.st_mtime, name, names))
        self.release(digest)
        return True

    def _quarantined_facts(self, digest: Digest, inode: int) -> os.stat_result | None:
        for path in self._aside().get(digest, ()):
            facts = os.stat(path, follow_symlinks=False)
            if facts.st_ino == inode:
                return facts
        return None

    def _rename_over(self, source: Scratch, folder: int) -> None:
        draft = f"{self._volume.own_temp}/dtfc-{secrets.token_hex(8)}"
        with self._volume.failing("put a healed blob in place"):
            # A process that starts meanwhile sweeps what nobody holds.
            fcntl.flock(source.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            source.link_path(draft)
            try:
                os.rename(draft, notes.DATA, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(draft)
                raise

    # -- quarantine -----------------------------------------------------------

    def quarantine(self, digest: Digest, damaged: int | None = None) -> bool:
        """Move a damaged blob aside, so that nobody is given it.

        Args:
            digest: the blob.
            damaged: the inode that is damaged; None for whatever lies there.

        Returns:
            False if something else lies there by now, or nothing.

        Raises:
            StoreFailure: as the operating system says.
        """
        with self._folders.existing(digest) as folder:
            if folder is None:
                return False
            with self._volume.failing("look at a blob"):
                facts = _facts(folder)
            if facts is None or damaged not in (None, facts.st_ino):
                return False
            self._catalog.begin(digest)
            with self._volume.failing("move a damaged blob aside"):
                self.move_aside(folder, digest)
            self._folders.sync_leaf(digest, folder)
            self._catalog.forget(digest)
            return True

    def move_aside(self, folder: int, digest: Digest) -> None:
        """Move what lies in a blob's place; the caller holds the lock, and syncs.

        Raises:
            OSError: as the operating system says.
        """
        aside = f"{self._layout.own('quarantine')}/{digest.hex}.{time.time_ns()}"
        os.rename(notes.DATA, aside, src_dir_fd=folder)

    def quarantined(self) -> list[tuple[Digest, str]]:
        """Return what lies in quarantine: the digest it should have, and its path.

        Raises:
            StoreFailure: the folder cannot be listed.
        """
        return [(digest, path) for digest, paths in self._aside().items() for path in paths]

    def _aside(self) -> dict[Digest, list[str]]:
        folder = self._layout.own("quarantine")
        with self._volume.failing("list the quarantine"):
            # Asked at every PUT, and nearly always empty.
            changed = os.stat(folder).st_mtime_ns
            listed, entries = self._listed
            if listed != changed:
                entries = {}
                for name in sorted(os.listdir(folder)):
                    if match := _ENTRY.match(name):
                        paths = entries.setdefault(Digest.from_hex(match[1]), [])
                        paths.append(f"{folder}/{name}")
                if time.time_ns() - changed > _SETTLED:
                    self._listed = (changed, entries)
        return entries

    def is_quarantined(self, digest: Digest) -> bool:
        """Tell whether a damaged copy of a blob lies in quarantine.

        Raises:
            StoreFailure: the folder cannot be listed.
        """
        return digest in self._aside()

    def release(self, digest: Digest) -> None:
        """Remove a blob's damaged copies: it is here again, or was deleted.

        What is no file was never a blob, and stays.

        Raises:
            StoreFailure: as the operating system says.
        """
        for path in self._aside().get(digest, ()):
            with (
                self._volume.failing("empty the quarantine"),
                contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError),
            ):
                os.unlink(path)


def _facts(folder: int) -> os.stat_result | None:
    try:
        return os.stat(notes.DATA, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
