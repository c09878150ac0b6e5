"""Which documents refer to which blobs, and what a crash or damage leaves of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dtfc.couchdb.documents import Reference
from dtfc.couchdb.references import DatabaseState, DocumentState, References
from dtfc.digest import Digest
from dtfc.errors import BrokenStore, StoreFailure

DIGESTS = [Digest.of(b"%d" % number) for number in range(4)]


class Ticking:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def references(tmp_path: Path, clock: Ticking) -> Iterator[References]:
    references = References(str(tmp_path / "references.sqlite"), clock)
    yield references
    references.close()


def state(name: str, *digests: Digest, revision: str = "1-a") -> DocumentState:
    found = tuple(Reference(f"file {at}", digest) for at, digest in enumerate(digests))
    return DocumentState(name, ((revision, found),) if found else ())


def test_what_a_document_refers_to_is_found(references: References) -> None:
    references.apply("photos", [state("a", *DIGESTS[:2])], "5")

    assert [references.referenced(each) for each in DIGESTS] == [True, True, False, False]
    assert [each.digest for each in references.all_of("photos")] == DIGESTS[:2]
    assert references.state("photos") == DatabaseState("5", 1)


def test_a_reference_that_goes_is_dated(references: References, clock: Ticking) -> None:
    references.apply("photos", [state("a", *DIGESTS[:2])], "5")
    clock.now = 1060.0
    references.apply("photos", [state("a", DIGESTS[1])], "6")

    assert references.unreferenced_since(DIGESTS[0]) == 1060.0
    assert references.unreferenced_since(DIGESTS[1]) is None
    assert references.unreferenced_since(DIGESTS[2]) is None


def test_one_that_comes_back_is_not(references: References) -> None:
    references.apply("photos", [state("a", DIGESTS[0])], "5")
    references.apply("photos", [state("a")], "6")
    references.apply("photos", [state("b", DIGESTS[0])], "7")

    assert references.unreferenced_since(DIGESTS[0]) is None


def test_one_of_another_database_keeps_it(references: References) -> None:
    references.apply("photos", [state("a", DIGESTS[0])], "5")
    references.apply("scans", [state("a", DIGESTS[0])], "5")
    references.forget_database("photos")

    assert references.referenced(DIGESTS[0])
    assert references.unreferenced_since(DIGESTS[0]) is None
    assert references.databases() == ["scans"]


def test_one_of_a_losing_revision_keeps_it(references: References) -> None:
    leaves = tuple(
        (revision, (Reference("x", digest),))
        for revision, digest in (("2-a", DIGESTS[0]), ("2-b", DIGESTS[1]))
    )
    references.apply("photos", [DocumentState("a", leaves)], "5")

    assert references.referenced(DIGESTS[1])


def test_what_a_scan_did_not_see_is_gone(references: References, clock: Ticking) -> None:
    references.apply("photos", [state("a", DIGESTS[0]), state("b", DIGESTS[1])], "5")
    references.finish_scan("photos")
    references.begin_scan("photos", 3, "0")
    assert references.state("photos") == DatabaseState("0", 0, False, 3, "0", 1)
    # It counts until the scan is over.
    assert references.referenced(DIGESTS[1])
    references.apply("photos", [state("a", DIGESTS[0])], "9")
    clock.now = 2000.0

    assert references.finish_scan("photos") == 1
    assert references.unreferenced_since(DIGESTS[1]) == 2000.0
    assert references.referenced(DIGESTS[0])
    assert references.state("photos").complete


def test_all_of_a_database_is_told_in_pages(references: References) -> None:
    documents = [state(f"doc {number:05}", DIGESTS[number % 4]) for number in range(1203)]
    references.apply("photos", documents, "5")
    references.apply("scans", documents[:3], "5")

    found = [each.document for each in references.all_of("photos")]
    assert found == [each.id for each in documents]


def test_it_is_there_again_at_the_next_start(tmp_path: Path, clock: Ticking) -> None:
    path = str(tmp_path / "references.sqlite")
    first = References(path, clock)
    first.apply("photos", [state("a", DIGESTS[0])], "5")
    first.close()
    second = References(path, clock)

    assert second.referenced(DIGESTS[0])
    assert not second.was_spoiled
    second.close()


@pytest.mark.parametrize(
    "damage", [b"no database at all" * 100, b"SQLite format 3\0" + b"x" * 8000]
)
def test_a_damaged_file_is_set_aside(tmp_path: Path, clock: Ticking, damage: bytes) -> None:
    (tmp_path / "references.sqlite").write_bytes(damage)
    references = References(str(tmp_path / "references.sqlite"), clock)

    assert references.was_spoiled
    assert references.state("photos") == DatabaseState()
    assert len(list(tmp_path.glob("*.damaged-*"))) == 1
    references.close()


def test_one_of_a_later_version_is_left_alone(tmp_path: Path, clock: Ticking) -> None:
    import sqlite3  # noqa: PLC0415 -- to make what no version of ours makes

    path = tmp_path / "references.sqlite"
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version=99")
    later.close()
    with pytest.raises(BrokenStore, match="version 99"):
        References(str(path), clock)


def test_where_it_cannot_be_made_it_is_said(tmp_path: Path, clock: Ticking) -> None:
    with pytest.raises(StoreFailure):
        References(str(tmp_path / "nowhere" / "references.sqlite"), clock)


class Told(RuleBasedStateMachine):
    """The file beside a plain model of it."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Ticking()
        self.references = References(":memory:", self.clock)
        self.model: dict[tuple[str, str], frozenset[Digest]] = {}
        self.since: dict[Digest, float] = {}

    databases = st.sampled_from(["photos", "scans"])

    def _changed(self, before: set[Digest]) -> None:
        now = set().union(*self.model.values()) if self.model else set()
        for digest in before - now:
            self.since[digest] = self.clock.now
        for digest in now:
            self.since.pop(digest, None)

    def _all(self) -> set[Digest]:
        return set().union(*self.model.values()) if self.model else set()

    @rule(
        database=databases,
        names=st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True),
        digests=st.lists(st.sampled_from(DIGESTS), max_size=3),
        seconds=st.integers(0, 10),
    )
    def change(self, database: str, names: list[str], digests: list[Digest], seconds: int) -> None:
        self.clock.now += seconds
        for name in names:
            # One by one: what one drops and the next one takes up was never garbage,
            # but is dated again, from a moment that is the same.
            before = self._all()
            self.references.apply(database, [state(name, *digests)], "1")
            self.model[database, name] = frozenset(digests)
            self._changed(before)

    @rule(database=databases, kept=st.sets(st.sampled_from("abc")))
    def scan(self, database: str, kept: set[str]) -> None:
        before = self._all()
        self.references.begin_scan(database, 0, "")
        seen = [
            state(name, *sorted(self.model[database, name]))
            for name in sorted(kept)
            if (database, name) in self.model
        ]
        self.references.apply(database, seen, "2")
        self.references.finish_scan(database)
        for key in [key for key in self.model if key[0] == database and key[1] not in kept]:
            del self.model[key]
        self._changed(before)

    @rule(database=databases)
    def leave(self, database: str) -> None:
        before = self._all()
        self.references.forget_database(database)
        self.model = {key: value for key, value in self.model.items() if key[0] != database}
        self._changed(before)

    @invariant()
    def they_agree(self) -> None:
        now = self._all()
        for digest in DIGESTS:
            assert self.references.referenced(digest) == (digest in now)
            assert self.references.unreferenced_since(digest) == self.since.get(digest)

    def teardown(self) -> None:
        self.references.close()


TestTold = Told.TestCase
TestTold.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
