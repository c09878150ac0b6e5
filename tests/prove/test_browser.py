"""A slice of what a browser is made to do, and a look at whether it would be seen."""

from __future__ import annotations

import pytest

from prove import browser
from prove.chromium import Said
from prove.hostile import RAN
from tests.support.programs import require_program


def test_a_slice_of_hostile_files_and_pages(seed: int) -> None:
    require_program("chromium")
    for row in browser.look(seed, 5, 3):
        print(row.name, row.cases)
        assert row.violations == 0, "\n".join(row.examples)


@pytest.mark.parametrize(
    ("where", "script", "breach"),
    [
        ("http://node:80/ab", "http://node:80/ab", True),
        ("http://other:90/1.html", "http://node:80/ab", True),
        ("http://other:90/1.html", "http://node:80/ab?name=evil.js", False),
    ],
)
def test_a_script_that_ran_is_a_breach_unless_it_was_loaded_as_one(
    where: str, script: str, *, breach: bool
) -> None:
    said = Said(f"{RAN} page.html {where}", script)
    assert browser.is_breach(said, 80) is breach


def test_nor_is_one_that_was_stored_under_the_name_of_a_script() -> None:
    said = Said(f"{RAN} code.js http://other:90/1.html", "http://node:80/ab")
    assert not browser.is_breach(said, 80, frozenset({"ab"}))
    assert browser.is_breach(said, 80, frozenset({"cd"}))
