"""What CouchDB's answers and a caller's credentials mean."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.access.sessions import (
    ANYBODY,
    USUAL,
    Credential,
    Document,
    Grants,
    User,
    credential_of,
    document_of,
    parse_session,
    refers,
)
from dtfc.access.verbs import Verb
from dtfc.errors import BadInput, Denied

DIGEST = "ab" * 64


def session(**context: Any) -> bytes:
    return json.dumps({"ok": True, "userCtx": context}).encode()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class TestCredentials:
    @pytest.mark.parametrize(
        ("authorization", "cookies", "found"),
        [
            ([], [], None),
            ([], ["a=b; AuthSession=YWRh; c=d"], ("cookie", "YWRh")),
            ([], ["AuthSession=YWRh", "other=1"], ("cookie", "YWRh")),
            ([], ['AuthSession="YWRh"'], ("cookie", "YWRh")),
            ([], ["AuthSession=YWRh; AuthSession=YWRh"], ("cookie", "YWRh")),
            ([], ["AuthSession="], None),
            ([], ["authsession=YWRh"], None),
            ([], ["XAuthSession=YWRh"], None),
            ([f"Basic {encoded('ada:x')}"], [], ("basic", encoded("ada:x"))),
            ([f"basic  {encoded('ada:x:y')} "], [], ("basic", encoded("ada:x:y"))),
            ([f"Basic {encoded('ada:x')}"], ["AuthSession=YWRh"], ("basic", encoded("ada:x"))),
            (["Bearer a.b.c"], [], ("bearer", "a.b.c")),
            (["Bearer dtfc_token"], [], None),
            (["Bearer dtfc_token"], ["AuthSession=YWRh"], None),
            (["Negotiate abc"], [], None),
        ],
    )
    def test_what_is_handed_on(
        self, authorization: list[str], cookies: list[str], found: tuple[str, str] | None
    ) -> None:
        credential = credential_of(authorization, cookies)
        assert (credential and (credential.kind, credential.value)) == found

    @pytest.mark.parametrize(
        ("authorization", "cookies"),
        [
            (["Basic YTph", "Basic YTph"], []),
            ([], ["AuthSession=a; AuthSession=b"]),
            ([], ["AuthSession=a b"]),
            ([], ["AuthSession=a\x7f"]),
            ([], ["AuthSession=" + "a" * 5000]),
            (["Basic !!!"], []),
            (["Basic " + encoded("no colon")], []),
            (["Basic " + encoded(":no name")], []),
            (["Basic " + base64.b64encode(b"\xff:x").decode()], []),
            (["Basic"], []),
            (["Basic " + encoded("a" * 513 + ":x")], []),
        ],
    )
    def test_what_makes_no_sense(self, authorization: list[str], cookies: list[str]) -> None:
        with pytest.raises(BadInput):
            credential_of(authorization, cookies)

    @given(st.lists(st.text(max_size=80), max_size=2), st.lists(st.text(max_size=80), max_size=2))
    def test_anything_is_understood_or_refused(
        self, authorization: list[str], cookies: list[str]
    ) -> None:
        try:
            found = credential_of(authorization, cookies)
        except BadInput:
            return
        if found is not None:
            name, value = found.field
            assert name in ("Cookie", "Authorization")
            assert value.isascii()
            assert value.isprintable()

    def test_it_is_in_no_repr(self) -> None:
        assert "YWRh" not in repr(Credential("cookie", "YWRh"))

    def test_kinds_are_told_apart_where_they_are_remembered(self) -> None:
        assert Credential("cookie", "YWRh").key != Credential("bearer", "YWRh").key


class TestAnswers:
    @pytest.mark.parametrize(
        ("body", "user"),
        [
            (session(name="ada", roles=["a", "b"]), User("ada", frozenset("ab"))),
            (session(name="ada"), User("ada")),
            (session(name=None, roles=[]), None),
            # Where CouchDB has no administrator ("admin party"), everybody is one.
            (session(name=None, roles=["_admin"]), None),
            (session(name="ada", roles=["*"]), User("ada")),
        ],
    )
    def test_the_name_decides(self, body: bytes, user: User | None) -> None:
        assert parse_session(body) == user

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b"{}",
            b'{"userCtx": {}}',
            b'{"userCtx": "ada"}',
            b"\xff",
            session(name=""),
            session(name=1),
            session(name=["ada"]),
            session(name=True),
            session(name="a" * 513),
            session(name="ada", roles="_admin"),
            session(name="ada", roles=[["_admin"]]),
            session(name="ada", roles=["a"] * 1001),
            b"[" * 100_000,
        ],
    )
    def test_what_is_no_answer(self, body: bytes) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 -- json's errors are of this kind, too
            parse_session(body)

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
    def test_any_json_is_nobody_somebody_or_refused(self, value: Any) -> None:
        try:
            found = parse_session(session(name=value, roles=value))
        except ValueError:
            return
        assert (found is None) == (value is None)


class TestGrants:
    @pytest.mark.parametrize(
        ("roles", "verb", "by_document", "needs"),
        [
            ({"editors"}, Verb.PUT, False, False),
            ({"editors"}, Verb.GET, True, False),
            (set(), Verb.GET, False, False),
            (set(), Verb.GET, True, True),
            (set(), Verb.HEAD, True, True),
            ({"others"}, Verb.GET, True, True),
        ],
    )
    def test_what_is_granted(
        self, roles: set[str], verb: Verb, *, by_document: bool, needs: bool
    ) -> None:
        reads = frozenset({Verb.GET, Verb.HEAD})
        grants = Grants({"editors": reads | {Verb.PUT}, ANYBODY: reads}, by_document)
        assert grants.needs_document(User("ada", frozenset(roles)), verb) is needs

    @pytest.mark.parametrize("roles", [set(), {"others"}, {"_ADMIN"}, {"_admin "}])
    def test_what_is_not(self, roles: set[str]) -> None:
        with pytest.raises(Denied, match="--couchdb-grant ROLE=put"):
            USUAL.needs_document(User("ada", frozenset(roles)), Verb.PUT)

    def test_administrators_may_write_as_it_comes(self) -> None:
        assert not USUAL.needs_document(User("root", frozenset({"_admin"})), Verb.DELETE)


class TestDocuments:
    @pytest.mark.parametrize(
        ("document", "does"),
        [
            ({"dtfc": {"a.jpg": {"sha512": DIGEST, "stub": True}}}, True),
            ({"dtfc": {"a.jpg": {"sha512": DIGEST.upper()}}}, True),
            ({"dtfc": {"a": 1, "b": {"sha512": DIGEST}}}, True),
            ({"dtfc": {"a.jpg": {"sha512": "cd" * 64}}}, False),
            ({"dtfc": {"a.jpg": {"digest": DIGEST}}}, False),
            ({"dtfc": {"a.jpg": {"sha512": [DIGEST]}}}, False),
            ({"dtfc": [{"sha512": DIGEST}]}, False),
            ({"sha512": DIGEST}, False),
            ({"text": DIGEST}, False),
            ({}, False),
            ({"_deleted": True, "dtfc": {"a.jpg": {"sha512": DIGEST}}}, False),
        ],
    )
    def test_what_refers(self, document: Any, *, does: bool) -> None:
        assert refers(json.dumps(document).encode(), DIGEST) is does

    @pytest.mark.parametrize("body", [b"", b"[]", b'"a"', b"{"])
    def test_what_is_no_document(self, body: bytes) -> None:
        with pytest.raises(ValueError):  # noqa: PT011
            refers(body, DIGEST)

    def test_one_is_named(self) -> None:
        assert document_of("photos/2026", "a/b c") == Document("photos/2026", "a/b c")

    @pytest.mark.parametrize(("database", "document"), [(None, None), ("a", None), (None, "b")])
    def test_none_is_named(self, database: str | None, document: str | None) -> None:
        with pytest.raises(Denied, match="db=DATABASE"):
            document_of(database, document)

    @pytest.mark.parametrize(
        ("database", "document"),
        [
            ("_users", "org.couchdb.user:ada"),
            ("Photos", "a"),
            ("photos", "_design/a"),
            ("photos", "_local/a"),
            ("photos", ""),
            ("..", "a"),
            ("photos?x=", "a"),
            ("photos", "a" * 513),
        ],
    )
    def test_one_that_is_none_of_the_users(self, database: str, document: str) -> None:
        with pytest.raises(BadInput):
            document_of(database, document)
