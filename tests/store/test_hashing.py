"""Whoever hashes waits for a place."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
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


def test_the_next_block_may_come_while_the_sha512_is_taken_of_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = os.urandom(3 << 20)
    with ThreadPoolExecutor(1) as late, ThreadPoolExecutor(1) as threads:
        monkeypatch.setattr(hashing, "pool", late)
        allowed = threading.Event()
        late.submit(allowed.wait)
        intake = store.intake(len(body))
        # Nobody hashes, and the first block is taken all the same, but not the next one.
        intake.write([body[: 1 << 20]])
        assert intake.received == 1 << 20
        second = threads.submit(intake.write, [body[1 << 20 :]])
        with pytest.raises(TimeoutError):
            second.result(timeout=0.2)
        allowed.set()
        second.result(timeout=30)
        stored = intake.commit(None, digest=Digest.of(body))
    assert stored.info.length == len(body)


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
