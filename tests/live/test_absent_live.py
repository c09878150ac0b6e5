"""What a GET of a blob that nobody has costs: no node is asked twice, and none passes it on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.live import LiveNode

NODES = 5
ABSENT = "cd" * 64


def asked(node: LiveNode) -> int:
    """How many GETs of blobs a node has answered with 404, or 503."""
    text = node.request("GET", "/metrics")[2].decode()
    found = [
        line.rpartition(" ")[2]
        for line in text.splitlines()
        if re.match(r"dtfc_http_requests_total\{", line)
        and 'method="GET"' in line
        and re.search(r'code="(404|503)"', line)
    ]
    return int(sum(map(float, found)))


@pytest.mark.parametrize("knows_itself", [False, True])
@pytest.mark.parametrize(("neighbours", "most"), [((1,), 1), ((1, 4), 2), ((1, 2, 3, 4), 4)])
def test_a_get_of_what_nobody_has(
    live: Callable[..., LiveNode],
    tmp_path: Path,
    neighbours: tuple[int, ...],
    most: int,
    *,
    knows_itself: bool,
) -> None:
    """A ring one way, a ring both ways, and a mesh; nodes that know themselves have a tree."""
    nodes = []
    for number in range(NODES):
        peers = tmp_path / f"peers{number}"
        nodes.append(live("--peerlist", str(peers), "--absent-ttl", "0", begin=False))
    for number, node in enumerate(nodes):
        if knows_itself:
            node.flags += ["--me", node.url]
        urls = [nodes[(number + each) % NODES].url for each in neighbours]
        (tmp_path / f"peers{number}").write_text("\n".join(urls))
        node.start()

    for rounds in (1, 2):
        status = nodes[0].request("GET", f"/{ABSENT}")[0]

        assert status == 404
        assert sum(map(asked, nodes)) - rounds == rounds * most
        assert most <= NODES - 1
