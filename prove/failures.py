"""Proof 3: let the n-th call fail, for n = 1, 2, 3 and so on until nothing fails any more.

Each operation, each system call of the write path, each error. What is expected:
the error becomes the status that it should; nothing partial is to be seen; a
sync that failed is neither acknowledged nor tried again; no descriptor is left;
everything else is served on; and after the next opening all is as it should be.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

from dtfc.digest import Digest
from dtfc.errors import Absent, DtfcError
from dtfc.http.problems import problem_for
from dtfc.store.blobs import Store
from dtfc.store.facts import Stored
from dtfc.store.together import Small, Together
from dtfc.store.uploadstate import Announced
from prove.crashes import Check, clear
from prove.faults import CALLS, ERRORS, Faults
from prove.figures import Row
from prove.ledger import Deed, Ledger, State
from prove.parallel import side_by_side
from prove.powercut import workspace
from prove.record import BOOT
from prove.scene import Form, together_of

#: What a client is told.
STATUS = {
    errno.EIO: 500,
    errno.EINTR: 500,
    errno.ENOSPC: 507,
    errno.EDQUOT: 507,
    errno.EMFILE: 503,
}

_MOST = 500  # calls of one kind in one operation; more would be a loop
OLD = b"here before" * 300
NEW = b"to be stored" * 300
GONE = b"deleted before" * 50
_BYSTANDER = b"has nothing to do with it"


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that may fail.

    Args:
        name: for the report.
        body: the blob it is about.
        result: what it makes of the blob; None if it leaves it.
        before: what the blob is before.
        run: does it.
        added: the name that it adds.
    """

    name: str
    body: bytes
    result: State | None
    before: State
    run: Callable[[Stage], None]
    added: str | None = None


class Stage:
    """A store with some blobs, and a failure to come."""

    def __init__(self, root: str, form: Form) -> None:
        self.root = root
        self.form = form
        self.ledger = Ledger()
        self.store = form.open(root)
        self._together: Together | None = None
        self.now = 0
        for body, name in ((OLD, "old"), (GONE, "gone"), (_BYSTANDER, "bystander")):
            deed = self.begin(body, "here", name)
            put(self.store, body, name)
            self.acknowledge(deed)
        deed = self.begin(GONE, "deleted", None)
        self.store.delete(Digest.of(GONE))
        self.acknowledge(deed)
        self.ledger.body(NEW)

    def begin(self, body: bytes, result: State | None, name: str | None) -> Deed:
        """Note that something begins."""
        self.now += 1
        return self.ledger.begin(self.ledger.body(body), result, name, self.now)

    def acknowledge(self, deed: Deed) -> None:
        """Note that it was promised."""
        self.now += 1
        deed.done = self.now

    @property
    def together(self) -> Together:
        """Where small blobs go."""
        if self._together is None:
            self._together = together_of(self.store)
        return self._together

    def begin_groups(self) -> Together:
        """Make the logs of small blobs, so that only the PUT can fail."""
        return self.together

    def close(self) -> None:
        """Close everything."""
        if self._together is not None:
            self._together.close()
            self._together = None
        self.store.close()


def put(store: Store, body: bytes, name: str | None) -> None:
    """Store a blob."""
    intake = store.intake(len(body))
    intake.write([body])
    intake.commit(name)


def _load(stage: Stage) -> None:
    partial = stage.store.partial(Digest.of(NEW))
    try:
        at = partial.absorb()
        partial.reserve(len(NEW))
        partial.write([NEW[at:]])
        partial.commit("loaded")
    finally:
        partial.close()


def _small(stage: Stage) -> None:
    (result,) = stage.together.put([Small(NEW, "small")])
    if result is None:
        put(stage.store, NEW, "small")
    elif not isinstance(result, Stored):
        raise result


def _delete(stage: Stage, body: bytes) -> None:
    stage.store.delete(Digest.of(body))


def _name(stage: Stage) -> None:
    stage.store.store_again(Digest.of(OLD), "more")


def _upload(stage: Stage) -> None:
    """In two requests; what is noted when the blob is durable fails nobody."""
    uploads = stage.store.uploads
    upload = uploads.create(Announced("up", len(NEW)))
    try:
        upload.write([NEW[:1000]])
    finally:
        upload.close()
    upload = uploads.take(upload.name)
    try:
        upload.write([NEW[1000:]])
        upload.sync()
        upload.enter()
    finally:
        upload.close()


OPERATIONS = (
    Operation("new PUT", NEW, "here", "never", lambda s: put(s.store, NEW, "new"), "new"),
    Operation("PUT without a name", NEW, "here", "never", lambda s: put(s.store, NEW, None)),
    Operation("duplicate PUT", OLD, "here", "here", lambda s: put(s.store, OLD, "dup"), "dup"),
    Operation("PUT after DELETE", GONE, "here", "deleted", lambda s: put(s.store, GONE, "b"), "b"),
    Operation("name", OLD, None, "here", _name, "more"),
    Operation("upload", NEW, "here", "never", _upload, "up"),
    Operation("DELETE", OLD, "deleted", "here", lambda s: _delete(s, OLD)),
    Operation("DELETE of what is not here", NEW, "deleted", "never", lambda s: _delete(s, NEW)),
    Operation("load", NEW, "here", "never", _load, "loaded"),
    Operation("small PUT", NEW, "here", "never", _small, "small"),
)


@contextmanager
def steady_descriptors(wrong: list[str]) -> Iterator[None]:
    """Say so if there are more descriptors after than before."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    after = len(os.listdir("/proc/self/fd"))
    if after > before:
        wrong.append(f"{after - before} descriptors were left open")


def found(store: Store, body: bytes) -> State | None:
    """Return what a reader is told; None if it is wrong bytes."""
    try:
        with store.open(Digest.of(body)) as blob:
            whole = os.pread(blob.fd, len(body) + 1, 0) == body
    except Absent as absent:
        return "deleted" if absent.deleted else "never"
    return "here" if whole else None


class Trial:
    """One operation with one failure.

    Args:
        root: an empty folder.
        form: of the store.
        operation: what is done.
        faults: what fails.
    """

    def __init__(self, root: str, form: Form, operation: Operation, faults: Faults) -> None:
        self._root = root
        self._form = form
        self._operation = operation
        self._faults = faults
        self.wrong: list[str] = []

    def run(self, number: int) -> list[str]:
        """Try it; return what is wrong."""
        operation, faults = self._operation, self._faults
        with steady_descriptors(self.wrong):
            stage = Stage(self._root, self._form)
            if operation.name == "small PUT":
                stage.begin_groups()
            deed = stage.begin(operation.body, operation.result, operation.added)
            try:
                with steady_descriptors(self.wrong), faults.installed():
                    error = self._do(stage)
                    if error is not None:
                        self._refused(stage, error, number)
                if error is None:
                    stage.acknowledge(deed)
                    if faults.sync_failed and not self._other_way(number):
                        self.wrong.append("a sync failed, and it was acknowledged")
                    self._as(stage, {operation.result or operation.before})
                self._others(stage)
                self._retry(stage)
            finally:
                stage.close()
        if faults.retried:
            self.wrong.append(f"a sync that had failed was tried again: {faults.retried}")
        check = Check(
            self._root,
            self._form,
            stage.ledger.allowed(stage.now + 1),
            stage.ledger.bodies,
            told={} if self._operation.run is _upload else None,
        )
        self.wrong += check.run(BOOT, reindex=True)
        return self.wrong

    def _do(self, stage: Stage) -> Exception | None:
        try:
            self._operation.run(stage)
        except Exception as error:  # noqa: BLE001 - any other than a DtfcError is a finding
            return error
        return None

    def _refused(self, stage: Stage, error: Exception, number: int) -> None:
        if not isinstance(error, DtfcError):
            self.wrong.append(f"{error!r} is no error of the store's")
        status = problem_for(error).status
        if status != STATUS[number]:
            self.wrong.append(f"{error!r} is {status}, not {STATUS[number]}")
        expected = {self._operation.before}
        if self._operation.result == "deleted":
            # Its tombstone may stand by now.
            expected.add("deleted")
        if self._operation.before == "deleted" and self._faults.sync_failed:
            # Its tombstone may be gone by now, and not for certain.
            expected.add("here")
        self._as(stage, expected)

    def _other_way(self, number: int) -> bool:
        """A deletion on a full disk drops the tombstone and makes an empty marker instead."""
        return self._operation.result == "deleted" and number in (errno.ENOSPC, errno.EDQUOT)

    def _as(self, stage: Stage, expected: set[State]) -> None:
        state = found(stage.store, self._operation.body)
        if state not in expected:
            self.wrong.append(f"the blob is {state}, not {sorted(expected)}")

    def _others(self, stage: Stage) -> None:
        if found(stage.store, _BYSTANDER) != "here":
            self.wrong.append("another blob is not served")
        try:
            stage.begin(b"something else", "here", None)
            put(stage.store, b"something else", None)
        except DtfcError as error:
            if not self._faults.sync_failed:
                self.wrong.append(f"another blob is not stored: {error}")

    def _retry(self, stage: Stage) -> None:
        """The client tries again: it works, unless a sync failed, or the disk lost something."""
        deed = stage.begin(self._operation.body, self._operation.result, self._operation.added)
        error = self._do(stage)
        if error is None:
            stage.acknowledge(deed)
            self._as(stage, {self._operation.result or self._operation.before})
        elif not self._faults.sync_failed:
            self.wrong.append(f"the second try fails: {error}")


def trials(
    operation: Operation, call: str, number: int, form: Form, root: str, *, every: int = 1
) -> tuple[int, list[str]]:
    """Let each call of one kind fail in turn; return how many there were, and what was wrong."""
    wrong: list[str] = []
    nth, tried = 1, 0
    while nth < _MOST:
        faults = Faults(call, number, nth)
        trial = Trial(root, form, operation, faults)
        try:
            found_wrong = trial.run(number)
        finally:
            clear(root)
        where = f"{operation.name}, {call} number {nth} fails with {errno.errorcode[number]}"
        wrong.extend(f"{where}: {each}" for each in found_wrong)
        if not faults.fired:
            return tried, wrong
        tried += 1
        nth += every
    wrong.append(f"{operation.name}, {call}: it never ends")
    return tried, wrong


def prove(seed: int, share: float) -> list[Row]:
    """Try all of them, or a random share."""
    begun = time.monotonic()
    forms = (Form(), Form(fan_out=64), Form(anonymous=False))
    plan = [
        Plan(operation, call, number, form)
        for operation in range(len(OPERATIONS))
        for call in CALLS
        for number in ERRORS
        for form in forms
    ]
    chosen = Random(seed).sample(plan, max(1, int(len(plan) * share)))
    count, wrong = 0, list[str]()
    for tried, found_wrong in side_by_side(carry_out, chosen, 4):
        count += tried
        wrong += found_wrong
    cases = f"{count:,} failures ({len(chosen):,} of operation, call, error, form of store)"
    return [Row("n-th failure", cases, len(wrong), time.monotonic() - begun, seed, wrong[:10])]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to try: the number of an operation, a call, an error, a form of store."""

    operation: int
    call: str
    number: int
    form: Form


def carry_out(plan: Plan) -> tuple[int, list[str]]:
    """Try one plan in a folder of its own; return how many failures, and what was wrong."""
    root = workspace()
    try:
        # Of the many calls that 64 levels make, every seventh will do.
        every = 7 if plan.form.fan_out == 64 else 1
        operation = OPERATIONS[plan.operation]
        return trials(operation, plan.call, plan.number, plan.form, root, every=every)
    finally:
        shutil.rmtree(root)
