"""What is made of chunk maps, and of a whole that is wrong: the doubts of ``dtfc.peers.pull``.

Rules of this file: pure. Nobody is taken for a liar for good before the digest
of the whole has told who spoke the truth.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from dtfc.peers.dealing import Dealing
from dtfc.peers.hearsay import Hearsay
from dtfc.peers.steps import (
    Accuse,
    Action,
    AskMap,
    Complete,
    Mapped,
    Note,
    Outcome,
    Restart,
    TakeBack,
    Trust,
    Verified,
)
from dtfc.store.chunkmap import CHUNK

MAPS_AT_ONCE = 2
"""Chunk maps that are asked for while nothing is known to be wrong ..."""

MAPS_IN_DOUBT = 16
"""... and for a whole that is."""


class Doubting(Dealing):
    """Peers' words on the blob, compared with what came."""

    def _go_on(self) -> list[Action]:
        """Give work to whoever has none, and see whether it is over."""
        raise NotImplementedError

    def _finish(self, outcome: Outcome) -> list[Action]:
        """End the load."""
        raise NotImplementedError

    def _hashed(self, chunk: int, sha256: bytes) -> list[Action]:
        hearsay = self.hearsay
        if hearsay is None or not self.held.has(*hearsay.span(chunk)):
            return []
        hearsay.note(chunk, sha256)
        word = hearsay.word(chunk)
        if word is None:
            return []
        if word == sha256:
            hearsay.replaced.pop(chunk, None)
            return [Trust((chunk,))]
        return self._against_the_word(hearsay, chunk, sha256)

    def _against_the_word(self, hearsay: Hearsay, chunk: int, sha256: bytes) -> list[Action]:
        sender = self._sender_of(hearsay, chunk)
        earlier = hearsay.replaced.setdefault(chunk, [])
        # By another peer's bytes, or since there was nobody but the same one.
        confirmed = any(sent == sha256 or peer == sender for peer, sent in earlier)
        avoid = {sender, *(peer for peer, _ in earlier)}
        if confirmed or (sender is not None and not self._anybody_but(avoid)):
            return self._refute(hearsay, chunk)
        earlier.append((sender, sha256))
        self._thrown_away(chunk, sender, sha256)
        actions = self._take_back(hearsay, [chunk])
        if sender is not None and not self._records[sender].suspect:
            # Until it is known who lies, others are asked.
            self._records[sender].suspect = True
            for job in list(self._jobs.values()):
                if job.peer == sender and self._anybody_but({sender}):
                    actions += self._set_aside(job)
        return [*actions, *self._go_on()]

    def _thrown_away(self, chunk: int, sender: str | None, sha256: bytes) -> None:
        """Remember who sent what, until the digest of the whole tells whether it was wrong."""
        if sender is not None:
            self._evidence[sender] = (chunk, sha256)

    def _sender_of(self, hearsay: Hearsay, chunk: int) -> str | None:
        start, _ = hearsay.span(chunk)
        return next(
            (p for p, spans in self._from.items() if p and spans.reach(start) > start), None
        )

    def _anybody_but(self, peers: set[str | None]) -> bool:
        return any(
            record.usable and not record.whole_only
            for peer, record in self._records.items()
            if peer not in peers
        )

    def _refute(self, hearsay: Hearsay, chunk: int) -> list[Action]:
        """Give up the maps whose word on a chunk nobody's bytes bear out."""
        word = hearsay.word(chunk)
        actions: list[Action] = []
        if word is not None:
            for peer in hearsay.who_says(chunk, word):
                hearsay.refute(peer)
                actions.append(Note(peer, "its chunk map agrees with nobody's bytes"))
        hearsay.replaced.pop(chunk, None)
        for record in self._records.values():
            record.suspect = False
        return [*actions, *self._compare(hearsay), *self._go_on()]

    def _take_back(self, hearsay: Hearsay, chunks: Sequence[int]) -> list[Action]:
        for chunk in chunks:
            start, end = hearsay.span(chunk)
            hearsay.forget(chunk)
            self.held.remove(start, end)
            for spans in self._from.values():
                spans.remove(start, end)
        return [TakeBack(tuple(chunks))]

    def _mapped(self, event: Mapped) -> list[Action]:
        self._maps_awaited.discard(event.peer)
        hearsay = self.hearsay
        if hearsay is None:
            return []
        heard = event.map is not None and hearsay.hear(event.peer, event.map)
        if self._doubting:
            return self._follow_a_map(hearsay) if not self._maps_awaited else []
        return [*self._compare(hearsay), *self._go_on()] if heard else self._ask_maps()

    def _compare(self, hearsay: Hearsay) -> list[Action]:
        """Compare all that is here with the maps at hand."""
        right: list[int] = []
        wrong: list[tuple[int, bytes]] = []
        for chunk, sha256 in hearsay.hashed():
            word = hearsay.word(chunk)
            if word == sha256:
                right.append(chunk)
            elif word is not None:
                wrong.append((chunk, sha256))
        actions: list[Action] = [Trust(tuple(right))] if right else []
        for chunk, sha256 in wrong:
            if hearsay.word(chunk) not in (None, sha256):
                actions += self._against_the_word(hearsay, chunk, sha256)
        return actions

    def _ask_maps(self) -> list[Action]:
        """Ask for maps, if there is use for them."""
        hearsay = self.hearsay
        if hearsay is None or self._alone or not self._length_bound or hearsay.length <= CHUNK:
            return []
        most = MAPS_IN_DOUBT if self._doubting else MAPS_AT_ONCE
        if not (self._map_wanted or self._doubting or len(self._from) > 1 or self.left_over):
            return []
        room = most - len(hearsay) - len(self._maps_awaited)
        actions: list[Action] = []
        for peer in self._whose_maps():
            if len(actions) >= room:
                break
            self._records[peer].map_asked = True
            self._maps_awaited.add(peer)
            actions.append(AskMap(peer))
        return actions

    def _whose_maps(self) -> list[str]:
        """Return the peers to be asked for their maps: those that have the blob; all, in doubt."""
        sending = [job.peer for job in self._jobs.values() if job.taking]
        known = dict.fromkeys([*sending, *(peer for peer in self._from if peer is not None)])
        if self._doubting:
            known.update(dict.fromkeys(self._records))
        return [
            peer
            for peer in known
            if self._records[peer].usable and not self._records[peer].map_asked
        ]

    def _verified(self, event: Verified) -> list[Action]:
        if event.right:
            return [*self._who_lied(), *self._finish(Complete())]
        hearsay = self.hearsay
        if hearsay is None:
            # What was left over is not the whole, as was to be expected.
            return self._go_on()
        if not self.held.has(0, hearsay.length):
            # A chunk was found wrong, and taken back, while the whole was compared.
            return self._go_on()
        if hearsay.length <= CHUNK or self._alone:
            return self._no_map_helps()
        self._doubting = True
        for record in self._records.values():
            record.suspect = False
        asked = self._ask_maps()
        return asked if self._maps_awaited else self._follow_a_map(hearsay)

    def _follow_a_map(self, hearsay: Hearsay) -> list[Action]:
        """Fetch again what one of the maps calls wrong: first the one that calls least so."""
        found = {peer: hearsay.faults(peer) for peer in hearsay.peers}
        actions: list[Action] = []
        for peer, bad in found.items():
            if not bad:
                hearsay.refute(peer)
                actions.append(Note(peer, "its chunk map finds no fault in wrong bytes"))
        left = {peer: bad for peer, bad in found.items() if bad}
        if not left:
            self._doubting = False
            return [*actions, *self._no_map_helps()]
        guide = min(left, key=lambda peer: len(left[peer]))
        hearsay.follow(guide)
        for chunk in left[guide]:
            was, sender = hearsay.hash_of(chunk), self._sender_of(hearsay, chunk)
            if was is not None:
                hearsay.replaced.setdefault(chunk, []).append((sender, was))
                self._thrown_away(chunk, sender, was)
        actions += self._take_back(hearsay, left[guide])
        if not self._queue:
            self._new_round()
        return [*actions, *self._go_on()]

    def _who_lied(self) -> list[Action]:
        """Tell of those whose bytes had to be replaced, now that it is known which are right."""
        if self.hearsay is None:
            return []
        return [
            Accuse(peer, "sent a chunk that is wrong")
            for peer, (chunk, sha256) in self._evidence.items()
            if self.hearsay.hash_of(chunk) not in (None, sha256)
        ]

    def _no_map_helps(self) -> list[Action]:
        sources = [p for p, spans in self._from.items() if p is not None]
        if len(sources) == 1 and not self.left_over:
            return self._blame(sources[0])
        if self._alone or not self._records:
            return [*self._restart(), *self._go_on()]
        return [*self._begin_alone(), *self._go_on()]

    def _exclude(self, peer: str, reason: str) -> list[Action]:
        record = self._records[peer]
        if record.excluded:
            return []
        record.excluded = True
        record.reason = reason
        actions: list[Action] = []
        for job in list(self._jobs.values()):
            if job.peer == peer:
                actions += self._drop(job)
        return [Note(peer, reason), Accuse(peer, reason), *actions]

    def _blame(self, peer: str) -> list[Action]:
        actions = [*self._exclude(peer, "sent bytes with another digest"), *self._restart()]
        if not self._alone:
            self._new_round()
        return [*actions, *self._go_on()]

    def _begin_alone(self) -> list[Action]:
        self._alone = True
        self._doubting = False
        self._fruitless = 0
        usable = [peer for peer, record in self._records.items() if not record.excluded]
        usable.sort(key=lambda peer: not self._records[peer].disputes)
        for peer in usable:
            record = self._records[peer]
            record.failures = record.tries_alone = 0
            record.lost = record.suspect = False
        self._queue = deque(usable)
        self._later.clear()
        return self._restart()

    def _new_round(self) -> None:
        self._progress = False
        busy = {job.peer for job in self._jobs.values()}
        self._queue = deque(
            peer
            for peer, record in self._records.items()
            if record.usable
            and peer not in busy
            and peer not in self._later
            and not record.disputes
        )

    def _restart(self) -> list[Action]:
        held = self.held.total
        self.held.clear()
        self.length = None
        self.hearsay = None
        self._length_bound = False
        self._from.clear()
        self._wanted.clear()
        self._maps_awaited.clear()
        for record in self._records.values():
            record.map_asked = False
        return [Restart()] if held else []
