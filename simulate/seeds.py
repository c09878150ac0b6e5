"""Many stories, each in a process of its own: forked from one that has only imported."""

from __future__ import annotations

import gc
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from simulate import breaking
from simulate.story import Outcome, Telling, tell

#: Seconds of the real clock that one story may take.
PATIENCE = 120.0


def place_for_stores() -> str:
    """Return a folder for stores: in memory, if the system has such a thing."""
    memory = "/dev/shm"  # noqa: S108 -- a folder of its own is made in it
    return memory if os.access(memory, os.W_OK) else tempfile.gettempdir()


def run_one(seed: int, telling: Telling, broken: str = "") -> Outcome:
    """Carry out one story.

    Args:
        seed: which.
        telling: how.
        broken: what is broken on purpose (``simulate.breaking``).
    """
    return next(run_many([seed], telling, broken))


def run_many(
    seeds: Iterable[int], telling: Telling, broken: str = "", jobs: int = 1
) -> Iterator[Outcome]:
    """Carry out stories, so many at once; other arguments as of :func:`run_one`."""
    # What is here by now need not be looked at by each child's collections.
    gc.collect()
    gc.freeze()
    running: dict[int, _Child] = {}
    waiting = iter(seeds)
    more = True
    while more or running:
        while more and len(running) < jobs:
            seed = next(waiting, None)
            if seed is None:
                more = False
                break
            child = _Child(seed, telling, broken)
            running[child.pipe] = child
        if not running:
            break
        ready, _, _ = select.select(list(running), [], [], 1.0)
        for pipe in list(running):
            child = running[pipe]
            if (pipe in ready and child.read()) or child.is_late():
                del running[pipe]
                yield child.outcome()


class _Child:
    """One story on its way."""

    def __init__(self, seed: int, telling: Telling, broken: str) -> None:
        self.seed = seed
        self._folder = tempfile.mkdtemp(prefix="dtfc-simulate-", dir=place_for_stores())
        self._begun = time.monotonic()
        self._data = bytearray()
        self._late = False
        self.pipe, theirs = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            # Nothing of the parent's may run here, whatever happens.
            status = 1
            try:
                os.close(self.pipe)
                if broken:
                    breaking.apply(broken)
                outcome = _told(seed, telling, self._folder)
                with open(theirs, "wb") as pipe:
                    pipe.write(json.dumps(asdict(outcome)).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(theirs)

    def read(self) -> bool:
        """Take what has come; return whether that was all."""
        piece = os.read(self.pipe, 1 << 20)
        self._data += piece
        return not piece

    def is_late(self) -> bool:
        """Whether it takes longer than any story may."""
        self._late = time.monotonic() - self._begun > PATIENCE
        return self._late

    def outcome(self) -> Outcome:
        """End it, and return what became of it."""
        os.close(self.pipe)
        if self._late:
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._late:
            return Outcome(self.seed, [f"the story did not end within {PATIENCE:.0f} s"])
        if not self._data:
            return Outcome(self.seed, ["the story's process died"])
        return Outcome(**json.loads(self._data))


def _told(seed: int, telling: Telling, folder: str) -> Outcome:
    try:
        return tell(seed, telling, folder)
    except Exception:  # noqa: BLE001 -- whatever it was, this seed found it
        return Outcome(seed, [f"the story failed: {traceback.format_exc()}"])
