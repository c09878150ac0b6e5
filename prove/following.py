"""Proof: a database of 100,000 documents is followed as fast as its server tells of it.

The server is pouchdb-server. What it can do at most is measured beside: the same
pages, asked for by a client that does no more than parse them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from prove.figures import Row
from prove.house import House, until
from prove.volley import resident
from prove.zygote import Zygote, free_port, wait_until_open

#: Documents of the database.
DOCUMENTS = 100_000

#: Documents a second that are read, unless the server tells of fewer.
RATE = 5000.0

#: Of what the server can do, this much has to be reached where that is less.
SHARE_OF_SERVER = 0.5

#: Seconds in which a node that starts again has heard of a new document.
RESTART = 2.0

#: MiB that the node may have grown by: several pages of 500 documents and their parts.
GROWTH = 48.0

_PAGE = 500


@contextmanager
def server(folder: str, program: str) -> Iterator[str]:
    """Run a pouchdb-server with everything in memory; yield its URL."""
    port = free_port()
    os.makedirs(folder)
    running = subprocess.Popen(
        [program, "--in-memory", "--no-stdout-logs", "--host", "127.0.0.1", "--port", str(port)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until_open(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def ask(method: str, url: str, body: Any = None) -> Any:
    """Ask for JSON."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 -- it is http
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        return json.load(answer)


def fill(url: str, documents: int, chance: Random) -> None:
    """Make a database of so many documents, each with two references."""
    ask("PUT", url)
    for begin in range(0, documents, 1000):
        some = [
            {
                "_id": f"{number:07}",
                "title": f"photo {number}",
                "dtfc": {
                    f"{each}.jpg": {
                        "sha512": chance.randbytes(64).hex(),
                        "length": 1,
                        "content_type": "image/jpeg",
                        "stub": True,
                    }
                    for each in range(2)
                },
            }
            for number in range(begin, min(documents, begin + 1000))
        ]
        ask("POST", f"{url}/_bulk_docs", {"docs": some})


def read_all(url: str) -> float:
    """Read all changes as a node asks for them; return documents a second."""
    began, came, since = time.monotonic(), 0, 0
    while True:
        query = f"feed=normal&style=all_docs&include_docs=true&limit={_PAGE}&since={since}"
        page = ask("GET", f"{url}/_changes?{query}")
        if not page["results"]:
            return came / (time.monotonic() - began)
        came, since = came + len(page["results"]), page["last_seq"]


def state(house: House) -> dict[str, Any]:
    """Return what the node says of the database."""
    found: dict[str, Any] = ask("GET", f"http://127.0.0.1:{house.port}/couchdb/databases")[0]
    return found


def heard_of(house: House, name: str) -> bool:
    """Whether the node has counted a change since its start."""
    url = f"http://127.0.0.1:{house.port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: str = answer.read().decode()
    line = f'dtfc_couchdb_follower_changes_total{{database="{name}"}} '
    return any(float(each[len(line) :]) > 0 for each in text.splitlines() if each.startswith(line))


def prove(seed: int, share: float) -> list[Row]:
    """Follow a database from its beginning, and from its checkpoint.

    With less than all of it, nothing is said against how long that takes: a machine
    that does other things meanwhile is no proof.
    """
    whole = share >= 1
    documents = max(2000, int(DOCUMENTS * share))
    name = f"a database of {documents} documents followed: too slow, or memory grows"
    program = shutil.which("pouchdb-server")
    if program is None:
        return [Row(name, "", 0, 0, skipped="it needs pouchdb-server")]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, server(f"{folder}/couch", program) as url:
        fill(f"{url}/photos", documents, Random(f"{seed} following"))
        most = read_all(f"{url}/photos")
        flags = ["--couchdb", url, "--couchdb-db", "photos"]
        with Zygote() as zygote:
            house = House(zygote, f"{folder}/house")
            house.start()
            before = resident(house.pid)
            house.end()
            started = time.monotonic()
            house.start(*flags)
            complete = until(documents / 200 + 60, lambda: state(house)["complete"])
            rate = documents / (time.monotonic() - started)
            after = resident(house.pid)
            house.end()
            started = time.monotonic()
            house.start(*flags)
            ask("PUT", f"{url}/photos/new", {})
            heard = until(60, lambda: heard_of(house, "photos"))
            restart = time.monotonic() - started
            scanned = state(house)["complete"]
            tracebacks = house.tracebacks()
            house.end()
    wrong = []
    if not complete:
        wrong.append("it was never read to its end")
    if whole and rate < min(RATE, SHARE_OF_SERVER * most):
        wrong.append(f"{rate:.0f} documents/s")
    if after - before > GROWTH:
        wrong.append(f"{after - before:.0f} MiB more memory")
    if (whole and restart > RESTART) or not heard or not scanned:
        wrong.append(f"{restart:.1f} s until a new document was heard of")
    if tracebacks:
        wrong.append(f"{tracebacks} tracebacks")
    cases = (
        f"{rate:.0f} documents/s, start of the node included; the server tells {most:.0f} at most; "
        f"memory {before:.0f} MiB before, {after:.0f} after; "
        f"from its checkpoint {restart:.2f} s"
    )
    return [Row(name, cases, len(wrong), time.monotonic() - began, seed, examples=wrong)]
