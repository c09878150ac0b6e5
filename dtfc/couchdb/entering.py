"""Enters a stored file in a document, in the name of whoever stored it.

Rules of this file: a document is read and written with its user's credential
alone, never with the node's own. It is written on its newest revision; who was
faster is read first. Whatever fails, the file stays stored, and the same
request again does what is left to do.

Discussion. A browser sends the twenty pictures of one document at once. So
those of one document wait for each other here, and only other processes,
other nodes and people cause conflicts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dtfc.access.sessions import Credential, Document, credential_of
from dtfc.couchdb.asking import json_object
from dtfc.couchdb.client import Answer, Couch
from dtfc.couchdb.fileentries import encoded, with_entry
from dtfc.errors import (
    BadInput,
    CouchUnreached,
    Denied,
    EntryContended,
    EntryRefused,
    EntryUnauthorized,
    EntryUnreached,
    NoDatabase,
    TooLarge,
    UnfitDocument,
)

#: Times that a file is entered anew because somebody else wrote the document meanwhile.
TRIES = 12

#: Seconds before the second try, at most; twice as long before each further one ...
FIRST_WAIT = 0.05

#: ... up to so many.
LONGEST_WAIT = 1.0

#: Bytes of the answer to writing a document.
LARGEST_ANSWER = 64 * 1024

#: Characters of CouchDB's reason that are handed on.
LONGEST_REASON = 1000

#: What CouchDB says of a document that it does not have; of a database it says otherwise.
_NO_DOCUMENT = frozenset({"missing", "deleted"})

_COOKIE = "AuthSession="


class Refused(Exception):
    """CouchDB does not do it.

    Args:
        status: of its answer.
        error: its one word for it.
        reason: its sentence.
    """

    def __init__(self, status: int, error: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.error = error
        self.reason = reason


class OneUser:
    """Asks CouchDB in the name of one user.

    A session lasts ten minutes, and CouchDB sets a new cookie while one is used; an
    upload may take longer than that, so the newest one goes along.

    Args:
        couch: whom to ask.
        credential: as the user brought it.

    Attributes:
        renewed: the cookie that takes its place, as CouchDB sets it; empty for none.
    """

    def __init__(self, couch: Couch, credential: Credential) -> None:
        self._couch = couch
        self.credential = credential
        self.renewed = ""

    async def ask(self, method: str, path: str, most: int, content: bytes | None = None) -> Answer:
        """Make a request.

        Raises:
            CouchUnreached: there is no whole answer in time, or it says that there is none now.
            TooLarge: the answer has more than ``most`` bytes.
        """
        answer = await self._couch.ask(method, path, self.credential, most, content=content)
        if answer.status >= 500 or answer.status == 429 or 300 <= answer.status < 400:
            raise CouchUnreached(f"it answered {answer.status}")
        self._renew(answer.cookies)
        return answer

    def _renew(self, cookies: tuple[str, ...]) -> None:
        found = [each for each in cookies if each.startswith(_COOKIE)]
        if self.credential.kind != "cookie" or len(found) != 1:
            return
        try:
            credential = credential_of([], [found[0].partition(";")[0]])
        except BadInput:
            return
        if credential is not None:
            self.credential, self.renewed = credential, found[0]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file is to be entered.

    Args:
        document: which.
        name: of the file.
    """

    document: Document
    name: str

    @property
    def path(self) -> str:
        """Where CouchDB has the document."""
        return f"/{quote(self.document.database, safe='')}/{quote(self.document.id, safe='')}"


@dataclass(slots=True)
class _Turns:
    """Those who write one document.

    Args:
        lock: has one of them write.
        failures: times that CouchDB did not answer one of them.
    """

    lock: DeferredLock
    failures: int = 0


class Entries:
    """Enters files in documents.

    Args:
        couch: where the documents are.
        clock: measures waits.
        chance: returns a number from 0 to 1.
        largest: bytes of a document; replaced when the configuration is read again.
        counts: how often CouchDB was asked, by what came of it.
    """

    def __init__(
        self,
        couch: Couch,
        clock: IReactorTime,
        chance: Callable[[], float],
        largest: int,
        counts: Counter[str],
    ) -> None:
        self._couch = couch
        self._clock = clock
        self._chance = chance
        self.largest = largest
        self._counts = counts
        self._turns: dict[Document, _Turns] = {}

    def as_user(self, credential: Credential) -> OneUser:
        """Return what asks in somebody's name."""
        return OneUser(self._couch, credential)

    async def look(self, user: OneUser, place: Place, entry: Mapping[str, Any]) -> None:
        """Return if a file could be entered, as far as that can be said beforehand.

        Args:
            user: in whose name.
            place: where.
            entry: one as long as that of the file will be.

        Raises:
            Denied: this user cannot read the document.
            NoDatabase: there is none of that name.
            UnfitDocument: its ``dtfc`` is something else.
            TooLarge: it is larger than this node reads, or would be.
            CouchUnreached: CouchDB does not answer.
        """
        try:
            old = await self._read(user, place)
        except Refused as refused:
            if refused.status == 404:
                raise NoDatabase(place.document.database) from None
            raise Denied("this CouchDB user cannot read that document") from None
        try:
            new = with_entry(old, place.document.id, place.name, entry)
            if new is not None:
                encoded(new, self.largest)
        except ValueError as error:
            raise UnfitDocument(str(error)) from None

    async def enter(self, user: OneUser, place: Place, entry: Mapping[str, Any]) -> str:
        """Enter a file that is stored; return the document's revision.

        Args:
            user: in whose name.
            place: where.
            entry: what stands for the file.

        Raises:
            EntryRefused, EntryUnauthorized, EntryContended, EntryUnreached: it is not
                entered, or nobody knows.
        """
        try:
            revision = await self._in_turn(user, place, entry)
        except Refused as refused:
            self._counts["entry refused"] += 1
            kind = EntryUnauthorized if refused.status == 401 else EntryRefused
            raise kind(refused.error, refused.reason) from None
        except (TooLarge, ValueError) as error:
            self._counts["entry refused"] += 1
            word = "too_large" if isinstance(error, TooLarge) else "unfit"
            raise EntryRefused(word, str(error)) from None
        except EntryContended:
            self._counts["entry contended"] += 1
            raise
        except CouchUnreached as error:
            self._counts["unreached"] += 1
            raise EntryUnreached(error.reason) from None
        self._counts["entered"] += 1
        return revision

    async def _in_turn(self, user: OneUser, place: Place, entry: Mapping[str, Any]) -> str:
        turns = self._turns.setdefault(place.document, _Turns(DeferredLock()))
        failures = turns.failures
        await turns.lock.acquire()
        try:
            # Whoever waits must not wait for the same silence again, one after another.
            silent = turns.failures != failures
            return await self._written(user, place, entry, silent=silent)
        except CouchUnreached:
            turns.failures += 1
            raise
        finally:
            if not turns.lock.waiting:
                del self._turns[place.document]
            turns.lock.release()

    async def _written(
        self, user: OneUser, place: Place, entry: Mapping[str, Any], *, silent: bool
    ) -> str:
        if silent:
            raise CouchUnreached("it did not answer others just now")
        for tried in range(TRIES):
            if tried:
                most = min(FIRST_WAIT * 2 ** (tried - 1), LONGEST_WAIT)
                await deferLater(self._clock, most * self._chance())
            old = await self._read(user, place)
            new = with_entry(old, place.document.id, place.name, entry)
            if new is None:
                return _revision(old or {}, "_rev")
            content = encoded(new, self.largest)
            answer = await user.ask("PUT", place.path, LARGEST_ANSWER, content)
            # 202: fewer of a cluster's nodes have it than should, by now.
            if answer.status in {200, 201, 202}:
                return _revision(json_object(answer.body), "rev")
            if answer.status != 409:
                raise _refusal(answer)
        raise EntryContended(TRIES)

    async def _read(self, user: OneUser, place: Place) -> dict[str, Any] | None:
        """Return the newest revision of a document; None if there is none.

        Raises:
            Refused: it cannot be read, or there is no such database.
        """
        answer = await user.ask("GET", place.path, self.largest)
        if answer.status == 200:
            return json_object(answer.body)
        refusal = _refusal(answer)
        if answer.status == 404 and refusal.reason in _NO_DOCUMENT:
            return None
        raise refusal


def _revision(found: Mapping[str, Any], member: str) -> str:
    revision = found.get(member)
    if not isinstance(revision, str):
        raise CouchUnreached("its answer has no revision")
    return revision


def _refusal(answer: Answer) -> Refused:
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    said = found if isinstance(found, dict) else {}
    error, reason = said.get("error"), said.get("reason")
    return Refused(
        answer.status,
        error[:64] if isinstance(error, str) else f"status {answer.status}",
        reason[:LONGEST_REASON] if isinstance(reason, str) else f"it answered {answer.status}",
    )
