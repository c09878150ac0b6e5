"""The examples of docs/client.md are run as they stand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from dtfc.digest import Digest
from tests.support.live import LiveNode

CHECKOUT = Path(__file__).resolve().parents[2]
HELLO = Digest.of(b"hello").hex


def examples() -> list[str]:
    """The programs in the page: what is indented and imports something first."""
    found, block = [], list[str]()
    for line in [*(CHECKOUT / "docs/client.md").read_text().splitlines(), "end"]:
        if line.startswith("    ") or (block and not line):
            block.append(line[4:])
        elif block:
            found.append("\n".join(block))
            block = []
    return [each for each in found if each.startswith("import")]


def run(program: str, node: LiveNode, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, node.url],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example(live: Callable[..., LiveNode], tmp_path: Path) -> None:
    said = run(examples()[0], live(), tmp_path)

    assert said.splitlines() == [
        f"{HELLO} 5",
        "hello.txt 5",
        "5 bytes, sha512 right",
        f"There is no such blob {{'sha512': '{HELLO}', 'deleted': True}}",
    ]


def test_the_example_with_asyncio(live: Callable[..., LiveNode], tmp_path: Path) -> None:
    assert run(examples()[1], live(), tmp_path) == "hello.txt 5\n"
