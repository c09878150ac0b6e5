"""The parent's side of ``--workers``: starts workers, replaces them, speaks for them.

Rules of this file: the parent serves nothing and opens no store. What it hears
from a worker may be garbage: then that worker is killed and replaced. It waits
for no worker without a deadline.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from dtfc.daemon.cannot_start import CannotStart
from dtfc.daemon.control import Message
from dtfc.daemon.place import FIRST_SOCKET, Ended, Place, Spawn, of_each
from dtfc.daemon.tls import Keys
from dtfc.settings import Settings
from dtfc.settings.plain import to_plain
from dtfc.web.families import RELOADS, Family, Sums, told_by
from dtfc.web.samples import totals_of

PING_PERIOD = 2.0
"""Seconds between two questions to each worker whether it lives."""

DEAF = 30.0
"""Seconds without an answer after which a worker is killed."""

START_LIMIT = 600.0
"""Seconds that a worker gets from its start until it serves: it may replay logs."""

START_TRIES = 3
"""Workers that may end before the first one serves; then the start has failed."""

ASK_PATIENCE = 1.0
"""Seconds that ``/metrics`` waits for the other workers' counts."""

LEAVE_PATIENCE = 2.0
"""Seconds that workers get to let go of the ports before these are closed."""

LAST_WAIT = 45.0
"""Seconds that cut workers get to end: longer than they wait for their writers."""


class Crew(Service):
    """The workers of one node; to the process around it, the node.

    Args:
        settings: in force from the start; :meth:`reload` replaces them.
        reactor: starts processes, and is the clock.
        check: raises ``BadSetting`` for settings that a worker would refuse.
        log_fd: tells the descriptor of the open log; None without one.
        attempt: opens the store once, before there are workers; raises
            ``CannotStart``.
        spawn: starts a worker.
    """

    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        *,
        check: Callable[[Settings], object],
        log_fd: Callable[[], int | None],
        attempt: Callable[[Settings], None],
        spawn: Spawn,
    ) -> None:
        check(settings)
        self.settings = settings
        self.site = Factory()
        self.site.noisy = False
        self._reactor = reactor
        self._check = check
        self.keys_of: Callable[[IListeningPort], Keys | None] = lambda _port: None
        """Says what a port's TLS needs."""
        self._log_fd = log_fd
        self._attempt = attempt
        self._spawn = spawn
        self._ports: list[IListeningPort] = []
        self._places = [Place(self, index, reactor) for index in range(settings.workers)]
        self._sums = Sums()
        self._reread = {"ok": 0, "failed": 0}
        self._served = False
        self._failures = 0
        self._ready: Deferred[None] = Deferred()
        self._leaving = False
        self._announced = False
        self._empty: list[Deferred[None]] = []
        self._left: Deferred[None] | None = None
        self._number = 0
        self._asking: list[tuple[Place, int]] = []
        self._asked: Any = None
        self._pinging = LoopingCall(self._ping)
        self._pinging.clock = reactor

    # -- start and stop -----------------------------------------------------

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Try the store; workers are started when the loop runs.

        Raises:
            CannotStart: the store cannot be opened.
        """
        self._attempt(self.settings)
        Service.startService(self)
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        self._pinging.start(PING_PERIOD, now=False)
        for place in self._places:
            if not self._leaving:
                place.start()

    def stopService(self) -> Deferred[None]:  # noqa: N802 - Twisted's name
        """Cut the workers that are left, and wait for their end."""
        Service.stopService(self)
        self._leave()
        self._tell_all("cut")
        killing = self._reactor.callLater(LAST_WAIT, self._kill_all)

        def over(_none: None) -> None:
            if killing.active():
                killing.cancel()
            if self._pinging.running:
                self._pinging.stop()
            if self._asked is not None and self._asked.active():
                self._asked.cancel()

        return self._all_gone().addCallback(over)

    def _kill_all(self) -> None:
        for place in self._places:
            place.kill("it did not end")

    def _leave(self) -> None:
        self._leaving = True
        for place in self._places:
            place.stay_away()

    def _all_gone(self) -> Deferred[None]:
        if not any(place.alive for place in self._places):
            return succeed(None)
        # Fired when the last worker has ended.
        gone: Deferred[None] = Deferred()
        self._empty.append(gone)
        return gone

    # -- the node, as the process around it sees it --------------------------

    def listening(self, port: IListeningPort) -> None:
        """Take note of a port, and accept nothing there: the workers do."""
        port.stopReading()  # type: ignore[attr-defined]  # of every port that has a descriptor
        self._ports.append(port)

    async def ready(self) -> None:
        """Return when all workers serve.

        Raises:
            CannotStart: the first ones ended before they served.
        """
        await self._ready

    def answers(self) -> bool:
        """Whether any worker has answered lately."""
        now = self._reactor.seconds()
        return any(place.ready and now - place.heard < DEAF for place in self._places)

    def reload(self, settings: Settings) -> None:
        """Put new settings in force in every worker.

        Raises:
            BadSetting: a worker would refuse them; nothing has changed then.
        """
        self._check(settings)
        self.settings = settings
        # New certificates come into force after this call, and go with the settings.
        self._reactor.callLater(0, self._tell_settings)

    def _tell_settings(self) -> None:
        self._tell_all("reload", settings=self._plain_settings(), keys=self._keys())

    def reloaded(self, *, well: bool) -> None:
        """Count a reload."""
        self._reread["ok" if well else "failed"] += 1

    def reopen_log(self) -> None:
        """Have every worker open the log file anew."""
        self._tell_all("reopen")

    def announce_end(self) -> None:
        """Have every worker say in /readyz that it is about to drain."""
        self._announced = True
        self._tell_all("announce")

    def set_succeeded(self, *, yes: bool) -> None:
        """Have every worker know whether others serve in their place."""
        self._tell_all("succeeded", yes=yes)

    async def drain(self) -> None:
        """Have every worker finish what is in flight and end."""
        self._leave()
        self._tell_all("drain")
        await self._all_gone()

    async def leave_ports(self) -> None:
        """Return when every worker has closed its ports, or has had time to."""
        if not all(place.off_ports for place in self._places if place.alive):
            # Fired by the last worker's word, or by the clock.
            self._left = Deferred()
            self._left.addTimeout(LEAVE_PATIENCE, self._reactor, lambda *_: None)
            await self._left

    def abort(self) -> None:
        """Have every worker cut what is in flight and end."""
        self._leave()
        self._tell_all("cut")

    def status(self) -> str:
        """Say in one line how the node is."""
        serving = [place for place in self._places if place.ready]
        connections = sum(place.connections for place in serving)
        peers = max((place.peers for place in serving), default=0)
        workers = f"{len(serving)} of {len(self._places)} workers"
        return f"{connections} connections, {peers} peers, {workers}"

    # -- what a place asks and tells ------------------------------------------

    def spawn(self, place: Place) -> None:
        """Start a worker in a place.

        Raises:
            OSError: the system does not let us.
        """
        targets = {FIRST_SOCKET + each: _descriptor(port) for each, port in enumerate(self._ports)}
        log = self._log_fd()
        if log is not None:
            targets[FIRST_SOCKET + len(self._ports)] = log
        place.transport = self._spawn(place, place.index, targets)
        place.pid = place.transport.pid
        place.tell(
            "start",
            index=place.index,
            settings=self._plain_settings(),
            sockets=[
                {"fd": FIRST_SOCKET + each, "family": _family(port)}
                for each, port in enumerate(self._ports)
            ],
            keys=self._keys(),
            log_fd=None if log is None else FIRST_SOCKET + len(self._ports),
            announced=self._announced,
        )

    def serves(self, place: Place) -> None:
        """A worker is ready."""
        self._served = True
        self._log.info("worker {index} serves (process {pid})", index=place.index, pid=place.pid)
        if not self._ready.called and all(each.ready for each in self._places):
            self._ready.callback(None)

    def ended(self, place: Place, end: Ended) -> None:
        """A worker is gone: keep what it counted, and replace it."""
        self._sums.keep(place.families)
        place.families = []
        if self._leaving:
            if not end.clean:
                self._log_end(place, end, "")
            self._one_less()
            return
        if not end.served:
            self._failures += 1
        hopeless = end.problem or self._failures >= START_TRIES
        if not self._served and hopeless and not self._ready.called:
            self._leave()
            self._one_less()
            why = end.problem or f"workers end before they serve: {end.how}"
            self._ready.errback(CannotStart(why))
            return
        pause = place.comeback.after(end.lived)
        then = f"a new one is started in {pause:g} s" if pause else "a new one takes its place"
        self._log_end(place, end, f"; {then}")
        self._one_less()
        place.start(pause)

    def _log_end(self, place: Place, end: Ended, then: str) -> None:
        self._log.error(
            "worker {index} (process {pid}) has ended: {how}{then}",
            index=place.index,
            pid=end.pid,
            how=end.problem or end.how,
            then=then,
        )

    def _one_less(self) -> None:
        self._look_whether_left()
        self._look_whether_asked()
        if not any(place.alive for place in self._places):
            empty, self._empty = self._empty, []
            for gone in empty:
                gone.callback(None)

    def take(self, place: Place, message: Message) -> None:
        """Take what only the crew can answer."""
        kind = message["kind"]
        if kind == "ask":
            self._ask(place, int(message["number"]))
        elif kind == "pong":
            self._look_whether_asked()
        elif kind == "off":
            self._look_whether_left()
        elif kind == "peers":
            for each in self._places:
                if each is not place:
                    each.tell("peers")
        else:
            raise ValueError(f"a message of kind {kind!r}")

    # -- life, and counting ----------------------------------------------------

    def _ping(self) -> None:
        now = self._reactor.seconds()
        for place in self._places:
            place.look_after(now, deaf=DEAF, start_limit=START_LIMIT)
        self._ping_all()

    def _ping_all(self) -> None:
        self._number += 1
        serving = sum(place.ready for place in self._places)
        # Each can show how much goes through the node, and need not ask for it.
        totals = dataclasses.astuple(totals_of(self.families()))
        self._tell_all(
            "ping",
            number=self._number,
            serving=serving,
            workers=len(self._places),
            totals=totals,
        )

    def _ask(self, place: Place, number: int) -> None:
        """Answer a worker that wants the counts of all: when all have told theirs."""
        self._asking.append((place, number))
        if self._asked is None:
            self._ping_all()
            self._asked = self._reactor.callLater(ASK_PATIENCE, self._answer)

    def _look_whether_asked(self) -> None:
        if self._asked is None:
            return
        if all(place.ponged >= self._number for place in self._places if place.ready):
            self._asked.cancel()
            self._answer()

    def _answer(self) -> None:
        self._asked = None
        asking, self._asking = self._asking, []
        families = [family.plain() for family in self.families()]
        for place, number in asking:
            place.tell("node", number=number, families=families)

    def families(self) -> list[Family]:
        """Return what all workers together have counted, and what is told of each."""
        together = self._sums.with_living(place.families for place in self._places)
        return [*together, *of_each(self._places), told_by(RELOADS, "result", self._reread)]

    def _look_whether_left(self) -> None:
        left = self._left
        if left is not None and all(place.off_ports for place in self._places if place.alive):
            self._left = None
            if not left.called:
                left.callback(None)

    # -- the channel -------------------------------------------------------------

    def _tell_all(self, kind: str, **facts: Any) -> None:
        for place in self._places:
            place.tell(kind, **facts)

    def _plain_settings(self) -> dict[str, Any]:
        return to_plain(share_of(self.settings, len(self._places)))

    def _keys(self) -> list[dict[str, str] | None]:
        """Return what TLS needs, port by port: over the channel, where nobody else reads it."""
        found = [self.keys_of(port) for port in self._ports]
        return [None if keys is None else dataclasses.asdict(keys) for keys in found]


def share_of(settings: Settings, workers: int) -> Settings:
    """Return the settings of one worker: what is the node's is divided, rounded up."""

    def share(whole: int) -> int:
        return -(-whole // workers)

    return dataclasses.replace(
        settings,
        max_connections=share(settings.max_connections),
        max_loads=share(settings.max_loads),
    )


def _descriptor(port: Any) -> int:
    return int(port.fileno())


def _family(port: Any) -> int:
    return int(port.addressFamily)
