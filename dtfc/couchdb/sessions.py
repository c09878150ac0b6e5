"""Who is it? Asked of CouchDB, remembered for a little while.

Rules of this file: what is remembered is remembered under a hash; whom CouchDB
knows, for a minute at most, since a session can be revoked; whom it does not
know, more briefly. The same question is asked once, however many wait for it.

Discussion. CouchDB locks a name out for five minutes after five wrong passwords
from one address (``chttpd_auth_lockout``), and all that this node asks comes
from one: its own. So whoever guesses through a node could lock out the user
whose password it is. Therefore a client may be wrong so many times in five
minutes, and a name, whoever tries it, four times; then nothing is asked. What
was right within the last day is asked all the same: the user goes on.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import quote

from twisted.internet.defer import Deferred

from dtfc.access.buckets import Buckets, Rate
from dtfc.access.sessions import Credential, Document, User, parse_session, refers
from dtfc.couchdb.client import Answer, Couch
from dtfc.errors import BadSession, CouchUnreached, TooLarge, TooManyFailures

#: Seconds over which wrong passwords are counted: as long as CouchDB does.
WINDOW = 300.0

#: Wrong passwords for one name in that time: CouchDB locks out at the fifth.
FAILURES_OF_A_NAME = 4

#: As how much of a wrong password a session or token counts that nobody has.
WITHOUT_PASSWORD = 0.05

#: Seconds for which it is remembered that CouchDB knows nobody by a credential.
NOBODY_SECONDS = 10.0

#: Seconds for which a right password is asked about whatever others have tried.
TRUSTED_SECONDS = 86400.0

#: Seconds for which CouchDB is not asked again after it did not answer.
REST_SECONDS = 1.0

#: Things of each kind that are remembered.
MOST_REMEMBERED = 10_000

#: Bytes of an answer to ``GET /_session``.
LARGEST_SESSION = 64 * 1024

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class SessionTerms:
    """How CouchDB is asked.

    Args:
        cache: seconds for which an answer is believed, 60 at most.
        failures: wrong credentials of one client in five minutes.
        largest_document: bytes.
    """

    cache: float = 60.0
    failures: int = 3
    largest_document: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Session:
    """What a credential is good for.

    Args:
        user: whose it is; None for nobody's.
        renewed: the cookie that takes its place, as CouchDB sets it; empty for none.
    """

    user: User | None
    renewed: str = ""


class Remembered(Generic[V]):
    """Things that hold for a while; the oldest go first.

    Args:
        most: that are remembered at once.
    """

    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._things: OrderedDict[Hashable, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._things)

    def get(self, key: Hashable, now: float) -> V | None:
        """Return what is remembered, if it still holds."""
        found = self._things.get(key)
        if found is None:
            return None
        if found[0] <= now:
            del self._things[key]
            return None
        return found[1]

    def forget(self, key: Hashable) -> None:
        """Remember it no longer."""
        self._things.pop(key, None)

    def put(self, key: Hashable, value: V, until: float) -> None:
        """Remember something until then."""
        self._things.pop(key, None)
        while len(self._things) >= self._most:
            self._things.popitem(last=False)
        self._things[key] = (until, value)


class Sessions:
    """Asks CouchDB who somebody is, and whether a document refers to a blob.

    Args:
        couch: whom to ask.
        terms: replaced as a whole when the configuration is read again.
        ticks: seconds that no change of the time of day moves.

    Attributes:
        counts: how often CouchDB was asked, by what came of it.
        trouble: why it could not be asked last time; empty if it could.
    """

    def __init__(self, couch: Couch, terms: SessionTerms, ticks: Callable[[], float]) -> None:
        self._couch = couch
        self._ticks = ticks
        self._users: Remembered[Session] = Remembered()
        self._documents: Remembered[bool] = Remembered()
        self._good: Remembered[bool] = Remembered()
        self._names = Buckets(_rate(FAILURES_OF_A_NAME))
        self._asking: dict[Hashable, list[Deferred[None]]] = {}
        self.counts: Counter[str] = Counter()
        self.trouble = ""
        self._down_until = 0.0
        self.set_terms(terms)

    def set_terms(self, terms: SessionTerms) -> None:
        """Put other terms in force."""
        self._terms = terms
        self._clients = Buckets(_rate(terms.failures))

    async def user_of(self, credential: Credential, client: str) -> tuple[User, str]:
        """Return whose a credential is, and the cookie that takes its place (or nothing).

        Args:
            credential: as it came.
            client: under which key its sender is counted.

        Raises:
            BadSession: nobody's.
            TooManyFailures: its sender, or others for the same name, were wrong too often.
            CouchUnreached: CouchDB does not answer.
        """
        key = credential.key
        session = self._users.get(key, self._ticks())
        if session is None:
            session = await self._alone(key, lambda: self._ask(credential, client, key))
        if session.user is None:
            raise BadSession(credential.kind)
        return session.user, session.renewed

    async def _ask(self, credential: Credential, client: str, key: str) -> Session:
        now = self._ticks()
        remembered = self._users.get(key, now)
        if remembered is not None:
            return remembered
        paid = self._pay(credential, client, now)
        try:
            session = _session_in(await self._said("/_session", credential, LARGEST_SESSION))
        except TooLarge:
            # Not the caller's doing, and no setting's: sessions are small.
            self._give_back(paid)
            reason = f"its answer to /_session has more than {LARGEST_SESSION} bytes"
            self._note("unreached", reason)
            raise CouchUnreached(reason) from None
        except CouchUnreached as error:
            self._give_back(paid)
            self._note("unreached", error.reason)
            raise
        self._note("known" if session.user is not None else "nobody", "")
        now = self._ticks()
        if session.user is None:
            if not paid:
                # It was right before; from now on it is as wrong as any other.
                self._good.forget(key)
                for buckets, who, amount in self._owed(credential, client):
                    buckets.spend(who, now, amount)
            self._users.put(key, session, now + min(NOBODY_SECONDS, self._terms.cache))
            return session
        self._give_back(paid)
        self._good.put(key, value=True, until=now + TRUSTED_SECONDS)
        self._users.put(key, session, now + self._terms.cache)
        return session

    def _pay(
        self, credential: Credential, client: str, now: float
    ) -> list[tuple[Buckets, str, float]]:
        """Count it as wrong, until it turns out to be right.

        Raises:
            TooManyFailures: there were too many.
        """
        if self._good.get(credential.key, now):
            return []
        paid: list[tuple[Buckets, str, float]] = []
        for buckets, who, amount in self._owed(credential, client):
            wait = buckets.take(who, now, amount)
            if wait:
                self._give_back(paid)
                self.counts["refused"] += 1
                raise TooManyFailures(math.ceil(wait))
            paid.append((buckets, who, amount))
        return paid

    def _owed(self, credential: Credential, client: str) -> list[tuple[Buckets, str, float]]:
        if credential.kind == "basic":
            return [(self._clients, client, 1.0), (self._names, credential.name, 1.0)]
        # They lock nobody out, and sessions expire by themselves.
        return [(self._clients, client, WITHOUT_PASSWORD)]

    def _give_back(self, paid: list[tuple[Buckets, str, float]]) -> None:
        for buckets, who, amount in paid:
            buckets.give_back(who, amount)

    async def refers(self, credential: Credential, document: Document, digest_hex: str) -> bool:
        """Whether somebody can read a document, and it refers to a blob.

        Args:
            credential: whose owner :meth:`user_of` has found.
            document: which.
            digest_hex: of the blob.

        Raises:
            CouchUnreached: CouchDB does not answer.
            TooLarge: the document is larger than this node reads.
        """
        key = (credential.key, document, digest_hex)
        found = self._documents.get(key, self._ticks())
        if found is None:
            found = await self._alone(
                key, lambda: self._look(credential, document, digest_hex, key)
            )
        return found

    def forget(self, credential: Credential, document: Document, digest_hex: str) -> None:
        """Ask again whether a document refers to a blob: it has changed."""
        self._documents.forget((credential.key, document, digest_hex))

    async def _look(
        self, credential: Credential, document: Document, digest_hex: str, key: Hashable
    ) -> bool:
        remembered = self._documents.get(key, self._ticks())
        if remembered is not None:
            return remembered
        path = f"/{quote(document.database, safe='')}/{quote(document.id, safe='')}"
        try:
            answer = await self._said(path, credential, self._terms.largest_document)
        except CouchUnreached as error:
            self._note("unreached", error.reason)
            raise
        found = False
        if answer.status == 200:
            try:
                found = refers(answer.body, digest_hex)
            except ValueError:
                raise CouchUnreached("its answer is no document") from None
        self._note("document" if found else "no document", "")
        seconds = self._terms.cache if found else min(NOBODY_SECONDS, self._terms.cache)
        self._documents.put(key, found, self._ticks() + seconds)
        return found

    async def _said(self, path: str, credential: Credential, most: int) -> Answer:
        if self._ticks() < self._down_until:
            raise CouchUnreached(self.trouble)
        try:
            return await self._couch.get(path, credential, most)
        except CouchUnreached:
            # Whoever waits for the same must not wait as long again, one after another.
            self._down_until = self._ticks() + REST_SECONDS
            raise

    def _note(self, result: str, trouble: str) -> None:
        self.counts[result] += 1
        self.trouble = trouble

    async def _alone(self, key: Hashable, work: Callable[[], Awaitable[V]]) -> V:
        """Let one ask, and the others wait for what becomes of it; return what was found.

        Then each looks first at what is remembered by now; if the one that asked
        has left, the next one asks.
        """
        while key in self._asking:
            # Fired by whoever asks, whatever became of it.
            waiting: Deferred[None] = Deferred(lambda each: self._forget(key, each))
            self._asking[key].append(waiting)
            await waiting
        self._asking[key] = []
        try:
            return await work()
        finally:
            for each in self._asking.pop(key):
                each.callback(None)

    def _forget(self, key: Hashable, waiting: Deferred[None]) -> None:
        waiters = self._asking.get(key, [])
        if waiting in waiters:
            waiters.remove(waiting)


def _rate(failures: int) -> Rate:
    return Rate(failures / WINDOW, float(failures))


def _session_in(answer: Answer) -> Session:
    """Return what CouchDB's answer to ``GET /_session`` means.

    Raises:
        CouchUnreached: that was no answer of CouchDB's.
    """
    if answer.status != 200:
        return Session(None)
    try:
        user = parse_session(answer.body)
    except ValueError as error:
        raise CouchUnreached(f"its answer to /_session makes no sense: {error}") from None
    renewed = [each for each in answer.cookies if each.startswith("AuthSession=")]
    return Session(user, renewed[0] if user is not None and len(renewed) == 1 else "")
