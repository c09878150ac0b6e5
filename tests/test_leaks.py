"""The search for secrets in logs finds them, and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.leaks import leaks

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "text",
    [
        "token dtfc_" + "a" * 43,
        "Authorization: Bearer eyJhbGciOi.J9.abc",
        "authorization: basic YWRhOnNlY3JldA==",
        "Cookie: AuthSession=Y29va2llLWFkYQ; other=1",
        '"GET /ab?expires=1&sig=kq0Uu5abc HTTP/1.1"',
        "-----BEGIN EC PRIVATE KEY-----",
    ],
)
def test_a_secret_is_found(text: str) -> None:
    assert len(leaks(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        '"GET /ab?expires=1&sig=- HTTP/1.1" 200',
        "PUT needs a token (Authorization: Bearer TOKEN)",
        "the token camera has expired",
        "dtfc_http_requests_total",
        "couchdb:ada",
    ],
)
def test_what_is_none_is_not(text: str) -> None:
    assert leaks(text) == []


def test_secrets_are_compared_in_constant_time_and_in_no_other_way() -> None:
    """No == or != on what is a hash, a key, a signature or a secret."""
    secret = {"sha256", "mac", "key", "keys", "given", "hashed", "signature", "secret"}
    found = []
    for name in ("tokens", "links", "signatures"):
        tree = ast.parse((CHECKOUT / f"dtfc/access/{name}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and any(
                isinstance(each, ast.Eq | ast.NotEq) for each in node.ops
            ):
                sides = [node.left, *node.comparators]
                words = {getattr(side, "attr", getattr(side, "id", "")) for side in sides} & secret
                found += [f"{name}:{node.lineno} {word}" for word in sorted(words)]
    # Two lines of one file, while it is read: nobody waits for the answer.
    assert [each for each in found if "sha256" not in each] == []
    assert len(found) <= 1
