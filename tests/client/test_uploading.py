"""What a client sends, and how it goes on when it was cut off."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_twisted

from dtfc.client import Digest, LocalTrouble, NotAllowed, Rejected, Unreachable, WrongBytes
from dtfc.client.uploading import SMALL
from tests.client.conftest import Nodes
from tests.client.stand_in import StandIn

MIB = 1024 * 1024
BIG = random.Random(6).randbytes(6 * MIB + 5)

Made = Callable[..., StandIn]


@pytest.fixture
def stand_in() -> Iterator[Made]:
    made: list[StandIn] = []

    def make(*, resumes: bool = True) -> StandIn:
        made.append(StandIn(resumes=resumes))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(BIG)
    return path


def change(film: Path) -> None:
    film.write_bytes(BIG[::-1])


@pytest_twisted.ensureDeferred
async def test_a_small_file_is_one_put_that_promises_its_digest(
    nodes: Nodes, stand_in: Made
) -> None:
    node = stand_in()

    stored = await nodes.another(node.url).put(b"hello", name="a b.txt")

    digest = Digest.of(b"hello")
    assert node.requests == [f"PUT /{digest.hex}/a%20b.txt"]
    assert node.fields[0]["repr-digest"] == f"sha-512=:{digest.base64}:"
    assert (stored.digest, stored.filename, stored.new, stored.sent) == (digest, "a b.txt", True, 5)


@pytest_twisted.ensureDeferred
async def test_bytes_without_a_name_go_to_their_digest(nodes: Nodes, stand_in: Made) -> None:
    node = stand_in()

    await nodes.another(node.url).put(b"hello")

    assert node.requests == [f"PUT /{Digest.of(b'hello').hex}"]


@pytest_twisted.ensureDeferred
async def test_a_large_file_is_an_upload(nodes: Nodes, stand_in: Made, film: Path) -> None:
    node = stand_in()

    stored = await nodes.another(node.url).put(str(film))

    assert (stored.digest, stored.length, stored.filename) == (
        Digest.of(BIG),
        len(BIG),
        "film.mp4",
    )
    assert [each.split(" ")[0] for each in node.requests] == [
        "GET",
        "OPTIONS",
        "POST",
        "PATCH",
        "GET",
    ]


@pytest_twisted.ensureDeferred
async def test_what_is_cut_off_goes_on_where_the_node_says(
    nodes: Nodes, stand_in: Made, film: Path
) -> None:
    node = stand_in()
    node.cuts = [MIB, 2 * MIB + 7, 1]

    stored = await nodes.another(node.url, patience=20).put(str(film))

    assert (stored.digest, node.received) == (Digest.of(BIG), len(BIG))


@pytest_twisted.ensureDeferred
async def test_an_answer_that_got_lost_is_found_at_the_upload(
    nodes: Nodes, stand_in: Made, film: Path
) -> None:
    node = stand_in()
    node.deaf = True

    stored = await nodes.another(node.url).put(str(film))

    assert (stored.digest, node.received) == (Digest.of(BIG), len(BIG))


@pytest_twisted.ensureDeferred
async def test_another_process_goes_on_too(
    nodes: Nodes, stand_in: Made, film: Path, tmp_path: Path
) -> None:
    node, states = stand_in(), str(tmp_path / "states")
    node.cuts = [2 * MIB]
    node.refuses = []
    first = nodes.another(node.url, states=states)

    def stop(done: int, _total: int | None) -> None:
        if done and not node.cuts:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await first.put(str(film), progress=stop)
    had = sum(len(each.content) for each in node.uploads.values())

    stored = await nodes.another(node.url, states=states).put(str(film))

    assert (stored.digest, stored.sent) == (Digest.of(BIG), len(BIG) - had)
    assert os.listdir(states) == []


@pytest_twisted.ensureDeferred
async def test_a_file_that_has_changed_is_another_upload(
    nodes: Nodes, stand_in: Made, film: Path, tmp_path: Path
) -> None:
    node, states = stand_in(), str(tmp_path / "states")
    node.refuses = [(403, {"title": "No"})]
    with pytest.raises(NotAllowed):
        await nodes.another(node.url, states=states).put(str(film))
    change(film)

    stored = await nodes.another(node.url, states=states).put(str(film))

    assert (stored.digest, len(node.uploads)) == (Digest.of(BIG[::-1]), 2)


@pytest_twisted.ensureDeferred
async def test_an_upload_that_is_gone_begins_anew(
    nodes: Nodes, stand_in: Made, film: Path, tmp_path: Path
) -> None:
    node, states = stand_in(), str(tmp_path / "states")
    node.refuses = [(403, {"title": "No"})]
    with pytest.raises(NotAllowed):
        await nodes.another(node.url, states=states).put(str(film))
    node.uploads.clear()

    stored = await nodes.another(node.url, states=states).put(str(film))

    assert stored.digest == Digest.of(BIG)


@pytest_twisted.ensureDeferred
async def test_states_are_for_nobody_else(
    nodes: Nodes, stand_in: Made, film: Path, tmp_path: Path
) -> None:
    node, states = stand_in(), tmp_path / "states"
    node.refuses = [(403, {"title": "No"})]
    with pytest.raises(NotAllowed):
        await nodes.another(node.url, states=str(states)).put(str(film))

    (state,) = states.iterdir()
    assert state.stat().st_mode & 0o077 == 0


@pytest_twisted.ensureDeferred
async def test_what_the_node_has_already_costs_no_byte(
    nodes: Nodes, stand_in: Made, film: Path
) -> None:
    node = stand_in()
    client = nodes.another(node.url)
    await client.put(str(film))
    node.received = 0

    stored = await client.put(str(film))

    assert (stored.digest, stored.new, stored.sent, node.received) == (
        Digest.of(BIG),
        False,
        0,
        0,
    )


@pytest_twisted.ensureDeferred
async def test_a_node_of_2015_gets_one_put(nodes: Nodes, stand_in: Made, film: Path) -> None:
    node = stand_in(resumes=False)

    stored = await nodes.another(node.url).put(str(film))

    assert stored.digest == Digest.of(BIG)
    assert node.requests[-1] == "PUT /film.mp4"


@pytest_twisted.ensureDeferred
async def test_other_bytes_than_were_sent_are_noticed(
    nodes: Nodes, stand_in: Made, film: Path
) -> None:
    node = stand_in()
    node.spoils = True

    with pytest.raises(WrongBytes):
        await nodes.another(node.url).put(str(film))


@pytest.mark.parametrize("size", [10, SMALL, 2 * SMALL])
@pytest_twisted.ensureDeferred
async def test_a_refusal_before_the_body_is_told_in_full(
    nodes: Nodes, stand_in: Made, size: int
) -> None:
    node = stand_in()
    node.refuses = [(413, {"title": "This is too large", "detail": "the limit", "limit": 5})]

    with pytest.raises(Rejected) as caught:
        await nodes.another(node.url).put(bytes(size), name="x")

    told = caught.value
    assert (told.status, told.title, told.detail, told.members) == (
        413,
        "This is too large",
        "the limit",
        {"limit": 5},
    )


@pytest_twisted.ensureDeferred
async def test_a_file_that_changes_meanwhile_is_told(
    nodes: Nodes, stand_in: Made, film: Path
) -> None:
    node = stand_in()

    def touch(done: int, _total: int | None) -> None:
        if done > MIB:
            os.utime(film, (1, 1))

    with pytest.raises(LocalTrouble, match="changed"):
        await nodes.another(node.url).put(str(film), progress=touch)


@pytest_twisted.ensureDeferred
async def test_what_can_be_read_once_only_is_sent_all_the_same(
    nodes: Nodes, stand_in: Made
) -> None:
    node = stand_in()
    node.cuts = [MIB]

    stored = await nodes.another(node.url, patience=20).put(io.BytesIO(BIG), name="film.mp4")

    assert (stored.digest, stored.filename) == (Digest.of(BIG), "film.mp4")


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_not_there_is_told_at_once(nodes: Nodes, film: Path) -> None:
    with pytest.raises(Unreachable, match="refused"):
        await nodes.another("http://127.0.0.1:1", patience=60).put(str(film))


@pytest_twisted.ensureDeferred
async def test_a_folder_is_no_file(nodes: Nodes, tmp_path: Path) -> None:
    with pytest.raises(LocalTrouble, match="no regular file"):
        await nodes.another("http://127.0.0.1:1").put(str(tmp_path))


@pytest_twisted.ensureDeferred
async def test_progress_counts_what_the_node_has(nodes: Nodes, stand_in: Made, film: Path) -> None:
    seen: list[int] = []

    await nodes.another(stand_in().url).put(
        str(film), progress=lambda done, _total: seen.append(done)
    )

    assert (seen == sorted(seen), seen[-1]) == (True, len(BIG))


@pytest_twisted.ensureDeferred
async def test_a_node_that_knows_no_digest_in_a_url_is_told_the_name(
    nodes: Nodes, stand_in: Made
) -> None:
    node = stand_in(resumes=False)
    node.refuses = [(404, {})]

    stored = await nodes.another(node.url).put(b"hello", name="a.txt")

    assert (stored.digest, node.requests[-1]) == (Digest.of(b"hello"), "PUT /a.txt")


@pytest.mark.parametrize(
    "told", [{"Upload_Offset": "x"}, {"Upload_Offset": "9" * 15}, {"Location": "http://[1/x"}]
)
@pytest_twisted.ensureDeferred
async def test_a_node_that_makes_no_sense_is_to_blame(
    nodes: Nodes, stand_in: Made, film: Path, told: dict[str, str]
) -> None:
    node = stand_in()
    node.tells = told

    with pytest.raises(Unreachable, match="makes sense"):
        await nodes.another(node.url).put(str(film))
