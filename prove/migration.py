"""Proof: 10,000 documents' attachments move to a node and back.

The server is pouchdb-server, the commands ``dtfc couchdb migrate`` and ``restore``,
killed several times and run again. Every digest has to be right, no document changed
twice on the way there, and what comes back has to be what was there.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import quote

from prove.figures import Row
from prove.following import ask, server
from prove.house import House
from prove.zygote import Zygote

#: Documents of the database.
DOCUMENTS = 10_000

#: Of these, so many have an attachment of 64 MiB.
LARGE = 4

#: Bytes of the largest.
LARGEST = 64 * 1024 * 1024

#: Times that each command is killed.
KILLS = 5

_COMMAND = "import sys; from dtfc.cli.main import main; sys.exit(main())"
_TYPES = ("text/plain", "image/jpeg", "application/octet-stream", "text/html; charset=utf-8")


@dataclass(frozen=True, slots=True)
class File:
    """An attachment, as it has to be."""

    name: str
    content_type: str
    seed: str
    length: int

    @property
    def content(self) -> bytes:
        """Its bytes."""
        return Random(self.seed).randbytes(self.length)


def plan(documents: int, of_64_mib: int, chance: Random) -> dict[str, list[File]]:
    """Return which document has which attachments."""
    found: dict[str, list[File]] = {}
    large = chance.sample(range(documents), of_64_mib)
    for number in range(documents):
        count = chance.choice((1, 1, 1, 2, 3))
        sizes = [
            0 if chance.random() < 0.02 else int(2 ** (chance.random() * 17)) for _ in range(count)
        ]
        if number in large:
            sizes = [LARGEST]
        found[f"{number:06}"] = [
            File(
                chance.choice(("photo {}.jpg", "größe/{}.txt", "a+b%20{}")).format(at),
                chance.choice(_TYPES),
                f"{chance.random()} {number} {at}",
                size,
            )
            for at, size in enumerate(sizes)
        ]
    return found


def fill(url: str, wanted: dict[str, list[File]]) -> None:
    """Make the database."""
    ask("PUT", url)
    docs: list[dict[str, Any]] = []
    for name, files in wanted.items():
        if files[0].length == LARGEST:
            request = urllib.request.Request(  # noqa: S310 -- it is http
                f"{url}/{name}/{quote(files[0].name, safe='')}",
                files[0].content,
                {"Content-Type": files[0].content_type},
                method="PUT",
            )
            with urllib.request.urlopen(request, timeout=300):  # noqa: S310 -- it is http
                continue
        stubs = {
            each.name: {
                "content_type": each.content_type,
                "data": base64.b64encode(each.content).decode(),
            }
            for each in files
        }
        docs.append({"_id": name, "title": name, "_attachments": stubs})
        if len(docs) == 200:
            ask("POST", f"{url}/_bulk_docs", {"docs": docs})
            docs = []
    ask("POST", f"{url}/_bulk_docs", {"docs": docs})


def documents_of(url: str) -> Iterator[dict[str, Any]]:
    """Yield all documents."""
    for row in ask("GET", f"{url}/_all_docs?include_docs=true")["rows"]:
        yield row["doc"]


def run(  # noqa: PLR0917 -- a command line
    act: str, url: str, node: str, state: str, kills: int, longest: float, chance: Random
) -> tuple[int, float]:
    """Run a command, killed so often; return how often it was, and the seconds of all."""
    began, killed = time.monotonic(), 0
    command = [sys.executable, "-c", _COMMAND, "couchdb", act, url, node, "--state", state]
    while True:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as running:
            wait = chance.uniform(0.8, longest) if killed < kills else 3600
            try:
                said, _ = running.communicate(timeout=wait)
            except subprocess.TimeoutExpired:
                running.kill()
                killed += 1
                continue
        if running.returncode != 0:
            raise RuntimeError(f"{act} exited with {running.returncode}: {said[-500:]}")
        return killed, time.monotonic() - began


def wrong_entries(url: str, wanted: dict[str, list[File]], node: str) -> list[str]:
    """Return what is not right after the way there."""
    wrong = []
    for document in documents_of(url):
        name = document["_id"]
        expected = {}
        for each in wanted[name]:
            digest = hashlib.sha512(each.content).hexdigest()
            expected[each.name] = {
                "sha512": digest,
                "length": each.length,
                "content_type": each.content_type,
                "stub": True,
            }
            if fetched(f"{node}/{digest}") != digest:
                wrong.append(f"{name}: the node does not have {each.name!r}")
        if document.get("dtfc") != expected or "_attachments" in document:
            wrong.append(f"{name}: {sorted(document)}")
        if not document["_rev"].startswith("2-"):
            wrong.append(f"{name} was changed more than once: {document['_rev']}")
    return wrong


def wrong_attachments(url: str, wanted: dict[str, list[File]]) -> list[str]:
    """Return what is not right after the way back."""
    wrong = []
    for document in documents_of(url):
        name = document["_id"]
        stubs = document.get("_attachments", {})
        if {each.name for each in wanted[name]} != set(stubs) or "dtfc" in document:
            wrong.append(f"{name}: {sorted(stubs)}")
            continue
        for each in wanted[name]:
            path = f"{url}/{name}/{quote(each.name, safe='')}"
            right = hashlib.sha512(each.content).hexdigest()
            if fetched(path) != right or stubs[each.name]["content_type"] != each.content_type:
                wrong.append(f"{name}: {each.name!r} is another one")
    return wrong


def fetched(url: str) -> str:
    """Return the SHA-512 of what a URL has; nothing if it has nothing."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=300) as answer:  # noqa: S310
        found = hashlib.sha512()
        while block := answer.read(1 << 20):
            found.update(block)
        return found.hexdigest()
    return ""


def prove(seed: int, share: float) -> list[Row]:
    """Move there and back."""
    documents = max(150, int(DOCUMENTS * share))
    name = (
        f"attachments of {documents} documents moved to a node and back: one wrong, or a "
        "document changed twice"
    )
    program = shutil.which("pouchdb-server")
    if program is None:
        return [Row(name, "", 0, 0, skipped="it needs pouchdb-server")]
    chance = Random(f"{seed} migration")
    kills, longest = (KILLS, 20.0) if share >= 1 else (2, 1.5)
    wanted = plan(documents, LARGE if share >= 1 else 1, chance)
    files = [each for some in wanted.values() for each in some]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, server(f"{folder}/couch", program) as url:
        database = f"{url}/photos"
        fill(database, wanted)
        with Zygote() as zygote:
            house = House(zygote, f"{folder}/house")
            house.start()
            node = f"http://127.0.0.1:{house.port}"
            there, took = run("migrate", database, node, f"{folder}/there", kills, longest, chance)
            wrong = wrong_entries(database, wanted, node)
            back, took_back = run(
                "restore", database, node, f"{folder}/back", kills, longest, chance
            )
            wrong += wrong_attachments(database, wanted)
            if tracebacks := house.tracebacks():
                wrong.append(f"{tracebacks} tracebacks")
            house.end()
    megabytes = sum(each.length for each in files) / 1e6
    cases = (
        f"{len(files)} attachments, {megabytes:.0f} MB, 0 bytes to 64 MiB; there in {took:.0f} s, "
        f"killed {there} times; back in {took_back:.0f} s, killed {back} times"
    )
    return [Row(name, cases, len(wrong), time.monotonic() - began, seed, examples=wrong[:10])]
