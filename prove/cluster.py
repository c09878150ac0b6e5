"""Thousands of stories of whole nodes in a test tube (``simulate``), and that it can fail."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

from prove.figures import Row

#: Stories, and steps of each.
SEEDS, STEPS = 5000, 200

#: A seed that broke a promise, in what the rig prints.
_BROKEN = re.compile(r"^(SEED .*|  again: .*)$", re.MULTILINE)


def prove(seed: int, share: float) -> list[Row]:
    """Tell them.

    Args:
        seed: the first one.
        share: how many of all.
    """
    seeds = max(1, int(SEEDS * share))
    jobs = str(os.cpu_count() or 1)
    story, printed = _simulated(
        "cluster", "--seed", str(seed), "--seeds", str(seeds), "--steps", str(STEPS), "--jobs", jobs
    )
    broken, all_ways = _simulated("broken")
    absent, costs = _simulated("absent")
    pace = f"{story['seeds'] / story['seconds']:.1f} seeds/s"
    return [
        Row(
            "a cluster in a test tube",
            f"{story['seeds']} seeds of {STEPS} steps, {story['events']} events, {pace}",
            story["broken"],
            story["seconds"],
            seed,
            _BROKEN.findall(printed),
        ),
        Row(
            "what is broken on purpose is noticed",
            f"{len(broken['noticed'])} ways, within {max(broken['noticed'].values())} seeds",
            all_ways.count("NOT NOTICED"),
            0.0,
        ),
        Row(
            "what nobody has, ring and mesh of 5",
            f"{absent['ring']['requests']} and {absent['mesh']['requests']} requests between nodes",
            0 if absent["status"] == 0 else 1,
            0.0,
            examples=[] if absent["status"] == 0 else [costs],
        ),
    ]


def _simulated(*arguments: str) -> tuple[dict[str, Any], str]:
    """Run the rig; return its figures, with its exit status, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "simulate", *arguments, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    if not lines or not lines[-1].startswith("{"):
        raise RuntimeError(f"the rig ended with {done.returncode}: {done.stderr}")
    return {**json.loads(lines[-1]), "status": done.returncode}, done.stdout
