"""What is changed and refused is written down: a line each, that nothing breaks out of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from dtfc.access.decisions import Policy
from dtfc.access.tokens import parse_tokens
from dtfc.web.auditlog import LONGEST_PATH, Deed, as_line
from tests.support.roads import DIGEST, TwoRoads

SECRET = "dtfc_" + "a" * 40
TEXT = st.text(max_size=60)


@pytest.fixture
def roads(tmp_path: Path) -> Iterator[TwoRoads]:
    found = TwoRoads(tmp_path)
    found.gate.tokens, _ = parse_tokens(
        f"camera {hashlib.sha256(SECRET.encode()).hexdigest()} get,put,delete"
    )
    yield found
    pytest_twisted.blockon(Deferred.fromCoroutine(found.stop()))


async def asked(roads: TwoRoads, road: int, method: str, path: str, *fields: str) -> list[Any]:
    """Ask, and return what was written down."""
    deeds: list[Deed] = []
    roads.sites[road].audit = deeds.append
    body = "u" if method in ("PUT", "POST") else ""
    lines = [f"{method} {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *fields]

    def ask() -> None:
        with roads.connect(road) as connection:
            connection.ask(("\r\n".join(lines) + "\r\n\r\n" + body).encode())

    await deferToThread(ask)
    return [json.loads(as_line(deed)) for deed in deeds]


TOKEN = f"Authorization: Bearer {SECRET}"


@pytest_twisted.ensureDeferred
async def test_what_is_stored_and_deleted(roads: TwoRoads) -> None:
    (stored,) = await asked(roads, 1, "PUT", "/photo.jpg?a=b", TOKEN)
    digest = hashlib.sha512(b"u").hexdigest()
    assert stored.pop("at").endswith("Z")
    assert stored == {
        "action": "stored",
        "address": "127.0.0.1",
        "principal": "camera",
        "method": "PUT",
        "path": "/photo.jpg?a=b",
        "status": 201,
        "sha512": digest,
    }
    (deleted,) = await asked(roads, 1, "DELETE", f"/{digest}", TOKEN)
    assert (deleted["action"], deleted["sha512"]) == ("deleted", digest)


@pytest_twisted.ensureDeferred
async def test_what_is_refused_and_why(roads: TwoRoads) -> None:
    roads.gate.policy = Policy(anonymous=frozenset(), tokens=True)
    (refused,) = await asked(roads, 1, "GET", f"/{DIGEST.hex}", "Via: x")
    assert (refused["action"], refused["status"], refused["reason"]) == (
        "refused",
        401,
        "Who are you?",
    )
    (refused,) = await asked(roads, 1, "PUT", "/u", "Sec-Fetch-Site: cross-site")
    assert (refused["status"], refused["reason"]) == (403, "This is not allowed")


@pytest_twisted.ensureDeferred
async def test_what_fails(roads: TwoRoads) -> None:
    (failed,) = await asked(roads, 1, "PUT", "/u", f"Repr-Digest: sha-256=:{'A' * 43}=:")
    assert (failed["action"], failed["status"]) == ("failed", 422)


@pytest.mark.parametrize("road", [0, 1], ids=["fast lane", "tree"])
@pytest_twisted.ensureDeferred
async def test_what_is_read_is_for_the_access_log(roads: TwoRoads, road: int) -> None:
    await deferToThread(roads.warm)
    assert await asked(roads, road, "GET", f"/{DIGEST.hex}") == []
    assert await asked(roads, road, "GET", f"/{'0' * 128}/nopeerload") == []


@pytest_twisted.ensureDeferred
async def test_no_secret_is_written_down(roads: TwoRoads) -> None:
    lines = await asked(roads, 1, "PUT", "/u?expires=1&sig=c2VjcmV0", TOKEN)
    assert len(lines) == 1
    assert SECRET not in str(lines)
    assert "c2VjcmV0" not in str(lines)


@given(TEXT, TEXT, TEXT, TEXT)
def test_whatever_is_sent_is_one_line(address: str, principal: str, path: str, why: str) -> None:
    deed = Deed(1.0, address, principal, "PUT", path, 403, "", why)
    line = as_line(deed)
    assert line.isascii()
    assert line.isprintable()
    told = json.loads(line)
    assert (told["principal"], told["path"]) == (principal, path[:LONGEST_PATH])
