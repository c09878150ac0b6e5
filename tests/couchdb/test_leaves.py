"""Fetching revisions that a feed named, from servers of every kind."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_twisted

from dtfc.couchdb.asking import Asking, DatabaseGone
from dtfc.couchdb.client import Answer
from dtfc.couchdb.leaves import AT_ONCE, LARGEST_BODY, Leaves, Revision
from dtfc.couchdb.nodeuser import Anybody
from dtfc.errors import CouchUnreached, TooLarge


class Server:
    """Has a body for each revision, and answers in the way that a test wants.

    Args:
        bulk: most revisions of one ``_bulk_get``; 0 for none, which is 405.
        too_much: status of the answer to more; 0 for one larger than is taken.
    """

    def __init__(self, bulk: int = 1000, too_much: int = 413) -> None:
        self.bulk = bulk
        self.too_much = too_much
        self.there: dict[Revision, dict[str, Any]] = {}
        self.left_out: set[Revision] = set()
        self.asked: list[int] = []
        self.answer: Answer | None = None

    def have(self, number: int) -> list[Revision]:
        keys = [(f"d{at // 2}", f"1-{at}") for at in range(number)]
        self.there = {(name, rev): {"_id": name, "_rev": rev} for name, rev in keys}
        return keys

    async def ask(
        self, method: str, path: str, _who: Any, most: int, *, content: Any = None, **_more: Any
    ) -> Answer:
        if self.answer is not None:
            return self.answer
        if method == "GET":
            self.asked.append(1)
            parts = urlsplit(path)
            key = parts.path.rpartition("/")[2], parse_qs(parts.query)["rev"][0]
            if key not in self.there:
                return _json({"error": "not_found", "reason": "missing"}, 404)
            return _json(self.there[key])
        docs = json.loads(content)["docs"]
        self.asked.append(len(docs))
        if self.bulk == 0:
            return _json({"error": "method_not_allowed"}, 405)
        if len(docs) > self.bulk:
            if self.too_much == 0:
                raise TooLarge(most, "")
            return _json({"error": "too_large"}, self.too_much)
        keys = [(each["id"], each["rev"]) for each in docs]
        return _json({"results": [self._result(key) for key in keys if key not in self.left_out]})

    def _result(self, key: Revision) -> dict[str, Any]:
        name, rev = key
        if key in self.there:
            return {"id": name, "docs": [{"ok": self.there[key]}]}
        error = {"id": name, "rev": rev, "error": "not_found", "reason": "missing"}
        return {"id": name, "docs": [{"error": error}]}


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode())


def leaves_of(server: Server) -> Leaves:
    couch: Any = server
    return Leaves(Asking(couch, Anybody(), "a/b"))


async def revisions(server: Server, wanted: list[Revision]) -> list[Revision | None]:
    found = await leaves_of(server).bodies(wanted)
    return [None if body is None else (body["_id"], body["_rev"]) for body in found]


@pytest.mark.parametrize("number", [0, 1, 2, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE])
@pytest_twisted.ensureDeferred
async def test_all_come_in_the_order_that_was_asked_for(number: int) -> None:
    server = Server()
    wanted = server.have(number)
    assert await revisions(server, wanted) == wanted


@pytest_twisted.ensureDeferred
async def test_many_are_asked_for_a_piece_at_a_time() -> None:
    server = Server()
    await revisions(server, server.have(2 * AT_ONCE + 2))
    assert sorted(server.asked) == [2, AT_ONCE, AT_ONCE]


@pytest.mark.parametrize("too_much", [413, 0])
@pytest.mark.parametrize("bulk", [1, 7, 40])
@pytest_twisted.ensureDeferred
async def test_where_that_is_too_much_fewer_are_asked_for(bulk: int, too_much: int) -> None:
    server = Server(bulk, too_much)
    wanted = server.have(90)
    assert await revisions(server, wanted) == wanted


@pytest_twisted.ensureDeferred
async def test_a_server_without_the_question_is_asked_it_once() -> None:
    server = Server(bulk=0)
    wanted = server.have(4)
    leaves = leaves_of(server)
    for _ in range(2):
        assert all(await leaves.bodies(wanted))
    assert server.asked == [4] + 8 * [1]


@pytest_twisted.ensureDeferred
async def test_one_that_is_gone_has_no_body() -> None:
    server = Server()
    wanted = server.have(3)
    del server.there[wanted[1]]
    assert await revisions(server, wanted) == [wanted[0], None, wanted[2]]


@pytest_twisted.ensureDeferred
async def test_what_an_answer_leaves_out_is_asked_for_by_itself() -> None:
    server = Server()
    wanted = server.have(5)
    server.left_out = {wanted[2]}
    assert await revisions(server, wanted) == wanted
    assert server.asked == [5, 1]


@pytest.mark.parametrize("answer", [{}, {"results": 1}, [], "x"])
@pytest_twisted.ensureDeferred
async def test_an_answer_without_results_is_none(answer: Any) -> None:
    server = Server()
    server.answer = _json(answer)
    with pytest.raises(CouchUnreached):
        await revisions(server, server.have(2))


@pytest_twisted.ensureDeferred
async def test_a_database_that_goes_meanwhile_takes_no_revision_along() -> None:
    server = Server()
    server.answer = _json({"error": "not_found", "reason": "Database does not exist."}, 404)
    with pytest.raises(DatabaseGone):
        await revisions(server, server.have(1))


@pytest_twisted.ensureDeferred
async def test_one_that_is_too_large_by_itself_is_named() -> None:
    class Large(Server):
        async def ask(self, *_asked: Any, **_more: Any) -> Answer:
            raise TooLarge(LARGEST_BODY, "")

    with pytest.raises(CouchUnreached, match="a document of a/b has more than"):
        await revisions(Large(), [("d", "1-a"), ("d", "1-b")])
