"""Uploads that resume: their bytes so far, which outlive the process.

``<id>`` holds the bytes, ``<id>.upload`` what is known (``dtfc.store.uploadstate``).
The lock on the bytes says who is at it, in whichever process. Whoever wants an
upload that is taken leaves a wish (``<id>.wanted``), which the holder looks for.

What a process has hashed it keeps for a while, since the next request of an
upload mostly comes to the same one; else the bytes are read and hashed again,
beside those that arrive.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dtfc.errors import Busy, UnknownUpload
from dtfc.store import power
from dtfc.store.incoming import Growth
from dtfc.store.upload import Upload
from dtfc.store.uploadstate import (
    LARGEST,
    LINE_LENGTH,
    Announced,
    Known,
    Place,
    State,
    content_of,
    read_state,
)
from dtfc.store.volume import Scratch

if TYPE_CHECKING:
    from dtfc.store.door import Door
    from dtfc.store.volume import Volume

STATE = ".upload"
_WANTED = ".wanted"

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: Uploads of which it is kept what was hashed.
_MOST_KEPT = 64


@dataclass(frozen=True, slots=True)
class Looked:
    """An upload, as it is seen from outside.

    Args:
        known: what is known of it.
        touched_at: when something was last done with it, in seconds since 1970.
    """

    known: Known
    touched_at: float


@dataclass(frozen=True, slots=True)
class Spool:
    """How many uploads are open, and what they hold.

    Args:
        uploads: that are not complete.
        size: of their bytes so far.
    """

    uploads: int
    size: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """What this process knows of an upload that it had.

    Args:
        number: of its last note.
        slot: the line that is durable.
        inode: of the bytes.
        growth: what was hashed.
    """

    number: int
    slot: int
    inode: int
    growth: Growth


class Uploads:
    """The uploads of one store.

    Used from many threads at once.

    Args:
        folder: where they lie.
        door: where a whole goes.
        volume: the file system.
        now: tells the seconds since 1970.
    """

    def __init__(self, folder: str, door: Door, volume: Volume, now: Callable[[], float]) -> None:
        self._folder = folder
        self._door = door
        self._volume = volume
        self._now = now
        boot = power.boot_id()
        # Whatever a system calls its boots, it fits into the line.
        self._boot = "-" if boot is None else hashlib.sha256(boot).hexdigest()[:36]
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self.expired = 0
        """How many were removed because nobody went on with them."""
        self._lock = threading.Lock()

    def create(self, announced: Announced) -> Upload:
        """Begin an upload, and take it.

        Raises:
            NoSpace: what was announced does not fit beside the reserve.
            StoreFailure: as the operating system says.
        """
        self._volume.require_room(announced.length or 0)
        name = secrets.token_urlsafe(32)
        path = f"{self._folder}/{name}"
        known = Known(announced, self._now())
        with self._volume.failing("begin an upload"):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                place = Place(boot=self._boot)
                self.keep(name, place, known)
                return self._taken(name, fd, State(place, 0, known), 0)
            except BaseException:
                os.close(fd)
                self._unlink(path)
                self._unlink(path + STATE)
                raise

    def record(self, announced: Announced, stored: dict[str, object]) -> str:
        """Note an upload that is complete though not a byte has come; return its id.

        Raises:
            NoSpace, StoreFailure: as the operating system says.
        """
        name = secrets.token_urlsafe(32)
        place = Place(offset=announced.length or 0, boot=self._boot)
        self.keep(name, place, Known(announced, self._now(), stored=stored))
        return name

    def look(self, name: str) -> Looked:
        """Return what is known of an upload, whoever is at it.

        Raises:
            UnknownUpload: there is none.
            StoreFailure: as the operating system says.
        """
        with self._volume.failing("look at an upload"):
            try:
                fd = os.open(f"{self._folder}/{name}{STATE}", os.O_RDONLY | _FLAGS)
            except OSError as error:
                if isinstance(error, FileNotFoundError):
                    raise UnknownUpload from error
                raise
            try:
                touched = os.fstat(fd).st_mtime
                found = read_state(os.pread(fd, LARGEST, 0))
            finally:
                os.close(fd)
            with contextlib.suppress(FileNotFoundError):
                # What comes slowly is noted rarely.
                touched = max(touched, os.stat(f"{self._folder}/{name}").st_mtime)
        if found is None:
            raise UnknownUpload
        return Looked(found.known, touched)

    def durable(self, name: str) -> int:
        """Return how many bytes of an upload are durable, whoever is at it.

        Raises:
            UnknownUpload: there is none.
            StoreFailure: as the operating system says.
        """
        with self._volume.failing("look at an upload"):
            return self._read(name).place.offset

    def take(self, name: str) -> Upload:
        """Take an upload: while it is held nobody else is at it.

        One whose bytes have gone where they belong has none to hold.

        Raises:
            UnknownUpload: there is none.
            Busy: somebody is at it, in this process or another one.
            StoreFailure: as the operating system says.
        """
        path = f"{self._folder}/{name}"
        with self._volume.failing("take up an upload"):
            while True:
                try:
                    fd = self._open(path)
                except FileNotFoundError:
                    return self._without_bytes(name)
                taken = False
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.fstat(fd).st_nlink == 0:
                        continue  # it went meanwhile
                    upload = self._resumed(name, fd)
                    taken = True
                except BlockingIOError as error:
                    raise Busy("this upload") from error
                finally:
                    if not taken:
                        os.close(fd)
                if upload.known.over:
                    # It was cut off before it could free its bytes.
                    upload.drop_bytes()
                return upload

    @staticmethod
    def _open(path: str) -> int:
        try:
            return os.open(path, os.O_RDWR | _FLAGS)
        except PermissionError:
            # It is whole, and was made read-only on its way to its place.
            return os.open(path, os.O_RDONLY | _FLAGS)

    def _without_bytes(self, name: str) -> Upload:
        state = self._read(name)
        if not state.known.over:
            raise UnknownUpload
        return self._taken(name, -1, state, state.place.offset)

    def _resumed(self, name: str, fd: int) -> Upload:
        state = self._read(name)
        place = state.place
        self._unlink(f"{self._folder}/{name}{_WANTED}")
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise UnknownUpload
        # Within one boot the page cache has all that was written; what was linked
        # into its place as a blob was whole.
        sure = (place.of_boot(self._boot) and not place.unproven) or facts.st_nlink > 1
        offset = facts.st_size if sure else min(place.offset, facts.st_size)
        if facts.st_size > offset:
            os.ftruncate(fd, offset)
        return self._taken(name, fd, state, offset)

    def _taken(self, name: str, fd: int, state: State, offset: int) -> Upload:
        path = f"{self._folder}/{name}"
        source = Scratch(fd, path if fd >= 0 else None)
        kept: _Kept | None = None
        if fd >= 0:
            with self._lock:
                kept = self._kept.pop(name, None)
            mine = state.place.number, os.fstat(fd).st_ino
            if kept is not None and (kept.number, kept.inode) != mine:
                kept = None
            if kept is None and state.place.number:
                # Of what others noted nobody knows whether it is durable; and the other
                # line is the one that is written over.
                self.note(name, b"", 0, durable=True)
        if kept is None:
            wanted = state.known.announced.sha256 is not None
            growth = Growth(self._volume, source, want_sha256=wanted)
        else:
            state = replace(state, slot=kept.slot)
            growth = kept.growth
            growth.goes_on_in(source)
        place = replace(state.place, boot=self._boot, unproven=False)
        return Upload(
            name,
            source,
            replace(state, place=place),
            growth,
            offset=offset,
            home=self,
            door=self._door,
            volume=self._volume,
        )

    # -- for the uploads themselves ---------------------------------------------------

    def keep(self, name: str, place: Place, known: Known) -> None:
        """Replace what is known of an upload, durably.

        Raises:
            NoSpace, StoreFailure: as the operating system says.
        """
        with self._volume.failing("keep what is known of an upload"):
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._volume.replace(folder, name + STATE, content_of(place, known), mode=0o600)
            self._volume.sync(folder, "make an upload durable")
        finally:
            os.close(folder)

    def note(self, name: str, line: bytes, slot: int, *, durable: bool) -> None:
        """Note how far an upload is.

        Args:
            name: its id.
            line: what to note.
            slot: where.
            durable: whether that must outlive a loss of power.

        Raises:
            NoSpace, StoreFailure: as the operating system says.
        """
        with self._volume.failing("note how far an upload is"):
            fd = os.open(f"{self._folder}/{name}{STATE}", os.O_WRONLY | _FLAGS)
            try:
                if line:
                    os.pwrite(fd, line, slot * LINE_LENGTH)
                if durable:
                    self._volume.sync(fd, "make durable how far an upload is")
            finally:
                os.close(fd)

    def remember(self, name: str, number: int, slot: int, source: Scratch, growth: Growth) -> None:
        """Keep what was hashed of an upload whose holder lets go of it."""
        with self._lock:
            self._kept[name] = _Kept(number, slot, os.fstat(source.fd).st_ino, growth)
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)

    def _read(self, name: str) -> State:
        try:
            fd = os.open(f"{self._folder}/{name}{STATE}", os.O_RDONLY | _FLAGS)
        except FileNotFoundError:
            raise UnknownUpload from None
        try:
            found = read_state(os.pread(fd, LARGEST, 0))
        finally:
            os.close(fd)
        if found is None:
            raise UnknownUpload
        return found

    def remove(self, name: str) -> None:
        """Take an upload away, bytes first; for whoever holds it."""
        path = f"{self._folder}/{name}"
        for each in (path, f"{path}{_WANTED}", f"{path}{STATE}"):
            self._unlink(each)

    @staticmethod
    def _unlink(path: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(path)

    # -- wishes -------------------------------------------------------------------------

    def wish(self, name: str) -> None:
        """Let another process know that somebody waits for an upload that it holds."""
        with contextlib.suppress(OSError):
            fd = os.open(
                f"{self._folder}/{name}{_WANTED}", os.O_WRONLY | os.O_CREAT | _FLAGS, 0o600
            )
            os.close(fd)

    def is_wanted(self, name: str) -> bool:
        """Whether somebody waits in another process for an upload that is held here."""
        return os.path.exists(f"{self._folder}/{name}{_WANTED}")

    # -- all of them --------------------------------------------------------------------

    def spool(self) -> Spool:
        """Count what is open.

        Raises:
            StoreFailure: it cannot be listed.
        """
        uploads = size = 0
        with self._volume.failing("list the uploads"), os.scandir(self._folder) as entries:
            for entry in entries:
                if "." not in entry.name:
                    with contextlib.suppress(FileNotFoundError):
                        size += entry.stat(follow_symlinks=False).st_size
                        uploads += 1
        return Spool(uploads, size)

    def expire(self, before: float) -> int:
        """Remove uploads that nobody has gone on with.

        Args:
            before: seconds since 1970; what was touched later stays.

        Returns:
            How many were not complete.

        Raises:
            StoreFailure: they cannot be listed.
        """
        with self._volume.failing("list the uploads"):
            names = {each.partition(".")[0] for each in os.listdir(self._folder)}
        count = sum(self._expired(name, before) for name in names)
        self.expired += count
        return count

    def _expired(self, name: str, before: float) -> bool:
        if not self._was_left(name, before):
            return False
        try:
            fd = self._open(f"{self._folder}/{name}")
        except OSError:
            self.remove(name)
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Somebody may have had it, and let go of it, before it was ours.
            if not self._was_left(name, before):
                return False
            self.remove(name)
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
        return True

    def _was_left(self, name: str, before: float) -> bool:
        path = f"{self._folder}/{name}"
        times = []
        for each in (path, path + STATE, path + _WANTED):
            with contextlib.suppress(OSError):
                times.append(os.stat(each, follow_symlinks=False).st_mtime)
        return bool(times) and max(times) < before
