"""Small blobs, stored together: one fdatasync makes a whole group durable.

The order of a group (each step is done before the next one begins):

1. each blob's folder is prepared aside, whole: its bytes, read-only, and its name;
2. the group is appended to the log, and one fdatasync makes it durable;
3. each folder is renamed into its place, which replaces nothing;
4. the catalog knows them, in one transaction;
5. they are acknowledged.

So nothing is visible that is not durable, and a folder appears whole. The tree
becomes durable later: when the log is full, when nothing came for a while, and
at the end (:meth:`Together.settle`). Should the power fail before, the next one
to open the store stores what the log holds once more (``dtfc.store.replay``).

Only a blob whose digest has no folder yet goes this way. Everything else (it is
here, it was deleted, a marker denies it, something fails) is sent to the door,
which knows what to do and says what is wrong; so nothing here needs a lock, and
a deletion, whose tombstone stays in the folder, is later than any record of the
log.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dtfc.digest import Digest
from dtfc.errors import BadName, DtfcError, NoSpace, StoreFailure
from dtfc.store import notes, syscalls
from dtfc.store.capabilities import Capability, has
from dtfc.store.catalog import Catalog
from dtfc.store.facts import BlobInfo, Stored
from dtfc.store.folders import Folders
from dtfc.store.layout import Layout
from dtfc.store.log import SIZE, Log, Record
from dtfc.store.replay import OwnFolder
from dtfc.store.volume import Volume, write_all

#: Longest blob that goes through the log.
LONGEST = 64 * 1024

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER_COSTS = 4 * 4096  # bytes of the disk, beside the blob's own


@dataclass(frozen=True, slots=True)
class _Draft:
    """A blob's folder, prepared; with the time stamp of its bytes."""

    name: str
    stored_at: float


@dataclass(frozen=True, slots=True)
class Small:
    """A small blob that shall be stored.

    Args:
        body: its bytes.
        name: the file name it came with.
        digest: what was promised.
    """

    body: bytes
    name: str | None
    digest: Digest | None = None


def possible() -> bool:
    """Tell whether this system has the calls that :class:`Together` needs.

    Without ``renameat2`` a folder could replace one that a DELETE has just
    made; without ``syncfs`` each blob would have to be made durable by itself,
    which is what the door does.
    """
    return has(Capability.RENAME_NEW) and has(Capability.SYNC_FILESYSTEM)


class Together:
    """Stores small blobs; used by one thread.

    Args:
        layout: where blobs lie.
        volume: the file system.
        folders: the folders of blobs.
        catalog: told of every blob before it is acknowledged.
        settle_digest: makes the catalog say of one digest what the tree says.
        size: of a log, in bytes.

    Raises:
        Unsupported: this system lacks a call that is needed.
        NoSpace, StoreFailure: there is no room for the logs, or they cannot be
            made.
    """

    def __init__(
        self,
        layout: Layout,
        volume: Volume,
        folders: Folders,
        catalog: Catalog,
        settle_digest: Callable[[Digest], None],
        *,
        size: int = SIZE,
    ) -> None:
        self._layout = layout
        self._volume = volume
        self._folders = folders
        self._catalog = catalog
        self._settle_digest = settle_digest
        self._number = 0
        self._drafts = -1
        self._base = -1
        self._ours: OwnFolder | None = None
        self._logs: list[Log] = []
        self._settling: threading.Thread | None = None
        self._lost = False
        volume.require_room(2 * size)
        with volume.failing("make its logs", 2 * size):
            try:
                self._open(size)
            except BaseException:
                self._take_away()
                raise

    def _open(self, size: int) -> None:
        self._base = os.open(self._layout.basedir, _FOLDER)
        syscalls.sync_filesystem(self._base)
        self._ours = OwnFolder(self._layout)
        drafts = f"{self._ours.path}/drafts"
        os.mkdir(drafts, 0o700)
        self._drafts = os.open(drafts, _FOLDER)
        os.mkdir("a", dir_fd=self._drafts)
        syscalls.rename_new(self._drafts, "a", self._drafts, "b")
        os.rmdir("b", dir_fd=self._drafts)
        for name in ("log-0", "log-1"):
            self._logs.append(Log(f"{self._ours.path}/{name}", size))
        self._ours.sync()

    @property
    def lost(self) -> bool:
        """Whether a log failed, so that nothing more goes through here."""
        return self._lost

    # -- a group ------------------------------------------------------------

    def put(self, group: Sequence[Small]) -> list[Stored | StoreFailure | None]:
        """Store blobs; what is stored is durable when this returns.

        Args:
            group: at most as many bytes as a log holds.

        Returns:
            For each blob what became of it: stored; not stored, because the
            log could not be made durable; or None: nothing was done, the door
            shall decide.
        """
        results: list[Stored | StoreFailure | None] = [None] * len(group)
        if self._lost or not self._has_room(group):
            return results
        prepared: list[tuple[int, Record, _Draft]] = []
        seen: set[Digest] = set()
        for index, small in enumerate(group):
            record = self._new_record(small)
            if record is None or record.digest in seen:
                continue
            draft = self._prepare(record)
            if draft is not None:
                seen.add(record.digest)
                prepared.append((index, record, draft))
        if not prepared:
            return results
        failure = self._append([record for _, record, _ in prepared])
        if failure is not None:
            for index, _, draft in prepared:
                self._drop(draft.name)
                results[index] = failure
            return results
        placed = [
            (index, info)
            for index, record, draft in prepared
            if (info := self._place(record, draft)) is not None
        ]
        self._enter([info for _, info in placed])
        for index, info in placed:
            results[index] = Stored(info, new=True)
        return results

    def _has_room(self, group: Sequence[Small]) -> bool:
        try:
            self._volume.require_room(sum(len(each.body) + _FOLDER_COSTS for each in group))
        except (NoSpace, StoreFailure):
            return False
        return True

    def _new_record(self, small: Small) -> Record | None:
        """Return what the log is to hold; None if this blob is not simply new."""
        if len(small.body) > LONGEST:
            return None
        digest = Digest.of(small.body)
        if small.digest is not None and small.digest != digest:
            return None
        try:
            if small.name is not None:
                notes.check_line(small.name)
            folder = self._folders.open(digest)
        except (BadName, OSError):
            return None
        if folder is not None:
            os.close(folder)
            return None
        return Record(digest, small.name, small.body)

    def _prepare(self, record: Record) -> _Draft | None:
        self._number += 1
        name = str(self._number)
        try:
            os.mkdir(name, 0o755, dir_fd=self._drafts)
            if record.name is not None:
                self._write(f"{name}/{notes.NAMES}", 0o644, notes.names_file([record.name]))
            stored_at = self._write(f"{name}/{notes.DATA}", 0o444, record.body)
        except OSError:
            self._drop(name)
            return None
        return _Draft(name, stored_at)

    def _write(self, path: str, mode: int, content: bytes) -> float:
        fd = os.open(path, _NEW, mode, dir_fd=self._drafts)
        try:
            # The umask may have taken bits away.
            os.fchmod(fd, mode)
            write_all(fd, [content], 0)
            return os.fstat(fd).st_mtime
        finally:
            os.close(fd)

    def _drop(self, draft: str) -> None:
        for name in (notes.DATA, notes.NAMES):
            with contextlib.suppress(OSError):
                os.unlink(f"{draft}/{name}", dir_fd=self._drafts)
        with contextlib.suppress(OSError):
            os.rmdir(draft, dir_fd=self._drafts)

    def _append(self, records: list[Record]) -> StoreFailure | None:
        if not self._logs[0].fits(records):
            self._turn()
            if self._lost:
                return _failed(OSError(errno.EIO, os.strerror(errno.EIO)))
        try:
            self._logs[0].append(records)
        except OSError as error:
            # Part of it may be on the disk. It was acknowledged to nobody, and
            # must not come back.
            self._volume.count_failed_sync()
            self._lost = True
            with contextlib.suppress(OSError):
                self._logs[0].cut()
            return _failed(error)
        return None

    def _place(self, record: Record, draft: _Draft) -> BlobInfo | None:
        try:
            self._folders.adopt(record.digest, self._drafts, draft.name)
        except (OSError, syscalls.Unsupported):
            # Most likely somebody has just made its folder: a DELETE, or a PUT
            # of the same bytes.
            self._drop(draft.name)
            return None
        names = () if record.name is None else (record.name,)
        return BlobInfo(record.digest, len(record.body), draft.stored_at, record.name, names)

    def _enter(self, infos: list[BlobInfo]) -> None:
        """Tell the catalog, and look whether a deletion has told it otherwise before."""
        self._catalog.record_new(infos)
        for info in infos:
            path = f"{self._layout.relative(info.digest)}/{notes.DATA}"
            try:
                os.stat(path, dir_fd=self._base, follow_symlinks=False)
            except OSError:
                with contextlib.suppress(DtfcError):
                    self._settle_digest(info.digest)

    # -- making the tree durable ---------------------------------------------

    def settle(self) -> None:
        """Begin to make durable in the tree what stands in the log."""
        if not self._logs[0].empty and not self._lost:
            self._turn()

    def _turn(self) -> None:
        """Go on with the other log, once what it holds is durable in the tree."""
        self._join()
        if self._lost:
            return
        self._logs.reverse()
        self._settling = threading.Thread(target=self._settle, args=(self._logs[1],))
        self._settling.start()

    def _join(self) -> None:
        if self._settling is not None:
            self._settling.join()
            self._settling = None

    def _settle(self, log: Log) -> None:
        try:
            syscalls.sync_filesystem(self._base)
            log.begin()
        except OSError:
            # What the kernel could not write it has forgotten, and shows all
            # the same: whoever opens the store next must not believe it.
            self._volume.count_failed_sync()
            self._lost = True
            with contextlib.suppress(OSError):
                log.distrust()

    def close(self) -> None:
        """Make everything durable in the tree and take the logs away; harmless when repeated."""
        if self._ours is None:
            return
        self._join()
        if not self._lost and not self._logs[0].empty:
            self._settle(self._logs[0])
        if self._lost:
            self._let_go()
        else:
            self._take_away()

    def _take_away(self) -> None:
        if self._ours is not None:
            self._ours.remove()
        self._let_go()

    def _let_go(self) -> None:
        for log in self._logs:
            log.close()
        self._logs.clear()
        for fd in (self._drafts, self._base):
            if fd >= 0:
                os.close(fd)
        self._drafts = self._base = -1
        if self._ours is not None:
            self._ours.close()
            self._ours = None


def _failed(error: OSError) -> StoreFailure:
    return StoreFailure("make small blobs durable", error)
