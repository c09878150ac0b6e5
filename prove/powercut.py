"""Proof 1: whatever a power cut leaves of a recorded run, nothing promised is lost.

For each workload and form of store: record once, then, after every step, make
the states that each model of a file system allows (``prove.disk``), open the
store, and check (``prove.crashes``). Of a few states the recovery is recorded
as well, and cut off after every step of its own.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random

from dtfc.digest import Digest
from prove.crashes import Check, boot, clear, place
from prove.disk import Disk, Tree
from prove.figures import Row
from prove.ledger import Allowed, Ledger
from prove.parallel import side_by_side
from prove.record import BOOT, Recorder
from prove.scene import Form, Scene, elsewhere
from prove.steps import ROOT, Recording, Step
from prove.workloads import WORKLOADS, Workload

#: What a store may look like.
FORMS = {
    "two levels": Form(),
    "64 levels": Form(fan_out=64),
    "named temporary files": Form(anonymous=False),
    "temporary files elsewhere": Form(anonymous=False, elsewhere=True),
}

_AFTER = b"the boot after the power cut"
_AFTER_THAT = b"the boot after the second one"
_ENUMERATE = 24  # so many pending changes at most are each dropped, and each kept alone
_MOST_SHOWN = 10

Deaf = Callable[[Step], bool]


@dataclass(slots=True)
class Tally:
    """What came of it.

    Args:
        made: states by model.
        distinct: how many of them were different, and so were checked.
        wrong: what was found, with what makes it again.
        counted: how many violations there were, shown or not.
        steps: of all recordings.
    """

    made: Counter[str] = field(default_factory=Counter)
    distinct: int = 0
    wrong: list[str] = field(default_factory=list)
    counted: int = 0
    steps: int = 0

    def add(self, other: Tally) -> None:
        """Add what another run found."""
        self.made += other.made
        self.distinct += other.distinct
        self.wrong = (self.wrong + other.wrong)[:_MOST_SHOWN]
        self.counted += other.counted
        self.steps += other.steps


@dataclass(frozen=True, slots=True)
class Job:
    """One workload on one form of store.

    Args:
        workload: its name.
        form: its name.
        seed: of everything random in it.
        samples: random states a step, for each of the two models that have a choice.
        points: crash points at most, spread over the whole run; a fourth of
            them in a recovery.
        recoveries: how many recoveries are cut off as well.
        enough: violations after which there is no need to go on.
    """

    workload: str
    form: str
    seed: int
    samples: int = 8
    points: int = 400
    recoveries: int = 2
    enough: int = 1_000_000


def workspace() -> str:
    """Make a folder, in memory if that can be had."""
    memory = "/dev/shm"  # noqa: S108 - a folder of its own is made in it
    return tempfile.mkdtemp(
        prefix="dtfc-prove-", dir=memory if os.access(memory, os.W_OK) else None
    )


def record(
    work: Workload, form: Form, seed: int, deaf: Deaf | None = None
) -> tuple[Recording, Ledger]:
    """Let a workload run, and return what it did to the disk and what it was promised."""
    root = workspace()
    try:
        if form.elsewhere:
            elsewhere(root)
        chance = Random(seed)
        recorder = Recorder(
            root,
            f"{root}/store",
            deaf=deaf or (lambda _step: False),
            pause=lambda: (
                time.sleep(chance.random() * 0.0005) if work.__name__ == "crowd" else None
            ),
        )
        scene = Scene(root, form, recorder, Random(seed))
        with recorder.installed():
            try:
                work(scene)
                recording = recorder.finish()
            finally:
                scene.kill()
        return recording, scene.ledger
    finally:
        shutil.rmtree(root)


class Rig:
    """Makes and checks the states of one recording.

    Args:
        job: which one, and how thoroughly.
        ledger: what was promised.
    """

    def __init__(self, job: Job, ledger: Ledger) -> None:
        self._job = job
        self._form = FORMS[job.form]
        self._ledger = ledger
        self._seen: set[bytes] = set()
        self._chance = Random(f"states {job.seed}")
        self._kept: list[tuple[int, Tree, dict[str, bytes] | None]] = []
        self.tally = Tally()

    def run(self, recording: Recording, root: str) -> Tally:
        """Try every crash point of a recording."""
        self.tally.steps += len(recording.steps)
        disk = Disk(recording.nodes)
        points = len(recording.steps) + 1
        # Recoveries are cut off at crash points spread over the whole run.
        recovered = {self._chance.randrange(points) for _ in range(self._job.recoveries)}
        tried = self._spread(points, self._job.points)
        for at in range(points):
            if self.tally.counted >= self._job.enough:
                break
            if at:
                disk.apply(recording.steps[at - 1])
            if at in recovered:
                self._recovery(disk, recording, at, root)
            if at in tried:
                for model, tree in self.states(disk):
                    self._try(model, tree, recording, at, root)
        return self.tally

    def _spread(self, points: int, most: int) -> set[int]:
        """Choose so many of all points, the last one among them."""
        return {points - 1, *self._chance.sample(range(points), min(points, most))}

    def states(self, disk: Disk) -> Iterator[tuple[str, Tree]]:
        """Yield what a crash may leave of a disk right now."""
        yield "kill", disk.whole()
        yield "order", disk.whole()
        chance = self._chance
        pending = disk.pending()
        if not pending:
            return
        for keep in {0, disk.waiting}:
            yield "journal", disk.journal(chance, keep)
        for _ in range(self._job.samples):
            yield "journal", disk.journal(chance)
        yield "posix", disk.posix(chance, 0.0)
        for which in chance.sample(pending, min(len(pending), _ENUMERATE)):
            yield "posix", disk.one(which, kept=True)
            yield "posix", disk.one(which, kept=False)
        for _ in range(self._job.samples):
            yield "posix", disk.posix(chance, chance.choice((0.1, 0.5, 0.8, 0.95)))

    def _catalog(self, model: str, tree: Tree, recording: Recording, at: int) -> int:
        """Choose what is left of SQLite's files; -1 for nothing."""
        newest = -1
        for number, (step, _) in enumerate(recording.catalogs):
            if step <= at:
                newest = number
        if model == "kill" or not _is_open(tree):
            return newest
        # SQLite is not synced at every change: any older state may be there.
        return self._chance.choice((-1, newest, self._chance.randint(-1, newest)))

    def _try(self, model: str, tree: Tree, recording: Recording, at: int, root: str) -> None:
        self.tally.made[model] += 1
        chosen = self._catalog(model, tree, recording, at)
        allowed = self._ledger.allowed(at)
        told = self._ledger.told(at)
        facts = (model == "kill", chosen, _text(allowed), told)
        key = hashlib.sha256(repr(facts).encode())
        _fingerprint(tree, ROOT, key)
        if key.digest() in self._seen:
            return
        self._seen.add(key.digest())
        self.tally.distinct += 1
        catalog = None if chosen < 0 else recording.catalogs[chosen][1]
        place(tree, root, catalog)
        check = Check(root, self._form, allowed, self._ledger.bodies, told)
        wrong = check.run(
            BOOT if model == "kill" else _AFTER,
            reindex=self._chance.random() < 0.1,
            trusted=model == "kill",
        )
        clear(root)
        self._note(wrong, f"model {model}, after step {at}", recording, at)

    def _note(self, wrong: list[str], where: str, recording: Recording, at: int) -> None:
        if not wrong:
            return
        self.tally.counted += 1
        if len(self.tally.wrong) < _MOST_SHOWN:
            last = str(recording.steps[at - 1]) if at else "nothing"
            self.tally.wrong.append(
                f"{self._job.workload}, {self._job.form}, seed {self._job.seed}, "
                f"{where} ({last}): {'; '.join(wrong)}"
            )

    def _recovery(self, disk: Disk, recording: Recording, at: int, root: str) -> None:
        """Record the recovery from one state, and cut it off after every step."""
        tree = disk.posix(self._chance, 0.5)
        chosen = self._catalog("posix", tree, recording, at)
        place(tree, root, None if chosen < 0 else recording.catalogs[chosen][1])
        recorder = Recorder(root, f"{root}/store")
        with recorder.installed(), boot(_AFTER):
            store = self._form.open(root)
            try:
                recovery = recorder.finish()
            finally:
                store.close()
        clear(root)
        allowed, told = self._ledger.allowed(at), self._ledger.told(at)
        again = Disk(recovery.nodes)
        self.tally.steps += len(recovery.steps)
        points = len(recovery.steps) + 1
        tried = self._spread(points, self._job.points // 4)
        for number in range(points):
            if number:
                again.apply(recovery.steps[number - 1])
            if number not in tried:
                continue
            for model, left in self.states(again):
                self.tally.made[f"recovery, {model}"] += 1
                key = hashlib.sha256(repr((at, model == "kill")).encode())
                _fingerprint(left, ROOT, key)
                if key.digest() in self._seen:
                    continue
                self._seen.add(key.digest())
                self.tally.distinct += 1
                last = max((c for c in recovery.catalogs if c[0] <= number), default=None)
                place(left, root, None if last is None else last[1])
                check = Check(root, self._form, allowed, self._ledger.bodies, told)
                wrong = check.run(_AFTER if model == "kill" else _AFTER_THAT, reindex=False)
                clear(root)
                where = f"recovery from step {at}, model {model}, after its step {number}"
                self._note(wrong, where, recovery, number)


def _text(allowed: Mapping[Digest, Allowed]) -> str:
    """Say what is allowed in words that are the same each time."""
    return repr(
        [
            (d.hex, sorted(a.states), sorted(a.required), sorted(a.possible), repr(a.current))
            for d, a in allowed.items()
        ]
    )


def _is_open(tree: Tree) -> bool:
    """Whether the state says that the store was open."""
    inode = ROOT
    for name in ("store", ".dtfc", "running"):
        child = tree.entries.get(inode, {}).get(name)
        if child is None:
            return False
        inode = child
    return True


def _fingerprint(tree: Tree, inode: int, key: hashlib._Hash) -> None:
    for name, child in sorted(tree.entries[inode].items()):
        key.update(f"{name} {child} {tree.modes(child)}\n".encode())
        if child in tree.entries:
            _fingerprint(tree, child, key)
            key.update(b"up\n")
        else:
            content = tree.files(child)
            key.update(b"%d %d\n" % (len(content), hash(content)))


def run(job: Job, deaf: Deaf | None = None) -> Tally:
    """Do one job."""
    recording, ledger = record(WORKLOADS[job.workload], FORMS[job.form], job.seed, deaf)
    root = workspace()
    try:
        return Rig(job, ledger).run(recording, root)
    finally:
        shutil.rmtree(root)


def run_all(jobs: list[Job]) -> Tally:
    """Do many jobs, side by side."""
    total = Tally()
    for tally in side_by_side(run, jobs):
        total.add(tally)
    return total


def jobs(seed: int, share: float) -> list[Job]:
    """Return every workload on every form of store, or a random part, tried less thoroughly."""
    chance = Random(seed)
    plan = []
    for number, (workload, form) in enumerate(itertools.product(WORKLOADS, FORMS)):
        # A state of 64 levels has so many folders that it takes ten times as long.
        points = 60 if FORMS[form].fan_out == 64 else 400
        plan.append(Job(workload, form, seed + number, points=points))
    if share >= 1:
        return plan
    few = chance.sample(plan, max(6, int(len(plan) * share)))
    return [replace(job, samples=2, points=job.points // 15, recoveries=1) for job in few]


def prove(seed: int, share: float) -> list[Row]:
    """Record, crash, recover and check."""
    begun = time.monotonic()
    plan = jobs(seed, share)
    total = run_all(plan)
    made = sum(total.made.values())
    models = ", ".join(f"{model} {count:,}" for model, count in sorted(total.made.items()))
    cases = (
        f"{made:,} crash states, {total.distinct:,} of them different and checked; "
        f"{len(plan)} recordings, {total.steps:,} steps ({models})"
    )
    seconds = time.monotonic() - begun
    return [Row("loss of power", cases, total.counted, seconds, seed, total.wrong)]
