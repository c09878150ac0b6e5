"""Numbers as people read them, in Python and in the page's scripts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from dtfc.web.words import amount, spell
from tests.support.programs import require_program

PAGE = Path(__file__).resolve().parents[2] / "dtfc/web/page"

AMOUNTS = {
    0: "0 B",
    1023: "1023 B",
    1024: "1.0 KiB",
    102_348: "99.9 KiB",
    102_399: "100 KiB",
    1_048_063: "1023 KiB",
    1_048_064: "1.0 MiB",
    3_158_073: "3.0 MiB",
    60_192_411_648: "56.1 GiB",
    2**63 - 1: "8.0 EiB",
    2**70: "1024 EiB",
}

COUNTS = {0: "0", 999: "999", 1000: "1\u202f000", 1234567: "1\u202f234\u202f567"}


@pytest.mark.parametrize(("count", "words"), AMOUNTS.items())
def test_an_amount(count: int, words: str) -> None:
    assert amount(count) == words


@pytest.mark.parametrize(("count", "words"), COUNTS.items())
def test_a_number(count: int, words: str) -> None:
    assert spell(count) == words


def run(script: str) -> object:
    """Return what a module script says, run by Node.js beside the page's own."""
    done = subprocess.run(
        [require_program("node"), "--input-type=module", "-e", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_page_says_the_same() -> None:
    script = (
        f'import {{ amount, spell }} from "{PAGE}/format.js";'
        f"console.log(JSON.stringify([{json.dumps([*AMOUNTS])}.map(amount),"
        f" {json.dumps([*COUNTS])}.map(spell)]))"
    )
    assert run(script) == [[*AMOUNTS.values()], [*COUNTS.values()]]


def test_spans_of_time() -> None:
    script = (
        f'import {{ span }} from "{PAGE}/format.js";'
        "console.log(JSON.stringify([0, 59.4, 60, 3599, 3600, 90000].map(span)))"
    )
    assert run(script) == ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "1 d 1 h"]


def test_the_whole_is_there_only_when_nothing_is_missing() -> None:
    script = (
        f'import {{ percent }} from "{PAGE}/format.js";'
        "console.log(JSON.stringify([[0, 10], [999, 1000], [10, 10], [0, 0]]"
        ".map(each => percent(...each))))"
    )
    assert run(script) == [0, 99, 100, 100]


def test_an_axis_ends_at_a_round_number() -> None:
    script = (
        f'import {{ ceiling }} from "{PAGE}/charts.js";'
        "console.log(JSON.stringify([0, 2, 3, 6, 11, 21, 150].map(each => ceiling(each))"
        ".concat([0, 1025, 3e6].map(each => ceiling(each, 1024)))))"
    )
    assert run(script) == [2, 2, 5, 10, 20, 50, 200, 1024, 2048, 4194304]
