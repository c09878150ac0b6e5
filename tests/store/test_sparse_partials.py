"""Partials with holes: what came out of order, what is taken back, what a later process finds."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.errors import WrongDigest
from dtfc.store.blobs import Store, open_store
from dtfc.store.chunkmap import CHUNK
from dtfc.store.partials import _MOST_FRESH
from dtfc.store.progress import Progress, spans_of
from dtfc.store.spans import Spans

DATA = os.urandom(5 * CHUNK + 321)
DIGEST = Digest.of(DATA)


@pytest.fixture
def sparse(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(str(tmp_path / "sparse"), fan_out=2, reserve=0)
    yield opened
    opened.close()


def hashed(*chunks: int) -> list[tuple[int, bytes]]:
    return [(i, hashlib.sha256(DATA[i * CHUNK : (i + 1) * CHUNK]).digest()) for i in chunks]


def test_bytes_may_come_in_any_order(sparse: Store) -> None:
    partial = sparse.partial(DIGEST)
    partial.reserve(len(DATA))
    assert partial.put(3 * CHUNK, [DATA[3 * CHUNK :]]) == hashed(3, 4, 5)
    assert partial.length == 0
    assert partial.put(0, [DATA[: 2 * CHUNK]]) == []
    assert partial.catch_up() == hashed(0, 1)
    assert partial.put(2 * CHUNK, [DATA[2 * CHUNK : 3 * CHUNK]]) == []
    assert partial.behind
    assert partial.catch_up() == hashed(2)
    assert partial.commit(None).new
    made = sparse.repair.read_map(DIGEST, len(DATA))
    assert made is not None
    assert [(i, made.hash_of(i)) for i in range(6)] == hashed(*range(6))
    partial.close()


def test_what_is_there_is_not_written_over(sparse: Store) -> None:
    partial = sparse.partial(DIGEST)
    partial.reserve(len(DATA))
    partial.put(CHUNK, [DATA[CHUNK : 2 * CHUNK]])
    partial.put(0, [DATA[:CHUNK], b"?" * (CHUNK + 5)])
    partial.put(2 * CHUNK, [DATA[2 * CHUNK :]])
    with pytest.raises(WrongDigest):
        partial.commit(None)
    assert os.pread(partial.fd, CHUNK, CHUNK) == DATA[CHUNK : 2 * CHUNK]
    partial.discard()


def test_a_chunk_that_was_wrong_is_taken_back_and_comes_again(sparse: Store) -> None:
    partial = sparse.partial(DIGEST)
    partial.reserve(len(DATA))
    wrong = bytearray(DATA)
    wrong[2 * CHUNK + 7] ^= 1
    for at in range(0, len(DATA), 700_000):
        partial.put(at, [bytes(wrong[at : at + 700_000])])
    with pytest.raises(WrongDigest):
        partial.commit(None)
    partial.take_back([2])
    assert partial.held == Spans([(0, 2 * CHUNK), (3 * CHUNK, len(DATA))])
    partial.put(2 * CHUNK, [DATA[2 * CHUNK : 3 * CHUNK]])
    assert hashed(2)[0] in partial.catch_up()
    assert partial.commit(None).new
    partial.close()


def test_what_was_just_written_is_hashed_without_being_read(
    sparse: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = sparse.partial(DIGEST)
    partial.reserve(len(DATA))
    with monkeypatch.context() as blind:
        blind.setattr(os, "pread", None)
        for at in range(0, 5 * CHUNK, 700_000):
            partial.put(at, [DATA[at : min(at + 700_000, 5 * CHUNK)]])
            partial.catch_up()
        assert partial.length == 5 * CHUNK
    partial.put(5 * CHUNK, [DATA[5 * CHUNK :]])
    assert partial.commit(None).new
    partial.close()


def test_what_is_hashed_is_what_is_in_the_file(sparse: Store) -> None:
    partial = sparse.partial(DIGEST)
    partial.reserve(len(DATA))
    partial.put(CHUNK, [DATA[CHUNK : 2 * CHUNK]])
    # The second half is there already, so what comes of it is not looked at.
    partial.put(0, [DATA[:CHUNK], bytes(CHUNK)])
    partial.put(2 * CHUNK, [DATA[2 * CHUNK :]])
    assert partial.commit(None).new
    partial.close()


@pytest.mark.parametrize("way", ["one chunk", "all"])
def test_what_was_taken_back_before_it_was_hashed_is_not_hashed(sparse: Store, way: str) -> None:
    partial = sparse.partial(DIGEST)
    partial.reserve(len(DATA))
    partial.put(0, [bytes(CHUNK)])
    if way == "all":
        partial.restart()
    else:
        partial.take_back([0])
    partial.put(0, [DATA])
    assert partial.commit(None).new
    partial.close()


def test_little_is_kept_in_memory_of_what_is_not_hashed_yet(sparse: Store) -> None:
    partial = sparse.partial(DIGEST)
    partial.reserve(len(DATA))
    for at in range(0, len(DATA), 100_000):
        partial.put(at, [DATA[at : at + 100_000]])
    assert len(partial._fresh) == _MOST_FRESH
    assert partial.commit(None).new
    partial.close()


def test_a_later_process_finds_what_came_out_of_order(sparse: Store) -> None:
    partial = sparse.partial(DIGEST)
    partial.reserve(len(DATA))
    partial.put(3 * CHUNK, [DATA[3 * CHUNK : 4 * CHUNK + 99]])
    partial.put(0, [DATA[: CHUNK + 5]])
    partial.close()
    partial = sparse.partial(DIGEST)
    assert partial.take_over() == Spans([(0, CHUNK + 5), (3 * CHUNK, 4 * CHUNK)])
    assert partial.total == len(DATA)
    assert partial.catch_up() == hashed(0)
    partial.put(CHUNK + 5, [DATA[CHUNK + 5 : 3 * CHUNK]])
    partial.put(4 * CHUNK, [DATA[4 * CHUNK :]])
    assert partial.commit(None).new
    partial.close()


def test_a_state_that_makes_no_sense_is_none(sparse: Store) -> None:
    partial = sparse.partial(DIGEST)
    partial.reserve(len(DATA))
    partial.put(0, [DATA[:100]])
    partial.close()
    state = Path(f"{sparse.layout.own('partial')}/{DIGEST}.state")
    state.write_bytes(state.read_bytes()[:-1])
    partial = sparse.partial(DIGEST)
    assert partial.take_over() == Spans([(0, 100)])
    assert partial.total is None
    partial.discard()


def test_nothing_is_left_of_the_state(sparse: Store) -> None:
    partial = sparse.partial(DIGEST)
    partial.reserve(len(DATA))
    partial.put(0, [DATA])
    partial.commit(None)
    partial.close()
    assert os.listdir(sparse.layout.own("partial")) == []


def test_an_orphaned_state_is_swept(sparse: Store, tmp_path: Path) -> None:
    state = Path(f"{sparse.layout.own('partial')}/{DIGEST}.state")
    state.write_bytes(b"?")
    open_store(str(tmp_path / "sparse"), reserve=0).close()
    assert not state.exists()


def test_deleting_drops_the_state_too(sparse: Store) -> None:
    partial = sparse.partial(DIGEST)
    partial.reserve(len(DATA))
    partial.close()
    sparse.delete(DIGEST)
    assert os.listdir(sparse.layout.own("partial")) == []


def test_others_see_what_is_there(sparse: Store) -> None:
    partial = sparse.partial(DIGEST)
    assert sparse.watch_partial(DIGEST) is None
    partial.reserve(len(DATA))
    watched = sparse.watch_partial(DIGEST)
    assert watched is not None
    partial.put(2 * CHUNK, [DATA[2 * CHUNK : 3 * CHUNK]])
    partial.trust([2])
    assert watched.look()
    assert watched.held == Spans([(2 * CHUNK, 3 * CHUNK)])
    assert watched.trusted[2] == 2
    partial.take_back([2])
    assert watched.look()
    assert (len(watched.held), watched.taken_back) == (0, 1)
    watched.close()
    partial.discard()


def test_others_wish(sparse: Store) -> None:
    partial = sparse.partial(DIGEST)
    partial.reserve(len(DATA))
    watched = sparse.watch_partial(DIGEST)
    assert watched is not None
    assert partial.wished() == []
    watched.wish(2 * CHUNK + 5, 4 * CHUNK + 1, 77)
    assert partial.wished() == [2, 3, 4]
    assert partial.wished() == []
    watched.close()
    partial.discard()


def test_another_length_is_another_state(sparse: Store) -> None:
    partial = sparse.partial(DIGEST)
    partial.reserve(len(DATA))
    watched = sparse.watch_partial(DIGEST)
    assert watched is not None
    partial.restart()
    partial.reserve(len(DATA) + 1)
    assert not watched.look()
    watched.close()
    partial.discard()


def test_a_name_is_told(tmp_path: Path) -> None:
    state = Progress.make(str(tmp_path / "x"), 10 * CHUNK, 5)
    state.call("größe.txt")
    state.put(7, {})
    other = Progress.open(str(tmp_path / "x"), 5)
    assert other is not None
    assert (other.known.name, other.known.ready) == ("größe.txt", 7)
    assert Progress.open(str(tmp_path / "x"), 6) is None
    other.close()
    state.close()


@given(st.integers(0, 9 * CHUNK), st.lists(st.integers(0, 2), min_size=9, max_size=9))
def test_which_bytes_are_there(ready: int, chunks: list[int]) -> None:
    length = 9 * CHUNK - 5
    expected = Spans([(0, min(ready, length))])
    for index, each in enumerate(chunks):
        if each:
            expected.add(index * CHUNK, min(length, (index + 1) * CHUNK))
    assert spans_of(ready, bytes(chunks), length) == expected


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.permutations(range(0, len(DATA), 700_000)), st.lists(st.integers(0, 5), max_size=3))
def test_whatever_the_order_it_is_the_blob(
    sparse: Store, order: list[int], back: list[int]
) -> None:
    partial = sparse.partial(DIGEST)
    partial.restart()
    partial.reserve(len(DATA))
    told: dict[int, bytes] = {}
    for step, at in enumerate(order):
        told |= dict(partial.put(at, [DATA[at : at + 700_000]]))
        if step % 3 == 0:
            told |= dict(partial.catch_up(2))
    for chunk in back:
        partial.take_back([chunk])
        told.pop(chunk, None)
        piece = DATA[chunk * CHUNK : (chunk + 1) * CHUNK]
        told |= dict(partial.put(chunk * CHUNK, [piece]))
    while partial.behind:
        told |= dict(partial.catch_up(2))
    assert sorted(told.items()) == hashed(*range(6))
    assert partial.commit(None).info.length == len(DATA)
    partial.close()
    sparse.delete(DIGEST)
    os.unlink(f"{sparse.layout.folder(DIGEST)}/404")
