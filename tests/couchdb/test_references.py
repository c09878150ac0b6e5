"""Which documents refer to which blobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dtfc.couchdb.documents import Reference
from dtfc.couchdb.referencefile import ReferenceFile
from dtfc.couchdb.references import DatabaseState, DocumentState, References
from dtfc.digest import Digest

DIGESTS = [Digest.of(b"%d" % number) for number in range(4)]


@pytest.fixture
def references() -> Iterator[References]:
    file = ReferenceFile(":memory:")
    yield References(file)
    file.close()


def state(name: str, *digests: Digest, revision: str = "1-a") -> DocumentState:
    found = tuple(Reference(f"file {at}", digest) for at, digest in enumerate(digests))
    return DocumentState(name, ((revision, found),) if found else ())


def test_what_a_document_refers_to_is_found(references: References) -> None:
    references.apply("photos", [state("a", *DIGESTS[:2])], "5")

    assert [references.referenced(each) for each in DIGESTS] == [True, True, False, False]
    assert [each.digest for each in references.all_of("photos")] == DIGESTS[:2]
    assert references.state("photos") == DatabaseState("5", 1)


def test_a_reference_that_goes_is_not(references: References) -> None:
    references.apply("photos", [state("a", *DIGESTS[:2])], "5")
    references.apply("photos", [state("a", DIGESTS[1])], "6")

    assert [references.referenced(each) for each in DIGESTS[:2]] == [False, True]


def test_one_of_another_database_keeps_it(references: References) -> None:
    references.apply("photos", [state("a", DIGESTS[0])], "5")
    references.apply("scans", [state("a", DIGESTS[0])], "5")
    references.forget_database("photos")

    assert references.referenced(DIGESTS[0])
    assert references.databases() == ["scans"]


def test_one_of_a_losing_revision_keeps_it(references: References) -> None:
    leaves = tuple(
        (revision, (Reference("x", digest),))
        for revision, digest in (("2-a", DIGESTS[0]), ("2-b", DIGESTS[1]))
    )
    references.apply("photos", [DocumentState("a", leaves)], "5")

    assert references.referenced(DIGESTS[1])


def test_what_a_scan_did_not_see_is_gone(references: References) -> None:
    references.apply("photos", [state("a", DIGESTS[0]), state("b", DIGESTS[1])], "5")
    references.finish_scan("photos")
    references.begin_scan("photos", 3, "0")
    assert references.state("photos") == DatabaseState("0", 0, False, 3, "0", 1)
    # It counts until the scan is over.
    assert references.referenced(DIGESTS[1])
    references.apply("photos", [state("a", DIGESTS[0])], "9")

    assert references.finish_scan("photos") == 1
    assert not references.referenced(DIGESTS[1])
    assert references.referenced(DIGESTS[0])
    assert references.state("photos").complete


def test_all_of_a_database_is_told_in_pages(references: References) -> None:
    documents = [state(f"doc {number:05}", DIGESTS[number % 4]) for number in range(1203)]
    references.apply("photos", documents, "5")
    references.apply("scans", documents[:3], "5")

    found = [each.document for each in references.all_of("photos")]
    assert found == [each.id for each in documents]


class Told(RuleBasedStateMachine):
    """The file beside a plain model of it."""

    def __init__(self) -> None:
        super().__init__()
        self.file = ReferenceFile(":memory:")
        self.references = References(self.file)
        self.model: dict[tuple[str, str], frozenset[Digest]] = {}

    databases = st.sampled_from(["photos", "scans"])

    @rule(
        database=databases,
        names=st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True),
        digests=st.lists(st.sampled_from(DIGESTS), max_size=3),
    )
    def change(self, database: str, names: list[str], digests: list[Digest]) -> None:
        self.references.apply(database, [state(name, *digests) for name in names], "1")
        self.model |= {(database, name): frozenset(digests) for name in names}

    @rule(database=databases, kept=st.sets(st.sampled_from("abc")))
    def scan(self, database: str, kept: set[str]) -> None:
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

    @rule(database=databases)
    def leave(self, database: str) -> None:
        self.references.forget_database(database)
        self.model = {key: value for key, value in self.model.items() if key[0] != database}

    @invariant()
    def they_agree(self) -> None:
        now = set().union(*self.model.values()) if self.model else set()
        for digest in DIGESTS:
            assert self.references.referenced(digest) == (digest in now)

    def teardown(self) -> None:
        self.file.close()


TestTold = Told.TestCase
TestTold.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
