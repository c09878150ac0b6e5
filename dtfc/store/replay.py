"""After a crash: what the log of a dead process holds is stored once more.

Each process has a folder of its own for its logs, and holds its lock. Whoever
opens the store looks for folders that nobody holds, before it serves anything:
a power cut may have left in the tree a blob without its bytes, and the log is
what says so.

A record says "this was stored while it had no folder". What happened to the
blob later stands in its folder: a tombstone wins over the record, and so do
further names; what an operator's marker denies is mended, and stays denied. So
a record can be replayed any number of times.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator

from dtfc.digest import Digest
from dtfc.errors import Absent, Denied, NoSpace
from dtfc.store import durable, notes, syscalls
from dtfc.store.capabilities import NOT_FOLLOWED
from dtfc.store.door import Door, Whole
from dtfc.store.folders import Folders
from dtfc.store.layout import Layout
from dtfc.store.log import Record, read
from dtfc.store.volume import Volume, write_all

# What opening a folder answers when it is not there, or is something else.
_NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, *NOT_FOLLOWED)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def searching(layout: Layout) -> Iterator[None]:
    """Hold the lock under which folders of logs are made, and searched for dead ones.

    Raises:
        OSError: it cannot be had.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(f"{layout.own('log')}/lock", flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


class OwnFolder:
    """The folder of one process's logs; its lock says that the process lives.

    Args:
        layout: the store.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, layout: Layout) -> None:
        self._above = layout.own("log")
        self.path = f"{self._above}/{secrets.token_hex(8)}"
        with searching(layout):
            os.mkdir(self.path, 0o700)
            self._fd = os.open(self.path, _FOLDER)
            fcntl.flock(self._fd, fcntl.LOCK_EX)

    def sync(self) -> None:
        """Make it durable that it is there, with all that it holds.

        Raises:
            OSError: it is not.
        """
        durable.sync(self._fd)
        durable.sync_folder(self._above)

    def remove(self) -> None:
        """Take it away, as far as that can be done."""
        shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        """Give up the lock."""
        os.close(self._fd)


class Replay:
    """Stores what dead processes have left in their logs.

    Args:
        layout: where blobs lie.
        volume: the file system.
        folders: the folders of blobs.
        door: where blobs go in.
    """

    def __init__(self, layout: Layout, volume: Volume, folders: Folders, door: Door) -> None:
        self._layout = layout
        self._volume = volume
        self._folders = folders
        self._door = door

    def run(self) -> int:
        """Replay every log that nobody holds; return how many records there were.

        Waits while another process does the same, for until then the tree may
        show what is not whole.

        Raises:
            StoreFailure: as the operating system says; the logs stay.
        """
        count = 0
        with self._volume.failing("read its logs"), searching(self._layout):
            above = self._layout.own("log")
            for name in sorted(os.listdir(above)):
                if name != "lock":
                    count += self._folder(f"{above}/{name}")
        return count

    def _folder(self, path: str) -> int:
        try:
            fd = os.open(path, _FOLDER)
        except OSError as error:
            # Somebody else's litter, or a folder whose process ends just now.
            if error.errno in _NO_FOLDER:
                return 0
            raise
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        else:
            logs = [read(f"{path}/{name}") for name in os.listdir(fd) if name.startswith("log-")]
            complete = True
            for records, distrusted in logs:
                for record in records:
                    try:
                        self._restore(record, rewrite=distrusted)
                    except NoSpace:
                        # The rest of the store is served all the same; what is
                        # missing waits in the log for the next opening.
                        complete = False
            count = sum(len(records) for records, _ in logs)
            if count:
                self._make_durable({record.digest for records, _ in logs for record in records})
            if complete:
                shutil.rmtree(path, ignore_errors=True)
            return count
        finally:
            os.close(fd)

    def _make_durable(self, digests: Iterable[Digest]) -> None:
        """What was found whole may still be in memory alone, if only a process died."""
        base = os.open(self._layout.basedir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscalls.sync_filesystem(base)
        except syscalls.Unsupported:
            # Not sync(2), which elsewhere returns before anything is written.
            for digest in digests:
                self._make_blob_durable(digest)
        finally:
            os.close(base)

    def _make_blob_durable(self, digest: Digest) -> None:
        with self._folders.existing(digest) as folder:
            if folder is None:
                return
            for name in (notes.DATA, notes.NAMES):
                fd = notes.open_regular(folder, name)
                if fd is not None:
                    try:
                        self._volume.sync(fd, "make a blob durable again")
                    finally:
                        os.close(fd)
            self._folders.sync(digest, folder)

    def _restore(self, record: Record, *, rewrite: bool) -> None:
        if not self._mended(record, rewrite=rewrite):
            self._store(record)
        self._door.settle(record.digest)

    def _mended(self, record: Record, *, rewrite: bool) -> bool:
        """Put right what lies in a blob's folder, if it has one.

        Each of its files is replaced whole, or stays: names that it got later
        must outlive a replay that is cut off. So the door is not asked; it
        would begin the names anew, and refuse what an operator's marker denies.
        But the marker does not delete the blob: when it is taken away, the
        right bytes must be there.

        Returns:
            Whether it has a folder.
        """
        with self._folders.existing(record.digest) as folder:
            if folder is None:
                return False
            marker = notes.read_404(folder)
            if marker is not None and not marker.by_operator:
                return True
            known = notes.read_record(folder, record.digest)
            if known is not None and known.deleted:
                return True
            if marker is not None and _is_emptied(folder):
                return True
            changed = rewrite or not _holds(folder, record.body)
            if changed:
                # Gone first, for on a full disk nothing takes their place yet.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(notes.DATA, dir_fd=folder)
                self._volume.replace(folder, notes.DATA, record.body, mode=0o444)
            if record.name is not None and notes.read_whole_names(folder) is None:
                # Lost or torn, so it is the one that came with the bytes.
                changed = True
                self._volume.replace(folder, notes.NAMES, notes.names_file([record.name]))
            if changed:
                self._folders.sync(record.digest, folder)
            return True

    def _store(self, record: Record) -> None:
        scratch = self._volume.scratch()
        try:
            with self._volume.failing("write", len(record.body)):
                write_all(scratch.fd, [record.body], 0)
            # Not deliberate: a deletion is later than anything in a log.
            with contextlib.suppress(Absent, Denied):
                whole = Whole(scratch, record.digest, len(record.body))
                self._door.enter(whole, record.name, deliberate=False)
        finally:
            scratch.drop()


def _is_emptied(folder: int) -> bool:
    """Tell whether a blob was deleted beside an operator's marker, which has no place for that.

    What is left then is a file of names that holds none. A loss of power leaves
    none, or one that is torn.
    """
    return not notes.exists(folder, notes.DATA) and notes.read_whole_names(folder) == ()


def _holds(folder: int, body: bytes) -> bool:
    """Tell whether a blob's bytes are these."""
    fd = notes.open_regular(folder, notes.DATA)
    if fd is None:
        return False
    with open(fd, "rb") as file:
        return file.read(len(body) + 1) == body
