"""Proof: restarts that no client notices.

A steady stream of requests, most on connections that are kept, some on new ones;
nothing is asked a second time. Meanwhile the daemon is restarted again and again:
as systemd does with a socket that it holds, and by handing over (SIGUSR2). Beside
that, large downloads that take longer than all of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from prove.figures import Row
from prove.supervisor import Supervisor, workspace

RATE = 200
"""Requests a second."""

RESTARTS = 20
SIZES = (700, 4096, 100_000)
MIB = 1024 * 1024

_PATIENCE = 60.0
_KEPT = 32  # connections
_CALM = 20  # requests under way


@dataclass(slots=True)
class Tally:
    """What became of the requests.

    Args:
        good: answered in full, and right.
        longest: seconds that one took, from the moment when it was due.
        wrong: what was wrong with the others.
    """

    good: int = 0
    longest: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Stream:
    """Sends requests at a steady rate, on a thread of its own.

    Args:
        port: the daemon's.
        chance: what is random about it.
    """

    def __init__(self, port: int, chance: Random) -> None:
        self.tally = Tally()
        self._port = port
        self._chance = chance
        self._idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()
        self._bodies: dict[str, bytes] = {}
        self._over = False
        self._under_way = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def await_calm(self) -> None:
        """Wait until whoever had to wait has been answered."""
        end = time.monotonic() + _PATIENCE
        while self._under_way > _CALM and time.monotonic() < end:
            time.sleep(0.1)

    def stop(self) -> None:
        """Send no more, and wait for the answers that are due."""
        self._over = True
        self._thread.join()

    async def _run(self) -> None:
        for size in SIZES:
            body = self._chance.randbytes(size)
            self._bodies[await self._put(body)] = body
        began = time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        number = 0
        while not self._over:
            due = began + number / RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self._one(number, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        await asyncio.gather(*tasks)
        for _, writer in self._idle:
            writer.close()

    async def _one(self, number: int, due: float) -> None:
        self._under_way += 1
        try:
            async with asyncio.timeout(_PATIENCE):
                if number % 10 == 0:
                    await self._put(b"%d of %d" % (number, self._port))
                else:
                    await self._get(self._chance.choice(list(self._bodies)))
            self.tally.good += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            took = time.monotonic() - due
            self.tally.wrong.append(f"request {number}, {took:.1f} s: {error!r}")
        self._under_way -= 1
        self.tally.longest = max(self.tally.longest, time.monotonic() - due)

    async def _get(self, digest: str) -> None:
        status, body = await self._ask(b"GET /%b HTTP/1.1\r\n" % digest.encode(), b"")
        if status != 200 or body != self._bodies[digest]:
            raise ValueError(f"GET: {status}, {len(body)} bytes")

    async def _put(self, body: bytes) -> str:
        head = b"PUT /x HTTP/1.1\r\nContent-Length: %d\r\n" % len(body)
        status, answer = await self._ask(head, body)
        digest = hashlib.sha512(body).hexdigest()
        if status not in (200, 201) or json.loads(answer)["sha512"] != digest:
            raise ValueError(f"PUT: {status}")
        return digest

    async def _ask(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        reader, writer = await self._connection()
        writer.write(head + b"Host: localhost\r\n\r\n" + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(answer.split()[1])
        length = int(answer.partition("\r\ncontent-length:")[2].partition("\r\n")[0])
        content = await reader.readexactly(length)
        if "\r\nconnection: close" in answer or len(self._idle) >= _KEPT:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return status, content

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection that was kept, or one in eight times a new one."""
        while self._idle and self._chance.random() < 7 / 8:
            reader, writer = self._idle.popleft()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)


def _under_load(name: str, seed: int, times: int, again: Callable[[Supervisor], None]) -> Row:
    """Restart a daemon again and again under load."""
    begun = time.monotonic()
    folder = workspace()
    supervisor = Supervisor(folder, "--fan-out", "2")
    wrong: list[str] = []
    try:
        supervisor.start()
        stream = Stream(supervisor.port, Random(seed))
        stream.start()
        try:
            for _ in range(times):
                time.sleep(1)
                again(supervisor)
                stream.await_calm()
            time.sleep(1)
        finally:
            stream.stop()
        wrong += stream.tally.wrong
        supervisor.close()
        if "Traceback" in supervisor.output():
            wrong.append("a traceback in the log")
    finally:
        supervisor.close()
        shutil.rmtree(folder)
    tally = stream.tally
    seconds = time.monotonic() - begun
    cases = (
        f"{times} times, {tally.good + len(tally.wrong):,} requests at {RATE}/s: "
        f"{len(tally.wrong)} failed; the longest took {tally.longest:.2f} s"
    )
    return Row(name, cases, len(wrong), seconds, seed, wrong[:10])


def _downloads(seed: int, size: int) -> Row:
    """Download a large blob slowly, with curl and aria2c, while the daemon is succeeded twice."""
    begun = time.monotonic()
    curl, aria2c = shutil.which("curl"), shutil.which("aria2c")
    name = "handed over during slow downloads"
    if curl is None or aria2c is None:
        return Row(name, "", 0, 0, skipped="curl or aria2c is not installed")
    folder = workspace()
    supervisor = Supervisor(folder, "--fan-out", "2")
    wrong: list[str] = []
    # Longer than two processes take to start on a busy machine.
    rate = size // 25
    try:
        digest = _make(f"{folder}/body", size, seed)
        supervisor.start()
        url = f"http://127.0.0.1:{supervisor.port}/{digest}"
        put = [curl, "-sSf", "-o", "/dev/null", "-T", f"{folder}/body"]
        subprocess.run([*put, f"http://127.0.0.1:{supervisor.port}/body"], check=True)
        slow = [curl, "-sSf", "--limit-rate", str(rate), "-o", f"{folder}/by-curl", url]
        split = [aria2c, "-q", "-x4", "-s4", "-k1M", "--no-conf", f"--max-download-limit={rate}"]
        split += ["--max-tries=1", "-d", folder, "-o", "by-aria2c", url]
        clients = [(each[0], subprocess.Popen(each)) for each in (slow, split)]
        for _ in range(2):
            time.sleep(1)
            supervisor.hand_over()
        under_way = sum(each.poll() is None for _, each in clients)
        for client, each in clients:
            if each.wait():
                wrong.append(f"{client}: exit code {each.returncode}")
        for file in ("by-curl", "by-aria2c"):
            if not wrong and _sha512(f"{folder}/{file}") != digest:
                wrong.append(f"{file}: wrong bytes")
        if under_way < len(clients):
            wrong.append("a download was over before the last successor served")
        supervisor.close()
    finally:
        supervisor.close()
        shutil.rmtree(folder)
    cases = f"{size / MIB:,.0f} MiB each by curl and aria2c at {rate / MIB:.0f} MiB/s, 2 successors"
    return Row(name, cases, len(wrong), time.monotonic() - begun, seed, wrong)


def _make(path: str, size: int, seed: int) -> str:
    chance, hashed = Random(seed), hashlib.sha512()
    with open(path, "wb") as file:
        while size:
            block = chance.randbytes(min(size, MIB))
            hashed.update(block)
            file.write(block)
            size -= len(block)
    return hashed.hexdigest()


def _sha512(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()


def prove(seed: int, share: float) -> list[Row]:
    """Restart and hand over under load, and during downloads."""
    os.environ.setdefault("PYTHONPATH", os.getcwd())
    times = max(1, round(RESTARTS * share))
    return [
        _under_load("restarted at a socket that is kept", seed, times, lambda each: each.restart()),
        _under_load("handed over (SIGUSR2)", seed, times, lambda each: each.hand_over()),
        _downloads(seed, max(64 * MIB, int(1024 * MIB * share))),
    ]
