"""Memory does not depend on the size of files."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.test_mirror import make_mirror
from tests.support.live import MIB, LiveNode
from tests.support.programs import require_program
from tests.support.twistd import wait_for

#: Most memory a process may ever hold, in MiB, with files of a GiB and more.
MOST = 120


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def there_and_back(
    live: Callable[..., LiveNode], tmp_path: Path, size: int
) -> tuple[list[int], list[float]]:
    """PUT on one node, GET from it, load on another; peaks in MiB, seconds of each step."""
    curl = require_program("curl")
    nodes = [node.start() for node in make_mirror(live, tmp_path, 2)]
    source = sparse(tmp_path / "source", size)
    digest = subprocess.run(
        ["sha512sum", source], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    seconds = []
    for arguments in (
        ["-T", str(source), f"{nodes[0].url}/big"],
        [f"{nodes[0].url}/{digest}"],
        [f"{nodes[1].url}/{digest}"],
    ):
        done = subprocess.run(
            [curl, "-sf", "-o", "/dev/null", "-w", "%{time_total} %{size_download}", *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        seconds.append(float(done[0]))
    assert int(done[1]) == size
    # A client has all of it before it is durable.
    wait_for(lambda: nodes[1].request("GET", f"/{digest}/info")[0] == 200, "the end of a load")
    source.unlink()
    return [node.peak_rss() for node in nodes], seconds


def test_64_mib(live: Callable[..., LiveNode], tmp_path: Path) -> None:
    peaks, seconds = there_and_back(live, tmp_path, 64 * MIB)

    print(f"\n64 MiB: peak RSS {peaks} MiB; PUT, GET, load: {seconds} s")
    assert max(peaks) <= MOST


@pytest.mark.prove
@pytest.mark.parametrize("gib", [1, 4])
def test_gibibytes(live: Callable[..., LiveNode], tmp_path: Path, gib: int) -> None:
    peaks, seconds = there_and_back(live, tmp_path, gib * 1024 * MIB)

    print(f"\n{gib} GiB: peak RSS {peaks} MiB; PUT, GET, load: {seconds} s")
    assert max(peaks) <= MOST
