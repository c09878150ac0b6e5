"""Asks whether a request may do what it wants, before anything else happens."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from twisted.logger import Logger

from dtfc.access.buckets import site_of
from dtfc.access.decisions import (
    Caller,
    DocumentNeeded,
    Policy,
    UserNeeded,
    check,
    check_peer,
    client_of,
)
from dtfc.access.links import check_link
from dtfc.access.replays import Senders, size_for
from dtfc.access.sessions import Credential, credential_of, document_of, is_jwt
from dtfc.access.signatures import Message, PeerTerms, Secrets, authorities_at, verify
from dtfc.access.tokens import NamesNeeded, Target, Token, Tokens
from dtfc.access.verbs import WRITES, Verb
from dtfc.errors import (
    BadInput,
    BadSession,
    BadSignature,
    BadToken,
    CouchUnreached,
    Denied,
    DtfcError,
    NoCredentials,
    TooManyFailures,
    TooManyRequests,
    TooManySenders,
)
from dtfc.peers.certificates import shows_certificate

if TYPE_CHECKING:
    from dtfc.access.sessions import User
    from dtfc.couchdb.entering import Entries
    from dtfc.couchdb.sessions import Sessions
    from dtfc.web.callers import Callers
    from dtfc.web.request import Request

_log = Logger()

#: The log tells of a signature that does not hold at most this often, in seconds.
COMPLAINT_SECONDS = 10.0

#: Longest cookie that is handed back, in characters.
LONGEST_COOKIE = 8192

#: Longest name of a user in the log, in characters.
LONGEST_PRINCIPAL = 128

#: Methods that change nothing.
READS = frozenset({b"GET", b"HEAD", b"OPTIONS"})

#: What comes of asking the gate. ``busy``: it cannot be said now.
CHECKS = ("allowed", "denied", "unauthenticated", "invalid", "limited", "busy")

_SAYS_NO: tuple[tuple[type[DtfcError] | tuple[type[DtfcError], ...], str], ...] = (
    (NoCredentials, "unauthenticated"),
    ((BadToken, BadSession, BadSignature, BadInput), "invalid"),
    (Denied, "denied"),
    ((TooManyRequests, TooManyFailures, TooManySenders), "limited"),
)

#: What this machine calls itself: nobody else's DNS makes these names.
OWN_NAMES = {socket.gethostname().lower(), socket.gethostname().lower().partition(".")[0]}

#: Fields that only a proxy sets.
_SIGNS_OF_A_PROXY = (
    "forwarded",
    "via",
    "x-real-ip",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-server",
)


class Replays(Protocol):
    """Remembers signed requests: :class:`dtfc.access.replays.Senders`, or one shared."""

    def note(self, sender: str, number: int, until: float, now: float) -> None:
        """Remember a request that is about to be obeyed.

        Raises:
            BadSignature: it came before.
            TooManySenders: nothing more can be remembered.
            Busy: another process is at it.
        """


class Gate:
    """The policy in force, applied to requests.

    Args:
        policy: replaced as a whole when the configuration is read again.
        terms: what proves that a peer asks; replaced likewise.
        now: tells the seconds since 1970.

    Attributes:
        url_secrets: what URLs are signed with; None where none are. Replaced likewise.
        tokens: those that are good for something; replaced likewise.
        sessions: asks CouchDB who somebody is; None where it is not asked.
        entries: enters files in its documents; None likewise.
        callers: holds each to what it may take; None where nobody is held to anything.
        certificates: whether peers are known by certificates.
        replays: remembers what was signed: what all processes of the node
            share. None: this process does so for itself.
        checks: how often it was asked, by what came of it (:data:`CHECKS`).
    """

    def __init__(
        self,
        policy: Policy,
        terms: PeerTerms | None = None,
        now: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.policy = policy
        self.terms = terms or PeerTerms()
        self.tokens = Tokens()
        self.url_secrets: Secrets | None = None
        self.replays: Replays | None = None
        self.certificates = False
        self.callers: Callers | None = None
        self.sessions: Sessions | None = None
        self.entries: Entries | None = None
        self.checks = dict.fromkeys(CHECKS, 0)
        self._now = now
        self._complained = -COMPLAINT_SECONDS

    async def let_in(
        self, request: Request, verb: Verb, target: Target | None = None
    ) -> NamesNeeded | None:
        """Return if the request's sender may do this; ask CouchDB if it depends on that.

        Args:
            request: whose.
            verb: what is to be done.
            target: what with; None for what is no blob.

        Returns:
            What it still depends on; None if it may.

        Raises:
            DtfcError: as :meth:`admit` and :meth:`ask_couchdb`.
        """
        needed = self.admit(request, verb, target)
        if isinstance(needed, UserNeeded):
            await self.ask_couchdb(request, verb, target)
            return None
        return needed

    def admit(
        self, request: Request, verb: Verb, target: Target | None = None
    ) -> NamesNeeded | UserNeeded | None:
        """Return if the request's sender may do this, as far as that can be said at once.

        Deny files are looked at on each request: one stat of a path that the
        kernel has cached, so it is done on the loop.

        Args:
            request: whose.
            verb: what is to be done.
            target: what with; None for what is no blob.

        Returns:
            What it still depends on; None if it may. For a user of CouchDB there is
            :meth:`ask_couchdb`.

        Raises:
            Denied: it may not.
            NoCredentials: it says nothing of who it is.
            BadToken: its token is unknown, or has expired.
            BadSignature: it wants to write, and is said to come from a peer,
                but does not prove it.
            TooManySenders, Busy: whether it came before cannot be said now.
            TooManyRequests: it asks more often than it may.
        """
        try:
            needed = self._admit(request, verb, target)
        except DtfcError as error:
            self._count(error)
            raise
        if needed is None:
            self.checks["allowed"] += 1
        return needed

    def check_names(self, needed: NamesNeeded, names: Sequence[str]) -> None:
        """Return if what depends on a blob's names may be done.

        Raises:
            Denied: it may not.
        """
        try:
            needed.check(names)
        except DtfcError as error:
            self._count(error)
            raise
        self.checks["allowed"] += 1

    def _count(self, error: DtfcError) -> None:
        self.checks[next((name for kind, name in _SAYS_NO if isinstance(error, kind)), "busy")] += 1

    def _admit(
        self, request: Request, verb: Verb, target: Target | None
    ) -> NamesNeeded | UserNeeded | None:
        caller = caller_of(request)
        caller = replace(
            caller, link=self._is_link(request, caller, verb), token=self._token_of(request)
        )
        if caller.foreign and caller.token is not None and self._is_listed(request):
            # It brings a token, which no browser does by itself: that counts, and nothing else;
            # not that its reader happens to sit at this machine.
            caller = replace(caller, foreign=False, rebound=True)
        if self.callers is not None and (caller.link or caller.token is not None):
            self.callers.ask_principal(request)
        # Nobody compares a form with its Content-Digest, and no peer sends one.
        closed = verb in WRITES or verb not in self.policy.anonymous
        if closed and request.method != b"POST":
            caller = replace(caller, peer=self._is_signed(request))
        request.for_all = verb in self.policy.anonymous
        if not request.for_all:
            # What is let in by its address must not be read by whatever page is open there.
            request.hide_from_strangers()
        needed = check(self.policy, caller, verb, may_exist, target)
        if isinstance(needed, DocumentNeeded):  # only a user's
            raise NoCredentials(verb.name)
        return needed

    @staticmethod
    def _is_listed(request: Request) -> bool:
        origin = request.field("origin")
        return len(origin) == 1 and request.site.edge.lists(origin[0])

    async def ask_couchdb(self, request: Request, verb: Verb, target: Target | None) -> None:
        """Return if whom CouchDB knows the request's sender for may do this.

        Raises:
            Denied: that user may not.
            NoCredentials: it brings nothing that CouchDB could know it by.
            BadSession: CouchDB knows nobody by it.
            BadInput: it makes no sense.
            TooManyFailures, TooManyRequests: its sender was wrong, or here, too often.
            CouchUnreached: CouchDB does not answer.
            TooLarge: the document is larger than this node reads.
        """
        try:
            await self._ask_couchdb(request, verb, target)
        except DtfcError as error:
            self._count(error)
            raise
        self.checks["allowed"] += 1

    async def _ask_couchdb(self, request: Request, verb: Verb, target: Target | None) -> None:
        policy, sessions = self.policy, self.sessions
        needed = NoCredentials(verb.name, couchdb=True, tokens=policy.tokens)
        credential, user = await self.couchdb_user(request, needed)
        caller = replace(
            caller_of(request),
            user=user,
            by_cookie=credential.kind == "cookie",
            is_form=request.method == b"POST",
            says_page=any(map(request.field, ("origin", "sec-fetch-site"))),
        )
        depends = check(policy, caller, verb, may_exist, target)
        if isinstance(depends, DocumentNeeded) and sessions is not None:
            try:
                await self._ask_document(request, sessions, credential, target)
            except CouchUnreached as error:
                self.complain(request, error)
                raise
        elif depends is not None:
            raise needed

    async def couchdb_user(
        self, request: Request, needed: NoCredentials
    ) -> tuple[Credential, User]:
        """Return what a request's sender brings for CouchDB, and whom it knows it for.

        Args:
            request: whose.
            needed: raised where nothing is brought.

        Raises:
            NoCredentials, BadSession, BadInput, TooManyFailures, TooManyRequests,
            CouchUnreached: as of :meth:`ask_couchdb`.
        """
        sessions = self.sessions
        credential = credential_of(request.field("authorization"), request.field("cookie"))
        if sessions is None or credential is None:
            raise needed
        client = site_of(client_of(caller_of(request), self.policy.trusted_proxies))
        try:
            user, renewed = await sessions.user_of(credential, client)
        except CouchUnreached as error:
            self.complain(request, error)
            raise
        if request.principal == "-":
            request.principal = f"couchdb:{quote(user.name, safe='@.-_~+')[:LONGEST_PRINCIPAL]}"
            if self.callers is not None:
                self.callers.ask_principal(request)
        renew(request, renewed)
        return credential, user

    async def _ask_document(
        self, request: Request, sessions: Sessions, credential: Credential, target: Target | None
    ) -> None:
        if target is None or target.digest is None:
            raise Denied("CouchDB users read here by a document that refers to what they read")
        document = document_of(request.query("db"), request.query("doc"))
        if not await sessions.refers(credential, document, target.digest):
            raise Denied(
                "this CouchDB user cannot read that document, or it does not refer to this blob"
            )

    def _is_link(self, request: Request, caller: Caller, verb: Verb) -> bool:
        """Whether the request's URL is signed for it.

        Raises:
            Denied: it is signed, and not for this.
        """
        if self.url_secrets is None or not request.head.query:
            return False
        left = check_link(
            self.url_secrets.keys,
            verb,
            request.head.target.decode("latin-1"),
            client_of(caller, self.policy.trusted_proxies),
            self._now(),
        )
        if left is not None:
            request.principal = "signed-url"
            request.fresh_for = int(left)
        return left is not None

    def _token_of(self, request: Request) -> Token | None:
        """Return the token that a request brings; None where tokens mean nothing, or it has none.

        Raises:
            BadToken: it is good for nothing.
        """
        if not self.tokens:
            return None
        given = request.field("authorization")
        if len(given) > 1:
            raise BadToken("a request has one Authorization")
        if given and self.policy.couchdb and is_jwt(given[0].partition(" ")[2].strip(" ")):
            return None  # CouchDB's kind; ours have no dots
        token = self.tokens.find(given[0], self._now()) if given else None
        if token is not None:
            request.principal = token.name
        return token

    def admits_all(self, verb: Verb) -> bool:
        """Whether anybody at all may do this, at this moment."""
        policy = self.policy
        if policy.deny_prefix and may_exist(policy.deny_prefix + verb.value):
            return False
        return verb in policy.anonymous

    def admit_peer(self, request: Request) -> None:
        """Return if a peer makes this request: for what nodes ask of each other.

        That is one whose signature holds; without a secret, this machine. A
        body is only covered by its Content-Digest: read it with
        :func:`dtfc.web.peerbody.read_small`, or compare it otherwise.

        Raises:
            Denied: it is not signed, or comes from elsewhere.
            BadSignature: its signature does not hold, or it came before.
            TooManySenders, Busy: whether it came before cannot be said now.
        """
        try:
            self._admit_peer(request)
        except DtfcError as error:
            self._count(error)
            raise
        self.checks["allowed"] += 1

    def _admit_peer(self, request: Request) -> None:
        caller = replace(caller_of(request), peer=self._is_signed(request))
        known = self.terms.secrets is not None or self.certificates
        check_peer(self.policy, caller, signed_only=known)

    def is_peer(self, request: Request) -> bool:
        """Whether :meth:`admit_peer` would let it pass."""
        try:
            self._admit_peer(request)
        except DtfcError:
            return False
        return True

    def may_be_of_peer(self, request: Request) -> bool:
        """Whether a peer may have made a request that changes nothing.

        Where there is a secret, it has signed it.
        """
        known = self.terms.secrets is not None or self.certificates
        return not known or self.is_signed(request)

    def is_signed(self, request: Request) -> bool:
        """Whether a peer signed it, and whatever else is wrong with it is for others to say."""
        try:
            return self._is_signed(request)
        except DtfcError:
            return False

    def _is_signed(self, request: Request) -> bool:
        """Whether a peer signed it; asked once a request, as a nonce is good for once."""
        if request.proven is None:
            try:
                request.proven = self._proves(request)
            except DtfcError as error:
                request.proven = error
                self.complain(request, error)
        if isinstance(request.proven, DtfcError):
            raise request.proven
        return request.proven

    def complain(self, request: Request, error: DtfcError) -> None:
        """Tell the operator, but not of each request: whoever sends them is nobody yet."""
        now = self._now()
        if abs(now - self._complained) < COMPLAINT_SECONDS:
            return
        self._complained = now
        _log.warn(
            "{method} from {client}: {error}",
            method=request.head.method,
            client=getattr(request.getClientAddress(), "host", None) or "unix",
            error=str(error),
        )

    def _proves(self, request: Request) -> bool:
        if self.certificates and _shows_certificate(request):
            return True
        terms = self.terms
        if terms.secrets is None or not request.field("signature-input"):
            return False
        now = self._now()
        proof = verify(terms, message_of(request), self._authorities(request), now)
        if proof is None:
            return False
        # A read that comes twice gives its reader nothing that the first did
        # not; what changes something is obeyed once.
        if request.method not in READS:
            if self.replays is None:
                self.replays = Senders(bytearray(size_for()))
            self.replays.note(proof.sender, proof.number, proof.created + terms.skew, now)
        return True

    def _authorities(self, request: Request) -> frozenset[str]:
        """Say for whom the request may have been meant, to be meant for this node.

        Host proves nothing, since whoever captured a request for another node
        can send it along; so it counts only where this node does not know its
        own address.
        """
        own = self.terms.own or frozenset({request.head.host.decode("ascii").lower()})
        here = request.getHost()
        host, port = getattr(here, "host", None), getattr(here, "port", None)
        if isinstance(host, str) and isinstance(port, int):
            own |= frozenset(authorities_at(host, port))
        return own


def message_of(request: Request) -> Message:
    """Return what of a request a signature is about."""
    head = request.head
    fields: dict[str, list[str]] = {}
    for name, value in head.fields:
        fields.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return Message(
        head.method,
        head.path.decode("latin-1"),
        None if head.query is None else head.query.decode("latin-1"),
        fields,
        head.has_body,
    )


def _shows_certificate(request: Request) -> bool:
    """Whether a peer's certificate stands at the other end, and nobody in between."""
    channel = request.channel
    if channel is None or any(map(request.field, ("x-forwarded-for", *_SIGNS_OF_A_PROXY))):
        # A proxy shows its own certificate for whoever comes to it.
        return False
    return shows_certificate(channel.transport)


def renew(request: Request, cookie: str) -> None:
    """Hand back a cookie that CouchDB has set, if there is one."""
    if cookie and len(cookie) <= LONGEST_COOKIE and cookie.isascii() and cookie.isprintable():
        request.put("Set-Cookie", cookie)


def may_exist(path: str) -> bool:
    """Whether a deny file is there; what cannot be looked at counts as there.

    A dangling link is somebody's deny file too.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def caller_of(request: Request) -> Caller:
    """Say where a request comes from."""
    address = getattr(request.getClientAddress(), "host", None)
    forwarded = request.field("x-forwarded-for")
    if not forwarded and any(map(request.field, _SIGNS_OF_A_PROXY)):
        # Somebody forwarded it, and does not say for whom.
        forwarded = ["unknown"]
    return Caller(address, tuple(forwarded), is_foreign(request), is_rebound(request))


def is_rebound(request: Request) -> bool:
    """Whether it is asked under a host name that could have been made to point here.

    Whatever asks: over http Chromium says of a GET neither Sec-Fetch-Site nor Origin
    where the name is not this machine's own, so a page and a program look alike
    (:mod:`prove.browser`).
    """
    host = request.head.host.decode("ascii").lower()
    name = host[1 : host.index("]")] if host.startswith("[") else host.partition(":")[0]
    if not name or name == "localhost" or name in OWN_NAMES:
        return False
    if request.site.edge.terms.hosts and request.site.edge.takes_host(host):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False


def is_foreign(request: Request) -> bool:
    """Whether a browser makes this request for a page of another site.

    A form on any page may POST to any address that its reader's machine can
    reach, this machine's own included; the browser says so in Sec-Fetch-Site,
    older ones in Origin. Programs send neither.
    """
    site = request.field("sec-fetch-site")
    if site:
        return any(value not in ("same-origin", "none") for value in site)
    host = request.head.host.decode("ascii").lower()
    return any(origin.lower().partition("://")[2] != host for origin in request.field("origin"))
