"""Daemons that start quickly: forked from a process that has imported everything.

What is forked goes through the same ``twistd`` entry as ever; only the time
that Python takes to read its modules is saved.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any, Self

_PATIENCE = 20.0  # seconds that a daemon may take until it answers
_RUN = "from prove.zygote import serve; serve()"


class Zygote:
    """The process that daemons are forked from; make it before any thread."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _RUN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._alive: set[int] = set()
        self._asking = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for pid in list(self._alive):
            self.end(pid, signal.SIGKILL)
        self._process.communicate(timeout=30)

    def _ask(self, question: dict[str, object]) -> int:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with self._asking:
            stdin.write(json.dumps(question) + "\n")
            stdin.flush()
            return int(stdout.readline())

    def start(
        self,
        flags: list[str],
        folder: str,
        output: str,
        environment: Mapping[str, str] | None = None,
    ) -> int:
        """Start a daemon; return its process id, at once.

        Args:
            flags: of dtfc.
            folder: where it runs.
            output: the file that takes what it writes.
            environment: its own; this process's, as it was at the beginning, if None.
        """
        root = ["--allow-root"] if os.geteuid() == 0 else []
        arguments = ["twistd", "-n", "--pidfile=", "dtfc", *root, *flags]
        question = {"start": arguments, "folder": folder, "output": output}
        pid = self._ask({**question, "environment": dict(environment) if environment else None})
        self._alive.add(pid)
        return pid

    def ended(self, pid: int) -> int | None:
        """Say how a daemon has ended, as ``waitpid`` does; None while it has not."""
        status = self._ask({"look": pid})
        if status < 0:
            return None
        self._alive.discard(pid)
        return status

    def end(self, pid: int, number: signal.Signals) -> int:
        """Send a daemon a signal, and wait for its end; return what ``waitpid`` says."""
        os.kill(pid, number)
        status = self._ask({"wait": pid})
        self._alive.discard(pid)
        return status


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_open(port: int) -> None:
    """Wait until somebody listens on a port of the loopback.

    Raises:
        AssertionError: nobody does.
    """
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.005)
    raise AssertionError("the daemon did not start")


def serve() -> None:
    """Be the zygote."""
    # The prover itself needs none of this.
    from twisted.internet import reactor  # noqa: PLC0415
    from twisted.scripts import twistd  # noqa: PLC0415

    for name in ("dtfc.node", "dtfc.tap", "twisted.scripts._twistd_unix"):
        importlib.import_module(name)
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            answer = os.waitpid(question["wait"], 0)[1]
        elif "look" in question:
            pid, status = os.waitpid(question["look"], os.WNOHANG)
            answer = status if pid else -1
        else:
            answer = os.fork()
            if answer == 0:
                _become(**question)
                # No two processes may share what a reactor waits on.
                fresh: Any = reactor
                fresh.__init__()
                twistd.run()
                os._exit(0)
        _say(sys.stdout, answer)


def _say(stream: IO[str], answer: int) -> None:
    stream.write(f"{answer}\n")
    stream.flush()


def _become(start: list[str], folder: str, output: str, environment: dict[str, str] | None) -> None:
    sys.argv = start
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    os.chdir(folder)
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(fd, target)
