"""Where a node listens."""

from __future__ import annotations

import fcntl
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol

from dtfc.daemon import listen
from dtfc.daemon.cannot_start import CannotStart
from dtfc.daemon.listen import BACKLOG, Listening, open_sockets
from dtfc.settings import load


class Reply(Protocol):
    """Sends a word and hangs up."""

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        assert self.transport is not None
        self.transport.write(b"hello")
        self.transport.loseConnection()


def listening(**flags: object) -> tuple[Listening, list[IListeningPort]]:
    """Make the service, and the list of ports that it tells of."""
    told: list[IListeningPort] = []
    factory = Factory.forProtocol(Reply)
    factory.noisy = False
    loaded = load(flags, {"HOME": "/"}, "/")
    return Listening(loaded, reactor, factory, told.append), told


class Services:
    """Starts services; ends them with the test."""

    def __init__(self) -> None:
        self.started: list[Listening] = []

    def __call__(self, **flags: object) -> Listening:
        service, _ = listening(**flags)
        service.privilegedStartService()
        self.started.append(service)
        return service


@pytest_twisted.async_yield_fixture
async def started() -> AsyncIterator[Services]:
    services = Services()
    yield services
    for service in services.started:
        await service.stopService()


def number_of(port: IListeningPort) -> int:
    address: Any = port.getHost()
    return int(address.port)


def host_of(port: IListeningPort) -> str:
    address: Any = port.getHost()
    return str(address.host)


def close_all(opened: list[socket.socket]) -> None:
    for each in opened:
        each.close()


def test_every_address_of_both_versions_on_one_port() -> None:
    opened = open_sockets(0, None)
    found = [(each.family, each.getsockname()[0]) for each in opened]
    numbers = {each.getsockname()[1] for each in opened}
    close_all(opened)
    assert found == [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
    assert len(numbers) == 1


def test_the_sockets_are_ready_to_be_adopted() -> None:
    opened = open_sockets(0, None)
    for each in opened:
        assert each.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
        assert each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        assert fcntl.fcntl(each, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        assert not each.getblocking()
    assert opened[1].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    close_all(opened)


def test_a_kernel_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def no_ipv6(family: int, *more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *more)

    monkeypatch.setattr("socket.socket", no_ipv6)
    opened = open_sockets(0, None)
    families = [each.family for each in opened]
    close_all(opened)
    assert families == [socket.AF_INET]


def test_a_machine_with_ipv6_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    class Switched(socket.socket):
        def bind(self, address: Any) -> None:
            if self.family == socket.AF_INET6:
                raise OSError(99, "Cannot assign requested address")
            super().bind(address)

    monkeypatch.setattr("socket.socket", Switched)
    opened = open_sockets(0, None)
    families = [each.family for each in opened]
    close_all(opened)
    assert families == [socket.AF_INET]


def test_a_free_port_that_is_taken_for_ipv6_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures = [OSError(98, "Address already in use")] * 3

    class Taken(socket.socket):
        def bind(self, address: Any) -> None:
            if self.family == socket.AF_INET6 and failures:
                raise failures.pop()
            super().bind(address)

    monkeypatch.setattr("socket.socket", Taken)
    opened = open_sockets(0, None)
    close_all(opened)
    assert (len(opened), failures) == (2, [])


def test_the_queue_is_long_enough_for_a_crowd() -> None:
    assert BACKLOG >= 1024


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_one_address(started: Services, address: str) -> None:
    service = started(port="0", interface=address)
    assert [host_of(port) for port in service.ports] == [address]


def test_a_port_that_is_taken(started: Services) -> None:
    taken = number_of(started(port="0", interface="127.0.0.1").ports[0])
    service, _ = listening(port=str(taken))
    with pytest.raises(CannotStart, match=rf"0.0.0.0:{taken}: Address already in use; another"):
        service.privilegedStartService()


def test_an_address_that_is_not_ours() -> None:
    service, _ = listening(port="0", interface="192.0.2.1")
    with pytest.raises(CannotStart, match="this machine does not have that address"):
        service.privilegedStartService()


def test_each_port_is_told_of(started: Services) -> None:
    service, told = listening(port="0", listen=["tcp:0:interface=127.0.0.1"])
    service.privilegedStartService()
    started.started.append(service)
    assert told == service.ports
    assert len(told) == 3


def test_without_a_privileged_step(started: Services) -> None:
    service, told = listening(port="0")
    service.startService()
    started.started.append(service)
    assert len(told) == 2


def test_starting_after_the_privileged_step_binds_nothing_more(started: Services) -> None:
    service = started(port="0")
    before = list(service.ports)
    service.startService()
    assert service.ports == before


def test_a_unix_socket_and_no_port(started: Services, tmp_path: Path) -> None:
    service = started(listen=[f"unix:{tmp_path}/http.sock:lockfile=0"])
    assert len(service.ports) == 1
    assert (tmp_path / "http.sock").is_socket()


@pytest.mark.parametrize(
    "endpoint", ["foo:1", "tcp:x", "ssl:0:privateKey=/nowhere", "systemd:domain=INET:index=0"]
)
def test_an_endpoint_that_cannot_be(endpoint: str) -> None:
    service, _ = listening(listen=[endpoint])
    with pytest.raises(CannotStart, match="cannot listen on "):
        service.privilegedStartService()


def test_an_endpoint_that_is_taken(started: Services) -> None:
    taken = number_of(started(port="0", interface="127.0.0.1").ports[0])
    service, _ = listening(listen=[f"tcp:{taken}:interface=127.0.0.1"])
    with pytest.raises(CannotStart, match="Address already in use"):
        service.privilegedStartService()


@pytest_twisted.ensureDeferred
async def test_connections_are_accepted_on_both_versions(started: Services) -> None:
    service = started(port="0")
    number = number_of(service.ports[0])
    for address in ("127.0.0.1", "::1"):
        assert await exchange(address, number) == b"hello"


@pytest_twisted.ensureDeferred
async def test_a_closed_port_refuses(started: Services) -> None:
    service = started(port="0", interface="127.0.0.1")
    number = number_of(service.ports[0])
    await service.close()
    with pytest.raises(ConnectionRefusedError), socket.socket() as client:
        client.connect(("127.0.0.1", number))


@pytest.mark.parametrize(
    ("address", "shown"), [("127.0.0.1", "http://127.0.0.1:"), ("::1", "http://[::1]:")]
)
def test_where_it_listens_is_logged(
    started: Services, address: str, shown: str, log_lines: list[str]
) -> None:
    service = started(port="0", interface=address)
    line = f"listening on {shown}{number_of(service.ports[0])}/"
    assert line in log_lines


def test_an_address_of_another_kind_is_shown_as_it_is() -> None:
    class Port:
        def getHost(self) -> IPv4Address:  # noqa: N802 - Twisted's name
            return IPv4Address("TCP", "0.0.0.0", 80)

    assert listen._shown(Port(), "https") == "https://0.0.0.0:80/"  # type: ignore[arg-type]  # a part of a port


async def exchange(address: str, number: int) -> bytes:
    """Connect, and read until the other end hangs up."""
    from twisted.internet.threads import deferToThread  # noqa: PLC0415 - a reactor is running

    def talk() -> bytes:
        with socket.create_connection((address, number), timeout=10) as client:
            return client.recv(100)

    return await deferToThread(talk)
