"""One process takes over from another: what they say to each other, and what is left behind."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock

from dtfc.daemon.control import pack
from dtfc.daemon.handover import (
    FIRST_SOCKET,
    HEARS,
    PATIENCE,
    SAYS,
    VARIABLE,
    PidFile,
    Predecessor,
    Succession,
    Successor,
    inherit,
)
from dtfc.daemon.listen import adopt


class Spawning:
    """A reactor that starts nothing."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.command: list[str] = []
        self.environment: dict[str, str] = {}
        self.descriptors: dict[int, int | str] = {}
        self.refuses: OSError | None = None
        self.said: list[bytes] = []

    def spawnProcess(  # noqa: N802 - Twisted's name
        self,
        protocol: Any,
        _program: str,
        command: list[str],
        *,
        env: dict[str, str],
        childFDs: dict[int, int | str],  # noqa: N803 - Twisted's name
    ) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.protocol, self.command, self.environment = protocol, command, env
        self.descriptors = childFDs
        protocol.transport = self

    def writeToChild(self, fd: int, data: bytes) -> None:  # noqa: N802 - Twisted's name
        assert fd == HEARS
        self.said.append(data)


class Scene:
    """A process that is to be succeeded."""

    def __init__(self, pid_file: str = "", **environment: str) -> None:
        self.spawning = Spawning()
        self.options: dict[str, Any] = {"pidfile": pid_file}
        self.served: list[int] = []
        self.succession = Succession(
            self.spawning,
            ["/bin/python", "twistd", "-n", "dtfc"],
            environment,
            lambda: {"port 80 None": [(11, 2), (12, 10)], "unix:/x": [(13, 1)]},
            PidFile(self.options),
        )

    def begin(self) -> Scene:
        self.succession.begin(self.served.append)
        return self

    def says(self, data: bytes) -> None:
        self.spawning.protocol.childDataReceived(SAYS, data)


def test_the_new_process_has_the_command_of_the_old_one() -> None:
    scene = Scene().begin()
    assert scene.spawning.command[-4:] == ["/bin/python", "twistd", "-n", "dtfc"]


def test_it_inherits_sockets_and_two_pipes() -> None:
    scene = Scene().begin()
    first = FIRST_SOCKET
    inherited = {first: 11, first + 1: 12, first + 2: 13}
    assert scene.spawning.descriptors == {0: 0, 1: 1, 2: 2, SAYS: "r", HEARS: "w", **inherited}


def test_it_is_told_what_they_are_for() -> None:
    told = json.loads(Scene().begin().spawning.environment[VARIABLE])
    first = FIRST_SOCKET
    assert told == {"port 80 None": [[first, 2], [first + 1, 10]], "unix:/x": [[first + 2, 1]]}


def test_what_systemd_said_to_the_old_one_alone_is_kept_from_it() -> None:
    environment = Scene(LISTEN_PID="1", LISTEN_FDS="1", WATCHDOG_PID="1", NOTIFY_SOCKET="/n")
    kept = set(environment.begin().spawning.environment)
    assert kept == {"NOTIFY_SOCKET", VARIABLE}


def test_it_serves() -> None:
    scene = Scene().begin()
    scene.says(pack("ready", pid=7))
    scene.succession.go()
    assert scene.served == [7]
    assert scene.spawning.said == [pack("go")]


def test_it_ends_before_it_serves(log_lines: Any) -> None:
    scene = Scene().begin()
    scene.spawning.protocol.childConnectionLost(SAYS)
    assert scene.served == []
    assert "This one goes on" in str(log_lines)


def test_another_one_may_be_tried_then() -> None:
    scene = Scene().begin()
    first = scene.spawning.protocol
    first.childConnectionLost(SAYS)
    scene.begin()
    assert scene.spawning.protocol is not first


def test_one_at_a_time() -> None:
    scene = Scene().begin()
    first = scene.spawning.protocol
    scene.begin()
    assert scene.spawning.protocol is first


@pytest.mark.parametrize("said", [b"nonsense\n", b'{"kind": "ready"}\n', b'{"kind": "other"}\n'])
def test_nonsense_is_nobody_that_serves(said: bytes) -> None:
    scene = Scene().begin()
    scene.says(said)
    assert scene.served == []


def test_who_is_told_to_stop_does_not_serve() -> None:
    scene = Scene().begin()
    scene.succession.stop()
    scene.says(pack("ready", pid=7))
    assert scene.served == []
    assert scene.spawning.said == [pack("stop")]


def test_a_process_that_cannot_be_started(log_lines: Any) -> None:
    scene = Scene()
    scene.spawning.refuses = OSError(errno.EAGAIN, "no more processes")
    scene.begin()
    assert "not handed over: [Errno 11] no more processes" in str(log_lines)


def test_in_a_container_it_would_be_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert Scene().begin().spawning.protocol is None


def test_the_pid_file_makes_room(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("1")
    scene = Scene(str(path)).begin()
    assert not path.exists()
    assert scene.options["pidfile"] == f"{path}.old"


def test_the_pid_file_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("1")
    scene = Scene(str(path)).begin()
    scene.spawning.protocol.childConnectionLost(SAYS)
    assert path.read_text() == "1"
    assert scene.options["pidfile"] == str(path)


def test_a_pid_file_that_cannot_be_moved(tmp_path: Path) -> None:
    scene = Scene(str(tmp_path / "none")).begin()
    assert scene.spawning.protocol is None


class Pipe:
    """Where the new process says things."""

    def __init__(self) -> None:
        self.said: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.said.append(data)

    def loseConnection(self) -> None:  # noqa: N802 - Twisted's name
        self.closed = True


class Relieving:
    """A process that takes over."""

    def __init__(self) -> None:
        self.stops = 0
        self.clock = Clock()
        self.pipe = Pipe()
        self.predecessor = Predecessor(self._stop)
        pipe: Any = self.pipe
        self.predecessor.makeConnection(pipe)
        self.done: list[object] = []

    def _stop(self) -> None:
        self.stops += 1

    def relieve(self) -> Relieving:
        relieved = Deferred.fromCoroutine(self.predecessor.relieve(self.clock, 7))
        relieved.addBoth(self.done.append)
        return self


def test_it_says_that_it_serves_and_waits() -> None:
    scene = Relieving().relieve()
    assert scene.pipe.said == [pack("ready", pid=7)]
    assert scene.done == []
    scene.clock.advance(PATIENCE)


def test_it_goes_on_when_it_may() -> None:
    scene = Relieving().relieve()
    scene.predecessor.dataReceived(pack("go"))
    assert scene.done == [None]
    assert scene.pipe.closed


def test_or_when_nobody_is_there() -> None:
    scene = Relieving().relieve()
    scene.predecessor.connectionLost()
    assert scene.done == [None]


def test_or_was_there() -> None:
    scene = Relieving()
    scene.predecessor.connectionLost()
    assert scene.relieve().done == [None]


def test_or_after_a_while() -> None:
    scene = Relieving().relieve()
    scene.clock.advance(PATIENCE)
    assert scene.done == [None]


def test_who_is_told_of_its_end_is_told_after_its_loop_has_closed_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hears, says = os.pipe()
    os.set_blocking(hears, False)
    monkeypatch.setattr("dtfc.daemon.handover.SAYS", says)
    monkeypatch.setattr("twisted.internet.stdio.StandardIO", lambda *_, **__: None)
    scene = Relieving()
    scene.predecessor.connect(scene.clock)
    os.close(says)

    with pytest.raises(BlockingIOError):
        os.read(hears, 1)
    scene.relieve().predecessor.dataReceived(pack("go"))
    assert os.read(hears, 1) == b""
    os.close(hears)


def test_it_stops_when_it_is_told_to() -> None:
    scene = Relieving()
    scene.predecessor.dataReceived(pack("stop"))
    assert scene.stops == 1


def test_nobody_was_there() -> None:
    assert inherit({"HOME": "/"}).says == -1


def test_what_is_inherited_is_for_this_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[int, bool]] = []
    monkeypatch.setattr(os, "set_inheritable", lambda *told: kept.append(told))
    environment = {VARIABLE: '{"port 80 None": [[5, 2]]}', "HOME": "/"}
    found = inherit(environment)
    assert environment == {"HOME": "/"}
    assert kept == [(SAYS, False), (HEARS, False), (5, False)]
    assert (found.take("port 80 None"), found.take("port 80 None")) == ([(5, 2)], [])


@pytest.mark.parametrize(
    "said", ["garbage", "[]", '{"a": 1}', '{"a": [["x", 2]]}', '{"a": [[-1, 2]]}']
)
def test_what_makes_no_sense_was_left_by_nobody(said: str) -> None:
    assert inherit({VARIABLE: said}).sockets == {}


def test_what_nobody_asks_for_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    monkeypatch.setattr(os, "set_inheritable", lambda _fd, _yes: None)
    monkeypatch.setattr(os, "close", closed.append)
    inherit({VARIABLE: '{"port 80 None": [[5, 2]]}'}).close_rest()
    assert closed == [5]


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))
        opened.listen()
        os.chmod(path, 0o660)
        opened.setblocking(False)
        port = adopt(reactor, opened.detach(), socket.AF_UNIX, Factory())
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    finally:
        await maybeDeferred(port.stopListening)


def test_a_successor_that_has_gone_is_told_nothing() -> None:
    class Gone:
        def writeToChild(self, fd: int, _data: bytes) -> None:  # noqa: N802 - Twisted's name
            raise KeyError(fd)

    successor = Successor(lambda _pid: None, lambda: None)
    successor.transport = Gone()
    successor.go()
    assert successor.transport is not None
