"""What is installed is what is here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build what a wheel would hold, from a copy of the checkout."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("dtfc", "twisted"):
        ignored = shutil.ignore_patterns("__pycache__", "dropin.cache")
        shutil.copytree(CHECKOUT / name, copy / name, ignore=ignored)
    for name in ("setup.py", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_py", "--build-lib", "built"],
        cwd=copy,
        check=True,
        capture_output=True,
    )
    return copy / "built"


def test_every_module_is_in_the_wheel(built: Path) -> None:
    here = {str(each.relative_to(CHECKOUT)) for each in (CHECKOUT / "dtfc").rglob("*.py")}
    there = {str(each.relative_to(built)) for each in (built / "dtfc").rglob("*.py")}
    assert here - there == set(), "packages in setup.cfg"


def test_the_plugin_is_in_the_wheel(built: Path) -> None:
    assert (built / "twisted/plugins/dtfc_plugin.py").exists()


def test_the_wheel_would_not_hide_twisted(built: Path) -> None:
    assert [each.name for each in (built / "twisted").rglob("__init__.py")] == []


def test_the_page_is_in_the_wheel(built: Path) -> None:
    here = {each.name for each in (CHECKOUT / "dtfc/web/page").iterdir()}
    assert {each.name for each in (built / "dtfc/web/page").iterdir()} == here
    assert "index.html" in here


def test_types_are_said_to_be_there(built: Path) -> None:
    assert (built / "dtfc/py.typed").exists()
