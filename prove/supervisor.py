"""What systemd does for a daemon, as far as restarts go: it keeps the socket, and hears of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

_PATIENCE = 120.0

# LISTEN_PID is the process that is started: what sets it becomes twistd.
_BECOME = (
    "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); "
    "os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])"
)
_TWISTD = "from twisted.scripts.twistd import run; run()"


class Supervisor:
    """Keeps a listening socket, and a daemon at it.

    Args:
        folder: that the daemon has for itself.
        flags: of the daemon, beside where it listens and keeps its store.
    """

    def __init__(self, folder: str, *flags: str) -> None:
        self._folder = folder
        self._flags = flags
        self._server = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = int(self._server.getsockname()[1])
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(f"{folder}/notify")
        self._notices.settimeout(_PATIENCE)
        self._started: list[subprocess.Popen[bytes]] = []
        self.pid = 0
        self.old: list[int] = []
        """Those that were succeeded and may not have ended yet."""

    def start(self) -> None:
        """Start the daemon, and wait until it says that it serves."""
        root = ["--allow-root"] if os.geteuid() == 0 else []
        command = [sys.executable, "-c", _TWISTD, "-n", "--pidfile=", "dtfc", *root]
        command += ["--listen", "systemd:domain=INET:index=0", "--basedir", f"{self._folder}/store"]
        with open(f"{self._folder}/output", "ab") as output:
            number = self._server.fileno()
            started = subprocess.Popen(
                [sys.executable, "-c", _BECOME, str(number), *command, *self._flags],
                pass_fds=[number],
                cwd=self._folder,
                env={
                    **os.environ,
                    "LISTEN_FDS": "1",
                    "LISTEN_FDNAMES": "http",
                    "NOTIFY_SOCKET": f"{self._folder}/notify",
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._started.append(started)
        self.pid = started.pid
        self._wait_for("READY=1")

    def stop(self) -> None:
        """End the daemon, and wait until it has ended."""
        pid, self.pid = self.pid, 0
        if pid:
            os.kill(pid, signal.SIGTERM)
            await_end(pid)

    def restart(self) -> None:
        """Restart it as systemd does: the new one begins when the old one has ended."""
        self.stop()
        self.start()

    def hand_over(self) -> None:
        """Have it start the one that succeeds it, and wait until that serves."""
        self.old.append(self.pid)
        os.kill(self.pid, signal.SIGUSR2)
        self.pid = int(self._wait_for("MAINPID="))
        self._wait_for("READY=1")

    def _wait_for(self, beginning: str) -> str:
        while True:
            said = self._notices.recv(4096).decode()
            for line in said.splitlines():
                if line.startswith(beginning):
                    return line.removeprefix(beginning)

    def close(self) -> None:
        """End whatever still runs."""
        for pid in [*self.old, self.pid]:
            if pid and runs(pid):
                os.kill(pid, signal.SIGTERM)
                await_end(pid)
        self.pid = 0
        for each in self._started:
            each.wait()
        self._server.close()
        self._notices.close()

    def output(self) -> str:
        """Everything that the daemons have written."""
        with open(f"{self._folder}/output", encoding="utf-8", errors="replace") as file:
            return file.read()


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended; nobody may have waited for it yet."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def await_end(pid: int, patience: float = _PATIENCE) -> None:
    """Wait until a process has ended.

    Raises:
        TimeoutError: it has not.
    """
    end = time.monotonic() + patience
    while runs(pid):
        if time.monotonic() > end:
            raise TimeoutError(f"process {pid} has not ended")
        time.sleep(0.02)


def workspace() -> str:
    """Make a folder for a daemon; its name is short, as a socket is in it."""
    return tempfile.mkdtemp(prefix="dtfc-")
