"""A process that is killed at any moment loses nothing it acknowledged."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.errors import Absent
from dtfc.store.blobs import open_store

# Puts and deletes numbered blobs, and says so once each is acknowledged.
WORKER = """
import random, sys
from dtfc.digest import Digest
from dtfc.store import capabilities
from dtfc.store.blobs import open_store
from dtfc.store.capabilities import Capability

base, seed, system = sys.argv[1], int(sys.argv[2]), sys.argv[3]
chance = random.Random(seed)
if system == "bare":
    # The boot id stays, for the store is opened next where there is one.
    capabilities.switch_off(*set(Capability) - {Capability.BOOT_ID_FILE})
store = open_store(base, reserve=0, anonymous_files=system == "linux")
while True:
    number = chance.randrange(6)
    data = str(number).encode() * 3000
    if chance.random() < 0.6:
        print("put?", number, flush=True)
        intake = store.intake(len(data))
        intake.write([data])
        intake.commit(str(number))
        print("put", number, flush=True)
    else:
        print("delete?", number, flush=True)
        store.delete(Digest.of(data))
        print("delete", number, flush=True)
"""


def outcome(lines: list[str], known: dict[int, set[str]]) -> None:
    """Work out from a worker's words which states each blob may be in now."""
    for line in lines:
        verb, number = line.split()
        if verb.endswith("?"):
            known[int(number)] = known[int(number)] | {verb[:-1]}
        else:
            known[int(number)] = {verb}


@pytest.mark.parametrize("kind", ["linux", "named", "bare"])
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random(tmp_path: Path, seed: int, kind: str) -> None:
    chance = random.Random(seed)
    base = str(tmp_path)
    open_store(base, fan_out=2, reserve=0).close()
    known: dict[int, set[str]] = {number: {"never"} for number in range(6)}
    for round_number in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", WORKER, base, f"{seed}{round_number}", kind],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as worker:
            assert worker.stdout is not None
            first = worker.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.15))
            worker.send_signal(signal.SIGKILL)
            said = first + worker.stdout.read()
        assert worker.returncode == -signal.SIGKILL
        outcome(said[: said.rfind("\n") + 1].splitlines(), known)

        store = open_store(base, reserve=0)
        assert not store.needs_reindex
        assert os.listdir(store.layout.own("tmp")) == []
        assert store.catalog.unsettled() == []
        listed = {row.name for row in store.catalog.by_name().rows}
        for number, states in known.items():
            data = str(number).encode() * 3000
            try:
                with store.open(Digest.of(data)) as blob:
                    assert os.pread(blob.fd, len(data) + 1, 0) == data
                    state, names = "put", blob.info.names
                assert names == (str(number),)
            except Absent as absent:
                state = "delete" if absent.deleted else "never"
            assert state in states
            assert (str(number) in listed) == (state == "put")
            known[number] = {state}
        store.close()
