"""Records every change that code in this process makes below one folder.

The functions of ``os``, ``open`` and the calls of ``dtfc.store.syscalls`` are
replaced while the recorder is installed; each does what it always does, and
leaves a step. What SQLite writes goes past all of them: its files are copied
whenever the catalog was told something.

A change that was missed would make every later conclusion worthless, so
:meth:`Recorder.differences` compares what was recorded with what is there.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

from dtfc.store import power, syscalls
from dtfc.store.catalog import Catalog
from prove.disk import Disk
from prove.steps import ROOT, Change, Cut, Entry, Mode, Node, Recording, Step, Write

#: What the kernel calls itself during a recording; a power cut changes it.
BOOT = b"the boot that was recorded"

CATALOG = ".dtfc/catalog"
_SQLITE = "catalog.sqlite"

Real = Callable[..., Any]


class _Written:
    """What ``open`` returns for writing: every write goes through ``os`` at once."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def write(self, data: bytes) -> int:
        if data:
            os.pwrite(self._fd, data, os.fstat(self._fd).st_size)
        return len(data)

    def flush(self) -> None:
        pass

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Recorder:
    """Records what happens below a folder, once it is installed.

    Args:
        root: the folder; what is there already counts as durable.
        store: the store in it, for its catalog.
        deaf: a sync for which this is true is recorded as if it had done
            nothing: the fault that the checks must find.
        pause: called before each step, outside of the lock that orders them.
    """

    def __init__(
        self,
        root: str,
        store: str,
        *,
        deaf: Callable[[Step], bool] = lambda _step: False,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self.root = root
        self.store = store
        self._deaf = deaf
        self._pause = pause
        self._lock = threading.RLock()
        self._inodes: dict[tuple[int, int], int] = {}
        self._fds: set[int] = set()
        self._catalog_changed = True
        self._real: dict[str, Real] = {}
        self.recording = Recording({})
        self._scan(root)

    @property
    def at(self) -> int:
        """How many steps there are by now."""
        return len(self.recording.steps)

    def _scan(self, path: str) -> int:
        facts = os.stat(path, follow_symlinks=False)
        key = facts.st_dev, facts.st_ino
        if key in self._inodes:
            return self._inodes[key]
        node = Node(stat.S_ISDIR(facts.st_mode), stat.S_IMODE(facts.st_mode))
        number = self._register(key, node)
        if node.folder:
            for name in os.listdir(path):
                if not name.startswith(_SQLITE):
                    node.entries[name] = self._scan(f"{path}/{name}")
        else:
            with open(path, "rb") as file:
                node.content = file.read()
        return number

    def _register(self, key: tuple[int, int], node: Node) -> int:
        number = len(self.recording.nodes)
        self.recording.nodes[number] = node
        self._inodes[key] = number
        return number

    # -- putting it in place ------------------------------------------------

    @contextlib.contextmanager
    def installed(self) -> Iterator[Recorder]:
        """Record while this holds."""
        replaced: list[tuple[Any, str, Any]] = []

        def replace(owner: Any, name: str, new: Any) -> None:
            replaced.append((owner, name, getattr(owner, name)))
            setattr(owner, name, new)

        for name in (
            *("open", "close", "mkdir", "link", "rename", "replace", "unlink", "remove", "rmdir"),
            *("write", "pwrite", "writev", "pwritev", "ftruncate", "truncate", "chmod", "fchmod"),
            *("fsync", "fdatasync", "sync"),
        ):
            self._real[name] = getattr(os, name)
            replace(os, name, getattr(self, f"_{name}"))
        for name in ("symlink", "mkfifo", "mknod", "posix_fallocate", "copy_file_range"):
            replace(os, name, _unknown(name))
        self._real["builtin"] = builtins.open
        replace(builtins, "open", self._builtin_open)
        self._real["rename_new"] = syscalls.rename_new
        replace(syscalls, "rename_new", self._rename_new)
        self._real["syncfs"] = syscalls.sync_filesystem
        replace(syscalls, "sync_filesystem", self._syncfs)
        replace(Catalog, "_write", self._heard(Catalog._write))  # noqa: SLF001 - SQLite is not seen
        replace(power, "boot_id", lambda: BOOT)
        try:
            yield self
        finally:
            for owner, name, old in reversed(replaced):
                setattr(owner, name, old)

    def _heard(self, real: Real) -> Real:
        def write(catalog: Any, work: Any) -> None:
            real(catalog, work)
            self.catalog_changed()

        return write

    def catalog_changed(self) -> None:
        """Copy SQLite's files before the next step."""
        self._catalog_changed = True

    def kill(self) -> None:
        """End what was opened as a killed process would: only descriptors are closed."""
        with self._lock:
            self._settle_catalog()
            for fd in self._fds:
                with contextlib.suppress(OSError):
                    self._real["close"](fd)
            self._fds.clear()

    def finish(self) -> Recording:
        """Return what was recorded; call it when nothing more comes.

        Raises:
            AssertionError: the recording and the disk disagree.
        """
        self._settle_catalog()
        different = self.differences()
        if different:
            raise AssertionError(f"the recorder missed something: {different}")
        return self.recording

    def differences(self) -> list[str]:
        """Compare what was recorded with what is on the disk."""
        disk = Disk(self.recording.nodes)
        for step in self.recording.steps:
            disk.apply(step)
        found: list[str] = []
        self._compare(disk, ROOT, self.root, found)
        return found

    def _compare(self, disk: Disk, inode: int, path: str, found: list[str]) -> None:
        there = {name for name in os.listdir(path) if not name.startswith(_SQLITE)}
        known = disk.entries.get(inode, {})
        found.extend(f"{path}/{name}" for name in there.symmetric_difference(known))
        for name in sorted(there & set(known)):
            child, full = known[name], f"{path}/{name}"
            facts = os.stat(full, follow_symlinks=False)
            if stat.S_IMODE(facts.st_mode) != disk.modes[child]:
                found.append(f"mode of {full}")
            if stat.S_ISDIR(facts.st_mode):
                self._compare(disk, child, full, found)
            else:
                with open(full, "rb") as file:
                    if file.read() != disk.files[child].full:
                        found.append(f"content of {full}")

    # -- steps --------------------------------------------------------------

    def _add(self, call: str, where: str, *changes: Change, sync: int | None = None) -> None:
        step = Step(call, where, changes, sync)
        if sync is not None and self._deaf(step):
            step = Step(call, where)
        self.recording.steps.append(step)

    def _settle_catalog(self) -> None:
        if not self._catalog_changed:
            return
        self._catalog_changed = False
        folder = f"{self.store}/{CATALOG}"
        files: dict[str, bytes] = {}
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(folder):
                if name in (_SQLITE, f"{_SQLITE}-wal"):
                    fd = self._real["open"](f"{folder}/{name}", os.O_RDONLY)
                    files[name] = os.pread(fd, os.fstat(fd).st_size, 0)
                    self._real["close"](fd)
        self.recording.catalogs.append((self.at, files))

    @contextlib.contextmanager
    def _step(self) -> Iterator[None]:
        self._pause()
        with self._lock:
            self._settle_catalog()
            yield

    def _of(self, path: Any, dir_fd: int | None, *, follow: bool = False) -> int | None:
        try:
            facts = os.stat(path, dir_fd=dir_fd, follow_symlinks=follow)
        except OSError:
            return None
        return self._inodes.get((facts.st_dev, facts.st_ino))

    def _of_fd(self, fd: int) -> int | None:
        facts = os.fstat(fd)
        return self._inodes.get((facts.st_dev, facts.st_ino))

    def _parent(self, path: Any, dir_fd: int | None) -> tuple[int | None, str]:
        head, name = os.path.split(os.fspath(path))
        return self._of(head or ".", dir_fd, follow=True), name

    def _shown(self, path: Any, dir_fd: int | None) -> str:
        text = os.fspath(path)
        if dir_fd is not None and not os.path.isabs(text):
            text = f"{os.readlink(f'/proc/self/fd/{dir_fd}')}/{text}"
        return os.path.relpath(text, self.root)

    def _new(self, path: Any, dir_fd: int | None, *, folder: bool) -> int:
        facts = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
        node = Node(folder, stat.S_IMODE(facts.st_mode))
        return self._register((facts.st_dev, facts.st_ino), node)

    # -- the calls ----------------------------------------------------------

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        real = self._real["open"]
        if not flags & (os.O_CREAT | os.O_TRUNC | (os.O_TMPFILE & ~os.O_DIRECTORY)):
            fd: int = real(path, flags, mode, dir_fd=dir_fd)
            self._fds.add(fd)
            return fd
        with self._step():
            anonymous = flags & os.O_TMPFILE == os.O_TMPFILE
            folder, name = self._parent(path, dir_fd)
            before = self._of(path, dir_fd)
            fd = real(path, flags, mode, dir_fd=dir_fd)
            self._fds.add(fd)
            facts = os.fstat(fd)
            if anonymous:
                if before is not None:
                    node = Node(folder=False, mode=stat.S_IMODE(facts.st_mode))
                    self._register((facts.st_dev, facts.st_ino), node)
            elif before is not None:
                if flags & os.O_TRUNC:
                    self._add("open", self._shown(path, dir_fd), Cut(before, 0))
            elif folder is not None:
                inode = self._new(path, dir_fd, folder=False)
                self._add("open", self._shown(path, dir_fd), Entry(folder, name, inode))
            return fd

    def _close(self, fd: int) -> None:
        self._fds.discard(fd)
        self._real["close"](fd)

    def _builtin_open(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return self._real["builtin"](file, mode, *args, **kwargs)
        if not os.path.abspath(file).startswith(f"{self.root}/"):
            return self._real["builtin"](file, mode, *args, **kwargs)
        if mode not in ("wb", "xb", "ab"):
            raise NotImplementedError(f"open with mode {mode} is not recorded")
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        flags |= {"w": os.O_TRUNC, "x": os.O_EXCL, "a": 0}[mode[0]]
        return _Written(os.open(file, flags, 0o666))

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        with self._step():
            folder, name = self._parent(path, dir_fd)
            self._real["mkdir"](path, mode, dir_fd=dir_fd)
            if folder is not None:
                inode = self._new(path, dir_fd, folder=True)
                self._add("mkdir", self._shown(path, dir_fd), Entry(folder, name, inode))

    def _link(
        self,
        src: Any,
        dst: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        with self._step():
            inode = self._of(src, src_dir_fd, follow=follow_symlinks)
            folder, name = self._parent(dst, dst_dir_fd)
            # Without a folder's descriptor CPython calls link(2), which is another call.
            folders = {"src_dir_fd": src_dir_fd, "dst_dir_fd": dst_dir_fd}
            given = {key: value for key, value in folders.items() if value is not None}
            self._real["link"](src, dst, **given, follow_symlinks=follow_symlinks)
            if inode is not None and folder is not None:
                self._add("link", self._shown(dst, dst_dir_fd), Entry(folder, name, inode))

    def _rename(
        self,
        src: Any,
        dst: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
    ) -> None:
        with self._step():
            real = self._real["rename"]
            self._moved(
                lambda: real(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd),
                (src, src_dir_fd),
                (dst, dst_dir_fd),
            )

    _replace = _rename

    def _rename_new(self, source: int, name: str, target: int, new_name: str) -> None:
        with self._step():
            real = self._real["rename_new"]
            self._moved(
                lambda: real(source, name, target, new_name), (name, source), (new_name, target)
            )

    def _moved(
        self,
        real: Callable[[], None],
        source: tuple[Any, int | None],
        target: tuple[Any, int | None],
    ) -> None:
        inode, replaced = self._of(*source), self._of(*target)
        (folder, name), (new_folder, new_name) = self._parent(*source), self._parent(*target)
        real()
        if inode is None or folder is None or new_folder is None or inode == replaced:
            return
        changes = Entry(folder, name, None), Entry(new_folder, new_name, inode)
        self._add("rename", self._shown(*target), *changes)

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._removed("unlink", path, dir_fd)

    _remove = _unlink

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._removed("rmdir", path, dir_fd)

    def _removed(self, call: str, path: Any, dir_fd: int | None) -> None:
        with self._step():
            known = self._of(path, dir_fd) is not None
            folder, name = self._parent(path, dir_fd)
            self._real[call](path, dir_fd=dir_fd)
            if folder is not None and known:
                self._add(call, self._shown(path, dir_fd), Entry(folder, name, None))

    def _write(self, fd: int, data: Any) -> int:
        return self._writing("write", fd, [data], None)

    def _pwrite(self, fd: int, data: Any, offset: int) -> int:
        return self._writing("pwrite", fd, [data], offset)

    def _writev(self, fd: int, blocks: Any) -> int:
        return self._writing("writev", fd, blocks, None)

    def _pwritev(self, fd: int, blocks: Any, offset: int) -> int:
        return self._writing("pwritev", fd, blocks, offset)

    def _writing(self, call: str, fd: int, blocks: Any, offset: int | None) -> int:
        inode = self._of_fd(fd)
        arguments = [blocks if call.endswith("v") else blocks[0]]
        if inode is None:
            done: int = self._real[call](fd, *arguments, *([] if offset is None else [offset]))
            return done
        with self._step():
            at = os.lseek(fd, 0, os.SEEK_CUR) if offset is None else offset
            done = self._real[call](fd, *arguments, *([] if offset is None else [offset]))
            data = b"".join(blocks)[:done]
            self._add(call, self._named(fd), Write(inode, at, data))
            return done

    def _named(self, fd: int) -> str:
        return os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), self.root)

    def _ftruncate(self, fd: int, length: int) -> None:
        with self._step():
            inode = self._of_fd(fd)
            self._real["ftruncate"](fd, length)
            if inode is not None:
                self._add("ftruncate", self._named(fd), Cut(inode, length))

    def _truncate(self, path: Any, length: int) -> None:
        if isinstance(path, int):
            self._ftruncate(path, length)
            return
        with self._step():
            inode = self._of(path, None, follow=True)
            self._real["truncate"](path, length)
            if inode is not None:
                self._add("truncate", self._shown(path, None), Cut(inode, length))

    def _fchmod(self, fd: int, mode: int) -> None:
        with self._step():
            inode = self._of_fd(fd)
            self._real["fchmod"](fd, mode)
            if inode is not None:
                self._add("fchmod", self._named(fd), Mode(inode, mode))

    def _chmod(self, path: Any, mode: int, **kwargs: Any) -> None:
        with self._step():
            inode = self._of_fd(path) if isinstance(path, int) else self._of(path, None)
            self._real["chmod"](path, mode, **kwargs)
            if inode is not None:
                self._add("chmod", "", Mode(inode, mode))

    def _fsync(self, fd: int) -> None:
        self._syncing("fsync", fd)

    def _fdatasync(self, fd: int) -> None:
        self._syncing("fdatasync", fd)

    def _syncing(self, call: str, fd: int) -> None:
        with self._step():
            inode = self._of_fd(fd)
            self._real[call](fd)
            if inode is not None:
                self._add(call, self._named(fd), sync=inode)

    def _sync(self) -> None:
        with self._step():
            self.recording.steps.append(Step("sync", "", everything=True))

    def _syncfs(self, fd: int) -> None:
        with self._step():
            self._real["syncfs"](fd)
            step = Step("syncfs", self._named(fd), everything=True)
            if self._deaf(step):
                step = Step("syncfs", step.where)
            self.recording.steps.append(step)


def _unknown(name: str) -> Real:
    def call(*_args: Any, **_kwargs: Any) -> None:
        raise NotImplementedError(f"os.{name} is not recorded")

    return call
