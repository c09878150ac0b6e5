"""A clock that no change of the time of day moves.

Twisted's reactors tell the time of day. What is remembered "for five seconds"
would last an hour where somebody sets the clock back by one, and be forgotten at
once where it is set forward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


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
