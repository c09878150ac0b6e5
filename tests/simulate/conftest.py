"""The rig as a program: it changes its whole process, so it never runs in the tests' own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HOUSE = Path(__file__).parents[2]


@pytest.fixture
def simulate() -> Callable[..., tuple[int, str, dict[str, Any]]]:
    """Run the rig; return its status, what it printed, and its figures."""

    def run(*arguments: str) -> tuple[int, str, dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-m", "simulate", *arguments, "--json"],
            cwd=HOUSE,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        lines = done.stdout.splitlines()
        figures = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
        return done.returncode, done.stdout + done.stderr, figures

    return run
