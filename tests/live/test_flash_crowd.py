"""Many nodes want one blob at once, that one of them has: it sends few copies."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.peers.rendezvous import ranked
from tests.support.crew import metrics
from tests.support.live import MIB, LiveNode

Live = Callable[..., LiveNode]


@dataclass(frozen=True, slots=True)
class Came:
    """What a flash crowd came to.

    Args:
        copies: that the node which had the blob sent.
        seconds: until all had it.
        told: what all nodes together counted.
    """

    copies: float
    seconds: float
    told: dict[str, float]


def crowd(
    live: Live, folder: Path, count: int, size: int, rank: int | None = None, *flags: str
) -> Came:
    """Let so many nodes load a blob at once.

    Args:
        live: makes nodes.
        folder: for the peer list.
        count: nodes that have not got it.
        size: of the blob.
        rank: in the digest's tree, of the node that has it; None for any.
        flags: of all nodes.
    """
    source = live(begin=False)
    nodes = [live(begin=False) for _ in range(count)]
    everybody = (source, *nodes)
    listed = folder / "peers"
    listed.write_text("".join(f"{each.url}/\n" for each in everybody))
    for each in everybody:
        each.flags += ["--peerlist", str(listed), "--me", each.url, *flags]
        each.start()
    urls = [each.url for each in everybody]
    content = next(
        content
        for content, digest in contents(size)
        if rank is None or ranked(digest, urls)[rank] == source.url
    )
    digest = source.put("x", content)

    def fetch(node: LiveNode) -> str:
        status, _, body = node.request("GET", f"/{digest}")
        assert status == 200, body[:500]
        return hashlib.sha512(body).hexdigest()

    begun = time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        assert set(pool.map(fetch, nodes)) == {digest}
    seconds = time.monotonic() - begun
    told: dict[str, float] = {}
    for each in everybody:
        for name, value in metrics(each.port).items():
            told[name] = told.get(name, 0.0) + value
    sent = metrics(source.port)["dtfc_http_sent_bytes_total"]
    return Came(sent / size, seconds, told)


def contents(size: int) -> Iterator[tuple[bytes, Digest]]:
    """Yield contents of this size that differ in their ends, and their digests."""
    most = os.urandom(MIB) * (size // MIB - 1) + os.urandom(MIB - 8)
    hashed = hashlib.sha512(most)
    for number in numbers():
        end = number.to_bytes(8, "big")
        ended = hashed.copy()
        ended.update(end)
        yield most + end, Digest(ended.digest())


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_six_nodes_at_once(live: Live, tmp_path: Path, rank: int) -> None:
    """Wherever in the tree the one stands that has it; on a busy machine one more may come late."""
    came = crowd(live, tmp_path, 6, 32 * MIB, rank)
    print(f"\nrank {rank}: {came.copies:.2f} copies")
    assert came.copies < 4


def test_without_the_bound_all_get_it_too(live: Live, tmp_path: Path) -> None:
    came = crowd(live, tmp_path, 4, 32 * MIB, 1, "--peer-receivers", "0")
    assert came.told["dtfc_receivers_refused_total"] == 0


@pytest.mark.prove
@pytest.mark.parametrize(("count", "rank"), [(8, None), (8, 1), (4, 1)])
def test_figures(live: Live, tmp_path: Path, count: int, rank: int | None) -> None:
    came = crowd(live, tmp_path, count, 256 * MIB, rank)
    where = "anywhere in the tree" if rank is None else f"{rank} below the tree's root"
    print(
        f"\n{count} nodes at once, 256 MiB, who has it stands {where}: it sent "
        f"{came.copies:.2f} copies; {came.seconds:.1f} s "
        f"({came.told['dtfc_receivers_refused_total']:.0f} times a node was sent elsewhere, "
        f"{came.told['dtfc_receivers_cut_total']:.0f} times cut off)"
    )
    assert came.copies <= 3
