"""Proof: uploads end right, though client and node are killed all the time.

Clients are those that people have: tuspy, tus-js-client (tus 1.0, in parts beside
each other, and two versions of the IETF's draft) and Uppy. Each is killed 200 ms
after its first answer, and started again; the node is killed every 2 s. Every file has
to arrive as it is, and no offset that was ever told may be taken back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from prove.figures import Row
from prove.house import House
from prove.migration import fetched
from prove.zygote import Zygote

#: Uploads of each client.
UPLOADS = 200

#: Bytes of each.
LENGTH = 8 * 1024 * 1024

#: Seconds after which a client is killed, and the node.
CLIENT_LIVES = 0.2
NODE_LIVES = 2.0

#: Uploads at once, and the bytes a second that they have together: each takes about a second.
ABREAST = 4
RATE = "32M"

#: Bytes of a part.
PART = 256 * 1024

#: Times that a client may be started until its upload counts as stuck.
MOST_STARTS = 300

_HERE = Path(__file__).parent / "clients"

#: Clients: by name, the program and what it is told to be.
TUSPY = {"tuspy": "plain", "tuspy, checksums": "checksum"}
NODE_JS = {
    "tus-js-client": "tus",
    "tus-js-client, bytes in the creation": "with-creation",
    "tus-js-client, three parts at once": "parallel",
    "tus-js-client, draft-03": "draft3",
    "tus-js-client, draft-05": "draft5",
    "Uppy": "uppy",
}


@dataclass(slots=True)
class Heard:
    """What was heard of the uploads of one file.

    Args:
        offsets: the highest one of each upload, by its URL.
        wrong: what must not be.
        kills: how often the client was killed.
    """

    offsets: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    kills: int = 0

    def offset(self, url: str, offset: int) -> None:
        """Take an offset that somebody was told."""
        if url.endswith("/uploads/"):
            return
        if offset < self.offsets.get(url, 0):
            self.wrong.append(f"{url} went back from {self.offsets[url]} to {offset}")
        self.offsets[url] = max(offset, self.offsets.get(url, 0))


def npm_folder() -> str | None:
    """Return the folder that has the packages of npm; None if they are not there."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return None
    told = subprocess.run([npm, "root", "--global"], capture_output=True, text=True, check=False)
    folder = told.stdout.strip()
    names = ("tus-js-client", "@uppy/core", "@uppy/tus")
    return folder if all(os.path.isdir(f"{folder}/{name}") for name in names) else None


def run_once(command: list[str], environment: dict[str, str], heard: Heard, lives: float) -> bool:
    """Run a client until it is done or killed; tell whether it was done."""
    done = False
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as client:
        killing: threading.Timer | None = None
        for line in client.stdout or ():
            if not line.endswith("\n"):
                break  # it was killed while it said so
            kind, _, rest = line.strip().partition(" ")
            if kind == "offset":
                url, _, offset = rest.partition(" ")
                heard.offset(url, int(offset))
                # From the first answer on: a busy machine takes longer to start a program.
                if lives and killing is None:
                    killing = threading.Timer(lives, client.kill)
                    killing.start()
            elif kind == "done":
                done = True
                break
        if killing is not None:
            killing.cancel()
        client.kill()
    heard.kills += not done
    return done


def ask_offsets(heard: Heard) -> None:
    """Ask the node itself how far the uploads are."""
    for url in list(heard.offsets):
        with contextlib.suppress(OSError, ValueError):
            told = urllib.request.urlopen(url, timeout=5)  # noqa: S310 -- it is http
            with told:
                heard.offset(url, json.load(told)["offset"])


def upload(  # noqa: PLR0917 -- what an upload is made of
    house: House, folder: str, mode: str, number: int, npm: str, chance: Random, lives: float
) -> tuple[str, Heard]:
    """Upload a file, however often that has to be begun; return its digest."""
    name = f"{folder}/{mode}-{number}.bin"
    content = chance.randbytes(LENGTH)
    Path(name).write_bytes(content)
    endpoint = f"http://127.0.0.1:{house.port}/uploads/"
    words = [mode, endpoint, name, f"{name}.urls", str(PART)]
    if mode in TUSPY.values():
        command = [sys.executable, str(_HERE / "upload.py"), *words]
    else:
        command = ["node", str(_HERE / "upload.mjs"), *words]
    environment = {**os.environ, "NODE_PATH": npm}
    heard = Heard()
    for _ in range(MOST_STARTS):
        if run_once(command, environment, heard, lives):
            break
        ask_offsets(heard)
    else:
        heard.wrong.append(f"{mode}: not done after {MOST_STARTS} starts")
    os.unlink(name)
    return hashlib.sha512(content).hexdigest(), heard


@contextlib.contextmanager
def killed_all_the_time(zygote: Zygote, house: House, lives: float) -> Iterator[list[int]]:
    """Kill a node again and again; yields how often, in a list of one."""
    over = threading.Event()
    kills = [0]

    def kill() -> None:
        while not over.wait(lives):
            pid, house.pid = house.pid, 0
            zygote.end(pid, signal.SIGKILL)
            kills[0] += 1
            house.start("--rate-per-address", RATE)

    killing = threading.Thread(target=kill)
    if lives:
        killing.start()
    try:
        yield kills
    finally:
        over.set()
        if lives:
            killing.join()


def prove(seed: int, share: float) -> list[Row]:
    """Upload with every client that is here."""
    rows = []
    npm = npm_folder()
    for name, mode in {**TUSPY, **NODE_JS}.items():
        if mode in NODE_JS.values() and npm is None:
            what = "it needs node, and npm's tus-js-client, @uppy/core and @uppy/tus"
            rows.append(Row(f"uploads by {name}", "", 0, 0, skipped=what))
            continue
        rows.append(one_client(seed, share, name, mode, npm or ""))
    return rows


def one_client(seed: int, share: float, name: str, mode: str, npm: str) -> Row:
    """Upload with one client."""
    count = max(2, round(UPLOADS * share))
    began = time.monotonic()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder, Zygote() as zygote:
        house = House(zygote, f"{folder}/house")
        house.start("--rate-per-address", RATE)
        with (
            killed_all_the_time(zygote, house, NODE_LIVES) as node_kills,
            ThreadPoolExecutor(ABREAST) as pool,
        ):
            found = list(
                pool.map(
                    lambda number: upload(
                        house,
                        folder,
                        mode,
                        number,
                        npm,
                        Random(f"{seed} {mode} {number}"),
                        CLIENT_LIVES,
                    ),
                    range(count),
                )
            )
        for digest, heard in found:
            wrong += heard.wrong
            if fetched(f"http://127.0.0.1:{house.port}/{digest}") != digest:
                wrong.append(f"{digest[:8]} is not there as it was sent")
        if tracebacks := house.tracebacks():
            wrong.append(f"{tracebacks} tracebacks")
        house.end()
    kills = sum(heard.kills for _, heard in found)
    seconds = time.monotonic() - began
    cases = (
        f"{count} of {LENGTH >> 20} MiB in {seconds:.0f} s; clients killed {kills} times, "
        f"the node {node_kills[0]} times"
    )
    what = f"uploads by {name}: one wrong, stuck, or an offset taken back"
    return Row(what, cases, len(wrong), seconds, seed, examples=wrong[:10])
