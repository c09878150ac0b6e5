"""The text of a peer list: lines in, peers and bad lines out.

Rules of this file: pure. A peer is what an operator wrote down, brought into
one normal form so that two spellings of an address are one peer. A line that
makes no sense is reported with its number, and the others hold.

A list is a text file, one peer a line::

    # a comment
    http://10.0.0.5:8080/
    https://mirror.example/   weight=3 zone=attic   # anything after " #" too
    dns+srv://_dtfc._tcp.example scheme=https

Lists written for the 2015 program are read as they are: with or without the
trailing slash, with blank lines, with CRLF.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

HEAVIEST = 1000
"""The largest ``weight=``."""

DNS = "dns+srv://"
"""How the line of a service begins."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_ZONE = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_PORT = re.compile(r"[0-9]{1,5}\Z")
_LONGEST_HOST = 253
_LARGEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Peer:
    """One node that may be asked.

    Args:
        url: ``http://host:port``, normalised: lower case, port always written,
            no slash at the end.
        weight: how much of the work it should get, 1 where nothing was said.
        zone: where it stands; peers in one's own zone are nearer.
        tier: 0, unless DNS says that others should be tried before it.
    """

    url: str
    weight: int = 1
    zone: str = ""
    tier: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """A line whose peers DNS names.

    Args:
        name: to be looked up, in lower case, without the last dot.
        weight: multiplies the weights that DNS gives.
        zone: where its peers stand.
        scheme: http or https, for all of them.
    """

    name: str
    weight: int = 1
    zone: str = ""
    scheme: str = "http"

    @property
    def url(self) -> str:
        """What it is called in messages, and where its peers are not known."""
        return DNS + self.name


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of the list that names no peer.

    Args:
        number: counted from 1.
        text: the line as it stands in the file.
        reason: what is wrong with it.
        where: the file.
    """

    number: int
    text: str
    reason: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.where or 'peer list'}, line {self.number}: {self.reason}"


def normal_url(text: str) -> str:
    """Bring a peer's address into the one form in which addresses are compared.

    Args:
        text: ``http://host``, ``https://host:port/`` and the like.

    Returns:
        ``scheme://host:port``.

    Raises:
        ValueError: it is no plain origin; the message says why.
    """
    if any(not "\x21" <= character <= "\x7e" for character in text):
        raise ValueError("an address is plain ASCII (write international names in punycode)")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("what stands in brackets is no IPv6 address") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("an address starts with http://, https:// or dns+srv://")
    if "@" in parts.netloc:
        raise ValueError("an address carries no user name or password")
    if parts.path not in ("", "/"):
        raise ValueError("an address has no path")
    if "?" in text or "#" in text:
        raise ValueError("an address has no query and no fragment")
    host, port = _split_port(parts.netloc)
    return f"{parts.scheme}://{_normal_host(host)}:{port or _DEFAULT_PORTS[parts.scheme]}"


def parse_roster(text: str, where: str = "") -> tuple[tuple[Peer, ...], list[BadLine]]:
    """Read a peer list; lines that DNS has to answer are read by :func:`services_in`.

    Args:
        text: the whole file.
        where: the name of the file, for the reports.

    Returns:
        The peers in the order of the file, the first of equal ones kept; and
        the lines that were passed over.
    """
    entries, bad = _entries(text, where)
    peers: dict[str, Peer] = {}
    for each in entries:
        if isinstance(each, Peer):
            peers.setdefault(each.url, each)
    return tuple(peers.values()), bad


def services_in(text: str) -> tuple[Service, ...]:
    """Return the services of a peer list, the first of those with one name kept."""
    entries, _ = _entries(text, "")
    services: dict[str, Service] = {}
    for each in entries:
        if isinstance(each, Service):
            services.setdefault(each.name, each)
    return tuple(services.values())


def _entries(text: str, where: str) -> tuple[list[Peer | Service], list[BadLine]]:
    entries: list[Peer | Service] = []
    bad: list[BadLine] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        words = _without_comment(line).split()
        if not words:
            continue
        try:
            entries.append(_parse(words))
        except ValueError as error:
            bad.append(BadLine(number, line.rstrip("\r"), str(error), where))
    return entries, bad


def first_entry(text: str) -> str | None:
    """The first line of a ``--melist`` file that says something."""
    for line in text.removeprefix("\ufeff").split("\n"):
        words = _without_comment(line).split()
        if words:
            return words[0]
    return None


def own_urls(me: str) -> frozenset[str]:
    """Every normalised URL under which a list may name this node itself.

    Args:
        me: ``host:port``, ``host`` or a URL. Without a scheme it stands for
            both schemes.

    Raises:
        ValueError: it is no address.
    """
    if "://" in me:
        return frozenset({normal_url(me)})
    return frozenset(normal_url(f"{scheme}://{me}") for scheme in _DEFAULT_PORTS)


def _without_comment(line: str) -> str:
    # A "#" inside a word is a URL's fragment, which is a mistake worth a report.
    return re.sub(r"(?:^|(?<=\s))#.*", "", line, flags=re.DOTALL)


def _parse(words: list[str]) -> Peer | Service:
    if not words[0].lower().startswith(DNS):
        url = normal_url(words[0])
        weight, zone, _ = _options(words[1:], ("weight", "zone"))
        return Peer(url, weight, zone)
    name = words[0][len(DNS) :].lower().removesuffix("/").removesuffix(".")
    if len(name) > _LONGEST_HOST or not all(_LABEL.match(label) for label in name.split(".")):
        raise ValueError(
            "after dns+srv:// stands a DNS name such as _dtfc._tcp.example, without port and path"
        )
    return Service(name, *_options(words[1:], ("weight", "zone", "scheme")))


def _options(words: list[str], known: tuple[str, ...]) -> tuple[int, str, str]:
    """Return weight, zone and scheme."""
    weight, zone, scheme = 1, "", "http"
    seen: set[str] = set()
    for word in words:
        key, equals, value = word.partition("=")
        if key in seen:
            raise ValueError(f"{key}= is written twice")
        seen.add(key)
        if key not in known or not equals:
            *others, last = (f"{each}=" for each in known)
            raise ValueError(f"{word!r} is neither {', '.join(others)} nor {last}")
        if key == "weight":
            if not value.isascii() or not value.isdecimal() or not 1 <= int(value) <= HEAVIEST:
                raise ValueError(f"weight= is a whole number from 1 to {HEAVIEST}")
            weight = int(value)
        elif key == "zone":
            if not _ZONE.match(value):
                raise ValueError("zone= is 1 to 64 letters, digits, '.', '_' or '-'")
            zone = value
        else:
            if value not in _DEFAULT_PORTS:
                raise ValueError("scheme= is http or https")
            scheme = value
    return weight, zone, scheme


def _split_port(netloc: str) -> tuple[str, int | None]:
    if netloc.startswith("["):
        host, bracket, rest = netloc.partition("]")
        host += bracket
    else:
        host, colon, port = netloc.partition(":")
        rest = colon + port
    if rest in ("", ":"):
        # RFC 3986 section 3.2.3: an empty port is the default one.
        return host, None
    if not rest.startswith(":") or not _PORT.match(rest[1:]):
        raise ValueError("a port is a number from 1 to 65535")
    number = int(rest[1:])
    if not 1 <= number <= _LARGEST_PORT:
        raise ValueError("a port is a number from 1 to 65535")
    return host, number


def _normal_host(host: str) -> str:
    host = host.lower()
    if host.startswith("["):
        try:
            address = ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise ValueError("what stands in brackets is no IPv6 address") from None
        if address.scope_id:
            raise ValueError("an IPv6 address with a zone means nothing to other nodes")
        return f"[{address}]"
    name = host.removesuffix(".")
    labels = name.split(".")
    if len(name) > _LONGEST_HOST or not all(_LABEL.match(label) for label in labels):
        raise ValueError(f"{host!r} is no host name" if host else "an address names a host")
    if labels[-1].isdecimal() or re.match(r"0x[0-9a-f]*\Z", labels[-1]):
        # A resolver would read 127.1 or 0x7f000001 as an address (WHATWG URL
        # section 3.5); only the plain form is compared rightly, so only that.
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise ValueError(f"{host} is no IPv4 address in dotted form") from None
    return name
