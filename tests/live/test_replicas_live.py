"""Copies on other nodes: real daemons that are killed, stopped and brought back."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtfc.digest import Digest
from dtfc.peers.listing import Peer
from dtfc.replicas.placement import choose
from tests.support import waiting
from tests.support.live import MIB, LiveNode

Live = Callable[..., LiveNode]
PATIENCE = 120.0


class Cluster:
    """A node that copies to others, and these."""

    def __init__(self, live: Live, folder: Path, peers: int, *flags: str) -> None:
        self.peers = [live(begin=False) for _ in range(peers)]
        self.list = folder / "peers"
        self.list.write_text("".join(f"{peer.url}/\n" for peer in self.peers))
        self.node = live("--peerlist", str(self.list), *flags, begin=False)

    def start(self, *but: LiveNode) -> Cluster:
        for each in [*self.peers, self.node]:
            if each not in but:
                each.start()
        return self

    def places(self, content: bytes, copies: int = 2) -> list[LiveNode]:
        """Who should have copies."""
        chosen = choose(Digest.of(content), [Peer(peer.url) for peer in self.peers], copies)
        return [peer for peer in self.peers if any(peer.url == each.url for each in chosen)]

    def meant_for(self, peer: LiveNode, size: int, seed: int = 0) -> bytes:
        """Bytes of which this peer should have a copy, and the last one of the list should not."""
        source = random.Random(seed)
        while True:
            content = source.randbytes(size)
            if peer in self.places(content):
                return content

    def holders(self, content: bytes) -> list[LiveNode]:
        """Who has a copy, as each says itself."""
        return [peer for peer in self.peers if has(peer, content)]

    def queue(self) -> int:
        return int(metric(self.node, "dtfc_replica_queue"))


def has(node: LiveNode, content: bytes) -> bool:
    try:
        status, fields, _ = node.request("HEAD", f"/{sha512(content)}/nopeerload")
    except OSError:
        return False
    assert status in (200, 404)
    return status == 200 and fields["content-length"] == str(len(content))


def sha512(content: bytes) -> str:
    return hashlib.sha512(content).hexdigest()


def metric(node: LiveNode, name: str) -> float:
    text = node.request("GET", "/metrics")[2].decode()
    found = re.search(rf"^{re.escape(name)} (.*)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def until(so: Callable[[], bool], what: str) -> float:
    """Wait until something is so; return how many seconds that took."""
    return waiting.until(so, lambda: what, seconds=PATIENCE)


def put(node: LiveNode, content: bytes, name: str = "a.bin") -> tuple[int, Any, float]:
    began = time.monotonic()
    status, _, body = node.request("PUT", f"/{name}", content)
    return status, json.loads(body), time.monotonic() - began


def test_a_peer_that_was_down_gets_its_copy_when_it_is_back(live: Live, tmp_path: Path) -> None:
    cluster = Cluster(live, tmp_path, 3, "--replicas", "3", "--write-quorum", "2")
    down = cluster.peers[0]
    cluster.start(down)
    content = cluster.meant_for(down, 3 * MIB)
    (up,) = [peer for peer in cluster.places(content) if peer is not down]

    status, stub, seconds = put(cluster.node, content)
    assert (status, stub["replicas"]) == (201, 2)
    until(lambda: cluster.queue() == 1, "the queue to say so")
    assert cluster.holders(content) == [up]

    down.start()
    took = until(lambda: cluster.queue() == 0, "the copy")
    assert set(cluster.holders(content)) == {up, down}
    _, _, info = cluster.node.request("GET", f"/{sha512(content)}/info")
    assert json.loads(info)["replicas"] == sorted([up.url, down.url])
    print(f"\nquorum 2 of 3, one peer down: answered after {seconds:.2f} s;", end=" ")
    print(f"3 copies {took:.1f} s after it was back, on the peer that returned")


def test_another_takes_the_place_of_one_that_stays_away(live: Live, tmp_path: Path) -> None:
    flags = ["--replicas", "3", "--write-quorum", "2", "--replica-patience", "2s"]
    cluster = Cluster(live, tmp_path, 3, *flags)
    down = cluster.peers[0]
    cluster.start(down)
    content = cluster.meant_for(down, 3 * MIB)

    began = time.monotonic()
    status, stub, seconds = put(cluster.node, content)
    assert (status, stub["replicas"]) == (201, 2)
    until(lambda: len(cluster.holders(content)) == 2, "the other to have it")
    took = time.monotonic() - began
    assert set(cluster.holders(content)) == set(cluster.peers[1:])
    until(lambda: cluster.queue() == 0, "the queue to be empty")

    down.start()
    until(lambda: f"{down.url} answers again" in cluster.node.log(), "it to be noticed")
    other = cluster.meant_for(down, 1000, seed=1)
    put(cluster.node, other)
    until(lambda: down in cluster.holders(other), "the one that is back to get new ones")
    assert down not in cluster.holders(content)
    print(f"\nquorum 2 of 3, one peer down: answered after {seconds:.2f} s;", end=" ")
    print(f"3 copies after {took:.1f} s, patience being 2 s, without it")


def test_what_is_owed_survives_kill_9_of_the_node(live: Live, tmp_path: Path) -> None:
    cluster = Cluster(live, tmp_path, 2, "--replicas", "3", "--replica-rate", "1KiB/s").start()
    contents = [random.Random(size).randbytes(size) for size in (5000, 70_000, 3 * MIB)]
    for content in contents:
        assert put(cluster.node, content)[0] == 201
    cluster.node.end(signal.SIGKILL)
    before = [len(cluster.holders(content)) for content in contents]
    assert sum(before) < 6

    cluster.node.flags[-2:] = []
    cluster.node.start()
    took = until(
        lambda: all(len(cluster.holders(content)) == 2 for content in contents), "the copies"
    )
    until(lambda: cluster.queue() == 0, "the queue to be empty")
    print(f"\nkill -9 after 201: copies {before} of 2 each; all {took:.1f} s after the restart")


@pytest.mark.parametrize("victim", [0, 1])
def test_what_is_owed_survives_kill_9_of_a_worker(live: Live, tmp_path: Path, victim: int) -> None:
    flags = ["--replicas", "2", "--workers", "2", "--write-quorum", "1"]
    cluster = Cluster(live, tmp_path, 1, *flags)
    cluster.start(*cluster.peers)
    contents = [random.Random(seed).randbytes(3000) for seed in range(20)]
    for content in contents:
        assert put(cluster.node, content)[0] == 201
    told = re.findall(r"worker ([0-9]+) serves \(process ([0-9]+)\)", cluster.node.log())
    os.kill(int(dict(told)[str(victim)]), signal.SIGKILL)

    cluster.peers[0].start()
    took = until(
        lambda: all(has(cluster.peers[0], content) for content in contents), "all the copies"
    )
    print(f"\nkill -9 of worker {victim}: 20 of 20 copies {took:.1f} s after the peer was there")


def test_too_few_copies_are_said_and_the_same_put_says_when_they_are_enough(
    live: Live, tmp_path: Path
) -> None:
    flags = ["--replicas", "2", "--write-quorum", "2", "--quorum-timeout", "1s"]
    cluster = Cluster(live, tmp_path, 1, *flags)
    cluster.start(*cluster.peers)
    content = random.Random(1).randbytes(MIB)
    status, fields, body = cluster.node.request("PUT", "/a.bin", content)
    problem = json.loads(body)
    assert status == 503
    assert fields["content-type"] == "application/problem+json"
    assert int(fields["retry-after"]) > 0
    assert problem["detail"].startswith("stored here, 1 of 2 copies")
    assert (problem["sha512"], problem["copies"], problem["wanted"]) == (sha512(content), 1, 2)
    assert has(cluster.node, content)
    assert put(cluster.node, content)[0] == 503

    cluster.peers[0].start()
    until(lambda: put(cluster.node, content)[0] == 200, "the same PUT to be 200")
    status, stub, seconds = put(cluster.node, content)
    assert (status, stub["replicas"]) == (200, 2)
    assert cluster.holders(content) == cluster.peers
    print(f"\nquorum 2, peer down: 503; peer back: the same PUT is 200, in {seconds:.2f} s")


def test_a_form_and_both_roads_of_put_wait_for_their_copies(live: Live, tmp_path: Path) -> None:
    flags = ["--replicas", "2", "--write-quorum", "2", "--workers", "2"]
    cluster = Cluster(live, tmp_path, 1, *flags).start()
    body = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="%d"\r\n\r\nfile %d\r\n'
        % (n, n)
        for n in range(5)
    )
    status, _, answer = cluster.node.request(
        "POST", "/", body + b"--x--\r\n", Content_Type="multipart/form-data; boundary=x"
    )
    assert status == 201
    assert [stub["replicas"] for stub in json.loads(answer)] == [2] * 5
    for path in ("plain.txt", "with%20space.txt", f"{sha512(b'named')}/x"):
        content = b"named" if path.endswith("/x") else path.encode()
        status, _, answer = cluster.node.request("PUT", f"/{path}", content)
        assert (status, json.loads(answer)["replicas"]) == (201, 2)
        assert has(cluster.peers[0], content)


def test_many_at_once_are_answered_with_their_copies_durable(live: Live, tmp_path: Path) -> None:
    cluster = Cluster(live, tmp_path, 3, "--replicas", "3", "--write-quorum", "3").start()
    contents = [random.Random(seed).randbytes(200 + 999 * seed) for seed in range(120)]
    began = time.monotonic()
    missing: list[bytes] = []

    def store(some: list[bytes]) -> None:
        for content in some:
            status, stub, _ = put(cluster.node, content)
            if status != 201 or stub["replicas"] != 3 or len(cluster.holders(content)) < 2:
                missing.append(content)

    threads = [threading.Thread(target=store, args=(contents[at::8],)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missing == []
    print(f"\n120 PUTs by 8 clients, quorum 3: {time.monotonic() - began:.1f} s")


def test_a_copy_does_not_bring_back_what_was_deleted_there(live: Live, tmp_path: Path) -> None:
    cluster = Cluster(live, tmp_path, 1, "--replicas", "2").start()
    (peer,) = cluster.peers
    small, large = b"gone", random.Random(7).randbytes(2 * MIB)
    for content in (small, large):
        peer.put("x", content)
        assert peer.request("DELETE", f"/{sha512(content)}")[0] == 200
        assert put(cluster.node, content)[0] == 201
    until(lambda: metric(cluster.node, "dtfc_replica_stuck") == 2, "both to be refused")
    # Each was asked twice.
    assert metric(cluster.node, 'dtfc_replica_failed_total{reason="refused"}') == 4
    assert cluster.holders(small) == cluster.holders(large) == []
    assert "refused with 410" in cluster.node.log()
    # The large one was refused before it was sent.
    assert metric(peer, "dtfc_http_received_bytes_total") < 2 * MIB + 100_000 + len(large)
    peer.put("x", large)
    assert has(peer, large)


def test_what_was_deleted_everywhere_is_copied_when_a_client_stores_it_again(
    live: Live, tmp_path: Path
) -> None:
    cluster = Cluster(live, tmp_path, 2, "--replicas", "3", "--write-quorum", "3").start()
    content = random.Random(5).randbytes(100_000)
    assert put(cluster.node, content)[1]["replicas"] == 3
    status, _, _ = cluster.node.request("DELETE", f"/{sha512(content)}/allpeers")
    assert status == 202
    until(lambda: not cluster.holders(content), "the deletion to be heard")
    status, stub, seconds = put(cluster.node, content)
    assert (status, stub["replicas"]) == (201, 3)
    assert len(cluster.holders(content)) == 2
    print(f"\nstored again after allpeers, quorum 3: {seconds:.2f} s")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sighup_puts_a_whole_filter_in_force_or_nothing(
    live: Live, tmp_path: Path, workers: str
) -> None:
    rules = tmp_path / "filter"
    rules.write_text("exclude name=*.tmp\n")
    config = tmp_path / "dtfc.toml"
    config.write_text("replicas = 1\n")
    flags = ["--config", str(config), "--replica-filter", str(rules), "--workers", workers]
    cluster = Cluster(live, tmp_path, 1, *flags).start()
    node, (peer,) = cluster.node, cluster.peers

    def reload(said: str) -> None:
        before = node.log().count(said)
        os.kill(node.pid, signal.SIGHUP)
        until(lambda: node.log().count(said) > before, said)

    def is_copied(content: bytes, name: str) -> bool:
        assert put(node, content, name)[0] == 201
        until(lambda: cluster.queue() == 0, "the queue to be empty")
        return has(peer, content)

    if workers != "1":
        until(lambda: node.log().count(" serves (process ") == 2, "both workers")
    put(node, b"none", "a.txt")
    assert not has(peer, b"none")
    config.write_text("replicas = 2\nwrite-quorum = 2\n")
    reload("reloaded; changed: replicas, write-quorum")
    until(lambda: put(node, os.urandom(9), "a.txt")[1].get("replicas") == 2, "all to know it")
    assert is_copied(b"one", "a.txt")
    assert not is_copied(b"two", "a.tmp")
    rules.write_text("exclude name=*.txt\nexclude nmae=x\n")
    reload(f"not reloaded: {rules}:2")
    assert is_copied(b"three", "a.txt")
    rules.write_text("exclude name=*.txt\n")
    reload("reloaded; changed: nothing")
    until(lambda: "replicas" not in put(node, os.urandom(9), "a.txt")[1], "all to know it")
    assert not is_copied(b"four", "a.txt")


def test_copies_are_signed_and_a_wrong_secret_is_said(live: Live, tmp_path: Path) -> None:
    cluster = Cluster(live, tmp_path, 2, "--replicas", "2", "--write-quorum", "2")
    secret, other = tmp_path / "secret", tmp_path / "other"
    for path in (secret, other):
        path.touch(mode=0o600)
        path.write_text(os.urandom(32).hex() + "\n")
    right, wrong = cluster.peers
    for node in (cluster.node, right):
        node.flags += ["--peer-secret-file", str(secret)]
    wrong.flags += ["--peer-secret-file", str(other)]
    cluster.start()
    for number in range(30):
        size = random.Random(number).choice([10, 200_000])
        content = random.Random(number).randbytes(size)
        # Where the other one would have been first, it refuses, and this one takes it.
        assert put(cluster.node, content)[1]["replicas"] == 2
        assert cluster.holders(content) == [right]
    assert metric(cluster.node, 'dtfc_replica_failed_total{reason="refused"}') > 0
    assert "401" in wrong.log()


def test_what_is_wrong_is_said_at_the_start(live: Live, tmp_path: Path) -> None:
    rules = tmp_path / "filter"
    rules.write_text("\nfoo\n")
    node = live("--replica-filter", str(rules), begin=False)
    with pytest.raises(AssertionError, match=f"{rules}:2: a rule begins with include or exclude"):
        node.start()
    node = live("--replicas", "2", "--write-quorum", "3", begin=False)
    with pytest.raises(AssertionError, match=r"write-quorum \(3\) is more than replicas \(2\)"):
        node.start()


def test_of_what_was_deleted_everywhere_nothing_is_owed(live: Live, tmp_path: Path) -> None:
    cluster = Cluster(live, tmp_path, 1, "--replicas", "2").start()
    (peer,) = cluster.peers
    peer.end(signal.SIGKILL)
    content = b"owed"
    assert put(cluster.node, content)[0] == 201
    until(lambda: cluster.queue() == 1, "it to be owed")
    assert cluster.node.request("DELETE", f"/{sha512(content)}/allpeers")[0] == 202
    until(lambda: cluster.queue() == 0, "the queue to be empty")


def rot(node: LiveNode, content: bytes, at: int) -> None:
    """Change one byte of a blob on the disk."""
    digest = sha512(content)
    pairs = "/".join(digest[each : each + 2] for each in range(0, 128, 2))
    path = node.basedir / pairs / "data"
    os.chmod(path, 0o644)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def test_what_rots_under_the_sender_is_healed_or_not_sent(live: Live, tmp_path: Path) -> None:
    flags = ["--replicas", "3", "--write-quorum", "1", "--replica-patience", "0s"]
    cluster = Cluster(live, tmp_path, 2, *flags, "--replica-retry", "2s")
    first, second = cluster.peers
    cluster.start(first, second)
    alone = random.Random(1).randbytes(5 * MIB)
    shared = random.Random(2).randbytes(5 * MIB)
    small = random.Random(3).randbytes(5000)
    for content in (alone, shared, small):
        assert put(cluster.node, content)[0] == 201
    # Before a peer is back: one that is takes its copy within a moment, still right.
    for content in (alone, shared, small):
        rot(cluster.node, content, len(content) // 2)
    first.start().put("shared.bin", shared)
    second.start()
    until(lambda: has(second, shared), "what a peer has right to be healed and sent")
    until(lambda: metric(cluster.node, "dtfc_replica_stuck") == 2, "the others to be said")
    assert second.request("GET", f"/{sha512(shared)}/nopeerload")[2] == shared
    assert cluster.holders(alone) == cluster.holders(small) == []
    assert metric(cluster.node, "dtfc_quarantine_blobs") == 2
    # Somebody stores them again: they go out right.
    for content in (alone, small):
        assert put(cluster.node, content)[0] in (200, 201)
        until(lambda content=content: len(cluster.holders(content)) == 2, "copies")  # type: ignore[misc]
    print("\nrot under the sender: 1 blob healed and sent, 2 not sent, 0 wrong bytes taken")


class Writers:
    """Clients that store files of all sizes on any of some nodes, until time is up."""

    def __init__(self, nodes: list[LiveNode], seed: int, seconds: float) -> None:
        self.stored: set[str] = set()
        self.said: dict[int, int] = {}
        self.end = time.monotonic() + seconds
        self._nodes = nodes
        self._threads = [
            threading.Thread(target=self._write, args=(random.Random(seed + number),))
            for number in range(4)
        ]
        for thread in self._threads:
            thread.start()

    def _write(self, source: random.Random) -> None:
        while time.monotonic() < self.end:
            content = source.randbytes(source.choice([10, 4000, 60_000, 70_000, 2 * MIB]))
            try:
                status, fields, _ = source.choice(self._nodes).request("PUT", "/a.bin", content)
            except (OSError, http.client.HTTPException):
                status = 0
                time.sleep(0.05)
            self.said[status] = self.said.get(status, 0) + 1
            if status in (200, 201):
                self.stored.add(fields["location"][1:])

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


def kill_at_random(nodes: list[LiveNode], chaos: random.Random, end: float) -> int:
    """Kill one after the other, and start it again after a while; return how often."""
    kills = 0
    while time.monotonic() < end:
        victim = chaos.choice(nodes)
        victim.end(signal.SIGKILL)
        kills += 1
        time.sleep(chaos.choice([0.1, 1.0, 5.0]))  # How long it is away is the case.
        victim.start()
        time.sleep(chaos.uniform(0.2, 2))  # So is how long it serves.
    return kills


def copies_of(digest: str, nodes: list[LiveNode]) -> int:
    """How many nodes give out a blob, each of them right."""
    right = 0
    for node in nodes:
        status, _, body = node.request("GET", f"/{digest}/nopeerload")
        if status == 200:
            assert sha512(body) == digest
            right += 1
    return right


@pytest.mark.prove
def test_nodes_that_die_all_the_time_lose_no_copy(live: Live, tmp_path: Path) -> None:
    """Five nodes, all of them written to, each killed now and then."""
    seed = int(os.environ.get("DTFC_SEED") or random.randrange(1 << 32))
    seconds = float(os.environ.get("DTFC_PROVE_SECONDS") or 60)
    peers = tmp_path / "peers"
    flags = ["--peerlist", str(peers), "--replicas", "3", "--write-quorum", "2"]
    flags += ["--quorum-timeout", "4s", "--replica-patience", "3s", "--replica-retry", "3s"]
    nodes = [live(*flags, begin=False) for _ in range(5)]
    peers.write_text("".join(f"{node.url}/\n" for node in nodes))
    for node in nodes:
        node.flags += ["--me", node.url]
        node.start()
    writers = Writers(nodes, seed, seconds)
    kills = kill_at_random(nodes, random.Random(seed), writers.end)
    writers.join()
    ended = time.monotonic()
    # A node that has just started says so a second later.
    until(
        lambda: (
            sum(metric(node, "dtfc_replica_queue") for node in nodes) == 0
            and time.monotonic() - ended > 3
        ),
        "all copies",
    )
    counted = Counter(copies_of(digest, nodes) for digest in writers.stored)
    print(f"\nDTFC_SEED={seed}: {seconds:.0f} s, {kills} kills;", end=" ")
    print(f"answers {dict(sorted(writers.said.items()))} (0: cut off);")
    print(f"blobs by how many of 5 nodes have them: {dict(sorted(counted.items()))}")
    assert min(counted) >= 3


@pytest.mark.prove
def test_how_fast_small_files_are_copied(live: Live, tmp_path: Path) -> None:
    count, size = 3000, 4096
    for flags in ([], ["--replicas", "2"], ["--replicas", "2", "--write-quorum", "2"]):
        cluster = Cluster(live, tmp_path, 1, *flags)
        for node in (cluster.node, *cluster.peers):
            node.flags += ["--fan-out", "2"]
        cluster.start()
        bodies = [random.Random(seed).randbytes(size) for seed in range(count)]

        def store(some: list[bytes], node: LiveNode = cluster.node) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
            for body in some:
                connection.request("PUT", "/a.bin", body=body)
                assert connection.getresponse().read()
            connection.close()

        began = time.monotonic()
        threads = [threading.Thread(target=store, args=(bodies[at::16],)) for at in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stored = time.monotonic() - began
        if flags:
            until(lambda: cluster.queue() == 0, "the copies")  # noqa: B023 - waited for here
        copied = time.monotonic() - began
        print(f"\n{' '.join(flags) or 'no copies'}: {count / stored:.0f} PUTs/s;", end=" ")
        print(f"with their copies {count / copied:.0f}/s")
        for node in (cluster.node, *cluster.peers):
            node.end()
