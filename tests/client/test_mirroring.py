"""What is copied from node to node, and what becomes of what cannot be."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest
import pytest_twisted

from dtfc.client import Blob, Digest, NotAllowed
from dtfc.client.mirroring import fits, fixed_part
from tests.client.conftest import Nodes
from tests.client.stand_in import StandIn
from tests.peers.hostile import Behaviour, Exchange, honest, status

MIB = 1024 * 1024
BLOBS = {
    "a-film": random.Random(2).randbytes(3 * MIB + 1),
    "a-note": b"a note",
    "b-note": b"another note",
}


def has(blobs: dict[str, bytes], denied: str = "") -> Behaviour:
    """A node with these files; of one of them it says 403."""
    rows = [
        {"name": name, "sha512": Digest.of(content).hex, "length": len(content)}
        for name, content in blobs.items()
    ]

    def behave(exchange: Exchange) -> None:
        if exchange.path.startswith("/files.json"):
            status(200, body=json.dumps({"files": rows, "next": None}).encode())(exchange)
            return
        for name, content in blobs.items():
            if Digest.of(content).hex in exchange.path:
                (status(403) if name == denied else honest(content))(exchange)
                return
        status(404)(exchange)

    return behave


@pytest.fixture
def target() -> Iterator[StandIn]:
    made = StandIn()
    yield made
    made.close()


@pytest_twisted.ensureDeferred
async def test_what_fits_and_is_lacking_is_copied(nodes: Nodes, target: StandIn) -> None:
    source = nodes.client(has(BLOBS))

    done = await source.mirror_to(nodes.another(target.url), "a-*")

    assert set(target.blobs) == {Digest.of(BLOBS[name]).hex for name in ("a-film", "a-note")}
    assert (done.looked_at, done.copied, done.there, done.failed) == (2, 2, 0, [])


@pytest_twisted.ensureDeferred
async def test_a_copy_that_is_cut_goes_on_in_the_middle(nodes: Nodes, target: StandIn) -> None:
    target.cuts = [MIB]
    source = nodes.client(has({"a-film": BLOBS["a-film"]}))

    await source.mirror_to(nodes.another(target.url, patience=20))

    assert target.received == len(BLOBS["a-film"])
    assert f"bytes={MIB}-" in nodes.made[0].ranges


@pytest_twisted.ensureDeferred
async def test_one_that_fails_does_not_stop_the_others(nodes: Nodes, target: StandIn) -> None:
    seen: list[Blob] = []
    source = nodes.client(has(BLOBS, denied="a-note"))

    done = await source.mirror_to(nodes.another(target.url), saw=seen.append)

    ((name, error),) = done.failed
    assert (name, type(error), done.copied) == ("a-note", NotAllowed, 2)
    assert sorted(str(blob.outcome) for blob in seen if blob.outcome) == [
        "copied",
        "copied",
        "failed",
    ]


@pytest_twisted.ensureDeferred
async def test_a_second_name_of_a_blob_costs_nothing(nodes: Nodes, target: StandIn) -> None:
    source = nodes.client(has({"one": b"same", "two": b"same"}))

    done = await source.mirror_to(nodes.another(target.url))

    assert (done.looked_at, done.copied, len(target.blobs)) == (2, 1, 1)


@pytest_twisted.ensureDeferred
async def test_a_dry_run_copies_nothing(nodes: Nodes, target: StandIn) -> None:
    source = nodes.client(has(BLOBS))

    done = await source.mirror_to(nodes.another(target.url), dry_run=True)

    assert (done.copied, target.blobs) == (3, {})


@pytest.mark.parametrize(
    ("pattern", "begins"), [("*", ""), ("photo-*.jpg", "photo-"), ("a?b", "a"), ("plain", "plain")]
)
def test_names_are_asked_for_by_what_they_begin_with(pattern: str, begins: str) -> None:
    assert fixed_part(pattern) == begins


@pytest.mark.parametrize(
    ("name", "so"), [("photo-1.jpg", True), ("photo-1.JPG", False), ("a-photo-1.jpg", False)]
)
def test_patterns_are_a_shells(name: str, so: bool) -> None:  # noqa: FBT001 -- a case
    assert fits(name, "photo-*.jpg") is so
