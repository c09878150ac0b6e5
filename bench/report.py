"""The figures as a table, as JSON, and as the page in docs/."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.compare import Row

_HEADINGS = ("row", "work", "dtfc", "peer", "unit", "ratio", "pairs: low to high", "target", "")
_MET = {True: "met", False: "MISSED", None: ""}

PAGE = """# Measurements

Written by `make bench ARGS=--write-docs`. dtfc and its peers run side by side in one run, by
turns (A B A B …); `dtfc` and `peer` are medians, `ratio` is the median of the ratios of the
pairs, so that what the machine does to both sides drops out. A row without a target is reported
only.

{facts}

{table}

{notes}
## How it is measured

- Servers listen on loopback. In the rows where one process serves (1 to 5, 12, 13) the server
  has CPU 0 and the load generator CPU 1, for both sides alike; elsewhere all share all CPUs.
- `bench/pull.c` makes the load: keep-alive connections, one request at a time on each. It drops
  bodies in the kernel (`MSG_TRUNC`) and checks every answer's status and length; any wrong
  answer voids the row.
- Both sides serve the same inode: nginx has a hard link to the blob's file. What each sends is
  compared with the file before the measurement begins.
- nginx has one worker, sendfile, its access log on, and `tcp_nopush` in all rows but 3 and 5,
  where it is faster without (on loopback 64 KiB are a little more than a segment: corked, nginx
  waits 40 ms for a delayed acknowledgement). Row 4b adds `open_file_cache`.
- dtfc has its default store (the full split) except where `--fan-out 2` is named, and its access
  log on.
- PUT (6): the file is random, changed before every pair, and in the page cache for both sides.
  The time runs until the answer, which dtfc gives when the blob is durable. `openssl dgst`
  writes nothing; what the disk alone takes stands in the notes. A virtual machine may get its
  memory page by page as it is first touched, and lose what is free for two seconds: there, what
  a PUT needs is touched just before it, for both sides alike (`bench/memory.py`).
- Small PUTs (7, 8): every body is new. The loop beside them has one thread, one flat folder and
  no hashing. What was stored is kept until the end of the run: an ext4 without a journal looks at
  each inode that was freed within the last minutes before it takes another one. So let five
  minutes pass between two runs there.
- TLS (12): the receiver drops the enciphered bytes, so that deciphering is not measured.
- SeaweedFS (14) has its own defaults, which do not fsync; sender and receiver are the same.
"""


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a table for a terminal."""
    lines = [_HEADINGS, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(text)


def notes(rows: Iterable[Row]) -> str:
    """Return what has to be said beside the table."""
    return "\n".join(f"- {row.key}: {row.note}" for row in rows if row.note)


def markdown(rows: Sequence[Row], facts: Mapping[str, str], run: str) -> str:
    """Return the page for docs/."""
    lines = [_HEADINGS, *map(_cells, rows)]
    cells = ["| " + " | ".join(line) + " |" for line in lines]
    cells.insert(1, "|" + "---|" * len(_HEADINGS))
    told = [f"- {name}: {value}" for name, value in facts.items()]
    told.append(f"- run: {run}")
    said = notes(rows)
    return PAGE.format(
        facts="\n".join(told),
        table="\n".join(cells),
        notes=f"{said}\n" if said else "",
    )


def as_json(rows: Iterable[Row], facts: Mapping[str, str], run: str) -> str:
    """Return everything that was measured."""
    told = [
        asdict(row)
        | {
            "ours_median": row.ours_median,
            "theirs_median": row.theirs_median,
            "ratio": row.ratio,
            "met": row.met,
        }
        for row in rows
    ]
    value: dict[str, Any] = {"machine": dict(facts), "run": run, "rows": told}
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    ratios = row.ratios
    target = ""
    if row.target:
        target = f"{row.target.sense} {row.target.value:g}"
        target += " of the peer" if row.target.of == "ratio" else f" {row.unit}"
    peer = _figure(row.theirs_median)
    return (
        row.key,
        row.title,
        _figure(row.ours_median),
        f"{peer} ({row.peer})" if peer and row.peer else peer,
        row.unit,
        f"{row.ratio:.2f}" if row.ratio is not None else "",
        f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else "",
        target,
        _MET[row.met],
    )


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
