"""Is CouchDB up? ``GET /_up``, or ``GET /`` where the server has no ``_up``.

Rules of this file: it is asked at most once in :data:`REMEMBERED` seconds, however
many want to know; and in nobody's name, since ``_up`` needs none (with
``require_valid_user_except_for_up`` it is the only URL that needs none).
"""

from __future__ import annotations

import json
from collections.abc import Callable

from dtfc.couchdb.client import Answer, Couch
from dtfc.errors import CouchUnreached, TooLarge

#: Seconds for which an answer is remembered.
REMEMBERED = 5.0

#: Bytes of an answer.
LARGEST = 64 * 1024

UP = "up"
MAINTENANCE = "in maintenance"


class Standing:
    """Says how CouchDB is, in words.

    Args:
        couch: asks it.
        now: seconds that no change of the time of day moves.
    """

    def __init__(self, couch: Couch, now: Callable[[], float]) -> None:
        self._couch = couch
        self._now = now
        self._told = ""
        self._told_at = -REMEMBERED

    async def told(self) -> str:
        """Return ``up``, ``in maintenance``, or why it was not reached."""
        now = self._now()
        if now - self._told_at >= REMEMBERED:
            # Before the answer, so that others do not ask meanwhile.
            self._told_at = now
            self._told = self._told or "asked just now"
            try:
                self._told = await self._ask()
            except CouchUnreached as error:
                self._told = f"unreached: {error.reason}"
            except TooLarge as error:
                self._told = f"unreached: {error}"
        return self._told

    async def _ask(self) -> str:
        answer = await self._couch.ask("GET", "/_up", None, LARGEST)
        if answer.status == 200:
            return UP
        if answer.status == 404:
            if _says(answer, "maintenance_mode") or _says(answer, "nolb"):
                return MAINTENANCE
            # PouchDB's server, and CouchDB before 2.0, know no _up.
            answer = await self._couch.ask("GET", "/", None, LARGEST)
        # Whoever wants to know who asks is up.
        if answer.status in (200, 401, 403):
            return UP
        raise CouchUnreached(f"it answered {answer.status}")


def _says(answer: Answer, status: str) -> bool:
    try:
        told = json.loads(answer.body)
    except ValueError:
        return False
    return isinstance(told, dict) and told.get("status") == status
