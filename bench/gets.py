"""Rows of GETs: 1 to 5, TLS (12), cold cache (13)."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from bench.compare import Row, Target
from bench.load import HOST, Pulled, Wrong, pulled, settle
from bench.servers import NGINX_NO_PUSH, NGINX_OPEN_FILES, NGINX_PUSH, Server
from bench.stage import KIB, MIB, Blob, Stage, drop_caches, is_cold
from bench.tools import HERE, dies_with_us, on_cpu, program

_WHOLE_SECONDS = 300.0
_GAUGE = "MiB/s"
_RATE = "requests/s"


@dataclass(frozen=True, slots=True)
class GetLoad:
    """GETs of one blob.

    Args:
        key: the row.
        title: ``{big}`` stands for the size of the big blob.
        blob: which one.
        connections: kept alive, one request at a time on each.
        at_least: of nginx.
        requests: so many in a sample; 0: as many as its time allows.
        span: bytes of a random range; 0: the whole blob.
        nginx: what makes nginx fast at this.
    """

    key: str
    title: str
    blob: str
    connections: int
    at_least: float
    requests: int = 0
    span: int = 0
    nginx: str = NGINX_PUSH

    @property
    def unit(self) -> str:
        """Bytes count where bodies are large, requests where they are many."""
        return _GAUGE if self.requests else _RATE

    def sample(
        self, stage: Stage, server: Server, seed: int, seconds: float | None = None
    ) -> Pulled:
        """Make the load once.

        Args:
            stage: whose blobs.
            server: who is asked.
            seed: of the random choices; the same for both sides of a pair.
            seconds: make it for so long, whatever the number of requests.

        Raises:
            Wrong: any answer is not what it has to be.
        """
        settle()
        blob = stage.blobs[self.blob]
        options = [f"-c{self.connections}", f"-s{seed}", f"-b{self.span or blob.length}"]
        if self.span:
            options.append(f"-r{self.span}:{blob.length}")
        counted = self.requests and seconds is None
        if counted:
            # A short run has half of them.
            options.append(f"-n{max(1, self.requests >> stage.options.quick)}")
            seconds = _WHOLE_SECONDS
        return pulled(
            server.port,
            blob.at(server),
            *options,
            seconds=seconds or stage.options.seconds,
            cpu=stage.options.client_cpu,
            whole=bool(counted),
        )

    def figure(self, sample: Pulled) -> float:
        """Return what the row is about."""
        return sample.mib_per_second if self.requests else sample.per_second


GETS = {
    each.key: each
    for each in (
        GetLoad("1", "GET {big} hot, one connection", "big", 1, 1.0, requests=4),
        GetLoad("2", "GET {big} hot, 8 connections", "big", 8, 1.0, requests=16),
        GetLoad(
            "3",
            "GET 64 KiB random ranges of {big}, 16 connections",
            "big",
            16,
            0.5,
            span=64 * KIB,
            nginx=NGINX_NO_PUSH,
        ),
        GetLoad("4", "GET 4 KiB hot, 16 connections", "small", 16, 0.6),
        GetLoad("5", "GET 1 MiB hot, 16 connections", "mib", 16, 0.9, nginx=NGINX_NO_PUSH),
    )
}


def rows(key: str, stage: Stage) -> Iterator[Row]:
    """Measure row 1, 2, 3, 4 or 5 beside nginx, and what belongs to it."""
    load = GETS[key]
    row = Row(
        key,
        load.title.format(big=stage.options.size),
        load.unit,
        "nginx",
        target=Target(">=", load.at_least),
    )
    plain = Row("1b", "the same by plain Twisted (static.File)", load.unit, "nginx")
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(stage.dtfc(key, stage.hot_store, pinned=True))
        theirs = stack.enter_context(stage.nginx(load.nginx, pinned=True))
        servers = [ours, theirs]
        if key == "1":
            servers.append(stack.enter_context(stage.static_file()))
        for server in servers:
            check(stage, server, stage.blobs[load.blob])
            load.sample(stage, server, 0)
        for number in range(1, stage.options.pairs + 1):
            samples = [load.sample(stage, server, number) for server in servers]
            figures = [load.figure(sample) for sample in samples]
            row.ours.append(figures[0])
            row.theirs.append(figures[1])
            _keep_latencies(row, *samples[:2])
            if key == "1":
                plain.ours.append(figures[2])
                plain.theirs.append(figures[1])
        yield row
        if key == "1":
            yield plain
            yield _by_curl(stage, ours, theirs)
    if key == "4":
        yield _against_open_files(stage, load)


def _keep_latencies(row: Row, ours: Pulled, theirs: Pulled) -> None:
    for name, sample in (("ours", ours), ("theirs", theirs)):
        for which in ("p50", "p99", "max"):
            value: float = getattr(sample, which)
            row.extra[f"{name}_{which}_us"] = value


def _by_curl(stage: Stage, ours: Server, theirs: Server) -> Row:
    """One whole GET by curl, which copies every byte: the receiver takes its part."""
    row = Row("1c", f"GET {stage.options.size} hot by curl", _GAUGE, "nginx")
    blob = stage.blobs["big"]

    def curl(server: Server) -> float:
        settle()
        out = subprocess.run(
            [
                *(*dies_with_us(), *on_cpu(stage.options.client_cpu), program("curl")),
                *("--silent", "--show-error", "--fail", "--output", os.devnull),
                *("--write-out", "%{size_download} %{time_total}"),
                f"http://{HOST}:{server.port}{blob.at(server)}",
            ],
            capture_output=True,
            text=True,
            timeout=_WHOLE_SECONDS,
            check=True,
        ).stdout.split()
        if int(out[0]) != blob.length:
            raise Wrong(f"curl got {out[0]} bytes of {blob.length}")
        return blob.length / MIB / float(out[1])

    row.measure_pairs(
        stage.options.pairs,
        lambda _number: curl(ours),
        lambda _number: curl(theirs),
    )
    return row


def _against_open_files(stage: Stage, load: GetLoad) -> Row:
    """Row 4 once more, against an nginx that keeps its files open."""
    row = Row("4b", "the same, nginx with open_file_cache", load.unit, "nginx")
    with (
        stage.dtfc("4b", stage.hot_store, pinned=True) as ours,
        stage.nginx(load.nginx + NGINX_OPEN_FILES, pinned=True) as theirs,
    ):
        load.sample(stage, ours, 0)
        load.sample(stage, theirs, 0)
        row.measure_pairs(
            stage.options.pairs,
            lambda number: load.figure(load.sample(stage, ours, number)),
            lambda number: load.figure(load.sample(stage, theirs, number)),
        )
    return row


def check(stage: Stage, server: Server, blob: Blob) -> None:
    """Compare what a server sends with the file, before it is measured.

    Raises:
        Wrong: it is something else.
    """
    with open(os.path.join(stage.www, blob.file), "rb") as file:
        right = file.read(4 * MIB)
    connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
    try:
        connection.request("GET", blob.at(server), headers={"Range": f"bytes=0-{len(right) - 1}"})
        answer = connection.getresponse()
        if answer.status != 206 or answer.read() != right:
            raise Wrong(f"{server.name} sends something else ({answer.status})")
    finally:
        connection.close()


# -- TLS ----------------------------------------------------------------------


def tls(stage: Stage) -> Iterator[Row]:
    """Row 12: the big blob over TLS 1.3; the receiver drops what it does not decipher."""
    row = Row("12", f"GET {stage.options.size} hot over TLS 1.3", _GAUGE, "nginx")
    blob = stage.blobs["big"]
    ciphers = set()

    def sample(server: Server) -> float:
        settle()
        done = subprocess.run(
            [
                *(*dies_with_us(), *on_cpu(stage.options.client_cpu), sys.executable),
                os.path.join(HERE, "discard_tls.py"),
                *(str(server.port), blob.at(server), str(blob.length)),
            ],
            capture_output=True,
            text=True,
            timeout=_WHOLE_SECONDS,
            check=False,
        )
        if done.returncode:
            raise Wrong(done.stderr.strip())
        said = json.loads(done.stdout)
        ciphers.add(said["cipher"])
        return blob.length / MIB / float(said["seconds"])

    with (
        stage.dtfc("12", stage.hot_store, pinned=True, tls=True) as ours,
        stage.nginx(pinned=True, tls=True) as theirs,
    ):
        sample(ours)
        sample(theirs)
        row.measure_pairs(
            stage.options.pairs,
            lambda _number: sample(ours),
            lambda _number: sample(theirs),
        )
    row.note = " and ".join(sorted(ciphers))
    yield row


# -- cold -----------------------------------------------------------------------


def cold(stage: Stage) -> Iterator[Row]:
    """Row 13: the big blob when nothing of it is in memory."""
    row = Row("13", f"GET {stage.options.size} cold, one connection", _GAUGE, "nginx")
    blob = stage.blobs["big"]
    file = os.path.join(stage.www, blob.file)
    not_cold = 0

    def sample(server: Server) -> float:
        nonlocal not_cold
        drop_caches(file)
        not_cold += not is_cold(file)
        return pulled(
            server.port,
            blob.at(server),
            *("-n1", f"-b{blob.length}"),
            seconds=_WHOLE_SECONDS,
            cpu=stage.options.client_cpu,
            whole=True,
        ).mib_per_second

    with (
        stage.dtfc("13", stage.hot_store, pinned=True) as ours,
        stage.nginx(pinned=True) as theirs,
    ):
        row.measure_pairs(
            stage.options.pairs,
            lambda _number: sample(ours),
            lambda _number: sample(theirs),
        )
    if not_cold:
        row.note = f"{not_cold} samples were not cold"
    yield row
