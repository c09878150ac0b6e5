"""Bearer tokens: what stands in their file, and what each is good for.

Rules of this file: pure. The file has the SHA-256 of each token, so whoever
reads it has none. A token is 256 random bits, so its hash needs no salt and no
stretching. A file with a line that makes no sense is refused as a whole: half of
it would let in whom another line shuts out.

    # name  SHA-256 of the token  verbs     conditions
    camera  9f86d081884c7d...      put       names=photo-
    press   60303ae22b9988...      get,head  expires=2027-01-31
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from dtfc.access.verbs import Verb
from dtfc.errors import BadToken, Denied

#: What a token begins with, so that whoever finds one knows what it is.
BEGINNING = "dtfc_"

#: Random bytes of a token.
SIZE = 32

#: Most tokens in a file: each is compared with what a request brings.
MOST = 1000

#: Longest token that is looked at, in characters.
LONGEST = 512

#: What the log calls those that bring no token.
RESERVED = frozenset({"-", "peer", "signed-url"})

#: Most prefixes of one token.
MOST_PREFIXES = 64

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}\Z")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")
_PREFIX = re.compile(r"[0-9a-f]{1,128}\Z")
_LONGEST_NAME = 255

# RFC 6750 section 2.1.
_CREDENTIALS = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/-]+=*) *\Z")


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about.

    Args:
        digest: in hexadecimal, lower case; None if it is not known, or of nothing.
        name: that the request gives; None if it gives none.
    """

    digest: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class NamesNeeded:
    """What a token's permission still depends on: how the blob is called.

    Args:
        token: the name of the token.
        prefixes: one of which a name must begin with.
        every: whether all of its names must, as for a deletion: it takes the blob
            from whoever stored it under another name.
    """

    token: str
    prefixes: tuple[str, ...]
    every: bool

    def check(self, names: Collection[str]) -> None:
        """Allow, or say why not.

        Args:
            names: of the blob.

        Raises:
            Denied: it is not called so.
        """
        fits = [name.startswith(self.prefixes) for name in names]
        if not fits or not (all(fits) if self.every else any(fits)):
            how = "whose every name begins" if self.every else "of which a name begins"
            raise Denied(
                f"the token {self.token} is good for blobs {how} with {_one_of(self.prefixes)}"
            )


@dataclass(frozen=True, slots=True)
class Token:
    """One line.

    Args:
        name: what the log calls it.
        sha256: of the token.
        verbs: what it is good for.
        digests: beginnings of the digests that it is good for ...
        names: ... and of the names; for everything if both are empty.
        expires: seconds since 1970; None for never.
    """

    name: str
    sha256: bytes
    verbs: frozenset[Verb]
    digests: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    expires: float | None = None

    def check(self, verb: Verb, target: Target | None) -> NamesNeeded | None:
        """Allow, or say why not.

        Args:
            verb: what is to be done.
            target: what with; None for what is no blob.

        Returns:
            What is still to be looked at; None if it is allowed.

        Raises:
            Denied: it is not good for this.
        """
        if verb not in self.verbs:
            verbs = ", ".join(sorted(each.name for each in self.verbs))
            raise Denied(f"the token {self.name} is good for {verbs}, not for {verb.name}")
        if not self.digests and not self.names:
            return None
        digest, name = (None, None) if target is None else (target.digest, target.name)
        if digest is not None and digest.startswith(self.digests):
            return None
        if verb is Verb.PUT:
            if name is not None and name.startswith(self.names):
                return None
        elif self.names and digest is not None:
            return NamesNeeded(self.name, self.names, every=verb is Verb.DELETE)
        raise Denied(f"the token {self.name} is good for {self._scope()} only")

    def _scope(self) -> str:
        parts = []
        if self.digests:
            parts.append(f"digests that begin with {_one_of(self.digests)}")
        if self.names:
            parts.append(f"names that begin with {_one_of(self.names)}")
        return " and ".join(parts)


class Tokens:
    """The tokens of a file.

    Args:
        tokens: each with a name and a hash of its own.
    """

    def __init__(self, tokens: Iterable[Token] = ()) -> None:
        self._tokens = tuple(tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def find(self, credentials: str, now: float) -> Token | None:
        """Return whose an ``Authorization`` is; None if it is of another scheme.

        It is compared with every token, each in constant time.

        Args:
            credentials: the field's value.
            now: seconds since 1970.

        Raises:
            BadToken: it is nobody's, or was somebody's.
        """
        if credentials[:6].lower() != "bearer":
            return None
        match = _CREDENTIALS.match(credentials) if len(credentials) <= LONGEST else None
        if match is None:
            raise BadToken("what stands behind Bearer is no token")
        hashed = hashlib.sha256(match[1].encode("ascii")).digest()
        found: Token | None = None
        for each in self._tokens:
            if hmac.compare_digest(each.sha256, hashed):
                found = each
        if found is None:
            raise BadToken("this node does not know this token")
        if found.expires is not None and now >= found.expires:
            raise BadToken(f"the token {found.name} has expired")
        return found


def line_of(token: Token) -> str:
    """Return the line of the file that stands for a token."""
    words = [token.name, token.sha256.hex(), ",".join(sorted(v.value for v in token.verbs))]
    if token.digests:
        words.append(f"digests={','.join(token.digests)}")
    if token.names:
        words.append(f"names={','.join(token.names)}")
    if token.expires is not None:
        until = dt.datetime.fromtimestamp(token.expires, dt.UTC)
        words.append(f"expires={until.isoformat(timespec='seconds').replace('+00:00', 'Z')}")
    return " ".join(words)


def parse_tokens(text: str) -> tuple[Tokens, list[tuple[int, str]]]:
    """Read a file of tokens.

    Args:
        text: the whole of it.

    Returns:
        The tokens, and what is wrong: the number of each line that makes no
        sense, and why. If there is any, the tokens are not to be used.
    """
    tokens: dict[str, Token] = {}
    bad: list[tuple[int, str]] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        words = re.sub(r"(?:^|(?<=\s))#.*", "", line).split()
        if not words:
            continue
        try:
            _add(_parse(words), tokens)
        except ValueError as error:
            bad.append((number, str(error)))
            if len(tokens) == MOST:
                break
    return Tokens(tokens.values()), bad


def _add(token: Token, tokens: dict[str, Token]) -> None:
    if len(tokens) == MOST:
        raise ValueError(f"there are more than {MOST} tokens")
    if token.name in tokens:
        raise ValueError(f"there is a token {token.name} already")
    for other in tokens.values():
        if other.sha256 == token.sha256:
            raise ValueError(f"the token {other.name} has this SHA-256 already")
    tokens[token.name] = token


def parse_token(name: str, sha256: str, verbs: str, conditions: Iterable[str] = ()) -> Token:
    """Return the token that the words of a line describe.

    Raises:
        ValueError: a word makes no sense; the message says which.
    """
    if not _NAME.match(name):
        raise ValueError("a token's name is 1 to 64 letters, digits, '.', '_', '@' or '-'")
    if name in RESERVED:
        raise ValueError(f"{name!r} is what the log calls somebody else")
    if not _SHA256.match(sha256):
        raise ValueError("behind the name stands the token's SHA-256, 64 hexadecimal digits")
    told: dict[str, str] = {}
    for word in conditions:
        key, equals, value = word.partition("=")
        if key not in ("digests", "names", "expires") or not equals:
            raise ValueError(f"{word!r} is neither digests=, names= nor expires=")
        if key in told:
            raise ValueError(f"{key}= is written twice")
        told[key] = value
    return Token(
        name,
        bytes.fromhex(sha256),
        _verbs(verbs),
        _digests(told["digests"]) if "digests" in told else (),
        _names(told["names"]) if "names" in told else (),
        when(told["expires"]) if "expires" in told else None,
    )


def when(text: str) -> float:
    """Return the moment that a date means, in seconds since 1970.

    Args:
        text: ``2027-01-31`` (midnight, UTC), or with a time and ``Z`` or an offset.

    Raises:
        ValueError: it is neither.
    """
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or (moment.tzinfo is None and len(text) != len("2027-01-31")):
        raise ValueError("expires= is a date, 2027-01-31, or one with a time, 2027-01-31T18:00:00Z")
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def _parse(words: list[str]) -> Token:
    if len(words) < 3:
        raise ValueError("a line has a name, the SHA-256 of the token, and its verbs")
    return parse_token(words[0], words[1], words[2], words[3:])


def _verbs(text: str) -> frozenset[Verb]:
    found = set()
    for word in text.split(","):
        try:
            found.add(Verb(word))
        except ValueError:
            known = ", ".join(each.value for each in Verb)
            raise ValueError(f"{word!r} is none of the verbs {known}") from None
    return frozenset(found)


def _digests(text: str) -> tuple[str, ...]:
    found = tuple(text.lower().split(","))
    if len(found) > MOST_PREFIXES or not all(map(_PREFIX.match, found)):
        raise ValueError(
            f"digests= is 1 to {MOST_PREFIXES} beginnings of digests, such as ab12,cd34"
        )
    return found


def _names(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    if len(found) > MOST_PREFIXES or not all(0 < len(each) <= _LONGEST_NAME for each in found):
        raise ValueError(
            f"names= is 1 to {MOST_PREFIXES} beginnings of names, such as photo-,scan-"
        )
    return found


def _one_of(prefixes: tuple[str, ...]) -> str:
    return " or ".join(map(repr, prefixes))
