"""The life of the process: start, reload, drain, end.

HUP reads the configuration again, all or nothing. The first TERM or INT drains:
no new connections, and what is in flight may finish. The second cuts what is
left, and a third ends the process on the spot. USR1 opens the log anew. USR2 starts
a process that takes over; when it serves, this one drains, and may take longer.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Protocol

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IProtocolFactory
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger, globalLogPublisher

from dtfc.daemon.cannot_start import CannotStart, end_with
from dtfc.daemon.handover import Predecessor, Succession
from dtfc.daemon.listen import Listening
from dtfc.daemon.logs import Messages
from dtfc.daemon.notify import Notifier
from dtfc.daemon.privileges import (
    Identity,
    prepare_file,
    prepare_folder,
    raise_descriptor_limit,
)
from dtfc.errors import BadSetting, BadSettings, DtfcError
from dtfc.logfile import ReopenableFile
from dtfc.settings import Loaded, Settings, changed, reloaded

# A hop to a disk thread waits for the GIL, up to this long; Python's own 5 ms
# would cap an upload at 200 MB/s.
_SWITCH_INTERVAL = 0.0005


class Served(Protocol):
    """The node, as the process around it sees it."""

    @property
    def site(self) -> IProtocolFactory:
        """Makes the protocol of each connection."""

    def listening(self, port: IListeningPort) -> None:
        """Take note of a port, before its first connection."""

    async def ready(self) -> None:
        """Return when it serves.

        Raises:
            CannotStart: it never will.
        """

    def answers(self) -> bool:
        """Whether anybody does the work; nobody is told of a life that is none."""

    def reload(self, settings: Settings) -> None:
        """Put new settings in force, all or (raising ``BadSetting``) nothing."""

    def reloaded(self, *, well: bool) -> None:
        """Count a reload, and whether the new settings are in force."""

    def reopen_log(self) -> None:
        """Have every other process open the log file anew."""

    async def leave_ports(self) -> None:
        """Have every other process let go of the ports, and return when it has."""

    def announce_end(self) -> None:
        """Say in /readyz that it will take no new work soon."""

    def set_succeeded(self, *, yes: bool) -> None:
        """Say whether another process serves in its place already, so that draining may take long.

        That process does the chores from then on.
        """

    async def drain(self) -> None:
        """Take no new work, and return when what is in flight is done."""

    def abort(self) -> None:
        """Cut what is in flight."""

    def status(self) -> str:
        """Say in one line how the node is."""


class Signals(Protocol):
    """Where signals come from."""

    def on(self, number: signal.Signals, act: Callable[[], None]) -> None:
        """Call ``act``, on the loop, for each such signal from now on."""

    def default(self, number: signal.Signals) -> None:
        """Let the system's own action happen from now on."""


class ProcessSignals:
    """The signals that this process gets.

    Args:
        reactor: on whose loop they are acted upon.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def on(self, number: signal.Signals, act: Callable[[], None]) -> None:
        """Call ``act`` for each such signal, and before it what twistd had installed."""
        # twistd rotates its own log file on USR1; the reactor stops on TERM and INT.
        earlier = signal.getsignal(number) if number == signal.SIGUSR1 else None

        def caught(received: int, frame: Any) -> None:
            if callable(earlier):
                earlier(received, frame)
            self._reactor.callFromThread(act)

        signal.signal(number, caught)

    def default(self, number: signal.Signals) -> None:
        """Let the system's own action happen from now on."""
        signal.signal(number, signal.SIG_DFL)


class Daemon(MultiService):
    """Everything that runs, in the order in which it starts.

    Args:
        loaded: the settings at start.
        read: reads flags and configuration file again, for a reload.
        reactor: the loop and the clock.
        node: serves; it is also a service among the children.
        listening: the ports.
        notifier: tells systemd.
        signals: where signals come from.
        succession: starts the process that takes over.
        predecessor: the one that this process takes over from; None if there is none.
        log: the file of ``--log``; ``None`` without one.
        identity: who the process becomes after the privileged step.
        fail: makes the process end, once it ends, with a message and code 1.
    """

    _log = Logger()

    def __init__(
        self,
        loaded: Loaded,
        *,
        read: Callable[[], Loaded],
        reactor: Any,
        node: Served,
        listening: Listening,
        notifier: Notifier,
        signals: Signals,
        succession: Succession,
        predecessor: Callable[[Callable[[], None]], Predecessor] | None = None,
        log: ReopenableFile | None,
        identity: Identity | None,
        fail: Callable[[CannotStart], None] = end_with,
    ) -> None:
        MultiService.__init__(self)
        self._loaded = loaded
        self._read = read
        self._reactor = reactor
        self._node = node
        self._listening = listening
        self._notifier = notifier
        self._signals = signals
        self._file = log
        self._identity = identity
        self._fail = fail
        self._messages: Messages | None = None
        self._succession = succession
        self._predecessor = None if predecessor is None else predecessor(self.terminate)
        self._draining: Deferred[None] | None = None
        self._limit: IDelayedCall | None = None
        self._may_be_hurried = False
        self._stopped = False
        self._watchdog = LoopingCall(self._tell_alive)
        self._watchdog.clock = reactor

    def privilegedStartService(self) -> None:  # noqa: N802 - Twisted's name
        """Make ready what needs root: folders, the log, the ports.

        Raises:
            CannotStart: with what is in the way.
        """
        settings = self._loaded.settings
        prepare_folder(settings.basedir, self._identity, "basedir")
        if settings.temp is not None:
            prepare_folder(settings.temp, self._identity, "temp")
        if settings.audit_log not in (None, "-"):
            prepare_file(settings.audit_log, self._identity, "audit-log")
        self._open_log()
        raise_descriptor_limit()
        MultiService.privilegedStartService(self)

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Start the node; what follows happens when the loop runs."""
        sys.setswitchinterval(_SWITCH_INTERVAL)
        self._open_log()  # twist(1) has no privileged step
        try:
            MultiService.startService(self)
        except (DtfcError, OSError) as error:
            raise CannotStart(str(error)) from error
        # Before the loop runs, HUP would end the process.
        self._signals.on(signal.SIGHUP, self.reload)
        self._signals.on(signal.SIGUSR1, self.reopen_log)
        self._signals.on(signal.SIGUSR2, self.hand_over)
        # The reactor installs handlers of its own for TERM and INT when it starts.
        self._reactor.callWhenRunning(self._running)

    def stopService(self) -> Deferred[Any]:  # noqa: N802 - Twisted's name
        """Stop everything, the last thing started first."""
        if self._watchdog.running:
            self._watchdog.stop()
        stopping: Deferred[Any] = MultiService.stopService(self)
        return stopping.addBoth(self._close_log)

    def reload(self) -> None:
        """Put the configuration as it is now in force, or log why not and go on as before."""
        if self._draining is not None:
            return
        self._notifier.reloading()
        outcome = ""
        try:
            self._reload()
        except BadSettings as error:
            outcome = self._reload_refused(error.problems)
        except DtfcError as error:
            outcome = self._reload_refused((error,))
        except Exception:  # noqa: BLE001 - whatever is wrong with it, the old one holds
            self._log.failure("the reload failed; everything is as it was")
            outcome = "reload failed; "
        self._node.reloaded(well=not outcome)
        self.reopen_log()
        self._notifier.ready(outcome + self._node.status())

    def reopen_log(self) -> None:
        """Open the log file anew, as it may have been moved away."""
        if self._file is not None:
            self._file.reopen()
        self._node.reopen_log()

    def hand_over(self) -> None:
        """Start a process that takes over; once it serves, drain, and then stop."""
        if self._draining is None:
            self._succession.begin(self._succeeded_by)

    def terminate(self) -> None:
        """Drain, and then stop; when called again, stop now."""
        if self._draining is None:
            self._succession.stop()
            self._draining = Deferred.fromCoroutine(self._drain_and_stop())
        elif self._may_be_hurried:
            # Everything is to end, and with it what was left of this process.
            self._may_be_hurried = False
            self._node.set_succeeded(yes=False)
            timeout = self._loaded.settings.drain_timeout
            if self._limit is not None and self._limit.getTime() > self._now() + timeout:
                self._limit.reset(timeout)
        else:
            self._log.warn("told to stop again: what is in flight is cut")
            self._node.abort()
            self._stop()
            self._draining.cancel()

    def _open_log(self) -> None:
        if self._file is None or self._messages is not None:
            return
        if self._file.path != "-":
            prepare_file(self._file.path, self._identity, "log")
        try:
            self._file.open()
        except OSError as error:
            raise CannotStart(f"--log {self._file.path}: {error.strerror}") from error
        as_json = self._loaded.settings.log_format == "json"
        self._messages = Messages(self._file, as_json=as_json)
        # On standard output twistd's own messages are already.
        if self._file.path != "-":
            globalLogPublisher.addObserver(self._messages)

    def _close_log(self, result: Any) -> Any:
        if self._file is not None and self._messages is not None:
            if self._file.path != "-":
                globalLogPublisher.removeObserver(self._messages)
            self._messages = None
            self._file.close()
        return result

    def _now(self) -> float:
        return float(self._reactor.seconds())

    def _succeeded_by(self, pid: int) -> None:
        self._notifier.main_process(pid)
        self._succession.go()
        if self._watchdog.running:
            self._watchdog.stop()
        self._node.set_succeeded(yes=True)
        self._may_be_hurried = True
        self._draining = Deferred.fromCoroutine(self._drain_and_stop(pid))

    def _running(self) -> None:
        if self._predecessor is not None:
            self._predecessor.connect(self._reactor)
        self._signals.on(signal.SIGTERM, self.terminate)
        self._signals.on(signal.SIGINT, self.terminate)
        Deferred.fromCoroutine(self._become_ready()).addErrback(
            lambda failure: self._log.failure("becoming ready", failure)
        )

    async def _become_ready(self) -> None:
        try:
            await self._node.ready()
        except CannotStart as error:
            self._log.critical("{error}", error=str(error))
            self._fail(error)
            self._stop()
            return
        if self._is_draining():
            return
        if self._predecessor is not None:
            await self._predecessor.relieve(self._reactor, os.getpid())
            if self._is_draining():
                # It was told to stop while it waited.
                return
        status = self._node.status()
        self._notifier.ready(status)
        self._log.info("ready: {status}", status=status)
        if self._notifier.watchdog_interval is not None:
            self._watchdog.start(self._notifier.watchdog_interval)

    def _is_draining(self) -> bool:
        return self._draining is not None

    def _tell_alive(self) -> None:
        if self._node.answers():
            self._notifier.alive(self._node.status())

    def _reload(self) -> None:
        fresh = self._read()
        old = self._loaded.settings
        now, later = changed(old, fresh.settings)
        settings = reloaded(old, fresh.settings)
        use_certificates = self._listening.reread_certificates()
        self._node.reload(settings)
        use_certificates()
        self._loaded = Loaded(settings, fresh.where)
        self._log.info("reloaded; changed: {names}", names=", ".join(now) or "nothing")
        for name in later:
            self._log.warn(
                "{where}: {name} has changed, but only a restart puts it in force",
                where=fresh.where.get(name, "default"),
                name=name,
            )

    def _reload_refused(self, problems: tuple[DtfcError, ...] | tuple[BadSetting, ...]) -> str:
        for problem in problems:
            self._log.error("not reloaded: {problem}", problem=str(problem))
        return f"not reloaded: {problems[0]}; "

    async def _drain_and_stop(self, successor: int | None = None) -> None:
        """Drain and stop.

        Args:
            successor: process id of who has taken over; None if nobody has.
        """
        settings = self._loaded.settings
        timeout = settings.drain_timeout if successor is None else settings.handover_timeout
        status = self._node.status()
        whom = "" if successor is None else f"process {successor} has taken over; "
        self._log.info(
            "{whom}draining for up to {timeout:g} s: {status}",
            whom=whom,
            timeout=timeout,
            status=status,
        )
        notice = settings.drain_notice if successor is None else 0.0
        if successor is None:
            self._notifier.stopping(f"draining; {status}")
        try:
            if notice:
                # Who asks /readyz hears of it while everything is still served.
                self._node.announce_end()
                await deferLater(self._reactor, notice)
            drained = Deferred.fromCoroutine(self._node.drain())
            self._limit = self._reactor.callLater(timeout, drained.cancel)
            await self._node.leave_ports()
            await (self._listening.close() if successor is None else self._listening.let_go())
            await drained
        except CancelledError:
            # A second signal cuts what is waited for here, too.
            if not self._stopped:
                self._log.warn("not everything was done in {timeout:g} s", timeout=timeout)
                self._node.abort()
        except Exception:  # noqa: BLE001 - it stops, whatever goes wrong on the way
            # A second signal cuts the work that is waited for here: no failure.
            if not self._stopped:
                self._log.failure("draining failed")
                self._node.abort()
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        self._stop()

    def _stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        # Should stopping hang, one more signal ends the process.
        self._signals.default(signal.SIGTERM)
        self._signals.default(signal.SIGINT)
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            self._log.info("stopped already")
