"""Real daemons for a test."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.leaks import leaks
from tests.support.live import LiveNode


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[..., LiveNode]]:
    """Start nodes; end them, and look for tracebacks, when the test is over."""
    nodes: list[LiveNode] = []

    def start(*flags: str, begin: bool = True) -> LiveNode:
        node = LiveNode(tmp_path / f"node{len(nodes)}", list(flags))
        nodes.append(node)
        return node.start() if begin else node

    yield start
    logs = []
    for node in nodes:
        if node._process is not None:
            if node._process.poll() is None:
                node.end(signal.SIGKILL)
            logs.append(node.log())
    assert not any("Traceback" in log for log in logs), "\n".join(logs)
    assert [leak for log in logs for leak in leaks(log)] == []
