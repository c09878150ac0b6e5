"""What is looked at before anything else: under which name, over what, and for which page.

Rules of this file: a request's own fields open nothing. Host is compared, and
never repeated to anybody; the scheme is that of the connection, or the word of a
trusted proxy; a page of another site reads what everybody may, if it is listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.address import IPv4Address

from dtfc.access.decisions import is_from
from dtfc.errors import Misdirected, NotSecure
from dtfc.http.heads import BadHead
from dtfc.http.targets import check_host
from dtfc.web.gate import caller_of

if TYPE_CHECKING:
    from dtfc.access.decisions import Network
    from dtfc.web.request import Request

#: What balancers and operators ask under whatever name or scheme.
ALWAYS = frozenset({b"/livez", b"/readyz", b"/health.html"})

#: What a page of another site may send, and see of an answer.
_MAY_SEND = (
    "Authorization, Content-Type, Content-Digest, Digest, If-Match, If-Modified-Since, "
    "If-None-Match, If-Range, If-Unmodified-Since, Range, Repr-Digest, "
    "Tus-Resumable, Upload-Checksum, Upload-Complete, Upload-Concat, Upload-Defer-Length, "
    "Upload-Draft-Interop-Version, Upload-Incomplete, Upload-Length, Upload-Metadata, "
    "Upload-Offset, X-HTTP-Method-Override, X-Requested-With"
)
_MAY_SEE = (
    "Accept-Ranges, Content-Disposition, Content-Length, Content-Location, Content-Range, Date, "
    "Digest, ETag, Last-Modified, Link, Location, Repr-Digest, Retry-After, "
    "Tus-Checksum-Algorithm, Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, "
    "Upload-Complete, Upload-Concat, "
    "Upload-Defer-Length, Upload-Expires, Upload-Incomplete, Upload-Length, Upload-Limit, "
    "Upload-Metadata, Upload-Offset"
)

#: Seconds for which a browser remembers what it may send.
_REMEMBERED = 600

#: Seconds for which a browser then asks over https by itself (RFC 6797).
_STRICT = 31_536_000

ANY = "*"


@dataclass(frozen=True, slots=True)
class EdgeTerms:
    """Under which names, over what, and for which pages this node answers.

    Args:
        hosts: names, perhaps with a port, in lower case; every name if there are none.
        https: where it is to be found over https, ``https://name``; empty where
            that is not asked for.
        origins: sites whose pages may read here; :data:`ANY` for all.
        trusted_proxies: whose word on the scheme is believed.
    """

    hosts: frozenset[str] = frozenset()
    https: str = ""
    origins: frozenset[str] = frozenset()
    trusted_proxies: tuple[Network, ...] = ()


class Edge:
    """Applies the terms to requests.

    Args:
        terms: replaced as a whole when the configuration is read again.
    """

    def __init__(self, terms: EdgeTerms) -> None:
        self.terms = terms

    def takes_host(self, host: str) -> bool:
        """Whether this node answers under a name, as Host has it."""
        hosts = self.terms.hosts
        host = host.lower()
        return not hosts or host in hosts or _without_port(host) in hosts

    def lists(self, origin: str) -> bool:
        """Whether a site is listed by its own name, so that its pages may also write."""
        return origin.lower() in self.terms.origins

    def elsewhere(self, request: Request) -> str:
        """Return where a request is to be made instead; empty if it is made here.

        Raises:
            Misdirected: it is for another host.
            NotSecure: it came in clear, and has sent what must not.
        """
        if request.path in ALWAYS or not request.path.startswith(b"/"):
            return ""
        if not self.takes_host(request.head.host.decode("latin-1")):
            raise Misdirected
        if not self.terms.https or self.is_secure(request) or _is_local(request):
            return ""
        if request.method not in (b"GET", b"HEAD", b"OPTIONS"):
            raise NotSecure(self.terms.https)
        target = request.path.decode("latin-1")
        if request.head.query is not None:
            target += "?" + request.head.query.decode("latin-1")
        return f"{self.terms.https}{target}"

    def is_secure(self, request: Request) -> bool:
        """Whether a request came over TLS, or a trusted proxy says that it did."""
        address = getattr(request.getClientAddress(), "host", None)
        if address is not None and is_from(address, self.terms.trusted_proxies):
            told = request.field("x-forwarded-proto")
            if told:
                # The last one is the nearest proxy's own.
                return told[-1].rpartition(",")[2].strip().lower() == "https"
        return bool(request.isSecure())

    def origin_of(self, request: Request) -> str:
        """Return the URL that whoever asks knows this node by, without a path.

        It is for that answer alone: Host is whatever the client says.
        """
        if self.terms.https:
            return self.terms.https
        host = request.head.host.decode("latin-1")
        address = getattr(request.getClientAddress(), "host", None)
        if address is not None and is_from(address, self.terms.trusted_proxies):
            told = request.field("x-forwarded-host")
            # The last one is the nearest proxy's own.
            nearest = told[-1].rpartition(",")[2].strip() if told else ""
            host = nearest if _is_host(nearest) else host
        if not host:
            own = request.getHost()
            host = f"{own.host}:{own.port}" if isinstance(own, IPv4Address) else "localhost"
        return f"{'https' if self.is_secure(request) else 'http'}://{host}"

    def fields(self, request: Request) -> list[tuple[str, str]]:
        """Return what an answer says to browsers, beyond what all answers say."""
        terms = self.terms
        found: list[tuple[str, str]] = []
        if terms.https and self.is_secure(request):
            found.append(("Strict-Transport-Security", f"max-age={_STRICT}"))
        if not terms.origins:
            return found
        found.append(("Vary", "Origin"))
        origin = request.field("origin")
        if len(origin) != 1 or not (self.lists(origin[0]) or ANY in terms.origins):
            return found
        found.append(("Access-Control-Allow-Origin", origin[0] if self.lists(origin[0]) else ANY))
        found.append(("Access-Control-Expose-Headers", _MAY_SEE))
        if request.method == b"OPTIONS" and request.field("access-control-request-method"):
            methods = (
                "GET, HEAD, PUT, POST, PATCH, DELETE" if self.lists(origin[0]) else "GET, HEAD"
            )
            found += [
                ("Access-Control-Allow-Methods", methods),
                ("Access-Control-Allow-Headers", _MAY_SEND),
                ("Access-Control-Max-Age", str(_REMEMBERED)),
            ]
        return found


def _is_host(text: str) -> bool:
    try:
        check_host(text.encode("latin-1"))
    except BadHead:
        return False
    return bool(text)


def _is_local(request: Request) -> bool:
    """Whether a process of this machine asks, and for itself."""
    caller = caller_of(request)
    return not caller.forwarded and is_local_address(caller.address)


def is_local_address(address: str | None) -> bool:
    """Whether an address is this machine's own: loopback, or none at all (a UNIX socket)."""
    return address is None or address == "unix" or address.startswith("127.") or address == "::1"


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
