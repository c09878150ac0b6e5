"""How far the scrub is, kept on the disk: the next process goes on from there.

Rules of this file: what is lost of it costs reading some blobs again, so it is
not made durable; what makes no sense counts as nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from dataclasses import dataclass, replace
from typing import Self

from dtfc.digest import Digest
from dtfc.errors import BadDigest


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the scrub is.

    Args:
        cursor: the last blob that this pass is done with; None before the first
            and after the last.
        began: when this pass began, in seconds since 1970; 0 if there was none.
        ended: when the last whole pass ended, in seconds since 1970; 0 if none did.
        blobs: that this pass has read.
        bytes: that this pass has read.
        corrupt: blobs that this pass found damaged.
    """

    cursor: Digest | None = None
    began: float = 0.0
    ended: float = 0.0
    blobs: int = 0
    bytes: int = 0
    corrupt: int = 0

    def due(self, now: float, period: float) -> bool:
        """Whether there is something to do: a pass to finish, or one to begin."""
        return self.under_way or now - self.began >= period

    @property
    def under_way(self) -> bool:
        """Whether a pass has begun and not ended."""
        return self.began > self.ended

    @property
    def ratio(self) -> float:
        """How much of the store this pass has read, or the last one: 0 to 1.

        It goes by digest, and digests lie evenly.
        """
        if not self.under_way:
            return 1.0 if self.ended > 0 else 0.0
        return 0.0 if self.cursor is None else int(self.cursor.hex[:8], 16) / 2**32

    def new_pass(self, now: float) -> Progress:
        """Return what it is when a pass begins."""
        return Progress(began=now, ended=min(self.ended, now - 1e-6))

    def completed(self, now: float) -> Progress:
        """Return what it is when a pass has ended."""
        return replace(self, cursor=None, ended=max(now, self.began))


def parse_progress(text: str) -> Progress:
    """Read what was written; nonsense is no progress."""
    try:
        facts = json.loads(text)
        cursor = facts["cursor"]
        return Progress(
            None if cursor is None else Digest.from_hex(cursor),
            float(facts["began"]),
            float(facts["ended"]),
            int(facts["blobs"]),
            int(facts["bytes"]),
            int(facts["corrupt"]),
        )
    except (ValueError, KeyError, TypeError, BadDigest, OverflowError):
        return Progress()


def compose_progress(progress: Progress) -> str:
    """Compose what :func:`parse_progress` reads."""
    facts = {
        "cursor": None if progress.cursor is None else progress.cursor.hex,
        "began": progress.began,
        "ended": progress.ended,
        "blobs": progress.blobs,
        "bytes": progress.bytes,
        "corrupt": progress.corrupt,
    }
    return json.dumps(facts) + "\n"


class Ledger:
    """The file that holds the progress; its lock makes one scrub a store.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        # Who stops does not wait for what is being written: by the time that it
        # is, the descriptor must not be another file's.
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take the lock; False if another process has it.

        Raises:
            OSError: the file cannot be opened.
        """
        if self._fd >= 0:
            return True
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def read(self) -> Progress:
        """Return what the file says, whoever has the lock."""
        try:
            # Not as ASCII: a process that has shed its privileges may not be able
            # to import Python's codec for it.
            with open(self._path, "rb") as file:
                return parse_progress(file.read(4096).decode("utf-8", "replace"))
        except OSError:
            return Progress()

    def write(self, progress: Progress) -> None:
        """Write it down; the caller has the lock."""
        # On a full disk the old progress stays, which does no harm.
        with self._lock, contextlib.suppress(OSError):
            content = compose_progress(progress).encode()
            os.pwrite(self._fd, content, 0)
            os.ftruncate(self._fd, len(content))

    def close(self) -> None:
        """Give up the lock; harmless when repeated."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
