"""aria2 is given one URL of one node, and finds the others; also one that lies.

It counts connections by the name of the host, so the second node is asked for as 127.0.0.2.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.liar import Liar
from tests.support.live import MIB, LiveNode, sha512_of
from tests.support.programs import require_program
from tests.support.waiting import until

#: aria2 shares out 20 MiB and more.
CONTENT = random.Random(11).randbytes(48 * MIB + 77)

#: In the second half, which is the second node's.
BAD = 40 * MIB

#: What aria2 calls its ends.
CHECKSUM_ERROR = 32


def aria2(folder: Path, *arguments: str) -> int:
    """Let aria2 load as a user would; return its status."""
    program = require_program("aria2c")
    folder.mkdir()
    done = subprocess.run(
        [program, "-q", "--file-allocation=none", *arguments],
        cwd=folder,
        timeout=120,
        check=False,
    )
    return done.returncode


def with_peer(live: Callable[..., LiveNode], tmp_path: Path, url: str, *flags: str) -> LiveNode:
    """Start a node that has one peer, and names it."""
    peers = tmp_path / "peers"
    peers.write_text(f"{url}\n")
    return live("--peerlist", str(peers), "--metalink", "all", *flags)


def served_by(node: LiveNode, digest: str) -> int:
    """Return the bytes of a blob that a node has sent to clients, as its log says."""
    lines = re.findall(rf'"GET /{digest} HTTP/1.1" 20[06] (\d+)', node.log())
    return sum(map(int, lines))


@pytest.mark.parametrize("kind", ["", ".meta4", ".torrent"])
def test_one_url_of_one_node_uses_two(
    live: Callable[..., LiveNode], tmp_path: Path, kind: str
) -> None:
    second = live()
    elsewhere = f"http://127.0.0.2:{second.port}"
    first = with_peer(live, tmp_path, elsewhere, "--replicas", "2")
    digest = first.put("large.iso", CONTENT)

    def copied() -> bool:
        told = json.loads(first.request("GET", f"/{digest}/info")[2])
        return bool(told["replicas"] == [elsewhere])

    until(copied)

    status = aria2(tmp_path / "out", "--seed-time=0", f"{first.url}/{digest}{kind}")

    assert status == 0
    assert sha512_of(tmp_path / "out" / "large.iso") == digest
    until(lambda: served_by(first, digest) + served_by(second, digest) >= len(CONTENT))
    shares = [served_by(each, digest) / MIB for each in (first, second)]
    print(f"\n{len(CONTENT) / MIB:.0f} MiB: {shares[0]:.1f} and {shares[1]:.1f} MiB")
    assert min(shares) > 0


@pytest.mark.parametrize("kind", [".meta4", ".torrent"])
def test_only_the_piece_that_came_wrong_is_fetched_again(
    live: Callable[..., LiveNode], tmp_path: Path, kind: str
) -> None:
    with Liar(CONTENT, [BAD]) as liar:
        node = with_peer(live, tmp_path, liar.url)
        digest = node.put("large.iso", CONTENT)

        status = aria2(tmp_path / "out", "--seed-time=0", f"{node.url}/{digest}{kind}")

    assert status == 0
    assert sha512_of(tmp_path / "out" / "large.iso") == digest
    # What came right of the liar's part is not fetched again: the node sends the rest.
    began = liar.asked[0].start
    assert liar.asked[0].path == f"/{digest}"
    assert [each.start for each in liar.asked[1:]] == [BAD] * (len(liar.asked) - 1)
    kept = BAD - began
    until(lambda: served_by(node, digest) >= len(CONTENT) - kept, node.log)
    print(f"\nthe liar {kept / MIB:.0f} MiB, the node {served_by(node, digest) / MIB:.1f} MiB")
    # On a busy machine aria2 has given the node some of the liar's part before.
    assert len(CONTENT) - kept <= served_by(node, digest) < len(CONTENT)


def test_without_the_pieces_a_liar_is_found_out_in_the_end(
    live: Callable[..., LiveNode], tmp_path: Path
) -> None:
    with Liar(CONTENT, [BAD]) as liar:
        node = with_peer(live, tmp_path, liar.url)
        digest = node.put("large.iso", CONTENT)
        # So the peers are asked who has it.
        node.request("GET", f"/{digest}.meta4")

        status = aria2(tmp_path / "out", f"{node.url}/{digest}")

    assert status == CHECKSUM_ERROR
    assert liar.asked != []


@pytest.mark.parametrize("plain", [True, False], ids=["Link", "meta4"])
def test_where_all_lie_nothing_is_taken_for_whole(
    live: Callable[..., LiveNode],
    tmp_path: Path,
    plain: bool,  # noqa: FBT001 -- a parameter of the test
) -> None:
    with Liar(CONTENT, [BAD]) as liar:
        node = with_peer(live, tmp_path, liar.url, "--verify", "off")
        digest = node.put("large.iso", CONTENT)
        (data,) = node.basedir.glob("**/data")
        data.chmod(0o644)
        with data.open("r+b") as file:
            file.seek(BAD)
            file.write(bytes([CONTENT[BAD] ^ 1]))
        node.request("GET", f"/{digest}.meta4")

        status = aria2(tmp_path / "out", f"{node.url}/{digest}" + ("" if plain else ".meta4"))

    print(f"\naria2c ends with {status}")
    # By pieces it gives up at the first that nobody sends right, without a status of its own.
    assert status == (CHECKSUM_ERROR if plain else 1)
    assert (tmp_path / "out" / "large.iso.aria2").exists()
