"""Which peers take copies now, and since when the others do not.

Rules of this file: no clock and no network: whoever asks says what time it is. A
peer that failed rests, longer each time, and is asked whether it is there again
before anything is sent to it. Since when it fails is forgotten only when it has
taken something: one that answers but takes nothing is no better than one that
is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

#: Seconds of the first rest, doubled with each further failure ...
SHORTEST_REST = 1.0

#: ... up to this.
LONGEST_REST = 30.0


@dataclass(slots=True)
class _Failing:
    since: float
    failures: int
    until: float
    down: bool = True
    probing: bool = False


class Reach:
    """What is known of all peers.

    Args:
        random: returns a number from 0 to 1, so that nodes do not ask in step.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._failing: dict[str, _Failing] = {}

    def is_down(self, peer: str) -> bool:
        """Whether nothing is to be sent to a peer now."""
        failing = self._failing.get(peer)
        return failing is not None and failing.down

    def is_gone(self, peer: str, now: float, patience: float) -> bool:
        """Whether a peer is down for so long that another one takes its place."""
        failing = self._failing.get(peer)
        return failing is not None and failing.down and now - failing.since >= patience

    def gone_at(self, peer: str, patience: float) -> float | None:
        """When another one takes a peer's place if nothing changes; None if it is not down."""
        failing = self._failing.get(peer)
        return failing.since + patience if failing is not None and failing.down else None

    def down(self) -> list[str]:
        """Return the peers that are down."""
        return [peer for peer, failing in self._failing.items() if failing.down]

    def failed(self, peer: str, now: float) -> bool:
        """Note that a peer was not reached; return whether it was not down before."""
        failing = self._failing.get(peer)
        if failing is None:
            failing = self._failing[peer] = _Failing(now, 0, 0.0, down=False)
        news = not failing.down
        failing.down = True
        failing.probing = False
        failing.failures += 1
        rest = min(LONGEST_REST, SHORTEST_REST * 2.0 ** min(failing.failures - 1, 30))
        failing.until = now + rest * (0.5 + self._random() / 2)
        return news

    def took(self, peer: str) -> None:
        """Note that a peer has taken something, or had it."""
        self._failing.pop(peer, None)

    def to_probe(self, now: float) -> list[str]:
        """Return the peers whose rest is over; each is given out once a rest."""
        due = [
            peer
            for peer, failing in self._failing.items()
            if failing.down and not failing.probing and failing.until <= now
        ]
        for peer in due:
            self._failing[peer].probing = True
        return due

    def answers(self, peer: str) -> None:
        """Note that a peer answers again."""
        failing = self._failing.get(peer)
        if failing is not None:
            failing.down = failing.probing = False

    def keep(self, peers: Collection[str]) -> None:
        """Forget every other peer."""
        for peer in self._failing.keys() - set(peers):
            del self._failing[peer]
