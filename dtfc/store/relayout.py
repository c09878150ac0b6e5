"""Gives a store the other form: 64 folders for a blob, or three.

Rules of this file: it has the store for itself. A blob's folder is renamed as
it is, so it lies in one of its two places at every moment; which of them counts
is not asked before all lie in the new one. What was done is not noted anywhere:
whoever goes on finds it in the tree.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from dtfc.digest import Digest
from dtfc.errors import BrokenStore, Busy, StoreFailure
from dtfc.store import durable, syscalls
from dtfc.store.blobs import DEFAULT_RESERVE, open_store
from dtfc.store.folders import Folders
from dtfc.store.layout import (
    FULL_SPLIT,
    OWN,
    TWO_LEVELS,
    Form,
    Layout,
    is_shard,
    read_form,
    write_form,
)
from dtfc.store.power import Alone
from dtfc.store.volume import Volume

#: Blobs that share a wait for the disk.
BATCH = 256

#: Bytes that a folder takes.
_FOLDER_COSTS = 4096

#: Paths that are told of what was left.
MOST_TOLD = 100

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_EMPTY = frozenset({errno.ENOTEMPTY, errno.EEXIST})
_NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EMLINK})


@dataclass(frozen=True, slots=True)
class Relayout:
    """What was done.

    Args:
        fan_out: what the store has now.
        moved: folders of blobs that were renamed.
        removed: folders that led nowhere any more.
        left: paths of those that did not either, but hold something else; of so many
            at most (:data:`MOST_TOLD`).
    """

    fan_out: int
    moved: int
    removed: int
    left: tuple[str, ...]


def relayout(
    basedir: str,
    fan_out: int,
    *,
    reserve: int = DEFAULT_RESERVE,
    told: Callable[[int], object] = lambda _moved: None,
) -> Relayout:
    """Give a store another form; go on where an earlier one was interrupted.

    Args:
        basedir: the store.
        fan_out: 64 or 2.
        reserve: bytes of the file system that are kept back.
        told: told now and then how many blobs were moved.

    Raises:
        Busy: another process has the store open.
        BrokenStore: its files make no sense, or something is in the way.
        NoSpace, StoreFailure: the operating system refuses; it can be gone on with.
    """
    base = os.path.abspath(basedir)
    form = _form_of(base)
    if form is None or form.becomes is None:
        with _alone(base):
            pass  # Nobody has it: what follows opens it for a moment.
        # What a crash left in logs and elsewhere comes into the tree.
        open_store(base, reserve=reserve).close()
    with _alone(base):
        form = _form_of(base)
        if form is None:
            raise BrokenStore(base, "its format vanished")
        if (form.fan_out, form.becomes) == (fan_out, None):
            return Relayout(fan_out, 0, 0, ())
        if form.becomes is None and set(os.listdir(f"{base}/{OWN}/log")) - {"lock"}:
            # A node was here for a moment, and was killed.
            raise Busy(f"the store {base}")
        _write(base, replace(form, becomes=fan_out))
        done = _Conversion(base, form.node_id, fan_out, reserve, told).run()
        _write(base, Form(fan_out, form.node_id))
        return done


class _Conversion:
    def __init__(
        self, base: str, node_id: str, fan_out: int, reserve: int, told: Callable[[int], object]
    ) -> None:
        other = TWO_LEVELS if fan_out == FULL_SPLIT else FULL_SPLIT
        self._old, self._new = Layout(base, other, node_id), Layout(base, fan_out, node_id)
        self._volume = Volume(self._new, reserve=reserve)
        self._told = told
        self._moved = 0

    def run(self) -> Relayout:
        old, new = Folders(self._old, self._volume), Folders(self._new, self._volume)
        removed, left = 0, list[str]()
        try:
            batch: list[Digest] = []
            for digest, _ in old.walk():
                batch.append(digest)
                if len(batch) >= BATCH:
                    self._move(batch, old, new)
                    batch.clear()
            self._move(batch, old, new)
            # What a blob lay in goes when it is sure to lie elsewhere.
            self._make_durable()
            with self._volume.failing("remove folders that lead nowhere"):
                if self._new.fan_out == TWO_LEVELS:
                    removed = _remove_empty(self._new.basedir, left)
            self._make_durable()
        finally:
            old.close()
            new.close()
        return Relayout(self._new.fan_out, self._moved, removed, tuple(left))

    def _move(self, batch: list[Digest], old: Folders, new: Folders) -> None:
        if not batch:
            return
        if self._new.fan_out == FULL_SPLIT:
            self._volume.require_room(len(batch) * FULL_SPLIT * _FOLDER_COSTS)
        with self._volume.failing("make folders"):
            for digest in batch:
                new.prepare(digest)
        # A blob must not be moved into what a loss of power takes away.
        self._make_durable(batch)
        with self._volume.failing("move a blob's folder"):
            for digest in batch:
                self._move_one(digest, old, new)
                self._moved += 1
        self._told(self._moved)

    def _move_one(self, digest: Digest, old: Folders, new: Folders) -> None:
        source = old.parent(digest)
        if source is None:
            raise BrokenStore(self._old.folder(digest), "vanished while it was moved")
        name = self._old.levels(digest)[-1]
        try:
            try:
                new.adopt(digest, source, name)
            except syscalls.Unsupported:
                self._rename(digest, source, name, new)
        except FileExistsError:
            raise BrokenStore(
                self._new.folder(digest),
                f"is in the way of {self._old.folder(digest)}: one blob in two places",
            ) from None
        finally:
            os.close(source)

    def _rename(self, digest: Digest, source: int, name: str, new: Folders) -> None:
        """Do the same where no system call refuses to replace: nobody else is here."""
        target = new.parent(digest)
        if target is None:
            raise BrokenStore(self._new.folder(digest), "leads nowhere")
        try:
            last = self._new.levels(digest)[-1]
            with contextlib.suppress(FileNotFoundError):
                os.lstat(last, dir_fd=target)
                raise FileExistsError
            os.rename(name, last, src_dir_fd=source, dst_dir_fd=target)
        finally:
            os.close(target)

    def _make_durable(self, batch: list[Digest] | None = None) -> None:
        """Make all folders durable, or those that lead to some blobs where there is no such call.

        Raises:
            StoreFailure: they are not.
        """
        base = self._new.basedir
        with self._volume.failing("make folders durable"):
            fd = os.open(base, _FOLDER)
            try:
                syscalls.sync_filesystem(fd)
            except syscalls.Unsupported:
                for path in self._all_folders() if batch is None else self._folders_to(batch):
                    durable.sync_folder(path)
            finally:
                os.close(fd)

    def _folders_to(self, batch: list[Digest]) -> Iterator[str]:
        """Return every folder that leads to some blobs, and of each the innermost ones first."""
        seen: set[str] = set()
        for digest in batch:
            path = self._new.folder(digest)
            while len(path) > len(self._new.basedir):
                path = os.path.dirname(path)
                if path not in seen:
                    seen.add(path)
                    yield path

    def _all_folders(self) -> Iterator[str]:
        """Return every folder of the store, the innermost ones first."""
        for path, _, _ in os.walk(self._new.basedir, topdown=False):
            yield path


def _remove_empty(base: str, left: list[str]) -> int:
    """Remove the folders of the full split below its second level that hold nothing.

    Args:
        base: the store.
        left: takes the paths of those that hold something.

    Returns:
        How many were removed.
    """
    removed = 0
    for first in filter(is_shard, sorted(os.listdir(base))):
        for second in _shards_in(base, first):
            path = f"{first}/{second}"
            with _folder(f"{base}/{path}") as fd:
                if fd is not None:
                    removed += _remove_below(fd, path, left)
    return removed


def _shards_in(base: str, first: str) -> list[str]:
    with _folder(f"{base}/{first}") as fd:
        return [] if fd is None else sorted(filter(is_shard, os.listdir(fd)))


def _remove_below(above: int, path: str, left: list[str]) -> int:
    removed = 0
    for name in filter(is_shard, os.listdir(above)):
        here = f"{path}/{name}"
        with _folder(name, above) as fd:
            if fd is None:
                continue
            known = len(left)
            removed += _remove_below(fd, here, left)
        try:
            os.rmdir(name, dir_fd=above)
        except OSError as error:
            if error.errno not in _NOT_EMPTY:
                raise
            # Of a branch the innermost folder is named, which is what keeps it.
            if len(left) == known and known < MOST_TOLD:
                left.append(here)
        else:
            removed += 1
    return removed


@contextlib.contextmanager
def _folder(path: str, above: int | None = None) -> Iterator[int | None]:
    """Hold a folder, through no symbolic link; None if it is none."""
    try:
        fd = os.open(path, _FOLDER, dir_fd=above)
    except OSError as error:
        if error.errno not in _NO_FOLDER:
            raise
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _alone(base: str) -> Iterator[None]:
    """Hold the store, which no other process may have open.

    Raises:
        Busy: one has.
        StoreFailure: the operating system refuses.
    """
    try:
        os.makedirs(f"{base}/{OWN}", 0o700, exist_ok=True)
        alone = Alone(f"{base}/{OWN}/running")
    except BlockingIOError:
        raise Busy(f"the store {base}") from None
    except OSError as error:
        raise StoreFailure(f"open the folder {base}", error) from error
    try:
        yield
    finally:
        alone.close()


def _form_of(base: str) -> Form | None:
    try:
        return read_form(base)
    except OSError as error:
        raise StoreFailure(f"read the format of {base}", error) from error


def _write(base: str, form: Form) -> None:
    try:
        write_form(base, form)
    except OSError as error:
        raise StoreFailure(f"write the format of {base}", error) from error
