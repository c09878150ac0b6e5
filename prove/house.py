"""A daemon with a store of its own, and peers if it has any."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from prove.zygote import Zygote, free_port, wait_until_open


class House:
    """One daemon, started again and again.

    Args:
        zygote: starts it.
        folder: that it has for itself; made if it is not there.
    """

    def __init__(self, zygote: Zygote, folder: str) -> None:
        os.makedirs(folder, exist_ok=True)
        self._zygote = zygote
        self.folder = folder
        self.store = f"{folder}/store"
        self.port = free_port()
        self.pid = 0
        self.peers: list[House] = []

    def start(self, *flags: str) -> None:
        """Start it; it asks those in :attr:`peers`."""
        with open(f"{self.folder}/peers", "w", encoding="ascii") as file:
            file.writelines(f"http://127.0.0.1:{peer.port}/\n" for peer in self.peers)
        self.configure()
        every = ["--port", str(self.port), "--interface", "127.0.0.1", "--fan-out", "2"]
        every += ["--basedir", self.store, "--reserve", "1M", "--config", f"{self.folder}/config"]
        every += ["--peerlist", f"{self.folder}/peers"] if self.peers else []
        self.pid = self._zygote.start([*every, *flags], self.folder, f"{self.folder}/output")
        wait_until_open(self.port)

    def configure(self, **settings: str | int) -> None:
        """Write the configuration file, and have it read if the daemon runs."""
        with open(f"{self.folder}/config", "w", encoding="ascii") as file:
            for name, value in settings.items():
                said = f'"{value}"' if isinstance(value, str) else value
                file.write(f"{name.replace('_', '-')} = {said}\n")
        if self.pid:
            os.kill(self.pid, signal.SIGHUP)

    def end(self) -> None:
        """End it; harmless when repeated."""
        pid, self.pid = self.pid, 0
        if pid:
            self._zygote.end(pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        pid, self.pid = self.pid, 0
        self._zygote.end(pid, signal.SIGKILL)

    def again(self, *flags: str) -> None:
        """End it and start it, perhaps with other peers."""
        self.end()
        self.start(*flags)

    def tracebacks(self) -> int:
        """How many tracebacks it has written so far."""
        with open(f"{self.folder}/output", encoding="utf-8", errors="replace") as file:
            return file.read().count("Traceback")

    @property
    def quarantine(self) -> list[str]:
        """What lies in quarantine."""
        return os.listdir(f"{self.store}/.dtfc/quarantine")

    def descriptors(self) -> int:
        """How many files it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def until(patience: float, there: Callable[[], object]) -> bool:
    """Wait until something is so, looking again and again; return whether it came to be.

    Args:
        patience: seconds.
        there: called without arguments; what is so when it returns something true.
    """
    end = time.monotonic() + patience
    while not there():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
