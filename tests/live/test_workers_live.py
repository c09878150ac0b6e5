"""``--workers`` beside peers: what several processes load is loaded once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.crew import metrics
from tests.support.live import MIB, LiveNode
from tests.support.twistd import wait_for

CLIENTS = 16


def test_many_clients_of_two_workers_cost_the_peer_one_body(
    live: Callable[..., LiveNode], tmp_path: Path
) -> None:
    content = os.urandom(32 * MIB)
    peer = live()
    digest = peer.put("large", content)
    peers = tmp_path / "peerlist"
    peers.write_text(f"{peer.url}/\n")
    node = live("--workers", "2", "--peerlist", str(peers))
    wait_for(lambda: "2 of 2 workers" in node.log(), "both workers")

    def load(_number: int) -> str:
        status, _, body = node.request("GET", f"/{digest}")
        assert status == 200
        return hashlib.sha512(body).hexdigest()

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert set(pool.map(load, range(CLIENTS))) == {digest}

    told = metrics(node.port)
    shares = [told[f'dtfc_worker_requests_total{{worker="{index}"}}'] for index in (0, 1)]
    assert min(shares) >= 1, shares
    assert told["dtfc_loads_received_bytes_total"] == len(content)
    assert told["dtfc_loads_refetched_bytes_total"] == 0
    served = metrics(peer.port)["dtfc_http_sent_bytes_total"]
    # The answers to its own PUT and to questions weigh next to nothing.
    assert len(content) <= served < len(content) + MIB
