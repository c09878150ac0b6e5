"""Disk work off the loop: the one pool of threads that may block.

Everything in ``dtfc.store`` blocks, so everything that calls it does so through
here. A :class:`Lane` keeps the steps of one piece of work (an upload, a load, a
read) in order, which is what makes cancelling safe: a coroutine that is
cancelled while a step runs in its thread queues its clean-up behind that step
instead of pulling the file descriptor out from under it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

P = ParamSpec("P")
R = TypeVar("R")


class Disk(Protocol):
    """Where blocking work runs."""

    def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Deferred[R]:
        """Run ``work`` off the loop; its result or exception comes back on the loop."""


class NodeDisk(Disk, Protocol):
    """A :class:`Disk` that begins and ends with its node."""

    @property
    def busy(self) -> bool:
        """Whether work was asked for of which the loop has not heard."""

    def start(self) -> None:
        """Begin to work."""

    def stop(self) -> None:
        """Finish what is running, and work no more."""


class DiskThreads:
    """A pool of threads for the store alone.

    The reactor's own pool also resolves host names; a slow disk must not stop
    that, nor the other way round.

    Args:
        reactor: where results are delivered.
        threads: how many blocking calls may be in flight.
    """

    def __init__(self, reactor: IReactorFromThreads, threads: int) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=1, maxthreads=threads, name="disk")
        self._under_way = 0

    @property
    def busy(self) -> bool:
        """Whether work was asked for of which the loop has not heard."""
        return self._under_way > 0

    def start(self) -> None:
        """Start the threads; call once the process has its final identity."""
        self._pool.start()

    def stop(self) -> None:
        """Wait for what is running, then end the threads."""
        self._pool.stop()

    def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Deferred[R]:
        """Run ``work`` in one of the threads."""
        self._under_way += 1
        return deferToThreadPool(self._reactor, self._pool, work, *args, **kwargs).addBoth(
            self._heard
        )

    def _heard(self, result: R) -> R:
        self._under_way -= 1
        return result


class InlineDisk:
    """Runs everything at once, in the caller: for tests and simulations."""

    busy = False

    def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Deferred[R]:
        """Run ``work`` now."""
        return maybeDeferred(work, *args, **kwargs)


#: Steps of one lane that may run at once, of those that need not wait for each other.
#: Two, for while one hears that it is done, and is given the next, another reads on.
ABREAST = 2


class Lane:
    """Steps that run one after another, in the order in which they were queued.

    Args:
        disk: where each step runs.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._waiting: deque[tuple[Deferred[Any], Callable[[], Any], bool]] = deque()
        self._running = 0
        self._alone = False
        """Whether what runs must be the only one."""

    @property
    def idle(self) -> bool:
        """Whether nothing is queued and nothing runs."""
        return not self._running

    def run(self, step: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Deferred[R]:
        """Queue ``step``.

        Cancelling the Deferred only gives up the result: the step still runs,
        and still runs before every step that is queued after it.
        """
        return self._queue(lambda: step(*args, **kwargs), alone=True)

    def run_beside(self, step: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Deferred[R]:
        """Queue ``step``, which may run at the same time as others that were queued like this.

        Those queued with :meth:`run` still run after all before them, and before
        all after them.
        """
        return self._queue(lambda: step(*args, **kwargs), alone=False)

    def _queue(self, step: Callable[[], R], *, alone: bool) -> Deferred[R]:
        done: Deferred[R] = Deferred()
        self._waiting.append((done, step, alone))
        self._next()
        return done

    def _next(self) -> None:
        while self._waiting:
            done, step, alone = self._waiting[0]
            if self._running and (alone or self._alone or self._running == ABREAST):
                return
            self._waiting.popleft()
            self._running += 1
            self._alone = alone
            self._disk.run(step).addBoth(self._finished, done)

    def _finished(self, result: object, done: Deferred[Any]) -> None:
        self._running -= 1
        self._next()
        if not done.called:
            done.callback(result)
        elif isinstance(result, Failure):
            # The waiter has gone; its clean-up is queued behind this step, and
            # a failure nobody waits for must not surface as unhandled.
            result.cleanFailure()
