"""Requests that nodes sign for one another: RFC 9421, with hmac-sha256.

Rules of this file: pure. No clock and no random: ``now`` and the nonce are
handed in. A request is signed as a whole or not at all: method, authority,
path and query always; the body by its Content-Digest; and every field that
changes what the request means (:func:`covered_fields`). A verifier demands the
same of what it got, so that nothing can be added on the way either. What is
compared with a secret's work is compared in constant time.

The grammar is the part of RFC 9421 that two dtfc nodes need; other signatures
in the same fields (a proxy's) are passed over. Ours is known by its ``tag``,
since a label means nothing (RFC 9421 section 2.3).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dtfc.errors import BadInput, BadSignature
from dtfc.http.digests import parse_digest_field

TAG = "dtfc-peer"
"""What marks a signature as a node's."""

SHORTEST_SECRET = 32
"""Bytes: 128 bits of randomness in hexadecimal."""

MOST_SECRETS = 16
"""Secrets in a file: each is one more that opens the door."""

_ALGORITHM = "hmac-sha256"
_ALWAYS = ("@method", "@authority", "@path", "@query")

#: Fields that change what a request means, beside those that begin with ``dtfc-``.
_MEANING = frozenset(
    {
        "content-digest",
        "content-encoding",
        "content-range",
        "content-type",
        "digest",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "range",
        "repr-digest",
    }
)
_OURS = "dtfc-"

# RFC 9651, of which RFC 9421 uses inner lists of strings with parameters.
_STRING = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*+"'
_BARE = (
    rf"(?:{_STRING}|:[A-Za-z0-9+/=]*+:|-?[0-9]{{1,15}}(?:\.[0-9]{{1,3}})?+|\?[01]"
    r"|[A-Za-z*][!#-'*+\-.0-9A-Z^-z|~:/]*+)"
)
_KEY = r"[a-z*][a-z0-9_\-.*]*+"
_PARAMETERS = rf"(?:; *+{_KEY}(?:={_BARE})?+)*+"
_LIST = rf"\( *+(?:{_STRING}{_PARAMETERS} *+)*+\)"
_INPUT = re.compile(rf"({_KEY})=({_LIST})({_PARAMETERS})")
_SIGNATURE = re.compile(rf"({_KEY})=:([A-Za-z0-9+/=]*+):({_PARAMETERS})")
_COMMA = re.compile(r"[ \t]*+,[ \t]*+")
_PLAIN_LIST = re.compile(r'\((?:"[a-z0-9@_.-]++"(?: (?=")|(?=\))))*+\)')
_PARAMETER = re.compile(rf"; *+({_KEY})(?:=({_BARE}))?+")
_LONGEST = 4096
_NONCE = re.compile(r'"([0-9a-f]{16})\.([0-9]{1,18})"\Z')


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets that nodes share.

    Args:
        keys: at least one; the first signs, each is accepted.
    """

    keys: tuple[bytes, ...] = field(repr=False)

    @property
    def signing(self) -> bytes:
        """The one that signs."""
        return self.keys[0]

    def by_id(self, key_id: str) -> bytes | None:
        """Return the secret of that name, if it is one of these."""
        return next((key for key in self.keys if key_id_of(key) == key_id), None)


def key_id_of(key: bytes) -> str:
    """Return the public name of a secret, by which a verifier finds it (``keyid``)."""
    return hmac.digest(key, b"dtfc keyid", "sha256").hex()[:16]


def parse_secrets(text: bytes) -> Secrets:
    """Read the text of a secret file: a secret a line, ``#`` comments, the first one signs.

    Raises:
        ValueError: with a sentence that names the line, and never the secret.
    """
    keys: list[bytes] = []
    for number, line in enumerate(text.split(b"\n"), start=1):
        secret = line.strip()
        if not secret or secret.startswith(b"#"):
            continue
        if len(secret) < SHORTEST_SECRET:
            raise ValueError(
                f"line {number}: a secret has at least {SHORTEST_SECRET} characters "
                f"(openssl rand -hex 32 makes one), this one has {len(secret)}"
            )
        if secret not in keys:
            keys.append(secret)
    if not keys:
        raise ValueError("holds no secret (openssl rand -hex 32 makes one)")
    if len(keys) > MOST_SECRETS:
        raise ValueError(f"holds more than {MOST_SECRETS} secrets")
    return Secrets(tuple(keys))


@dataclass(frozen=True, slots=True)
class Message:
    """What of a request is signed.

    Args:
        method: in upper case.
        path: raw, as in the request line; ``/`` at least.
        query: raw, without its question mark; None if there is none.
        fields: values by lower-case name.
        has_body: whether a body follows.
    """

    method: str
    path: str
    query: str | None
    fields: Mapping[str, Sequence[str]]
    has_body: bool


@dataclass(frozen=True, slots=True)
class Proof:
    """What a signature that holds says.

    Args:
        sender: 16 hexadecimal digits, chosen by the sending process at its start.
        number: how many requests that process had signed by then.
        created: seconds since 1970, by the sender's clock.
    """

    sender: str
    number: int
    created: int


@dataclass(frozen=True, slots=True)
class PeerTerms:
    """What a node demands of requests that say they come from a peer.

    Args:
        secrets: one of them signed; None where none is shared, and then no
            signature is looked at.
        skew: seconds that the sender's clock may be off.
        own: what ``@authority`` may be; empty if this node does not know its
            own address.
    """

    secrets: Secrets | None = None
    skew: float = 10800
    own: frozenset[str] = frozenset()


def covered_fields(fields: Iterable[str]) -> list[str]:
    """Return those fields, in order, that a signature has to cover.

    Args:
        fields: names in lower case.
    """
    return sorted(name for name in fields if name in _MEANING or name.startswith(_OURS))


def sign(
    key: bytes, message: Message, authority: str, proof: Proof
) -> tuple[tuple[str, str], tuple[str, str]]:
    """Sign a request.

    Args:
        key: the secret.
        message: the request; with a body, it must have a ``content-digest``.
        authority: host and perhaps port that it is sent to (:func:`authority_of`).
        proof: who signs when, and the how manieth request it is.

    Returns:
        The two fields to be added, each a name and a value.

    Raises:
        ValueError: a body without ``content-digest``: nobody could tell if it
            was exchanged.
    """
    if message.has_body and "content-digest" not in message.fields:
        raise ValueError("a signed request with a body needs Content-Digest")
    names = [*_ALWAYS, *covered_fields(message.fields)]
    parameters = (
        f"({' '.join(_quoted(name) for name in names)});created={proof.created}"
        f';nonce="{proof.sender}.{proof.number}";keyid="{key_id_of(key)}"'
        f';alg="{_ALGORITHM}";tag="{TAG}"'
    )
    mac = _mac(key, message, authority, names, parameters)
    encoded = base64.b64encode(mac).decode("ascii")
    return ("Signature-Input", f"dtfc={parameters}"), ("Signature", f"dtfc=:{encoded}:")


def verify(
    terms: PeerTerms, message: Message, authorities: Iterable[str], now: float
) -> Proof | None:
    """Say who signed a request.

    That it was not sent twice is for :class:`dtfc.access.replays.Senders` to say.

    Args:
        terms: what is demanded.
        message: the request as it came.
        authorities: those for which it may have been meant.
        now: seconds since 1970, by this node's clock.

    Returns:
        What the signature says; None if no node signed it, or none has to.

    Raises:
        BadSignature: a node is said to have signed it, and that does not hold.
    """
    if terms.secrets is None:
        return None
    found = _ours(message.fields.get("signature-input", ()))
    if found is None:
        return None
    label, listed, text = found
    names = _components(listed)
    parameters = _parameters(text)
    _check_coverage(message, names)
    key = terms.secrets.by_id(parameters.get("keyid", "").strip('"'))
    if key is None:
        raise BadSignature("it is signed with a secret that this node does not have")
    if parameters.get("alg", _quoted(_ALGORITHM)) != _quoted(_ALGORITHM):
        raise BadSignature(f"its alg is not {_ALGORITHM}")
    mac = _signature(message.fields.get("signature", ()), label)
    if not any(
        hmac.compare_digest(mac, _mac(key, message, each, names, listed + text))
        for each in authorities
    ):
        raise BadSignature(
            "the signature does not match: the request was altered on its way, "
            "or was meant for another node (its authority is not this node's)"
        )
    return _in_time(parameters, now, terms.skew)


def authority_of(url: str) -> str:
    """Return what RFC 9421 section 2.2.3 calls the authority of an origin.

    Args:
        url: begins with ``http://host`` or ``https://host``.
    """
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0].lower()
    default = {"http": ":80", "https": ":443"}.get(scheme.lower(), "")
    return authority.removesuffix(default) if default else authority


def authorities_at(host: str, port: int) -> tuple[str, ...]:
    """Return the authorities of whoever listens on an address and port.

    Whether a proxy in front speaks TLS is not known here, so a default port may
    have been left out.
    """
    mapped = host.lower().partition("%")[0].removeprefix("::ffff:")
    plain = f"[{mapped}]" if ":" in mapped else mapped
    with_port = f"{plain}:{port}"
    return (with_port, plain) if port in (80, 443) else (with_port,)


# -- the grammar --------------------------------------------------------------


def _members(pattern: re.Pattern[str], values: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Read a dictionary whose members all match a pattern; of one key the last counts.

    Raises:
        BadSignature: it is none, or is longer than any that makes sense.
    """
    text = ", ".join(values).strip(" ")
    if len(text) > _LONGEST:
        raise BadSignature(f"its signature fields are longer than {_LONGEST} characters")
    members: dict[str, tuple[str, str]] = {}
    position = 0
    while position < len(text):
        match = pattern.match(text, position)
        if match is None:
            raise BadSignature("its signature fields are malformed")
        members[match[1]] = match[2], match[3]
        position = match.end()
        if position == len(text):
            break
        comma = _COMMA.match(text, position)
        if comma is None or comma.end() == len(text):
            raise BadSignature("its signature fields are malformed")
        position = comma.end()
    return members


def _parameters(text: str) -> dict[str, str]:
    """Return the parameters as they stand: strings in their quotes."""
    return dict(_PARAMETER.findall(text))


def _ours(values: Sequence[str]) -> tuple[str, str, str] | None:
    """Find the one signature that a node made: label, list of components, parameters."""
    if not any(TAG in value for value in values):
        return None
    found = [
        (label, names, parameters)
        for label, (names, parameters) in _members(_INPUT, values).items()
        if _parameters(parameters).get("tag") == _quoted(TAG)
    ]
    if len(found) > 1:
        raise BadSignature("two nodes are said to have signed it")
    return found[0] if found else None


def _components(names: str) -> list[str]:
    """Take apart the list of what a signature covers."""
    if _PLAIN_LIST.fullmatch(names) is None:
        raise BadSignature("it covers something in a way that this node does not know")
    components = [each.strip('"') for each in names.strip("()").split()]
    if len(set(components)) < len(components):
        raise BadSignature("it covers something twice")
    return components


def _signature(values: Sequence[str], label: str) -> bytes:
    found = _members(_SIGNATURE, values).get(label)
    if found is None:
        raise BadSignature("its Signature field is missing")
    try:
        return base64.b64decode(found[0], validate=True)
    except binascii.Error:
        raise BadSignature("its Signature field is not base64") from None


# -- the rules ----------------------------------------------------------------


def _check_coverage(message: Message, names: Sequence[str]) -> None:
    for name in (*_ALWAYS, *covered_fields(message.fields)):
        if name not in names:
            raise BadSignature(f"its signature does not cover {name}")
    for name in names:
        if name not in _ALWAYS and name not in message.fields:
            raise BadSignature(f"its signature covers {name}, which it does not have")
    if not message.has_body:
        return
    try:
        digests = parse_digest_field(message.fields.get("content-digest", ()))
    except BadInput as error:
        raise BadSignature(f"its Content-Digest cannot be read: {error}") from None
    if not digests:
        raise BadSignature("its body has no Content-Digest of SHA-512 or SHA-256")


def _in_time(parameters: Mapping[str, str], now: float, skew: float) -> Proof:
    created = parameters.get("created", "")
    nonce = _NONCE.match(parameters.get("nonce", ""))
    if not (created.isascii() and created.isdecimal()) or nonce is None:
        raise BadSignature("its signature has no usable created and nonce")
    off = int(created) - now
    if abs(off) > skew:
        raise BadSignature(
            f"it was signed {abs(off):.0f} seconds {'after' if off > 0 else 'before'} now, by this "
            f"node's clock; --peer-clock-skew allows {skew:g}"
        )
    return Proof(nonce[1], int(nonce[2]), int(created))


def _quoted(name: str) -> str:
    return f'"{name}"'


def _mac(
    key: bytes, message: Message, authority: str, names: Sequence[str], parameters: str
) -> bytes:
    base = signature_base(message, authority, names, parameters)
    return hmac.digest(key, base, "sha256")


def signature_base(
    message: Message, authority: str, names: Sequence[str], parameters: str
) -> bytes:
    """Return the text that is signed (RFC 9421 section 2.5)."""
    derived = {
        "@method": message.method,
        "@authority": authority,
        "@path": message.path,
        "@query": f"?{message.query or ''}",
    }
    lines = [f'"{name}": {derived.get(name) or _value(message, name)}' for name in names]
    lines.append(f'"@signature-params": {parameters}')
    return "\n".join(lines).encode("latin-1", "backslashreplace")


def _value(message: Message, name: str) -> str:
    return ", ".join(value.strip() for value in message.fields.get(name, ()))
