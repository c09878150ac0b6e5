"""The writer as a process: what it acknowledged survives its end, however that comes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.errors import Absent
from dtfc.store.blobs import open_store
from dtfc.store.frames import ELSEWHERE, READY, STORED, Answer, Answers, Put
from dtfc.store.writer import UNABLE

RUN = "import sys; from dtfc.store.writer import main; sys.exit(main(sys.argv[1:]))"


class Talk:
    """A writer, and both ends of what is said to it."""

    def __init__(self, base: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, base],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin.fileno(), self.process.stdout.fileno()
        self._answers = Answers()

    def say(self, *puts: Put) -> None:
        data = b"".join(put.pack() for put in puts)
        while data:
            data = data[os.write(self.stdin, data) :]

    def hear(self, count: int) -> list[Answer]:
        """Return so many answers; fewer at the end of the process."""
        heard: list[Answer] = []
        while len(heard) < count and (data := os.read(self.stdout, 65536)):
            heard += self._answers.feed(data)
        return heard

    def end(self) -> int:
        _, complaint = self.process.communicate(timeout=30)
        assert complaint == b""
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def body(number: int) -> bytes:
    return number.to_bytes(4, "big") * 700


def put(number: int) -> Put:
    return Put(number, 0, None, f"name-{number}", body(number))


def test_it_answers_each_and_ends_with_the_pipe(tmp_path: Path) -> None:
    base = str(tmp_path)
    open_store(base, fan_out=2, reserve=0).close()
    talk = Talk(base)
    assert talk.hear(1)[0].number == READY
    talk.process.send_signal(signal.SIGTERM)  # meant for the node, which drains
    talk.say(*map(put, range(150)), put(7))
    answers = {answer.number: answer for answer in talk.hear(151)}
    assert {answers[number].outcome for number in range(150) if number != 7} == {STORED}
    assert answers[3].digest == Digest.of(body(3))
    assert answers[7].outcome in (STORED, ELSEWHERE)
    assert talk.end() == 0
    store = open_store(base, reserve=0)
    assert not store.needs_reindex
    assert store.catalog.totals().blobs == 150
    assert os.listdir(store.layout.own("log")) == ["lock"]
    store.close()


def test_what_was_begun_is_finished_when_the_node_dies(tmp_path: Path) -> None:
    base = str(tmp_path)
    open_store(base, fan_out=2, reserve=0).close()
    talk = Talk(base)
    talk.hear(1)
    talk.say(*map(put, range(20)))
    talk.end()
    store = open_store(base, reserve=0)
    assert store.catalog.totals().blobs == 20
    store.close()


def test_without_room_it_says_that_it_cannot(tmp_path: Path) -> None:
    (tmp_path / ".dtfc").mkdir()
    (tmp_path / ".dtfc" / "format").write_text("nonsense")
    talk = Talk(str(tmp_path))
    _, complaint = talk.process.communicate(timeout=30)
    assert talk.process.returncode == UNABLE
    assert b"is not JSON" in complaint


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random(tmp_path: Path, seed: int) -> None:
    """Nothing acknowledged is lost, nothing deleted comes back, nothing half is seen."""
    chance = random.Random(seed)
    base = str(tmp_path)
    open_store(base, fan_out=2, reserve=0).close()
    acknowledged: set[int] = set()
    deleted: set[int] = set()
    number = 0
    for _ in range(4):
        talk = Talk(base)
        store = open_store(base, reserve=0)
        assert talk.hear(1)[0].number == READY
        first = number
        until = time.monotonic() + chance.uniform(0.0, 0.3)
        while time.monotonic() < until:
            size = chance.randrange(1, 30)
            talk.say(*map(put, range(number, number + size)))
            for answer in talk.hear(size):
                assert answer.outcome == STORED
                acknowledged.add(answer.number)
            number += size
            if acknowledged and chance.random() < 0.5:
                victim = chance.choice(sorted(acknowledged))
                store.delete(Digest.of(body(victim)))
                acknowledged.discard(victim)
                deleted.add(victim)
        talk.say(*map(put, range(number, number + 20)))
        time.sleep(chance.uniform(0, 0.01))
        talk.kill()
        number += 20
        _lose(chance, store.layout.folder, {each for each in acknowledged if each >= first})
        store.close()
        store = open_store(base, reserve=0)
        listed = {row.name for row in store.catalog.by_name(limit=1000).rows}
        for each in range(min(number, 900)):
            digest = Digest.of(body(each))
            try:
                with store.open(digest) as blob:
                    assert os.pread(blob.fd, 4000, 0) == body(each)
                    assert blob.info.names == (f"name-{each}",)
            except Absent as absent:
                here, gone = False, absent.deleted
            else:
                here, gone = True, False
            assert gone is (each in deleted)
            assert here or each not in acknowledged
        assert store.catalog.totals().blobs == len(list(store.walk()))
        assert listed
        assert os.listdir(store.layout.own("log")) == ["lock"]
        assert os.listdir(store.layout.own("tmp")) == []
        store.close()
        # What was not acknowledged and is here stays here.
        acknowledged |= {each for each in range(number) if _there(base, each)}


def _lose(chance: random.Random, folder: Callable[[Digest], str], logged: set[int]) -> None:
    """Take from the tree what was put last, as a power cut would."""
    for each in sorted(logged)[-10:]:
        data = f"{folder(Digest.of(body(each)))}/data"
        if chance.random() < 0.5:
            os.chmod(data, 0o644)
            os.truncate(data, chance.randrange(3))


def _there(base: str, number: int) -> bool:
    hexadecimal = Digest.of(body(number)).hex
    return os.path.exists(f"{base}/{hexadecimal[:2]}/{hexadecimal[2:4]}/{hexadecimal[4:]}/data")
