"""Peers that DNS names: ``dns+srv://_dtfc._tcp.example`` lines, and what their answers mean.

Rules of this file: pure. RFC 2782 gives each target a priority and a weight:
whom to try first, and in which share. A :class:`Peer` has both: ``tier``, and
``weight``.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dtfc.peers.listing import HEAVIEST, Peer, Service, normal_url

MOST_TARGETS = 1000
"""Targets of one name that are taken; those of the lowest priority first."""

SHORTEST_TTL = 30.0
"""Seconds that an answer holds, whatever it says ..."""

LONGEST_TTL = 3600.0
"""... and the longest."""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """One SRV record.

    Args:
        priority: the lowest is tried first.
        weight: its share among those of its priority.
        host: a name; a dot alone says that there is no such service.
        port: TCP.
    """

    priority: int
    weight: int
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What DNS says of a name.

    Args:
        targets: in any order.
        ttl: seconds that it holds.
    """

    targets: tuple[Target, ...]
    ttl: float

    @property
    def holds(self) -> float:
        """Seconds after which to ask again."""
        return float(min(LONGEST_TTL, max(SHORTEST_TTL, self.ttl)))


def peers_of(service: Service, targets: Sequence[Target]) -> tuple[Peer, ...]:
    """Return the peers that an answer names.

    Args:
        service: the line of the list. Its weight multiplies those of DNS, where
            0 counts as 1: RFC 2782 has it mean "hardly ever".
        targets: what DNS says.

    Raises:
        ValueError: it says nothing usable; the message says what.
    """
    if not targets:
        raise ValueError("DNS knows no SRV record of that name")
    taken = sorted(
        (each for each in targets if each.host.rstrip(".")),
        key=lambda each: (each.priority, -each.weight, each.host, each.port),
    )[:MOST_TARGETS]
    tiers = {each: rank for rank, each in enumerate(sorted({each.priority for each in taken}))}
    weights = [max(1, each.weight) * service.weight for each in taken]
    scale = min(1.0, HEAVIEST / max(weights, default=1))
    found: dict[str, Peer] = {}
    for each, weight in zip(taken, weights, strict=True):
        try:
            if _is_address(each.host) or f".{each.host.lower().rstrip('.')}".endswith(".localhost"):
                # RFC 2782: a target is a name, and not this machine's own.
                raise ValueError("it is no name of a host")  # noqa: TRY301 - as normal_url does
            url = normal_url(f"{service.scheme}://{each.host.rstrip('.')}:{each.port}")
        except ValueError as error:
            raise ValueError(f"DNS names the target {each.host}:{each.port}: {error}") from None
        share = max(1, round(weight * scale))
        found.setdefault(url, Peer(url, share, service.zone, tiers[each.priority]))
    return tuple(found.values())


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.rstrip(".").strip("[]"))
    except ValueError:
        return False
    return True


Known = Mapping[str, tuple[Target, ...]]
"""What DNS said last, by name."""


def compose(known: Known) -> bytes:
    """Compose what :func:`parse` reads: JSON, a line."""
    plain = {
        name: [[each.priority, each.weight, each.host, each.port] for each in targets]
        for name, targets in known.items()
    }
    return json.dumps(plain, sort_keys=True).encode() + b"\n"


def parse(data: bytes) -> dict[str, tuple[Target, ...]]:
    """Read what was composed; nonsense is nothing."""
    try:
        return {
            str(name): tuple(
                Target(int(priority), int(weight), str(host), int(port))
                for priority, weight, host, port in targets
            )
            for name, targets in json.loads(data).items()
        }
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}
