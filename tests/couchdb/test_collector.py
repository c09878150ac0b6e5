"""The collector beside a CouchDB 3.5 in memory, on a clock that a test moves."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dtfc.couchdb.collecting import CollectorTerms
from dtfc.couchdb.collector import STEP
from dtfc.couchdb.documents import Reference
from dtfc.couchdb.following import Following
from dtfc.couchdb.nodeuser import Anybody
from dtfc.couchdb.referencefile import ReferenceFile
from dtfc.couchdb.references import DocumentState, References
from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.errors import Absent, StoreFailure
from dtfc.store.collected import Here, Lying
from dtfc.store.facts import BlobInfo
from tests.conftest import LoggedFailures
from tests.support.couchdb35 import Couchdb35, Database35

GRACE, PERIOD, VERIFY, UNDELETE = 1200.0, 300.0, 600.0, 7200.0

#: After so long whatever is garbage is gone: its time, a report after a start, passes
#: that see it, a reading of the databases that was put off, and steps in between.
LONG_ENOUGH = GRACE + VERIFY + 3 * PERIOD + 5 * STEP

DIGESTS = [Digest.of(b"%d" % number) for number in range(5)]


class Shelf:
    """Blobs without bytes, and what a test wants to know at the moment one goes."""

    def __init__(self) -> None:
        self.here: dict[Digest, int] = {}
        self.aside: set[Digest] = set()
        self.went: list[Digest] = []
        self.gone: list[Digest] = []
        self.stamps = 0
        self.trouble: Exception | None = None
        self.before_it_goes: Any = lambda _digest: None

    def put(self, digest: Digest) -> None:
        self.stamps += 1
        self.here[digest] = self.stamps

    def digests(self, after: Digest | None) -> Sequence[Digest]:
        found = sorted(each for each in self.here if after is None or each > after)
        return found[:2]

    def look(self, digest: Digest) -> Here | None:
        stamp = self.here.get(digest)
        return None if stamp is None else Here(digest, stamp, 10)

    def collect(self, seen: Here) -> BlobInfo | None:
        if self.trouble is not None:
            raise self.trouble
        if self.look(seen.digest) != seen:
            return None
        self.before_it_goes(seen.digest)
        del self.here[seen.digest]
        self.aside.add(seen.digest)
        self.went.append(seen.digest)
        return BlobInfo(seen.digest, 10, 0.0, None, ())

    def restore(self, digest: Digest) -> BlobInfo:
        if digest not in self.aside:
            raise Absent(digest.hex)
        self.aside.remove(digest)
        if digest not in self.here:
            self.put(digest)
        return BlobInfo(digest, 10, 0.0, None, ())

    def lying(self) -> Iterable[Lying]:
        return [Lying(each, 10, None) for each in sorted(self.aside)]

    def drop(self, digest: Digest) -> bool:
        self.gone.append(digest)
        found = digest in self.aside
        self.aside.discard(digest)
        return found


class Site:
    """A CouchDB, and a node beside it that starts and stops."""

    def __init__(self, folder: str, seed: int = 0, **terms: Any) -> None:
        self.path = f"{folder}/references.sqlite"
        self.couch = Couchdb35(seed)
        self.photos = self.couch.make("photos")
        self.shelf = Shelf()
        self.clock = Clock()
        self.terms = CollectorTerms(
            **{
                "grace": GRACE,
                "undelete": UNDELETE,
                "period": PERIOD,
                "verify": VERIFY,
                **terms,
            }
        )
        self.names = ["photos"]
        self.node: Following | None = None

    def start(self) -> Following:
        couch: Any = self.couch
        self.node = Following(
            couch,
            Anybody(),
            self.names,
            ReferenceFile(self.path),
            InlineDisk(),
            stock=self.shelf,
            terms=self.terms,
            node_id="node",
            reactor=self.clock,
            ticks=self.clock.seconds,
            chance=lambda: 1.0,
        )
        self.node.start()
        return self.node

    def stop(self) -> None:
        node, self.node = self.node, None
        if node is not None:
            done = Deferred.fromCoroutine(node.stop())
            assert done.called

    def restart(self) -> Following:
        self.stop()
        return self.start()

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds // STEP)):
            self.clock.advance(STEP)

    @property
    def told(self) -> dict[str, Any]:
        assert self.node is not None
        found: list[Any] = []
        Deferred.fromCoroutine(self.node.collector.garbage()).addCallback(found.append)
        told: dict[str, Any] = found[0].told
        return told


def refers(*digests: Digest) -> dict[str, Any]:
    return {"dtfc": {f"{at}": {"sha512": each.hex} for at, each in enumerate(digests)}}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(str(tmp_path))
    yield site
    site.stop()


def test_what_nothing_refers_to_goes_in_its_time(site: Site) -> None:
    site.photos.edit("a", refers(DIGESTS[0]))
    site.shelf.put(DIGESTS[0])
    site.shelf.put(DIGESTS[1])
    site.start()
    site.wait(GRACE)
    assert set(site.shelf.here) == {DIGESTS[0], DIGESTS[1]}
    site.wait(LONG_ENOUGH)
    assert set(site.shelf.here) == {DIGESTS[0]}
    assert site.shelf.aside == {DIGESTS[1]}


def test_the_first_pass_reports_only(site: Site) -> None:
    site.shelf.put(DIGESTS[0])
    site.start()
    site.wait(LONG_ENOUGH)
    site.shelf.put(DIGESTS[1])
    site.wait(GRACE)
    # Ripe by now, or nearly.
    site.restart()
    site.wait(2 * STEP)
    assert site.told["report_only"] is True
    site.wait(PERIOD)
    assert site.told["report_only"] is False


def test_a_dry_run_reports_for_ever(tmp_path: Path) -> None:
    site = Site(str(tmp_path), dry_run=True)
    site.shelf.put(DIGESTS[0])
    site.start()
    site.wait(2 * LONG_ENOUGH)
    assert site.shelf.aside == set()
    assert (site.told["report_only"], site.told["ripe"]) == (True, 1)
    site.stop()


def test_without_a_time_nothing_is_collected(tmp_path: Path) -> None:
    site = Site(str(tmp_path), grace=None)
    site.shelf.put(DIGESTS[0])
    site.start()
    site.wait(2 * LONG_ENOUGH)
    assert set(site.shelf.here) == {DIGESTS[0]}
    site.stop()


def test_what_is_stored_again_begins_anew(site: Site) -> None:
    site.shelf.put(DIGESTS[0])
    site.start()
    for _ in range(10):
        site.wait(GRACE / 2)
        site.shelf.put(DIGESTS[0])
        assert site.shelf.aside == set()


def test_what_was_referred_to_between_two_passes_begins_anew(site: Site) -> None:
    site.shelf.put(DIGESTS[0])
    site.start()
    for _ in range(10):
        site.wait(GRACE / 2)
        site.photos.edit("a", refers(DIGESTS[0]))
        site.photos.edit("a", {})
        assert site.shelf.aside == set()


def test_what_is_referred_to_while_others_go_stays(site: Site) -> None:
    one, two = sorted(DIGESTS[:2])
    site.shelf.put(one)
    site.shelf.put(two)
    site.start()

    def heard(_gone: Digest) -> None:
        file = ReferenceFile(site.path)
        leaves = (("1-a", (Reference("x", two),)),)
        References(file).apply("photos", [DocumentState("a", leaves)], "9")
        file.close()

    site.shelf.before_it_goes = heard
    site.wait(LONG_ENOUGH)
    assert site.shelf.went == [one]


@pytest.mark.parametrize("what", ["away", "gone"])
def test_while_a_database_cannot_be_followed_nothing_goes(site: Site, what: str) -> None:
    site.names.append("scans")
    site.couch.make("scans")
    site.shelf.put(DIGESTS[0])
    site.start()
    site.wait(GRACE / 2)
    if what == "away":
        site.couch.leave()
    else:
        site.couch.drop("scans")
    site.wait(10 * LONG_ENOUGH)
    assert set(site.shelf.here) == {DIGESTS[0]}


def test_what_was_down_makes_nothing_older(site: Site) -> None:
    site.shelf.put(DIGESTS[0])
    site.start()
    site.wait(GRACE / 2)
    site.couch.leave()
    site.wait(10 * GRACE)
    site.couch.come_back()
    site.stop()
    site.clock.advance(10 * GRACE)
    site.start()
    site.wait(GRACE / 2 - 4 * STEP)
    assert set(site.shelf.here) == {DIGESTS[0]}
    site.wait(LONG_ENOUGH)
    assert site.shelf.aside == {DIGESTS[0]}


def test_all_is_read_anew_before_the_first_one_goes(site: Site) -> None:
    site.shelf.put(DIGESTS[0])
    node = site.start()
    scans: list[int] = []
    site.shelf.before_it_goes = lambda _digest: scans.append(node.here()[0].counts["scans"])
    site.wait(LONG_ENOUGH)
    # The first reading, and one for the collector.
    assert scans == [2]


def test_a_reading_anew_is_not_made_for_every_one(site: Site) -> None:
    node = site.start()
    for number in range(30):
        site.shelf.put(Digest.of(b"garbage %d" % number))
        site.wait(PERIOD)
    readings = node.here()[0].counts["scans"] - 1
    assert 0 < readings <= 30 * PERIOD / VERIFY


def test_a_reference_that_the_feed_never_told_of_is_found(site: Site) -> None:
    site.shelf.put(DIGESTS[0])
    site.start()
    site.wait(GRACE / 2)
    # As a feed with a mistake would have it: it is there, and no change says so.
    quiet = site.photos
    sequence = quiet.sequence
    quiet.edit("a", refers(DIGESTS[0]))
    quiet.sequence = quiet.documents["a"].changed = sequence
    site.wait(3 * LONG_ENOUGH)
    assert set(site.shelf.here) == {DIGESTS[0]}


def test_what_a_document_refers_to_again_comes_back(site: Site) -> None:
    site.shelf.put(DIGESTS[0])
    site.start()
    site.wait(LONG_ENOUGH)
    assert site.shelf.aside == {DIGESTS[0]}
    site.photos.edit("a", refers(DIGESTS[0]))
    site.wait(STEP)
    assert set(site.shelf.here) == {DIGESTS[0]}
    assert site.shelf.aside == set()


def test_what_nobody_wants_back_is_gone_for_good(site: Site) -> None:
    site.shelf.put(DIGESTS[0])
    site.start()
    site.wait(LONG_ENOUGH)
    site.wait(UNDELETE - LONG_ENOUGH)
    assert site.shelf.gone == []
    site.wait(LONG_ENOUGH)
    assert site.shelf.gone == [DIGESTS[0]]
    assert site.shelf.aside == set()


def test_what_an_operator_brought_back_has_its_time_anew(site: Site) -> None:
    site.shelf.put(DIGESTS[0])
    site.start()
    site.wait(LONG_ENOUGH)
    site.shelf.restore(DIGESTS[0])
    site.wait(GRACE)
    assert set(site.shelf.here) == {DIGESTS[0]}
    site.wait(LONG_ENOUGH)
    assert site.shelf.aside == {DIGESTS[0]}


def test_who_stops_while_databases_are_read_anew_stops(
    site: Site, logged_failures: LoggedFailures
) -> None:
    site.names.append("scans")
    site.couch.make("scans")
    site.shelf.put(DIGESTS[0])
    node = site.start()
    never: Deferred[bool] = Deferred()
    for follower in node._followers.values():
        follower.confirm = lambda *, anew: never  # type: ignore[method-assign]  # noqa: ARG005
    site.wait(LONG_ENOUGH)
    assert not never.called
    site.stop()
    assert logged_failures.flush() == []


def test_a_disk_that_refuses_is_tried_again(site: Site) -> None:
    site.shelf.put(DIGESTS[0])
    site.start()
    site.shelf.trouble = StoreFailure("move a blob aside", OSError(5, "Input/output error"))
    site.wait(LONG_ENOUGH)
    assert set(site.shelf.here) == {DIGESTS[0]}
    site.shelf.trouble = None
    site.wait(PERIOD + STEP)
    assert site.shelf.aside == {DIGESTS[0]}


class Garbage(RuleBasedStateMachine):
    """Whatever happens to documents, server and node: the right blobs go, and no others."""

    names = st.sampled_from("abc")
    digests = st.lists(st.sampled_from(DIGESTS), max_size=3)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.wanted: dict[Digest, float] = {}

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.site = Site(self.folder.name, seed)
        self.site.names = ["photos", "scans"]
        self.site.couch.make("scans")
        self.site.shelf.before_it_goes = self.before_it_goes
        self.site.start()

    @property
    def now(self) -> float:
        return self.site.clock.seconds()

    def before_it_goes(self, digest: Digest) -> None:
        assert digest.hex not in self.site.couch.referenced(), "it is referred to"
        assert self.now - self.wanted[digest] >= GRACE, "it is too soon"

    def wait(self, seconds: float) -> None:
        """Let time go by, and note what is referred to, and could be seen to be.

        What came and went before anybody could ask is nothing that anybody knows:
        a follower that has failed comes back within a minute.
        """
        for minute in range(int(seconds // STEP)):
            self.site.wait(STEP)
            if minute >= 2 and not self.site.couch.away:
                for text in self.site.couch.referenced():
                    self.wanted[Digest.from_hex(text)] = self.now

    def database(self, which: bool) -> Database35:  # noqa: FBT001 -- drawn
        names = sorted(self.site.couch.databases)
        return self.site.couch.databases[names[which % len(names)]]

    @rule(digest=st.sampled_from(DIGESTS))
    def upload(self, digest: Digest) -> None:
        self.site.shelf.put(digest)
        self.wanted[digest] = self.now

    @rule(which=st.booleans(), name=names, digests=digests, loser=st.booleans())
    def edit(self, which: bool, name: str, digests: list[Digest], loser: bool) -> None:  # noqa: FBT001
        database = self.database(which)
        document = database.documents.get(name)
        rev = min(document.leaves) if document is not None and loser else None
        database.edit(name, refers(*digests), rev)

    @rule(which=st.booleans(), name=names, digests=digests)
    def conflict(self, which: bool, name: str, digests: list[Digest]) -> None:  # noqa: FBT001
        self.database(which).conflict(name, refers(*digests))

    @rule(which=st.booleans(), name=names, body=st.booleans())
    def delete_the_winner(self, which: bool, name: str, body: bool) -> None:  # noqa: FBT001
        database = self.database(which)
        if name in database.documents:
            kept = refers(*DIGESTS) if body else {}
            database.edit(name, {"_deleted": True, **kept})

    @rule(which=st.booleans(), name=names)
    def purge(self, which: bool, name: str) -> None:  # noqa: FBT001
        database = self.database(which)
        if name in database.documents:
            database.purge(name, database.documents[name].winner)

    @rule()
    def make_a_database_anew(self) -> None:
        self.site.couch.make("scans")

    @rule(which=st.booleans(), rewinds=st.booleans())
    def rewind(self, which: bool, rewinds: bool) -> None:  # noqa: FBT001
        self.database(which).rewinds = rewinds

    @rule()
    def restart(self) -> None:
        self.site.restart()

    @rule(hours=st.integers(0, 3))
    def be_down(self, hours: int) -> None:
        self.site.stop()
        self.site.clock.advance(hours * 3600.0)
        self.site.start()

    @rule()
    def an_hour_without_couchdb(self) -> None:
        self.site.couch.leave()
        self.wait(3600)
        self.site.couch.come_back()

    @rule(minutes=st.integers(1, 30))
    def time_goes_by(self, minutes: int) -> None:
        self.wait(60.0 * minutes)

    @rule()
    def settle(self) -> None:
        here = set(self.site.shelf.here) | self.site.shelf.aside
        for database in self.site.couch.databases.values():
            database.rewinds = False
        self.wait(LONG_ENOUGH)
        wanted = {Digest.from_hex(text) for text in self.site.couch.referenced()}
        assert set(self.site.shelf.here) == here & wanted

    def teardown(self) -> None:
        if hasattr(self, "site"):
            self.settle()
            self.site.stop()
        self.folder.cleanup()


TestGarbage = Garbage.TestCase
if os.environ.get("DTFC_HYPOTHESIS") == "big":
    # Each run has hours of passes in it.
    TestGarbage.settings = settings(max_examples=2000, deadline=None)
