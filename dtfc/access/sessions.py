"""Who CouchDB says somebody is, and what that lets them do.

Rules of this file: pure. The name decides, never the status and never the
roles alone: CouchDB answers 200 to a cookie that has expired, and where it has
no administrators it says ``name: null, roles: ["_admin"]`` to everybody.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dtfc.access.verbs import READS, Verb
from dtfc.errors import BadInput, Denied

#: Longest credential that is handed on, in characters.
LONGEST = 4096

#: Longest name, and most roles, of a user that is believed.
LONGEST_NAME = 512
MOST_ROLES = 1000

#: Stands for every user that has a name.
ANYBODY = "*"

_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z")
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
# RFC 6265 section 4.1.1, without the quotes that it allows around it.
_COOKIE_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]+\Z")
_COOKIE = "AuthSession"
# https://docs.couchdb.org/en/stable/api/database/common.html#put--db
_DATABASE = re.compile(r"[a-z][a-z0-9_$()+/-]{0,237}\Z")
_LONGEST_DOCUMENT_ID = 512


@dataclass(frozen=True, slots=True)
class Credential:
    """What somebody brings for CouchDB to judge.

    Args:
        kind: how it is handed on.
        value: the cookie's value, or what stands behind Basic or Bearer.
        name: whose password it is said to be; empty but for Basic.
    """

    kind: Literal["cookie", "basic", "bearer"]
    value: str
    name: str = ""

    def __repr__(self) -> str:
        return f"<Credential {self.kind}>"

    @property
    def key(self) -> str:
        """What stands for it wherever it is remembered: not itself."""
        return hashlib.sha256(f"{self.kind} {self.value}".encode("latin-1")).hexdigest()

    @property
    def field(self) -> tuple[str, str]:
        """The field that hands it on: it alone, whatever stood beside it."""
        if self.kind == "cookie":
            return "Cookie", f"{_COOKIE}={self.value}"
        return "Authorization", f"{self.kind.capitalize()} {self.value}"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody whom CouchDB knows.

    Args:
        name: never empty.
        roles: of this user, as CouchDB says.
    """

    name: str
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Document:
    """A document that is said to refer to a blob.

    Args:
        database: its name.
        id: of the document.
    """

    database: str
    id: str


@dataclass(frozen=True, slots=True)
class Grants:
    """Which verbs each role has.

    Args:
        by_role: verbs by role; :data:`ANYBODY` for all that have a name.
        by_document: whether what everybody may read is only what a document refers
            to that they can read.
    """

    by_role: Mapping[str, frozenset[Verb]]
    by_document: bool = False

    def needs_document(self, user: User, verb: Verb) -> bool:
        """Allow, or say why not.

        Returns:
            Whether it still depends on a document.

        Raises:
            Denied: no role of this user has the verb.
        """
        if any(verb in self.by_role.get(role, ()) for role in user.roles):
            return False
        if verb in self.by_role.get(ANYBODY, ()):
            return self.by_document and verb in READS
        raise Denied(
            f"no role of the CouchDB user {user.name[:64]} may {verb.name} here",
            f"the operator grants it with --couchdb-grant ROLE={verb.value}",
        )


#: What holds where the operator grants nothing.
USUAL = Grants({"_admin": frozenset(Verb), ANYBODY: READS})


def credential_of(authorization: Sequence[str], cookies: Sequence[str]) -> Credential | None:
    """Return what a request brings for CouchDB; None if that is nothing.

    ``Authorization`` goes before a cookie: it was put there on purpose.

    Args:
        authorization: the field's values.
        cookies: the values of ``Cookie``.

    Raises:
        BadInput: there are several, or what is there makes no sense.
    """
    if len(authorization) > 1:
        raise BadInput("a request has one Authorization")
    if authorization:
        scheme, _, value = authorization[0].partition(" ")
        value = value.strip(" ")
        if scheme.lower() == "basic":
            return Credential("basic", value, _basic_name(value))
        if scheme.lower() == "bearer" and is_jwt(value):
            return Credential("bearer", value)
        return None
    values = {value for each in cookies for value in _sessions_in(each)} - {""}
    if len(values) > 1:
        raise BadInput(f"a request has one cookie {_COOKIE}")
    for value in values:
        if len(value) > LONGEST or not _COOKIE_VALUE.match(value):
            raise BadInput(f"the cookie {_COOKIE} makes no sense")
        return Credential("cookie", value)
    return None


def is_jwt(value: str) -> bool:
    """Whether a bearer token has the form of a JSON Web Token (RFC 7519): CouchDB's kind."""
    return len(value) <= LONGEST and _JWT.match(value) is not None


def _basic_name(value: str) -> str:
    if len(value) > LONGEST or not _TOKEN68.match(value):
        raise BadInput("what stands behind Basic makes no sense")
    try:
        decoded = base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise BadInput("what stands behind Basic makes no sense") from None
    name, colon, _ = decoded.partition(":")
    if not colon or not 0 < len(name) <= LONGEST_NAME:
        raise BadInput("what stands behind Basic is no name and password")
    return name


def _sessions_in(field: str) -> Iterable[str]:
    for pair in field.split(";"):
        name, _, value = pair.strip(" \t").partition("=")
        if name == _COOKIE:
            yield value.strip(" \t").removeprefix('"').removesuffix('"')


def parse_session(body: bytes) -> User | None:
    """Return who CouchDB says somebody is; None for nobody.

    Args:
        body: of the answer to ``GET /_session``.

    Raises:
        ValueError: that is no such answer.
    """
    session = _parsed(body)
    context = session.get("userCtx") if isinstance(session, dict) else None
    if not isinstance(context, dict) or "name" not in context:
        raise ValueError("it has no userCtx with a name")
    name, roles = context["name"], context.get("roles", [])
    if name is None:
        return None
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        raise ValueError("its name is no name")
    if not isinstance(roles, list) or len(roles) > MOST_ROLES:
        raise ValueError("its roles are no list")
    if not all(isinstance(role, str) for role in roles):
        raise ValueError("a role is no text")
    # Nobody has the role that stands for everybody.
    return User(name, frozenset(roles) - {ANYBODY})


def _parsed(body: bytes) -> object:
    """Parse JSON; what is nested beyond all measure is none."""
    try:
        found: object = json.loads(body)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return found


def document_of(database: str | None, document: str | None) -> Document:
    """Return the document that a request names.

    Raises:
        Denied: it names none.
        BadInput: there can be none of that name, or it is one of CouchDB's own.
    """
    if database is None or document is None:
        raise Denied(
            "a CouchDB user reads here what a document refers to",
            "name one that you can read: ?db=DATABASE&doc=DOCUMENT",
        )
    if not _DATABASE.match(database):
        raise BadInput("db= is no name of a database")
    if not 0 < len(document) <= _LONGEST_DOCUMENT_ID or document.startswith("_"):
        raise BadInput("doc= is no id of a document")
    return Document(database, document)


def refers(body: bytes, digest_hex: str) -> bool:
    """Whether a document refers to a blob.

    It does if a member of its ``dtfc`` has the blob's ``sha512``: the answer to a
    PUT, kept under the file's name.

    Args:
        body: the document, as CouchDB has it.
        digest_hex: in lower case.

    Raises:
        ValueError: that is no document.
    """
    document = _parsed(body)
    if not isinstance(document, dict):
        raise ValueError("it is no object")  # noqa: TRY004 -- what came is wrong, not our types
    if document.get("_deleted") is True:
        return False
    files = document.get("dtfc")
    if not isinstance(files, dict):
        return False
    return any(
        isinstance(each, dict)
        and isinstance(each.get("sha512"), str)
        and each["sha512"].lower() == digest_hex
        for each in files.values()
    )
