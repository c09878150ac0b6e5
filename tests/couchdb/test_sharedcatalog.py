"""Names on their way to other sites, and a page of a list made of theirs and ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dtfc.couchdb.asking import Asking
from dtfc.couchdb.catalogqueue import CatalogQueue
from dtfc.couchdb.client import Answer
from dtfc.couchdb.documents import Reference
from dtfc.couchdb.entries import MOST_NAMES, written
from dtfc.couchdb.nodeuser import Anybody
from dtfc.couchdb.publishing import BATCH, PERIOD, REFUSED_FOR, Publishing
from dtfc.couchdb.referencefile import ReferenceFile
from dtfc.couchdb.references import DocumentState, References
from dtfc.couchdb.sharednames import Named, SharedNames, merged
from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.errors import CouchUnreached, TooLarge
from dtfc.store.catalog import Catalog
from dtfc.store.facts import BlobInfo
from dtfc.store.listing import NameRow, Page, cursor, parse_cursor

ONE, TWO, THREE = (Digest.of(b"%d" % number) for number in range(3))


def info(digest: Digest, *names: str) -> BlobInfo:
    return BlobInfo(digest, 10, 1.0, names[-1] if names else None, names)


def stub(digest: Digest) -> dict[str, Any]:
    return {"sha512": digest.hex, "length": 10, "stub": True}


class Entries:
    """A database that answers ``_all_docs`` and ``_bulk_docs``, and keeps one leaf of each."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.conflicts: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.fails: Exception | int | None = None
        self.before_write: Callable[[], None] = lambda: None
        self.refuses = False
        self.largest = 10**9

    async def ask(
        self, _method: str, path: str, _who: Any, most: int, *, content: bytes, **_more: Any
    ) -> Answer:
        self.asked.append(path.rsplit("/", maxsplit=1)[-1].split("?", maxsplit=1)[0])
        if isinstance(self.fails, Exception):
            raise self.fails
        if isinstance(self.fails, int):
            return Answer(self.fails, b"{}")
        given_ = json.loads(content)
        if "keys" in given_:
            if len(given_["keys"]) > self.largest:
                raise TooLarge(most, "")
            return self._say({"rows": [self._row(each) for each in given_["keys"]]})
        before, self.before_write = self.before_write, lambda: None
        before()
        return self._say([self._write(each) for each in given_["docs"]])

    def _say(self, found: Any) -> Answer:
        return Answer(200, json.dumps(found).encode())

    def _row(self, name: str) -> dict[str, Any]:
        found = self.documents.get(name)
        if found is None:
            return {"key": name, "error": "not_found"}
        losers = self.conflicts.get(name)
        document = found | ({"_conflicts": losers} if losers else {})
        return {"id": name, "key": name, "value": {"rev": found["_rev"]}, "doc": document}

    def _write(self, document: dict[str, Any]) -> dict[str, Any]:
        name = document["_id"]
        losers = self.conflicts.get(name, [])
        if self.refuses:
            return {"id": name, "error": "forbidden", "reason": "no"}
        if document.get("_rev") in losers:
            losers.remove(document["_rev"])
            return {"id": name, "ok": True, "rev": "2-x"}
        old = self.documents.get(name)
        if (old or {}).get("_rev") != document.get("_rev"):
            return {"id": name, "error": "conflict", "reason": "Document update conflict."}
        number = int(old["_rev"].partition("-")[0]) if old is not None else 0
        if document.get("_deleted"):
            del self.documents[name]
        else:
            self.documents[name] = document | {"_rev": f"{number + 1}-a"}
        return {"id": name, "ok": True, "rev": f"{number + 1}-a"}

    def names(self) -> dict[str, list[str]]:
        return {name: sorted(each["dtfc"]) for name, each in self.documents.items()}


class Rig:
    def __init__(self, folder: Path) -> None:
        (folder / "catalog").mkdir()
        self.clock = Clock()
        self.catalog = Catalog(str(folder / "catalog"), populated=lambda: False)
        self.references = References(ReferenceFile(str(folder / "names.sqlite")))
        self.names = SharedNames(self.references, "names")
        self.queue = CatalogQueue(self.catalog)
        self.entries = Entries()
        self.publishing = self.start()

    def start(self) -> Publishing:
        couch: Any = self.entries
        self.publishing = Publishing(
            Asking(couch, Anybody(), "names"),
            self.queue,
            self.names,
            disk=InlineDisk(),
            clock=self.clock,
            ticks=self.clock.seconds,
            chance=lambda: 1.0,
        )
        self.publishing.start()
        return self.publishing

    def stop(self) -> None:
        Deferred.fromCoroutine(self.publishing.stop())

    def delete(self, digest: Digest) -> None:
        """Delete a blob everywhere, as the memory of deletions has it."""
        self.catalog.forget(digest)
        self.catalog.write(
            lambda c: c.execute(
                "INSERT OR REPLACE INTO deletions VALUES (?, 1, 1, 'id', 'at', 'node')",
                (digest.raw,),
            )
        )

    def read_back(self, digest: Digest, **leaves: str) -> None:
        """Let the follower have read an entry: names by revision."""
        found = tuple(
            (revision.replace("_", "-"), (Reference(name, digest, 10),))
            for revision, name in leaves.items()
        )
        self.references.apply("names", [DocumentState(digest.hex, found)], "1")

    def scan(self) -> None:
        self.references.begin_scan("names", 0, "")
        self.references.finish_scan("names")

    def later(self, seconds: float = 2 * PERIOD) -> None:
        for _ in range(10):
            self.clock.advance(seconds / 10)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.stop()
    rig.references.file.close()
    rig.catalog.close()


def test_what_is_named_is_published(rig: Rig) -> None:
    rig.catalog.record(info(ONE, "a", "b"))
    rig.later()

    assert rig.entries.names() == {ONE.hex: ["a", "b"]}
    assert rig.entries.documents[ONE.hex]["dtfc"]["a"] == stub(ONE)
    assert rig.queue.count() == 0


def test_names_and_members_of_others_stay(rig: Rig) -> None:
    rig.entries.documents[ONE.hex] = {
        "_id": ONE.hex,
        "_rev": "1-a",
        "dtfc": {"theirs": stub(ONE)},
        "note": 5,
    }
    rig.catalog.record(info(ONE, "mine"))
    rig.later()

    assert rig.entries.names() == {ONE.hex: ["mine", "theirs"]}
    assert rig.entries.documents[ONE.hex]["note"] == 5


def test_what_is_there_already_is_not_asked_for(rig: Rig) -> None:
    rig.read_back(ONE, **{"1_a": "a"})
    rig.catalog.record(info(ONE, "a"))
    rig.later()

    assert (rig.entries.asked, rig.queue.count()) == ([], 0)


def test_what_is_deleted_everywhere_has_no_entry(rig: Rig) -> None:
    rig.catalog.record(info(ONE, "a"))
    rig.later()
    # It was not read back: that it is not known to be there means nothing.
    rig.delete(ONE)
    rig.later()

    assert rig.entries.documents == {}
    assert rig.publishing.counts["deleted"] == 1


def test_what_is_stored_again_after_that_has_one(rig: Rig) -> None:
    rig.delete(ONE)
    rig.catalog.record(info(ONE, "a"))
    rig.later()

    assert rig.entries.names() == {ONE.hex: ["a"]}


def test_what_is_deleted_here_only_keeps_its_entry(rig: Rig) -> None:
    rig.catalog.record(info(ONE, "a"))
    rig.later()
    rig.catalog.forget(ONE)
    rig.queue.fill()
    rig.later()

    assert rig.entries.names() == {ONE.hex: ["a"]}


def test_a_conflicts_losers_go_and_their_names_stay(rig: Rig) -> None:
    rig.entries.documents[ONE.hex] = {"_id": ONE.hex, "_rev": "1-b", "dtfc": {"b": stub(ONE)}}
    rig.entries.conflicts[ONE.hex] = ["1-a", "1-unread"]
    rig.read_back(ONE, **{"1_a": "a", "1_b": "b"})
    rig.catalog.record(info(ONE, "c"))
    rig.later()

    assert rig.entries.names() == {ONE.hex: ["a", "b", "c"]}
    # What was not read yet may have names that nobody knows.
    assert rig.entries.conflicts[ONE.hex] == ["1-unread"]


def test_what_somebody_else_wrote_meanwhile_is_read_again(rig: Rig) -> None:
    def somebody_writes() -> None:
        entry = {"_id": ONE.hex, "_rev": "1-x", "dtfc": {"theirs": stub(ONE)}}
        rig.entries.documents[ONE.hex] = entry

    rig.entries.before_write = somebody_writes
    rig.catalog.record(info(ONE, "mine"))
    rig.later(10)

    assert rig.entries.names() == {ONE.hex: ["mine", "theirs"]}


@pytest.mark.parametrize("fails", [CouchUnreached("no"), 500, 404, 401])
def test_while_the_database_does_not_answer_nothing_is_lost(rig: Rig, fails: Any) -> None:
    rig.entries.fails = fails
    rig.catalog.record(info(ONE, "a"))
    rig.later()
    trouble = rig.publishing.trouble
    rig.entries.fails = None
    rig.later(120)

    assert trouble
    assert rig.entries.names() == {ONE.hex: ["a"]}
    assert rig.publishing.trouble == ""


def test_what_is_refused_is_tried_again_much_later(rig: Rig) -> None:
    rig.entries.refuses = True
    rig.catalog.record(info(ONE, "a"))
    rig.later(60)
    asked = len(rig.entries.asked)
    rig.entries.refuses = False
    rig.catalog.record(info(TWO, "b"))
    rig.later()
    assert rig.entries.names() == {TWO.hex: ["b"]}
    rig.later(2 * REFUSED_FOR)

    assert asked == 2
    assert set(rig.entries.names()) == {ONE.hex, TWO.hex}


def test_what_changes_while_it_is_published_is_published_again(rig: Rig) -> None:
    rig.entries.before_write = lambda: rig.catalog.record(info(ONE, "a", "b"))
    rig.catalog.record(info(ONE, "a"))
    rig.later()

    assert rig.entries.names() == {ONE.hex: ["a", "b"]}


def test_where_entries_are_large_fewer_are_asked_for(rig: Rig) -> None:
    rig.entries.largest = 3
    digests = [Digest.of(b"x%d" % number) for number in range(20)]
    rig.catalog.record_new([info(each, "a") for each in digests])
    rig.later(60)

    assert len(rig.entries.documents) == 20


def test_one_that_is_too_large_holds_nothing_up(rig: Rig) -> None:
    rig.entries.largest = 0
    rig.catalog.record(info(ONE, "a"))
    rig.later()
    rig.entries.largest = BATCH
    rig.catalog.record(info(TWO, "b"))
    rig.later()

    assert rig.entries.names() == {TWO.hex: ["b"]}


def test_a_node_that_begins_to_share_publishes_what_it_has(rig: Rig) -> None:
    rig.stop()
    rig.queue.end()
    rig.catalog.record(info(ONE, "a"))
    rig.scan()
    rig.start()
    rig.later()
    assert set(rig.entries.names()) == {ONE.hex}

    # And so does one that paused.
    rig.stop()
    rig.queue.end()
    rig.catalog.record(info(TWO, "b"))
    rig.start()
    rig.later()
    assert set(rig.entries.names()) == {ONE.hex, TWO.hex}


def test_a_database_that_was_read_anew_is_filled(rig: Rig) -> None:
    rig.catalog.record(info(ONE, "a"))
    rig.scan()
    rig.later()
    rig.entries.documents.clear()
    rig.scan()
    rig.later()

    assert set(rig.entries.names()) == {ONE.hex}


def test_a_catalog_that_is_made_anew_is_published_again(rig: Rig, tmp_path: Path) -> None:
    rig.scan()
    rig.later()
    for file in (tmp_path / "catalog").glob("catalog*"):
        file.unlink()
    rig.catalog.record(info(ONE, "a"))
    rig.later()

    assert set(rig.entries.names()) == {ONE.hex}


def test_an_entry_has_so_many_names_and_no_more() -> None:
    document = written(ONE, None, [f"{number}" for number in range(2 * MOST_NAMES)], None)
    assert document is not None
    assert len(document["dtfc"]) == MOST_NAMES
    assert written(ONE, None, ["another"], document) is None


# -- the list ----------------------------------------------------------------


def test_names_are_found_by_name_and_by_prefix(rig: Rig) -> None:
    for digest, name in ((ONE, "ab"), (TWO, "ab"), (THREE, "abc")):
        rig.read_back(digest, **{"1_a": name})

    def found(name: str | None, prefix: str | None) -> list[tuple[str, Digest]]:
        return [(each.name, each.digest) for each in rig.names.rows(name, prefix, None, 10)]

    both = sorted([("ab", ONE), ("ab", TWO)], key=lambda each: each[1].raw)
    assert found("ab", None) == both
    assert found(None, "ab") == [*both, ("abc", THREE)]
    assert found(None, "b") == []
    assert found(None, None) == [*both, ("abc", THREE)]


keys = st.tuples(st.sampled_from(["a", "b", "é", "\U0001f600"]), st.sampled_from([ONE, TWO, THREE]))
places = st.sets(keys)


@given(places, places, st.integers(1, 4))
def test_page_by_page_all_of_both_come_once(
    mine: set[tuple[str, Digest]], theirs: set[tuple[str, Digest]], limit: int
) -> None:
    def after(
        rows: set[tuple[str, Digest]], since: str | None, most: int
    ) -> list[tuple[str, Digest]]:
        name, digest = parse_cursor(since) if since is not None else ("", b"")
        ordered = sorted((each[0].encode(), each[1].raw, each) for each in rows)
        return [each for *place, each in ordered if place > [name.encode(), digest]][:most]

    came: list[tuple[str, Digest]] = []
    since: str | None = None
    while True:
        local = [NameRow(*each, 1, 1.0) for each in after(mine, since, limit + 1)]
        page = Page(tuple(local[:limit]), cursor(local[limit - 1]) if len(local) > limit else None)
        others = [Named(*each, 1, None) for each in after(theirs, since, limit + 1)]
        rows, since = merged(page, others, limit)
        assert len(rows) <= limit
        came += [(each.name, each.digest) for each in rows]
        if since is None:
            break

    assert came == after(mine | theirs, None, 100)
