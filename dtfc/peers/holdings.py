"""Who has a blob, and who does not, as far as they have said so lately.

Rules of this file: pure; seconds are handed in. Bounded: the digests that were
heard of the longest ago are forgotten first.
"""

from __future__ import annotations

from dtfc.digest import Digest

HAS_SECONDS = 3600.0
"""How long it is believed that a peer has a blob: it may delete it."""

LACKS_SECONDS = 15.0
"""How long it is believed that it has not: it may load it at any moment."""

MOST = 20_000
"""Peers and digests that are remembered, in pairs."""

MOST_HOLDERS = 64
"""Of one digest: as many as anybody would ask."""


class Holdings:
    """Remembers what peers said of digests.

    Args:
        most: pairs that are remembered.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._count = 0
        # Seconds until which it is believed; below zero, that it has not.
        self._said: dict[Digest, dict[str, float]] = {}

    def __len__(self) -> int:
        """How many pairs are remembered."""
        return self._count

    def has(self, peer: str, digest: Digest, now: float) -> None:
        """A peer has a blob."""
        self._note(peer, digest, now + HAS_SECONDS)

    def lacks(self, peer: str, digest: Digest, now: float) -> None:
        """A peer does not have it."""
        self._note(peer, digest, -(now + LACKS_SECONDS))

    def of(self, digest: Digest, now: float) -> dict[str, bool]:
        """Say who has it (True) and who does not (False); the others said nothing lately."""
        said = self._said.get(digest, {})
        return {
            peer: until > 0
            for peer, until in said.items()
            if 0 < abs(until) - now <= (HAS_SECONDS if until > 0 else LACKS_SECONDS)
        }

    def _note(self, peer: str, digest: Digest, until: float) -> None:
        # A dict keeps the order of insertion: what was heard of last stands last.
        said = self._said.pop(digest, {})
        self._count -= len(said)
        said.pop(peer, None)
        alike = [each for each, told in said.items() if (told > 0) == (until > 0)]
        if len(alike) >= (MOST_HOLDERS if until > 0 else self._most // 4):
            del said[alike[0]]
        said[peer] = until
        self._said[digest] = said
        self._count += len(said)
        while self._count > self._most:
            self._count -= len(self._said.pop(next(iter(self._said))))
