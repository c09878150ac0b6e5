"""How much each caller may take in a time: token buckets, one number each.

Rules of this file: the time is an argument, and everything is bounded: callers
whose bucket is full again are forgotten, and where all are in use the one
nearest to full goes first, so that whoever is over its rate stays over it.

Discussion. Each bucket is the time at which it would be full (the generic cell
rate algorithm, ITU-T I.371): no counter has to be refilled, and a caller at
its rate is let through evenly, not in bursts of a second.
"""

from __future__ import annotations

import heapq
import ipaddress
from dataclasses import dataclass

#: Callers that are remembered at once, of each kind of limit.
MOST_CALLERS = 65_536

#: Bits of an IPv6 address that say whose it is: a /64 is one site's (RFC 6177).
_IPV6_SITE = 64


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate, and how far somebody may run ahead of it.

    Args:
        per_second: of whatever is counted; more than 0.
        burst: how much may come at once after a rest; at least 1.
    """

    per_second: float
    burst: float


class Buckets:
    """One bucket for each caller.

    Args:
        rate: the same for all; may be replaced at any time.
        most: callers that are remembered.
    """

    def __init__(self, rate: Rate, most: int = MOST_CALLERS) -> None:
        self.rate = rate
        self._most = most
        self._full_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, caller: str, now: float, amount: float = 1.0) -> float:
        """Take from a caller's bucket, if it holds so much.

        More than a whole bucket can never be there: it is taken of a full one,
        which then takes the longer to fill.

        Args:
            caller: whose.
            now: seconds.
            amount: how much.

        Returns:
            0.0 if it was taken; else the seconds until it could be, and nothing was.
        """
        rate = self.rate
        full_at = max(self._full_at.get(caller, now), now)
        needed = min(amount, rate.burst)
        wait = full_at - now - (rate.burst - needed) / rate.per_second
        # What is a rounding error away is there.
        if wait > 1e-9:
            return wait
        self._note(caller, full_at + amount / rate.per_second, now)
        return 0.0

    def spend(self, caller: str, now: float, amount: float) -> float:
        """Take what has been used already, into debt if need be.

        Returns:
            The seconds until the debt is paid; 0.0 if there is none.
        """
        rate = self.rate
        full_at = max(self._full_at.get(caller, now), now) + amount / rate.per_second
        self._note(caller, full_at, now)
        return max(0.0, full_at - now - rate.burst / rate.per_second)

    def give_back(self, caller: str, amount: float = 1.0) -> None:
        """Undo a take: what it was for did not happen."""
        if caller in self._full_at:
            self._full_at[caller] -= amount / self.rate.per_second

    def wait(self, caller: str, now: float) -> float:
        """Return the seconds until a caller's bucket is out of debt; 0.0 if it is."""
        full_at = self._full_at.get(caller, now)
        return max(0.0, full_at - now - self.rate.burst / self.rate.per_second)

    def _note(self, caller: str, full_at: float, now: float) -> None:
        if caller not in self._full_at and len(self._full_at) >= self._most:
            self._make_room(now)
        self._full_at[caller] = full_at

    def _make_room(self, now: float) -> None:
        """Forget whose bucket is full; if nobody's is, the eighth that is nearest to it."""
        kept = {caller: full_at for caller, full_at in self._full_at.items() if full_at > now}
        # Always an eighth at the least: or near the limit each new one would look at all.
        surplus = len(kept) - self._most + max(1, self._most // 8)
        if surplus > 0:
            for caller in heapq.nsmallest(surplus, kept, key=kept.__getitem__):
                del kept[caller]
        self._full_at = kept


def site_of(address: str | None) -> str:
    """Return under which key an address is counted: an IPv6 address with its whole /64.

    Args:
        address: as text; None for a UNIX socket.
    """
    if address is None:
        return "unix"
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, _IPV6_SITE), strict=False))
