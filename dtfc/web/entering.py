"""PUTs whose file a document of CouchDB's is to refer to: ``?db=DATABASE&doc=ID``.

Rules of this file: what can be refused is refused before a byte of the body is
taken. Afterwards the file is stored, whatever becomes of the document, and the
answer says which file it is.

Discussion. A file that is stored and not entered is an error to its client,
though the bytes are here: a script that looks at the status alone (``curl -f``)
would take a document for complete that is not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dtfc.access.sessions import document_of
from dtfc.couchdb.entering import Place
from dtfc.couchdb.fileentries import entry_of
from dtfc.errors import BadInput, CouchUnreached, EntryUnreached, NoCredentials, NotEntered
from dtfc.http.problems import problem_for
from dtfc.media_types import content_type
from dtfc.web.gate import renew

if TYPE_CHECKING:
    from dtfc.access.sessions import Credential
    from dtfc.couchdb.entering import Entries, OneUser
    from dtfc.web.gate import Gate
    from dtfc.web.request import Request

#: What stands in for a digest that is not known yet: one is as long as another.
_SOME_DIGEST = "0" * 128

#: Fields of an answer that count whatever became of the document.
_OF_THE_FILE = ("Location", "Set-Cookie")


async def admit_entry(
    request: Request, gate: Gate, name: str | None, length: int | None, *, copy: bool
) -> Entering | None:
    """Return what enters the file of a PUT; None if no document is to refer to it.

    Args:
        request: the PUT, of which nothing is read yet.
        gate: knows CouchDB.
        name: of the file.
        length: of the file in bytes, where it is known.
        copy: whether another node sends it.

    Raises:
        BadInput: this PUT can enter nothing.
        NoCredentials: it brings nothing that CouchDB could know its sender by.
        BadSession, TooManyFailures, TooManyRequests: what it brings is good for nothing.
        Denied, NoDatabase, UnfitDocument, TooLarge, CouchUnreached: the document cannot
            be read, or cannot refer to it.
    """
    database, identifier = request.query("db"), request.query("doc")
    if database is None and identifier is None:
        return None
    if database is None or identifier is None:
        raise BadInput("a file is entered in a document with both: ?db=DATABASE&doc=DOCUMENT")
    entries = gate.entries
    if entries is None:
        raise BadInput(
            "this node can enter a file in no document: its operator names no CouchDB (--couchdb)"
        )
    if copy:
        raise BadInput("a copy (DTFC-Replica) is entered in no document")
    if name is None:
        raise BadInput("a file is entered under its name: PUT /NAME or PUT /SHA512/NAME")
    place = Place(document_of(database, identifier), name)
    needed = NoCredentials("to enter a file in a document", couchdb=True, tokens=False)
    credential, _ = await gate.couchdb_user(request, needed)
    entering = Entering(request, gate, entries, entries.as_user(credential), place)
    await entering.look(length)
    return entering


class Entering:
    """One file, and the document that is to refer to it.

    Args:
        request: the PUT.
        gate: knows what is remembered of CouchDB.
        entries: enters it.
        user: in whose name.
        place: where.
    """

    def __init__(
        self, request: Request, gate: Gate, entries: Entries, user: OneUser, place: Place
    ) -> None:
        self._request = request
        self._gate = gate
        self._entries = entries
        self._user = user
        self._credential: Credential = user.credential
        self._place = place

    async def look(self, length: int | None) -> None:
        """Return if the document could refer to the file, as far as can be said now.

        Raises:
            DtfcError: as :meth:`dtfc.couchdb.entering.Entries.look`.
        """
        likely = {
            "sha512": _SOME_DIGEST,
            "length": length or 0,
            "content_type": content_type(self._place.name),
            "stub": True,
        }
        try:
            await self._entries.look(self._user, self._place, likely)
        except CouchUnreached as error:
            self._gate.complain(self._request, error)
            raise
        renew(self._request, self._user.renewed)

    async def entered(self, stub: dict[str, Any]) -> bool:
        """Enter the file; False if that failed, and is answered.

        Args:
            stub: what the client is answered; it gets a member ``document``.
        """
        request, document = self._request, self._place.document
        told = {"db": document.database, "id": document.id}
        try:
            revision = await self._entries.enter(self._user, self._place, entry_of(stub))
        except NotEntered as error:
            if isinstance(error, EntryUnreached):
                self._gate.complain(request, CouchUnreached(error.why))
            renew(request, self._user.renewed)
            told |= {"error": error.error, "reason": error.reason}
            problem = problem_for(error).with_members(**stub, document=told)
            request.problem(replace(problem, fields=problem.fields + _kept(request)))
            return False
        renew(request, self._user.renewed)
        if self._gate.sessions is not None:
            self._gate.sessions.forget(self._credential, document, stub["sha512"])
        stub["document"] = told | {"rev": revision}
        return True


def _kept(request: Request) -> tuple[tuple[str, str], ...]:
    """Return the fields that a problem's answer keeps."""
    return tuple(
        (name, value)
        for name in _OF_THE_FILE
        for value in request.responseHeaders.getRawHeaders(name, [])
    )
