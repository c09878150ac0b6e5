"""A network in memory: connections that carry bytes by events of the false clock.

Rules of this file: what was sent arrives in order; a partition holds back what is
sent until it heals; nothing says that a machine has vanished. What befalls a
connection is decided from outside (:class:`simulate.wire.Doom`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import (
    ConnectionRefusedError,  # noqa: A004 -- Twisted's, as TimeoutError
    TimeoutError,  # noqa: A004 -- Twisted's, which a connector fails with
    UserError,
)
from twisted.internet.interfaces import IConnector
from twisted.python.failure import Failure
from zope.interface import implementer

from simulate.wire import PORT, Doom, End, Link
from simulate.world import Call, World


class Network:
    """All links, and who listens.

    Args:
        world: the clock.
        rng: decides latencies, rates, and how bytes are cut.
    """

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self.requests: dict[tuple[str, str], int] = {}
        """Connections asked for, by who and whom."""
        self._listening: dict[str, tuple[Any, Any]] = {}
        self._silent: set[str] = set()
        self._links: dict[tuple[str, str], Link] = {}
        self._ends: dict[End, None] = {}  # a set in the order of their opening
        self._held: dict[tuple[str, str], list[Callable[[], None]]] = {}
        self._dooms: dict[str, list[Doom]] = {}

    def link(self, source: str, target: str) -> Link:
        """Return the link from one address to another."""
        link = self._links.get((source, target))
        if link is None:
            latency = self.rng.choice((0.0005, 0.002, 0.02))
            rate = self.rng.choice((200e3, 2e6, 20e6))
            link = self._links[source, target] = Link(latency, rate)
        return link

    def listen(self, address: str, factory: Any, owner: Any) -> None:
        """Let a factory take the connections to an address."""
        self._listening[address] = (factory, owner)
        if address in self._silent:
            self._silent.discard(address)
            for end in list(self._ends):
                if end.peer == address and end.patient:
                    self.carry(address, end.host, end.reset)

    def ends_of(self, address: str) -> list[End]:
        """Return the ends of connections that are on a machine, in the order of their opening."""
        return [end for end in self._ends if end.host == address]

    def vanish(self, address: str, *, silently: bool) -> None:
        """A machine's process is gone.

        Args:
            address: of the machine.
            silently: whether the machine is gone with it, so that nothing says so.
        """
        self._listening.pop(address, None)
        if silently:
            self._silent.add(address)
        for end in self.ends_of(address):
            end.die()
            if not silently and end.other is not None:
                self.carry(end.host, end.peer, end.other.reset)

    # -- faults ---------------------------------------------------------------

    def block(self, source: str, target: str) -> None:
        """Let nothing arrive in one direction."""
        self.link(source, target).blocked = True

    def heal(self) -> None:
        """Let everything arrive again, what was held back first."""
        for link in self._links.values():
            link.blocked = False
        held, self._held = self._held, {}
        for (source, target), waiting in held.items():
            for arrive in waiting:
                # At once: what is still under way must not overtake it.
                self.world.after(0, self._arrive, source, target, arrive)

    def doom(self, address: str, doom: Doom) -> None:
        """Let something befall the next connection to an address."""
        self._dooms.setdefault(address, []).append(doom)

    def slow(self, source: str, target: str, latency: float, rate: float) -> None:
        """Change how fast things arrive in one direction."""
        link = self.link(source, target)
        link.latency, link.rate = latency, rate

    def clear(self) -> None:
        """Make all links good ones, and let nothing befall connections that come."""
        self._dooms.clear()
        for link in self._links.values():
            link.latency, link.rate = min(link.latency, 0.02), max(link.rate, 200e3)

    # -- carrying -------------------------------------------------------------

    def carry(
        self,
        source: str,
        target: str,
        arrive: Callable[[], None],
        leaves: float = 0.0,
        behind: float = 0.0,
    ) -> float:
        """Let something arrive at the other end of a link.

        Args:
            source: the address where it is.
            target: the address where it goes.
            arrive: what happens there then.
            leaves: when it has left, if that is not now.
            behind: when that has arrived which it must not overtake.

        Returns:
            When it will arrive.
        """
        at = max(max(leaves, self.world.now) + self.link(source, target).latency, behind)
        if source not in self._silent and target not in self._silent:
            self.world.after(at - self.world.now, self._arrive, source, target, arrive)
        return at

    def _arrive(self, source: str, target: str, arrive: Callable[[], None]) -> None:
        if target in self._silent:
            return
        if self.link(source, target).blocked:
            self._held.setdefault((source, target), []).append(arrive)
            return
        arrive()

    def connect(
        self, source: str, owner: Any, target: str, factory: Any, timeout: float
    ) -> Connector:
        """Begin to connect."""
        self.requests[source, target] = self.requests.get((source, target), 0) + 1
        connector = Connector(self, source, owner, target, factory)
        connector.begin(timeout)
        return connector

    def accept(self, connector: Connector) -> None:
        """A wish to connect has arrived."""
        source, target = connector.source, connector.target
        found = self._listening.get(target)
        if found is None:
            refused = Failure(ConnectionRefusedError())
            self.carry(target, source, lambda: connector.failed(refused))
            return
        factory, owner = found
        here = End(self, target, source, owner)
        there = End(self, source, target, connector.owner)
        here.other, there.other = there, here
        dooms = self._dooms.get(target)
        if dooms:
            doom = dooms.pop(0)
            (there if doom.asker else here).doom = doom
        self.world.current = owner
        protocol = factory.buildProtocol(here.getPeer())
        if protocol is None:
            here.die()
            refused = Failure(ConnectionRefusedError())
            self.carry(target, source, lambda: connector.failed(refused))
            return
        here.begin(protocol)
        self.carry(target, source, lambda: connector.made(there))

    def opened(self, end: End) -> None:
        """An end has its protocol."""
        self._ends[end] = None

    def gone(self, end: End) -> None:
        """An end is closed for good."""
        self._ends.pop(end, None)


@implementer(IConnector)
class Connector:
    """A connection that is being made.

    Args:
        network: carries it.
        source: the address it comes from.
        owner: the machine there.
        target: the address it goes to.
        factory: builds the protocol.
    """

    def __init__(
        self, network: Network, source: str, owner: Any, target: str, factory: Any
    ) -> None:
        self.network = network
        self.source = source
        self.owner = owner
        self.target = target
        self.factory = factory
        self.state = "connecting"
        self._timeout: Call | None = None

    def begin(self, timeout: float) -> None:
        """Ask."""
        self.factory.doStart()
        self.factory.startedConnecting(self)
        if self.state != "connecting":
            return
        world = self.network.world
        self._timeout = world.after(timeout, self.failed, Failure(TimeoutError()), owner=self.owner)
        self.network.carry(self.source, self.target, lambda: self.network.accept(self))

    def made(self, end: End) -> None:
        """The other side has accepted."""
        if self.state != "connecting" or not self.owner.alive:
            end.die()
            if end.other is not None:
                self.network.carry(self.source, self.target, end.other.reset)
            return
        if end.disconnected:
            # It was cut on the way: the news of that came first.
            self.failed(Failure(ConnectionRefusedError()))
            return
        self.state = "connected"
        self._stop_waiting()
        self.network.world.current = self.owner
        protocol = self.factory.buildProtocol(end.getPeer())
        if protocol is None:
            end.abortConnection()
            return
        end.begin(protocol)

    def failed(self, reason: Failure) -> None:
        """There will be no connection."""
        if self.state != "connecting" or not self.owner.alive:
            return
        self.state = "disconnected"
        self._stop_waiting()
        self.network.world.current = self.owner
        self.factory.clientConnectionFailed(self, reason)
        self.factory.doStop()

    def _stop_waiting(self) -> None:
        timeout, self._timeout = self._timeout, None
        if timeout is not None and timeout.active():
            timeout.cancel()

    def stopConnecting(self) -> None:
        """Give up."""
        self.failed(Failure(UserError()))

    def disconnect(self) -> None:
        """Give up."""
        self.stopConnecting()

    def connect(self) -> None:
        """Refuse: nothing here connects twice."""
        raise RuntimeError("a connection is made once")

    def getDestination(self) -> IPv4Address:
        """Say where to."""
        return IPv4Address("TCP", self.target, PORT)
