"""Is CouchDB up?"""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

from dtfc.couchdb.client import Answer
from dtfc.couchdb.standing import REMEMBERED, Standing
from dtfc.errors import CouchUnreached


class Couch:
    """Answers as it is told to."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []

    async def ask(self, _method: str, path: str, _who: Any, _most: int) -> Answer:
        self.asked.append(path)
        found = self.answers[path]
        if isinstance(found, Exception):
            raise found
        return Answer(found[0], json.dumps(found[1]).encode())


def standing(couch: Couch, now: float = 100.0) -> Standing:
    stand_in: Any = couch
    return Standing(stand_in, lambda: now)


OK = (200, {"status": "ok"})
MISSING = (404, {"error": "not_found", "reason": "missing"})


@pytest.mark.parametrize(
    ("up", "root", "told"),
    [
        (OK, None, "up"),
        ((404, {"status": "maintenance_mode"}), None, "in maintenance"),
        ((404, {"status": "nolb"}), None, "in maintenance"),
        (MISSING, (200, {"couchdb": "Welcome"}), "up"),
        ((404, []), (200, {}), "up"),
        (MISSING, (401, {"error": "unauthorized"}), "up"),
        ((401, {"error": "unauthorized"}), None, "up"),
        (MISSING, (500, {}), "unreached: it answered 500"),
        ((503, {}), None, "unreached: it answered 503"),
        (CouchUnreached("it is away"), None, "unreached: it is away"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_it_is(up: Any, root: Any, told: str) -> None:
    couch = Couch()
    couch.answers = {"/_up": up, "/": root}

    assert await standing(couch).told() == told


@pytest_twisted.ensureDeferred
async def test_it_is_asked_rarely() -> None:
    couch, now = Couch(), 100.0
    couch.answers = {"/_up": OK}
    stand_in: Any = couch
    found = Standing(stand_in, lambda: now)
    for _ in range(3):
        await found.told()
    now += REMEMBERED
    await found.told()

    assert couch.asked == ["/_up", "/_up"]
