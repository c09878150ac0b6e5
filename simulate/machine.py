"""A machine: the clock, the network and the disk that one process has of the world.

When the process dies, nothing that it had asked for happens any more: no timer,
no step of the disk, no byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTCP, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from simulate.network import Connector, Network
from simulate.world import Call, World

P = ParamSpec("P")
R = TypeVar("R")


@implementer(IReactorTime, IReactorTCP, IReactorFromThreads)
class Machine:
    """What a process takes for its reactor.

    Args:
        world: the clock.
        network: its network.
        address: its own, there.
        offset: seconds by which its clock is ahead.
    """

    running = True

    def __init__(self, world: World, network: Network, address: str, offset: float = 0.0) -> None:
        self.world = world
        self.network = network
        self.address = address
        self.offset = offset
        self.alive = True

    def ticks(self) -> float:
        """Return seconds that no change of the time of day moves."""
        return self.world.now

    def seconds(self) -> float:
        """Return the time of day, as this machine has it."""
        return self.world.now + self.world.ahead(self)

    def callLater(
        self,
        delay: float,
        callable: Callable[..., Any],  # noqa: A002 -- Twisted's name
        *args: Any,
        **kw: Any,
    ) -> Call:
        """Let something happen later."""
        if kw:
            return self.world.after(delay, lambda: callable(*args, **kw), owner=self)
        return self.world.after(delay, callable, *args, owner=self)

    def getDelayedCalls(self) -> list[Call]:
        """Return what is to happen later."""
        return self.world.pending(self)

    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kw: Any) -> None:  # noqa: A002
        """Let something happen in the next turn."""
        self.callLater(0, callable, *args, **kw)

    def connectTCP(
        self,
        host: str,
        port: int,  # noqa: ARG002 -- there is one
        factory: Any,
        timeout: float = 30,
        bindAddress: Any = None,  # noqa: ARG002, N803
    ) -> Connector:
        """Begin to connect."""
        return self.network.connect(self.address, self, host, factory, timeout)

    def listenTCP(self, *_args: Any, **_kw: Any) -> Any:
        """Refuse: who listens tells the network."""
        raise RuntimeError("listen with the network")

    def spawnProcess(self, *_args: Any, **_kw: Any) -> Any:
        """Refuse, as a system does that lets nobody start programs."""
        raise OSError("no programs here")


class SlowDisk:
    """Blocking work that takes a moment of the false clock, and is done at once within it.

    Steps of one lane keep their order, since a lane asks for one at a time;
    others overtake each other, as threads do. Between a step and the moment in
    which the loop hears of it a process may die.

    Args:
        machine: whose disk.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._world = machine.world
        self._random = machine.world.random.random
        self.running = 0
        """Steps that were begun, and of which the loop has not heard."""
        self._queued: dict[int, Call] = {}
        self._number = 0
        self._stopped = False

    @property
    def busy(self) -> bool:
        """Whether there are such steps."""
        return self.running > 0

    def start(self) -> None:
        """Do nothing: there are no threads."""

    def stop(self) -> None:
        """Do what was begun, at once, as threads are waited for; and nothing more."""
        self._stopped = True
        for call in list(self._queued.values()):
            call.cancel()
            call.function(*call.args)

    def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Deferred[R]:
        """Do it soon."""
        done: Deferred[R] = Deferred()
        if self._stopped:
            return done
        self.running += 1
        self._number += 1
        wait = self._random() * 0.002
        self._queued[self._number] = self._world.after(
            wait, self._work, self._number, done, work, args, kwargs, owner=self._machine
        )
        return done

    def _work(
        self, number: int, done: Deferred[R], work: Callable[..., R], args: Any, kwargs: Any
    ) -> None:
        del self._queued[number]
        result: R | Failure
        try:
            result = work(*args, **kwargs)
        except BaseException:  # noqa: BLE001 -- as a thread's
            result = Failure()
        wait = self._random() * 0.001
        self._world.after(wait, self._tell, done, result, owner=self._machine)

    def _tell(self, done: Deferred[R], result: R | Failure) -> None:
        self.running -= 1
        # Who cancelled it has been told; a Deferred ignores one result after that.
        done.callback(result)
