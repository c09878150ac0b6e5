"""Signed URLs: whoever has one may do one thing with one blob or name, for a while.

Rules of this file: pure. What is signed is the verb, and the path and query as
they stand in the URL up to the signature, which comes last: so nothing of them
can be changed, added or left out, however others would read it.

    /<sha512>?name=photo.jpg&expires=1795395218&sig=kq0…
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import re
from collections.abc import Sequence

from dtfc.access.verbs import Verb
from dtfc.errors import Denied

#: What is signed begins with this, so that no other use of a secret can be taken for it.
_BEGINNING = b"dtfc url\n"

_EXPIRES = re.compile(r"(?:^|&)expires=([0-9]{1,12})(?=&|\Z)")
_NETWORK = re.compile(r"(?:^|&)network=([0-9A-Fa-f.:/]+)(?=&|\Z)")
_SIGNATURE = re.compile(r"(?:^|&)sig=([^&]*)\Z")
_ANY_SIGNATURE = re.compile(r"([?&])sig=[^& ]*")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def sign_link(
    key: bytes, verb: Verb, path: str, expires: int, *, query: str = "", network: str = ""
) -> str:
    """Return path and query of a URL that may be used.

    Args:
        key: the secret.
        verb: what for; a URL for GET is good for HEAD, too.
        path: escaped as in the URL.
        expires: seconds since 1970 at which it is no longer good.
        query: what else is to stand in it, escaped, such as ``name=photo.jpg``.
        network: the clients it is for, as CIDR or an address; empty for all.

    Raises:
        ValueError: there is a signature in it already, or no such network.
    """
    if _mentions_signature(query) or _EXPIRES.search(query) or _NETWORK.search(query):
        raise ValueError("this URL is signed already")
    if "?" in path or "#" in path:
        raise ValueError("a path has no ? and no #")
    parts = [part for part in (query, f"expires={expires}") if part]
    if network:
        parts.append(f"network={ipaddress.ip_network(network)}")
    signed = f"{path}?{'&'.join(parts)}"
    return f"{signed}&sig={_signature(key, verb, signed)}"


def check_link(
    keys: Sequence[bytes], verb: Verb, target: str, client: str | None, now: float
) -> float | None:
    """Return for how many seconds a URL may still be used; None if it has no signature.

    Args:
        keys: the secrets, of which any may have signed it.
        verb: what is to be done.
        target: path and query, as they came.
        client: the address of who asks; None if that is not known.
        now: seconds since 1970.

    Raises:
        Denied: it was signed for something else, or for somebody else, or is too old.
    """
    path, _, query = target.partition("?")
    if not _mentions_signature(query):
        return None
    match = _SIGNATURE.search(query)
    query = query[: match.start()] if match else ""
    signed = f"{path}?{query}" if match else ""
    given = match[1].encode("ascii", "replace") if match else b""
    by_verb = Verb.GET if verb is Verb.HEAD else verb
    right = [
        hmac.compare_digest(_signature(key, by_verb, signed).encode("ascii"), given) for key in keys
    ]
    if not any(right):
        raise Denied("this URL's signature does not fit it: it was changed, or is for another verb")
    expires, network = _EXPIRES.search(query), _NETWORK.search(query)
    if expires is None or now >= int(expires[1]):
        raise Denied("this URL was good until a while ago only")
    if network is not None and not _within(client, network[1]):
        raise Denied("this URL is for clients of another network")
    return int(expires[1]) - now


def without_signature(target: str) -> str:
    """Return path and query as a log may have them: nobody can use them from there."""
    return _ANY_SIGNATURE.sub(r"\1sig=-", target)


def _mentions_signature(query: str) -> bool:
    return query.startswith("sig=") or "&sig=" in query


def _signature(key: bytes, verb: Verb, signed: str) -> str:
    message = _BEGINNING + f"{verb.name}\n{signed}".encode("latin-1", "replace")
    return base64.urlsafe_b64encode(hmac.digest(key, message, "sha256")).rstrip(b"=").decode()


def _within(client: str | None, network: str) -> bool:
    try:
        address = ipaddress.ip_address((client or "").partition("%")[0])
        allowed = ipaddress.ip_network(network)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.version == allowed.version and address in allowed
