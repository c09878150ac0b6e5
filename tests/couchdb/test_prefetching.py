"""What is to be loaded, in which order, how often, and what becomes of the list."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dtfc.couchdb.documents import Reference
from dtfc.couchdb.prefetching import FIRST_WAIT, LONGEST_WAIT, REST, LargerThanWanted, Prefetching
from dtfc.couchdb.prefetchlist import PrefetchList
from dtfc.couchdb.prefetchrules import EVERYTHING, LARGEST, Rules, read_rules
from dtfc.couchdb.referencefile import ReferenceFile
from dtfc.couchdb.references import DocumentState, References
from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.errors import Absent, BadSetting, Denied, NoSpace, PeersUnreached, StoreFailure
from tests.conftest import LoggedFailures

ONE, TWO, THREE, FOUR = (Digest.of(b"%d" % number) for number in range(4))


def state(document: str, *digests: Digest, wanted: bool = True, length: int = 1) -> DocumentState:
    found = tuple(Reference(each.hex[:8], each, length) for each in digests)
    leaves = (("1-a", found),) if found else ()
    return DocumentState(document, leaves, found if wanted else ())


class Rig:
    """Prefetching whose loads a test ends."""

    def __init__(self, folder: Path, jobs: int = 2, largest: int | None = None) -> None:
        self.clock = Clock()
        self.references = References(ReferenceFile(str(folder / "references.sqlite")))
        self.list = PrefetchList(self.references.file, largest)
        self.jobs = jobs
        self.here: set[Digest] = set()
        self.loads: dict[Digest, Deferred[object]] = {}
        self.asked: list[Digest] = []
        self.prefetching = self.start()

    def start(self) -> Prefetching:
        self.list.begin({"photos": EVERYTHING})
        self.prefetching = Prefetching(
            self.list,
            InlineDisk(),
            self.clock,
            holds=self.here.__contains__,
            load=self.load,
            jobs=self.jobs,
            ticks=self.clock.seconds,
            chance=lambda: 1.0,
        )
        self.prefetching.start()
        return self.prefetching

    async def load(self, digest: Digest, _most: int | None) -> object:
        self.asked.append(digest)
        loading: Deferred[object] = Deferred(lambda _each: None)
        self.loads[digest] = loading
        try:
            return await loading
        finally:
            self.loads.pop(digest, None)

    def apply(self, *states: DocumentState) -> None:
        self.references.apply("photos", states, "1")
        self.prefetching.wake()

    def comes(self, digest: Digest) -> None:
        self.here.add(digest)
        self.loads[digest].callback(None)

    def fails(self, digest: Digest, error: Exception) -> None:
        self.loads[digest].errback(error)

    def stop(self) -> None:
        Deferred.fromCoroutine(self.prefetching.stop())

    @property
    def left(self) -> int:
        return self.list.count()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def begin(jobs: int = 2, largest: int | None = None) -> Rig:
        rigs.append(Rig(tmp_path, jobs, largest))
        return rigs[-1]

    yield begin
    for rig in rigs:
        rig.stop()
        rig.references.file.close()


@pytest.fixture
def rig(make: Callable[..., Rig]) -> Rig:
    return make()


def absent(digest: Digest, *, deleted: bool = False) -> Absent:
    return Absent(digest.hex, deleted=deleted, everywhere=not deleted)


# -- loads -------------------------------------------------------------------


def test_so_many_are_loaded_at_once_and_the_others_after_them(rig: Rig) -> None:
    rig.apply(state("a", ONE, TWO, THREE, FOUR))
    first = set(rig.loads)
    assert len(first) == 2
    for digest in first:
        rig.comes(digest)

    assert set(rig.loads) == {ONE, TWO, THREE, FOUR} - first
    assert rig.prefetching.counts["loaded"] == 2


def test_what_came_is_on_the_list_no_more(rig: Rig) -> None:
    rig.apply(state("a", ONE))
    rig.comes(ONE)

    assert rig.left == 0
    assert rig.prefetching.waiting == 0


def test_what_is_here_is_not_loaded(rig: Rig) -> None:
    rig.here.update({ONE, TWO})
    rig.apply(state("a", ONE, TWO, THREE))

    assert rig.asked == [THREE]
    assert rig.left == 1


def test_what_no_document_wants_is_not_loaded(rig: Rig) -> None:
    rig.apply(state("a", ONE, wanted=False))

    assert rig.asked == []
    assert rig.references.referenced(ONE)


def test_what_two_documents_want_is_loaded_once(rig: Rig) -> None:
    rig.apply(state("a", ONE), state("b", ONE))
    rig.apply(state("c", ONE))

    assert rig.asked == [ONE]


def test_what_comes_while_all_are_busy_is_loaded_then(make: Callable[..., Rig]) -> None:
    rig = make(jobs=1)
    rig.apply(state("a", ONE))
    rig.apply(state("b", TWO))
    rig.comes(ONE)
    rig.clock.advance(1)

    assert rig.asked == [ONE, TWO]


def test_what_fails_is_tried_again_less_and_less_often(rig: Rig) -> None:
    rig.apply(state("a", ONE))
    times = []
    for _ in range(14):
        while ONE not in rig.loads:
            rig.clock.advance(1)
        times.append(rig.clock.seconds())
        rig.fails(ONE, absent(ONE))

    waits = [later - before for before, later in pairwise(times)]
    assert waits[0] == FIRST_WAIT
    assert waits[1] == 2 * FIRST_WAIT
    assert waits[-1] == LONGEST_WAIT
    assert rig.prefetching.counts["failed"] == 14


def test_what_fails_holds_nothing_up(make: Callable[..., Rig]) -> None:
    rig = make(jobs=1)
    rig.apply(state("a", ONE))
    rig.fails(ONE, absent(ONE))
    rig.apply(state("b", TWO))

    assert rig.asked == [ONE, TWO]


def test_peers_that_say_when_are_asked_then(rig: Rig) -> None:
    rig.apply(state("a", ONE))
    rig.fails(ONE, PeersUnreached(ONE.hex, {"http://peer": "busy"}, 300))
    rig.clock.advance(299)
    assert rig.asked == [ONE]
    rig.clock.advance(1)
    assert rig.asked == [ONE, ONE]


@pytest.mark.parametrize("error", [absent(ONE, deleted=True), Denied("a marker forbids it")])
def test_what_the_node_is_not_to_have_is_given_up(rig: Rig, error: Exception) -> None:
    rig.apply(state("a", ONE))
    rig.fails(ONE, error)
    rig.clock.advance(2 * LONGEST_WAIT)

    assert rig.asked == [ONE]
    assert (rig.left, rig.prefetching.counts["dropped"]) == (0, 1)


def test_a_full_disk_is_waited_for_by_all(rig: Rig) -> None:
    rig.apply(state("a", ONE, TWO, THREE))
    for digest in list(rig.loads):
        rig.fails(digest, NoSpace(10, 5, 5))
    rested = [rig.prefetching.rests]
    rig.clock.advance(REST - 1)
    rig.apply(state("b", FOUR))
    assert rig.loads == {}
    rig.clock.advance(1)

    assert [*rested, rig.prefetching.rests] == [True, False]
    assert len(rig.loads) == 2
    assert rig.prefetching.counts["failed"] == 0


def test_one_that_is_larger_than_its_document_says_is_left(make: Callable[..., Rig]) -> None:
    rig = make(largest=100)
    rig.apply(state("a", ONE, length=10))
    rig.fails(ONE, LargerThanWanted(1000))
    rig.clock.advance(2 * LONGEST_WAIT)

    assert (rig.asked, rig.left) == ([ONE], 0)


def test_with_a_larger_limit_it_is_loaded(make: Callable[..., Rig]) -> None:
    rig = make(largest=100)
    rig.apply(state("a", ONE, length=1000))
    assert rig.asked == []
    rig.stop()
    rig.list.largest = None
    rig.start()

    assert rig.asked == [ONE]


def test_a_mistake_ends_one_load_and_not_all(rig: Rig, logged_failures: LoggedFailures) -> None:
    rig.apply(state("a", ONE))
    rig.fails(ONE, ZeroDivisionError())
    rig.apply(state("b", TWO))

    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    assert rig.asked == [ONE, TWO]


def test_a_list_that_cannot_be_read_is_read_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_now: float, _limit: int) -> None:
        raise StoreFailure("read its file of references", OSError(5, "Input/output error"))

    with monkeypatch.context() as broken:
        broken.setattr(rig.list, "due", fail)
        rig.apply(state("a", ONE))
        assert rig.asked == []
    rig.clock.advance(REST)
    assert rig.asked == [ONE]


def test_a_list_that_cannot_be_written_ends_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_digests: object) -> None:
        raise StoreFailure("write its file of references", OSError(5, "Input/output error"))

    rig.apply(state("a", ONE))
    with monkeypatch.context() as broken:
        broken.setattr(rig.list, "take_off", fail)
        rig.comes(ONE)
    rig.clock.advance(REST)
    rig.apply(state("b", TWO))

    assert rig.asked == [ONE, TWO]


def test_who_stops_loads_nothing_more(rig: Rig) -> None:
    rig.apply(state("a", ONE, TWO, THREE))
    rig.stop()
    rig.apply(state("b", FOUR))
    rig.clock.advance(LONGEST_WAIT)

    assert rig.loads == {}
    assert len(rig.asked) == 2


def test_after_a_restart_everything_is_tried_again(rig: Rig) -> None:
    rig.apply(state("a", ONE, TWO))
    rig.fails(ONE, absent(ONE))
    rig.clock.advance(FIRST_WAIT)
    rig.fails(ONE, absent(ONE))
    rig.stop()
    rig.asked.clear()
    rig.start()

    assert set(rig.asked) == {ONE, TWO}


def test_when_peers_come_everything_is_tried_again(rig: Rig) -> None:
    rig.apply(state("a", ONE))
    for _ in range(5):
        rig.clock.advance(LONGEST_WAIT)
        rig.fails(ONE, absent(ONE))
    asked = len(rig.asked)
    rig.prefetching.try_again()

    assert len(rig.asked) == asked + 1


# -- the list ----------------------------------------------------------------


def test_what_a_document_wants_no_more_is_taken_off(rig: Rig) -> None:
    rig.stop()
    rig.apply(state("a", ONE, TWO), state("b", TWO))
    rig.apply(state("a", THREE))
    assert rig.left == 2
    rig.apply(state("a", THREE, wanted=False), state("b"))

    assert rig.left == 0


def test_what_went_while_a_database_was_read_anew_is_taken_off(rig: Rig) -> None:
    rig.stop()
    rig.apply(state("a", ONE), state("b", TWO))
    rig.references.begin_scan("photos", 0, "")
    rig.apply(state("a", ONE))
    rig.references.finish_scan("photos")

    assert [each.digest for each in rig.list.due(0, 10)] == [ONE]


def test_what_a_database_wanted_goes_with_it(rig: Rig) -> None:
    rig.stop()
    rig.apply(state("a", ONE))
    rig.references.forget_database("photos")

    assert rig.left == 0


def test_a_document_that_changes_all_the_time_has_nobody_asked_all_the_time(rig: Rig) -> None:
    rig.apply(state("a", ONE))
    rig.fails(ONE, absent(ONE))
    rig.apply(state("a", ONE, TWO))

    assert rig.asked == [ONE, TWO]


def test_another_document_has_it_tried_at_once(rig: Rig) -> None:
    rig.apply(state("a", ONE))
    rig.fails(ONE, absent(ONE))
    rig.apply(state("b", ONE))

    assert rig.asked == [ONE, ONE]


def test_with_everything_nothing_has_to_be_read_anew(rig: Rig) -> None:
    rig.stop()
    rig.list.begin({"photos": ""})
    rig.apply(state("a", ONE, wanted=False), state("b", ONE, TWO, wanted=False))

    assert rig.list.begin({"photos": EVERYTHING}) == []
    assert {each.digest for each in rig.list.due(0, 10)} == {ONE, TWO}


def test_with_another_selector_the_database_is_read_anew(rig: Rig) -> None:
    rig.stop()
    rig.apply(state("a", ONE))

    assert rig.list.begin({"photos": '{"type": "photo"}'}) == ["photos"]
    assert rig.references.state("photos").purged == -1
    assert rig.left == 0


def test_with_the_same_selector_it_is_not(rig: Rig) -> None:
    rig.apply(state("a", ONE))
    rig.list.begin({"photos": '{"type": "photo"}'})

    assert rig.list.begin({"photos": '{"type": "photo"}'}) == []


def test_with_none_nothing_is_left_to_load(rig: Rig) -> None:
    rig.stop()
    rig.apply(state("a", ONE))

    assert rig.list.begin({"photos": ""}) == []
    assert rig.left == 0


class Listed(RuleBasedStateMachine):
    """The list beside a plain model of it."""

    def __init__(self) -> None:
        super().__init__()
        self.references = References(ReferenceFile(":memory:"))
        self.list = PrefetchList(self.references.file)
        self.model: dict[tuple[str, str], set[Digest]] = {}

    names = st.sampled_from(["photos", "scans"])
    documents = st.sampled_from("abc")
    digests = st.sets(st.sampled_from([ONE, TWO, THREE, FOUR]), max_size=3)

    @rule(database=names, document=documents, digests=digests, wanted=st.booleans())
    def change(self, database: str, document: str, digests: set[Digest], *, wanted: bool) -> None:
        found = state(document, *sorted(digests), wanted=wanted)
        self.references.apply(database, [found], "1")
        self.model[database, document] = digests if wanted else set()

    @rule(digest=st.sampled_from([ONE, TWO, THREE, FOUR]))
    def load(self, digest: Digest) -> None:
        self.list.take_off([digest])
        for wanted in self.model.values():
            wanted.discard(digest)

    @rule(database=names)
    def leave(self, database: str) -> None:
        self.references.forget_database(database)
        self.model = {key: each for key, each in self.model.items() if key[0] != database}

    @invariant()
    def they_agree(self) -> None:
        wanted = set().union(*self.model.values()) if self.model else set()
        assert {each.digest for each in self.list.due(0, 100)} == wanted

    def teardown(self) -> None:
        self.references.file.close()


TestListed = Listed.TestCase
TestListed.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


# -- the setting -------------------------------------------------------------


def written(folder: Path, content: str) -> str:
    path = folder / "selectors.json"
    path.write_text(content)
    return str(path)


def texts(rules: Rules) -> list[str]:
    return [rules.of(name).text for name in ("photos", "scans")]


@pytest.mark.parametrize(("given", "text"), [("all", EVERYTHING), ("none", "")])
def test_all_and_none_are_words(given: str, text: str) -> None:
    assert texts(read_rules(given, ["photos", "scans"])) == [text, text]


def test_a_file_has_a_selector_for_each_database(tmp_path: Path) -> None:
    path = written(tmp_path, '{"photos": {"type": "photo"}}')
    assert texts(read_rules(path, ["photos", "scans"])) == ['{"type": "photo"}', ""]


def test_and_one_for_all_others(tmp_path: Path) -> None:
    path = written(tmp_path, '{"*": {}, "photos": {"a": 1}}')
    assert texts(read_rules(path, ["photos", "scans"])) == ['{"a": 1}', EVERYTHING]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "is no JSON"),
        ("[]", "is no JSON object"),
        ('{"type": "photo"}', "'type' is no database that is followed"),
        ('{"photos": "all"}', "photos: a selector is an object"),
        ('{"*": {"a": {"$like": 1}}}', r"\*: \$like is no operator"),
        ("x" * (LARGEST + 1), "is larger than"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, content: str, why: str) -> None:
    with pytest.raises(BadSetting, match=why):
        read_rules(written(tmp_path, content), ["photos"])


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="No such file"):
        read_rules(str(tmp_path / "nowhere"), ["photos"])


def test_a_rule_picks_documents(tmp_path: Path) -> None:
    rule = read_rules(written(tmp_path, json.dumps({"*": {"a": 1}})), ["photos"]).of("photos")
    assert rule.pick([{"a": 1}, {"a": 2}, {}]) == [True, False, False]
