"""Loads from peers that send at a known rate: how soon, how fast, and from how many at once.

With the marker ``prove`` at the size that docs/proof.md tells of; a small part of each
runs always, and looks at what does not depend on the machine.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.memory import scarce, touch
from tests.support.crew import metrics
from tests.support.live import MIB, LiveNode, free_port, sha512_of
from tests.support.paced import PacedPeer
from tests.support.programs import require_program
from tests.support.twistd import wait_for
from tests.support.waiting import until

Live = Callable[..., LiveNode]
Pace = Callable[..., PacedPeer]


@pytest.fixture
def paced() -> Iterator[Pace]:
    """Start peers, and end them."""
    started: list[PacedPeer] = []

    def start(path: Path, rate: float = 0, delay: float = 0) -> PacedPeer:
        peer = PacedPeer(path, free_port(), rate, delay)
        started.append(peer)
        return peer

    yield start
    for each in started:
        each.close()


def blob_of(folder: Path, size: int) -> tuple[Path, str]:
    """Write a file of random bytes; return it and its digest."""
    path = folder / "blob"
    with path.open("wb") as file:
        for _ in range(0, size, MIB):
            file.write(os.urandom(MIB))
    return path, sha512_of(path)


def node_with(live: Live, folder: Path, peers: list[PacedPeer], *flags: str) -> LiveNode:
    """Start a node that has these peers."""
    listed = folder / f"peers-{len(peers)}"
    listed.write_text("".join(f"{each.url}/\n" for each in peers))
    return live("--peerlist", str(listed), *flags)


class Fetched:
    """One GET: its end, and the digest of what came."""

    def __init__(self, url: str) -> None:
        begun = time.monotonic()
        hashed = hashlib.sha512()
        self.length = 0
        with urllib.request.urlopen(url, timeout=120) as answer:  # noqa: S310 -- http, on this machine
            while block := answer.read(MIB):
                self.length += len(block)
                hashed.update(block)
        self.seconds = time.monotonic() - begun
        self.digest = hashed.hexdigest()


def tail_of(url: str, count: int) -> tuple[float, bytes]:
    """Get the last bytes with curl, as a person would; return the seconds and the bytes."""
    begun = time.monotonic()
    got = subprocess.run(
        [require_program("curl"), "-s", "-f", "-r", f"-{count}", url],
        capture_output=True,
        check=True,
        timeout=60,
    )
    return time.monotonic() - begun, got.stdout


def one_after_the_other(  # noqa: PLR0917 -- all of them
    live: Live, folder: Path, paced: Pace, size: int, rate: float, delay: float
) -> tuple[Fetched, Fetched]:
    """Fetch a blob from a peer itself, then through a node."""
    path, digest = blob_of(folder, size)
    peer = paced(path, rate, delay)
    node = node_with(live, folder, [peer])
    itself = Fetched(f"{peer.url}/{digest}/nopeerload")
    through = Fetched(f"{node.url}/{digest}")
    assert itself.digest == through.digest == digest
    return itself, through


def tail_of_a_load(live: Live, folder: Path, paced: Pace, size: int, rate: float) -> float:
    """Begin a load, and get the end of it at once."""
    path, digest = blob_of(folder, size)
    node = node_with(live, folder, [paced(path, rate)])
    with ThreadPoolExecutor(1) as pool:
        whole = pool.submit(Fetched, f"{node.url}/{digest}")
        until(lambda: b"dtfc_loads_running 1.0" in node.request("GET", "/metrics")[2])
        seconds, tail = tail_of(f"{node.url}/{digest}", 1000)
        with path.open("rb") as file:
            file.seek(-1000, os.SEEK_END)
            assert tail == file.read()
        assert not whole.done()
        assert whole.result().digest == digest
    return seconds


def test_the_end_of_a_load_that_has_just_begun(live: Live, tmp_path: Path, paced: Pace) -> None:
    """It does not wait for what lies before it: 64 MiB would take 6 seconds."""
    assert tail_of_a_load(live, tmp_path, paced, 64 * MIB, 10e6) < 3


def test_a_second_peer_makes_it_faster(live: Live, tmp_path: Path, paced: Pace) -> None:
    path, digest = blob_of(tmp_path, 32 * MIB)
    peers = [paced(path, 8e6) for _ in range(2)]
    node = node_with(live, tmp_path, peers)
    assert Fetched(f"{node.url}/{digest}").digest == digest
    sent = [each.sent() for each in peers]
    assert min(sent) > 8 * MIB, sent
    assert sum(sent) < 40 * MIB, sent


def first_bytes(
    live: Live, folder: Path, peer: PacedPeer, digest: str, pairs: int
) -> list[tuple[float, float]]:
    """Ask a peer, then a node that has never heard of the blob, for a first byte, and no more."""
    found = []
    for _ in range(pairs):
        node = node_with(live, folder, [peer])
        itself = first_byte(f"{peer.url}/{digest}/nopeerload")
        found.append((itself, first_byte(f"{node.url}/{digest}")))
        node.end()
    return found


def first_byte(url: str) -> float:
    begun = time.monotonic()
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 -- http, on this machine
        assert len(answer.read(1)) == 1
        return time.monotonic() - begun


@pytest.mark.prove
def test_figures_of_a_first_byte(live: Live, tmp_path: Path, paced: Pace) -> None:
    path, digest = blob_of(tmp_path, 1024 * MIB)
    ratios = {}
    for delay, where in ((0.0, "on this machine"), (0.02, "20 ms away")):
        pairs = first_bytes(live, tmp_path, paced(path, 50e6, delay), digest, 7)
        ratios[delay] = statistics.median(through / itself for itself, through in pairs)
        itself, through = (1000 * statistics.median(each) for each in zip(*pairs, strict=True))
        print(
            f"\nfirst byte of 1 GiB, a peer {where}: {itself:.1f} ms from it, {through:.1f} ms "
            f"through a node (medians of 7; of the ratios {ratios[delay]:.2f})"
        )
    assert ratios[0.02] <= 2


@pytest.mark.prove
def test_figures_of_a_limited_peer(live: Live, tmp_path: Path, paced: Pace) -> None:
    itself, through = one_after_the_other(live, tmp_path, paced, 1024 * MIB, 50e6, 0.02)
    print(
        "\n1 GiB, peer limited to 50 MB/s, 20 ms away: "
        f"all {itself.seconds:.2f} s from the peer, {through.seconds:.2f} s through the node "
        f"({through.seconds / itself.seconds:.3f})"
    )
    assert through.seconds <= 1.1 * itself.seconds


@pytest.mark.prove
def test_figures_of_the_end(live: Live, tmp_path: Path, paced: Pace) -> None:
    seconds = tail_of_a_load(live, tmp_path, paced, 1024 * MIB, 50e6)
    print(f"\ncurl -r -1000 of 1 GiB that comes at 50 MB/s: {seconds:.3f} s")
    assert seconds < 1


@pytest.mark.prove
def test_figures_of_three_peers(live: Live, tmp_path: Path, paced: Pace) -> None:
    path, digest = blob_of(tmp_path, 512 * MIB)
    peers = [paced(path, 30e6) for _ in range(3)]
    one = Fetched(f"{node_with(live, tmp_path, peers[:1]).url}/{digest}")
    three = Fetched(f"{node_with(live, tmp_path, peers).url}/{digest}")
    begun = time.monotonic()
    subprocess.run(
        [
            *(require_program("aria2c"), "-q", "--file-allocation=none", "-x3", "-s3", "-k1M"),
            *("-d", str(tmp_path), "-o", "aria2"),
            *(f"{each.url}/{digest}/nopeerload" for each in peers),
        ],
        check=True,
        timeout=120,
    )
    aria2 = time.monotonic() - begun
    print(
        f"\n512 MiB, 30 MB/s from each peer: one {one.seconds:.2f} s, three {three.seconds:.2f} s "
        f"({one.seconds / three.seconds:.2f} times as fast); aria2c on the three {aria2:.2f} s"
    )
    assert one.digest == three.digest == digest == sha512_of(tmp_path / "aria2")
    assert one.seconds >= 2.6 * three.seconds


@pytest.mark.prove
def test_figures_of_500_clients(live: Live, tmp_path: Path, paced: Pace) -> None:
    path, digest = blob_of(tmp_path, 64 * MIB)
    peer = paced(path)
    node = node_with(live, tmp_path, [peer], "--workers", "2")
    wait_for(lambda: "2 of 2 workers" in node.log(), "both workers")
    with ThreadPoolExecutor(500) as pool:
        begun = time.monotonic()
        got = list(pool.map(Fetched, [f"{node.url}/{digest}"] * 500))
        seconds = time.monotonic() - begun
    fetched = metrics(node.port)["dtfc_loads_received_bytes_total"]
    print(
        f"\n500 clients, 64 MiB, 2 workers: {seconds:.1f} s, "
        f"{sum(each.digest == digest for each in got)} right; "
        f"the node received {fetched / (64 * MIB):.3f} bodies"
    )
    assert {each.digest for each in got} == {digest}
    assert fetched == peer.sent() == 64 * MIB


@pytest.mark.prove
def test_figures_of_an_unlimited_peer(live: Live, tmp_path: Path) -> None:
    path, digest = blob_of(tmp_path, 1024 * MIB)
    source = live()
    with path.open("rb") as file:
        status, _, _ = source.request("PUT", "/x", file, Content_Length=str(1024 * MIB))
    assert status == 201
    times: list[tuple[float, float]] = []
    # What a hypervisor takes to give memory for a GiB of files is not the node's time.
    with scarce(6 << 30):
        for number in range(5):
            listed = tmp_path / "peers"
            listed.write_text(f"{source.url}/\n")
            node = live("--peerlist", str(listed))
            begun = time.monotonic()
            subprocess.run(
                [require_program("openssl"), "dgst", "-sha512", str(path)],
                check=True,
                capture_output=True,
            )
            openssl = time.monotonic() - begun
            touch(4 << 30)
            begun = time.monotonic()
            subprocess.run(
                [require_program("curl"), "-s", "-f", "-o", "/dev/null", f"{node.url}/{digest}"],
                check=True,
            )
            times.append((openssl, time.monotonic() - begun))
            node.end()
            print(f"\n{number}: openssl {openssl:.2f} s, load {times[-1][1]:.2f} s")
    openssl, load = min(each[0] for each in times), min(each[1] for each in times)
    print(
        f"\n1 GiB, unlimited: openssl {openssl:.2f} s, a load {load:.2f} s ({load / openssl:.2f})"
    )
    assert load <= 1.5 * openssl
