"""Who may do what.

Rules of this file: a decision depends on its arguments alone. What has to be
looked up (does a deny file exist?) is asked through a callable that was handed
in, on each request, as operators who ``touch`` such a file expect.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dtfc.access.sessions import USUAL, Grants, User
from dtfc.access.tokens import NamesNeeded, Target, Token
from dtfc.access.verbs import WRITES, Verb
from dtfc.errors import Denied, NoCredentials

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a request comes from.

    Args:
        address: of the connection; None for a UNIX socket.
        forwarded: the X-Forwarded-For values, in order, if there are any.
        foreign: a browser says that a page of another site makes this request.
        rebound: it is made under a host name that may have been made to point here
            (DNS rebinding), perhaps for a page in a browser, so that it comes from
            this machine proves nothing.
        peer: its signature says that a peer makes it.
        link: its URL is signed for what it asks.
        token: the one it brings, if it brings one that this node knows.
        user: who CouchDB says it is, if that was asked.
        by_cookie: it is that user by a cookie, which a browser sends by itself.
        says_page: a browser says for which page it asks.
        is_form: it is a POST, which a browser sends to any site without asking it first.
    """

    address: str | None
    forwarded: tuple[str, ...] = ()
    foreign: bool = False
    rebound: bool = False
    peer: bool = False
    link: bool = False
    token: Token | None = None
    user: User | None = None
    by_cookie: bool = False
    says_page: bool = False
    is_form: bool = False


@dataclass(frozen=True, slots=True)
class DocumentNeeded:
    """What a user's permission still depends on: a document that refers to the blob."""


@dataclass(frozen=True, slots=True)
class UserNeeded:
    """What a permission still depends on: who somebody is that says nothing else."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configuration says about access.

    Args:
        deny_prefix: deny files are this prefix and a verb; empty for none.
        anonymous: verbs that anybody may use from anywhere.
        trusted_proxies: networks whose X-Forwarded-For is believed.
        tokens: whether there are tokens, so that one would help.
        couchdb: whether CouchDB can say who somebody is.
        grants: what its users may do.
    """

    deny_prefix: str = ""
    anonymous: frozenset[Verb] = frozenset({Verb.GET, Verb.HEAD})
    trusted_proxies: tuple[Network, ...] = ()
    tokens: bool = False
    couchdb: bool = False
    grants: Grants = USUAL


def client_of(caller: Caller, trusted: Sequence[Network]) -> str | None:
    """Return the client's address, through the proxies whose word is believed.

    That is the right-most address of the chain that is no proxy of ours; if all
    are, the left-most.

    Returns:
        The connection's own address where nobody that is trusted says otherwise;
        None for a UNIX socket.
    """
    if caller.address is None or not caller.forwarded or not _within(caller.address, trusted):
        return caller.address
    chain = [part.strip() for value in caller.forwarded for part in value.split(",")]
    for address in reversed(chain):
        if not _within(address, trusted):
            break
    # What is no address came through unchecked; it reaches no log.
    return address if _parse(address) is not None else "unknown"


def is_from(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of some networks."""
    return _within(address, networks)


def is_local(caller: Caller, trusted: Sequence[Network]) -> bool:
    """Whether a caller is a process on this machine.

    A connection from loopback that says it forwards for somebody else is that
    somebody: a reverse proxy on this machine must not make the world local. Who
    that is, is believed only of a trusted proxy.
    """
    if caller.rebound or not (caller.address is None or _is_loopback(caller.address)):
        return False
    if not caller.forwarded:
        return True
    believed = caller.address is not None and _within(caller.address, trusted)
    client = client_of(caller, trusted)
    return believed and client is not None and _is_loopback(client)


def check(
    policy: Policy,
    caller: Caller,
    verb: Verb,
    exists: Callable[[str], bool],
    target: Target | None = None,
) -> NamesNeeded | DocumentNeeded | UserNeeded | None:
    """Allow, or say why not.

    Args:
        policy: what the configuration says.
        caller: who asks.
        verb: what for.
        exists: whether a file of that path is there, or may be.
        target: what is asked for; None for what is no blob.

    Returns:
        What the answer still depends on; None if it is allowed.

    Raises:
        Denied: with the reason, and the flag that would allow it.
        NoCredentials: a token could allow it, and there is none.
    """
    if policy.deny_prefix and exists(policy.deny_prefix + verb.value):
        raise Denied(f"{verb.name} is switched off on this node by its operator (a deny file)")
    if caller.foreign and verb in WRITES:
        raise Denied("a page of another site may not change anything here")
    known = caller.peer or caller.link
    if verb in policy.anonymous or known or is_local(caller, policy.trusted_proxies):
        return None
    if caller.token is not None:
        return caller.token.check(verb, target)
    if caller.user is not None:
        return _check_user(policy.grants, caller, caller.user, verb)
    if policy.couchdb:
        return UserNeeded()
    if policy.tokens:
        raise NoCredentials(verb.name)
    if caller.rebound and is_local(replace(caller, rebound=False), policy.trusted_proxies):
        raise Denied(
            f"{verb.name} is allowed from this machine only under its own name, localhost or an "
            "address: any other name may have been made to point here",
            "the operator lists further names with --host",
        )
    raise Denied(
        f"{verb.name} is allowed only from this machine and from peers that sign",
        f"the operator opens it with --allow-anonymous {verb.value}, or for some with --tokens",
    )


def _check_user(grants: Grants, caller: Caller, user: User, verb: Verb) -> DocumentNeeded | None:
    """Allow what a user's roles allow, or say why not.

    A cookie goes along whoever made the request. Browsers say for which page they
    ask; one that is so old that it does not could be made to POST a form.
    """
    if verb in WRITES and caller.by_cookie and caller.is_form and not caller.says_page:
        raise Denied(
            "a form sent with a CouchDB cookie does not say which page it is on",
            "send Origin, or bring the name and password (Authorization: Basic)",
        )
    return DocumentNeeded() if grants.needs_document(user, verb) else None


def check_peer(policy: Policy, caller: Caller, *, signed_only: bool) -> None:
    """Allow what only peers may ask, or say why not.

    Args:
        policy: what the configuration says.
        caller: who asks.
        signed_only: this node shares a secret with its peers, so that coming
            from this machine is not enough.

    Raises:
        Denied: with the reason, and the flag that would help.
    """
    if caller.foreign:
        raise Denied("a page of another site may not change anything here")
    if caller.peer or (not signed_only and is_local(caller, policy.trusted_proxies)):
        return
    if signed_only:
        raise Denied("this is for peers only, and the request is not signed")
    raise Denied(
        "this is for peers only, and without a secret only this machine counts as one",
        "--peer-secret-file on both nodes lets peers sign their requests",
    )


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed


def _is_loopback(address: str) -> bool:
    parsed = _parse(address)
    return parsed is not None and parsed.is_loopback


def _within(address: str, networks: Sequence[Network]) -> bool:
    parsed = _parse(address)
    return parsed is not None and any(
        parsed.version == network.version and parsed in network for network in networks
    )
