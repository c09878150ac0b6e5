"""Proof 2: SIGKILL at every single system call of the write path.

A process opens a store and waits; strace takes hold of it, and kills it when it
enters the n-th call of one kind, for n = 1, 2, 3 and so on until it lives. Then
the store is opened again, and everything is checked.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from dtfc.digest import Digest
from dtfc.store.blobs import Store
from dtfc.store.facts import Stored
from dtfc.store.power import boot_id
from dtfc.store.together import Small, Together
from prove.crashes import Check, clear
from prove.failures import GONE, NEW, OLD, Stage, put
from prove.figures import Row
from prove.ledger import State
from prove.parallel import side_by_side
from prove.powercut import workspace
from prove.scene import LOG, Form

#: What writes, or leads to what is written; SQLite's calls are among them.
CALLS = (
    *("openat", "openat2", "mkdir", "mkdirat", "linkat", "rename", "renameat", "renameat2"),
    *("unlink", "unlinkat", "rmdir", "pwritev", "pwrite64", "write", "fchmod", "fchmodat"),
    *("fsync", "fdatasync", "syncfs", "fallocate", "ftruncate", "flock", "fcntl", "close"),
)

_MOST = 400


@dataclass(frozen=True, slots=True)
class Work:
    """What the process does, and what is promised when it says that it has done so."""

    name: str
    body: bytes
    result: State
    run: Callable[[Store, Together | None, Callable[[], None]], None]
    added: str | None = None
    prepare: Callable[[Stage], None] = lambda _stage: None
    small: bool = False


def _put(body: bytes, name: str) -> Callable[[Store, Together | None, Callable[[], None]], None]:
    def run(store: Store, _together: Together | None, done: Callable[[], None]) -> None:
        put(store, body, name)
        done()

    return run


def _delete(store: Store, _together: Together | None, done: Callable[[], None]) -> None:
    store.delete(Digest.of(OLD))
    done()


def _load(store: Store, _together: Together | None, done: Callable[[], None]) -> None:
    partial = store.partial(Digest.of(NEW))
    at = partial.absorb()
    partial.reserve(len(NEW))
    for start in range(at, len(NEW), 1000):
        partial.write([NEW[start : start + 1000]])
    partial.commit("loaded")
    partial.close()
    done()


def _begin_load(stage: Stage) -> None:
    partial = stage.store.partial(Digest.of(NEW))
    partial.reserve(len(NEW))
    partial.write([NEW[:1500]])
    partial.close()


def _small(_store: Store, together: Together | None, done: Callable[[], None]) -> None:
    assert together is not None
    (result,) = together.put([Small(NEW, "small")])
    assert isinstance(result, Stored)
    done()
    together.settle()
    together.close()


WORKS = (
    Work("new PUT", NEW, "here", _put(NEW, "new"), "new"),
    Work("duplicate PUT", OLD, "here", _put(OLD, "again"), "again"),
    Work("PUT after DELETE", GONE, "here", _put(GONE, "back"), "back"),
    Work("DELETE", OLD, "deleted", _delete),
    Work("load", NEW, "here", _load, "loaded"),
    Work("load resumed", NEW, "here", _load, "loaded", _begin_load),
    Work("small PUT", NEW, "here", _small, "small", small=True),
)


def _child(root: str, form: Form, work: Work, ends: tuple[int, int], *, early: bool) -> None:
    """Be the process that is killed; never returns."""
    heard, said = ends
    try:
        store = form.open(root)
        together = None
        if work.small:
            together = Together(
                store.layout,
                store._volume,  # noqa: SLF001 - the writer asks the store, with larger logs
                store._folders,  # noqa: SLF001 - the same
                store.catalog,
                store.settle,
                size=LOG,
            )
        os.write(said, b"R")
        os.read(heard, 1)
        if early:
            os.write(said, b"A")
        work.run(store, together, lambda: void(os.write(said, b"A")))
        os._exit(0)
    finally:
        os._exit(1)


def void(_value: object) -> None:
    """Make nothing of a value."""


def one(
    root: str, form: Form, work: Work, at: tuple[str, int], *, strace: str, early: bool = False
) -> tuple[bool, list[str]]:
    """Kill a process at its n-th call of one kind.

    Args:
        root: an empty folder.
        form: of the store.
        work: what the process does.
        at: a system call, and which one of its kind.
        strace: the program.
        early: let it promise before it has done anything: a fault to be found.

    Returns:
        Whether there was such a call, and what was wrong afterwards.
    """
    call, nth = at
    stage = Stage(root, form)
    work.prepare(stage)
    stage.close()
    to_child, from_child = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(root, form, work, (to_child[0], from_child[1]), early=early)
    os.close(to_child[0])
    os.close(from_child[1])
    deed = stage.begin(work.body, work.result, work.added)
    try:
        ready = os.read(from_child[0], 1)
        assert ready == b"R"
        with subprocess.Popen(
            [
                *(strace, "-f", "-o", "/dev/null", "-e", f"trace=?{call}"),
                *("-e", f"inject=?{call}:signal=KILL:when={nth}", "-p", str(pid)),
            ],
            stderr=subprocess.PIPE,
        ) as tracer:
            assert tracer.stderr is not None
            said = tracer.stderr.readline()
            assert b"attached" in said, said
            os.write(to_child[1], b"G")
            _, status = os.waitpid(pid, 0)
            tracer.stderr.read()
        if os.read(from_child[0], 1) == b"A":
            stage.acknowledge(deed)
    finally:
        os.close(to_child[1])
        os.close(from_child[0])
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    wrong = [] if killed or os.waitstatus_to_exitcode(status) == 0 else ["the process failed"]
    check = Check(root, form, stage.ledger.allowed(stage.now + 1), stage.ledger.bodies, {})
    wrong += check.run(boot_id() or b"", reindex=True, trusted=True)
    return killed, wrong


@dataclass(frozen=True, slots=True)
class Plan:
    """A work by its number, a call, a form of store."""

    strace: str
    work: int
    call: str
    form: Form
    every: int = 1


def carry_out(plan: Plan) -> tuple[int, list[str]]:
    """Kill at every call of a plan; return how many there were, and what was wrong."""
    root = workspace()
    wrong: list[str] = []
    kills, nth = 0, 1
    work = WORKS[plan.work]
    try:
        while nth < _MOST:
            killed, found = one(root, plan.form, work, (plan.call, nth), strace=plan.strace)
            clear(root)
            wrong += [f"{work.name}, killed at {plan.call} number {nth}: {each}" for each in found]
            if not killed:
                break
            kills += 1
            nth += plan.every
    finally:
        shutil.rmtree(root)
    return kills, wrong


def prove(seed: int, share: float) -> list[Row]:
    """Kill at every call, or at a random share."""
    begun = time.monotonic()
    strace = shutil.which("strace")
    if strace is None:
        return [Row("SIGKILL at a system call", "", 0, 0, skipped="strace is not installed")]
    forms = ((Form(), 1), (Form(anonymous=False), 1), (Form(fan_out=64), 9))
    plan = [
        Plan(strace, work, call, form, every)
        for work in range(len(WORKS))
        for call in CALLS
        for form, every in forms
    ]
    chosen = Random(seed).sample(plan, max(1, int(len(plan) * share)))
    kills, wrong = 0, list[str]()
    for count, found in side_by_side(carry_out, chosen):
        kills += count
        wrong += found
    cases = f"{kills:,} kills ({len(chosen)} of operation, call, form of store)"
    seconds = time.monotonic() - begun
    return [Row("SIGKILL at a system call", cases, len(wrong), seconds, seed, wrong[:10])]
