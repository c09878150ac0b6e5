"""Real processes for a test, ended with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.twistd import Foreground


@pytest.fixture
def twistd(tmp_path: Path) -> Iterator[Callable[..., Foreground]]:
    """Start ``twistd -n dtfc``; each in a folder of its own."""
    started: list[Foreground] = []

    def start(*flags: str, **environment: str) -> Foreground:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Foreground(folder, *flags, **environment))
        return started[-1]

    yield start
    for each in started:
        each.end(signal.SIGKILL)
        assert "Traceback" not in each.said, each.said


@pytest.fixture
def passable(tmp_path: Path) -> Path:
    """A folder that other users can pass."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        os.chmod(folder, 0o755)  # noqa: S103 - others must pass
    return tmp_path
