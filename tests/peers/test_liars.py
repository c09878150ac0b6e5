"""One honest peer among liars of every kind, on sockets; and what a wrong chunk costs."""

from __future__ import annotations

import hashlib
import itertools
import random

import pytest
import pytest_twisted

from dtfc.digest import Digest
from dtfc.store.chunkmap import CHUNK, ChunkMap
from tests.peers import hostile
from tests.peers.conftest import Node
from tests.peers.hostile import Behaviour, honest

DATA = random.Random(5).randbytes(6 * CHUNK + 999)
DIGEST = Digest.of(DATA)


def map_of(content: bytes, digest: Digest = DIGEST) -> bytes:
    """The map that goes with these bytes, said of the blob."""
    pieces = [content[at : at + CHUNK] for at in range(0, len(content), CHUNK)]
    hashes = b"".join(hashlib.sha256(piece).digest() for piece in pieces)
    return ChunkMap(digest, len(content), hashes).content()


def spoilt(*chunks: int) -> bytes:
    content = bytearray(DATA)
    for chunk in chunks:
        content[chunk * CHUNK + 5] ^= 1
    return bytes(content)


LIARS: dict[str, Behaviour] = {
    "a bad byte": honest(spoilt(2)),
    "short": hostile.shorter(DATA),
    "long": hostile.longer(DATA),
    "wrong Content-Range": hostile.wrong_content_range(DATA),
    "200 for a range": hostile.whole_for_range(spoilt(1)),
    "gzip": hostile.encoded(DATA),
    "endless": hostile.endless_chunks,
    "silent": hostile.silent,
    "reset": hostile.resets,
    "announces more": hostile.announces_more(DATA),
    "another bad byte": honest(spoilt(5)),
}
FIVES = [tuple(itertools.islice(itertools.cycle(LIARS), at, at + 5)) for at in range(len(LIARS))]


@pytest.mark.parametrize("five", FIVES, ids=[five[0] for five in FIVES])
@pytest.mark.parametrize("maps", [True, False], ids=["maps", "as in 2015"])
@pytest_twisted.ensureDeferred
async def test_one_honest_peer_among_five_liars(
    node: Node, five: tuple[str, ...], *, maps: bool
) -> None:
    loader = node.loader(*(LIARS[kind] for kind in five), honest(DATA))
    if maps:
        node.peers[-1].chunk_map = map_of(DATA)
    with loader.ensure(DIGEST) as share:
        await share.finished()
    assert node.read(DIGEST) == DATA
    wholes = [ask for ask in node.peers[-1].ranges if ask is None or ask.startswith("bytes=0-")]
    assert len(wholes) <= 2, node.peers[-1].ranges


@pytest_twisted.ensureDeferred
async def test_a_wrong_chunk_costs_itself_alone(node: Node) -> None:
    loader = node.loader(honest(spoilt(2)), honest(DATA))
    node.peers[0].chunk_map = map_of(spoilt(2))
    node.peers[1].chunk_map = map_of(DATA)
    with loader.ensure(DIGEST) as share:
        await share.finished()
    assert node.read(DIGEST) == DATA
    assert loader.counters.received_bytes <= len(DATA) + 3 * CHUNK
    assert loader.counters.wrong_chunks == 1


@pytest_twisted.ensureDeferred
async def test_who_lied_rests(node: Node) -> None:
    loader = node.loader(honest(spoilt(2)), honest(DATA))
    node.peers[1].chunk_map = map_of(DATA)
    with loader.ensure(DIGEST) as share:
        await share.finished()
    statuses = {each.url: each for each in loader.picker.snapshot(0)}
    assert statuses[node.peers[0].url].lies == 1
    assert statuses[node.peers[1].url].lies == 0


@pytest.mark.parametrize(
    "junk",
    [b"", b"x", map_of(DATA)[:-1], map_of(DATA) + b"x", map_of(DATA, Digest.of(b"another"))],
    ids=["empty", "short", "cut", "long", "another blob's"],
)
@pytest_twisted.ensureDeferred
async def test_a_map_that_is_none_does_no_harm(node: Node, junk: bytes) -> None:
    loader = node.loader(honest(DATA))
    node.peers[0].chunk_map = junk
    with loader.ensure(DIGEST) as share:
        share.want_map()
        await share.finished()
    assert node.read(DIGEST) == DATA


@pytest_twisted.ensureDeferred
async def test_a_part_is_as_the_map_says_before_the_whole_is_here(node: Node) -> None:
    loader = node.loader(hostile.stalls_after(DATA, 3 * CHUNK))
    node.peers[0].chunk_map = map_of(DATA)
    with loader.ensure(DIGEST) as share:
        share.want_map()
        await share.until(lambda: share.trusted(0, 2 * CHUNK))
        assert not share.trusted(0, len(DATA))
        assert not share.here


@pytest_twisted.ensureDeferred
async def test_the_end_jumps_the_queue(node: Node) -> None:
    loader = node.loader(hostile.stalls_after(DATA, 2 * CHUNK))
    with loader.ensure(DIGEST) as share:
        await share.sized()
        share.want(len(DATA) - 10, len(DATA))
        await share.until(lambda: share.held_to(len(DATA) - 10) == len(DATA))
        assert not share.here
