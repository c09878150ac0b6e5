"""A worker's side of the channel, with a node, a loop and ports that only pretend."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from dtfc.daemon.control import pack
from dtfc.daemon.worker import ACCEPTS, ASK_LIMIT, LAST_WORD, Worker, take_turns
from dtfc.errors import BrokenStore, Busy
from dtfc.settings import Settings, load
from dtfc.settings.plain import to_plain
from dtfc.web.families import Family, told
from tests.conftest import LoggedFailures

REQUESTS = told("dtfc_http_requests", 4)


class PretendPort:
    """A port of which only stopping shows."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.numberAccepts = 100
        self.accepted: list[int] = []

    def doRead(self) -> None:  # noqa: N802 - Twisted's name
        self.accepted.append(self.numberAccepts)
        self.numberAccepts += 20

    def stopListening(self) -> Deferred[None]:  # noqa: N802 - Twisted's name
        self.events.append("port closed")
        return succeed(None)


class Loop(Clock):
    """A reactor of which only time passes."""

    stops = 0

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def adoptStreamPort(self, _fd: int, _family: int, _factory: Any) -> Any:  # noqa: N802 - Twisted's
        return PretendPort(self.events)

    def stop(self) -> None:
        self.stops += 1


class PretendNode:
    """Does what a test tells it."""

    def __init__(self, events: list[str]) -> None:
        self.site = Factory()
        self.events = events
        self.refuses: Exception | None = None
        self.drained: Deferred[None] = Deferred()
        self.settings: Settings | None = None

    def listening(self, _port: Any) -> None:
        self.events.append("listening")

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        if self.refuses is not None:
            raise self.refuses
        self.events.append("started")

    def stopService(self) -> Deferred[None]:  # noqa: N802 - Twisted's name
        self.events.append("stopped")
        return succeed(None)

    def reopen_log(self) -> None:
        self.events.append("reopened")

    def reload(self, settings: Settings) -> None:
        self.settings = settings

    def read_peers(self) -> None:
        self.events.append("peers")

    def announce_end(self) -> None:
        self.events.append("announced")

    def set_succeeded(self, *, yes: bool) -> None:
        self.events.append(f"succeeded: {yes}")

    async def drain(self) -> None:
        self.events.append("draining")
        await self.drained

    def abort(self) -> None:
        self.events.append("aborted")

    def counts(self) -> Sequence[Family]:
        return [REQUESTS]

    def numbers(self) -> tuple[int, int]:
        return 3, 2


class Scene:
    """A worker whose parent is the test."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.loop = Loop(self.events)
        self.node = PretendNode(self.events)
        self.chores: list[bool] = []
        self.access: list[Callable[[Sequence[str]], object]] = []
        self.said: list[dict[str, Any]] = []
        self.worker = Worker(self.loop, self.make)
        self.worker.makeConnection(self)

    def make(
        self,
        _settings: Settings,
        access_log: Callable[[Sequence[str]], object],
        _colleagues: Worker,
        /,
        *,
        chores: bool,
    ) -> PretendNode:
        self.chores.append(chores)
        self.access.append(access_log)
        return self.node

    # What a transport does.

    def write(self, data: bytes) -> None:
        self.said += [json.loads(line) for line in data.splitlines()]

    def loseConnection(self) -> None:  # noqa: N802 - Twisted's name
        self.events.append("channel closed")
        self.loop.callLater(0, self.worker.connectionLost)

    def registerProducer(self, producer: object, _streaming: bool) -> None:  # noqa: FBT001, N802 - Twisted's
        self.producer = producer

    def unregisterProducer(self) -> None:  # noqa: N802 - Twisted's name
        self.producer = None

    # What the parent does.

    def tell(self, kind: str, **facts: Any) -> None:
        self.worker.dataReceived(pack(kind, **facts))

    def start(self, index: int = 0, drain_timeout: str = "30s") -> Scene:
        with socket.socket() as listening:
            self.tell(
                "start",
                index=index,
                settings=plain(**{"drain-timeout": drain_timeout}),
                sockets=[{"fd": listening.detach(), "family": int(socket.AF_INET)}],
                keys=[None],
                log_fd=None,
                announced=False,
            )
        return self


def plain(**flags: object) -> dict[str, Any]:
    return to_plain(load(flags, {"HOME": "/h"}, "/").settings)


def test_it_starts_and_then_says_that_it_serves() -> None:
    scene = Scene().start()
    assert scene.events == ["started", "listening"]
    assert scene.said == [{"kind": "ready"}]


@pytest.mark.parametrize(("index", "chores"), [(0, True), (1, False)])
def test_the_first_alone_does_the_chores(index: int, chores: bool) -> None:  # noqa: FBT001 - a case
    assert Scene().start(index).chores == [chores]


def test_a_store_that_is_broken_is_told_and_ends_it() -> None:
    scene = Scene()
    scene.node.refuses = BrokenStore("/s", "makes no sense")
    scene.start()
    assert scene.said == [{"kind": "cannot", "why": "/s: makes no sense"}]
    scene.loop.advance(0)
    assert (scene.loop.stops, scene.worker.code) == (1, 1)


def test_byte_by_byte() -> None:
    scene = Scene().start()
    for byte in pack("ping", number=7, serving=1, workers=2, totals=[3, 20, 1]):
        scene.worker.dataReceived(bytes([byte]))
    assert scene.said[-1] == {
        "kind": "pong",
        "number": 7,
        "connections": 3,
        "peers": 2,
        "families": [REQUESTS.plain()],
    }
    assert scene.worker.present() == (1, 2)


@pytest.mark.parametrize("garbage", [b"garbage\n", b"{}\n", pack("colour"), pack("_init__")])
def test_a_parent_that_sends_nonsense_is_left(
    garbage: bytes, logged_failures: LoggedFailures
) -> None:
    scene = Scene().start()
    scene.worker.dataReceived(garbage)
    assert scene.events[-1] == "channel closed"
    assert logged_failures.flush()


def test_a_message_that_lacks_something_harms_nothing(logged_failures: LoggedFailures) -> None:
    scene = Scene().start()
    scene.tell("reload", settings={}, keys=[None])
    scene.tell("ping", number=1, serving=1, workers=1, totals=[0, 0, 0])
    assert scene.node.settings is None
    assert scene.said[-1]["kind"] == "pong"
    assert logged_failures.flush(ValueError)


def test_a_reload_takes_what_the_parent_has_in_force() -> None:
    scene = Scene().start()
    scene.tell("reload", settings=plain(**{"max-body": "1KiB"}), keys=[None])
    assert scene.node.settings is not None
    assert scene.node.settings.max_body == 1024


def test_access_lines_go_to_the_parent_without_a_log() -> None:
    scene = Scene().start()
    scene.access[0](["one", "two"])
    assert scene.said[-1] == {"kind": "lines", "lines": ["one", "two"]}


def test_access_lines_that_come_from_a_thread_are_sent_by_the_loop() -> None:
    scene = Scene().start()
    queued: list[Callable[[], object]] = []
    scene.loop.callFromThread = lambda work, *args: queued.append(lambda: work(*args))  # type: ignore[attr-defined]  # asked for here alone
    thread = Thread(target=scene.access[0], args=(["one"],))
    thread.start()
    thread.join()
    assert scene.said[-1] == {"kind": "ready"}
    queued.pop()()
    assert scene.said[-1] == {"kind": "lines", "lines": ["one"]}


def test_a_parent_that_does_not_keep_up_costs_lines_not_memory(log_lines: list[str]) -> None:
    scene = Scene().start()
    scene.worker.pauseProducing()
    scene.access[0](["one", "two"])
    scene.access[0](["three"])
    assert scene.said[-1] == {"kind": "ready"}
    scene.worker.resumeProducing()
    assert log_lines[-1].startswith("3 lines of the access log were lost")
    scene.access[0](["four"])
    assert scene.said[-1] == {"kind": "lines", "lines": ["four"]}


def test_a_parent_that_does_not_listen_is_not_waited_for_at_the_end() -> None:
    scene = Scene().start()
    scene.loseConnection = lambda: None  # type: ignore[method-assign]  # it never gets through
    scene.tell("cut")
    scene.loop.advance(LAST_WORD - 1)
    assert scene.loop.stops == 0
    scene.loop.advance(1)
    assert scene.loop.stops == 1


def test_draining_closes_the_ports_and_ends_when_all_is_done() -> None:
    scene = Scene().start()
    scene.tell("drain")
    assert scene.events[-2:] == ["draining", "port closed"]
    assert scene.said[-1] == {"kind": "off"}
    assert scene.loop.stops == 0
    scene.node.drained.callback(None)
    scene.loop.advance(0)
    assert scene.events[-2:] == ["stopped", "channel closed"]
    assert (scene.loop.stops, scene.worker.code) == (1, 0)


def test_draining_ends_at_its_time() -> None:
    scene = Scene().start(drain_timeout="5s")
    scene.tell("drain")
    scene.loop.advance(5)
    scene.loop.advance(0)
    assert "aborted" in scene.events
    assert scene.loop.stops == 1


def test_one_that_is_succeeded_may_drain_for_longer() -> None:
    scene = Scene().start(drain_timeout="5s")
    scene.tell("succeeded", yes=True)
    scene.tell("drain")
    scene.loop.advance(3599)
    assert scene.loop.stops == 0
    scene.loop.advance(1)
    scene.loop.advance(0)
    assert scene.loop.stops == 1


def test_the_node_knows_that_it_is_succeeded() -> None:
    scene = Scene().start()
    scene.tell("succeeded", yes=True)
    assert scene.events[-1] == "succeeded: True"
    scene.tell("cut")
    scene.loop.advance(0)


def test_cut_ends_it_at_once() -> None:
    scene = Scene().start()
    scene.tell("cut")
    scene.loop.advance(0)
    assert scene.events[-4:] == ["aborted", "port closed", "stopped", "channel closed"]
    assert scene.loop.stops == 1


def test_it_ends_when_the_parent_is_gone(log_lines: list[str]) -> None:
    scene = Scene().start()
    scene.worker.connectionLost()
    assert "the parent is gone: this worker drains" in log_lines
    assert scene.events[-1] == "port closed"
    scene.node.drained.callback(None)
    scene.loop.advance(0)
    assert scene.loop.stops == 1


def test_it_ends_when_the_parent_is_gone_before_it_served() -> None:
    scene = Scene()
    scene.worker.connectionLost()
    scene.loop.advance(0)
    assert scene.loop.stops == 1


def test_the_counts_of_all_come_from_the_parent() -> None:
    scene = Scene().start()
    asking = Deferred.fromCoroutine(scene.worker.counts())
    assert scene.said[-1] == {"kind": "ask", "number": 1}
    results: list[object] = []
    asking.addBoth(results.append)
    scene.tell("node", number=1, families=[REQUESTS.plain()])
    assert results == [[REQUESTS]]


def test_a_parent_that_says_nothing_is_not_waited_for() -> None:
    scene = Scene().start()
    results: list[Any] = []
    Deferred.fromCoroutine(scene.worker.counts()).addBoth(results.append)
    scene.loop.advance(ASK_LIMIT)
    [failure] = results
    assert isinstance(failure, Failure)
    assert failure.check(Busy)
    scene.tell("node", number=1, families=[])


def test_the_others_hear_that_the_peer_list_was_read() -> None:
    scene = Scene().start()
    scene.worker.peers_read()
    assert scene.said[-1] == {"kind": "peers"}
    scene.tell("peers")
    assert scene.events[-1] == "peers"


def test_a_port_takes_few_connections_in_a_turn() -> None:
    port = PretendPort([])
    take_turns(port)
    for _ in range(3):
        port.doRead()
    assert port.accepted == [ACCEPTS] * 3
