"""What each caller may take: requests and bytes in a time, and uploads at once.

Rules of this file: an address is who connects, or whom a trusted proxy names; a
principal is a token, a user, or the address of whoever brings a signed URL.
Both limits hold for a request that has both. Peers that sign are not counted:
they have limits of their own (section 8 of the protocol). Where nothing is
limited, nothing is looked up.

Discussion. A body is paced in slices of a twentieth of a second, each of which
has to wait for its turn in the bucket that all connections of its caller share:
so they get equal parts, and a limit of 1 MiB/s is never 1 MiB at the beginning
of each second.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dtfc.access.buckets import Buckets, Rate, site_of
from dtfc.access.decisions import client_of
from dtfc.errors import TooManyRequests, TooManyUploads
from dtfc.web.gate import caller_of

if TYPE_CHECKING:
    from dtfc.access.decisions import Network
    from dtfc.web.request import Request

#: Slices of a body in a second ...
_SLICES = 20

#: ... each of so many bytes at least, and at most.
SMALLEST_SLICE = 4 * 1024
LARGEST_SLICE = 1024 * 1024

#: What balancers and people who watch a node ask all the time, of whatever address.
UNCOUNTED = frozenset({b"/livez", b"/readyz"})


@dataclass(frozen=True, slots=True)
class CallerTerms:
    """How much one caller may take.

    Args:
        requests_per_address: a second; None for any number.
        requests_per_token: a second; None for any number.
        burst: requests that may come at once after a rest.
        rate_per_address: bytes a second; None for no limit.
        rate_per_token: bytes a second; None for no limit.
        uploads: at once of one principal.
    """

    requests_per_address: float | None = None
    requests_per_token: float | None = None
    burst: int = 20
    rate_per_address: int | None = None
    rate_per_token: int | None = None
    uploads: int = 256


class Meter:
    """Paces the bodies of one request.

    Args:
        ticks: seconds that no change of the time of day moves.
    """

    __slots__ = ("_buckets", "_ticks", "slice")

    def __init__(self, ticks: Callable[[], float]) -> None:
        self._ticks = ticks
        self._buckets: list[tuple[Buckets, str]] = []
        #: Bytes to send at once.
        self.slice = LARGEST_SLICE

    def add(self, buckets: Buckets, caller: str) -> None:
        """Count the bodies in one more bucket."""
        self._buckets.append((buckets, caller))
        self.slice = min(self.slice, _slice_of(buckets.rate))

    def spend(self, count: int) -> float:
        """Count bytes, and return the seconds that they have to wait for their turn."""
        now = self._ticks()
        return max(buckets.spend(caller, now, count) for buckets, caller in self._buckets)


class Callers:
    """Holds each caller to what it may take.

    Args:
        terms: replaced by :meth:`set_terms`.
        ticks: seconds that no change of the time of day moves.

    Attributes:
        trusted_proxies: networks whose word on the client's address is believed.
        is_peer: whether a peer signed a request.
        refused: how often each limit has refused something.
    """

    def __init__(self, terms: CallerTerms, ticks: Callable[[], float]) -> None:
        self._ticks = ticks
        self.trusted_proxies: tuple[Network, ...] = ()
        self.is_peer: Callable[[Request], bool] = lambda _request: False
        self.refused: Counter[str] = Counter()
        self._uploads: Counter[str] = Counter()
        self.set_terms(terms)

    def set_terms(self, terms: CallerTerms) -> None:
        """Put other terms in force; what has been taken so far is forgotten."""
        self._terms = terms
        burst = float(terms.burst)
        self._requests = _times(terms.requests_per_address, burst)
        self._token_requests = _times(terms.requests_per_token, burst)
        self._bytes = _bytes(terms.rate_per_address)
        self._token_bytes = _bytes(terms.rate_per_token)
        #: Whether an address is limited at all.
        self.limits_addresses = self._requests is not None or self._bytes is not None

    def site_of(self, request: Request) -> str:
        """Return under which key a request's address is counted."""
        return site_of(client_of(caller_of(request), self.trusted_proxies))

    def ask(self, request: Request) -> None:
        """Count a request that begins, for its address.

        Raises:
            TooManyRequests: the address has made as many as it may.
        """
        if not self.limits_addresses or request.path in UNCOUNTED:
            return
        if request.field("signature-input") and self.is_peer(request):
            return
        key = self.site_of(request)
        if self._requests is not None:
            self._take(self._requests, key, key, "--requests-per-address")
        if self._bytes is not None:
            self._meter(request, self._bytes, key)

    def ask_principal(self, request: Request) -> None:
        """Count a request whose sender has turned out to be somebody.

        Raises:
            TooManyRequests: it has made as many as it may.
        """
        if self._token_requests is None and self._token_bytes is None:
            return
        key = self.principal_of(request)
        if self._token_requests is not None:
            self._take(self._token_requests, key, request.principal, "--requests-per-token")
        if self._token_bytes is not None:
            self._meter(request, self._token_bytes, key)

    def principal_of(self, request: Request) -> str:
        """Return who is counted: a token or user by its name, anybody else by the address."""
        if request.principal in ("-", "signed-url"):
            return f"{request.principal} {self.site_of(request)}"
        return f"name {request.principal}"

    def begin_upload(self, request: Request) -> None:
        """Count a body that is about to be read; it is over when the request is.

        Raises:
            TooManyUploads: its principal has as many under way as it may.
        """
        if request.proven is True:
            return
        key = self.principal_of(request)
        if self._uploads[key] >= self._terms.uploads:
            self.refused["uploads"] += 1
            who = self.site_of(request) if request.principal == "-" else request.principal
            raise TooManyUploads(who, self._terms.uploads, "--uploads-per-principal")
        self._uploads[key] += 1
        request.over = lambda: self._end_upload(key)

    def _end_upload(self, key: str) -> None:
        self._uploads[key] -= 1
        if not self._uploads[key]:
            del self._uploads[key]

    # -- the fast lane ------------------------------------------------------

    def lets_pass(self, key: str, count: int) -> bool:
        """Count an answer of the fast lane; False if the tree has to say more to it.

        Args:
            key: of the address, as :func:`dtfc.access.buckets.site_of` has it.
            count: bytes of the body, which leaves at once.
        """
        now = self._ticks()
        paced = self._bytes
        if paced is not None and (count > _slice_of(paced.rate) or paced.wait(key, now)):
            return False
        if self._requests is not None and self._requests.take(key, now):
            return False
        if paced is not None:
            paced.spend(key, now, count)
        return True

    def give_back(self, key: str, count: int) -> None:
        """Undo :meth:`lets_pass`: the tree answers, and counts."""
        if self._requests is not None:
            self._requests.give_back(key)
        if self._bytes is not None:
            self._bytes.give_back(key, count)

    # -----------------------------------------------------------------------

    def _take(self, buckets: Buckets, key: str, who: str, setting: str) -> None:
        wait = buckets.take(key, self._ticks())
        if wait:
            self.refused["requests"] += 1
            raise TooManyRequests(who, setting, max(1, math.ceil(wait)))

    def _meter(self, request: Request, buckets: Buckets, key: str) -> None:
        if request.meter is None:
            request.meter = Meter(self._ticks)
        request.meter.add(buckets, key)


def _times(per_second: float | None, burst: float) -> Buckets | None:
    return None if per_second is None else Buckets(Rate(per_second, burst))


def _bytes(rate: int | None) -> Buckets | None:
    if rate is None:
        return None
    # Two slices ahead: a turn of the loop that comes late costs nothing of the rate.
    return Buckets(Rate(float(rate), max(2.0 * SMALLEST_SLICE, 2 * rate / _SLICES)))


def _slice_of(rate: Rate) -> int:
    return int(min(max(rate.per_second / _SLICES, SMALLEST_SLICE), LARGEST_SLICE))
