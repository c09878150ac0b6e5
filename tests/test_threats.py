"""The page about threats names tests that exist, and a test for each threat."""

from __future__ import annotations

import ast
import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
ROWS = [
    line
    for line in (CHECKOUT / "docs/threats.md").read_text().splitlines()
    if re.match(r"\| [0-9]+ \|", line)
]


def test_each_threat_has_a_counter_and_a_test() -> None:
    assert [int(row.split("|")[1]) for row in ROWS] == list(range(1, len(ROWS) + 1))
    assert len(ROWS) >= 23
    for row in ROWS:
        _, _, tried, counter, shown, _ = row.split("|")
        assert tried.strip()
        assert counter.strip()
        assert "`tests/" in shown


def test_each_test_that_is_named_exists() -> None:
    named = [name for row in ROWS for name in re.findall(r"`(tests/[^`]+)`", row)]
    assert [name for name in named if not _exists(name)] == []


def _exists(name: str) -> bool:
    path, *parts = name.split("::")
    file = CHECKOUT / path
    if not file.is_file():
        return False
    found: list[ast.stmt] = ast.parse(file.read_text()).body
    for part in parts:
        inside = [each for each in found if getattr(each, "name", "") == part]
        if not inside:
            return False
        found = getattr(inside[0], "body", [])
    return True
