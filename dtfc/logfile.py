"""A file of lines that several processes append to, and that logrotate moves away.

Rules of this file: logging never stops the service. A line that cannot be
written is counted and lost.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from twisted.logger import Logger

_log = Logger()
_STDOUT = 1


class ReopenableFile:
    """A log file that several processes may append to, and that logrotate may move away.

    Nothing is buffered: a line is in the file when :meth:`line` returns, in one
    piece, whatever other process writes at the same time.

    Args:
        path: the file, absolute, or ``-`` for standard output.
        fd: the file, open already.
    """

    def __init__(self, path: str, fd: int | None = None) -> None:
        self.path = path
        self.lost = 0
        self._fd = fd

    @property
    def fd(self) -> int | None:
        """The open file; ``None`` if it is not open."""
        return self._fd

    def open(self) -> None:
        """Open the file, and make it (0640) if it is missing.

        Raises:
            OSError: it cannot be opened for writing.
        """
        if self.path == "-":
            self._fd = os.dup(_STDOUT)
        else:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, 0o640)

    def line(self, text: str) -> None:
        """Append a line; one that cannot be written is counted in :attr:`lost`."""
        if self._fd is None:
            self.lost += 1
            return
        try:
            os.write(self._fd, f"{text}\n".encode("utf-8", "backslashreplace"))
        except OSError:
            self.lost += 1

    def lines(self, texts: Sequence[str]) -> None:
        """Append several lines with one write."""
        self.line("\n".join(texts))

    def reopen(self) -> None:
        """Open the path again; while that fails, the file as it was goes on."""
        old, lost = self._fd, self.lost
        try:
            self.open()
            if old is not None and self._fd is not None:
                # The new file takes the old one's number: a disk thread that
                # writes at this moment writes to one of the two.
                os.dup2(self._fd, old, inheritable=False)
                os.close(self._fd)
                self._fd = old
        except OSError as error:
            _log.error(
                "the log {path} could not be opened again, the old one goes on: {reason}",
                path=self.path,
                reason=error.strerror,
            )
            return
        self.lost = 0
        if lost:
            _log.warn("{lost} lines of the log were lost", lost=lost)

    def close(self) -> None:
        """Close the file; what is written later is lost."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
