"""The small files beside a blob's bytes: its names, and the markers that deny it.

Rules of this file: whatever lies there was perhaps written by another program,
or by hand. It is read with a bound, nothing but a regular file is opened, and
what makes no sense is skipped, never an error.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Sequence
from typing import Literal

from dtfc.digest import Digest
from dtfc.errors import BadInput, BadName
from dtfc.store.capabilities import NOT_FOLLOWED
from dtfc.store.facts import BlobInfo, Marker
from dtfc.store.records import ALIVE, DELETED, Record, from_facts, newest

DATA = "data"
NAMES = "filename"
CHUNKS = "chunks"
TOMBSTONE = "404"
# What is remembered of a deletion everywhere, where the tombstone is not the
# place for it: of a revival, or beside a marker that is not ours to change.
RECORD = "deletion"

# A blob keeps so many names; the oldest go first.
MOST_NAMES = 1000
_NAMES_LIMIT = 1 << 20
_MARKER_LIMIT = 4096
_LONGEST_NAME = 1024  # bytes; the web takes 255, a file from elsewhere may have more
# Linux's; where there is none, mount options decide.
_NOATIME: int = getattr(os, "O_NOATIME", 0)
# Opening a socket is ENXIO on Linux, and EOPNOTSUPP elsewhere.
_NOT_A_FILE = (errno.ENOENT, errno.ENXIO, errno.EOPNOTSUPP, errno.ENOTDIR, *NOT_FOLLOWED)


def open_regular(folder: int, name: str) -> int | None:
    """Open a regular file in a folder for reading; None for anything else.

    A symbolic link is not followed, and a fifo or device is not even opened.

    Raises:
        OSError: the file is there, and cannot be opened.
    """
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return None
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = _open_unnoted(name, flags, folder)
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            return None
        raise
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def _open_unnoted(name: str, flags: int, folder: int) -> int:
    """Open without noting the time of access, where that is allowed.

    To note it is a write to the disk, made by whoever reads: by the loop, for
    what it sends, and it waits there while the disk is busy with syncs.
    """
    if _NOATIME:
        try:
            return os.open(name, flags | _NOATIME, dir_fd=folder)
        except OSError as error:
            if error.errno != errno.EPERM:
                raise
            # The file is another user's.
    return os.open(name, flags, dir_fd=folder)


def is_regular(folder: int, name: str) -> bool:
    """Tell whether a folder has a regular file of that name.

    Raises:
        OSError: that cannot be found out.
    """
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def exists(folder: int, name: str) -> bool:
    """Tell whether a folder has an entry of that name, of whatever kind."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def tombstone_line(
    at: str, node: str, info: BlobInfo | None, record: Record | None = None
) -> bytes:
    """Compose a tombstone.

    Args:
        at: when the blob was deleted, in ISO 8601.
        node: who deleted it.
        info: what was deleted, if it was here.
        record: of the deletion, if it is one everywhere.
    """
    facts: dict[str, object] = {"deleted": at, "node": node}
    if info is not None:
        facts |= {"length": info.length, "name": info.name}
    if record is not None:
        facts |= {"counter": record.counter, "id": record.id}
    return json.dumps(facts, ensure_ascii=True).encode("ascii") + b"\n"


def read_marker(folder: int) -> Marker | None:
    """Return the marker in a blob's folder; 403 wins over 404.

    Raises:
        OSError: a marker is there, and cannot be read.
    """
    if exists(folder, "403"):
        return Marker(403, by_operator=True)
    return read_404(folder)


def read_404(folder: int) -> Marker | None:
    """Return the 404 marker, whether or not there is a 403 beside it.

    The tombstone of a deletion everywhere counts no more where there is the
    record of a later revival: a crash came before it could be lifted.

    Raises:
        OSError: it is there, and cannot be read.
    """
    found = read_stone(folder)
    if found is not None and is_spread(found) and exists(folder, RECORD):
        later = _line_of(folder, RECORD)
        if isinstance(later, dict) and later.get("kind") == ALIVE:
            deletion, revival = found.facts["counter"], later.get("counter")
            if type(deletion) is int and type(revival) is int and revival > deletion:
                return None
    return found


def read_stone(folder: int) -> Marker | None:
    """Return the 404 marker that lies there, whether or not it counts.

    Raises:
        OSError: it is there, and cannot be read.
    """
    if not exists(folder, TOMBSTONE):
        return None
    status: Literal[404] = 404
    facts = _line_of(folder, TOMBSTONE)
    if isinstance(facts, dict) and isinstance(facts.get("deleted"), str):
        return Marker(status, by_operator=False, facts=facts)
    return Marker(status, by_operator=True)


def is_spread(marker: Marker | None) -> bool:
    """Tell whether a marker is the tombstone of a deletion everywhere."""
    return marker is not None and "counter" in marker.facts


def read_record(folder: int, digest: Digest) -> Record | None:
    """Return what a blob's folder remembers of deletions everywhere.

    It stands in the tombstone, or in a file of its own; where both say
    something, a crash came between them, and the newer one counts.

    Raises:
        OSError: it is there, and cannot be read.
    """
    found: Record | None = None
    if exists(folder, RECORD):
        found = _record_of(digest, _line_of(folder, RECORD))
    marker = read_stone(folder)
    if marker is None or not is_spread(marker):
        return found
    stone = {**marker.facts, "kind": DELETED, "at": marker.facts.get("deleted")}
    return newest(found, _record_of(digest, stone))


def _record_of(digest: Digest, facts: object) -> Record | None:
    if not isinstance(facts, dict):
        return None
    try:
        return from_facts(digest, facts)
    except BadInput:
        return None


def _line_of(folder: int, name: str) -> object:
    text = _read(folder, name, _MARKER_LIMIT)
    try:
        return json.loads(text.partition(b"\n")[0]) if text else None
    except ValueError:
        return None


def read_names(folder: int) -> tuple[str, ...]:
    """Return a blob's names, each once, the current one last.

    The 2015 program appended a line for every PUT, so a name may stand there
    several times: its last place counts.

    Raises:
        OSError: the file is there, and cannot be read.
    """
    lines = _read(folder, NAMES, _NAMES_LIMIT, from_end=True).split(b"\n")
    latest: dict[str, None] = {}
    for line in reversed(lines):
        name = line.removesuffix(b"\r").decode("utf-8", errors="replace")
        if name:
            latest.setdefault(name)
        if len(latest) == MOST_NAMES:
            break
    return tuple(reversed(latest))


def read_whole_names(folder: int) -> tuple[str, ...] | None:
    """Return a blob's names; None if the file is not there, or was torn by a loss of power.

    It ends with a line's end, and no name holds a NUL: what is cut does not end
    so, and what was not written reads as NULs. A file that holds no names says
    that the blob has none.

    Raises:
        OSError: the file is there, and cannot be read.
    """
    content = _read(folder, NAMES, _NAMES_LIMIT, from_end=True)
    if not content.endswith(b"\n") or b"\0" in content:
        return None
    return read_names(folder)


def with_name(names: Sequence[str], name: str) -> tuple[str, ...]:
    """Return the names with one made the current one."""
    return (*(each for each in names if each != name), name)[-MOST_NAMES:]


def names_file(names: Sequence[str]) -> bytes:
    """Compose the file that holds these names, one a line; of none, an empty line."""
    return ("".join(f"{name}\n" for name in names) or "\n").encode("utf-8")


def check_line(name: str) -> str:
    """Return a name that can be a line of its own in the file of names.

    What makes a good file name is decided where names come in; here it is only
    about what this file can hold.

    Raises:
        BadName: it cannot.
    """
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise BadName("a file name must be valid Unicode") from error
    if not name:
        raise BadName("a file name must not be empty")
    if size > _LONGEST_NAME:
        raise BadName(f"a file name has at most {_LONGEST_NAME} bytes")
    if any(each in name for each in "\n\r\0"):
        raise BadName("a file name must not hold a line end or a NUL")
    return name


def _read(folder: int, name: str, limit: int, *, from_end: bool = False) -> bytes:
    fd = open_regular(folder, name)
    if fd is None:
        return b""
    try:
        skipped = max(0, os.fstat(fd).st_size - limit) if from_end else 0
        pieces = []
        left = limit
        offset = skipped
        while left > 0 and (piece := os.pread(fd, left, offset)):
            pieces.append(piece)
            offset += len(piece)
            left -= len(piece)
    finally:
        os.close(fd)
    content = b"".join(pieces)
    # The line that the limit cut in two is not a name.
    return content.partition(b"\n")[2] if skipped else content
