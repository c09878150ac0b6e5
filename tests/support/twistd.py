"""twistd as an operator starts it, watched through its output and its process id."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0


def command(before: Iterable[str], after: Iterable[str]) -> list[str]:
    """The command line of twistd with flags of its own (before) and of dtfc (after)."""
    run = "from twisted.scripts.twistd import run; run()"
    root = ["--allow-root"] if os.geteuid() == 0 and "--uid" not in [*before, *after] else []
    return [sys.executable, "-c", run, *before, "dtfc", *root, *after]


def environment(**more: str) -> dict[str, str]:
    """The environment of a twistd that is to find this checkout."""
    return {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1", **more}


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so, and fail with what it was otherwise."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.02)


class Foreground:
    """``twistd --nodaemon`` in a folder of its own."""

    def __init__(self, folder: Path, *flags: str, **more: str) -> None:
        self.folder = folder
        self.output = folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command(["-n", "--pidfile="], ["--basedir", str(folder / "store"), *flags]),
                cwd=folder,
                env=environment(**more),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        """Everything that it wrote."""
        return self.output.read_text(errors="replace")

    def wait_until_said(self, text: str) -> None:
        """Wait for words in its output."""
        wait_for(lambda: text in self.said or self.process.poll() is not None, text)
        assert text in self.said, self.said

    def ready(self) -> Foreground:
        """Wait until it serves."""
        self.wait_until_said("ready: ")
        return self

    def ports(self) -> list[int]:
        """The ports that it says it listens on."""
        return [int(each) for each in re.findall(r"listening on https?://\S+:([0-9]+)/", self.said)]

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal and return its exit code."""
        if self.process.poll() is None:
            self.send(number)
        return self.process.wait(PATIENCE)


def get(port: int, path: str = "/health.html", address: str = "127.0.0.1") -> tuple[int, bytes]:
    """Make one GET request; return status and body."""
    connection = http.client.HTTPConnection(address, port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0
