"""What a store did to the disk, as a list of steps; and the tree it began with.

Rules of this file: values only; nothing here touches a disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: The inode of the folder that everything recorded lies in.
ROOT = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder's entry changes.

    Args:
        folder: the inode of the folder.
        name: of the entry.
        inode: what it names from now on; None if nothing.
    """

    folder: int
    name: str
    inode: int | None


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes go into a file."""

    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """A file gets another size."""

    inode: int
    size: int


@dataclass(frozen=True, slots=True)
class Mode:
    """A file or folder gets other permissions."""

    inode: int
    mode: int


Change = Entry | Write | Cut | Mode


@dataclass(frozen=True, slots=True)
class Step:
    """One system call that changed the disk, or made changes durable.

    Args:
        call: its name.
        where: the path it worked on, for reports.
        changes: what it changed; those of one step are one for a journal.
        sync: the inode that it made durable, if any.
        everything: whether it made the whole file system durable.
    """

    call: str
    where: str
    changes: tuple[Change, ...] = ()
    sync: int | None = None
    everything: bool = False

    def __str__(self) -> str:
        return f"{self.call} {self.where}"


@dataclass(slots=True)
class Node:
    """A file or folder before anything was recorded, or when it came into being.

    Args:
        folder: whether it is a folder.
        mode: its permissions.
        content: the bytes of a file.
        entries: what a folder holds.
    """

    folder: bool
    mode: int
    content: bytes = b""
    entries: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Recording:
    """All that is known of one run.

    Args:
        nodes: every file and folder there ever was; those there at the
            beginning with all that they held.
        steps: in the order they took effect.
        catalogs: what SQLite's files held, each with the number of steps done by then.
    """

    nodes: dict[int, Node]
    steps: list[Step] = field(default_factory=list)
    catalogs: list[tuple[int, dict[str, bytes]]] = field(default_factory=list)
