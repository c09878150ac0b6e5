"""The peers in force: read from files, kept up to date, this node itself taken out.

Rules of this file: it is the only place that decides who may be asked, and
nothing a peer says ever adds one. A list that cannot be read never empties the
roster: what is in force stays in force, and the fault is reported. The text
itself is understood by ``dtfc.peers.listing``, which is pure.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from twisted.application import service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from dtfc.disk import Disk
from dtfc.errors import BadSetting
from dtfc.peers.listing import (
    BadLine,
    Peer,
    Service,
    first_entry,
    own_urls,
    parse_roster,
    services_in,
)

__all__ = ["BadLine", "Peer", "Roster", "RosterChange", "RosterWatch", "parse_roster"]

LARGEST_LIST = 4 * 1024 * 1024
"""A list of more bytes than this is some other file, named by mistake."""


@dataclass(frozen=True, slots=True)
class RosterChange:
    """What one reading of the list led to.

    Args:
        peers: in force now, this node itself excluded.
        added: of those, the ones that were not in force before.
        removed: in force before, and no more.
        bad: lines that were passed over.
        errors: files that could not be read, or a ``me`` that makes no sense,
            or a service that DNS does not answer; what they would have set
            stays as it was.
    """

    peers: tuple[Peer, ...]
    added: tuple[Peer, ...]
    removed: tuple[Peer, ...]
    bad: tuple[BadLine, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Reading:
    """A file as it was at one moment: its text, or why there is none."""

    path: str
    signature: tuple[int, int, int] | None
    text: str | None
    error: str | None


class Roster:
    """The peers in force.

    Nothing is read before the first :meth:`reload`.

    Args:
        path: the peer list; None for a node without peers.
        me: this node's own address as peers write it, ``host:port`` or a URL.
        melist: a file whose first line is that address, if ``me`` is None.

    Raises:
        BadSetting: ``me`` is no address.
    """

    def __init__(
        self, path: str | None, *, me: str | None = None, melist: str | None = None
    ) -> None:
        self._path: str | None = None
        self._melist: str | None = None
        self._own: frozenset[str] = frozenset()
        self._listed: tuple[Peer, ...] = ()
        self._services: tuple[Service, ...] = ()
        self._found: dict[Service, tuple[Peer, ...]] = {}
        self._unanswered: dict[Service, str] = {}
        self._peers: tuple[Peer, ...] = ()
        self._signatures: dict[str, tuple[int, int, int] | None] = {}
        self._files_errors: tuple[str, ...] = ()
        self.generation = 0
        """Grows each time the peers in force change."""
        self.last_change = RosterChange((), (), (), (), ())
        """What the last reading led to, for status pages."""
        self.set_sources(path, me=me, melist=melist)

    def set_sources(
        self, path: str | None, *, me: str | None = None, melist: str | None = None
    ) -> None:
        """Read from other files from the next reading on; arguments as of the class.

        Raises:
            BadSetting: ``me`` is no address; nothing has changed then.
        """
        own = self._own
        if me is not None:
            try:
                own = own_urls(me)
            except ValueError as error:
                raise BadSetting("me", str(error)) from error
        elif melist is None:
            own = frozenset()
        self._own = own
        self._path = path
        self._melist = melist if me is None else None
        if path is None:
            self._listed = ()
            self._services = ()

    @property
    def own(self) -> frozenset[str]:
        """This node's own URL, in each scheme that it may have; empty if it is not known."""
        return self._own

    @property
    def me(self) -> str | None:
        """This node's own URL as its peers write it; None if it is not known.

        The one that stands in the list, if one does. ``host:port`` without a
        scheme stands for ``http`` otherwise.
        """
        named = (*self._listed, *(peer for each in self._found.values() for peer in each))
        listed = (peer.url for peer in named if peer.url in self._own)
        return next(listed, min(self._own, default=None))

    def current(self) -> tuple[Peer, ...]:
        """The peers in force, in the order of the list, this node itself excluded.

        A service of which DNS has not said anything yet stands for its peers:
        whoever asks it learns that it could not be reached. So nothing passes
        for absent because DNS is slow.
        """
        return self._peers

    def services(self) -> tuple[Service, ...]:
        """The lines whose peers DNS names."""
        return self._services

    def reload(self) -> RosterChange:
        """Read the files now, whatever their dates, and put them in force (blocks)."""
        return self.apply(self.read())

    def read(self) -> tuple[_Reading, ...]:
        """Read the files without putting anything in force (blocks; any thread)."""
        return tuple(_read(path) for path in self._files())

    def read_if_changed(self) -> tuple[_Reading, ...]:
        """Read the files if one of them is not the one in force (blocks; any thread).

        Returns:
            What :meth:`apply` wants; empty if nothing changed.
        """
        before = self._signatures
        if all(path in before and _signature(path) == before[path] for path in self._files()):
            return ()
        return self.read()

    def apply(self, readings: tuple[_Reading, ...]) -> RosterChange:
        """Put what was read in force.

        Args:
            readings: from :meth:`read` or :meth:`read_if_changed`.
        """
        bad: list[BadLine] = []
        errors: list[str] = []
        for reading in readings:
            self._signatures[reading.path] = reading.signature
            if reading.text is None:
                errors.append(f"{reading.path}: {reading.error}")
                continue
            if reading.path == self._melist:
                errors.extend(self._apply_me(reading.path, reading.text))
            if reading.path == self._path:
                self._listed, found = parse_roster(reading.text, reading.path)
                self._services = services_in(reading.text)
                bad.extend(found)
        self._files_errors = tuple(errors)
        return self._put_in_force(tuple(bad))

    def found(self, service: Service, peers: tuple[Peer, ...]) -> RosterChange:
        """Put in force what DNS says of a service.

        Args:
            service: one of :meth:`services`; of another one nothing is kept.
            peers: its peers now.
        """
        if service in self._services:
            self._found[service] = peers
            self._unanswered.pop(service, None)
        return replace(self._put_in_force(self.last_change.bad), bad=(), errors=())

    def not_found(self, service: Service, reason: str) -> RosterChange:
        """Note that DNS did not answer; what it said before holds.

        Args:
            service: one of :meth:`services`.
            reason: a clause.
        """
        holds = len(self._found.get(service, ()))
        error = f"{service.url}: {reason}"
        if service in self._found:
            error += f"; the {holds} peers that it had hold"
        news = service in self._services and self._unanswered.get(service) != error
        if service in self._services:
            self._unanswered[service] = error
        change = self._put_in_force(self.last_change.bad)
        # Said once, not at each attempt.
        return replace(change, bad=(), errors=(error,) if news else ())

    def _put_in_force(self, bad: tuple[BadLine, ...]) -> RosterChange:
        before = self._peers
        self._found = {each: self._found[each] for each in self._services if each in self._found}
        self._unanswered = {
            each: self._unanswered[each] for each in self._services if each in self._unanswered
        }
        peers = {peer.url: peer for peer in self._listed}
        for each in self._services:
            waiting = (Peer(each.url, each.weight, each.zone),)
            for peer in self._found.get(each, waiting):
                peers.setdefault(peer.url, peer)
        self._peers = tuple(peer for peer in peers.values() if peer.url not in self._own)
        if self._peers != before:
            self.generation += 1
        self.last_change = RosterChange(
            peers=self._peers,
            added=tuple(peer for peer in self._peers if peer not in before),
            removed=tuple(peer for peer in before if peer not in self._peers),
            bad=bad,
            errors=(*self._files_errors, *self._unanswered.values()),
        )
        return self.last_change

    def _apply_me(self, path: str, text: str) -> list[str]:
        entry = first_entry(text)
        if entry is None:
            return [f"{path}: the first line should be this node's own address"]
        try:
            self._own = own_urls(entry)
        except ValueError as error:
            return [f"{path}: {error}"]
        return []

    def _files(self) -> list[str]:
        return [path for path in (self._melist, self._path) if path is not None]


def _signature(path: str) -> tuple[int, int, int] | None:
    try:
        facts = Path(path).stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def _read(path: str) -> _Reading:
    try:
        # Not blocking: a pipe under that name must not hang the thread.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            facts = os.fstat(file.fileno())
            signature = facts.st_mtime_ns, facts.st_size, facts.st_ino
            if not stat.S_ISREG(facts.st_mode):
                return _Reading(path, signature, None, "is not a regular file")
            data = file.read(LARGEST_LIST + 1)
    except OSError as error:
        return _Reading(path, None, None, error.strerror or type(error).__name__)
    if len(data) > LARGEST_LIST:
        return _Reading(path, signature, None, f"is larger than {LARGEST_LIST} bytes")
    # What is no UTF-8 becomes a character that no address has: a bad line, with its number.
    return _Reading(path, signature, data.decode("utf-8", errors="replace"), None)


def _ignore(change: RosterChange) -> None:
    del change


class RosterWatch(service.Service):
    """Puts the list in force again whenever its file changes.

    Polling, because it works on every file system and across an atomic
    replacement of the file or of a folder above it.

    Args:
        roster: what to keep up to date.
        disk: where files are looked at.
        clock: measures the time between looks.
        seconds: from one look to the next.
        changed: told about each reading that happened.
    """

    name = "roster watch"
    _log = Logger()

    def __init__(
        self,
        roster: Roster,
        disk: Disk,
        clock: IReactorTime,
        *,
        seconds: float = 5.0,
        changed: Callable[[RosterChange], None] = _ignore,
    ) -> None:
        self._roster = roster
        self._disk = disk
        self._seconds = seconds
        self._changed = changed
        self._looking: Deferred[None] | None = None
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = clock

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Start looking."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's is not annotated
        self._ticks.start(self._seconds, now=False)

    def stopService(self) -> Deferred[None] | None:  # noqa: N802 - Twisted's name
        """Stop looking; a look in progress is waited for."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's is not annotated
        if self._ticks.running:
            self._ticks.stop()
        return self._looking

    def set_period(self, seconds: float) -> None:
        """Look every so many seconds from now on."""
        if seconds == self._seconds:
            return
        self._seconds = seconds
        if self._ticks.running:
            self._ticks.stop()
            self._ticks.start(seconds, now=False)

    def _tick(self) -> Deferred[None]:
        # LoopingCall does not call again before this Deferred has fired.
        self._looking = Deferred.fromCoroutine(self._look())
        return self._looking

    async def _look(self) -> None:
        try:
            readings = await self._disk.run(self._roster.read_if_changed)
            if readings:
                self._changed(self._roster.apply(readings))
        except Exception:  # noqa: BLE001 - one failed look must not end all later ones
            self._log.failure("looking at the peer list")
        finally:
            self._looking = None
