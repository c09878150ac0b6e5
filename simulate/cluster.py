"""N whole nodes, their network, their stores, and what can befall them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred

from dtfc.digest import Digest
from dtfc.node import Node
from dtfc.settings import Settings, load
from simulate.hermetic import close_databases
from simulate.liars import Liar
from simulate.machine import Machine, SlowDisk
from simulate.network import Network
from simulate.wire import PORT
from simulate.world import World

#: What every node is told, unless a story says otherwise. Times are short, so that
#: every deadline is met within a story.
FLAGS: dict[str, Any] = {
    "fan-out": "2",
    "reserve": "0",
    "hot-blobs": "16",
    "partial-ttl": "36500d",
    "peer-timeout": "3s",
    "peer-stall": "4s",
    "peer-rate": "1KiB/s",
    "absent-ttl": "2s",
    "quarantine-retry": "20s",
    "scrub-rate": "0",
    "reconcile-period": "20s",
    "deletion-ttl": "36500d",
    "quorum-timeout": "4s",
    "replica-patience": "30s",
    "replica-retry": "10s",
    "write-stall": "10s",
    "header-timeout": "5s",
    "idle-timeout": "20s",
    "body-grace": "6s",
}


def address_of(node: int) -> str:
    """Return a node's address; all are loopback, which may write."""
    return f"127.0.1.{node + 1}"


def liar_address(number: int) -> str:
    """Return a liar's address."""
    return f"127.0.5.{number + 1}"


def url_of(address: str) -> str:
    """Return the URL of what listens on an address."""
    return f"http://{address}:{PORT}"


@dataclass(eq=False)
class Running:
    """A node's process."""

    node: Node
    machine: Machine
    disk: SlowDisk


@dataclass(eq=False)
class Place:
    """Where a node lives: what outlasts its processes."""

    index: int
    folder: str
    offset: float = 0.0
    running: Running | None = None
    restarts: int = 0
    flags: dict[str, Any] = field(default_factory=dict)
    peers: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """On the network."""
        return address_of(self.index)


class Cluster:
    """Nodes in one world.

    Args:
        world: clock and chance.
        network: between them.
        folder: where their stores lie.
    """

    def __init__(self, world: World, network: Network, folder: str) -> None:
        self.world = world
        self.network = network
        self.folder = folder
        self.places: list[Place] = []
        self.log: list[str] = []
        """The access logs of all nodes, line by line."""
        self.graves: list[Any] = []
        """What is left of dead processes: nothing of it may be finalized, or it would
        close descriptors that are others' by now."""

    def add(self, peers: list[str], *, offset: float = 0.0, **flags: Any) -> Place:
        """Make a place for one more node.

        Args:
            peers: addresses that stand in its list, its own perhaps among them.
            offset: seconds by which its clock is ahead.
            flags: settings of its own, with underscores.
        """
        index = len(self.places)
        folder = f"{self.folder}/node{index}"
        os.makedirs(folder)
        with open(f"{folder}/peers.txt", "w", encoding="ascii") as file:
            file.writelines(f"{url_of(peer)}/\n" for peer in peers)
        own = {name.replace("_", "-"): value for name, value in flags.items()}
        place = Place(index, folder, offset, flags=own, peers=peers)
        self.places.append(place)
        return place

    def settings_of(self, place: Place) -> Settings:
        """Return a node's settings."""
        flags = {
            **FLAGS,
            "basedir": f"{place.folder}/store",
            "peerlist": f"{place.folder}/peers.txt",
            "me": url_of(place.address),
        }
        flags = {**place.flags, **flags}
        return load(flags, {}, place.folder).settings

    def start(self, place: Place) -> None:
        """Start a node's process."""
        machine = Machine(self.world, self.network, place.address, place.offset)
        disk = SlowDisk(machine)
        self.world.current = machine
        node = Node(
            self.settings_of(place),
            machine,
            self.log.extend,
            disk=disk,
            ticks=machine.ticks,
            owns_process=False,
        )
        node.startService()
        node.site.doStart()
        self.network.listen(place.address, node.site, machine)
        place.running = Running(node, machine, disk)
        self.world.current = None

    def crash(self, place: Place, *, silently: bool) -> None:
        """Kill a node's process; with its machine, if silently."""
        running = place.running
        if running is None:
            return
        running.machine.alive = False
        self.graves += self.network.ends_of(place.address)
        self.network.vanish(place.address, silently=silently)
        # SQLite's files by SQLite, which would close them once more; the others as a
        # kernel does. That is all a process leaves: what it wrote.
        close_databases(place.folder)
        for descriptor in descriptors_below(place.folder):
            os.close(descriptor)
        self.graves.append(running)
        place.running = None
        place.restarts += 1

    def stop(self, place: Place, within: float) -> bool:
        """Stop a node in order; return whether it took no longer than that."""
        running = place.running
        if running is None:
            return True
        ended: list[object] = []
        self.world.current = running.machine
        stopping: Deferred[Any] = running.node.stopService()
        self.world.current = None
        stopping.addBoth(ended.append)
        return self.world.pass_until(lambda: bool(ended), within)

    def set_clock(self, place: Place, offset: float) -> None:
        """Change what a node's clock says."""
        place.offset = offset
        if place.running is not None:
            place.running.machine.offset = offset

    def add_liar(self, number: int, lie: str, content_of: Any) -> str:
        """Add a peer that lies; return its address."""
        address = liar_address(number)
        machine = Machine(self.world, self.network, address)
        self.network.listen(address, Liar(lie, content_of), machine)
        return address

    def data_of(self, place: Place, digest: str) -> str:
        """Return the path of a blob's bytes in a node's store."""
        return f"{place.folder}/store/{digest[:2]}/{digest[2:4]}/{digest[4:]}/data"


def descriptors_below(folder: str) -> list[int]:
    """Return this process's open descriptors of files in a folder."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if path.startswith(folder + "/"):
            found.append(int(name))
    return sorted(found)


def digest_of(content: bytes) -> str:
    """Return the digest of a blob, in hexadecimal."""
    return Digest.of(content).hex
