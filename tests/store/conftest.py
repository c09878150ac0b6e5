"""Stores to test with, systems to test on, and a disk that fails on demand."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from dtfc.store import capabilities, syscalls
from dtfc.store.blobs import Store, open_store
from dtfc.store.capabilities import Capability

# What a commit is made of, as far as the operating system sees it.
DISK_CALLS = ("fsync", "link", "rename", "unlink", "mkdir", "fchmod", "pwritev", "open")
# What groups of small blobs cannot do without.
GROUPS_NEED = frozenset({Capability.RENAME_NEW, Capability.SYNC_FILESYSTEM})

# The files whose tests run twice; "groups" has what those need, "bare" nothing.
OTHER_SYSTEM = {
    "test_door": "bare",
    "test_folders": "groups",
    "test_incoming": "bare",
    "test_layout": "bare",
    "test_log": "bare",
    "test_notes": "bare",
    "test_partials": "bare",
    "test_replay": "groups",
    "test_store_2015": "bare",
    "test_store_blobs": "bare",
    "test_together": "groups",
    "test_volume": "bare",
}

# What is called on a system that does not have the one.
INSTEAD = {"pwritev": "pwrite", "fdatasync": "fsync"}


def call_of(name: str) -> str:
    """Return which function of ``os`` is called for another one on this system."""
    return name if hasattr(os, name) else INSTEAD[name]


def tear_writes(patch: pytest.MonkeyPatch, number: int) -> None:
    """Let the next write take ten bytes, and the one after it fail."""
    name = call_of("pwritev")
    real = getattr(os, name)
    calls = 0

    def tears(fd: int, what: Any, offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(number, os.strerror(number))
        written: int = real(fd, [what[0][:10]] if name == "pwritev" else what[:10], offset)
        return written

    patch.setattr(os, name, tears)


class FailingDisk:
    """The n-th call of one function of ``os`` fails; every call can be recorded.

    Args:
        patch: puts the functions in place, and takes them away after the test.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.calls: list[tuple[str, str]] = []
        self.fired = 0

    def record(self) -> None:
        """Record from now on: (function, last parts of the path it worked on)."""
        for name in ("fsync", "link", "rename", "unlink", "mkdir"):
            self._patch.setattr(os, name, self._recorded(name, getattr(os, name)))

    def _recorded(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = real(*args, **kwargs)
            folder = kwargs.get("dst_dir_fd", kwargs.get("dir_fd"))
            if name == "fsync":
                where = os.readlink(f"/proc/self/fd/{args[0]}")
            else:
                where = str(args[1] if name in ("link", "rename") else args[0])
                if folder is not None:
                    where = f"{os.readlink(f'/proc/self/fd/{folder}')}/{where}"
            self.calls.append((name, where))
            return result

        return call

    def fail(self, name: str, number: int, nth: int, *, ever_after: bool = False) -> None:
        """Let the n-th call of ``os.name`` from now on fail with an error number."""
        name = call_of(name)
        real = getattr(os, name)
        seen = 0

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == nth or (ever_after and seen > nth):
                self.fired += 1
                raise OSError(number, os.strerror(number))
            return real(*args, **kwargs)

        self._patch.setattr(os, name, call)

    def heal(self) -> None:
        """Let everything work again."""
        self._patch.undo()


@pytest.fixture
def disk() -> Iterator[FailingDisk]:
    patch = pytest.MonkeyPatch()
    yield FailingDisk(patch)
    patch.undo()


def take_linux_away(patch: pytest.MonkeyPatch, left: Collection[Capability] = ()) -> None:
    """Make this system like one that has nothing of Linux' own, and answers as FreeBSD does.

    What is taken out of ``os`` shows a use that no capability guards.

    Args:
        patch: takes it away, and gives it back.
        left: what is there all the same.
    """
    patch.setattr(capabilities, "_here", set(left))
    for name in ("O_TMPFILE", "fdatasync", "pwritev", "preadv", "posix_fallocate"):
        patch.delattr(os, name, raising=False)
    patch.setattr(os, "open", _answering_as_freebsd(os.open))
    patch.setattr(syscalls, "sysctl", {b"kern.boot_id": b"16 bytes, random"}.get)


def _answering_as_freebsd(real: Callable[..., int]) -> Callable[..., int]:
    def call(path: str, flags: int, *args: Any, **kwargs: Any) -> int:
        try:
            return real(path, flags, *args, **kwargs)
        except OSError as error:
            refused = error.errno in (errno.ELOOP, errno.ENOTDIR) and flags & os.O_NOFOLLOW
            if refused and _is_link(path, kwargs.get("dir_fd")):
                raise OSError(errno.EMLINK, os.strerror(errno.EMLINK), path) from error
            raise

    return call


def _is_link(path: str, folder: int | None) -> bool:
    try:
        return stat.S_ISLNK(os.stat(path, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of some files on two systems: Linux, and one without what Linux alone has."""
    other = OTHER_SYSTEM.get(metafunc.module.__name__.rpartition(".")[2])
    # pytest-twisted cannot run one of Hypothesis' tests with two parameters.
    once = "linux_only" in metafunc.fixturenames or hasattr(metafunc.function, "hypothesis")
    if other is not None and not once:
        metafunc.parametrize("system", ["linux", other], indirect=True)


@pytest.fixture
def linux_only() -> None:
    """Mark a test as one of what only Linux has."""


@pytest.fixture(autouse=True)
def system(request: pytest.FixtureRequest) -> Iterator[str]:
    """The system that a test runs on, as far as the store can tell."""
    name: str = getattr(request, "param", "linux")
    patch = pytest.MonkeyPatch()
    if name != "linux":
        take_linux_away(patch, GROUPS_NEED if name == "groups" else frozenset())
    yield name
    patch.undo()


@pytest.fixture(params=[64, 2], ids=["full-split", "two-levels"])
def fan_out(request: pytest.FixtureRequest) -> int:
    value: int = request.param
    return value


@pytest.fixture(params=[True, False], ids=["anonymous", "named"])
def anonymous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def store(tmp_path: Path, fan_out: int) -> Iterator[Store]:
    """Return a new store; both forms, one after the other."""
    opened = open_store(str(tmp_path / "store"), fan_out=fan_out, reserve=0)
    yield opened
    opened.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Store]:
    """Return a new store with two levels, where the form does not matter."""
    opened = open_store(str(tmp_path / "store"), fan_out=2, reserve=0)
    yield opened
    opened.close()
