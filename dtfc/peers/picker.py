"""Whom to ask for a blob, in which order.

Rules of this file: pure. No clock (``now`` is handed in), no random but the
callable that is handed in, no I/O. The same input gives the same order. Every
peer in force stands in it exactly once: the picker advises, and a blob that is
somewhere is found, whatever has been measured.

The order, each line deciding where those before it leave a draw:

1. who may be asked, before who rests after a failure, before who rests after a
   lie (of those that rest, the one first whose rest is over first);
2. who has the blob, before who has said nothing of it, before who has said that
   it has not;
3. who DNS says is to be tried first, before who is to be tried later;
4. this node's own zone, if it has one, before all others;
5. the quicker, by time to the first byte and throughput: in steps of a factor
   of two, so that peers that are about as quick share the work;
6. rendezvous hashing of digest and URL, with the weights of the list: so each
   blob has its own favourites, the same on every node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dtfc.digest import Digest
from dtfc.peers.health import Health
from dtfc.peers.holdings import Holdings
from dtfc.peers.listing import DNS, Peer
from dtfc.peers.rendezvous import draw, path_up, ranked, score

UNIT = 1024 * 1024
"""Bytes by which peers are compared: a chunk."""


class Listed(Protocol):
    """The peers in force: :class:`dtfc.peers.roster.Roster` is one."""

    def current(self) -> tuple[Peer, ...]:
        """The peers, this node itself excluded; the same tuple until they change."""

    @property
    def me(self) -> str | None:
        """This node's own URL, as it stands in the list; None if it is not known."""


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """How a peer is, for people and metrics.

    Args:
        url: of the peer.
        zone: as the list says.
        weight: as the list says.
        first_byte: seconds to its first byte, as measured; None if it was not.
        rate: bytes a second, as measured; None if it was not.
        rests: seconds for which it is asked only when nobody else is left.
        lying: whether that is because it sent wrong bytes.
        failures: how often it could not be reached, or broke off.
        lies: how often it sent wrong bytes.
        received: bytes that came from it.
        fetches: requests of loads to it, by what became of them
            (:data:`dtfc.peers.health.RESULTS`).
    """

    url: str
    zone: str
    weight: int
    first_byte: float | None
    rate: float | None
    rests: float
    lying: bool
    failures: int
    lies: int
    received: int
    fetches: Mapping[str, int] = field(default_factory=dict)


class Picker:
    """Remembers how peers have been, and orders them.

    Args:
        listed: the peers in force.
        random: returns a number from 0 to 1, for the jitter of rests.
        zone: where this node stands; empty if it has no zone.
    """

    def __init__(self, listed: Listed, random: Callable[[], float], zone: str = "") -> None:
        self.zone = zone
        self._listed = listed
        self._random = random
        self._peers: tuple[Peer, ...] = ()
        self._urls: dict[str, Peer] = {}
        self._health: dict[str, Health] = {}
        self._holdings = Holdings()

    @property
    def one_of_many(self) -> str | None:
        """This node's own URL, as its peers know it.

        None if it is not known, or there is one peer at most: who has nobody else
        to ask is not to be sent elsewhere.
        """
        return self._listed.me if len(self._in_force()) > 1 else None

    def knows(self, peer: str) -> bool:
        """Whether a URL is one of the peers in force."""
        self._in_force()
        return peer in self._urls

    # -- whom to ask --------------------------------------------------------

    def order(self, digest: Digest, now: float) -> tuple[str, ...]:
        """Return the URLs of all peers, the one to ask first standing first."""
        peers = self._in_force()
        said = self._holdings.of(digest, now)
        places = [self._place(each, digest, now, has=said.get(each.url)) for each in peers]
        return tuple(place[-1] for place in sorted(places))

    def ancestors(self, digest: Digest) -> tuple[str, ...]:
        """Return whom to ask while many nodes want one blob at once: the way up a tree.

        All nodes, this one included, are ranked by rendezvous hash; rank r asks
        rank (r - 1) // 2, then that one's parent, and so on to rank 0. So no
        node is asked by more than two, and each digest has a tree of its own.

        Returns:
            The URLs, the parent first; none for the root, or if this node does
            not know its own URL.
        """
        me = self._listed.me
        if me is None:
            return ()
        self._in_force()
        # Not the lines that DNS has not answered yet.
        known = {url for url in self._urls if not url.startswith(DNS)}
        nodes = ranked(digest, known | {me})
        return tuple(nodes[rank] for rank in path_up(nodes.index(me)))

    def holders(self, digest: Digest, now: float) -> tuple[Peer, ...]:
        """Return who is known to have a blob and does not rest, the one to ask first first."""
        having = [self._urls[url] for url in self.holding(digest, now)]
        return self._awake(having, digest, now, has=True)

    def holding(self, digest: Digest, now: float) -> list[str]:
        """Return the URLs of the same, in no order; that costs little."""
        said = self._holdings.of(digest, now)
        if not said:
            return []
        self._in_force()
        return [
            url
            for url, has in said.items()
            if has
            and url in self._urls
            and (url not in self._health or not self._health[url].rests(now))
        ]

    def unasked(self, digest: Digest, now: float) -> tuple[Peer, ...]:
        """Return who has said nothing of a blob lately and does not rest, in the same order."""
        said = self._holdings.of(digest, now)
        silent = [each for each in self._in_force() if each.url not in said]
        known = [each for each in silent if not each.url.startswith(DNS)]
        return self._awake(known, digest, now, has=None)

    def recall(self, digest: Digest, peers: Iterable[str], now: float) -> None:
        """Believe that peers still have what they were given once, unless they said otherwise."""
        said = self._holdings.of(digest, now)
        for peer in peers:
            if peer not in said:
                self._holdings.has(peer, digest, now)

    def expected_first_byte(self, peer: str, now: float) -> float:
        """Return after how many seconds a peer's first byte should be here."""
        return self._of(peer).first_byte.expected(now)

    # -- what happened ------------------------------------------------------

    def first_byte(self, peer: str, seconds: float, now: float) -> None:
        """A peer sent the head of an answer, whatever it said, after so many seconds."""
        self._of(peer).answered(seconds, now)

    def delivered(self, peer: str, count: int, seconds: float, now: float) -> None:
        """A peer sent so many bytes of a body in so many seconds, its head not counted."""
        self._of(peer).delivered(count, seconds, now)

    def fetched(self, peer: str, result: str) -> None:
        """Note what became of a request to a peer."""
        self._of(peer).fetches[result] += 1

    def failed(self, peer: str, now: float) -> None:
        """A peer could not be reached, gave no usable answer, or broke off."""
        self._of(peer).failed(now, self._random)

    def lied(self, peer: str, now: float) -> None:
        """A peer sent bytes that are not the blob's."""
        self._of(peer).lied(now)

    def has(self, peer: str, digest: Digest, now: float) -> None:
        """A peer said that it has a blob, or was given it."""
        self._holdings.has(peer, digest, now)

    def lacks(self, peer: str, digest: Digest, now: float) -> None:
        """A peer said that it does not have a blob."""
        self._holdings.lacks(peer, digest, now)

    def snapshot(self, now: float) -> tuple[PeerStatus, ...]:
        """Return how every peer is, in the order of the list."""
        return tuple(self._status(each, now) for each in self._in_force())

    # -- inside -------------------------------------------------------------

    def _in_force(self) -> tuple[Peer, ...]:
        """Return the peers; what is known of those that left the list is forgotten."""
        current = self._listed.current()
        if current is not self._peers:
            self._peers = current
            self._urls = {each.url: each for each in current}
            self._health = {
                url: health for url, health in self._health.items() if url in self._urls
            }
        return current

    def _of(self, peer: str) -> Health:
        self._in_force()
        if peer not in self._urls:
            # It left the list while it was asked: nobody will want to know.
            return Health()
        return self._health.setdefault(peer, Health())

    def _awake(
        self, peers: Iterable[Peer], digest: Digest, now: float, *, has: bool | None
    ) -> tuple[Peer, ...]:
        places = [self._place(each, digest, now, has=has) for each in peers]
        return tuple(self._urls[place[-1]] for place in sorted(places) if not place[0])

    def _place(
        self, peer: Peer, digest: Digest, now: float, *, has: bool | None
    ) -> tuple[int, float, int, int, int, int, float, str]:
        health = self._health.get(peer.url, _UNKNOWN)
        lying, dead = health.lying.left(now), health.dead.left(now)
        return (
            2 if lying else 1 if dead else 0,
            lying or dead,
            1 if has is None else 0 if has else 2,
            peer.tier,
            1 if self.zone and peer.zone != self.zone else 0,
            math.floor(math.log2(health.seconds_for(UNIT, now)) + 0.5),
            -score(draw(digest, peer.url), peer.weight),
            peer.url,
        )

    def _status(self, peer: Peer, now: float) -> PeerStatus:
        health = self._health.get(peer.url, _UNKNOWN)
        return PeerStatus(
            url=peer.url,
            zone=peer.zone,
            weight=peer.weight,
            first_byte=health.first_byte.measured,
            rate=health.rate.measured,
            rests=health.rests(now),
            lying=health.lying.left(now) > 0,
            failures=health.failures,
            lies=health.lies,
            received=health.received,
            fetches=dict(health.fetches),
        )


_UNKNOWN = Health()
