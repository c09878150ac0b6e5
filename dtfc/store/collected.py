"""Blobs that were collected as garbage, for as long as they may come back.

Collecting is no deletion: no tombstone is left, nobody is told, and a PUT or a
load brings the blob back as if it had never been here. Its bytes move to
``.dtfc/collected/<digest>/`` with its names and its chunk map, and from there
back again, by renaming: no byte is copied, and no room is needed.

The moment is the rename of the bytes. What is cut off before it leaves the blob
where it was, and a folder without bytes, which :meth:`Collected.sweep` removes;
after it, a blob that was collected, with names left behind that are of no blob.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

from dtfc.digest import Digest
from dtfc.errors import Absent, BadDigest, StaysDeleted
from dtfc.store import notes
from dtfc.store.catalog import Catalog
from dtfc.store.facts import BlobInfo
from dtfc.store.folders import Folders
from dtfc.store.graves import describe, remove_file
from dtfc.store.layout import Layout
from dtfc.store.volume import Volume

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Lying:
    """A blob that was collected.

    Args:
        digest: of it.
        length: in bytes.
        name: its latest; None if it has none.
    """

    digest: Digest
    length: int
    name: str | None


@dataclass(frozen=True, slots=True)
class Here:
    """A blob that is here, and may be garbage.

    Args:
        digest: of it.
        stamp: when it was stored last, in nanoseconds. It is compared for being
            the same, never with a clock. A PUT of bytes that are here already
            gives another one (:func:`renew`), as any change does.
        length: in bytes.
    """

    digest: Digest
    stamp: int
    length: int


def _here(folder: int, digest: Digest) -> Here | None:
    fd = notes.open_regular(folder, notes.DATA)
    if fd is None:
        return None
    try:
        facts = os.fstat(fd)
        stamp = max(facts.st_mtime_ns, os.fstat(folder).st_mtime_ns)
        return Here(digest, stamp, facts.st_size)
    finally:
        os.close(fd)


def renew(folder: int) -> None:
    """Give the blob in a folder another stamp.

    Raises:
        OSError: as the operating system says.
    """
    now = time.time_ns()
    try:
        # The kernel's own time stands still for as long as a tick.
        os.utime(folder, ns=(now, now))
    except PermissionError:
        # Another user's folder, which we may write in: only its time is ours to set.
        os.utime(folder)


class Collected:
    """What was collected in one store.

    Args:
        layout: where it lies.
        volume: the file system.
        folders: the folders of blobs.
        catalog: the index.
    """

    def __init__(self, layout: Layout, volume: Volume, folders: Folders, catalog: Catalog) -> None:
        self._base = layout.own("collected")
        self._volume = volume
        self._folders = folders
        self._catalog = catalog

    def digests(self, after: Digest | None) -> list[Digest]:
        """Return some blobs that are here, in order; none at the end.

        Args:
            after: begin behind this one.
        """
        return self._catalog.digests(after)

    def look(self, digest: Digest) -> Here | None:
        """Look at a blob; None if it is not here.

        Raises:
            StoreFailure: as the operating system says.
        """
        with self._volume.failing("look at a blob"):
            folder = self._folders.open(digest)
            if folder is None:
                return None
            try:
                return _here(folder, digest)
            finally:
                os.close(folder)

    def collect(self, seen: Here) -> BlobInfo | None:
        """Move a blob aside.

        Args:
            seen: the blob, as it was when it was found to be garbage.

        Returns:
            What it was; None if it was stored again since, is denied by a
            tombstone, or is not here, and nothing was done.

        Raises:
            NoSpace, StoreFailure: as the operating system says; the blob is
                still here.
        """
        digest = seen.digest
        with self._folders.existing(digest) as folder:
            if folder is None:
                return None
            with self._volume.failing("look at a blob"):
                if _here(folder, digest) != seen or _is_deleted(folder, digest):
                    return None
            info = describe(self._volume, folder, digest)
            if info is None:
                return None
            self._catalog.begin(digest)
            try:
                self._take(digest, folder)
            except BaseException:
                if notes.exists(folder, notes.DATA):
                    self._catalog.abandon(digest)
                raise
            # What is left here is of no blob.
            with self._volume.failing("remove a collected blob's names"):
                remove_file(folder, notes.NAMES)
                remove_file(folder, notes.CHUNKS)
            self._folders.sync(digest, folder)
            self._catalog.forget(digest)
            return info

    def _take(self, digest: Digest, folder: int) -> None:
        path = f"{self._base}/{digest.hex}"
        with self._volume.failing("move a blob aside"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
            home = os.open(path, _FOLDER)
            try:
                for name in (notes.DATA, notes.NAMES, notes.CHUNKS):
                    remove_file(home, name)
                for name in (notes.NAMES, notes.CHUNKS):
                    with contextlib.suppress(FileNotFoundError):
                        os.link(
                            name,
                            name,
                            src_dir_fd=folder,
                            dst_dir_fd=home,
                            follow_symlinks=False,
                        )
                self._volume.sync(home, "make a folder durable")
                self._sync_base()
                os.rename(notes.DATA, notes.DATA, src_dir_fd=folder, dst_dir_fd=home)
                self._volume.sync(home, "make a folder durable")
            finally:
                os.close(home)

    def restore(self, digest: Digest) -> BlobInfo:
        """Put a blob back where it was, under its names.

        Raises:
            Absent: it was not collected, or its time is over.
            StaysDeleted: it was deleted since.
            NoSpace, StoreFailure: as the operating system says; it can be tried
                again.
        """
        with self._folders.making(digest) as folder:
            home = self._home(digest)
            if home is None:
                raise Absent(digest.hex)
            try:
                with self._volume.failing("look at a blob"):
                    here = notes.is_regular(folder, notes.DATA)
                    if not notes.is_regular(home, notes.DATA):
                        raise Absent(digest.hex)
                    if _is_deleted(folder, digest):
                        raise StaysDeleted(digest.hex)
                self._catalog.begin(digest)
                try:
                    if not here:
                        self._put_back(folder, home)
                    self._folders.sync(digest, folder)
                    with self._volume.failing("put a blob back"):
                        self._volume.sync(home, "make a folder durable")
                except BaseException:
                    if not notes.exists(folder, notes.DATA):
                        self._catalog.abandon(digest)
                    raise
                info = describe(self._volume, folder, digest)
                if info is None:
                    raise Absent(digest.hex)
                self._catalog.record(info)
            finally:
                os.close(home)
            self._remove(digest)
        return info

    def _put_back(self, folder: int, home: int) -> None:
        # Copies: what is cut off here must find them again.
        with self._volume.failing("put a blob's names back"):
            names = notes.read_names(home)
            here = notes.read_names(folder)
        merged = (*names, *(each for each in here if each not in names))
        self._volume.replace(folder, notes.NAMES, notes.names_file(merged))
        with self._volume.failing("put a blob back"):
            remove_file(folder, notes.CHUNKS)
            with contextlib.suppress(FileNotFoundError):
                os.link(
                    notes.CHUNKS,
                    notes.CHUNKS,
                    src_dir_fd=home,
                    dst_dir_fd=folder,
                    follow_symlinks=False,
                )
            os.rename(notes.DATA, notes.DATA, src_dir_fd=home, dst_dir_fd=folder)

    def drop(self, digest: Digest) -> bool:
        """Remove a collected blob for good; tell whether there was one.

        Raises:
            StoreFailure: as the operating system says.
        """
        with self._folders.existing(digest):
            return self._remove(digest)

    def release(self, digest: Digest) -> None:
        """Remove what was collected of a blob that is deleted; the caller holds its lock.

        Raises:
            StoreFailure: as the operating system says.
        """
        self._remove(digest)

    def _remove(self, digest: Digest) -> bool:
        path = f"{self._base}/{digest.hex}"
        with self._volume.failing("remove a collected blob"):
            try:
                shutil.rmtree(path)
            except FileNotFoundError:
                return False
            self._sync_base()
        return True

    def sweep(self) -> int:
        """Remove what was cut off before it was collected; return how many.

        Raises:
            StoreFailure: as the operating system says.
        """
        removed = 0
        for digest in self._digests():
            with self._folders.existing(digest) as folder:
                # Who collects holds the lock.
                if folder is not None and self._lying(digest) is None:
                    removed += self._remove(digest)
        return removed

    def lying(self) -> Iterator[Lying]:
        """Yield what was collected, in the order of the digests.

        Raises:
            StoreFailure: as the operating system says.
        """
        for digest in self._digests():
            found = self._lying(digest)
            if found is not None:
                yield found

    def has(self, digest: Digest) -> bool:
        """Tell whether a blob was collected, and may come back.

        Raises:
            StoreFailure: as the operating system says.
        """
        return self._lying(digest) is not None

    def _lying(self, digest: Digest) -> Lying | None:
        home = self._home(digest)
        if home is None:
            return None
        try:
            info = describe(self._volume, home, digest)
        finally:
            os.close(home)
        return None if info is None else Lying(digest, info.length, info.name)

    def _home(self, digest: Digest) -> int | None:
        with self._volume.failing("open a collected blob"):
            try:
                return os.open(f"{self._base}/{digest.hex}", _FOLDER)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def _digests(self) -> list[Digest]:
        with self._volume.failing("list the collected blobs"):
            names = sorted(os.listdir(self._base))
        found = []
        for name in names:
            with contextlib.suppress(BadDigest):
                found.append(Digest.from_hex(name))
        return found

    def _sync_base(self) -> None:
        fd = os.open(self._base, _FOLDER)
        try:
            self._volume.sync(fd, "make a folder durable")
        finally:
            os.close(fd)


def _is_deleted(folder: int, digest: Digest) -> bool:
    """Tell whether a blob was deleted, here or everywhere; an operator's marker does not count."""
    marker = notes.read_404(folder)
    record = notes.read_record(folder, digest)
    buried = marker is not None and not marker.by_operator
    return buried or (record is not None and record.deleted)
