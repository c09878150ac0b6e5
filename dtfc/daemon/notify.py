"""What systemd is told: sd_notify(3), over its datagram socket.

Rules of this file: telling is a courtesy. Without ``NOTIFY_SOCKET`` every call
does nothing, and a message that cannot be delivered is logged and forgotten.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping

from twisted.logger import Logger

_MICROSECONDS = 1_000_000
_log = Logger()

Send = Callable[[bytes, str], None]


def send_datagram(message: bytes, address: str) -> None:
    """Send one datagram to a UNIX socket; ``@`` begins an abstract address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        channel.sendto(message, "\0" + address[1:] if address.startswith("@") else address)


class Notifier:
    """Tells the service supervisor how the daemon is.

    Args:
        environment: ``NOTIFY_SOCKET`` says where to, and ``WATCHDOG_USEC`` how
            often (``WATCHDOG_PID``: for which process).
        pid: this process.
        send: delivers a message to an address.
        monotonic_ns: the clock that systemd compares reloads by.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        pid: int,
        send: Send = send_datagram,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._send = send
        self._monotonic_ns = monotonic_ns
        self.watchdog_interval = _watchdog_interval(environment, pid) if self._address else None
        """Seconds between two signs of life (half of what systemd waits); ``None``: not wanted."""

    def ready(self, status: str) -> None:
        """Say that the daemon serves, at first or again after a reload."""
        self._tell("READY=1", _status(status))

    def reloading(self) -> None:
        """Say that the configuration is being read again; ``ready`` ends it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={self._monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """Say that the daemon drains."""
        self._tell("STOPPING=1", _status(status))

    def main_process(self, pid: int) -> None:
        """Say which process is the daemon from now on."""
        self._tell(f"MAINPID={pid}")

    def alive(self, status: str) -> None:
        """Give a sign of life to the watchdog."""
        self._tell("WATCHDOG=1", _status(status))

    def _tell(self, *lines: str) -> None:
        # Only UNIX sockets: systemd's vsock: addresses are for whole machines.
        if not self._address.startswith(("/", "@")):
            return
        try:
            self._send("\n".join(lines).encode(), self._address)
        except OSError as error:
            _log.warn("systemd was not told {what}: {error}", what=lines[0], error=error)


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())


def _watchdog_interval(environment: Mapping[str, str], pid: int) -> float | None:
    wanted = environment.get("WATCHDOG_USEC", "")
    meant_for = environment.get("WATCHDOG_PID", str(pid))
    if not wanted.isdecimal() or int(wanted) == 0 or meant_for != str(pid):
        return None
    return int(wanted) / _MICROSECONDS / 2
