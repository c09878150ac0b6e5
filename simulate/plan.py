"""What happens in one story: decided before it begins, from the seed alone.

Rules of this file: pure. A step carries all that it needs, so that a story from
which steps were left out still makes sense (``simulate.shrinking``).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from simulate.liars import LIES

#: Kinds of steps, and how often each comes.
KINDS: dict[str, int] = {
    "put": 24,
    "get": 34,
    "crowd": 3,
    "head": 4,
    "delete": 6,
    "everywhere": 2,
    "doom": 8,
    "block": 3,
    "heal": 3,
    "slow": 2,
    "crash": 2,
    "restart": 5,
    "rot": 2,
    "clock": 1,
}

#: Of those, the ones that are a client's; the others are faults.
ERRANDS = frozenset({"put", "get", "crowd", "head", "delete", "everywhere"})


#: Large blobs, of the last numbers.
LARGE = 2


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens.

    Args:
        number: its place in the whole story.
        kind: what.
        facts: the rest.
        wait: seconds that pass after it.
    """

    number: int
    kind: str
    facts: dict[str, Any]
    wait: float

    def __str__(self) -> str:
        facts = " ".join(f"{name}={value}" for name, value in self.facts.items())
        return f"{self.number:3} {self.kind} {facts}; then {self.wait:.3f} s"


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole story.

    Args:
        nodes: how many.
        lists: for each node, whom it asks: numbers of nodes.
        liars: what each of them does.
        liar_first: whether they stand first in the lists.
        offsets: seconds by which each node's clock is ahead.
        flags: settings of all nodes, with underscores.
        sizes: of the blobs.
        steps: in order.
    """

    nodes: int
    lists: tuple[tuple[int, ...], ...]
    liars: tuple[str, ...]
    liar_first: bool
    offsets: tuple[float, ...]
    flags: dict[str, str]
    sizes: tuple[int, ...]
    steps: tuple[Step, ...]


def plan(seed: int, steps: int, chunk: int, *, liars: bool = True) -> Plan:
    """Decide a story.

    Args:
        seed: of everything.
        steps: how many.
        chunk: bytes of a chunk.
        liars: whether there may be any.
    """
    rng = random.Random(f"plan {seed}")
    nodes = rng.choice((3, 3, 4, 5))
    sizes = (
        rng.choice((0, 1, 100)),
        rng.randrange(1, chunk),
        rng.choice((chunk - 1, chunk, chunk + 1)),
        rng.randrange(chunk, 3 * chunk),
        rng.randrange(2 * chunk, 7 * chunk),
        # So large that it takes a while: more than connections hold.
        *(rng.randrange(14 * chunk, 20 * chunk) for _ in range(LARGE)),
    )
    lies = tuple(rng.choice(LIES) for _ in range(rng.choice((0, 0, 1, 1, 2)))) if liars else ()
    flags = {
        "verify": rng.choice(("chunk", "chunk", "whole")),
        "finish_load": rng.choice(("0.5", "0", "1")),
    }
    if rng.random() < 0.15:
        flags |= {"scrub_rate": "1MiB/s", "scrub_period": "60s"}
    lists = _lists(rng, nodes)
    if rng.random() < 0.3:
        flags["replicas"] = rng.choice(("2", "3"))
        flags["write_quorum"] = rng.choice(("1", "1", "2"))
    # A number of its own, so that what else befalls stays as it was.
    flags["peer_receivers"] = random.Random(f"receivers {seed}").choice(("2", "1", "1", "0"))
    return Plan(
        nodes=nodes,
        lists=lists,
        liars=lies,
        liar_first=rng.random() < 0.5,
        offsets=tuple(rng.choice((0.0, 0.0, 0.7, 3600.0, -3600.0)) for _ in range(nodes)),
        flags=flags,
        sizes=sizes,
        steps=tuple(_step(seed, number, nodes, len(lies), sizes) for number in range(steps)),
    )


def _lists(rng: random.Random, nodes: int) -> tuple[tuple[int, ...], ...]:
    everyone = tuple(range(nodes))
    kind = rng.random()
    if kind < 0.7:
        return (everyone,) * nodes
    if kind < 0.85:
        return tuple(((each + 1) % nodes,) for each in everyone)
    return tuple(tuple(rng.sample(everyone, rng.randrange(1, nodes))) for _ in everyone)


def _step(seed: int, number: int, nodes: int, liars: int, sizes: tuple[int, ...]) -> Step:
    # Of its own chance, so that no step depends on those before it.
    chance = _Chance(random.Random(f"step {seed} {number}"), nodes, liars, sizes)
    kind = chance.rng.choices(list(KINDS), list(KINDS.values()))[0]
    facts = getattr(chance, kind)()
    rng = chance.rng
    waits = (0.0, 0.0, 0.001, rng.uniform(0, 0.05), rng.uniform(0, 0.5), rng.uniform(0, 3))
    return Step(number, kind, facts, round(rng.choice(waits), 4))


class _Chance:
    """What a step of each kind needs to know.

    Args:
        rng: decides.
        nodes: how many.
        liars: how many.
        sizes: of the blobs.
    """

    def __init__(self, rng: random.Random, nodes: int, liars: int, sizes: tuple[int, ...]) -> None:
        self.rng = rng
        self._nodes = nodes
        self._liars = liars
        self._sizes = sizes

    def _node(self) -> dict[str, Any]:
        return {"node": self.rng.randrange(self._nodes)}

    def _blob(self) -> dict[str, Any]:
        return {**self._node(), "blob": self.rng.randrange(len(self._sizes))}

    def _pair(self) -> dict[str, Any]:
        node = self.rng.randrange(self._nodes)
        return {"node": node, "other": (node + self.rng.randrange(1, self._nodes)) % self._nodes}

    def put(self) -> dict[str, Any]:
        by = self.rng.choice(("name", "digest", "both"))
        wrong = by != "name" and self.rng.random() < 0.1
        return {**self._blob(), "by": by, "wrong": wrong}

    def get(self) -> dict[str, Any]:
        rng, facts = self.rng, self._blob()
        size = self._sizes[facts["blob"]]
        if rng.random() < 0.05:
            facts["blob"] = -1  # one that never was
        if rng.random() < 0.4:
            facts["first"], facts["last"] = _range(rng, size)
        if rng.random() < 0.15:
            facts["leave_after"] = rng.randrange(size + 1)
        if rng.random() < 0.08:
            facts["pause"] = round(rng.uniform(0.1, 15), 2)
        if rng.random() < 0.1:
            facts["peerload"] = False
        return facts

    def crowd(self) -> dict[str, Any]:
        blob = len(self._sizes) - 1 - self.rng.randrange(LARGE)
        return {**self._node(), "blob": blob, "nodes": self._nodes}

    def head(self) -> dict[str, Any]:
        return self._blob()

    def delete(self) -> dict[str, Any]:
        return self._blob()

    def everywhere(self) -> dict[str, Any]:
        return self._blob()

    def doom(self) -> dict[str, Any]:
        rng = self.rng
        return {
            "node": rng.randrange(self._nodes + self._liars),
            "after": rng.choice((0, 1, 300, rng.randrange(1, 2 * max(self._sizes)))),
            "silent": rng.random() < 0.4,
            "asker": rng.random() < 0.3,
        }

    def block(self) -> dict[str, Any]:
        return {**self._pair(), "both": self.rng.random() < 0.5}

    def heal(self) -> dict[str, Any]:
        return {}

    def slow(self) -> dict[str, Any]:
        latency = self.rng.choice((0.001, 0.3, 2.0))
        return {**self._pair(), "latency": latency, "rate": self.rng.choice((3e3, 5e4, 5e6))}

    def crash(self) -> dict[str, Any]:
        return {**self._node(), "silently": self.rng.random() < 0.4}

    def restart(self) -> dict[str, Any]:
        return {}

    def rot(self) -> dict[str, Any]:
        return {**self._blob(), "at": self.rng.random()}

    def clock(self) -> dict[str, Any]:
        return {**self._node(), "offset": self.rng.choice((-3600.0, -1.0, 0.0, 2.0, 3600.0))}


def _range(rng: random.Random, size: int) -> tuple[int, int]:
    if rng.random() < 0.25:
        return -rng.randrange(1, size + 2), -1
    first = rng.randrange(size + 1)
    return first, rng.choice((-1, first, first + rng.randrange(size + 1)))
