"""One story: a plan carried out, and everything that must be true looked at all the while."""

from __future__ import annotations

import gc
import json
import os
import random
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, cast

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogBeginner

from simulate.cluster import (
    Cluster,
    Place,
    address_of,
    descriptors_below,
    digest_of,
    liar_address,
    url_of,
)
from simulate.errands import Errands
from simulate.faults import Faults
from simulate.hermetic import CHUNK, seal
from simulate.network import Network
from simulate.plan import ERRANDS, Plan, plan
from simulate.truth import Truth
from simulate.world import World

#: Seconds of the false clock within which every request must have ended once all
#: faults have: many times what the deadlines of all peers together come to.
LONGEST = 400.0

#: Seconds after which nothing is under way any more: idle connections are closed,
#: quarantines looked through.
QUIET = 90.0

#: Seconds in which a connection with nothing on it must have been closed.
IDLE = 75.0

#: Seconds within which a load must have ended that finds nobody who has the blob.
LOAD = 15.0

#: Tries within which a blob that a reachable peer has must come.
TRIES = 5


@dataclass(slots=True)
class Outcome:
    """What became of a story.

    Args:
        seed: which.
        violations: what was not as it must be.
        history: a hash of all that happened.
        events: how many things happened.
        seconds: how long it took, on the false clock.
        counts: what clients did and were told.
        lines: the record, if it was kept.
    """

    seed: int
    violations: list[str] = field(default_factory=list)
    history: str = ""
    events: int = 0
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


class Story:
    """One cluster, one plan.

    Args:
        seed: of everything.
        the_plan: what is to happen.
        folder: for the stores; empty.
        keep: whether to keep the record.
    """

    def __init__(self, seed: int, the_plan: Plan, folder: str, *, keep: bool = False) -> None:
        self.plan = the_plan
        self.world = World(f"world {seed}", keep=keep)
        self.network = Network(self.world, random.Random(f"network {seed}"))
        self.cluster = Cluster(self.world, self.network, folder)
        contents = [_content(seed, number, size) for number, size in enumerate(the_plan.sizes)]
        self.digests = [digest_of(content) for content in contents]
        self.ghost = digest_of(f"never there {seed}".encode())
        self.truth = Truth(dict(zip(self.digests, contents, strict=True)), the_plan.nodes)
        self.errands = Errands(
            self.world, self.network, self.truth, self.ghost, honest=not the_plan.liars
        )
        self.faults = Faults(self.cluster, self.truth)

    # -- the whole ----------------------------------------------------------------

    def run(self, keep: Collection[int] | None = None) -> None:
        """Carry it out.

        Args:
            keep: numbers of the steps that happen; all, if None.
        """
        globalLogBeginner.beginLoggingTo(
            [cast("ILogObserver", self._logged)], redirectStandardIO=False, discardBuffer=True
        )
        self._set_up()
        for step in self.plan.steps:
            if keep is None or step.number in keep:
                self.world.note(str(step))
                getattr(self.errands if step.kind in ERRANDS else self.faults, step.kind)(
                    **step.facts
                )
            # Time passes as if it had happened: what comes after is in its place.
            self.world.pass_time(step.wait)
            self._look(f"after step {step.number}")
        self._calm_down()
        self._ask_everybody()
        self._come_to_rest()

    def _set_up(self) -> None:
        liars = [
            self.cluster.add_liar(number, lie, self.truth.blobs.get)
            for number, lie in enumerate(self.plan.liars)
        ]
        for index, others in enumerate(self.plan.lists):
            peers = [address_of(other) for other in others]
            peers = liars + peers if self.plan.liar_first else peers + liars
            place = self.cluster.add(peers, offset=self.plan.offsets[index], **self.plan.flags)
            self.cluster.start(place)

    def _logged(self, event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            self.truth.broken(
                f"a failure was logged: {formatEvent(event)}: {failure.getTraceback()}"
            )

    # -- what must be true --------------------------------------------------------

    def _look(self, when: str) -> None:
        """Look at the stores: what must lie there, and what must not."""
        for node, digest in self.truth.must_have():
            if not os.path.exists(self.cluster.data_of(self.cluster.places[node], digest)):
                self._broken(f"{when}: lost: blob {self._name(digest)} of node {node}")
                self.truth.rotted(node, digest, self.world.now)  # said once
        for node, digest in self.truth.must_lack():
            if os.path.exists(self.cluster.data_of(self.cluster.places[node], digest)):
                self._broken(f"{when}: deleted, and back: blob {self._name(digest)} of node {node}")
                self.truth.begins(node, digest, "put", self.world.now)  # said once

    def _broken(self, what: str) -> None:
        self.world.note(f"BROKEN {what}")
        self.truth.broken(what)

    def _name(self, digest: str) -> int:
        return self.digests.index(digest)

    def _calm_down(self) -> None:
        """End all faults; everything that was asked for must end."""
        self.world.note("all faults end")
        self.network.heal()
        self.network.clear()
        for place in self.cluster.places:
            if place.running is None:
                self.cluster.start(place)
        if not self.world.pass_until(lambda: not self.errands.open, LONGEST):
            for what in self.errands.open.values():
                self._broken(f"left hanging: {what}")
            self.errands.open.clear()
        # What was held back is carried out, what peers are thought of is forgotten.
        self.world.pass_time(30)
        self._await_receipts()
        self.truth.settled(self.world.now)
        self._look("when all was calm")

    def _await_receipts(self) -> None:
        """Every deletion everywhere must have reached every peer by and by."""
        ended = self.world.now + LONGEST
        for digest, write, path in self.errands.receipts:
            told = self._receipt(write.node, path)
            while told.get("status") == "pending" and self.world.now < ended:
                self.world.pass_time(5)
                told = self._receipt(write.node, path)
            states = {url: peer["state"] for url, peer in told.get("peers", {}).items()}
            liars = [url_of(liar_address(number)) for number in range(len(self.plan.liars))]
            honest = {url: state for url, state in states.items() if url not in liars}
            blob = self._name(digest)
            if not told or "pending" in honest.values():
                self._broken(f"the deletion of blob {blob} by node {write.node}: {told}")
            elif "overruled" not in honest.values():
                reached = [
                    place.index
                    for place in self.cluster.places
                    if place.index == write.node or url_of(place.address) in honest
                ]
                self.truth.complete(digest, write, reached)

    def _receipt(self, node: int, path: str) -> dict[str, Any]:
        answer = self.errands.receipt(node, path)
        self.world.pass_until(lambda: answer.over, LONGEST, 0.02)
        if not answer.complete or answer.status != 200:
            return {}
        told: dict[str, Any] = json.loads(bytes(answer.body))
        return told

    def _ask_everybody(self) -> None:
        """Ask every node for every blob."""
        for place in self.cluster.places:
            for blob, digest in enumerate(self.digests):
                self._ask_for(place.index, blob, digest)
            self._expect(place.index, -1, 404, tries=TRIES)
        self._look("at the end")

    def _ask_for(self, node: int, blob: int, digest: str) -> None:
        if self.truth.lacks(node, digest):
            self._expect(node, blob, 404)
        elif self.truth.has(node, digest):
            self._expect(node, blob, 200)
        elif self._reachable(node, digest):
            self._expect(node, blob, 200, tries=TRIES)
        else:
            self._expect(node, blob, None)

    def _reachable(self, node: int, digest: str) -> bool:
        """Whether one of the peers that a node asks must have a blob that it may load."""
        if self.truth.deleted_at_some_time(node, digest):
            return False
        return any(
            self.truth.has(other, digest) for other in self.plan.lists[node] if other != node
        )

    def _expect(self, node: int, blob: int, status: int | None, tries: int = 1) -> None:
        told: list[object] = []
        for _ in range(tries):
            answer = self.errands.get(node=node, blob=blob)
            if not self.world.pass_until(lambda answer=answer: answer.over, LONGEST, 0.02):  # type: ignore[misc]
                self._broken(f"left hanging: GET of blob {blob} from node {node}, in calm")
                self.errands.open.clear()
                return
            if status is None or (answer.complete and answer.status == status):
                return
            told.append((answer.status, answer.complete, bytes(answer.body[:600])))
            self.world.pass_time(12)
        self._broken(f"blob {blob} from node {node}: not {status}, but {told}")

    def _come_to_rest(self) -> None:
        """Nothing may be left: no connection, no descriptor, no timer."""
        self.world.pass_time(QUIET)
        for place in self.cluster.places:
            running = place.running
            if running is None:
                continue
            long_ago = self.world.now - IDLE
            idle = [
                end.peer for end in self.network.ends_of(place.address) if end.busy_at < long_ago
            ]
            if idle:
                self._broken(f"connections left on node {place.index}: {idle}")
            # Something is looked at every second.
            if not self.world.pass_until(lambda disk=running.disk: not disk.running, 5, 0.001):  # type: ignore[misc]
                self._broken(f"steps of the disk left on node {place.index}")
            # What is in quarantine is asked for again and again, each time a load that ends.
            partials = f"{place.folder}/store/.dtfc/partial"
            if not self.world.pass_until(lambda at=partials: not descriptors_below(at), LOAD, 0.1):  # type: ignore[misc]
                self._broken(f"partials left open on node {place.index}")
        for place in self.cluster.places:
            self._end(place)

    def _end(self, place: Place) -> None:
        running = place.running
        if running is None:
            return
        if not self.cluster.stop(place, 60):
            self._broken(f"node {place.index} does not stop")
            return
        if pending := running.machine.getDelayedCalls():
            self._broken(f"timers left by node {place.index}: {pending}")
        if left := descriptors_below(place.folder):
            names = [os.readlink(f"/proc/self/fd/{each}") for each in left]
            self._broken(f"descriptors left by node {place.index}: {names}")


def _content(seed: int, number: int, size: int) -> bytes:
    return random.Random(f"content {seed} {number}").randbytes(size)


@dataclass(frozen=True, slots=True)
class Telling:
    """How a story is told.

    Args:
        steps: how many it has.
        keep: numbers of the steps that happen; all, if None.
        lines: whether its record is wanted.
        liars: whether there may be peers that lie.
    """

    steps: int
    keep: Collection[int] | None = None
    lines: bool = False
    liars: bool = True


def tell(seed: int, telling: Telling, folder: str) -> Outcome:
    """Carry out one story, in a process that is good for nothing else after it."""
    gc.disable()
    planned = plan(seed, telling.steps, CHUNK, liars=telling.liars)
    story = Story(seed, planned, folder, keep=telling.lines)
    seal(story.world)
    story.run(telling.keep)
    # A failure that nobody has heard of is logged when it is collected.
    gc.collect()
    return Outcome(
        seed,
        story.truth.violations,
        story.world.history(),
        story.world.happened,
        story.world.now,
        dict(sorted([*story.errands.counts.items(), ("rotted", story.faults.rotted)])),
        story.world.lines,
    )
