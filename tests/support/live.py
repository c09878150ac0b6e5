"""Real daemons: started by twistd as an operator would, ended by process id."""

from __future__ import annotations

import functools
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from prove.zygote import Zygote
from tests.support.waiting import until

MIB = 1024 * 1024
CHECKOUT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sha512_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()


class Process(Protocol):
    """What is asked of a daemon's process: :class:`subprocess.Popen` answers it."""

    @property
    def pid(self) -> int:
        """Its id."""

    def poll(self) -> int | None:
        """Return how it has ended; None while it has not."""

    def send_signal(self, sig: int, /) -> None:
        """Send it a signal."""

    def wait(self, timeout: float) -> int:
        """Wait for its end, and return how it was."""


class Forked:
    """A daemon that was forked from a process which has imported everything."""

    def __init__(self, zygote: Zygote, pid: int) -> None:
        self._zygote = zygote
        self._code: int | None = None
        self.pid = pid

    def poll(self) -> int | None:
        if self._code is None:
            status = self._zygote.ended(self.pid)
            self._code = None if status is None else os.waitstatus_to_exitcode(status)
        return self._code

    def send_signal(self, sig: int, /) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def wait(self, timeout: float) -> int:
        until(lambda: self.poll() is not None, seconds=timeout)
        assert self._code is not None
        return self._code


@functools.cache
def zygote() -> Zygote:
    """Return what daemons are forked from; it ends with this process."""
    return Zygote()


class LiveNode:
    """One daemon in a folder of its own."""

    def __init__(self, folder: Path, flags: list[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.basedir = folder / "store"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.flags = flags
        self.prelude = ""
        """Python that runs before twistd does."""
        self.wrapper: list[str] = []
        """What starts the daemon's own command."""
        self.output = folder / "output.log"
        self._process: Process | None = None

    def _begin(self) -> Process:
        flags = ["--port", str(self.port), "--basedir", str(self.basedir), *self.flags]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1"}
        if not self.prelude and not self.wrapper:
            pid = zygote().start(flags, str(self.folder), str(self.output), environment)
            return Forked(zygote(), pid)
        root = ["--allow-root"] if os.geteuid() == 0 else []
        run = f"{self.prelude}\nfrom twisted.scripts.twistd import run; run()"
        command = [sys.executable, "-c", run, "-n", "--pidfile=", "dtfc", *root, *flags]
        with self.output.open("ab") as output:
            return subprocess.Popen(
                [*self.wrapper, *command],
                cwd=self.folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def start(self) -> LiveNode:
        """Start the daemon and wait until it answers."""
        self._process = self._begin()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                if self.request("GET", "/health.html")[0] == 200:
                    return self
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"the daemon did not start:\n{self.output.read_text()}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def end(self, sign: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(sign)
        return self._process.wait(timeout=40)

    def request(
        self, method: str, path: str, body: Any = None, **fields: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Make one request; header fields with underscores for hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {name.replace("_", "-"): value for name, value in fields.items()}
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def put(self, name: str, content: bytes) -> str:
        """Store bytes; return their digest."""
        status, _, body = self.request("PUT", f"/{name}", content)
        assert status in (200, 201), body
        return str(json.loads(body)["sha512"])

    def peak_rss(self) -> int:
        """The most memory the process ever had resident, in MiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
        raise AssertionError("no VmHWM")

    def log(self) -> str:
        """What the daemon wrote."""
        return self.output.read_text(errors="replace")
