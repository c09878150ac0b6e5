"""``dtfc`` as its users start it: a process of its own, in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]

COMMAND = [sys.executable, "-m", "dtfc.cli.main"]


class Command:
    """What ``dtfc`` is started with.

    Args:
        folder: where it runs, and where its state and its home are.
        **more: variables of its environment.
    """

    def __init__(self, folder: Path, **more: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DTFC_")},
            "PYTHONPATH": str(CHECKOUT),
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            **more,
        }

    def run(self, *arguments: str, feed: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment,
            input=feed,
            capture_output=True,
            timeout=120,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Begin; whoever starts it waits for its end."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def told(self, *arguments: str) -> list[dict[str, Any]]:
        """Run it with ``--json``; return the objects that it printed."""
        done = self.run(*arguments, "--json")
        return [json.loads(line) for line in done.stdout.splitlines()]
