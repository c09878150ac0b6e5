"""A blob kept open, and what tells that it is still what it was.

Every change that a node makes to a blob (a marker, a name, a healed or deleted
file) makes, renames or removes an entry of its folder, which changes the
folder's ctime; a change in place, of the bytes or of the names, changes that of
the file. So three fstats, about two microseconds together, say whether an
answer prepared earlier still holds.

The kernel's time stamps move in ticks of up to 10 ms, those of some file
systems in seconds: a second change within one tick leaves no trace. So a blob
that changed less than :data:`SETTLED` and a tick ago is not watched at all.
"""

from __future__ import annotations

import os
import time

from dtfc.store.facts import BlobInfo

#: Nanoseconds after which a further change gets a time stamp of its own.
SETTLED = 100_000_000

_SECOND = 1_000_000_000


class WatchedBlob:
    """A blob that is open, with its folder.

    Args:
        info: its facts.
        fd: the file; belongs to this object.
        folder: its folder; belongs to this object.
        names: the file with its names, -1 if there is none; belongs to this object.
        seen: the folder's ctime in nanoseconds, from before the facts were read.
    """

    __slots__ = ("_folder", "_names", "_seen", "fd", "info")

    def __init__(self, info: BlobInfo, fd: int, folder: int, names: int, seen: int) -> None:
        self.info = info
        self.fd = fd
        self._folder = folder
        self._names = names
        self._seen = (seen, os.fstat(fd).st_ctime_ns, _ctime(names))

    def unchanged(self) -> bool:
        """Whether nothing about the blob has changed since it was opened."""
        folder, data, names = self._seen
        return (
            os.fstat(self._folder).st_ctime_ns == folder
            and os.fstat(self.fd).st_ctime_ns == data
            and _ctime(self._names) == names
        )

    def settled(self) -> bool:
        """Whether a change from now on will be seen."""
        # Some file systems (HFS+, ext4 with small inodes) keep whole seconds alone.
        tick = 0 if any(each % _SECOND for each in self._seen) else _SECOND
        return time.time_ns() - max(self._seen) > SETTLED + tick

    def close(self) -> None:
        """Close every descriptor; harmless when repeated."""
        for fd in (self.fd, self._folder, self._names):
            if fd >= 0:
                os.close(fd)
        self.fd = self._folder = self._names = -1


def _ctime(fd: int) -> int:
    return os.fstat(fd).st_ctime_ns if fd >= 0 else 0
