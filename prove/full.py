"""Proof 5: a disk that is full, and stays full, under a daemon that goes on.

What does not fit is refused before its body; what is there is served and can be
deleted, even with nothing left of the reserve; what was freed can be used.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import Random

from dtfc.digest import Digest
from prove.figures import Row
from prove.zygote import Zygote, free_port, wait_until_open

_BLOBS = 60
_LITTLE = 64 << 10  # free bytes below which the catalog may just have taken the last ones
_TURN = 400  # operations after which the rest of the disk is taken, or given back


def _mount_tmpfs(folder: str) -> str:
    """Mount 8 MiB of memory; return why that cannot be."""
    return _run("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder)


def _mount_ext4(folder: str) -> str:
    """Mount an ext4 of 16 MiB out of a file; return why that cannot be."""
    image = f"{folder}.image"
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    return _run("mkfs.ext4", "-q", "-F", image) or _run("mount", "-o", "loop", image, folder)


def _run(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return f"{command[0]} is not installed"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"{command[0]}: {done.stderr.strip()}"


class Full:
    """A client of a daemon on a full disk.

    Args:
        port: of the daemon.
        folder: the disk.
        seed: of what is done.
    """

    def __init__(self, port: int, folder: str, seed: int) -> None:
        self._port = port
        self._folder = folder
        self._ballast = f"{folder}/ballast"
        self._chance = Random(seed)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        sizes = (5_000, 50_000, 300_000, 600_000)
        self._bodies = [self._chance.randbytes(self._chance.choice(sizes)) for _ in range(_BLOBS)]
        self._here: set[int] = set()
        self._marked: set[int] = set()
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self, operations: int) -> None:
        """Do so many operations, then see whether everything is as it was."""
        for number in range(operations):
            if number % _TURN == 0:
                self._turn(number // _TURN)
            what = self._chance.random()
            if what < 0.45 or not self._here:
                self._put(self._chance.randrange(_BLOBS))
            elif what < 0.9:
                self._get(self._chance.choice(sorted(self._here)))
            else:
                self._delete(self._chance.choice(sorted(self._here)))
        self._turn(0)
        for number in sorted(self._here):
            self._get(number)
            self._delete(number)
        # A hot blob that was deleted is let go of within a second or two.
        time.sleep(2.5)
        for number in sorted(set(range(_BLOBS)) - self._marked)[:5]:
            self._put(number)
            if number not in self._here:
                self.wrong.append("with the space freed, a PUT is refused")
        self._connection.close()

    def _turn(self, number: int) -> None:
        """Take all that is left of the disk, the reserve too, or give it back."""
        with suppress(FileNotFoundError):
            os.unlink(self._ballast)
        if number % 2:
            with suppress(OSError), open(self._ballast, "wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))

    def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        self._connection.request(method, path)
        answer = self._connection.getresponse()
        self.answers[f"{method} {answer.status}"] += 1
        return answer.status, answer.read()

    def _get(self, number: int) -> None:
        status, content = self._ask("GET", f"/{Digest.of(self._bodies[number]).hex}")
        if (status, content) != (200, self._bodies[number]):
            self.wrong.append(f"GET on a full disk: {status}, {len(content)} bytes")

    def _delete(self, number: int) -> None:
        room = os.statvfs(self._folder)
        status, content = self._ask("DELETE", f"/{Digest.of(self._bodies[number]).hex}")
        if status not in (200, 204):
            self.wrong.append(f"DELETE on a full disk: {status} {content[:300]!r}")
        self._here.discard(number)
        if room.f_bavail * room.f_frsize < _LITTLE:
            self._marked.add(number)

    def _put(self, number: int) -> None:
        body = self._bodies[number]
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as connection:
            connection.sendall(
                f"PUT /{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
                "Expect: 100-continue\r\nConnection: close\r\n\r\n".encode()
            )
            first = connection.recv(65536)
            asked = first.startswith(b"HTTP/1.1 100 ")
            if asked:
                first = first.partition(b"\r\n\r\n")[2]
                connection.sendall(body)
            while piece := connection.recv(65536):
                first += piece
        status = int(first[9:12])
        self.answers[f"PUT {status}"] += 1
        if status in (200, 201):
            self._here.add(number)
            self._marked.discard(number)
        elif status == 403 and number in self._marked:
            # The reserve was gone too (SQLite's log of a small disk can take it
            # as well), and there was not even room for a tombstone: an empty
            # marker stands there, which means what an operator's does.
            self.answers["PUT 403 that an empty marker explains"] += 1
        elif status != 507:
            self.wrong.append(f"PUT on a full disk: {first[:300]!r}")
        elif asked:
            self.answers["PUT 507 after the body"] += 1
            self.wrong.append("507 came after the body")


def fill(name: str, mount: Callable[[str], str], operations: int, seed: int) -> Row:
    """Try it on one kind of disk."""
    begun = time.monotonic()
    above = tempfile.mkdtemp(prefix="dtfc-prove-")
    folder = f"{above}/disk"
    os.mkdir(folder)
    why = mount(folder) if os.geteuid() == 0 else "only root may mount"
    if why:
        shutil.rmtree(above)
        return Row(name, "", 0, 0, skipped=why)
    try:
        port = free_port()
        flags = ["--port", str(port), "--interface", "127.0.0.1", "--fan-out", "2"]
        flags += ["--basedir", f"{folder}/store", "--reserve", "512K"]
        with Zygote() as zygote:
            pid = zygote.start(flags, above, f"{above}/output")
            wait_until_open(port)
            full = Full(port, folder, seed)
            full.run(operations)
            zygote.end(pid, signal.SIGTERM)
        with open(f"{above}/output", encoding="utf-8") as file:
            full.wrong += ["a traceback in the log"] * file.read().count("Traceback")
    finally:
        _run("umount", folder)
        shutil.rmtree(above, ignore_errors=True)
    answers = ", ".join(f"{count:,} {what}" for what, count in sorted(full.answers.items()))
    cases = f"{operations:,} operations ({answers})"
    return Row(name, cases, len(full.wrong), time.monotonic() - begun, seed, full.wrong[:10])


def prove(seed: int, share: float) -> list[Row]:
    """Do 10,000 operations on each disk, or a share of that."""
    operations = max(500, int(10_000 * share))
    return [
        fill("full disk, tmpfs of 8 MiB", _mount_tmpfs, operations, seed),
        fill("full disk, ext4 of 16 MiB", _mount_ext4, operations, seed),
    ]
