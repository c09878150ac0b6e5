"""The folders of blobs: found through no symbolic link, made, locked, made durable.

Everything about a blob is done relative to the descriptor of its folder, so a
folder that is swapped for a symbolic link between two steps leads nowhere.
Folders are never removed while a node runs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Generator, Iterator

from dtfc.digest import Digest
from dtfc.errors import StoreFailure
from dtfc.store import syscalls
from dtfc.store.capabilities import NOT_FOLLOWED
from dtfc.store.layout import FULL_SPLIT, OWN, Layout, is_rest, is_shard
from dtfc.store.volume import Volume

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What opening a folder answers when it is not there, or is something else.
_NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, *NOT_FOLLOWED)
# Shards (at most 256 + 65536) are worth remembering for ever; of the folders
# of blobs only so many, for the blob that is stored again and again.
_SHARD_LEVELS = 2
_LEAVES_REMEMBERED = 4096
# What lies at the top of a store, or of the file system that it fills.
_AT_THE_TOP = frozenset({OWN, "lost+found"})


class Folders:
    """The folders of one store.

    Args:
        layout: how they are arranged.
        volume: the file system they are on.
        one_call: False walks level by level even where there is ``openat2``.

    Raises:
        StoreFailure: the store's own folder cannot be opened.
    """

    def __init__(self, layout: Layout, volume: Volume, *, one_call: bool = True) -> None:
        self._layout = layout
        self._volume = volume
        self._one_call = one_call
        with volume.failing("open its folder"):
            self._base = os.open(layout.basedir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._durable_shards: set[str] = set()
        self._durable_leaves: dict[Digest, None] = {}
        self._undurable: set[str] = set()

    def close(self) -> None:
        """Close what is open; harmless when repeated."""
        base, self._base = self._base, -1
        if base >= 0:
            os.close(base)

    def open(self, digest: Digest) -> int | None:
        """Open the folder of a blob; None if there is none that can be trusted.

        Raises:
            OSError: anything but its absence.
        """
        return self._open(self._layout.levels(digest))

    def _open(self, levels: list[str]) -> int | None:
        try:
            if self._one_call:
                try:
                    return syscalls.open_beneath(self._base, "/".join(levels))
                except syscalls.Unsupported:
                    self._one_call = False
            return self._descend(levels)
        except OSError as error:
            if error.errno in _NO_FOLDER:
                return None
            raise

    def _descend(self, levels: list[str]) -> int:
        fd = os.dup(self._base)
        for name in levels:
            try:
                deeper = os.open(name, _FOLDER, dir_fd=fd)
            finally:
                os.close(fd)
            fd = deeper
        return fd

    @contextlib.contextmanager
    def existing(self, digest: Digest) -> Iterator[int | None]:
        """Hold the folder of a blob and its lock, if it has a folder.

        Raises:
            NoSpace, StoreFailure: as the operating system says.
        """
        with self._volume.failing("open a blob's folder"):
            fd = self.open(digest)
        if fd is None:
            yield None
            return
        try:
            with self._volume.failing("lock a blob's folder"):
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def making(self, digest: Digest) -> Iterator[int]:
        """Hold the folder of a blob and its lock; make what is missing.

        The lock (``flock`` on the folder itself) is what keeps a PUT and a
        DELETE of one blob apart, threads and processes alike. New folders are
        durable only after :meth:`sync`.

        Raises:
            NoSpace, StoreFailure: as the operating system says.
        """
        with self._volume.failing("open a blob's folder"):
            fd = self.open(digest)
        if fd is None:
            with self._volume.failing("make a blob's folder"):
                fd = self._make(digest, self._layout.levels(digest))
        try:
            with self._volume.failing("lock a blob's folder"):
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)

    def parent(self, digest: Digest) -> int | None:
        """Open the folder that a blob's lies in; None if there is none that can be trusted.

        Raises:
            OSError: anything but its absence.
        """
        return self._open(self._layout.levels(digest)[:-1])

    def prepare(self, digest: Digest) -> None:
        """Make what is missing of the folders that lead to a blob's; nothing is made durable.

        Raises:
            OSError: as the operating system says.
        """
        os.close(self._make(digest, self._layout.levels(digest)[:-1]))

    def adopt(self, digest: Digest, source: int, name: str) -> None:
        """Move a folder that was prepared into a blob's place, if that has none.

        Nothing is made durable.

        Args:
            digest: the blob.
            source: the descriptor of the folder that the prepared one lies in.
            name: what it is called there.

        Raises:
            Unsupported: this system cannot rename without replacing.
            OSError: FileExistsError if there is a folder already.
        """
        levels = self._layout.levels(digest)
        shard = self._open(levels[:-1])
        if shard is None:
            shard = self._make(digest, levels[:-1])
        try:
            syscalls.rename_new(source, name, shard, levels[-1])
        finally:
            os.close(shard)
        self._forget("", digest)

    def _make(self, digest: Digest, levels: list[str]) -> int:
        fd = os.dup(self._base)
        path = ""
        missing = False
        for name in levels:
            path = f"{path}/{name}"
            try:
                if not missing:
                    try:
                        deeper = os.open(name, _FOLDER, dir_fd=fd)
                    except FileNotFoundError:
                        missing = True
                if missing:
                    # It may appear at any moment, made by another PUT, which
                    # need not have made it durable yet.
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, 0o755, dir_fd=fd)
                    self._forget(path, digest)
                    deeper = os.open(name, _FOLDER, dir_fd=fd)
            finally:
                os.close(fd)
            fd = deeper
        return fd

    def _forget(self, path: str, digest: Digest) -> None:
        with self._lock:
            self._durable_shards.discard(path)
            self._durable_leaves.pop(digest, None)

    def sync(self, digest: Digest, leaf: int) -> None:
        """Make a blob's folder and every folder that leads to it durable.

        A folder's entry is durable once its parent was synced after the entry
        appeared. That another PUT has made a folder says nothing about that,
        so only what this process itself has synced is left out.

        Args:
            digest: the blob.
            leaf: the descriptor of its folder.

        Raises:
            NoSpace, StoreFailure: it is not durable, and will not be: a later
                sync of the same folder would lie.
        """
        levels = self._layout.levels(digest)
        paths = self._paths(levels)
        self._sync_one(leaf, paths[-1])
        with self._lock:
            if digest in self._durable_leaves:
                return
            known = self._durable_shards.intersection(paths)
        with self._volume.failing("open its folder"):
            fd = os.dup(self._base)
        try:
            for name, parent, path in zip(levels, paths, paths[1:], strict=True):
                if path not in known:
                    self._sync_one(fd, parent)
                if path == paths[-1]:
                    break
                with self._volume.failing("open a blob's folder"):
                    deeper = os.open(name, _FOLDER, dir_fd=fd)
                os.close(fd)
                fd = deeper
        finally:
            os.close(fd)
        with self._lock:
            self._durable_shards.update(paths[1 : 1 + _SHARD_LEVELS])
            self._durable_leaves[digest] = None
            if len(self._durable_leaves) > _LEAVES_REMEMBERED:
                del self._durable_leaves[next(iter(self._durable_leaves))]

    def sync_leaf(self, digest: Digest, leaf: int) -> None:
        """Make a further change in a blob's folder durable, after :meth:`sync`.

        Raises:
            NoSpace, StoreFailure: as :meth:`sync`.
        """
        self._sync_one(leaf, self._paths(self._layout.levels(digest))[-1])

    def _paths(self, levels: list[str]) -> list[str]:
        """Return every folder from the store's own ("") to a blob's, if all can be synced."""
        paths = [""]
        for name in levels:
            paths.append(f"{paths[-1]}/{name}")
        with self._lock:
            lost = not self._undurable.isdisjoint(paths)
        if lost:
            raise StoreFailure(
                "make a folder durable: it failed before, and cannot be tried again",
                OSError(errno.EIO, os.strerror(errno.EIO)),
            )
        return paths

    def _sync_one(self, fd: int, path: str) -> None:
        try:
            self._volume.sync(fd, "make a folder durable")
        except Exception:
            with self._lock:
                self._undurable.add(path)
            raise

    def walk(
        self,
        after: Digest | None = None,
        stray: Callable[[str], object] | None = None,
        unlisted: Callable[[str], object] | None = None,
    ) -> Generator[tuple[Digest, int], None, None]:
        """Walk over every blob's folder, in the order of the digests.

        Holds one folder open at a time and remembers at most the names of one
        branch, however large the tree.

        Args:
            after: begin behind this one.
            stray: told of everything on the way that leads to no blob, as a
                path below the store's folder.
            unlisted: told of every folder on the way that cannot be listed,
                likewise; then the walk goes on behind it.

        Yields:
            The digest, and the descriptor of its folder, which is closed when
            the next one is asked for.

        Raises:
            StoreFailure: a folder cannot be listed, and nobody is told of it;
                what was not seen must not be taken for absent.
        """
        # Each level: the names still to be visited, last one first.
        pending = [self._names(os.dup(self._base), [], stray)]
        path: list[str] = []
        bound = [] if after is None else self._layout.levels(after)
        while pending:
            if not pending[-1]:
                pending.pop()
                if path:
                    path.pop()
                continue
            path.append(pending[-1].pop())
            if self._is_before(path, bound):
                path.pop()
                continue
            try:
                fd = self._open_relative("/".join(path))
                if fd is not None and len(path) < self._depth:
                    pending.append(self._names(fd, path, stray))
                    continue
            except StoreFailure:
                if unlisted is None:
                    raise
                unlisted("/".join(path))
                path.pop()
                continue
            if fd is None:
                if stray is not None:
                    stray("/".join(path))
                path.pop()
            else:
                try:
                    yield Digest.from_hex("".join(path)), fd
                finally:
                    os.close(fd)
                path.pop()

    def _is_before(self, path: list[str], bound: list[str]) -> bool:
        """Whether all that a path leads to comes before a bound, or is the bound."""
        if len(path) == self._depth:
            return path <= bound
        return path < bound[: len(path)]

    @property
    def _depth(self) -> int:
        split = self._layout.fan_out
        return split if split == FULL_SPLIT else split + 1

    def _open_relative(self, path: str) -> int | None:
        with self._volume.failing("list a folder"):
            try:
                if self._one_call:
                    try:
                        return syscalls.open_beneath(self._base, path)
                    except syscalls.Unsupported:
                        self._one_call = False
                # What is listed here is only listed: the last step decides.
                return os.open(path, _FOLDER, dir_fd=self._base)
            except OSError as error:
                if error.errno in _NO_FOLDER:
                    return None
                raise

    def _names(self, fd: int, above: list[str], stray: Callable[[str], object] | None) -> list[str]:
        """Return the folders below one that may lead to blobs, the last one first."""
        fits = is_shard if len(above) < self._layout.fan_out else is_rest
        try:
            with self._volume.failing("list a folder"):
                names = os.listdir(fd)
        finally:
            os.close(fd)
        if stray is not None:
            for name in sorted(names):
                if not fits(name) and (above or name not in _AT_THE_TOP):
                    stray("/".join([*above, name]))
        return sorted(filter(fits, names), reverse=True)
