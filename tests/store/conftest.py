"""Stores to test with, and a disk that fails on demand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dtfc.store.blobs import Store, open_store

# What a commit is made of, as far as the operating system sees it.
DISK_CALLS = ("fsync", "link", "rename", "unlink", "mkdir", "fchmod", "pwritev", "open")


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
