"""Clocks that no change of the time of day moves, and one that tells it.

Twisted's reactors tell the time of day, and measure their timers by it. A clock
that is set back by an hour would put off every deadline of a node by an hour; one
that is set forward would let all of them pass at once. So a daemon's reactor gets
ticks (:func:`keep_steady`), and a node, which has to write down dates, gets the
same reactor with the time of day (:class:`Dated`).

What is remembered "for five seconds" is measured with ticks as well
(:class:`SteadyClock`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import directlyProvides, implementer, providedBy


def keep_steady(reactor: Any, ticks: Callable[[], float] = time.monotonic) -> None:
    """Let a reactor measure its timers with ticks, unless it has any by now.

    Every timer asks ``reactor.seconds`` when it is set and when it is due, so
    they all go by what stands there (Twisted's ``ReactorBase``). One that was set
    before would never be due.
    """
    if not reactor.getDelayedCalls():
        reactor.seconds = ticks


class Dated:
    """A reactor that tells the time of day, whatever it measures its timers by.

    Args:
        reactor: does everything else.
        now: seconds since 1970.
    """

    def __init__(self, reactor: Any, now: Callable[[], float] = time.time) -> None:
        self.plain = reactor
        """The reactor itself."""
        self.seconds = now
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)


@implementer(IReactorTime)
class SteadyClock:
    """Lets things happen as the reactor does, and measures with ticks.

    Args:
        reactor: whose timers are used.
        ticks: seconds that only ever grow, such as ``time.monotonic``.
    """

    def __init__(self, reactor: Any, ticks: Callable[[], float]) -> None:
        self._reactor = reactor
        self._ticks = ticks

    def seconds(self) -> float:
        """Return the ticks, which say nothing of the time of day."""
        return self._ticks()

    def callLater(  # noqa: N802 -- Twisted's name
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002 -- Twisted's name
        *args: object,
        **kw: object,
    ) -> IDelayedCall:
        """Let something happen later."""
        call: IDelayedCall = self._reactor.callLater(delay, callable, *args, **kw)
        return call

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:  # noqa: N802 -- Twisted's name
        """Return what is to happen later."""
        calls: Sequence[IDelayedCall] = self._reactor.getDelayedCalls()
        return calls
