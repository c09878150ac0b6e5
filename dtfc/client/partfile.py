"""The file that a blob is fetched into, and what lies beside it until it is whole.

``photo.jpg.dtfc-part`` has the bytes so far, with holes, and ``photo.jpg.dtfc-part.state``
says which of them are there and whose they are to become (``dtfc.store.progress``). Both
outlive the process, however it ends. Neither is believed: all of it is hashed again.
Only when the digest is right does ``photo.jpg`` appear, by a rename.

Rules of this file: all of it blocks.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator

from dtfc.client.failures import LocalTrouble
from dtfc.digest import Digest
from dtfc.errors import NoSpace, StoreFailure
from dtfc.store.door import Whole
from dtfc.store.facts import BlobInfo, Stored
from dtfc.store.layout import TWO_LEVELS, Layout
from dtfc.store.partials import STATE, Partial
from dtfc.store.progress import Progress
from dtfc.store.volume import Scratch, Volume

PART = ".dtfc-part"
"""The end of the name of a file that is not whole yet."""

_BLOCK = 1 << 20
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class PartFile(Partial):
    """A partial that remembers in its state which blob it is of."""

    def reserve(self, total: int) -> None:
        """Make sure that the whole will fit.

        Raises:
            NoSpace, StoreFailure: it will not, or as the operating system says.
        """
        super().reserve(total)
        self.call(self.digest.hex)


class Place:
    """Where the whole goes.

    Args:
        target: the path of the file.
        volume: the file system.
        mode: that the file is to have.
        overwrite: whether a file of that name is replaced.
    """

    def __init__(self, target: str, volume: Volume, mode: int, *, overwrite: bool) -> None:
        self._target = target
        self._volume = volume
        self._mode = mode
        self._overwrite = overwrite

    def allow_load(self, digest: Digest) -> None:
        """Refuse nothing."""

    def seal(self, source: Scratch) -> None:
        """Make the bytes durable.

        Raises:
            NoSpace, StoreFailure: they are not.
        """
        if not source.sealed:
            with self._volume.failing("set a file's mode"):
                os.fchmod(source.fd, self._mode)
            self._volume.sync(source.fd, "make a file durable")
            source.sealed = True

    def enter(self, whole: Whole, name: str | None, *, deliberate: bool) -> Stored:
        """Give the file its name.

        Raises:
            LocalTrouble: there is a file of that name.
            StoreFailure: as the operating system says.
        """
        del deliberate
        path = whole.file.path or ""
        with self._volume.failing("give a file its name"):
            if self._overwrite or not self._linked(path):
                if not self._overwrite and os.path.lexists(self._target):
                    raise exists(self._target)
                os.rename(path, self._target)
            folder = os.open(os.path.dirname(self._target), os.O_RDONLY | os.O_CLOEXEC)
            try:
                # What a folder cannot do (on some network file systems) is no reason to fail.
                with contextlib.suppress(OSError):
                    os.fsync(folder)
            finally:
                os.close(folder)
        names = (name,) if name is not None else ()
        return Stored(BlobInfo(whole.digest, whole.length, 0.0, name, names), new=True)

    def _linked(self, path: str) -> bool:
        """Give the file a second name, which replaces nothing; False where there are no links."""
        try:
            os.link(path, self._target, follow_symlinks=False)
        except FileExistsError:
            raise exists(self._target) from None
        except OSError as error:
            if error.errno in _NO_LINKS:
                return False
            raise
        return True


def exists(path: str) -> LocalTrouble:
    """Return the error for a file that is in the way."""
    return LocalTrouble(f"{path} is there already, and is another file")


def open_part(target: str, digest: Digest, *, overwrite: bool) -> PartFile:
    """Take the part of a file, with what an earlier process fetched, if it is of this blob.

    Args:
        target: the path that the whole is to have.
        digest: which blob.
        overwrite: whether a file of that name is replaced.

    Raises:
        LocalTrouble: another process is at it, or as the operating system says.
    """
    path = f"{target}{PART}"
    folder = os.path.dirname(target)
    volume = Volume(Layout(folder, TWO_LEVELS, ""))
    with in_words(target):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            facts = os.fstat(fd)
            _must_be_own(path, facts)
            if facts.st_size and not _is_of(path, facts.st_ino, digest):
                os.ftruncate(fd, 0)
        except BlockingIOError:
            os.close(fd)
            raise LocalTrouble(f"another process is fetching {target}") from None
        except BaseException:
            os.close(fd)
            raise
        place = Place(target, volume, _usual_mode(facts), overwrite=overwrite)
        part = PartFile(digest, fd, path, place, volume)
        part.take_over()
    return part


def _must_be_own(path: str, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
        raise LocalTrouble(f"{path} is no file of this program's")


def _is_of(path: str, inode: int, digest: Digest) -> bool:
    state = Progress.open(f"{path}{STATE}", inode)
    if state is None:
        return False
    try:
        return state.known.name == digest.hex
    finally:
        state.close()


def _usual_mode(facts: os.stat_result) -> int:
    # As the umask had it when it was made; a start from the beginning closes it (0600).
    return stat.S_IMODE(facts.st_mode)


def digest_of_file(
    path: str, saw: Callable[[int], object] = int, stop: Callable[[], bool] = lambda: False
) -> Digest | None:
    """Hash a file.

    Args:
        path: of the file.
        saw: told how many bytes were read, after each block.
        stop: asked now and then whether nobody wants to know any more.

    Returns:
        None if it was stopped.

    Raises:
        OSError: as the operating system says.
    """
    sha512 = hashlib.sha512()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            sha512.update(block)
            saw(len(block))
            if stop():
                return None
    return Digest(sha512.digest())


@contextlib.contextmanager
def in_words(path: str) -> Iterator[None]:
    """Turn what this machine refuses inside into an error that names the file.

    Raises:
        LocalTrouble: whatever it was.
    """
    try:
        yield
    except NoSpace as error:
        raise LocalTrouble(f"{path}: no room: {error}") from error
    except StoreFailure as error:
        reason = os.strerror(error.errno or errno.EIO)
        raise LocalTrouble(f"{path}: could not {error.operation}: {reason}") from error
    except OSError as error:
        raise LocalTrouble(f"{path}: {error.strerror or error}") from error
