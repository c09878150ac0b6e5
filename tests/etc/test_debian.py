"""The Debian package's own files: what the programs that read them say, before it is built.

That it can be built, installed, used, removed and purged, ``python -m prove --only
debian`` shows.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import dtfc
from tests.support.live import CHECKOUT
from tests.support.programs import require_program

DEBIAN = CHECKOUT / "debian"
WORST_EXPOSURE = 1.5


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as the package has them."""
    subprocess.run([DEBIAN / "make-units", tmp_path], cwd=CHECKOUT, check=True)
    return tmp_path


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_its_version_is_the_programs() -> None:
    first = (DEBIAN / "changelog").read_text().splitlines()[0]
    match = re.match(r"dtfc \((.+)\) ", first)
    assert match is not None
    assert match[1].replace("~", ".") == dtfc.__version__


def test_the_service_starts_what_the_package_installs(units: Path) -> None:
    service = (units / "dtfc.service").read_text()
    assert "ExecStart=/usr/sbin/dtfc-daemon --config /etc/dtfc/dtfc.toml --log -\n" in service
    assert "\nUser=dtfc\n" in service
    assert "=/opt/dtfc" not in service
    assert "\nDynamicUser" not in service


def test_nothing_else_of_the_unit_has_changed(units: Path) -> None:
    """Walls that are in one are in the other."""
    ours = set((units / "dtfc.service").read_text().splitlines())
    theirs = (CHECKOUT / "etc/dtfc.service").read_text().splitlines()
    settings = {line for line in theirs if "=" in line and not line.startswith("#")}
    assert {line.partition("=")[0] for line in settings - ours} == {"ExecStart", "DynamicUser"}


def test_systemd_takes_the_units(units: Path) -> None:
    systemd_analyze = require_program("systemd-analyze")
    service = units / "dtfc.service"
    there = shutil.which("true") or ""
    text = service.read_text().replace("/usr/sbin/dtfc-daemon", there)
    # systemd asks whether the user is there, which the package makes.
    service.write_text(text.replace("=dtfc\n", "=daemon\n", 2))
    verified = run(systemd_analyze, "verify", "--man=no", str(service), str(units / "dtfc.socket"))
    assert verified.returncode == 0, verified.stderr
    assert [line for line in verified.stderr.splitlines() if "dtfc." in line] == []


def test_the_service_is_exposed_to_little(units: Path) -> None:
    systemd_analyze = require_program("systemd-analyze")
    scored = run(systemd_analyze, "security", "--offline=true", str(units / "dtfc.service"))
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", scored.stdout)
    assert match is not None, scored.stderr
    assert float(match[1]) <= WORST_EXPOSURE


def test_the_log_is_its_users(units: Path) -> None:
    assert "    create 0640 dtfc dtfc\n" in (units / "logrotate").read_text()


@pytest.mark.parametrize("name", ["dtfc.postinst", "dtfc.prerm", "dtfc.postrm", "make-units"])
def test_a_script_parses(name: str) -> None:
    checked = run("sh", "-n", str(DEBIAN / name))
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("name", ["rules", "make-units", "dtfc.py", "dtfc-daemon.py"])
def test_what_is_run_can_be_run(name: str) -> None:
    assert os.access(DEBIAN / name, os.X_OK)


@pytest.mark.parametrize("name", ["manpages", "docs", "examples"])
def test_what_is_installed_is_there(name: str) -> None:
    listed = (DEBIAN / f"dtfc.{name}").read_text().split()
    assert [path for path in listed if not (CHECKOUT / path).exists()] == []


def test_every_exception_from_lintian_has_a_reason() -> None:
    """A comment stands above each group of them."""
    lines = (DEBIAN / "dtfc.lintian-overrides").read_text().splitlines()
    assert lines[0].startswith("# ")
    assert len([line for line in lines if line.startswith("# ")]) >= 4
