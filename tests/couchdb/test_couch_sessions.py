"""CouchDB is asked once, believed for a while, and never so often that it locks anybody out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from dtfc.access.sessions import Credential, Document, User, credential_of
from dtfc.couchdb.client import Couch
from dtfc.couchdb.sessions import Remembered, Sessions, SessionTerms
from dtfc.errors import BadSession, CouchUnreached, TooLarge, TooManyFailures
from tests.support.couch import JWT, FakeCouch, basic

DIGEST = "ab" * 64
ADA = Credential("cookie", "Y29va2llLWFkYQ")
OLD = Credential("cookie", "b2xk")
BEARER = Credential("bearer", JWT)
ALBUM = Document("photos", "album")


class Asked:
    """Sessions beside a CouchDB, with a clock that is moved by hand."""

    def __init__(self, **terms: Any) -> None:
        self.server = FakeCouch()
        self.couch = Couch(reactor, self.server.url, 0.5)
        self.now = 1000.0
        self.sessions = Sessions(self.couch, SessionTerms(**terms), lambda: self.now)

    async def stop(self) -> None:
        await self.couch.close()
        await self.server.stop()

    async def of(self, credential: Credential, client: str = "192.0.2.1") -> User:
        return (await self.sessions.user_of(credential, client))[0]

    @property
    def times(self) -> int:
        return len(self.server.asked)


@pytest.fixture
def asked() -> Iterator[Asked]:
    found = Asked()
    yield found
    pytest_twisted.blockon(Deferred.fromCoroutine(found.stop()))


@pytest_twisted.ensureDeferred
async def test_where_nothing_is_remembered_each_one_is_asked_about() -> None:
    asked = Asked(cache=0.0)
    try:
        names = [(await asked.of(ADA)).name for _ in range(2)]
        assert (names, asked.times) == (["ada", "ada"], 2)
    finally:
        await asked.stop()


def password(name: str, word: str) -> Credential:
    field = basic(name, word).decode().partition(": ")[2].strip()
    credential = credential_of([field], [])
    assert credential is not None
    return credential


@pytest.mark.parametrize(
    ("credential", "name"),
    [
        (ADA, "ada"),
        (password("root", "secret-root"), "root"),
        (BEARER, "bea"),
    ],
    ids=["cookie", "basic", "bearer"],
)
@pytest_twisted.ensureDeferred
async def test_whoever_couchdb_knows(asked: Asked, credential: Credential, name: str) -> None:
    assert (await asked.of(credential)).name == name


@pytest.mark.parametrize(
    "credential",
    [
        OLD,
        Credential("cookie", "bmV2ZXI"),
        password("ada", "wrong"),
        password("nobody", "x"),
        Credential("bearer", JWT + "x"),
    ],
    ids=["expired", "unknown", "wrong password", "unknown name", "forged"],
)
@pytest_twisted.ensureDeferred
async def test_whoever_it_does_not(asked: Asked, credential: Credential) -> None:
    with pytest.raises(BadSession):
        await asked.of(credential)


@pytest_twisted.ensureDeferred
async def test_an_admin_party_makes_nobody_an_administrator(asked: Asked) -> None:
    asked.server.party = True
    with pytest.raises(BadSession):
        await asked.of(OLD)


@pytest.mark.parametrize("kind", ["cookie", "basic", "bearer"])
@pytest_twisted.ensureDeferred
async def test_who_is_struck_off_is_nobody_after_a_minute(asked: Asked, kind: str) -> None:
    ways = {"cookie": ADA, "basic": password("ada", "secret-ada"), "bearer": BEARER}
    before = (await asked.of(ways[kind])).name
    asked.server.strike_off(before)
    asked.now += 61
    with pytest.raises(BadSession):
        await asked.of(ways[kind])


@pytest_twisted.ensureDeferred
async def test_only_the_credential_is_handed_on(asked: Asked) -> None:
    await asked.of(ADA)
    _, fields = asked.server.asked[0]
    assert fields["cookie"] == "AuthSession=Y29va2llLWFkYQ"
    assert "authorization" not in fields
    assert fields["accept"] == "application/json"


@pytest_twisted.ensureDeferred
async def test_no_cookie_of_one_goes_along_with_another(asked: Asked) -> None:
    asked.server.renews["Y29va2llLWFkYQ"] = "bmV3"
    await asked.of(ADA)
    with pytest.raises(BadSession):
        await asked.of(Credential("bearer", "a.b.c"))
    assert "cookie" not in asked.server.asked[1][1]


@pytest_twisted.ensureDeferred
async def test_a_renewed_cookie_is_handed_back(asked: Asked) -> None:
    asked.server.renews["Y29va2llLWFkYQ"] = "bmV3"
    _, renewed = await asked.sessions.user_of(ADA, "192.0.2.1")
    assert renewed == "AuthSession=bmV3; Version=1; Path=/; HttpOnly"


@pytest_twisted.ensureDeferred
async def test_it_is_believed_for_a_minute_and_then_asked_again(asked: Asked) -> None:
    for _ in range(3):
        await asked.of(ADA)
        asked.now += 29
    assert asked.times == 1
    asked.server.cookies.clear()
    asked.now += 2
    with pytest.raises(BadSession):
        await asked.of(ADA)


@pytest_twisted.ensureDeferred
async def test_nobody_is_remembered_more_briefly(asked: Asked) -> None:
    for _ in range(2):
        with pytest.raises(BadSession):
            await asked.of(OLD)
    assert asked.times == 1
    asked.now += 11
    asked.server.cookies["b2xk"] = "ada"
    assert (await asked.of(OLD)).name == "ada"


@pytest_twisted.ensureDeferred
async def test_a_hundred_at_once_are_one_question(asked: Asked) -> None:
    users = await gatherResults([Deferred.fromCoroutine(asked.of(ADA)) for _ in range(100)])
    assert {user.name for user in users} == {"ada"}
    assert asked.times == 1


@pytest_twisted.ensureDeferred
async def test_who_leaves_leaves_the_question_to_the_next(asked: Asked) -> None:
    first = Deferred.fromCoroutine(asked.of(ADA))
    second = Deferred.fromCoroutine(asked.of(ADA))
    first.addErrback(lambda _failure: None)
    first.cancel()
    assert (await second).name == "ada"


@pytest.mark.parametrize("fault", ["hangs", "500", "garbage", "huge", "redirect", "gzip"])
@pytest_twisted.ensureDeferred
async def test_what_is_no_answer_is_no_verdict(asked: Asked, fault: str) -> None:
    asked.server.fault = fault
    with pytest.raises(CouchUnreached):
        await asked.of(ADA)
    assert [path for path, _ in asked.server.asked] == [b"/_session"]
    asked.server.fault = ""
    asked.now += 2
    assert (await asked.of(ADA)).name == "ada"


@pytest_twisted.ensureDeferred
async def test_many_who_wait_for_nothing_wait_once(asked: Asked) -> None:
    asked.server.fault = "hangs"
    waiting = [Deferred.fromCoroutine(asked.of(ADA)) for _ in range(20)]
    for each in waiting:
        with pytest.raises(CouchUnreached):
            await each
    assert asked.times == 1


@pytest_twisted.ensureDeferred
async def test_a_client_that_guesses_is_not_let_through_to_couchdb(asked: Asked) -> None:
    outcomes: list[type[Exception]] = []
    for number in range(10):
        try:
            await asked.of(password("ada", f"guess {number}"))
        except (BadSession, TooManyFailures) as error:
            outcomes.append(type(error))
    assert outcomes == [BadSession] * 3 + [TooManyFailures] * 7
    assert asked.times == 3
    assert (await asked.of(password("ada", "secret-ada"), "192.0.2.2")).name == "ada"


@pytest_twisted.ensureDeferred
async def test_so_may_sixty_sessions_that_are_nobodys(asked: Asked) -> None:
    outcomes: list[type[Exception]] = []
    for number in range(70):
        try:
            await asked.of(Credential("cookie", f"guess{number}"))
        except (BadSession, TooManyFailures) as error:
            outcomes.append(type(error))
    assert outcomes == [BadSession] * 60 + [TooManyFailures] * 10


@pytest_twisted.ensureDeferred
async def test_many_clients_that_guess_one_name_do_not_lock_it_out(asked: Asked) -> None:
    for number in range(50):
        with pytest.raises((BadSession, TooManyFailures)):
            await asked.of(password("ada", f"guess {number}"), f"client {number}")
    assert asked.server.failures["ada"] == 4
    # By a cookie she is as well known as ever.
    assert (await asked.of(ADA)).name == "ada"


@pytest_twisted.ensureDeferred
async def test_who_was_right_before_is_not_kept_out_by_others(asked: Asked) -> None:
    right = password("ada", "secret-ada")
    await asked.of(right)
    for number in range(50):
        with pytest.raises((BadSession, TooManyFailures)):
            await asked.of(password("ada", f"guess {number}"), "192.0.2.1")
    asked.now += 100
    assert (await asked.of(right)).name == "ada"


@pytest_twisted.ensureDeferred
async def test_who_was_right_before_can_be_wrong_now(asked: Asked) -> None:
    right = password("ada", "secret-ada")
    await asked.of(right)
    asked.server.passwords["ada"] = "other"
    asked.now += 100
    with pytest.raises(BadSession):
        await asked.of(right)


@pytest_twisted.ensureDeferred
async def test_and_then_it_counts_as_any_wrong_one(asked: Asked) -> None:
    right = password("ada", "secret-ada")
    await asked.of(right)
    asked.server.passwords["ada"] = "other"
    outcomes: list[type[Exception]] = []
    asked.now += 61
    for _ in range(6):
        asked.now += 11
        try:
            await asked.of(right)
        except (BadSession, TooManyFailures) as error:
            outcomes.append(type(error))
    assert outcomes[0] is BadSession
    assert outcomes[-1] is TooManyFailures
    assert asked.server.failures["ada"] < 5


@pytest_twisted.ensureDeferred
async def test_being_right_costs_nothing(asked: Asked) -> None:
    for number in range(20):
        asked.server.cookies[f"c{number}"] = "ada"
        assert (await asked.of(Credential("cookie", f"c{number}"))).name == "ada"


@pytest_twisted.ensureDeferred
async def test_a_document_that_refers(asked: Asked) -> None:
    asked.server.documents["photos", "album"] = ({"ada"}, {"dtfc": {"a": {"sha512": DIGEST}}})
    for _ in range(2):
        assert await asked.sessions.refers(ADA, ALBUM, DIGEST)
    assert asked.times == 1


@pytest.mark.parametrize(
    ("readers", "document"),
    [({"bea"}, {"dtfc": {"a": {"sha512": DIGEST}}}), ({"ada"}, {"dtfc": {}}), (set(), None)],
    ids=["not hers", "refers to others", "there is none"],
)
@pytest_twisted.ensureDeferred
async def test_a_document_that_does_not_help(
    asked: Asked, readers: set[str], document: Any
) -> None:
    asked.server.documents["photos", "album"] = (readers, document)
    assert not await asked.sessions.refers(ADA, ALBUM, DIGEST)


@pytest_twisted.ensureDeferred
async def test_a_document_by_any_name_is_one_path(asked: Asked) -> None:
    document = Document("photos/2026", "a/../b?c#d é")
    asked.server.documents[document.database, document.id] = (
        {"ada"},
        {"dtfc": {"a": {"sha512": DIGEST}}},
    )
    assert await asked.sessions.refers(ADA, document, DIGEST)
    assert asked.server.asked[0][0] == b"/photos%2F2026/a%2F..%2Fb%3Fc%23d%20%C3%A9"


@pytest_twisted.ensureDeferred
async def test_a_document_that_is_too_large(asked: Asked) -> None:
    asked.server.documents["photos", "album"] = ({"ada"}, b" " * 2_000_000 + b"{}")
    with pytest.raises(TooLarge, match="--couchdb-max-document"):
        await asked.sessions.refers(ADA, ALBUM, DIGEST)


def test_what_is_remembered_is_bounded() -> None:
    remembered: Remembered[int] = Remembered(3)
    for number in range(10):
        remembered.put(number, number, 10.0)
    assert len(remembered) == 3
    assert remembered.get(9, 9.0) == 9
    assert remembered.get(9, 10.0) is None
