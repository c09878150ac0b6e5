"""The manual pages: what is made of the program is up to date, and programs find nothing amiss."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dtfc.cli.grammar import grammar
from dtfc.cli.main import make_parser
from dtfc.cli.manual import PAGES, main, spliced
from dtfc.settings.table import TABLE
from tests.support.programs import require_program

FOLDER = Path(__file__).resolve().parents[2] / "man"

pages = pytest.mark.parametrize("name", sorted(PAGES))


@pages
def test_a_page_is_up_to_date(name: str) -> None:
    page = (FOLDER / name).read_text()
    assert page == spliced(page, PAGES[name]()), "make docs"


@pages
def test_mandoc_finds_nothing(name: str) -> None:
    told = subprocess.run(
        [require_program("mandoc"), "-Tlint", str(FOLDER / name)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    # It looks for pages that are referred to among those of the system.
    assert [line for line in told if "referenced manual not found: Xr dtfc" not in line] == []


@pages
def test_man_warns_of_nothing(name: str) -> None:
    told = subprocess.run(
        [
            *(require_program("man"), "--warnings", "-E", "UTF-8", "-l"),
            "-Tutf8",
            "-Z",
            FOLDER / name,
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANROFFSEQ": ""},
    )
    assert told.stderr == ""


def test_every_subcommand_is_there() -> None:
    page = (FOLDER / "dtfc.1").read_text()
    every = [each for each in grammar(make_parser()).all() if not each.commands]
    assert [each.words for each in every if f".Ss {' '.join(each.words[1:])}\n" not in page] == []


def test_every_flag_of_the_daemon_is_there() -> None:
    page = (FOLDER / "dtfc.8").read_text()
    assert [each.name for each in TABLE if f"Fl -{each.name}" not in page] == []


def test_every_setting_of_the_file_is_there() -> None:
    page = (FOLDER / "dtfc.conf.5").read_text()
    inside = [each.name for each in TABLE if each.in_file]
    assert [name for name in inside if f".It Cm {name} No" not in page] == []


def test_a_folder_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "FOLDER" in capsys.readouterr().err
