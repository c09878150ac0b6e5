"""Makes a database ready for references to blobs: ``dtfc couchdb init``."""

from __future__ import annotations

import json
from urllib.parse import quote

from dtfc.access.sessions import Credential
from dtfc.couchdb.asking import json_object
from dtfc.couchdb.client import Answer, Couch
from dtfc.couchdb.design import ID, INDEX, merged
from dtfc.errors import CouchUnreached

#: Bytes of an answer.
MOST = 8 * 1024 * 1024

#: Seconds for an answer; CouchDB may build an index before it gives one.
PATIENCE = 60.0

#: Times that a design document is written again which somebody else writes meanwhile.
TRIES = 5


async def prepare(couch: Couch, credential: Credential | None, database: str) -> list[str]:
    """Put the design document and the index in place; return what was done, for people.

    Args:
        couch: where the database is.
        credential: of somebody who may write design documents.
        database: its name.

    Raises:
        CouchUnreached: it does not answer, or refuses; the reason says so.
    """
    path = f"/{quote(database, safe='')}"
    return [await _design(couch, credential, path), await _index(couch, credential, path)]


async def _design(couch: Couch, credential: Credential | None, path: str) -> str:
    for _ in range(TRIES):
        found = await couch.ask("GET", f"{path}/{ID}", credential, MOST, seconds=PATIENCE)
        if found.status not in {200, 404}:
            raise CouchUnreached(_why(found))
        new = merged(json_object(found.body) if found.status == 200 else None)
        if new is None:
            return f"{ID} is there already"
        answer = await couch.ask(
            "PUT",
            f"{path}/{ID}",
            credential,
            MOST,
            content=json.dumps(new).encode(),
            seconds=PATIENCE,
        )
        if answer.status in {200, 201, 202}:
            return f"{ID} is {'changed' if found.status == 200 else 'made'}"
        if answer.status != 409:
            raise CouchUnreached(_why(answer))
    raise CouchUnreached(f"somebody else writes {ID} all the time")


async def _index(couch: Couch, credential: Credential | None, path: str) -> str:
    answer = await couch.ask(
        "POST",
        f"{path}/_index",
        credential,
        MOST,
        content=json.dumps(INDEX).encode(),
        seconds=PATIENCE,
    )
    if answer.status in {400, 404, 405, 501}:
        return "no index is made: this server knows none"
    if answer.status != 200:
        raise CouchUnreached(_why(answer))
    made = json_object(answer.body).get("result") == "created"
    return f"the index on dtfc is {'made' if made else 'there already'}"


def _why(answer: Answer) -> str:
    """Return what CouchDB says of a refusal."""
    try:
        reason = json_object(answer.body).get("reason")
    except CouchUnreached:
        reason = None
    said = f": {reason}" if isinstance(reason, str) and reason.isprintable() else ""
    return f"it answered {answer.status}{said}"
