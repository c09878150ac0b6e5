"""What systemd is told."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dtfc.daemon.notify import Notifier, send_datagram


class Told:
    """Takes messages instead of systemd."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def __call__(self, message: bytes, address: str) -> None:
        assert address == "/run/notify"
        self.messages.append(message.decode())


def notifier(told: Told, **environment: str) -> Notifier:
    given = {"NOTIFY_SOCKET": "/run/notify", **environment}
    return Notifier(given, pid=7, send=told, monotonic_ns=lambda: 123_456_789)


def test_the_life_of_a_service() -> None:
    told = Told()
    speaks = notifier(told)
    speaks.ready("3 peers")
    speaks.reloading()
    speaks.alive("4 peers")
    speaks.stopping("draining")
    assert told.messages == [
        "READY=1\nSTATUS=3 peers",
        "RELOADING=1\nMONOTONIC_USEC=123456",
        "WATCHDOG=1\nSTATUS=4 peers",
        "STOPPING=1\nSTATUS=draining",
    ]


def test_a_status_stays_one_line() -> None:
    told = Told()
    notifier(told).ready("a\nREADY=0\n b")
    assert told.messages == ["READY=1\nSTATUS=a READY=0 b"]


@pytest.mark.parametrize("address", ["", "vsock:2:1234"])
def test_nobody_to_tell(address: str) -> None:
    told = Told()
    Notifier({"NOTIFY_SOCKET": address}, pid=7, send=told).ready("x")
    assert told.messages == []


def test_what_cannot_be_told_is_forgotten() -> None:
    def fails(*_: object) -> None:
        raise ConnectionRefusedError

    Notifier({"NOTIFY_SOCKET": "/run/notify"}, pid=7, send=fails).ready("x")


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog(environment: dict[str, str], interval: float | None) -> None:
    assert notifier(Told(), **environment).watchdog_interval == interval


def test_a_datagram_to_a_path(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        send_datagram(b"READY=1", str(tmp_path / "notify"))
        assert systemd.recv(100) == b"READY=1"


def test_a_datagram_to_an_abstract_address(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{tmp_path}")
        send_datagram(b"READY=1", f"@{tmp_path}")
        assert systemd.recv(100) == b"READY=1"
