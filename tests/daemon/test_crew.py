"""The parent of workers, on a clock and with processes that only pretend."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from dtfc.daemon.cannot_start import CannotStart
from dtfc.daemon.control import pack
from dtfc.daemon.crew import (
    ASK_PATIENCE,
    DEAF,
    LAST_WAIT,
    LEAVE_PATIENCE,
    PING_PERIOD,
    START_LIMIT,
    Crew,
    share_of,
)
from dtfc.daemon.place import FIRST_SOCKET, HEARS, LAST_WORDS, SAYS
from dtfc.errors import BadSetting
from dtfc.settings import Settings, load
from dtfc.web.families import REQUESTS, STALL_MAX, told


class Loop(Clock):
    """A reactor of which only time passes."""

    def callWhenRunning(self, act: Callable[[], None]) -> None:  # noqa: N802 - Twisted's name
        act()


class PretendPort:
    """A port that is only a number."""

    addressFamily = 2  # noqa: N815 - Twisted's name
    reading = True

    def stopReading(self) -> None:  # noqa: N802 - Twisted's name
        self.reading = False

    def fileno(self) -> int:
        return 77


class PretendProcess:
    """A worker's process: keeps what it is told, says what a test wants."""

    def __init__(self, pid: int, protocol: Any, inherited: dict[int, int]) -> None:
        self.pid = pid
        self.protocol = protocol
        self.inherited = inherited
        self.told: list[dict[str, Any]] = []
        self.signals: list[str] = []

    def writeToChild(self, fd: int, data: bytes) -> None:  # noqa: N802 - Twisted's name
        assert fd == HEARS
        self.told += [json.loads(line) for line in data.splitlines()]

    def signalProcess(self, name: str) -> None:  # noqa: N802 - Twisted's name
        self.signals.append(name)

    def kinds(self) -> list[str]:
        return [each["kind"] for each in self.told]

    def says(self, kind: str, **facts: Any) -> None:
        self.protocol.childDataReceived(SAYS, pack(kind, **facts))

    def pongs(self, count: float = 0.0, stall: float = 0.0) -> None:
        """Answer the last ping."""
        families = [
            told(REQUESTS, count),
            told(STALL_MAX, stall),
        ]
        self.says(
            "pong",
            number=[each for each in self.told if each["kind"] == "ping"][-1]["number"],
            connections=3,
            peers=2,
            families=[each.plain() for each in families],
        )

    def ends(self, code: int | None = None, number: int | None = None) -> None:
        if code == 0:
            reason: Exception = ProcessDone(0)
        else:
            reason = ProcessTerminated(code, number)
        self.protocol.processEnded(Failure(reason))


class Scene:
    """A crew and everything around it."""

    def __init__(self, workers: int = 2, **flags: object) -> None:
        self.loop = Loop()
        self.processes: list[PretendProcess] = []
        self.refused: BadSetting | None = None
        self.unable = 0
        self.crew = Crew(
            self.settings(workers=str(workers), **flags),
            self.loop,
            check=self.check,
            log_fd=lambda: 55,
            attempt=lambda _settings: None,
            spawn=self.spawn,
        )

    def settings(self, **flags: object) -> Settings:
        return load({"workers": "2", **flags}, {"HOME": "/h"}, "/").settings

    def check(self, _settings: Settings) -> None:
        if self.refused is not None:
            raise self.refused

    def spawn(self, protocol: Any, _index: int, inherited: dict[int, int]) -> Any:
        if self.unable:
            self.unable -= 1
            raise OSError(11, "Resource temporarily unavailable")
        process = PretendProcess(1000 + len(self.processes), protocol, inherited)
        self.processes.append(process)
        return process

    def serving(self) -> Scene:
        self.crew.startService()
        for each in self.processes:
            each.says("ready")
        return self

    def ping(self) -> None:
        self.loop.advance(PING_PERIOD)

    def total(self) -> float:
        [family] = [each for each in self.crew.families() if each.name == REQUESTS]
        return sum(family.values.values())

    def end(self) -> None:
        """Let everybody go, so that no timer is left."""
        stopping = self.crew.stopService()
        for each in self.processes:
            if each.protocol.alive and each.protocol.transport is each:
                each.ends(code=0)
        assert over(stopping)


def over(waiting: Deferred[Any]) -> bool:
    """Whether a Deferred waits no longer."""
    return bool(waiting.called)


def state(waiting: Deferred[Any]) -> object:
    """What a Deferred has come to, None as long as it waits."""
    results: list[object] = []
    waiting.addBoth(results.append)
    return results[0] if results else None


# -- start ------------------------------------------------------------------


def test_a_worker_gets_the_settings_in_force_and_the_sockets() -> None:
    scene = Scene()
    port: Any = PretendPort()
    scene.crew.listening(port)
    scene.crew.startService()
    first = scene.processes[0]
    assert not port.reading
    assert first.inherited == {FIRST_SOCKET: 77, FIRST_SOCKET + 1: 55}
    [start] = first.told
    assert start["kind"] == "start"
    assert start["settings"]["workers"] == 2
    assert start["sockets"] == [{"fd": FIRST_SOCKET, "family": 2}]
    assert start["log_fd"] == FIRST_SOCKET + 1


def test_ready_is_when_all_are() -> None:
    scene = Scene()
    scene.crew.startService()
    ready = Deferred.fromCoroutine(scene.crew.ready())
    scene.processes[0].says("ready")
    assert not over(ready)
    scene.processes[1].says("ready")
    assert over(ready)


def test_a_store_that_cannot_be_opened_starts_nobody() -> None:
    scene = Scene()

    def attempt(_settings: Settings) -> None:
        raise CannotStart("the store is broken")

    scene.crew._attempt = attempt
    with pytest.raises(CannotStart, match="the store is broken"):
        scene.crew.startService()
    assert scene.processes == []


def test_what_a_worker_cannot_start_with_ends_the_start() -> None:
    scene = Scene()
    scene.crew.startService()
    ready = Deferred.fromCoroutine(scene.crew.ready())
    scene.processes[0].says("cannot", why="the store is broken")
    scene.processes[0].ends(code=1)
    failure = state(ready)
    assert isinstance(failure, Failure)
    assert str(failure.value) == "dtfc: the store is broken"
    scene.end()
    assert len(scene.processes) == 2


def test_workers_that_end_before_any_serves_end_the_start() -> None:
    scene = Scene()
    scene.crew.startService()
    ready = Deferred.fromCoroutine(scene.crew.ready())
    scene.processes[0].ends(code=1)
    scene.processes[1].ends(number=signal.SIGSEGV)
    assert not over(ready)
    last = scene.processes[2]
    last.protocol.childDataReceived(LAST_WORDS, b"Traceback\nImportError: no dtfc\n")
    last.ends(code=1)
    failure = state(ready)
    assert isinstance(failure, Failure)
    assert str(failure.value) == (
        "dtfc: workers end before they serve: exit code 1 (ImportError: no dtfc)"
    )
    scene.end()


def test_a_node_that_has_served_never_gives_up() -> None:
    scene = Scene().serving()
    for _ in range(20):
        scene.processes[-1].says("cannot", why="the disk is gone")
        scene.processes[-1].ends(code=1)
        scene.loop.pump([10.0] * 3)
        scene.processes[0].pongs()
    assert len(scene.processes) == 22
    scene.end()


# -- death --------------------------------------------------------------------


def test_a_dead_worker_is_replaced_at_once(log_lines: list[str]) -> None:
    scene = Scene().serving()
    scene.loop.advance(20)
    scene.processes[1].ends(number=signal.SIGKILL)
    assert len(scene.processes) == 3
    assert scene.processes[2].protocol.index == 1
    assert (
        "worker 1 (process 1001) has ended: killed by SIGKILL; a new one takes its place"
        in log_lines
    )
    scene.end()


def test_quick_deaths_are_followed_by_pauses(log_lines: list[str]) -> None:
    scene = Scene().serving()
    scene.processes[1].ends(code=1)
    scene.processes[2].ends(code=1)
    assert "a new one is started in 0.5 s" in log_lines[-1]
    scene.loop.advance(0.49)
    assert len(scene.processes) == 3
    scene.loop.advance(0.02)
    assert len(scene.processes) == 4
    scene.end()


def test_one_that_takes_long_to_start_and_dies_has_died_quickly(log_lines: list[str]) -> None:
    scene = Scene().serving()
    scene.processes[1].ends(code=1)
    scene.loop.advance(20)
    scene.processes[2].says("ready")
    scene.processes[2].ends(code=1)
    assert "a new one is started in 0.5 s" in log_lines[-1]
    scene.end()


def test_a_system_that_starts_no_process_is_asked_again(log_lines: list[str]) -> None:
    scene = Scene().serving()
    scene.unable = 2
    scene.processes[1].ends(code=1)
    scene.loop.pump([0.5, 0.5, 0.5])
    assert len(scene.processes) == 3
    assert any("Resource temporarily unavailable" in line for line in log_lines)
    scene.end()


def test_one_that_does_not_answer_is_killed(log_lines: list[str]) -> None:
    scene = Scene().serving()
    for _ in range(int(DEAF / PING_PERIOD) + 1):
        scene.ping()
        scene.processes[0].pongs()
    assert scene.processes[1].signals == ["KILL"]
    assert scene.processes[0].signals == []
    scene.processes[1].ends(number=signal.SIGKILL)
    assert any("it has not answered for 30 s, and was killed" in line for line in log_lines)
    scene.end()


def test_one_that_never_serves_is_killed() -> None:
    scene = Scene()
    scene.crew.startService()
    scene.processes[0].says("ready")
    for _ in range(int(START_LIMIT / PING_PERIOD) + 1):
        scene.ping()
        scene.processes[0].pongs()
    assert scene.processes[1].signals == ["KILL"]
    scene.end()


@pytest.mark.parametrize(
    "garbage",
    [
        b"garbage\n",
        b"{}\n",
        pack("colour"),
        pack("cannot"),
        pack("pong"),
        pack("pong", number=1, connections=1, peers=1, families=[[1]]),
        pack("ask", number="x"),
        pack("log", level="loud", text="", **{"from": "x"}),
        pack("lines", lines=1),
    ],
)
def test_one_that_sends_nonsense_is_killed(garbage: bytes) -> None:
    scene = Scene().serving()
    for byte in garbage:
        scene.processes[0].protocol.childDataReceived(SAYS, bytes([byte]))
    assert scene.processes[0].signals == ["KILL"]
    scene.processes[0].protocol.childDataReceived(SAYS, pack("ready"))
    scene.processes[0].ends(number=signal.SIGKILL)
    assert len(scene.processes) == 3
    scene.end()


def test_the_watchdog_hears_of_a_life_only_while_somebody_answers() -> None:
    scene = Scene().serving()
    assert scene.crew.answers()
    scene.loop.advance(DEAF)
    assert not scene.crew.answers()
    scene.processes[0].pongs()
    assert scene.crew.answers()
    scene.end()


# -- counting -----------------------------------------------------------------


def test_counters_never_go_back_when_a_worker_is_replaced() -> None:
    scene = Scene().serving()
    scene.ping()
    scene.processes[0].pongs(count=10)
    scene.processes[1].pongs(count=5)
    assert scene.total() == 15
    scene.processes[0].ends(number=signal.SIGKILL)
    assert scene.total() == 15
    scene.processes[2].says("ready")
    scene.ping()
    scene.processes[2].pongs(count=1)
    assert scene.total() == 16
    told = {each.name: each for each in scene.crew.families()}
    zero, one = (("worker", "0"),), (("worker", "1"),)
    assert told["dtfc_worker_requests"].values == {zero: 11, one: 5}
    assert told["dtfc_worker_starts"].values == {zero: 2, one: 1}
    scene.end()


def test_who_asks_gets_the_counts_of_all_as_soon_as_all_have_told() -> None:
    scene = Scene().serving()
    scene.processes[1].says("ask", number=9)
    scene.processes[0].pongs(count=1)
    assert "node" not in scene.processes[1].kinds()
    scene.processes[1].pongs(count=2)
    [answer] = [each for each in scene.processes[1].told if each["kind"] == "node"]
    assert answer["number"] == 9
    [requests] = [each for each in answer["families"] if each[0] == REQUESTS]
    assert requests[-1] == [[[], 3]]
    scene.end()


def test_who_asks_does_not_wait_for_one_that_is_silent() -> None:
    scene = Scene().serving()
    scene.ping()
    scene.processes[0].pongs(count=7)
    scene.processes[1].says("ask", number=1)
    scene.processes[1].pongs(count=2)
    scene.loop.advance(ASK_PATIENCE)
    [answer] = [each for each in scene.processes[1].told if each["kind"] == "node"]
    [requests] = [each for each in answer["families"] if each[0] == REQUESTS]
    assert requests[-1] == [[[], 9]]
    scene.end()


def test_the_status_is_the_nodes() -> None:
    scene = Scene().serving()
    scene.ping()
    for each in scene.processes:
        each.pongs()
    assert scene.crew.status() == "6 connections, 2 peers, 2 of 2 workers"
    scene.end()


# -- while it runs --------------------------------------------------------------


def test_a_reload_reaches_everybody_and_whoever_comes_later() -> None:
    scene = Scene().serving()
    scene.crew.reload(scene.settings(**{"max-body": "1KiB"}))
    scene.loop.advance(0)
    for each in scene.processes:
        assert each.told[-1]["kind"] == "reload"
        assert each.told[-1]["settings"]["max_body"] == 1024
    scene.loop.advance(60)
    scene.processes[0].ends(code=1)
    assert scene.processes[2].told[0]["settings"]["max_body"] == 1024
    scene.end()


def test_a_refused_reload_reaches_nobody() -> None:
    scene = Scene().serving()
    scene.refused = BadSetting("me", "is no address")
    with pytest.raises(BadSetting):
        scene.crew.reload(scene.settings())
    scene.loop.advance(0)
    assert all("reload" not in each.kinds() for each in scene.processes)
    scene.end()


def test_what_one_has_read_of_peers_the_others_read_too() -> None:
    scene = Scene().serving()
    scene.processes[0].says("peers")
    assert scene.processes[0].kinds() == ["start"]
    assert scene.processes[1].kinds() == ["start", "peers"]
    scene.end()


def test_what_is_the_nodes_is_divided_rounded_up() -> None:
    settings = load({"max-connections": "1001", "max-loads": "3"}, {"HOME": "/h"}, "/").settings
    shared = share_of(settings, 2)
    assert (shared.max_connections, shared.max_loads) == (501, 2)
    assert shared.disk_threads == settings.disk_threads


def test_what_a_worker_says_is_logged_with_its_number(log_lines: list[str]) -> None:
    scene = Scene().serving()
    scene.processes[1].says("log", level="warn", text="{odd}", **{"from": "dtfc.web"})
    scene.processes[1].says("lines", lines=['1.2.3.4 "GET /{x}"'])
    assert log_lines[-2:] == ["worker 1: {odd}", '1.2.3.4 "GET /{x}"']
    scene.end()


# -- the end --------------------------------------------------------------------


def test_draining_waits_for_everybody_and_replaces_nobody() -> None:
    scene = Scene().serving()
    drained = Deferred.fromCoroutine(scene.crew.drain())
    assert [each.told[-1]["kind"] for each in scene.processes] == ["drain"] * 2
    scene.processes[0].ends(code=0)
    assert not over(drained)
    scene.processes[1].ends(number=signal.SIGKILL)
    assert over(drained)
    assert len(scene.processes) == 2
    scene.end()


def test_all_hear_that_they_are_succeeded() -> None:
    scene = Scene().serving()
    scene.crew.set_succeeded(yes=True)
    told = [(each.told[-1]["kind"], each.told[-1]["yes"]) for each in scene.processes]
    assert told == [("succeeded", True)] * 2
    scene.end()


def test_the_ports_are_left_when_all_say_so_or_time_is_up() -> None:
    scene = Scene().serving()
    Deferred.fromCoroutine(scene.crew.drain())
    left = Deferred.fromCoroutine(scene.crew.leave_ports())
    scene.processes[0].says("off")
    assert not over(left)
    scene.processes[1].says("off")
    assert over(left)
    scene.end()

    other = Scene().serving()
    Deferred.fromCoroutine(other.crew.drain())
    left = Deferred.fromCoroutine(other.crew.leave_ports())
    other.loop.advance(LEAVE_PATIENCE)
    assert over(left)
    other.end()


def test_one_that_waits_to_be_started_is_not_started_at_the_end() -> None:
    scene = Scene().serving()
    scene.processes[1].ends(code=1)
    scene.processes[2].ends(code=1)
    Deferred.fromCoroutine(scene.crew.drain())
    scene.processes[0].ends(code=0)
    scene.loop.advance(100)
    assert len(scene.processes) == 3
    scene.end()


def test_those_that_do_not_end_are_killed() -> None:
    scene = Scene().serving()
    stopping = scene.crew.stopService()
    assert [each.told[-1]["kind"] for each in scene.processes] == ["cut"] * 2
    scene.processes[0].ends(code=0)
    scene.loop.advance(LAST_WAIT)
    assert scene.processes[1].signals == ["KILL"]
    scene.processes[1].ends(number=signal.SIGKILL)
    assert over(stopping)
