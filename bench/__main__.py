"""``python -m bench``: measure, print the table, write the figures.

--quick          smaller bodies, fewer and shorter samples (under two minutes)
--rows 1,4       only these
--write-docs     also write docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from types import FrameType

from bench import gets, limits, machine, others, puts, report
from bench.compare import Row, missing
from bench.load import Wrong
from bench.stage import GIB, Options, Stage
from bench.tools import CHECKOUT, HERE, PACKAGES, Missing, program, pull

Rows = Callable[[Stage], Iterable[Row]]

#: Each row: what it is called where it cannot be measured, and what measures it.
ROWS: dict[str, tuple[str, Rows]] = {
    **{
        key: (load.title.format(big="large"), partial(gets.rows, key))
        for key, load in gets.GETS.items()
    },
    "6": ("PUT of a large body", puts.large),
    "7": ("PUT 4 KiB, --fan-out 2", partial(puts.small, "7")),
    "8": ("PUT 4 KiB, the full split", partial(puts.small, "8")),
    "9": ("peak RSS", limits.memory),
    "10": ("start with many blobs", limits.start),
    "12": ("GET over TLS", gets.tls),
    "13": ("GET cold", gets.cold),
    "14": ("SeaweedFS", others.seaweedfs),
    # Last: it also tells what the daemons of the rows before said.
    "11": ("longest stall", limits.stall),
}


def main(arguments: list[str]) -> int:
    """Run; 0 unless a row failed for another reason than a missing program."""
    given = _parse(arguments)
    signal.signal(signal.SIGTERM, _stop)
    for name in PACKAGES:
        try:
            program(name)
        except Missing as reason:
            print(f"missing: {reason}", file=sys.stderr)
    try:
        pull()
    except Missing as reason:
        print(f"nothing can be measured without it: {reason}", file=sys.stderr)
        return 1
    options = Options.of(quick=given.quick, pairs=given.pairs, pinned=not given.unpinned)
    asked = given.rows.split(",") if given.rows else list(ROWS)
    wanted = [key for key in ROWS if key in asked]
    run = f"{'quick' if given.quick else 'full'}, {options.pairs} pairs"
    run += "" if options.pinned else ", CPUs not pinned"
    os.makedirs(given.workdir or tempfile.gettempdir(), exist_ok=True)
    workdir = tempfile.mkdtemp(prefix="dtfc-bench-", dir=given.workdir)
    free, needed = shutil.disk_usage(workdir).free, (2 if given.quick else 16) * GIB
    if free < needed:
        os.rmdir(workdir)
        print(
            f"{needed // GIB} GiB are needed, {free / GIB:.1f} are free: see --workdir",
            file=sys.stderr,
        )
        return 1
    facts = machine.facts(workdir)
    rows: list[Row] = []
    failed = False
    try:
        stage = Stage(options, workdir)
        for key in wanted:
            failed |= not _measure(key, stage, rows)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(workdir, ignore_errors=True)
    rows.sort(key=lambda row: (int(re.sub(r"\D", "", row.key)), row.key))
    print("\n" + ", ".join(f"{name} {value}" for name, value in facts.items()))
    print(f"{run}\n\n{report.table(rows)}\n\n{report.notes(rows)}")
    with open(given.json, "w", encoding="utf-8") as file:
        file.write(report.as_json(rows, facts, run))
    if given.write_docs:
        with open(os.path.join(CHECKOUT, "docs", "benchmarks.md"), "w", encoding="utf-8") as file:
            file.write(report.markdown(rows, facts, run))
    return 1 if failed else 0


def _measure(key: str, stage: Stage, rows: list[Row]) -> bool:
    title, measure = ROWS[key]
    began = time.monotonic()
    print(f"row {key}: {title} …", file=sys.stderr, flush=True)
    good = True
    try:
        for row in measure(stage):
            rows.append(row)
            print(report.table([row]).splitlines()[-1], file=sys.stderr, flush=True)
    except Missing as reason:
        rows.append(missing(key, title, reason))
    except (Wrong, OSError, subprocess.SubprocessError, http.client.HTTPException) as reason:
        rows.append(missing(key, title, reason))
        good = False
    if rows[-1].note:
        print(f"  {rows[-1].note}", file=sys.stderr)
    print(f"  ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
    return good


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure dtfc beside its peers."
    )
    parser.add_argument("--quick", action="store_true", help="smaller and shorter, < 2 minutes")
    parser.add_argument("--rows", metavar="N,N", help=f"only these of {','.join(ROWS)}")
    parser.add_argument("--pairs", type=int, metavar="N", help="pairs of a comparison")
    parser.add_argument("--unpinned", action="store_true", help="leave the CPUs to the kernel")
    parser.add_argument(
        "--workdir", metavar="DIR", help="on the file system to measure (16 GiB; quick: 2 GiB)"
    )
    parser.add_argument(
        "--json", metavar="FILE", default=os.path.join(HERE, "results.json"), help="the figures"
    )
    parser.add_argument(
        "--write-docs", action="store_true", help="write the table to docs/benchmarks.md"
    )
    given = parser.parse_args(arguments)
    unknown = set((given.rows or "").split(",")) - {"", *ROWS}
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    if given.pairs is not None and given.pairs < 1:
        parser.error("at least one pair")
    return given


def _stop(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM ends what was started, as Ctrl-C does."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
