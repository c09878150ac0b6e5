"""``python -m bench.profile ROW``: where a node's time goes under the load of one row.

py-spy looks at the process from outside, so that nothing is slowed down; where
it cannot be had, twistd's own cProfile runs inside (the loop's thread alone, and
everything takes longer).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pstats
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from bench import gets, puts, servers
from bench.load import Wrong
from bench.servers import Server
from bench.stage import Options, Stage
from bench.tools import Missing, dies_with_us, from_pypi

_RATE = 250
_TOP = 22
_SEED = 1
#: A thread that waits for work; py-spy takes it for busy while it wakes up.
_RESTS = "Condition.wait"
#: Around everything, so that they say nothing. File names, with their line cut off.
_AROUND = (
    *("application/app.py", "scripts/twistd.py", "scripts/_twistd_unix.py", "threading.py"),
    *("internet/base.py", "python/log.py", "python/context.py", "<string>"),
)
_PUTS = {"6": (), "7": ("--fan-out", "2"), "8": ("--fan-out", "64")}

Load = Callable[[Server, float], str]


def main(arguments: list[str]) -> int:
    """Profile one row and print where the time went."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("row", choices=[*gets.GETS, *_PUTS], nargs="?", default="4")
    parser.add_argument("--seconds", type=float, default=8.0, help="of load")
    parser.add_argument("--quick", action="store_true", help="a smaller big blob")
    parser.add_argument("--unpinned", action="store_true", help="leave the CPUs to the kernel")
    parser.add_argument("--cprofile", action="store_true", help="do not use py-spy")
    parser.add_argument("--workdir", metavar="DIR")
    given = parser.parse_args(arguments)
    workdir = tempfile.mkdtemp(prefix="dtfc-profile-", dir=given.workdir)
    stage = Stage(Options.of(quick=given.quick, pairs=1, pinned=not given.unpinned), workdir)
    try:
        spy = None if given.cprofile else from_pypi("py-spy")
    except Missing as reason:
        print(f"{reason}; cProfile instead", file=sys.stderr)
        spy = None
    try:
        load = _load(stage, given.row)
        stage.blobs  # noqa: B018 -- made before anything is measured
        if spy is None:
            _by_cprofile(stage, given.row, load, given.seconds)
        else:
            _by_spy(spy, stage, given.row, load, given.seconds)
    except Wrong as reason:
        print(reason, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(workdir, ignore_errors=True)
    return 0


def _load(stage: Stage, row: str) -> Load:
    """Return what makes the row's load for some seconds, and says what it saw."""
    if row in gets.GETS:

        def get(server: Server, seconds: float) -> str:
            load = gets.GETS[row]
            return f"{load.figure(load.sample(stage, server, _SEED, seconds)):,.0f} {load.unit}"

        return get
    if row == "6":

        def put(server: Server, seconds: float) -> str:
            taken: list[float] = []
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                stage.restamp()
                taken.append(puts.put_source(stage, server))
            return f"{sum(taken) / len(taken):.2f} s a body of {stage.options.size}"

        return put

    def put_small(server: Server, seconds: float) -> str:
        seed = time.time_ns()
        return f"{puts.put_small(server, seconds, seed).per_second:,.0f} requests/s"

    return put_small


@contextlib.contextmanager
def _node(stage: Stage, row: str, *before: str) -> Iterator[Server]:
    basedir = stage.folder("puts") if row in _PUTS else stage.hot_store
    cpu = None if row in _PUTS else stage.options.server_cpu
    flags = _PUTS.get(row, ())
    with servers.dtfc(stage.folder("dtfc"), basedir, *flags, cpu=cpu, before=before) as server:
        server.ready()
        yield server


def _by_spy(spy: str, stage: Stage, row: str, load: Load, seconds: float) -> None:
    raw = os.path.join(stage.workdir, "samples")
    command = [spy, "record", "--pid", "", "--duration", str(max(1, int(seconds - 1)))]
    command += ["--rate", str(_RATE), "--format", "raw", "--threads", "--function", "-o", raw]
    with _node(stage, row) as server:
        load(server, 1.0)
        command[3] = str(server.pid)
        with subprocess.Popen(
            [*dies_with_us(), *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as spying:
            said = load(server, seconds)
            _, complaint = spying.communicate(timeout=seconds + 60)
        if spying.returncode:
            raise Wrong(f"py-spy failed: {complaint.strip()}")
    print(f"row {row}: {said} (while watched, {_RATE} samples a second)\n")
    with open(raw, encoding="utf-8") as file:
        _tell(file)


def _tell(lines: Iterable[str]) -> None:
    """Print who was on top of the stack, and who was anywhere on it."""
    alone: Counter[str] = Counter()
    within: Counter[str] = Counter()
    threads: Counter[str] = Counter()
    for line in lines:
        stack, _, text = line.rpartition(" ")
        count = int(text)
        frames = [_short(each) for each in stack.split(";")[1:]]
        if not frames or frames[-1].startswith(_RESTS):
            continue
        loop = any(frame.startswith("ReactorBase.mainLoop") for frame in frames)
        threads["the loop" if loop else "disk threads"] += count
        alone[frames[-1]] += count
        for frame in set(frames):
            if not frame.endswith(_AROUND):
                within[frame] += count
    total = sum(threads.values()) or 1
    for thread, count in threads.most_common():
        print(f"{100 * count / total:5.1f} % of the samples: {thread}")
    for title, counter in (("in the function itself", alone), ("and what it calls", within)):
        print(f"\n    %  {title}")
        for frame, count in counter.most_common(_TOP):
            print(f"{100 * count / total:5.1f}  {frame}")


def _short(frame: str) -> str:
    """Leave of a path what tells the module."""
    name, _, where = frame.partition(" (")
    path = where.rstrip(")").rpartition(":")[0] or where
    return f"{name}  {'/'.join(path.split('/')[-2:])}"


def _by_cprofile(stage: Stage, row: str, load: Load, seconds: float) -> None:
    stats = os.path.join(stage.workdir, "stats")
    with _node(stage, row, "--profile", stats, "--profiler", "cprofile", "--savestats") as server:
        said = load(server, seconds)
    print(f"row {row}: {said} (with cProfile, which slows it down)\n")
    pstats.Stats(stats).strip_dirs().sort_stats("tottime").print_stats(_TOP)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
