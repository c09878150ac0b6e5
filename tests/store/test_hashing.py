"""Whoever hashes waits for a place."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from dtfc.store import hashing
from dtfc.store.blobs import Store


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
