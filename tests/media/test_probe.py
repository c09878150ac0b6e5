"""ffprobe is asked once, by a few at a time, and never for longer than it may take."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from dtfc.errors import NoProgram, NotMedia, ProbeFailed, TooManyProbes
from dtfc.media.probe import Prober, ProbeTerms, Result

ANSWER = json.dumps({"format": {"format_name": "mov"}, "streams": [], "chapters": []})
TOLD = {"format": {"format_name": "mov"}, "streams": [], "chapters": []}


class Place:
    """A prober, and programs that stand in for ffprobe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "blob"
        self.file.write_bytes(b"bytes")
        self.opened = 0
        self.prober = Prober(reactor, ProbeTerms(), time.monotonic)

    def program(self, script: str, **terms: Any) -> None:
        path = self.folder / "ffprobe"
        path.write_text(f"#!{shutil.which('bash')}\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        self.prober.terms = ProbeTerms(program=str(path), **terms)

    def ask(self, digest: str = "a") -> Deferred[Result]:
        async def on_file(use: Callable[[int], Awaitable[Result]]) -> Result:
            self.opened += 1
            fd = os.open(self.file, os.O_RDONLY)
            try:
                return await use(fd)
            finally:
                os.close(fd)

        return Deferred.fromCoroutine(self.prober.describe(digest, on_file))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    found.prober.stop()
    pytest_twisted.blockon(deferLater(reactor, 0.1))


@pytest_twisted.ensureDeferred
async def test_what_it_says_is_handed_on_and_remembered(place: Place) -> None:
    place.program(f"echo '{ANSWER}'")
    assert [await place.ask(), await place.ask()] == [TOLD, TOLD]
    assert place.opened == 1


@pytest_twisted.ensureDeferred
async def test_many_who_ask_at_once_are_one_question(place: Place) -> None:
    place.program(f"echo '{ANSWER}'")
    assert await gatherResults([place.ask() for _ in range(20)]) == [TOLD] * 20
    assert place.opened == 1


@pytest_twisted.ensureDeferred
async def test_what_is_no_media_is_remembered_too(place: Place) -> None:
    place.program("echo '{}'; exit 1")
    for _ in range(2):
        with pytest.raises(NotMedia):
            await place.ask()
    assert place.opened == 1


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("sleep 60", "longer than 1 seconds"),
        ("sleep 60 & sleep 60 & wait", "longer than 1 seconds"),
        ("while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done", "more than"),
        ("kill -SEGV $$", "without a word"),
        ("echo '{\"format\": {}}'", "makes no sense"),
        ("exit 1", "without a word"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_goes_wrong_is_over_in_time(place: Place, script: str, why: str) -> None:
    place.program(script, seconds=1.0)
    began = time.monotonic()
    with pytest.raises(ProbeFailed, match=why):
        await place.ask()
    assert time.monotonic() - began < 4


@pytest_twisted.ensureDeferred
async def test_a_failure_is_not_repeated_at_once(place: Place) -> None:
    place.program("exit 1")
    for _ in range(5):
        with pytest.raises(ProbeFailed):
            await place.ask()
    assert place.opened == 1


@pytest_twisted.ensureDeferred
async def test_what_it_started_is_killed_with_it(place: Place) -> None:
    place.program("(while :; do sleep 0.05; done) & sleep 60", seconds=0.5)
    with pytest.raises(ProbeFailed):
        await place.ask()
    await deferLater(reactor, 0.2)
    assert _processes_with(str(place.folder)) == []


def _processes_with(words: str) -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if words.encode() in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest_twisted.ensureDeferred
async def test_two_at_once_and_the_others_wait(place: Place) -> None:
    place.program(f"sleep 0.3; echo '{ANSWER}'", at_once=2)
    asked = [place.ask(str(number)) for number in range(4)]
    await deferLater(reactor, 0.1)
    assert place.opened == 2
    assert await gatherResults(asked) == [TOLD] * 4


@pytest_twisted.ensureDeferred
async def test_no_more_wait_than_may(place: Place) -> None:
    place.program(f"sleep 0.2; echo '{ANSWER}'", at_once=1, queue=1)
    asked = [place.ask(str(number)) for number in range(2)]
    with pytest.raises(TooManyProbes, match="--ffprobe-queue"):
        await place.ask("2")
    assert await gatherResults(asked) == [TOLD] * 2


@pytest_twisted.ensureDeferred
async def test_the_last_who_leaves_ends_it(place: Place) -> None:
    place.program("sleep 60", seconds=30.0)
    first, second = place.ask(), place.ask()
    await deferLater(reactor, 0.2)
    for each in (first, second):
        each.addErrback(lambda failure: failure.trap(CancelledError))
        each.cancel()
    await deferLater(reactor, 0.3)
    place.program(f"echo '{ANSWER}'")
    assert await place.ask() == TOLD


@pytest_twisted.ensureDeferred
async def test_one_who_leaves_leaves_the_others(place: Place) -> None:
    place.program(f"sleep 0.2; echo '{ANSWER}'")
    first, second = place.ask(), place.ask()
    first.addErrback(lambda failure: failure.trap(CancelledError))
    first.cancel()
    assert await second == TOLD


@pytest_twisted.ensureDeferred
async def test_a_turn_given_up_is_the_next_one_s(place: Place) -> None:
    place.program(f"sleep 0.2; echo '{ANSWER}'", at_once=1)
    asked = [place.ask(str(number)) for number in range(3)]
    asked[1].addErrback(lambda failure: failure.trap(CancelledError))
    asked[1].cancel()
    assert [await asked[0], await asked[2]] == [TOLD, TOLD]
    assert place.opened == 2


@pytest.mark.parametrize("program", ["", "/nowhere/ffprobe"])
@pytest_twisted.ensureDeferred
async def test_without_a_program(place: Place, program: str) -> None:
    place.prober.terms = ProbeTerms(program=program)
    with pytest.raises(NoProgram, match="--ffprobe"):
        await place.ask()
    assert place.opened == 0


@pytest_twisted.ensureDeferred
async def test_what_is_no_media_keeps_nothing_of_who_asked(place: Place) -> None:
    place.program("echo '{}'; exit 1")
    depths = []
    for _ in range(3):
        with pytest.raises(NotMedia) as raised:
            await place.ask()
        depths.append(len(list(traceback.walk_tb(raised.tb))))
    assert depths[2] == depths[1]


@pytest_twisted.ensureDeferred
async def test_what_it_leaves_behind_goes_with_it(place: Place) -> None:
    # In a cell without seccomp it can have children; this one holds its pipes open.
    started = time.monotonic()
    place.program(f"echo '{ANSWER}'; sleep 20 & exit 0", seconds=10.0)
    with contextlib.suppress(ProbeFailed):
        await place.ask()
    assert time.monotonic() - started < 8.0
