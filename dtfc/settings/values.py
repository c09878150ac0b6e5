"""What the values of settings look like when they are written as text.

Rules of this file: each parser takes one text and returns one value, or raises
``ValueError`` with a sentence that says what would be right. Nothing here
looks at files, the environment or the system: flags, the configuration file
and the table's own defaults all pass through the same parser.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Literal, TypeAlias, TypeVar, cast, get_args

N = TypeVar("N")
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Verb = Literal["get", "head", "put", "delete"]
VERBS: tuple[Verb, ...] = get_args(Verb)

#: A role of CouchDB's users, and the verbs that it has.
Grant: TypeAlias = tuple[str, tuple[Verb, ...]]

# "K", "KiB" and "k" are 1024, as in nginx and curl; only "KB" is 1000.
_FACTORS = {"": 1, "b": 1} | {
    unit + suffix: (1000 if suffix == "b" else 1024) ** power
    for power, unit in enumerate("kmgt", start=1)
    for suffix in ("", "b", "ib")
}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)\Z")
_SECONDS = {
    unit: Decimal(seconds)
    for unit, seconds in {
        "": "1",
        "ms": "0.001",
        "s": "1",
        "m": "60",
        "h": "3600",
        "d": "86400",
        "w": "604800",
    }.items()
}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|[smhdw])?)+\Z")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhdw]?)")
_TIMES = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(?:/([smh]))?\Z")
_PERIODS = {"s": 1, "m": 60, "h": 3600}
_ENDPOINT = re.compile(r"[a-z][a-z0-9]*:.+\Z")
_NODE_URL = re.compile(
    r"(?:https?://)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?/?\Z", re.IGNORECASE
)
_DATABASE = re.compile(r"[a-z][a-z0-9_$()+/-]{0,237}\Z")
_ZONE = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_PORTS = range(65536)


def text(given: str) -> str:
    """Take any text that is not empty."""
    if not given.strip():
        raise ValueError("is empty")
    if "\0" in given:
        raise ValueError("has a NUL in it")
    return given


def integer(lowest: int, highest: int) -> Callable[[str], int]:
    """Make a parser of whole numbers from ``lowest`` to ``highest``, both included."""

    def parse(given: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", given):
            raise ValueError(f"{given!r} is not a whole number")
        if not lowest <= int(given) <= highest:
            raise ValueError(f"{given} is not between {lowest} and {highest}")
        return int(given)

    return parse


def size(lowest: int = 1) -> Callable[[str], int]:
    """Make a parser of sizes, such as ``64MiB``, ``1G`` or ``4096``, in bytes."""

    def parse(given: str) -> int:
        match = _SIZE.match(given)
        factor = _FACTORS.get(match[2].lower()) if match else None
        if match is None or factor is None:
            raise ValueError(f"{given!r} is not a size such as 4096, 512KiB, 64MiB or 1.5G")
        count = int(Decimal(match[1]) * factor)
        if count < lowest:
            raise ValueError(f"{given} is less than {lowest} bytes")
        return count

    return parse


def rate(given: str) -> int:
    """Parse a rate, such as ``1KiB/s``, in bytes a second; ``/s`` may be left out."""
    return size()(given.removesuffix("/s"))


def rate_or_none(given: str) -> int:
    """Parse a rate as :func:`rate` does, or 0."""
    return size(0)(given.removesuffix("/s"))


def per_second(given: str) -> float:
    """Parse how often something may happen, such as ``20/s`` or ``600/m``, in times a second."""
    match = _TIMES.match(given)
    if match is None:
        raise ValueError(f"{given!r} is not so many a second, minute or hour: 20/s, 600/m, 100/h")
    often = float(match[1]) / _PERIODS[match[2] or "s"]
    if not often > 0:
        raise ValueError(f"{given} is none at all")
    return often


def duration(lowest: float = 0.001) -> Callable[[str], float]:
    """Make a parser of durations, such as ``30s``, ``500ms``, ``1h30m`` or ``7d``, in seconds."""

    def parse(given: str) -> float:
        if not _DURATION.match(given):
            raise ValueError(f"{given!r} is not a duration such as 500ms, 30s, 5m, 1h30m or 7d")
        parts = cast("list[tuple[str, str]]", _DURATION_PART.findall(given))
        if len(parts) > 1 and not all(unit for _, unit in parts):
            raise ValueError(f"{given!r} has a number without a unit in it")
        seconds = float(
            sum((Decimal(number) * _SECONDS[unit] for number, unit in parts), Decimal())
        )
        if not lowest <= seconds < math.inf:
            raise ValueError(f"{given} is less than {lowest:g} seconds")
        return seconds

    return parse


def at_most(highest: float, parse: Callable[[str], float]) -> Callable[[str], float]:
    """Let ``parse`` take nothing above a number."""

    def parse_at_most(given: str) -> float:
        parsed = parse(given)
        if parsed > highest:
            raise ValueError(f"{given} is more than {highest:g}")
        return parsed

    return parse_at_most


def share(given: str) -> float:
    """Parse a share of a whole, from 0 to 1."""
    try:
        parsed = float(given)
    except ValueError:
        parsed = -1.0
    if not 0 <= parsed <= 1:
        raise ValueError("a share is a number from 0 to 1")
    return parsed


def or_none(parse: Callable[[str], N]) -> Callable[[str], N | None]:
    """Let ``none`` stand for "no limit" beside what ``parse`` takes."""

    def parse_or_none(given: str) -> N | None:
        return None if given.lower() == "none" else parse(given)

    return parse_or_none


def one_of(*allowed: str) -> Callable[[str], str]:
    """Make a parser that takes exactly these words."""

    def parse(given: str) -> str:
        if given not in allowed:
            raise ValueError(f"{given!r} is not one of: {', '.join(allowed)}")
        return given

    return parse


def provider(given: str) -> str:
    """Parse where the bytes lie; this version keeps them in a file system only."""
    if given != "fs":
        raise ValueError(f"{given!r} is not built into this version; fs (a folder) is")
    return given


def fan_out(given: str) -> int:
    """Parse how many folders deep a blob lies: the 2015 program's 64, or 2."""
    if given not in {"2", "64"}:
        raise ValueError(f"{given!r} is neither 64 (as in 2015) nor 2")
    return int(given)


def address(given: str) -> str:
    """Parse one IP address to listen on; an IPv6 one may carry a ``%scope``."""
    try:
        return str(ipaddress.ip_address(given.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise ValueError(f"{given!r} is not an IP address such as 127.0.0.1 or ::1") from None


def endpoint(given: str) -> tuple[str]:
    """Parse one Twisted endpoint string; what follows the colon is Twisted's to read."""
    if not _ENDPOINT.match(given):
        raise ValueError(
            f"{given!r} is not an endpoint such as tcp:8080, tcp6:8080, "
            "unix:/run/dtfc/http.sock or systemd:domain=INET6:index=0"
        )
    return (given,)


def verbs(given: str) -> tuple[Verb, ...]:
    """Parse verbs, separated by commas."""
    words = [word.strip().lower() for word in given.split(",") if word.strip()]
    for word in words:
        if word not in VERBS:
            raise ValueError(f"{word!r} is not one of: {', '.join(VERBS)}")
    return tuple(cast("Verb", word) for word in words)


def grant(given: str) -> tuple[Grant]:
    """Parse what a role may do, such as ``editors=get,put``."""
    role, equals, words = given.rpartition("=")
    if not equals or not role.strip() or role != role.strip():
        raise ValueError(f"{given!r} is not a role and its verbs, such as editors=get,put")
    return ((role, verbs(words)),)


def networks(given: str) -> tuple[Network, ...]:
    """Parse addresses and networks (CIDR), separated by commas."""
    found: list[Network] = []
    for word in (word.strip() for word in given.split(",")):
        if not word:
            continue
        try:
            found.append(ipaddress.ip_network(word))
        except ValueError as error:
            raise ValueError(f"{word!r} is not a network such as 10.0.0.0/8: {error}") from None
    return tuple(found)


def zone(given: str) -> str:
    """Parse the name of a zone: where a node stands."""
    if not _ZONE.match(given):
        raise ValueError(f"{given!r} is not 1 to 64 letters, digits, '.', '_' or '-'")
    return given


def origin(given: str) -> str:
    """Parse an http or https URL of a host alone, without a path or a password in it."""
    match = _NODE_URL.match(given)
    if match is None or "://" not in given or (match[1] and int(match[1]) not in _PORTS):
        raise ValueError(f"{given!r} is not a URL such as http://127.0.0.1:5984")
    return given.rstrip("/")


def database(given: str) -> tuple[str]:
    """Parse the name of a database of CouchDB's (api/database/common.rst)."""
    if not _DATABASE.match(given):
        raise ValueError(
            f"{given!r} is no database's name: a lower-case letter, then lower-case letters, "
            "digits and _$()+-/"
        )
    return (given,)


def host(given: str) -> tuple[str]:
    """Parse the name of a host, perhaps with a port."""
    match = _NODE_URL.match(given)
    if match is None or "://" in given or given.endswith("/"):
        raise ValueError(f"{given!r} is not a name such as files.example or files.example:8080")
    return (given.lower(),)


def https_origin(given: str) -> str:
    """Parse an https URL of a host alone."""
    found = origin(given)
    if not found.lower().startswith("https://"):
        raise ValueError(f"{given!r} does not begin with https://")
    return found


def cors_origin(given: str) -> tuple[str]:
    """Parse an origin as browsers write it, or ``*``."""
    if given == "*":
        return (given,)
    if given.endswith("/"):
        raise ValueError(f"an origin has no slash at its end: {given!r}")
    return (origin(given).lower(),)


def node_url(given: str) -> str:
    """Check the URL of a node: host and perhaps scheme and port, but no path."""
    match = _NODE_URL.match(given)
    if match is None or (match[1] and int(match[1]) not in _PORTS):
        raise ValueError(f"{given!r} is not a node's URL such as http://files1.example:8080/")
    return given
