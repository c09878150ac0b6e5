"""A process that is killed at any moment forgets no deletion everywhere, and no revival."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.errors import Absent
from dtfc.store.blobs import Store, open_store

BLOBS = 4

# Stores, deletes everywhere and hears of deletions, and says what is acknowledged.
WORKER = """
import random, sys
from dtfc.digest import Digest
from dtfc.store.blobs import open_store
from dtfc.store.records import Record

base, seed = sys.argv[1], int(sys.argv[2])
chance = random.Random(seed)
store = open_store(base, reserve=0)
while True:
    number = chance.randrange(4)
    data = str(number).encode() * 3000
    digest = Digest.of(data)
    what = chance.choice(["put", "everywhere", "hear"])
    print("?", number, flush=True)
    if what == "put":
        intake = store.intake(len(data))
        intake.write([data])
        intake.commit("name")
    elif what == "everywhere":
        store.delete_everywhere(digest, f"{chance.getrandbits(128):032x}")
    else:
        known = store.memory.get(digest)
        counter = chance.randrange(1, 3) + (known.counter if known else 0)
        far = Record(digest, counter, deleted=chance.random() < 0.5, id="ab" * 16, at="2026",
                     node="cd" * 16)
        store.hear(far)
    known = store.memory.get(digest)
    rank = f"{known.counter} {int(known.deleted)}" if known else "0 0"
    print("=", number, rank, int(store.holds(digest)), flush=True)
"""


def states_of(store: Store) -> dict[int, tuple[int, int, int]]:
    found = {}
    for number in range(BLOBS):
        digest = Digest.of(str(number).encode() * 3000)
        known = store.memory.get(digest)
        rank = (known.counter, int(known.deleted)) if known else (0, 0)
        found[number] = (*rank, int(store.holds(digest)))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    base = str(tmp_path / "store")
    open_store(base, fan_out=2, reserve=0).close()
    known = dict.fromkeys(range(BLOBS), (0, 0, 0))
    for turn in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", WORKER, base, f"{seed}{turn}"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as worker:
            assert worker.stdout is not None
            first = worker.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.2))
            worker.send_signal(signal.SIGKILL)
            said = first + worker.stdout.read()
        open_at: int | None = None
        for line in said[: said.rfind("\n") + 1].splitlines():
            sign, *facts = line.split()
            begun, *said_of_it = map(int, facts)
            open_at = begun if sign == "?" else None
            if said_of_it:
                known[begun] = (said_of_it[0], said_of_it[1], said_of_it[2])

        store = open_store(base, reserve=0)
        assert not store.needs_reindex
        found = states_of(store)
        for number, state in known.items():
            if number != open_at:
                assert found[number] == state
            else:
                assert found[number][:2] >= state[:2]
        for number, (counter, deleted, here) in found.items():
            assert not (deleted and here)
            digest = Digest.of(str(number).encode() * 3000)
            if deleted:
                with pytest.raises(Absent):
                    store.stat(digest)
            if counter == 0:
                assert store.memory.get(digest) is None
        known = found
        before = store.memory.range("").hash
        store.close()

        # The tree alone knows as much.
        copy = str(tmp_path / f"copy{turn}")
        shutil.copytree(base, copy)
        shutil.rmtree(f"{copy}/.dtfc/catalog")
        again = open_store(copy, reserve=0)
        again.reindex()
        assert again.memory.range("").hash == before
        assert states_of(again) == found
        again.close()
