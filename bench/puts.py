"""Rows of PUTs: one large body (6), many small durable ones (7, 8)."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

from bench import memory
from bench.compare import Row, Target
from bench.load import Pulled, Wrong, pulled
from bench.servers import Server
from bench.stage import GIB, KIB, Stage, forget, warm
from bench.tools import HERE, dies_with_us, program

_WHOLE_SECONDS = 300.0
_CONNECTIONS = 16
_SMALL = 4 * KIB
#: Times the body that is left of free memory, so that this much can be touched before.
_LEFT = 4
_RAM = "/dev/shm"  # noqa: S108 - the file system in memory is meant; a folder of its own is made there


# -- one large body -------------------------------------------------------------


def digest(path: str) -> tuple[float, str]:
    """Return the seconds that openssl takes for a file, and what it says."""
    began = time.monotonic()
    done = subprocess.run(
        [*dies_with_us(), program("openssl"), "dgst", "-sha512", "-r", path],
        capture_output=True,
        text=True,
        timeout=_WHOLE_SECONDS,
        check=True,
    )
    return time.monotonic() - began, done.stdout.split()[0]


def put_source(stage: Stage, server: Server) -> float:
    """PUT the source as it is now; return the seconds."""
    return pulled(
        server.port, "/large.bin", "-F", stage.source, "-n1", seconds=_WHOLE_SECONDS, whole=True
    ).seconds


def large(stage: Stage) -> Iterator[Row]:
    """Row 6: one large body, beside ``openssl dgst`` of the same file; then without the disk."""
    row = Row(
        "6",
        f"PUT {stage.options.size}, durable: time",
        "s",
        "openssl dgst -sha512",
        target=Target("<=", 1.4),
    )
    with stage.scratch("put") as basedir, stage.dtfc("6", basedir) as server:
        _large_pairs(stage, server, row)
    floor = [_write_and_sync(stage) for _ in range(stage.options.pairs)]
    row.extra["disk_alone_s"] = sorted(floor)[len(floor) // 2]
    row.note += (
        f"to write and fsync the same bytes, without hashing, takes this disk"
        f" {row.extra['disk_alone_s']:.2f} s"
    )
    yield row
    room = shutil.disk_usage(_RAM).free if os.path.isdir(_RAM) else 0
    if room > 3 * stage.options.big:
        row = Row("6b", "the same, the store in memory (/dev/shm): time", "s", row.peer)
        basedir = os.path.join(_RAM, f"dtfc-bench-{secrets.token_hex(8)}")
        os.mkdir(basedir, 0o700)
        try:
            with stage.dtfc("6b", basedir) as server:
                _large_pairs(stage, server, row)
        finally:
            shutil.rmtree(basedir, ignore_errors=True)
        row.note += "receiving, hashing and writing alone"
        yield row


def _large_pairs(stage: Stage, server: Server, row: Row) -> None:
    big = stage.options.big
    with memory.scarce(_LEFT * big) as page_seconds:
        for number in range(stage.options.pairs + 1):
            stage.restamp()
            warm(stage.source)
            os.sync()
            memory.touch((_LEFT - 1) * big)
            ours = put_source(stage, server)
            os.sync()
            theirs, hexadecimal = digest(stage.source)
            # This also says that what was stored has the right digest.
            forget(server, hexadecimal)
            if number:
                row.ours.append(ours)
                row.theirs.append(theirs)
    row.extra["first_touch_us"] = page_seconds * 1e6
    row.note = f"memory was touched before ({page_seconds * 1e6:.1f} us a page here); "


def _write_and_sync(stage: Stage) -> float:
    """Copy the source and make the copy durable; return the seconds."""
    path = f"{stage.source}.copy"
    warm(stage.source)
    os.sync()
    began = time.monotonic()
    with open(stage.source, "rb") as source, open(path, "wb") as copy:
        left = stage.options.big
        while left:
            left -= os.copy_file_range(source.fileno(), copy.fileno(), min(left, GIB))
        os.fsync(copy.fileno())
    taken = time.monotonic() - began
    os.unlink(path)
    return taken


# -- many small ones --------------------------------------------------------------


def put_small(server: Server, seconds: float, seed: int) -> Pulled:
    """PUT bodies of 4 KiB that nobody has seen, 16 at a time, for so long."""
    return pulled(
        server.port,
        "/small-",
        *(f"-c{_CONNECTIONS}", f"-P{_SMALL}", f"-s{seed}"),
        seconds=seconds,
    )


def small(key: str, stage: Stage) -> Iterator[Row]:
    """Row 7 (two levels of folders) or 8 (the full split), beside a plain loop."""
    flags = ("--fan-out", "2" if key == "7" else "64")
    form = "--fan-out 2" if key == "7" else "the full split"
    row = Row(
        key,
        f"PUT 4 KiB durable, {_CONNECTIONS} connections, {form}",
        "requests/s",
        "a loop of write, fsync, link, fsync",
        target=Target(">=", 1.5) if key == "7" else None,
    )
    base = secrets.randbits(32)
    # Kept until the end: an ext4 without a journal takes none of the inodes that were freed
    # within the last minutes, and looks at each of them first.
    with stage.dtfc(key, stage.folder("small"), *flags) as server:
        put_small(server, stage.options.seconds / 2, base)
        for number in range(1, stage.options.pairs + 1):
            os.sync()
            sample = put_small(server, stage.options.seconds, base + number)
            row.ours.append(sample.per_second)
            row.extra["ours_p50_us"], row.extra["ours_p99_us"] = sample.p50, sample.p99
            os.sync()
            row.theirs.append(plain_loop(stage))
    yield row


def plain_loop(stage: Stage) -> float:
    """Run the loop; return files a second."""
    done = subprocess.run(
        [
            *(*dies_with_us(), sys.executable, os.path.join(HERE, "plain_loop.py")),
            *(stage.folder("loop"), str(_SMALL), str(stage.options.seconds)),
        ],
        capture_output=True,
        text=True,
        timeout=_WHOLE_SECONDS,
        check=False,
    )
    if done.returncode:
        raise Wrong(done.stderr.strip())
    said = json.loads(done.stdout)
    return float(said["stored"] / said["seconds"])
