"""Whoever hashes waits for a place."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from dtfc.digest import Digest
from dtfc.errors import StoreFailure
from dtfc.store import hashing, incoming
from dtfc.store.blobs import Store
from dtfc.store.volume import write_all


def test_a_large_upload_waits_for_a_place_and_then_goes_on(store: Store) -> None:
    intake = store.intake(None)
    for _ in range(hashing.PLACES):
        hashing.place.acquire()
    try:
        with ThreadPoolExecutor(1) as threads:
            writing = threads.submit(intake.write, [bytes(1 << 20)])
            with pytest.raises(TimeoutError):
                writing.result(timeout=0.2)
            hashing.place.release()
            writing.result(timeout=30)
            hashing.place.acquire()
    finally:
        for _ in range(hashing.PLACES):
            hashing.place.release()
    assert intake.received == 1 << 20
    intake.discard()


def test_a_small_one_waits_for_nobody(store: Store) -> None:
    intake = store.intake(None)
    for _ in range(hashing.PLACES):
        hashing.place.acquire()
    try:
        intake.write([b"small"])
    finally:
        for _ in range(hashing.PLACES):
            hashing.place.release()
    assert intake.received == 5
    intake.discard()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A pool that takes no SHA-512 until the event is set."""
    allowed = threading.Event()
    with ThreadPoolExecutor(1) as late:
        monkeypatch.setattr(hashing, "pool", late)
        late.submit(allowed.wait)
        yield allowed
        allowed.set()


def test_the_next_blocks_may_come_while_the_sha512_is_taken_of_one(
    store: Store, held: threading.Event
) -> None:
    block = os.urandom(1 << 20)
    intake = store.intake(None)
    for _ in range(hashing.MOST):
        intake.write([block])
    with ThreadPoolExecutor(1) as threads:
        one_more = threads.submit(intake.write, [block])
        try:
            with pytest.raises(TimeoutError):
                one_more.result(timeout=0.2)
        finally:
            held.set()
        one_more.result(timeout=30)
    stored = intake.commit(None, digest=Digest.of(block * (hashing.MOST + 1)))
    assert stored.info.length == (hashing.MOST + 1) << 20


def test_of_many_files_each_may_have_one_block_in_line(
    store: Store, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "MOST_OF_ALL", 2)
    intakes = [store.intake(None) for _ in range(3)]
    with ThreadPoolExecutor(1) as threads:
        try:
            for intake in intakes:
                intake.write([bytes(1 << 20)])
            second = threads.submit(intakes[0].write, [bytes(1 << 20)])
            with pytest.raises(TimeoutError):
                second.result(timeout=0.2)
        finally:
            held.set()
        second.result(timeout=30)
    assert [intake.received for intake in intakes] == [2 << 20, 1 << 20, 1 << 20]
    for intake in intakes:
        intake.discard()


def test_what_a_step_raises_is_raised_by_who_waits_for_it() -> None:
    line = hashing.Line()

    def fail() -> None:
        raise MemoryError

    line.add(fail)
    with pytest.raises(MemoryError):
        line.settle()
    line.settle()


def test_steps_are_done_in_order() -> None:
    line = hashing.Line()
    done: list[int] = []
    for number in range(40):
        line.add(functools.partial(done.append, number), block=number % 3 > 0)
    line.settle()
    assert done == list(range(40))


def test_a_process_that_was_forked_hashes_too(store: Store) -> None:
    block = os.urandom(1 << 20)
    intake = store.intake(None)
    intake.write([block])
    child = os.fork()
    if not child:
        signal.alarm(20)
        line, found = hashing.Line(), hashlib.sha512()
        line.add(lambda: found.update(block))
        line.settle()
        os._exit(0 if found.digest() == Digest.of(block).raw else 1)
    assert os.waitpid(child, 0)[1] == 0
    intake.discard()


@pytest.mark.parametrize("late", [False, True])
def test_what_could_not_be_written_is_not_hashed(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    body = os.urandom(3 << 20)
    partial = store.partial(Digest.of(body))
    partial.write([body[: 1 << 20]])

    def fail(fd: int, blocks: Sequence[bytes], at: int) -> None:
        if late:
            # By then it was hashed.
            hashing.pool.submit(bool).result(timeout=30)
            write_all(fd, blocks, at)
        raise OSError(errno.EIO, "not now")

    with monkeypatch.context() as failing:
        failing.setattr(incoming, "write_all", fail)
        with pytest.raises(StoreFailure):
            partial.write([body[1 << 20 : 2 << 20]])
    partial.write([body[1 << 20 :]])
    assert partial.commit(None).info.length == len(body)
    partial.close()
