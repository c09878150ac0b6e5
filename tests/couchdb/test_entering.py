"""A file is entered in a document, whoever else writes it, and by its own user alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults

from dtfc.access.sessions import Credential, Document, credential_of
from dtfc.couchdb.client import Couch
from dtfc.couchdb.entering import TRIES, Entries, Place
from dtfc.errors import (
    CouchUnreached,
    Denied,
    DtfcError,
    EntryContended,
    EntryRefused,
    EntryUnauthorized,
    EntryUnreached,
    NoDatabase,
    TooLarge,
    UnfitDocument,
)
from tests.support.couch import FakeCouch, basic

reactor: Any = _reactor

ADA = Credential("cookie", "Y29va2llLWFkYQ")
BEA = Credential("cookie", "Y29va2llLWJlYQ")
OLD = Credential("cookie", "b2xk")
ENTRY = {"sha512": "ab" * 64, "length": 5, "content_type": "image/jpeg", "stub": True}
KEY = ("photos", "album/1")
PLACE = Place(Document(*KEY), "p.jpg")


class Beside:
    """A CouchDB with a database, and what enters files in its documents."""

    def __init__(self) -> None:
        self.server = FakeCouch()
        self.server.databases["photos"] = {"ada", "root"}
        self.couch = Couch(reactor, self.server.url, 0.5)
        self.counts: Counter[str] = Counter()
        self.entries = Entries(self.couch, reactor, lambda: 0.01, 10_000, self.counts)

    async def stop(self) -> None:
        await self.couch.close()
        await self.server.stop()

    async def enter(self, place: Place = PLACE, credential: Credential = ADA) -> str:
        return await self.entries.enter(self.entries.as_user(credential), place, ENTRY)

    async def look(self, place: Place = PLACE, credential: Credential = ADA) -> None:
        await self.entries.look(self.entries.as_user(credential), place, ENTRY)

    def has(self, body: Any) -> None:
        self.server.documents[KEY] = {"ada"}, body

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = self.server.documents[KEY][1]
        return found

    def write(self, name: str) -> None:
        """Write the document as somebody else."""
        number = int(self.document["_rev"].partition("-")[0]) + 1
        files = {**self.document.get("dtfc", {}), name: ENTRY}
        self.has({**self.document, "_rev": f"{number}-other", "dtfc": files})


@pytest.fixture
def beside() -> Iterator[Beside]:
    found = Beside()
    yield found
    pytest_twisted.blockon(Deferred.fromCoroutine(found.stop()))


@pytest_twisted.ensureDeferred
async def test_a_document_is_made(beside: Beside) -> None:
    revision = await beside.enter()
    assert beside.document == {"_id": "album/1", "_rev": revision, "dtfc": {"p.jpg": ENTRY}}


@pytest_twisted.ensureDeferred
async def test_a_document_is_changed(beside: Beside) -> None:
    old = {"_id": "album/1", "_rev": "1-x", "t": 1, "_attachments": {"a": {"stub": True}}}
    beside.has(old)
    revision = await beside.enter()
    assert beside.document == {**old, "_rev": revision, "dtfc": {"p.jpg": ENTRY}}


@pytest_twisted.ensureDeferred
async def test_a_second_time_writes_nothing(beside: Beside) -> None:
    first = await beside.enter()
    second = await beside.enter()
    assert (second, beside.server.writes) == (first, 1)


@pytest_twisted.ensureDeferred
async def test_who_was_faster_is_read_first(beside: Beside) -> None:
    beside.has({"_id": "album/1", "_rev": "1-x"})
    beside.server.before_writing = [partial(beside.write, f"{n}") for n in range(5)]
    await beside.enter()
    assert set(beside.document["dtfc"]) == {"0", "1", "2", "3", "4", "p.jpg"}


@pytest_twisted.ensureDeferred
async def test_not_for_ever(beside: Beside) -> None:
    beside.has({"_id": "album/1", "_rev": "1-x"})
    beside.server.before_writing = [partial(beside.write, f"{n}") for n in range(100)]
    with pytest.raises(EntryContended):
        await beside.enter()
    assert beside.server.writes == TRIES


@pytest_twisted.ensureDeferred
async def test_many_at_once_are_in_nobodys_way(beside: Beside) -> None:
    names = {f"{n}.jpg" for n in range(40)}
    places = [Place(Document(*KEY), name) for name in names]
    await gatherResults([Deferred.fromCoroutine(beside.enter(each)) for each in places])
    assert (set(beside.document["dtfc"]), beside.server.writes) == (names, 40)


@pytest_twisted.ensureDeferred
async def test_two_processes_get_all_of_theirs_in(beside: Beside) -> None:
    chance = iter([0.1, 0.9, 0.5, 0.3] * 100).__next__
    other = Entries(beside.couch, reactor, chance, 99_999, Counter())
    names = [f"{n}.jpg" for n in range(20)]
    work = []
    for number, name in enumerate(names):
        entries = (beside.entries, other)[number % 2]
        place = Place(Document(*KEY), name)
        work.append(Deferred.fromCoroutine(entries.enter(entries.as_user(ADA), place, ENTRY)))
    await gatherResults(work)
    assert set(beside.document["dtfc"]) == set(names)


REFUSALS = [
    ((403, "forbidden", "no pictures on Mondays"), EntryRefused),
    ((401, "unauthorized", "log in"), EntryUnauthorized),
    ((400, "bad_request", "invalid"), EntryRefused),
    ((413, "document_too_large", "album"), EntryRefused),
    ((500, "unknown_error", ""), EntryUnreached),
    ((503, "maintenance", ""), EntryUnreached),
    ((429, "too_many", ""), EntryUnreached),
]


@pytest.mark.parametrize(("said", "kind"), REFUSALS, ids=[str(each[0][0]) for each in REFUSALS])
@pytest_twisted.ensureDeferred
async def test_what_couchdb_refuses(
    beside: Beside, said: tuple[int, str, str], kind: type[DtfcError]
) -> None:
    beside.server.refuses = lambda _document: (said[0], {"error": said[1], "reason": said[2]})
    with pytest.raises(kind) as caught:
        await beside.enter()
    wanted = ("unreached" if kind is EntryUnreached else said[1], type(caught.value))
    assert (getattr(caught.value, "error", ""), kind) == wanted


@pytest_twisted.ensureDeferred
async def test_its_own_words_are_told(beside: Beside) -> None:
    word = {"error": "forbidden", "reason": "no pictures on Mondays" + "!" * 10_000}
    beside.server.refuses = lambda _document: (403, word)
    with pytest.raises(EntryRefused, match="no pictures on Mondays!") as caught:
        await beside.enter()
    assert len(caught.value.reason) == 1000


@pytest.mark.parametrize("fault", ["hangs", "500", "garbage", "redirect", "gzip"])
@pytest_twisted.ensureDeferred
async def test_a_couchdb_that_gives_no_answer(beside: Beside, fault: str) -> None:
    beside.server.fault = fault
    with pytest.raises(EntryUnreached):
        await beside.enter()


@pytest_twisted.ensureDeferred
async def test_a_silence_is_waited_for_once(beside: Beside) -> None:
    beside.server.fault = "hangs"
    began = reactor.seconds()
    work = [Deferred.fromCoroutine(beside.enter()) for _ in range(10)]
    failed = await gatherResults([each.addErrback(lambda why: why.type) for each in work])
    assert (set(failed), len(beside.server.asked)) == ({EntryUnreached}, 1)
    assert reactor.seconds() - began < 3


@pytest_twisted.ensureDeferred
async def test_who_is_cut_off_leaves_the_way_to_others(beside: Beside) -> None:
    beside.server.fault = "hangs"
    first = Deferred.fromCoroutine(beside.enter())
    second = Deferred.fromCoroutine(beside.enter())
    third = Deferred.fromCoroutine(beside.enter())
    beside.server.fault = ""
    for each in (first, second):
        each.addErrback(lambda _cancelled: None)
        each.cancel()
    await third
    assert set(beside.document["dtfc"]) == {"p.jpg"}


@pytest_twisted.ensureDeferred
async def test_nobody_elses_credential_goes_along(beside: Beside) -> None:
    await beside.enter()
    cookies = {fields.get("cookie") for _, fields in beside.server.asked}
    assert (cookies, {fields.get("authorization") for _, fields in beside.server.asked}) == (
        {"AuthSession=Y29va2llLWFkYQ"},
        {None},
    )


@pytest_twisted.ensureDeferred
async def test_a_new_cookie_takes_the_old_ones_place(beside: Beside) -> None:
    beside.server.cookies["bmV3"] = "ada"
    beside.server.renews["Y29va2llLWFkYQ"] = "bmV3"
    user = beside.entries.as_user(ADA)
    await beside.entries.look(user, PLACE, ENTRY)
    beside.server.cookies["Y29va2llLWFkYQ"] = None
    await beside.entries.enter(user, PLACE, ENTRY)
    assert user.renewed.startswith("AuthSession=bmV3;")


@pytest_twisted.ensureDeferred
async def test_a_password_is_no_cookie(beside: Beside) -> None:
    field = basic("ada", "secret-ada").decode().partition(": ")[2].strip()
    credential = credential_of([field], [])
    assert credential is not None
    await beside.enter(credential=credential)
    assert beside.document["dtfc"] == {"p.jpg": ENTRY}


LOOKS: list[tuple[Any, Credential, type[DtfcError]]] = [
    ({"_rev": "1-x"}, BEA, Denied),
    ({"_rev": "1-x"}, OLD, Denied),
    ({"_rev": "1-x", "dtfc": []}, ADA, UnfitDocument),
    ({"_rev": "1-x", "x": "x" * 10_000}, ADA, TooLarge),
    ({"_rev": "1-x", "x": "x" * 9_800}, ADA, TooLarge),
    (b"[]", ADA, CouchUnreached),
]


@pytest.mark.parametrize(
    ("body", "credential", "kind"),
    LOOKS,
    ids=["not hers", "nobody", "no files", "too large", "too large then", "no document"],
)
@pytest_twisted.ensureDeferred
async def test_what_is_seen_beforehand(
    beside: Beside, body: Any, credential: Credential, kind: type[DtfcError]
) -> None:
    beside.has(body)
    with pytest.raises(kind):
        await beside.look(credential=credential)
    assert beside.server.writes == 0


@pytest_twisted.ensureDeferred
async def test_a_database_that_is_not_there(beside: Beside) -> None:
    with pytest.raises(NoDatabase):
        await beside.look(Place(Document("other", "a"), "p.jpg"))


@pytest_twisted.ensureDeferred
async def test_a_look_writes_nothing(beside: Beside) -> None:
    await beside.look()
    assert (beside.server.writes, beside.server.documents) == (0, {})


@pytest_twisted.ensureDeferred
async def test_a_document_that_has_grown_too_large(beside: Beside) -> None:
    beside.has({"_rev": "1-x", "x": "x" * 9_800})
    with pytest.raises(EntryRefused) as caught:
        await beside.enter()
    assert caught.value.error == "too_large"
