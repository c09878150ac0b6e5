"""Start, reload, drain, end: with a node, a clock and signals that only pretend."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock

from dtfc.daemon.cannot_start import CannotStart
from dtfc.daemon.lifecycle import Daemon, ProcessSignals
from dtfc.daemon.notify import Notifier
from dtfc.errors import BadSetting, BrokenStore
from dtfc.logfile import ReopenableFile
from dtfc.settings import Settings, load
from tests.conftest import LoggedFailures


class Loop(Clock):
    """A reactor of which only time passes."""

    stops = 0

    def __init__(self) -> None:
        super().__init__()
        self.when_running: list[Callable[[], None]] = []

    def callWhenRunning(self, act: Callable[[], None]) -> None:  # noqa: N802 - Twisted's name
        self.when_running.append(act)

    def stop(self) -> None:
        self.stops += 1


class PretendSignals:
    """Signals that a test sends."""

    def __init__(self) -> None:
        self.acts: dict[signal.Signals, Callable[[], None]] = {}
        self.defaults: list[signal.Signals] = []

    def on(self, number: signal.Signals, act: Callable[[], None]) -> None:
        self.acts[number] = act

    def default(self, number: signal.Signals) -> None:
        self.defaults.append(number)


class PretendNode(Service):
    """Does what a test tells it."""

    def __init__(self) -> None:
        self.site = Factory()
        self.events: list[str] = []
        self.others: list[str] = []
        """What concerns other processes only."""
        self.reloaded_with: list[Settings] = []
        self.reloads: list[bool] = []
        """Whether each was well."""
        self.refuses: Exception | None = None
        self.drained: Deferred[None] = Deferred()
        self.serves: Deferred[None] = succeed(None)
        self.works = True

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        if self.refuses is not None:
            raise self.refuses
        Service.startService(self)
        self.events.append("started")

    def listening(self, port: Any) -> None:
        self.events.append(f"listening {port}")

    async def ready(self) -> None:
        await self.serves

    def answers(self) -> bool:
        return self.works

    def reopen_log(self) -> None:
        self.others.append("log opened anew")

    async def leave_ports(self) -> None:
        self.others.append("ports left")

    def reload(self, settings: Settings) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.reloaded_with.append(settings)

    def reloaded(self, *, well: bool) -> None:
        self.reloads.append(well)

    def announce_end(self) -> None:
        self.events.append("announced")

    def set_succeeded(self, *, yes: bool) -> None:
        self.others.append(f"succeeded: {yes}")

    async def drain(self) -> None:
        self.events.append("draining")
        await self.drained

    def abort(self) -> None:
        self.events.append("aborted")

    def status(self) -> str:
        return "well"


class PretendSuccession:
    """Starts nobody."""

    def __init__(self) -> None:
        self.serves: Callable[[int], None] | None = None
        self.told: list[str] = []

    def begin(self, serves: Callable[[int], None]) -> None:
        self.serves = serves

    def go(self) -> None:
        self.told.append("go")

    def stop(self) -> None:
        self.told.append("stop")


class PretendListening(Service):
    """Ports that are only names."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.bad_certificate = False

    def close(self) -> Deferred[None]:
        self.events.append("closed")
        return succeed(None)

    def let_go(self) -> Deferred[None]:
        self.events.append("let go")
        return succeed(None)

    def reread_certificates(self) -> Callable[[], None]:
        if self.bad_certificate:
            raise BadSetting("--listen", "bad certificate")
        return lambda: self.events.append("certificates")


class Shell:
    """A daemon and everything around it."""

    def __init__(
        self,
        folder: Path,
        *,
        log: bool = False,
        predecessor: Callable[[Callable[[], None]], Any] | None = None,
        **environment: str,
    ) -> None:
        self.folder = folder
        self.config = folder / "dtfc.toml"
        self.config.write_text('basedir = "store"\n')
        self.loop = Loop()
        self.signals = PretendSignals()
        self.node = PretendNode()
        self.listening = PretendListening(self.node.events)
        self.told: list[str] = []
        self.failed: list[CannotStart] = []
        notifier = Notifier(
            {"NOTIFY_SOCKET": "/n", **environment},
            1,
            lambda message, _: self.told.append(message.decode()),
            lambda: 5_000_000,
        )
        if log:
            self.config.write_text('basedir = "store"\nlog = "log/dtfc.log"\n')
        loaded = self.read()
        self.log = ReopenableFile(loaded.settings.log) if loaded.settings.log else None
        listening: Any = self.listening
        self.succession = PretendSuccession()
        succession: Any = self.succession
        self.daemon = Daemon(
            loaded,
            read=self.read,
            reactor=self.loop,
            node=self.node,
            listening=listening,
            notifier=notifier,
            signals=self.signals,
            succession=succession,
            predecessor=predecessor,
            log=self.log,
            identity=None,
            fail=self.failed.append,
        )
        self.node.setServiceParent(self.daemon)
        listening.setServiceParent(self.daemon)

    def read(self) -> Any:
        return load({"config": str(self.config)}, {"HOME": "/"}, "/")

    def start(self) -> Shell:
        self.daemon.privilegedStartService()
        self.daemon.startService()
        for act in self.loop.when_running:
            act()
        return self

    def send(self, number: signal.Signals) -> None:
        self.signals.acts[number]()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path).start()


def test_the_store_is_made_before_the_node_starts(tmp_path: Path) -> None:
    shell = Shell(tmp_path).start()
    assert (tmp_path / "store").is_dir()
    assert shell.node.events == ["started"]


def test_systemd_is_told_when_the_loop_runs(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.daemon.privilegedStartService()
    shell.daemon.startService()
    assert shell.told == []
    for act in shell.loop.when_running:
        act()
    assert shell.told == ["READY=1\nSTATUS=well"]


def test_hang_up_is_caught_before_the_loop_runs(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.daemon.privilegedStartService()
    shell.daemon.startService()
    assert set(shell.signals.acts) == {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}


def test_the_watchdog_sees_a_sign_of_life_at_half_its_patience(tmp_path: Path) -> None:
    shell = Shell(tmp_path, WATCHDOG_USEC="30000000").start()
    shell.told.clear()
    shell.loop.pump([15.0, 15.0])
    assert shell.told == ["WATCHDOG=1\nSTATUS=well"] * 2


def test_no_watchdog_leaves_no_timer(shell: Shell) -> None:
    assert shell.loop.getDelayedCalls() == []


@pytest.mark.parametrize("error", [BrokenStore("/s", "is of a later version"), OSError(28, "full")])
def test_a_node_that_does_not_start(tmp_path: Path, error: Exception) -> None:
    shell = Shell(tmp_path)
    shell.node.refuses = error
    shell.daemon.privilegedStartService()
    with pytest.raises(CannotStart, match=r"later version|full"):
        shell.daemon.startService()


def test_a_reload(shell: Shell) -> None:
    shell.config.write_text('basedir = "store"\nmax-body = 7\n')
    shell.told.clear()
    shell.send(signal.SIGHUP)
    assert [each.max_body for each in shell.node.reloaded_with] == [7]
    assert shell.node.events[-1] == "certificates"
    assert shell.told == ["RELOADING=1\nMONOTONIC_USEC=5000", "READY=1\nSTATUS=well"]


def test_what_needs_a_restart_keeps_its_value_and_is_named(
    shell: Shell, log_lines: list[str]
) -> None:
    shell.config.write_text('basedir = "other"\n')
    shell.send(signal.SIGHUP)
    assert [each.basedir for each in shell.node.reloaded_with] == [str(shell.folder / "store")]
    assert (
        f"{shell.config}:1: basedir has changed, but only a restart puts it in force" in log_lines
    )


def test_a_reload_with_mistakes_changes_nothing_and_names_each(
    shell: Shell, log_lines: list[str]
) -> None:
    shell.config.write_text("port = x\n")
    shell.send(signal.SIGHUP)
    shell.config.write_text('max-body = "x"\nmax-head = "y"\n')
    shell.send(signal.SIGHUP)
    assert shell.node.reloaded_with == []
    assert "certificates" not in shell.node.events
    refused = [line for line in log_lines if line.startswith("not reloaded: ")]
    assert [line.split(": ")[1] for line in refused] == [
        f"{shell.config}:1",
        f"{shell.config}:1",
        f"{shell.config}:2",
    ]
    assert shell.told[-1].startswith(f"READY=1\nSTATUS=not reloaded: {shell.config}:1: ")


def test_reloads_are_counted(shell: Shell) -> None:
    shell.send(signal.SIGHUP)
    shell.config.write_text("port = x\n")
    shell.send(signal.SIGHUP)
    assert shell.node.reloads == [True, False]


def test_a_bad_certificate_stops_the_whole_reload(shell: Shell) -> None:
    shell.listening.bad_certificate = True
    shell.send(signal.SIGHUP)
    assert shell.node.reloaded_with == []


def test_a_node_that_refuses_stops_the_whole_reload(shell: Shell) -> None:
    shell.node.refuses = BadSetting("--peerlist", "no")
    shell.send(signal.SIGHUP)
    assert "certificates" not in shell.node.events


def test_a_reload_that_breaks_is_logged_and_over(
    shell: Shell, logged_failures: LoggedFailures
) -> None:
    shell.node.refuses = ZeroDivisionError()
    shell.send(signal.SIGHUP)
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    assert shell.told[-1] == "READY=1\nSTATUS=reload failed; well"


def test_a_reload_after_a_refused_one(shell: Shell) -> None:
    shell.config.write_text("port = x\n")
    shell.send(signal.SIGHUP)
    shell.config.write_text('basedir = "store"\nmax-body = 7\n')
    shell.send(signal.SIGHUP)
    assert [each.max_body for each in shell.node.reloaded_with] == [7]


def test_draining_says_so_before_the_ports_close(shell: Shell) -> None:
    shell.send(signal.SIGTERM)
    assert shell.told[-1] == "STOPPING=1\nSTATUS=draining; well"
    assert shell.node.events[-2:] == ["draining", "closed"]
    assert shell.loop.stops == 0
    shell.node.drained.callback(None)
    assert shell.loop.stops == 1
    assert "aborted" not in shell.node.events


def test_the_end_is_announced_before_anything_is_refused(shell: Shell) -> None:
    shell.config.write_text('basedir = "store"\ndrain-notice = "5s"\n')
    shell.send(signal.SIGHUP)
    shell.send(signal.SIGTERM)
    shell.loop.advance(4.9)
    assert shell.node.events[-1] == "announced"
    shell.loop.advance(0.2)
    assert shell.node.events[-2:] == ["draining", "closed"]
    shell.node.drained.callback(None)


def test_a_second_signal_does_not_wait_for_the_announcement(shell: Shell) -> None:
    shell.config.write_text('basedir = "store"\ndrain-notice = "5s"\n')
    shell.send(signal.SIGHUP)
    shell.send(signal.SIGTERM)
    shell.send(signal.SIGTERM)
    assert shell.node.events[-1] == "aborted"
    assert shell.loop.stops == 1


def test_an_interrupt_drains_as_well(shell: Shell) -> None:
    shell.send(signal.SIGINT)
    assert shell.node.events[-1] == "closed"
    shell.node.drained.callback(None)


def test_draining_ends_at_its_time(shell: Shell) -> None:
    shell.send(signal.SIGTERM)
    shell.loop.advance(29.9)
    assert shell.loop.stops == 0
    shell.loop.advance(0.2)
    assert shell.node.events[-1] == "aborted"
    assert shell.loop.stops == 1


def test_a_second_signal_ends_it_at_once(shell: Shell) -> None:
    shell.send(signal.SIGTERM)
    shell.send(signal.SIGTERM)
    assert shell.node.events[-1] == "aborted"
    assert shell.loop.stops == 1
    assert shell.loop.getDelayedCalls() == []


def test_a_signal_more_would_end_the_process(shell: Shell) -> None:
    shell.send(signal.SIGTERM)
    assert shell.signals.defaults == []
    shell.send(signal.SIGTERM)
    assert set(shell.signals.defaults) == {signal.SIGTERM, signal.SIGINT}


def test_draining_that_breaks_ends_all_the_same(
    shell: Shell, logged_failures: LoggedFailures
) -> None:
    shell.send(signal.SIGTERM)
    shell.node.drained.errback(ZeroDivisionError())
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    assert shell.loop.stops == 1


class TestHandingOver:
    def handed_over(self, shell: Shell) -> Shell:
        shell.send(signal.SIGUSR2)
        assert shell.succession.serves is not None
        shell.succession.serves(77)
        return shell

    def test_nothing_changes_before_the_other_one_serves(self, shell: Shell) -> None:
        shell.send(signal.SIGUSR2)
        assert shell.node.events == ["started"]

    def test_systemd_hears_who_it_is_before_the_other_one_speaks(self, shell: Shell) -> None:
        self.handed_over(shell)
        assert shell.told[-1] == "MAINPID=77"
        assert shell.succession.told == ["go"]
        shell.node.drained.callback(None)

    def test_the_old_one_drains_without_the_chores(self, shell: Shell) -> None:
        self.handed_over(shell)
        assert shell.node.others == ["succeeded: True", "ports left"]
        assert shell.node.events[-2:] == ["draining", "let go"]
        shell.node.drained.callback(None)
        assert shell.loop.stops == 1

    def test_it_may_take_longer(self, shell: Shell) -> None:
        self.handed_over(shell)
        shell.loop.advance(3599)
        assert shell.loop.stops == 0
        shell.loop.advance(2)
        assert shell.node.events[-1] == "aborted"
        assert shell.loop.stops == 1

    def test_unless_everything_is_to_end(self, shell: Shell) -> None:
        self.handed_over(shell)
        shell.send(signal.SIGTERM)
        assert shell.node.others[-1] == "succeeded: False"
        shell.loop.advance(29)
        assert shell.loop.stops == 0
        shell.loop.advance(2)
        assert shell.loop.stops == 1

    def test_or_at_once(self, shell: Shell) -> None:
        self.handed_over(shell)
        shell.send(signal.SIGTERM)
        shell.send(signal.SIGTERM)
        assert shell.node.events[-1] == "aborted"
        assert shell.loop.stops == 1

    def test_the_end_of_one_that_is_being_succeeded_is_the_end_of_both(self, shell: Shell) -> None:
        shell.send(signal.SIGUSR2)
        shell.send(signal.SIGTERM)
        assert shell.succession.told == ["stop"]
        shell.node.drained.callback(None)

    def test_none_begins_while_draining(self, shell: Shell) -> None:
        shell.send(signal.SIGTERM)
        shell.send(signal.SIGUSR2)
        assert shell.succession.serves is None
        shell.node.drained.callback(None)


def test_no_reload_while_draining(shell: Shell) -> None:
    shell.send(signal.SIGTERM)
    shell.send(signal.SIGHUP)
    assert shell.node.reloaded_with == []
    shell.node.drained.callback(None)


def test_the_log_holds_messages_and_is_opened_anew(tmp_path: Path) -> None:
    shell = Shell(tmp_path, log=True).start()
    log = tmp_path / "log/dtfc.log"
    assert "ready: well" in log.read_text()
    os.rename(log, tmp_path / "old")
    shell.send(signal.SIGUSR1)
    shell.config.write_text("port = x\n")
    shell.send(signal.SIGHUP)
    assert "not reloaded" in log.read_text()
    assert "not reloaded" not in (tmp_path / "old").read_text()
    shell.daemon.stopService()


def test_the_log_is_closed_at_the_end(tmp_path: Path) -> None:
    shell = Shell(tmp_path, log=True).start()
    shell.daemon.stopService()
    assert shell.log is not None
    shell.log.line("late")
    assert shell.log.lost == 1


def test_a_log_that_cannot_be_made(tmp_path: Path) -> None:
    shell = Shell(tmp_path, log=True)
    (tmp_path / "log").write_text("in the way")
    with pytest.raises(CannotStart, match="--log"):
        shell.daemon.privilegedStartService()


def test_what_twistd_does_on_a_signal_still_happens() -> None:
    class Immediate:
        def callFromThread(self, act: Callable[[], None]) -> None:  # noqa: N802 - Twisted's name
            act()

    happened: list[str] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: happened.append("twistd"))
    try:
        ProcessSignals(Immediate()).on(signal.SIGUSR1, lambda: happened.append("dtfc"))
        os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert happened == ["twistd", "dtfc"]


def test_ready_is_said_when_somebody_serves(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.node.serves = Deferred()
    shell.start()
    assert shell.told == []
    shell.node.serves.callback(None)
    assert [each.split("\n")[0] for each in shell.told] == ["READY=1"]


def test_who_never_will_serve_ends_it_with_1(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.node.serves = fail(CannotStart("workers end"))
    shell.start()
    assert [str(each) for each in shell.failed] == ["dtfc: workers end"]
    assert shell.loop.stops == 1
    assert shell.told == []


def test_the_watchdog_hears_nothing_while_nobody_works(tmp_path: Path) -> None:
    shell = Shell(tmp_path, WATCHDOG_USEC="2000000")
    shell.start()
    shell.node.works = False
    before = len(shell.told)
    shell.loop.pump([1.0] * 5)
    assert len(shell.told) == before
    shell.node.works = True
    shell.loop.advance(1.0)
    assert shell.told[-1].startswith("WATCHDOG=1")


def test_the_others_let_go_of_ports_and_log_with_it(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.start()
    shell.daemon.reopen_log()
    shell.daemon.terminate()
    assert shell.node.others == ["log opened anew", "ports left"]


class PretendPredecessor:
    """Knows nothing of a successor for a while."""

    def __init__(self) -> None:
        self.relieved: Deferred[None] = Deferred()

    def connect(self, _reactor: Any) -> None:
        pass

    async def relieve(self, _reactor: Any, _pid: int) -> None:
        await self.relieved


def test_who_is_told_to_stop_while_it_takes_over_does_not_say_that_it_serves(
    tmp_path: Path,
) -> None:
    predecessor = PretendPredecessor()
    shell = Shell(tmp_path, predecessor=lambda _stop: predecessor).start()
    shell.send(signal.SIGTERM)

    predecessor.relieved.callback(None)

    assert not any("READY" in each for each in shell.told)
