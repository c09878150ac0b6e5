"""What a GET costs of a blob that nobody has: requests between nodes, counted."""

from __future__ import annotations

import random
from dataclasses import dataclass

from simulate.clients import Answer, Asker, Asking, request_head
from simulate.cluster import Cluster, address_of, digest_of
from simulate.machine import Machine
from simulate.network import Network
from simulate.wire import PORT
from simulate.world import World

#: What nobody has.
NOTHING = b"never there"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one GET came to.

    Args:
        status: of the answer.
        requests: that nodes got from nodes.
        by_others: of those, the ones that another node sent than the one asked.
    """

    status: int
    requests: int
    by_others: int


def cost_of(folder: str, lists: list[list[int]], asked: int = 0) -> Cost:
    """Ask one node of a cluster for a blob that nobody has.

    Args:
        folder: for the stores.
        lists: for each node, whom it asks.
        asked: which node.
    """
    world = World("absent")
    network = Network(world, random.Random("absent"))
    cluster = Cluster(world, network, folder)
    for others in lists:
        cluster.start(cluster.add([address_of(other) for other in others]))
    client = Machine(world, network, "127.0.9.1")
    head = request_head("GET", f"/{digest_of(NOTHING)}", address_of(asked), {})
    asking = Asking(head, b"", lambda: None)
    client.connectTCP(address_of(asked), PORT, Asker(asking))
    answer: Answer = asking.answer
    world.pass_until(lambda: answer.over, 60)
    world.pass_time(60)
    # Nodes also ask each other what else they remember: of this blob alone.
    asked_for = [line for line in cluster.log if digest_of(NOTHING) in line]
    by_nodes = [line for line in asked_for if not line.startswith(client.address)]
    by_others = [line for line in by_nodes if not line.startswith(f"{address_of(asked)} ")]
    for place in cluster.places:
        cluster.stop(place, 60)
    return Cost(answer.status if answer.complete else 0, len(by_nodes), len(by_others))


def ring(nodes: int) -> list[list[int]]:
    """Return lists of which each names the next node only."""
    return [[(each + 1) % nodes] for each in range(nodes)]


def mesh(nodes: int) -> list[list[int]]:
    """Return lists of which each names every node."""
    return [list(range(nodes)) for _ in range(nodes)]
