"""A follower of a database that a test writes, with a clock that a test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dtfc.couchdb.asking import DatabaseGone
from dtfc.couchdb.documents import Change, Page, Reference
from dtfc.couchdb.feed import Checkpoint, Info
from dtfc.couchdb.follower import LOOK_EVERY, Follower
from dtfc.couchdb.referencefile import ReferenceFile
from dtfc.couchdb.references import DocumentState, References
from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.errors import CouchUnreached
from tests.conftest import LoggedFailures

ONE, TWO, THREE = (Digest.of(b"%d" % number) for number in range(3))


class Written:
    """A database that holds what a test writes; its sequences are places in a list."""

    name = "photos"

    def __init__(self) -> None:
        self.changes: list[tuple[str, Digest | None]] = []
        self.told = Info(0, "made")
        self.kept: Checkpoint | None = None
        self.may_keep = True
        self.trouble: Exception | None = None
        self.pages: list[str] = []
        self.waiting: Deferred[bool] | None = None
        self.waits = 0
        self.behind: int | None = None
        """Changes that come behind a page, if that is said."""

    def write(self, name: str, digest: Digest | None) -> None:
        self.changes.append((name, digest))
        self.wake(changed=True)

    def wake(self, *, changed: bool) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.callback(changed)

    def _trouble(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    async def info(self) -> Info:
        self._trouble()
        return self.told

    async def page(self, since: str, limit: int) -> Page:
        self._trouble()
        self.pages.append(since)
        begin = int(since)
        some = self.changes[begin : begin + min(limit, 3)]
        changes = tuple(
            Change(name, digest is None, ("1-a",), {}) for at, (name, digest) in enumerate(some)
        )
        return Page(changes, str(begin + len(some)), self.behind)

    async def states(self, changes: Sequence[Change]) -> tuple[list[DocumentState], int]:
        latest = dict(self.changes)
        found = []
        for name in {change.id for change in changes}:
            digest = latest[name]
            leaves = () if digest is None else (("1-a", (Reference("x", digest),)),)
            found.append(DocumentState(name, leaves))
        return found, 0

    async def wait(self, _since: str, _seconds: float) -> bool:
        self._trouble()
        self.waits += 1
        self.waiting = Deferred(lambda _waiting: None)
        return await self.waiting

    async def checkpoint(self) -> Checkpoint | None:
        self._trouble()
        return self.kept

    async def keep(self, checkpoint: Checkpoint) -> bool:
        self._trouble()
        if self.may_keep:
            self.kept = checkpoint
        return self.may_keep


class Rig:
    """A database, the file of references, and followers of the one into the other."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.database = Written()
        self.file = ReferenceFile(str(folder / "references.sqlite"))
        self.references = References(self.file)
        self.follower = self.start()

    def start(self) -> Follower:
        database: Any = self.database
        self.follower = Follower(
            database,
            self.references,
            InlineDisk(),
            self.clock,
            ticks=self.clock.seconds,
            chance=lambda: 1.0,
        )
        self.follower.start()
        return self.follower

    def again(self) -> Follower:
        self.stop()
        self.database.pages.clear()
        return self.start()

    def stop(self) -> None:
        Deferred.fromCoroutine(self.follower.stop())

    @property
    def known(self) -> list[bool]:
        return [self.references.referenced(each) for each in (ONE, TWO, THREE)]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.stop()
    rig.file.close()


def test_what_is_written_is_known(rig: Rig) -> None:
    for number, digest in enumerate([ONE, TWO, TWO, TWO, TWO]):
        rig.database.write(f"{number}", digest)

    assert rig.known == [True, True, False]
    assert rig.follower.status.state == "following"
    assert rig.follower.status.complete


def test_what_is_still_to_be_read_is_told(rig: Rig) -> None:
    lags: list[int] = []
    states = rig.database.states

    async def notes(changes: Any) -> Any:
        lags.append(rig.follower.status.lag)
        return await states(changes)

    rig.database.states = notes  # type: ignore[method-assign]  # looks, and does the same
    rig.database.behind = 40
    rig.database.write("a", ONE)
    rig.database.behind = 0
    rig.database.write("b", ONE)
    assert (lags, rig.follower.status.lag) == ([41, 1], 0)


def test_when_a_checkpoint_was_kept_is_told(rig: Rig) -> None:
    rig.clock.advance(1000)
    rig.database.write("a", ONE)
    assert rig.follower.status.kept == rig.clock.seconds()


def test_what_is_deleted_is_known_no_more(rig: Rig) -> None:
    rig.database.write("a", ONE)
    rig.database.write("a", None)

    assert rig.known == [False, False, False]


def test_a_follower_that_starts_again_goes_on(rig: Rig) -> None:
    rig.database.write("a", ONE)
    rig.clock.advance(11)
    rig.database.write("b", TWO)

    follower = rig.again()
    assert rig.database.pages[0] == "2"
    assert follower.status.counts.get("scans", 0) == 0


def test_the_older_of_two_checkpoints_wins(rig: Rig) -> None:
    rig.database.write("a", ONE)
    # Not kept in the database: too soon after the last time.
    rig.database.write("b", TWO)
    assert rig.database.kept is not None
    since = rig.database.kept.since

    rig.again()
    assert since != "2"
    assert rig.database.pages[0] == since


def test_a_database_that_remembers_a_later_one_makes_nothing_be_passed_over(rig: Rig) -> None:
    rig.database.write("a", ONE)
    assert rig.database.kept is not None
    scan = rig.database.kept.scan
    rig.database.kept = Checkpoint("7", 10**6, scan)

    rig.again()
    assert rig.database.pages[0] == "1"


def _purged(database: Written) -> None:
    database.told = Info(1, "made")


def _made_anew(database: Written) -> None:
    database.told = Info(0, "made later")


def _forgotten(database: Written) -> None:
    database.kept = None


def _of_another_reading(database: Written) -> None:
    assert database.kept is not None
    database.kept = Checkpoint(database.kept.since, 0, database.kept.scan + 1)


@pytest.mark.parametrize("happens", [_purged, _made_anew, _forgotten, _of_another_reading])
def test_what_is_not_sure_is_read_from_the_beginning(
    rig: Rig, happens: Callable[[Written], None]
) -> None:
    rig.database.write("a", ONE)
    rig.database.write("b", TWO)
    rig.stop()
    happens(rig.database)
    # No feed tells that it went.
    del rig.database.changes[0]

    follower = rig.again()
    assert rig.database.pages[0] == "0"
    assert follower.status.counts["scans"] == 1
    assert rig.known == [False, True, False]


@pytest.mark.parametrize("happens", [_purged, _made_anew])
def test_a_follower_that_waits_looks_for_it(rig: Rig, happens: Callable[[Written], None]) -> None:
    rig.database.write("a", ONE)
    happens(rig.database)
    rig.database.changes.clear()
    rig.clock.advance(LOOK_EVERY)
    rig.database.wake(changed=False)

    assert rig.known == [False, False, False]
    assert rig.follower.status.complete


def test_until_it_is_read_what_was_known_counts(rig: Rig) -> None:
    rig.database.write("a", ONE)
    rig.stop()
    _purged(rig.database)
    rig.database.changes.clear()
    rig.start()
    rig.stop()
    rig.database.trouble = CouchUnreached("no")
    rig.references.begin_scan("photos", 2, "made")

    follower = rig.start()
    assert not follower.status.complete
    assert follower.status.state == "unreached"


@pytest.mark.parametrize(
    ("trouble", "state"), [(CouchUnreached("no"), "unreached"), (DatabaseGone(), "gone")]
)
def test_a_failure_is_told_and_forgets_nothing(rig: Rig, trouble: Exception, state: str) -> None:
    rig.database.write("a", ONE)
    rig.database.trouble = trouble
    rig.database.wake(changed=True)

    assert rig.follower.status.state == state
    assert rig.known == [True, False, False]
    rig.database.trouble = None
    rig.clock.advance(1.0)
    assert rig.follower.status.state == "following"


def test_failures_are_waited_for_longer_and_longer(rig: Rig) -> None:
    rig.database.trouble = CouchUnreached("no")
    rig.database.wake(changed=True)
    failures = []
    for _ in range(10):
        rig.clock.advance(60.0)
        failures.append(rig.follower.status.counts["failures"])

    assert failures[-1] - failures[-2] == 1
    rig.database.trouble = None
    rig.clock.advance(60.0)
    assert rig.follower.status.state == "following"


def test_what_ended_by_a_mistake_does_not_look_followed(
    rig: Rig, logged_failures: LoggedFailures
) -> None:
    rig.database.trouble = ZeroDivisionError()
    rig.database.wake(changed=True)

    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    assert rig.follower.status.state == "unreached"
    assert "ZeroDivisionError" in rig.follower.status.trouble


def test_who_is_woken_for_nothing_does_not_ask_all_the_time(rig: Rig) -> None:
    rig.database.write("a", ONE)
    rig.clock.advance(5)
    before = len(rig.database.pages)
    for _ in range(100):
        rig.database.wake(changed=True)

    assert len(rig.database.pages) - before <= 1


def test_where_nothing_may_be_kept_all_is_read_at_each_start(rig: Rig) -> None:
    rig.database.may_keep = False
    rig.database.kept = None
    rig.database.write("a", ONE)

    follower = rig.again()
    assert follower.status.counts["scans"] == 1
    assert rig.known == [True, False, False]
