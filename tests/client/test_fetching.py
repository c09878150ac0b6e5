"""What comes of a blob that a client fetches, and what is left when it does not come."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import succeed
from twisted.web.http_headers import Headers

from dtfc.client import (
    Cookie,
    LocalTrouble,
    NotAllowed,
    NotFound,
    Password,
    Token,
    Unreachable,
    WrongBytes,
)
from dtfc.client.partfile import PART
from dtfc.client.wire import CredentialAgent
from dtfc.digest import Digest
from dtfc.store.chunkmap import CHUNK, ChunkHashes, ChunkMap
from tests.client.conftest import Nodes
from tests.peers.hostile import Behaviour, Exchange, cut_after, honest, in_turn, status

DATA = random.Random(5).randbytes(6 * CHUNK + 77)
DIGEST = Digest.of(DATA)


def chunk_map(data: bytes) -> bytes:
    hashes = ChunkHashes()
    hashes.take([data])
    return ChunkMap(Digest.of(data), len(data), hashes.finish()).content()


def problem(code: int, title: str, **members: object) -> Behaviour:
    return status(code, body=json.dumps({"title": title, "status": code, **members}).encode())


def part_of(path: Path) -> Path:
    return path.with_name(path.name + PART)


@pytest_twisted.ensureDeferred
async def test_a_file_appears_whole(nodes: Nodes, tmp_path: Path) -> None:
    client = nodes.client(honest(DATA, 'Content-Disposition: attachment; filename="a.jpg"'))

    got = await client.get(DIGEST, str(tmp_path / "f"))

    assert (tmp_path / "f").read_bytes() == DATA
    assert (got.name, got.length, got.resumed) == ("a.jpg", len(DATA), 0)
    assert os.listdir(tmp_path) == ["f"]


@pytest_twisted.ensureDeferred
async def test_an_empty_blob_is_an_empty_file(nodes: Nodes, tmp_path: Path) -> None:
    await nodes.client(honest(b"")).get(Digest.of(b""), str(tmp_path / "f"))

    assert (tmp_path / "f").read_bytes() == b""


@pytest_twisted.ensureDeferred
async def test_its_mode_is_the_usual_one(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "usual").touch()

    await nodes.client(honest(b"x")).get(Digest.of(b"x"), str(tmp_path / "f"))

    assert (tmp_path / "f").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest_twisted.ensureDeferred
async def test_progress_is_told(nodes: Nodes, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []

    await nodes.client(honest(DATA)).get(
        DIGEST, str(tmp_path / "f"), progress=lambda *told: seen.append(told)
    )

    assert seen[-1] == (len(DATA), len(DATA))


@pytest_twisted.ensureDeferred
async def test_several_nodes_are_asked_what_they_have_themselves(
    nodes: Nodes, tmp_path: Path
) -> None:
    client = nodes.client(status(404), honest(DATA))

    got = await client.get(DIGEST, str(tmp_path / "f"))

    assert list(got.from_nodes) == [nodes.made[1].url]
    assert nodes.made[0].requests == [f"GET /{DIGEST.hex}/nopeerload"]


@pytest_twisted.ensureDeferred
async def test_if_none_has_it_itself_one_may_load_it(nodes: Nodes, tmp_path: Path) -> None:
    def loads(exchange: Exchange) -> None:
        behave = status(404) if exchange.path.endswith("nopeerload") else honest(DATA)
        behave(exchange)

    await nodes.client(loads, status(404)).get(DIGEST, str(tmp_path / "f"))

    assert (tmp_path / "f").read_bytes() == DATA


@pytest_twisted.ensureDeferred
async def test_what_was_fetched_is_not_fetched_again(nodes: Nodes, tmp_path: Path) -> None:
    path = tmp_path / "f"
    first = nodes.client(in_turn(cut_after(DATA, 4 * CHUNK), status(403)))
    with pytest.raises(NotAllowed):
        await first.get(DIGEST, str(path))
    assert not path.exists()
    nodes.made[0].behaviour = honest(DATA)
    before = nodes.made[0].body_bytes

    got = await first.get(DIGEST, str(path))

    assert path.read_bytes() == DATA
    assert got.resumed + nodes.made[0].body_bytes - before == len(DATA)
    assert got.resumed >= 2 * CHUNK


@pytest_twisted.ensureDeferred
async def test_a_part_of_another_blob_is_not_gone_on_with(nodes: Nodes, tmp_path: Path) -> None:
    path = tmp_path / "f"
    other = bytes(6 * CHUNK)
    client = nodes.client(in_turn(cut_after(other, 4 * CHUNK), status(403)))
    with pytest.raises(NotAllowed):
        await client.get(Digest.of(other), str(path))
    assert part_of(path).stat().st_size
    nodes.made[0].behaviour = honest(DATA)

    got = await client.get(DIGEST, str(path))

    assert (path.read_bytes() == DATA, got.resumed) == (True, 0)


@pytest_twisted.ensureDeferred
async def test_a_part_that_was_damaged_is_mended_by_the_chunk_map(
    nodes: Nodes, tmp_path: Path
) -> None:
    path = tmp_path / "f"
    client = nodes.client(in_turn(cut_after(DATA, 4 * CHUNK), status(403)))
    with pytest.raises(NotAllowed):
        await client.get(DIGEST, str(path))
    with part_of(path).open("r+b") as part:
        part.seek(CHUNK + 5)
        part.write(b"damaged")
    nodes.made[0].behaviour = honest(DATA)
    nodes.made[0].chunk_map = chunk_map(DATA)

    await client.get(DIGEST, str(path))

    assert path.read_bytes() == DATA
    assert nodes.made[0].ranges.count(f"bytes={CHUNK}-{2 * CHUNK - 1}") == 1


@pytest_twisted.ensureDeferred
async def test_wrong_bytes_never_become_the_file(nodes: Nodes, tmp_path: Path) -> None:
    client = nodes.client(honest(DATA[:-1] + b"X"))

    with pytest.raises(WrongBytes):
        await client.get(DIGEST, str(tmp_path / "f"))

    assert not (tmp_path / "f").exists()


@pytest_twisted.ensureDeferred
async def test_of_a_liar_and_an_honest_node_the_honest_one_counts(
    nodes: Nodes, tmp_path: Path
) -> None:
    client = nodes.client(honest(DATA[:-1] + b"X"), honest(DATA))

    await client.get(DIGEST, str(tmp_path / "f"))

    assert (tmp_path / "f").read_bytes() == DATA


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_the_blob_costs_no_request(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    client = nodes.client(honest(DATA))

    got = await client.get(DIGEST, str(tmp_path / "f"))

    assert (got.resumed, nodes.made[0].requests) == (len(DATA), [])


@pytest_twisted.ensureDeferred
async def test_another_file_is_not_replaced(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"mine")

    with pytest.raises(LocalTrouble, match="another file"):
        await nodes.client(honest(DATA)).get(DIGEST, str(tmp_path / "f"))

    assert (tmp_path / "f").read_bytes() == b"mine"


@pytest_twisted.ensureDeferred
async def test_unless_that_is_wanted(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"mine")

    await nodes.client(honest(DATA)).get(DIGEST, str(tmp_path / "f"), overwrite=True)

    assert (tmp_path / "f").read_bytes() == DATA


@pytest_twisted.ensureDeferred
async def test_a_node_that_breaks_off_is_asked_again(nodes: Nodes, tmp_path: Path) -> None:
    client = nodes.client(in_turn(cut_after(DATA, 3 * CHUNK), honest(DATA)))

    await client.get(DIGEST, str(tmp_path / "f"))

    assert (tmp_path / "f").read_bytes() == DATA


@pytest_twisted.ensureDeferred
async def test_who_does_not_have_it_says_so(nodes: Nodes, tmp_path: Path) -> None:
    client = nodes.client(problem(404, "There is no such blob", detail="deleted", deleted=True))

    with pytest.raises(NotFound) as caught:
        await client.get(DIGEST, str(tmp_path / "f"))

    error = caught.value
    assert (error.title, error.detail, error.members) == (
        "There is no such blob",
        "deleted",
        {"deleted": True},
    )
    assert os.listdir(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_that_one_of_two_is_away_is_not_that_nobody_has_it(
    nodes: Nodes, tmp_path: Path
) -> None:
    nodes.client(status(404))
    client = nodes.another(nodes.made[0].url, "http://127.0.0.1:1")

    with pytest.raises(Unreachable):
        await client.get(DIGEST, str(tmp_path / "f"))


@pytest_twisted.ensureDeferred
async def test_a_node_of_2015_that_loads_is_waited_for(nodes: Nodes, tmp_path: Path) -> None:
    busy = status(503, "Retry-After: 1")
    client = nodes.client(in_turn(busy, busy, busy, honest(DATA)), patience=20)

    await client.get(DIGEST, str(tmp_path / "f"))

    assert (tmp_path / "f").read_bytes() == DATA


@pytest_twisted.ensureDeferred
async def test_a_redirect_is_not_followed(nodes: Nodes, tmp_path: Path) -> None:
    target = nodes.client(honest(DATA)).node
    client = nodes.client(status(302, f"Location: {target}/{DIGEST.hex}"))
    alone = nodes.another(client.nodes[1])

    with pytest.raises(Unreachable):
        await alone.get(DIGEST, str(tmp_path / "f"))

    assert nodes.made[0].requests == []


@pytest.mark.parametrize(
    ("credential", "field", "value"),
    [
        (Token("abc"), "authorization", "Bearer abc"),
        (Password("ada", "x:y"), "authorization", "Basic YWRhOng6eQ=="),
        (Cookie("AuthSession=abc"), "cookie", "AuthSession=abc"),
    ],
    ids=["token", "password", "cookie"],
)
@pytest_twisted.ensureDeferred
async def test_each_request_says_who_asks(
    nodes: Nodes, tmp_path: Path, credential: Token, field: str, value: str
) -> None:
    client = nodes.client(honest(DATA), honest(DATA), credential=credential)

    await client.get(DIGEST, str(tmp_path / "f"))

    seen = [fields.get(field) for node in nodes.made for fields in node.seen]
    assert set(seen) == {value}


@pytest.mark.parametrize(
    ("node", "asked", "shown"),
    [
        ("http://files.example", "http://files.example/x", True),
        ("http://files.example:80", "http://files.example/x", True),
        ("https://Files.example", "https://files.example:443/x", True),
        ("http://[::1]:8080", "http://[::1]:8080/x", True),
        ("http://files.example", "http://files.example.org/x", False),
        ("http://files.example", "http://files.example:8080/x", False),
        ("https://files.example", "http://files.example/x", False),
    ],
)
def test_nobody_else_is_shown_it(node: str, asked: str, shown: bool) -> None:  # noqa: FBT001 -- a case
    seen: list[Headers | None] = []

    class Agent:
        def request(self, _method: bytes, _uri: bytes, headers: Headers, _body: object) -> Any:
            seen.append(headers)
            return succeed(None)

    agent = CredentialAgent(Agent(), Token("abc"), [node])  # type: ignore[arg-type] # a stand-in

    agent.request(b"GET", asked.encode())

    assert seen[0] is not None
    assert seen[0].hasHeader(b"Authorization") is shown


def test_a_credential_shows_itself_to_nobody() -> None:
    shown = repr((Token("secret"), Password("ada", "secret"), Cookie("a=secret")))

    assert "secret" not in shown


# -- through a function ---------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_blocks_come_in_order_from_whoever_has_them(nodes: Nodes) -> None:
    blocks: list[bytes] = []
    client = nodes.client(in_turn(cut_after(DATA, 3 * CHUNK), status(404)), honest(DATA))

    got = await client.stream(DIGEST, blocks.append)

    assert b"".join(blocks) == DATA
    assert set(got.from_nodes) == {node.url for node in nodes.made}


@pytest_twisted.ensureDeferred
async def test_a_wrong_digest_is_told_at_the_end(nodes: Nodes) -> None:
    with pytest.raises(WrongBytes):
        await nodes.client(honest(DATA[:-1] + b"X")).stream(DIGEST, lambda _block: None)


@pytest_twisted.ensureDeferred
async def test_what_the_function_returns_is_waited_for(nodes: Nodes) -> None:
    taken: list[bytes] = []

    async def take(block: bytes) -> None:
        taken.append(block)

    await nodes.client(honest(DATA)).stream(DIGEST, take)

    assert b"".join(taken) == DATA


@pytest_twisted.ensureDeferred
async def test_head_says_in_words_why_there_is_nothing(nodes: Nodes) -> None:
    client = nodes.client(problem(403, "This is not allowed", detail="a marker"))

    with pytest.raises(NotAllowed, match="a marker"):
        await client.head(DIGEST)


@pytest_twisted.ensureDeferred
async def test_a_node_without_head_is_asked_for_a_byte(nodes: Nodes) -> None:
    def old(exchange: Exchange) -> None:
        behave = status(405) if exchange.method == "HEAD" else honest(DATA)
        behave(exchange)

    assert (await nodes.client(old).head(DIGEST)).length == len(DATA)


@pytest_twisted.ensureDeferred
async def test_a_name_is_looked_up_where_it_is_known(nodes: Nodes) -> None:
    rows = {"files": [{"name": "a", "sha512": DIGEST.hex, "length": 5}], "next": None}
    empty = status(200, body=b'{"files": [], "next": null}')
    client = nodes.client(empty, status(200, body=json.dumps(rows).encode()))

    assert [row.digest for row in await client.named("a")] == [DIGEST]
