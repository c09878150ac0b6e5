"""Many nodes want one blob at once, that one of them has: it sends few copies."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.crew import metrics
from tests.support.live import MIB, LiveNode

Live = Callable[..., LiveNode]


def copies_sent(live: Live, folder: Path, count: int, size: int) -> tuple[float, float]:
    """Let so many nodes load a blob at once.

    Returns:
        How many copies of it the node that had it sent, and the seconds.
    """
    source = live(begin=False)
    nodes = [live(begin=False) for _ in range(count)]
    listed = folder / "peers"
    listed.write_text("".join(f"{each.url}/\n" for each in (source, *nodes)))
    for each in (source, *nodes):
        each.flags += ["--peerlist", str(listed), "--me", each.url]
        each.start()
    content = os.urandom(MIB) * (size // MIB - 1) + os.urandom(MIB)
    digest = source.put("x", content)

    def fetch(node: LiveNode) -> str:
        status, _, body = node.request("GET", f"/{digest}")
        assert status == 200, body[:500]
        return hashlib.sha512(body).hexdigest()

    begun = time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        assert set(pool.map(fetch, nodes)) == {digest}
    seconds = time.monotonic() - begun
    sent = metrics(source.port)["dtfc_http_sent_bytes_total"]
    return sent / size, seconds


def test_six_nodes_at_once(live: Live, tmp_path: Path) -> None:
    """The root of the tree, and two more if the one that has it stands in the midst of it."""
    copies, _ = copies_sent(live, tmp_path, 6, 32 * MIB)
    assert copies < 4


@pytest.mark.prove
def test_figures_of_eight_nodes(live: Live, tmp_path: Path) -> None:
    copies, seconds = copies_sent(live, tmp_path, 8, 256 * MIB)
    print(f"\n8 nodes at once, 256 MiB: the source sent {copies:.2f} copies; {seconds:.1f} s")
    assert copies <= 3
