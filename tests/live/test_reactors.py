"""twistd --reactor: the loops of other systems serve as epoll does."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.support.live import MIB, LiveNode

CONTENT = random.Random(9).randbytes(3 * MIB + 17)


@pytest.mark.parametrize("name", ["poll", "select", "asyncio"])
def test_the_daemon_runs_on_another_reactor(live: Callable[..., LiveNode], name: str) -> None:
    node = live(begin=False)
    node.prelude = f"import sys; sys.argv[1:1] = ['--reactor', '{name}']"
    node.start()

    digest = node.put("x.bin", CONTENT)
    answers = [node.request("GET", f"/{digest}") for _ in range(3)]
    part = node.request("GET", f"/{digest}", Range="bytes=70000-170000")

    assert [(status, body == CONTENT) for status, _, body in answers] == [(200, True)] * 3
    assert (part[0], part[2]) == (206, CONTENT[70_000:170_001])
    assert node.end() == 0
