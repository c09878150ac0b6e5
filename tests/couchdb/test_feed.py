"""Questions about one database, and what is believed of the answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dtfc.couchdb.asking import DatabaseGone
from dtfc.couchdb.client import Answer
from dtfc.couchdb.documents import Change
from dtfc.couchdb.feed import LARGEST_PAGE, Checkpoint, Database, Info
from dtfc.couchdb.leaves import LARGEST_BODY
from dtfc.couchdb.nodeuser import Anybody
from dtfc.digest import Digest
from dtfc.errors import CouchUnreached, TooLarge

ONE, TWO = Digest.of(b"1"), Digest.of(b"2")


class Scripted:
    """Answers what a test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer | Exception] = []
        self.asked: list[tuple[str, str, Any, int]] = []
        self.streaming: Deferred[int] = Deferred(lambda _each: None)

    def say(self, value: Any, status: int = 200) -> None:
        self.answers.append(Answer(status, json.dumps(value).encode()))

    async def ask(
        self, method: str, path: str, _who: Any, most: int, *, content: Any = None, **_more: Any
    ) -> Answer:
        self.asked.append((method, path, None if content is None else json.loads(content), most))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def stream(self, path: str, _who: Any, _heard: Any, **_more: Any) -> int:
        self.asked.append(("GET", path, None, 0))
        return await self.streaming


@pytest.fixture
def couch() -> Scripted:
    return Scripted()


@pytest.fixture
def database(couch: Scripted) -> Database:
    asked: Any = couch
    return Database(asked, Anybody(), "a/b", "node", Clock())


def refers(digest: Digest, revision: str = "1-a") -> dict[str, Any]:
    return {"_id": "d", "_rev": revision, "dtfc": {"x": {"sha512": digest.hex, "length": 1}}}


def changed(*leaves: str, document: Any = None) -> Change:
    return Change("d", False, leaves, document)


def query(path: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(path).query)


@pytest_twisted.ensureDeferred
async def test_it_says_how_it_is(couch: Scripted, database: Database) -> None:
    couch.say({"purge_seq": "12-g1AAA", "instance_start_time": "1700000000"})
    assert await database.info() == Info(12, "1700000000")
    assert couch.asked[0][:2] == ("GET", "/a%2Fb")


@pytest_twisted.ensureDeferred
async def test_a_page_is_asked_for_from_an_opaque_sequence(
    couch: Scripted, database: Database
) -> None:
    couch.say({"results": [], "last_seq": "13-y&z"})
    page = await database.page(json.dumps("12-x+/="), 500)
    assert query(couch.asked[0][1])["since"] == ["12-x+/="]
    assert page.since == '"13-y&z"'


@pytest_twisted.ensureDeferred
async def test_of_large_documents_fewer_are_asked_for(couch: Scripted, database: Database) -> None:
    couch.answers += [TooLarge(LARGEST_PAGE, ""), TooLarge(LARGEST_PAGE, "")]
    couch.say({"results": [], "last_seq": 1})
    await database.page("0", 50)
    assert [int(query(path)["limit"][0]) for _, path, _, _ in couch.asked] == [50, 6, 1]
    assert [most for *_, most in couch.asked] == [LARGEST_PAGE, LARGEST_PAGE, LARGEST_BODY]


@pytest_twisted.ensureDeferred
async def test_one_that_is_too_large_is_not_passed_over(
    couch: Scripted, database: Database
) -> None:
    couch.answers.append(TooLarge(LARGEST_BODY, ""))
    with pytest.raises(CouchUnreached, match="more than"):
        await database.page("0", 1)


@pytest_twisted.ensureDeferred
async def test_every_leaf_counts(couch: Scripted, database: Database) -> None:
    couch.say(refers(TWO, "1-b"))
    states, wrong = await database.states([changed("1-a", "1-b", document=refers(ONE))])
    assert couch.asked[0][:2] == ("GET", "/a%2Fb/d?rev=1-b")
    found = [(revision, [ref.digest for ref in refs]) for revision, refs in states[0].leaves]
    assert (found, wrong) == ([("1-a", [ONE]), ("1-b", [TWO])], 0)


@pytest_twisted.ensureDeferred
async def test_a_leaf_that_is_gone_refers_to_nothing(couch: Scripted, database: Database) -> None:
    couch.say({"error": "not_found", "reason": "missing"}, 404)
    states, _ = await database.states([changed("1-a", "1-b", document=refers(ONE))])
    assert [revision for revision, _ in states[0].leaves] == ["1-a"]


@pytest_twisted.ensureDeferred
async def test_each_leaf_is_picked_by_its_own_body(couch: Scripted) -> None:
    async def pick(documents: Sequence[Mapping[str, Any]]) -> list[bool | None]:
        return [document["_rev"] == "1-b" for document in documents]

    asked: Any = couch
    database = Database(asked, Anybody(), "a/b", "node", Clock(), pick=pick)
    couch.say(refers(TWO, "1-b"))
    states, _ = await database.states([changed("1-a", "1-b", document=refers(ONE))])
    assert [each.digest for each in states[0].wanted] == [TWO]


@pytest_twisted.ensureDeferred
async def test_what_changed_twice_is_as_it_was_last(couch: Scripted, database: Database) -> None:
    changes = [changed("1-a", document=refers(ONE)), changed("2-b", document=refers(TWO, "2-b"))]
    states, _ = await database.states(changes)
    assert [revision for revision, _ in states[0].leaves] == ["2-b"]
    assert couch.asked == []


@pytest.mark.parametrize(
    ("status", "error"), [(404, DatabaseGone), (401, CouchUnreached), (500, CouchUnreached)]
)
@pytest_twisted.ensureDeferred
async def test_a_refusal_is_no_empty_page(
    couch: Scripted, database: Database, status: int, error: type[Exception]
) -> None:
    couch.say({"results": [], "last_seq": 1}, status)
    with pytest.raises(error):
        await database.page("0", 500)


@pytest_twisted.ensureDeferred
async def test_what_it_remembers_comes_back(couch: Scripted, database: Database) -> None:
    couch.say({"error": "not_found"}, 404)
    couch.say({"ok": True}, 201)
    kept = Checkpoint('"12-x"', 7, 2)
    assert await database.keep(kept)
    written = couch.asked[1]
    assert written[:2] == ("PUT", "/a%2Fb/_local/dtfc-node")
    couch.say(written[2])
    assert await database.checkpoint() == kept


@pytest.mark.parametrize("status", [409, 412, 500, 503])
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_remembered_just_now_is_no_lack_of_rights(
    couch: Scripted, database: Database, status: int
) -> None:
    couch.say({"error": "not_found"}, 404)
    couch.say({"error": "no"}, status)
    assert await database.keep(Checkpoint("1", 1, 1)) is True


@pytest.mark.parametrize("status", [401, 403])
@pytest_twisted.ensureDeferred
async def test_who_may_not_write_what_is_to_be_remembered_is_told_apart(
    couch: Scripted, database: Database, status: int
) -> None:
    couch.say({"error": "not_found"}, 404)
    couch.say({"error": "no"}, status)
    assert await database.keep(Checkpoint("1", 1, 1)) is False


@pytest.mark.parametrize("status", [401, 403])
@pytest_twisted.ensureDeferred
async def test_who_may_not_read_what_is_remembered_does_without(
    couch: Scripted, database: Database, status: int
) -> None:
    couch.say({"error": "no"}, status)
    assert await database.checkpoint() is None
    couch.say({"error": "no"}, status)
    assert await database.keep(Checkpoint("1", 1, 1)) is False


@pytest_twisted.ensureDeferred
async def test_what_it_remembers_wrongly_is_nothing(couch: Scripted, database: Database) -> None:
    couch.say({"since": 1, "written": "7", "scan": 1})
    assert await database.checkpoint() is None


@pytest_twisted.ensureDeferred
async def test_it_is_waited_for_no_longer_than_asked(couch: Scripted) -> None:
    clock = Clock()
    asked: Any = couch
    waiting = Deferred.fromCoroutine(Database(asked, Anybody(), "a", "node", clock).wait("5", 60))
    assert query(couch.asked[0][1])["feed"] == ["longpoll"]
    clock.advance(60)
    assert await waiting is False


@pytest_twisted.ensureDeferred
async def test_a_change_ends_the_waiting(couch: Scripted) -> None:
    clock = Clock()
    asked: Any = couch
    waiting = Deferred.fromCoroutine(Database(asked, Anybody(), "a", "node", clock).wait("5", 60))
    couch.streaming.callback(200)
    assert await waiting is True
    assert clock.getDelayedCalls() == []
