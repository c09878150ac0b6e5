"""What befalls a cluster."""

from __future__ import annotations

import os
from typing import Any

from simulate.cluster import Cluster, Place, address_of, descriptors_below, liar_address
from simulate.truth import Truth
from simulate.wire import Doom


class Faults:
    """Does to a cluster what a plan says; one method for each kind of step.

    Args:
        cluster: what it does it to.
        truth: told of what was damaged.
    """

    def __init__(self, cluster: Cluster, truth: Truth) -> None:
        self._cluster = cluster
        self._network = cluster.network
        self._truth = truth
        self._digests = list(truth.blobs)
        self.rotted = 0
        """Stored chunks that were damaged."""

    def _place(self, node: int) -> Place:
        return self._cluster.places[node]

    def doom(self, *, node: int, after: int, silent: bool, asker: bool) -> None:
        """Let the next connection to a node, or a liar, come to a bad end."""
        nodes = len(self._cluster.places)
        address = address_of(node) if node < nodes else liar_address(node - nodes)
        self._network.doom(address, Doom(after, silent, asker))

    def block(self, *, node: int, other: int, both: bool) -> None:
        """Let nothing come from one node to another; nor back, if both."""
        self._network.block(address_of(node), address_of(other))
        if both:
            self._network.block(address_of(other), address_of(node))

    def heal(self, **_facts: Any) -> None:
        """End all partitions."""
        self._network.heal()

    def slow(self, *, node: int, other: int, latency: float, rate: float) -> None:
        """Change how fast things come from one node to another."""
        self._network.slow(address_of(node), address_of(other), latency, rate)

    def crash(self, *, node: int, silently: bool) -> None:
        """Kill a node, with its machine if silently."""
        self._cluster.crash(self._place(node), silently=silently)

    def restart(self, **_facts: Any) -> None:
        """Start the first node that is down."""
        for place in self._cluster.places:
            if place.running is None:
                self._cluster.start(place)
                break

    def clock(self, *, node: int, offset: float) -> None:
        """Set a node's clock."""
        self._cluster.set_clock(self._place(node), offset)

    def rot(self, *, node: int, blob: int, at: float) -> None:
        """Change a byte of a stored blob that nobody reads at the moment.

        Who has it open may have verified it a moment ago; what changes then is for
        the page cache to hide, which a test tube has not.
        """
        digest = self._digests[blob]
        path = self._cluster.data_of(self._place(node), digest)
        size = len(self._truth.blobs[digest])
        if not size or not os.path.exists(path) or descriptors_below(os.path.dirname(path)):
            return
        with open(path, "r+b") as file:
            file.seek(int(at * size))
            byte = file.read(1)
            file.seek(int(at * size))
            file.write(bytes([byte[0] ^ 0x40]))
        # A time of its own, for the kernel's may be that of the change before.
        self.rotted += 1
        os.utime(path, (1_000_000_000 + self.rotted,) * 2)
        self._truth.rotted(node, digest, self._cluster.world.now)
