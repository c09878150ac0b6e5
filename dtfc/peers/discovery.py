"""Asks DNS, again and again, for the peers of ``dns+srv://`` lines.

Rules of this file: an answer holds for its TTL, within bounds; where there is
none, the one before stays in force and DNS is asked again after
:data:`AGAIN`. Each attempt makes connections of its own and closes them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application import service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeadlinePassed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.names import client, dns, error

from dtfc.disk import Disk
from dtfc.peers.failure import one_line
from dtfc.peers.listing import Service
from dtfc.peers.roster import Roster, RosterChange
from dtfc.peers.srv import Answer, Target, compose, parse, peers_of

AGAIN = 30.0
"""Seconds from an attempt that failed to the next one."""

PATIENCE = (1, 2, 4)
"""Seconds that each name server gets, in the first, second and third round."""

LONGEST_WAIT = 10.0
"""Seconds that :meth:`Discovery.ask_now` waits for DNS."""

RESOLV_CONF = "/etc/resolv.conf"
_DNS_PORT = 53
_MOST_SERVERS = 3


def _ignore(kept: bytes) -> None:
    del kept


Lookup = Callable[[str], Awaitable[Answer]]
"""Looks up the SRV records of a name; raises whatever goes wrong."""


class Discovery(service.Service):
    """Keeps the peers of services up to date.

    Args:
        roster: whose services they are, and where their peers go.
        lookup: asks DNS.
        clock: measures time.
        changed: told of every answer, and of every failure that is news.
        keep: takes what DNS says, when that has changed, for :meth:`recall`.
    """

    name = "discovery"
    _log = Logger()

    def __init__(
        self,
        roster: Roster,
        lookup: Lookup,
        clock: IReactorTime,
        changed: Callable[[RosterChange], None],
        *,
        keep: Callable[[bytes], object] = _ignore,
    ) -> None:
        self._roster = roster
        self._keep = keep
        self._known: dict[str, tuple[Target, ...]] = {}
        self._lookup = lookup
        self._clock = clock
        self._changed = changed
        self._asking: dict[Service, Deferred[None]] = {}
        self._due: dict[Service, IDelayedCall] = {}

    def recall(self, kept: bytes) -> None:
        """Put in force what an earlier process kept, until DNS answers this one."""
        for name, targets in parse(kept).items():
            for each in self._roster.services():
                if each.name == name:
                    try:
                        self._changed(self._roster.found(each, peers_of(each, targets)))
                    except ValueError:
                        continue
                    self._known[name] = targets

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Begin to ask."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's is not annotated
        self.sync()

    def stopService(self) -> None:  # noqa: N802 - Twisted's name
        """Ask no more."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's is not annotated
        self._forget(tuple({*self._due, *self._asking}))

    def sync(self) -> None:
        """Ask for services that are new in the list, and no more for those that left it."""
        if not self.running:
            return
        wanted = self._roster.services()
        known = {*self._due, *self._asking}
        self._forget(tuple(each for each in known if each not in wanted))
        for each in wanted:
            if each not in known:
                self._ask(each)

    async def ask_now(self) -> None:
        """Ask for all of them, and wait for DNS, but not for ever."""
        self.sync()
        if not self.running:
            return
        for each in tuple(self._due):
            self._due.pop(each).cancel()
            self._ask(each)
        waiting = len(self._asking)
        if not waiting:
            return
        # Fired when the last of them has an answer.
        over: Deferred[None] = Deferred()

        def one_less(result: Any) -> Any:
            nonlocal waiting
            waiting -= 1
            if not waiting and not over.called:
                over.callback(None)
            return result

        for asking in tuple(self._asking.values()):
            asking.addBoth(one_less)
        over.addTimeout(LONGEST_WAIT, self._clock)
        try:
            await over
        except DeadlinePassed:
            self._log.info("DNS has not answered within {seconds:g} s", seconds=LONGEST_WAIT)

    def _forget(self, services: tuple[Service, ...]) -> None:
        for each in services:
            due = self._due.pop(each, None)
            if due is not None:
                due.cancel()
            asking = self._asking.pop(each, None)
            if asking is not None:
                asking.cancel()

    def _ask(self, wanted: Service) -> None:
        # Noted before it runs: it may be over at once, and lead here again.
        running: list[Deferred[float]] = []

        def cancel(_over: Deferred[None]) -> None:
            for each in running:
                each.cancel()

        over: Deferred[None] = Deferred(cancel)
        self._asking[wanted] = over
        running.append(Deferred.fromCoroutine(self._answer(wanted)))
        running[0].addBoth(self._answered, wanted, over)

    def _answered(self, seconds: Any, wanted: Service, over: Deferred[None]) -> None:
        if self._asking.get(wanted) is over:
            del self._asking[wanted]
            if isinstance(seconds, float):
                self._due[wanted] = self._clock.callLater(seconds, self._again, wanted)
        if not over.called:
            over.callback(None)

    def _again(self, wanted: Service) -> None:
        del self._due[wanted]
        self._ask(wanted)

    async def _answer(self, wanted: Service) -> float:
        """Look it up, put the answer in force, and return after how long to ask again."""
        try:
            answer = await self._lookup(wanted.name)
            change = self._roster.found(wanted, peers_of(wanted, answer.targets))
            self._note(wanted.name, answer)
            again = answer.holds
        except CancelledError:
            raise
        except Exception as failure:  # noqa: BLE001 - whatever DNS does, what was in force holds
            change = self._roster.not_found(wanted, _in_words(failure))
            again = AGAIN
        self._changed(change)
        return again

    def _note(self, name: str, answer: Answer) -> None:
        # The order in which DNS names them changes each time, and means nothing.
        targets = tuple(sorted(answer.targets))
        if self._known.get(name) == targets:
            return
        self._known[name] = targets
        wanted = {each.name for each in self._roster.services()}
        self._known = {each: said for each, said in self._known.items() if each in wanted}
        self._keep(compose(self._known))


class NameServers:
    """Looks names up at the system's name servers, or at others.

    Args:
        reactor: connects, and measures time.
        disk: reads ``/etc/resolv.conf``, at each attempt.
        servers: address and port of each, instead of the system's.
    """

    def __init__(
        self, reactor: Any, disk: Disk, servers: list[tuple[str, int]] | None = None
    ) -> None:
        self._reactor = reactor
        self._disk = disk
        self._servers = servers

    async def __call__(self, name: str) -> Answer:
        """Look up SRV records, over UDP, and over TCP if the answer is long.

        Raises:
            Exception: whatever goes wrong.
        """
        servers = self._servers or await self._disk.run(system_servers)
        resolver = client.Resolver(servers=servers, timeout=PATIENCE, reactor=self._reactor)
        try:
            answers, _, _ = await resolver.lookupService(name.encode())
        finally:
            for connection in resolver.connections:
                connection.transport.abortConnection()
        records = [each for each in answers if each.type == dns.SRV]
        targets = tuple(
            Target(
                each.payload.priority,
                each.payload.weight,
                each.payload.target.name.decode("latin-1"),
                each.payload.port,
            )
            for each in records
        )
        return Answer(targets, min((float(each.ttl) for each in records), default=0.0))


def system_servers(path: str = RESOLV_CONF) -> list[tuple[str, int]]:
    """Return the name servers of ``resolv.conf`` (blocks); this machine if it names none."""
    try:
        # Not as ASCII: a process that has shed its privileges may not be able to
        # import Python's codec for it.
        with open(path, "rb") as file:
            lines = [line.decode("utf-8", "replace").split() for line in file]
    except FileNotFoundError:
        lines = []
    found = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
    return [(each, _DNS_PORT) for each in found[:_MOST_SERVERS] or ["127.0.0.1"]]


def _in_words(failure: Exception) -> str:
    match failure:
        case error.DNSNameError():
            return "DNS does not know that name"
        case error.DNSServerError():
            return "the name server failed"
        case error.DomainError():
            return f"the name server refused ({type(failure).__name__})"
        case DeadlinePassed():
            return "no name server answered"
        case _:
            return one_line(str(failure) or type(failure).__name__)
