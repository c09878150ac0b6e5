"""Proof: ``dtfc put`` and ``dtfc get`` of 2 GiB that are killed, and three nodes at once.

Each is cut five times by ``kill -9``, of the command and of the node by turns. The
command that was killed is given again; one whose node was killed waits for it. In the
end the digest has to be right, taken by Python's own hashlib, and no byte that was there
before a command was killed may be sent again, but for what was on its way.

Then ``dtfc get`` from three nodes, beside ``aria2c`` from the same three; both compare the
SHA-512, and dtfc makes the file durable as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from dtfc.client.partfile import PART
from dtfc.store.partials import STATE
from dtfc.store.progress import Progress
from prove.figures import Row
from prove.house import House, until
from prove.zygote import Zygote

#: Bytes of the file.
LENGTH = 2 * 1024**3

#: The least, in a slice of the proof ...
LEAST = 96 * 1024 * 1024

#: ... whose node is slowed down: else it would be over before it is killed.
PACE = "24M"

#: Times that each command, or its node, is killed.
KILLS = 5

#: Bytes that may be on their way when a command is killed.
ON_THE_WAY = 4 * 1024 * 1024

#: Times that each program fetches from three nodes; the median counts.
TIMES = 3

_MIB = 1024 * 1024
_PATIENCE = 300.0
_COMMAND = [sys.executable, "-m", "dtfc.cli.main"]
_NAME = "film.mp4"


@dataclass(slots=True)
class Stage:
    """A folder with a file, and a node."""

    folder: Path
    length: int
    digest: str
    node: House
    chance: Random
    flags: tuple[str, ...] = ()
    """Of the node."""

    def command(self, *arguments: str, folder: str = "") -> subprocess.Popen[bytes]:
        """Start ``dtfc``."""
        return subprocess.Popen(
            [*_COMMAND, *arguments, "--json", "--patience", "120s"],
            cwd=self.folder / folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "XDG_STATE_HOME": str(self.folder / "state"),
                "DTFC_NODE": self.url,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.node.port}"

    def uploaded(self) -> int:
        """Bytes that the node has of an upload."""
        folder = Path(self.node.store) / ".dtfc" / "uploads"
        sizes = [each.stat().st_size for each in folder.glob("*") if not each.suffix]
        return max(sizes, default=0)

    def fetched(self) -> int:
        """Bytes that the state of the part says are there, from the first on."""
        part = self.folder / "back" / f"{_NAME}{PART}"
        try:
            state = Progress.open(f"{part}{STATE}", part.stat().st_ino)
        except FileNotFoundError:
            return 0
        if state is None:
            return 0
        try:
            return state.known.ready
        finally:
            state.close()


def make_file(path: Path, length: int, chance: Random) -> str:
    """Write a file of which no two MiB are the same; return its SHA-512."""
    sha512, block, at = hashlib.sha512(), chance.randbytes(_MIB), 0
    with path.open("wb") as file:
        while at < length:
            piece = (struct.pack(">Q", at) + block[8:])[: length - at]
            file.write(piece)
            sha512.update(piece)
            at += len(piece)
    return sha512.hexdigest()


def kill_again_and_again(
    stage: Stage, what: str, arguments: list[str], there: Callable[[], int], folder: str = ""
) -> tuple[str, list[str], float]:
    """Run a command to its end, though it or its node is killed; return what was seen.

    Args:
        stage: where.
        what: to call it.
        arguments: of the command.
        there: tells how many bytes are where they go.
        folder: in which the command runs.
    """
    wrong: list[str] = []
    begun = time.monotonic()
    points = sorted(
        int(stage.length * (number + stage.chance.uniform(0.2, 0.8)) / (KILLS + 1))
        for number in range(KILLS)
    )
    kills = {"command": 0, "node": 0}
    had = 0
    running = stage.command(*arguments, folder=folder)
    for number, point in enumerate(points):
        gone = running

        def reached(limit: int = point, process: subprocess.Popen[bytes] = gone) -> bool:
            return there() >= limit or process.poll() is not None

        until(_PATIENCE, reached)
        if running.poll() is not None:
            break
        if number % 2:
            stage.node.kill()
            stage.node.start(*stage.flags)
            kills["node"] += 1
        else:
            running.kill()
            running.communicate()
            had = there()
            kills["command"] += 1
            running = stage.command(*arguments, folder=folder)
    said, trouble = running.communicate(timeout=_PATIENCE)
    seconds = time.monotonic() - begun
    told = json.loads(said.splitlines()[-1]) if said else {}
    if running.returncode != 0:
        wrong.append(f"{what}: exit code {running.returncode}: {trouble.decode()[-300:]}")
    if told.get("sha512") != stage.digest:
        wrong.append(f"{what}: the digest is not that of the file")
    again = told.get("sent", stage.length - told.get("resumed", 0))
    if again > stage.length - had + ON_THE_WAY:
        wrong.append(f"{what}: {again} bytes in the last run, though {had} were there")
    if sum(kills.values()) < KILLS:
        wrong.append(f"{what}: it was over after {kills}")
    figures = (
        f"{what}: command killed {kills['command']} times, node {kills['node']} times; the last "
        f"command had {had / _MIB:.0f} MiB there and moved {again / _MIB:.0f}; {seconds:.0f} s"
    )
    return figures, wrong, seconds


def _killed(stage: Stage) -> Row:
    begun = time.monotonic()
    figures, wrong, _ = kill_again_and_again(stage, "put", ["put", _NAME], stage.uploaded)
    stored = _hash_of(stage)
    if stored != stage.digest:
        wrong.append("put: the node has other bytes")
    (stage.folder / "back").mkdir()
    more, bad, _ = kill_again_and_again(
        stage, "get", ["get", stage.digest], stage.fetched, folder="back"
    )
    wrong += bad
    back = stage.folder / "back" / _NAME
    if not back.exists() or _sha512(back) != stage.digest:
        wrong.append("get: the file is another one")
    left = [each.name for each in (stage.folder / "back").iterdir() if each.name != _NAME]
    if left:
        wrong.append(f"get: it leaves {left}")
    if stage.node.tracebacks():
        wrong.append("the node wrote a traceback")
    return Row(
        "put and get, cut by kill -9 of either side",
        f"{stage.length / 1024**3:.2f} GiB. {figures}. {more}",
        len(wrong),
        time.monotonic() - begun,
        examples=wrong,
    )


def _sha512(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()


def _hash_of(stage: Stage) -> str:
    """What the node sends, hashed here."""
    with subprocess.Popen(
        ["curl", "-sS", f"{stage.url}/{stage.digest}"], stdout=subprocess.PIPE
    ) as curl:
        assert curl.stdout is not None
        return hashlib.file_digest(curl.stdout, "sha512").hexdigest()  # type: ignore[arg-type] # it reads


def _beside_aria2(stage: Stage, zygote: Zygote) -> Row:
    aria2 = shutil.which("aria2c")
    name = "get from three nodes, beside aria2c from the same three"
    if aria2 is None:
        return Row(name, "", 0, 0, skipped="aria2c is not installed")
    begun = time.monotonic()
    nodes = [stage.node, *(House(zygote, f"{stage.folder}/n{number}") for number in (2, 3))]
    wrong: list[str] = []
    taken: dict[str, list[float]] = {"dtfc": [], "aria2c": []}
    try:
        for node in nodes[1:]:
            node.start()
            stage.command("put", _NAME, "--to", f"http://127.0.0.1:{node.port}").communicate()
        urls = [f"http://127.0.0.1:{node.port}" for node in nodes]
        sources = [flag for url in urls for flag in ("--from", url)]
        programs = {
            "dtfc": [*_COMMAND, "get", stage.digest, "-o", "three", "--quiet", *sources],
            "aria2c": [
                *(aria2, "-q", "-o", "three", "-s3", "-x3", "--file-allocation=none"),
                f"--checksum=sha-512={stage.digest}",
                *(f"{url}/{stage.digest}" for url in urls),
            ],
        }
        target = stage.folder / "three"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        for _ in range(TIMES):
            for program, command in programs.items():
                target.unlink(missing_ok=True)
                since = time.monotonic()
                done = subprocess.run(command, cwd=stage.folder, env=environment, check=False)
                taken[program].append(time.monotonic() - since)
                if done.returncode or target.stat().st_size != stage.length:
                    wrong.append(f"{program}: exit code {done.returncode}")
        if _sha512(target) != stage.digest:
            wrong.append("the file is another one")
    finally:
        for node in nodes[1:]:
            node.end()
    ours, theirs = (statistics.median(taken[each]) for each in ("dtfc", "aria2c"))
    each = "; ".join(
        f"{program} {', '.join(f'{seconds:.2f}' for seconds in sorted(times))} s"
        for program, times in taken.items()
    )
    cases = f"{stage.length / 1024**3:.2f} GiB: {each}; ratio of the medians {theirs / ours:.2f}"
    return Row(name, cases, len(wrong), time.monotonic() - begun, examples=wrong)


def prove(seed: int, share: float) -> list[Row]:
    """Kill and count; then measure."""
    chance = Random(seed)
    length = max(LEAST, int(LENGTH * share)) + 321
    folder = Path(tempfile.mkdtemp(prefix="dtfc-command-"))
    try:
        digest = make_file(folder / _NAME, length, chance)
        with Zygote() as zygote:
            node = House(zygote, f"{folder}/n1")
            # What is small would be over before it is killed.
            flags = ("--rate-per-address", PACE) if length < LENGTH // 4 else ()
            node.start(*flags)
            stage = Stage(folder, length, digest, node, chance, flags)
            rows = [_killed(stage)]
            shutil.rmtree(folder / "back", ignore_errors=True)
            rows.append(_beside_aria2(stage, zygote))
            node.end()
        return rows
    finally:
        shutil.rmtree(folder, ignore_errors=True)
