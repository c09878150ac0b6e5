"""Proof 6: one bit flipped in each of a thousand blobs, while the daemon serves them.

Nothing wrong may leave; with a peer every blob is healed, without one all go to
quarantine, and come back when there is one. The same is then found by the scrub
alone, which finds nothing wrong with what is not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tempfile
import time
from random import Random

from prove import cold, silent, spoilt
from prove.asking import Asker, Seen, some_way
from prove.bodies import LARGEST, MIB, Body, ask_json, ask_text, each_of, make_bodies, put_all
from prove.figures import Row
from prove.house import House, until
from prove.hurt import data_of, flip
from prove.zygote import Zygote

#: Blobs of the whole proof.
BLOBS = 1000

#: A scrub that nothing holds back.
_AT_ONCE = ("--scrub-rate", "100GiB/s", "--scrub-period", "3600s")
_NO_SCRUB = ("--scrub-rate", "0")

Places = dict[Body, int]


class Rounds:
    """A node whose blobs rot, and two peers.

    Args:
        zygote: starts them.
        folder: where all lies.
        seed: of everything random.
        bodies: the blobs.
        verify: the victim's ``--verify``.
    """

    def __init__(
        self, zygote: Zygote, folder: str, seed: int, bodies: list[Body], verify: str = "chunk"
    ) -> None:
        self._seed = seed
        self._chance = Random(f"{seed} rounds")
        self._verify = ("--verify", verify)
        self.bodies = bodies
        self.victim, self.good, self.other = (
            House(zygote, f"{folder}/{name}") for name in ("victim", "good", "other")
        )
        self.rows: list[Row] = []
        self._began = time.monotonic()
        self._places: Places = {}

    def fill(self) -> None:
        """Store all blobs in all three."""
        for house in (self.good, self.other, self.victim):
            house.start(*_NO_SCRUB)
            put_all(self.bodies, house.port)
        self.victim.end()
        self.other.end()

    def end(self) -> None:
        """End the daemons."""
        for house in (self.victim, self.good, self.other):
            house.end()

    # -- a round --------------------------------------------------------------

    def _begin(self, flags: tuple[str, ...], *peers: House) -> None:
        self._began = time.monotonic()
        self.victim.peers = list(peers)
        self.victim.again(*self._verify, *flags)

    def _flip(self, house: House, bodies: list[Body]) -> Places:
        places = {body: self._chance.randrange(body.size) for body in bodies}
        bits = {body: self._chance.randrange(8) for body in bodies}
        kept = {body: self._chance.random() < 0.5 for body in bodies}
        each_of(
            bodies,
            lambda body: flip(
                data_of(house.store, body), places[body], bit=bits[body], keep_time=kept[body]
            ),
        )
        return places

    def _ask(self, bodies: list[Body], seen: Seen, *, whole_too: bool = True) -> None:
        """Ask for each in some way, and then for all of it."""

        def one(number: int) -> None:
            body = bodies[number]
            asker = Asker(self.victim.port, seen, Random(f"{self._seed} {self._began} {number}"))
            some_way(asker)(body, self._places[body])
            if whole_too:
                asker.whole(body, 0)

        each_of(range(len(bodies)), one)

    def _times(self) -> dict[Body, int]:
        return {body: os.stat(data_of(self.victim.store, body)).st_mtime_ns for body in self.bodies}

    def _unhealed(self, before: dict[Body, int]) -> list[str]:
        """Compare what lies on the victim's disk with what should."""
        wrong: list[str] = []

        def look(body: Body) -> None:
            path = data_of(self.victim.store, body)
            try:
                facts = os.stat(path)
                with open(path, "rb") as file:
                    right = file.read() == body.whole
            except OSError as error:
                wrong.append(f"{body.size} bytes: {error!r}")
                return
            if not right:
                wrong.append(f"{body.size} bytes: not healed")
            if stat.S_IMODE(facts.st_mode) != 0o444:
                wrong.append(f"{body.size} bytes: mode {facts.st_mode:o}")
            if body in before and facts.st_mtime_ns != before[body]:
                wrong.append(f"{body.size} bytes: another time of modification")
            with open(f"{os.path.dirname(path)}/filename", encoding="utf-8") as file:
                if file.read().split("\n")[0] != body.name:
                    wrong.append(f"{body.size} bytes: another name")

        each_of(self.bodies, look)
        return wrong

    def _listed(self) -> int:
        """Count the victim's own blobs in its listing, page by page."""
        digests: set[str] = set()
        after = ""
        while True:
            said = ask_json(self.victim.port, f"/files.json?limit=1000{after}")
            found = re.findall(r'"sha512": *"([0-9a-f]{128})"', json.dumps(said))
            if not set(found) - digests:
                return len(digests)
            digests |= set(found)
            token = said.get("next") if isinstance(said, dict) else None
            if not token:
                return len(digests)
            after = f"&after={token}"

    def _row(self, name: str, cases: str, wrong: list[str]) -> None:
        for house in (self.victim, self.good, self.other):
            count = house.tracebacks()
            if count:
                wrong = [*wrong, *[f"a traceback in {house.folder}/output"] * count]
                os.truncate(f"{house.folder}/output", 0)
        seconds = time.monotonic() - self._began
        print(f"  {name}: {cases}; {len(wrong)} wrong; {seconds:.0f} s", flush=True)
        for each in wrong[:5]:
            print(f"    {each}", flush=True)
        self.rows.append(Row(name, cases, len(wrong), seconds, self._seed, wrong[:10]))

    # -- the rounds -----------------------------------------------------------

    def with_peers(self, *, second: bool) -> None:
        """Flip a bit in each, ask for each: all are healed.

        Args:
            second: whether the first peer that is asked may have a flipped bit, too.
        """
        peers = [self.other, self.good] if second else [self.good]
        self._begin(_NO_SCRUB, *peers)
        if second:
            self.other.peers = []
            self.other.start(*_NO_SCRUB)
            self._flip(self.other, self.bodies)
        self._places = self._flip(self.victim, self.bodies)
        before, seen = self._times(), Seen()
        self._ask(self.bodies, seen)
        wrong = list(seen.wrong)
        until(30, lambda: not self._unhealed(before))
        wrong += self._unhealed(before)
        wrong += [f"{seen.refused} refused, {seen.cut} cut"] * bool(seen.refused or seen.cut)
        if second:
            self.other.end()
        name = f"flipped bits, {len(peers)} peer{'s, one flipped too' if second else ''}"
        self._row(name, f"{_told(self.bodies, seen)}; {len(self.bodies):,} to be healed", wrong)

    def without(self) -> None:
        """Flip a bit in each, and there is no peer: all go to quarantine; then they come back."""
        self._begin(_NO_SCRUB)
        self._places = self._flip(self.victim, self.bodies)
        before, seen = self._times(), Seen()
        files = self.victim.descriptors()
        self._ask(self.bodies, seen)
        self._in_quarantine(seen, files)
        self._began = time.monotonic()
        self.victim.peers = [self.good]
        self.victim.again(*self._verify, *_NO_SCRUB, "--quarantine-retry", "1s")
        self._come_back(before)

    def peer_comes_back(self) -> None:
        """The peer is away when the damage is found, and back a little later."""
        self._begin((*_NO_SCRUB, "--quarantine-retry", "1s"), self.good)
        self.good.end()
        self._places = self._flip(self.victim, self.bodies)
        before, seen = self._times(), Seen()
        files = self.victim.descriptors()
        self._ask(self.bodies, seen)
        self._in_quarantine(seen, files)
        self._began = time.monotonic()
        self.good.start(*_NO_SCRUB)
        self._come_back(before)

    def _in_quarantine(self, seen: Seen, files: int) -> None:
        count, wrong = len(self.bodies), list(seen.wrong)
        port = self.victim.port
        if len(self.victim.quarantine) != count:
            wrong.append(f"{len(self.victim.quarantine)} in quarantine")
        again = Seen()
        each_of(self.bodies, lambda body: Asker(port, again, Random(0)).whole(body, 0))
        wrong += again.wrong
        if again.refused != count:
            wrong.append(f"{again.refused} of {count} refused")
        if listed := self._listed():
            wrong.append(f"{listed} listed")
        ready = json.dumps(ask_json(port, "/readyz?verbose"))
        if f'"quarantine": {count}' not in ready:
            wrong.append(f"/readyz: {ready}")
        told = ask_text(port, "/metrics")
        if not re.search(rf"^dtfc_quarantine_blobs {count}(\.0)?$", told, re.MULTILINE):
            wrong.append("dtfc_quarantine_blobs is another number")
        if self.victim.descriptors() > files + 60:
            wrong.append(f"{files} files were open, {self.victim.descriptors()} are")
        self._row(
            "flipped bits, no peer", f"{_told(self.bodies, seen)}; {count:,} to quarantine", wrong
        )

    def _come_back(self, before: dict[Body, int]) -> None:
        until(60 + len(self.bodies) / 5, lambda: not self.victim.quarantine)
        wrong = self._unhealed(before)
        wrong += [f"still in quarantine: {each}" for each in self.victim.quarantine]
        if self._listed() != len(self.bodies):
            wrong.append(f"{self._listed()} listed")
        self._row("a peer is back", f"{len(self.bodies):,} from quarantine", wrong)

    def scrubbed(self, *, peer: bool) -> None:
        """Flip a bit in half of them: the scrub finds these and no other."""
        half = self.bodies[::2]
        self._begin(_NO_SCRUB)
        self._flip(self.victim, half)
        before = self._times()
        self._begin(_AT_ONCE, *([self.good] if peer else []))
        metric = re.compile(
            r"^dtfc_scrub_last_success_timestamp_seconds ([0-9.e+]+)$", re.MULTILINE
        )

        def passed() -> bool:
            match = metric.search(ask_text(self.victim.port, "/metrics"))
            return match is not None and float(match[1]) > 0

        wrong = [] if until(600, passed) else ["the scrub did not end"]
        told = ask_text(self.victim.port, "/metrics")
        found = {
            kind: int(float(count))
            for kind, count in re.findall(
                r'^dtfc_scrub_findings_total\{kind="(\w+)"\} ([0-9.]+)$', told, re.MULTILINE
            )
        }
        if found != {**dict.fromkeys(found, 0), "corrupt": len(half)}:
            wrong.append(f"found: {found}")
        if peer:
            until(30, lambda: not self._unhealed(before))
            wrong += self._unhealed(before)
        else:
            digests = {name.split(".")[0] for name in self.victim.quarantine}
            if digests != {body.digest.hex for body in half}:
                wrong.append(f"{len(digests)} in quarantine")
        done = "healed" if peer else "quarantine"
        cases = f"{len(half):,} flipped, {found.get('corrupt')} found ({done}); "
        false = max(0, sum(found.values()) - len(half))
        cases += f"{len(self.bodies) - len(half):,} sound, {false} called wrong"
        self._row("the scrub alone" + ("" if peer else ", no peer"), cases, wrong)
        self.victim.end()
        os.unlink(f"{self.victim.store}/.dtfc/scrub")


def _told(bodies: list[Body], seen: Seen) -> str:
    return (
        f"{len(bodies):,} blobs, {seen.answers:,} answers, {seen.bytes / MIB:,.0f} MiB; "
        f"{seen.complete:,} complete, {seen.refused:,} refused, {seen.cut:,} cut"
    )


def flipped(
    seed: int, blobs: int, *, largest: int = LARGEST, folder: str | None = None
) -> list[Row]:
    """Flip bits in so many blobs.

    Args:
        seed: of everything random.
        blobs: how many.
        largest: bytes that one may have.
        folder: where to work; None for a temporary one.
    """
    root = tempfile.mkdtemp(prefix="dtfc-prove-", dir=folder)
    try:
        with Zygote() as zygote:
            chance = Random(f"{seed} bodies")
            bodies = make_bodies(chance, blobs, largest=largest)
            rounds = Rounds(zygote, root, seed, bodies)
            try:
                rounds.fill()
                rounds.with_peers(second=False)
                rounds.with_peers(second=True)
                rounds.without()
                rounds.peer_comes_back()
                # For the scrub, as many sound ones, that are smaller.
                sound = make_bodies(Random(f"{seed} sound"), blobs, largest=min(largest, 4 * MIB))
                known = {body.digest for body in bodies}
                sound = [body for body in sound if body.digest not in known]
                rounds.victim.again(*_NO_SCRUB)
                put_all(sound, rounds.victim.port)
                pairs = zip(bodies, sound, strict=False)
                rounds.bodies = [body for pair in pairs for body in pair]
                rounds.bodies += bodies[len(sound) :]
                rounds.scrubbed(peer=True)
                rounds.scrubbed(peer=False)
            finally:
                rounds.end()
            return rounds.rows
    finally:
        shutil.rmtree(root, ignore_errors=True)


def prove(seed: int, share: float) -> list[Row]:
    """Flip a bit in each of 1,000 blobs, or a share of that; then rot of every other kind."""
    rows = flipped(seed, max(10, int(BLOBS * share)))
    rows += spoilt.prove(seed, share)
    rows += silent.prove(seed, share)
    return [*rows, *cold.prove(seed, share)]
