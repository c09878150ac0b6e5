"""A disk that remembers what is durable and what is not yet.

Steps are applied one after another; at any moment the disk can say what a
crash may leave of it. Three models of what a file system keeps:

``order``    everything, in the order it was done: an ideal disk; what ends is the machine;
``journal``  ext4 with ordered data: changes of folders, links and permissions in
             order, up to a point not before the last fsync of what they concern;
             bytes that were not synced may be missing, cut or zero;
``posix``    as little as POSIX promises: each entry of a folder has any value it
             had since that folder was synced, whatever became of other entries
             (so a rename may leave both names, or neither); permissions and bytes
             of a file likewise, in pieces of 512 bytes, since that file was synced.

``kill`` is not about the disk: the process ends, the kernel lives.

Rules of this file: no disk, no clock; what is random comes from the ``Random``
that is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random

from prove.steps import ROOT, Change, Cut, Entry, Mode, Node, Step, Write

SECTOR = 512
PAGE = 4096

Entries = dict[int, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Tree:
    """What a crash leaves.

    Args:
        entries: of each folder.
        files: the bytes of each file.
        modes: the permissions of each file and folder.
    """

    entries: Mapping[int, Mapping[str, int]]
    files: Callable[[int], bytes]
    modes: Callable[[int], int]


@dataclass(slots=True)
class File:
    """The bytes of a file.

    Args:
        durable: what the disk has for certain.
        full: what a program reads.
        pending: what leads from one to the other.
    """

    durable: bytes
    full: bytes
    pending: list[Write | Cut] = field(default_factory=list)

    def apply(self, change: Write | Cut) -> None:
        self.full = applied(self.full, change)
        self.pending.append(change)

    def sync(self) -> None:
        self.durable = self.full
        self.pending.clear()


def applied(content: bytes, change: Write | Cut) -> bytes:
    """Return a file's bytes after a change."""
    if isinstance(change, Cut):
        return content[: change.size].ljust(change.size, b"\0")
    end = change.offset + len(change.data)
    return content[: change.offset].ljust(change.offset, b"\0") + change.data + content[end:]


class Disk:
    """The state of a disk after some steps.

    Args:
        nodes: every file and folder; those that the first one leads to are there.
    """

    def __init__(self, nodes: Mapping[int, Node]) -> None:
        self._nodes = nodes
        self.entries: Entries = {}
        self.files: dict[int, File] = {}
        self.modes: dict[int, int] = {}
        for number, node in nodes.items():
            self.modes[number] = node.mode
            if node.folder:
                self.entries[number] = dict(node.entries)
            else:
                self.files[number] = File(node.content, node.content)
        # Where each folder is now.
        self._places: dict[int, tuple[int, str]] = {
            child: (folder, name)
            for folder, held in self.entries.items()
            for name, child in held.items()
            if child in nodes and nodes[child].folder
        }
        # Entries and permissions that are not durable: each value since the durable one.
        self.entry_values: dict[tuple[int, str], list[int | None]] = {}
        self.mode_values: dict[int, list[int]] = {}
        # What the journal has committed, and what waits for it.
        self._committed: Entries = {key: dict(value) for key, value in self.entries.items()}
        self._committed_modes = dict(self.modes)
        self._journal: list[tuple[Change, ...]] = []

    def apply(self, step: Step) -> None:
        """Do one more step."""
        logged: list[Change] = []
        for change in step.changes:
            match change:
                case Entry(folder, name, inode):
                    self._enter(folder, name, inode)
                    logged.append(change)
                case Mode(inode, mode):
                    self.mode_values.setdefault(inode, [self.modes[inode]]).append(mode)
                    self.modes[inode] = mode
                    logged.append(change)
                case _:
                    self.files[change.inode].apply(change)
        if logged:
            self._journal.append(tuple(logged))
        if step.everything:
            self._sync_all()
        elif step.sync is not None:
            self._sync(step.sync)

    def _enter(self, folder: int, name: str, inode: int | None) -> None:
        entries = self.entries[folder]
        self.entry_values.setdefault((folder, name), [entries.get(name)]).append(inode)
        _put(entries, name, inode)
        if inode is not None and inode in self.entries:
            self._places[inode] = (folder, name)

    def _sync(self, inode: int) -> None:
        self._commit(inode)
        self.mode_values.pop(inode, None)
        if inode in self.files:
            self.files[inode].sync()
        else:
            for key in [key for key in self.entry_values if key[0] == inode]:
                del self.entry_values[key]

    def _sync_all(self) -> None:
        self.entry_values.clear()
        self.mode_values.clear()
        for file in self.files.values():
            if file.pending:
                file.sync()
        self._write_out(len(self._journal))

    def _commit(self, inode: int) -> None:
        """An fsync commits the journal up to the last change of that inode."""
        for at in range(len(self._journal) - 1, -1, -1):
            if any(inode in _touched(change, self._committed) for change in self._journal[at]):
                self._write_out(at + 1)
                return

    def _write_out(self, count: int) -> None:
        for changes in self._journal[:count]:
            _replay(changes, self._committed, self._committed_modes)
        del self._journal[:count]

    # -- what a crash may leave ---------------------------------------------

    def whole(self) -> Tree:
        """Everything that was done."""
        return Tree(self.entries, lambda inode: self.files[inode].full, self.modes.__getitem__)

    def _reached(self, entries: Mapping[int, Mapping[str, int]]) -> list[int]:
        """Return the files that a tree leads to and whose bytes are not durable."""
        seen: set[int] = set()
        waiting = [ROOT]
        while waiting:
            for child in entries.get(waiting.pop(), {}).values():
                if child in seen:
                    continue
                seen.add(child)
                if child not in self.files:
                    waiting.append(child)
        return sorted(each for each in seen if each in self.files and self.files[each].pending)

    def journal(self, chance: Random, keep: int | None = None) -> Tree:
        """What ext4 may leave.

        Args:
            chance: decides.
            keep: how many of the waiting transactions are committed; None for any number.
        """
        if keep is None:
            keep = chance.randint(0, len(self._journal))
        entries = {key: dict(value) for key, value in self._committed.items()}
        modes = dict(self._committed_modes)
        for changes in self._journal[: min(keep, len(self._journal))]:
            _replay(changes, entries, modes)
        return self._with_bytes(entries, modes, lambda file: _some(file, chance, PAGE))

    @property
    def waiting(self) -> int:
        """How many transactions the journal has not committed."""
        return len(self._journal)

    def posix(self, chance: Random, keep: float) -> Tree:
        """What POSIX allows.

        Args:
            chance: decides.
            keep: how likely it is that a change was written out.
        """
        entries = self.entries
        if self.entry_values:
            entries = dict(entries)
            copied: set[int] = set()
            for (folder, name), values in self.entry_values.items():
                if chance.random() < keep:
                    continue
                if folder not in copied:
                    copied.add(folder)
                    entries[folder] = dict(entries[folder])
                _put(entries[folder], name, chance.choice(values[:-1]))
            self._one_place(entries)
        return self._with_bytes(
            entries, self._some_modes(chance, keep), lambda file: _any(file, chance, keep)
        )

    def _one_place(self, entries: dict[int, dict[str, int]]) -> None:
        """A file may keep both names of a rename, but a folder is in one place: the later one."""
        places: dict[int, list[tuple[int, str]]] = {}
        for folder, name in self.entry_values:
            inode = entries[folder].get(name)
            if inode in self.entries:
                places.setdefault(inode, []).append((folder, name))
        for inode, pending in places.items():
            now = self._places[inode]
            if entries[now[0]].get(now[1]) != inode:
                now = pending[-1]
            for folder, name in pending:
                if (folder, name) != now:
                    entries[folder] = {k: v for k, v in entries[folder].items() if k != name}

    def _some_modes(self, chance: Random, keep: float) -> dict[int, int]:
        modes = self.modes
        if self.mode_values:
            modes = dict(modes)
            for inode, values in self.mode_values.items():
                if chance.random() >= keep:
                    modes[inode] = chance.choice(values[:-1])
        return modes

    def pending(self) -> list[tuple[int, str] | int]:
        """Name what is not durable: entries as (folder, name), files by their inode."""
        files = [inode for inode, file in self.files.items() if file.pending]
        return [*self.entry_values, *files]

    def one(self, which: tuple[int, str] | int, *, kept: bool) -> Tree:
        """What is left if one change alone was written out, or it alone was not."""
        entries = {key: dict(value) for key, value in self.entries.items()}
        for (folder, name), values in self.entry_values.items():
            if (which == (folder, name)) != kept:
                _put(entries[folder], name, values[0])
        self._one_place(entries)
        files = self.files

        def content(inode: int) -> bytes:
            file = files[inode]
            if not file.pending:
                return file.full
            return file.full if (which == inode) == kept else file.durable

        return Tree(entries, content, self.modes.__getitem__)

    def _with_bytes(
        self,
        entries: Mapping[int, Mapping[str, int]],
        modes: Mapping[int, int],
        choose: Callable[[File], bytes],
    ) -> Tree:
        chosen = {inode: choose(self.files[inode]) for inode in self._reached(entries)}
        files = self.files

        def content(inode: int) -> bytes:
            found = chosen.get(inode)
            return files[inode].full if found is None else found

        return Tree(entries, content, modes.__getitem__)


def _put(entries: dict[str, int], name: str, inode: int | None) -> None:
    if inode is None:
        entries.pop(name, None)
    else:
        entries[name] = inode


def _replay(changes: Iterable[Change], entries: Entries, modes: dict[int, int]) -> None:
    for change in changes:
        if isinstance(change, Entry):
            _put(entries[change.folder], change.name, change.inode)
        elif isinstance(change, Mode):
            modes[change.inode] = change.mode


def _touched(change: Change, committed: Entries) -> tuple[int | None, ...]:
    if isinstance(change, Entry):
        # What had the name before loses a link.
        return change.folder, change.inode, committed.get(change.folder, {}).get(change.name)
    return (change.inode,)


def _some(file: File, chance: Random, piece: int) -> bytes:
    """Bytes of a file whose pages were written out in any number, in this order or not."""
    content = file.durable
    for change in file.pending:
        fate = chance.random()
        if isinstance(change, Cut) or fate < 0.3:
            content = applied(content, change)
        elif fate < 0.5:
            continue
        elif fate < 0.7:
            size = chance.randrange(len(change.data) + 1) // piece * piece
            content = applied(content, Write(change.inode, change.offset, change.data[:size]))
        elif fate < 0.85:
            content = _scattered(content, change, chance, piece)
        else:
            content = applied(content, Write(change.inode, change.offset, bytes(len(change.data))))
    return content


def _any(file: File, chance: Random, keep: float) -> bytes:
    if chance.random() < keep:
        return file.full
    if chance.random() < 0.3:
        return file.durable
    content = _some(file, chance, SECTOR)
    if chance.random() < 0.1:
        content = content[: chance.randrange(len(content) + 1)]
        # What is durable stays, as far as it was not to be cut away.
        cuts = (each.size for each in file.pending if isinstance(each, Cut))
        content += file.durable[len(content) : min(cuts, default=None)]
    return content


def _scattered(content: bytes, change: Write, chance: Random, piece: int) -> bytes:
    """Write some sectors of a write; where nothing was before, zeros stand for the others."""
    end = change.offset + len(change.data)
    result = bytearray(content.ljust(end, b"\0"))
    at = change.offset
    while at < end:
        stop = min(at - at % piece + piece, end)
        if chance.random() < 0.5:
            result[at:stop] = change.data[at - change.offset : stop - change.offset]
        at = stop
    return bytes(result)
