"""Programs that a test needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def require_program(name: str) -> str:
    """Return the path of a program, or skip the test with a reason that names it.

    With ``DTFC_REQUIRE_ALL=1`` a missing program is a failure instead.
    """
    # Debian keeps daemons out of an ordinary user's way.
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return path if path is not None else _missing(name)


def require_npm_package(name: str) -> str:
    """Return the folder for ``NODE_PATH`` that has a package of npm, or skip the test likewise."""
    npm = require_program("npm")
    told = subprocess.run(
        [npm, "root", "--global"], capture_output=True, text=True, timeout=60, check=True
    )
    folder = told.stdout.strip()
    return folder if (Path(folder) / name).is_dir() else _missing(f"npm's package {name}")


def _missing(name: str) -> str:
    if os.environ.get("DTFC_REQUIRE_ALL") == "1":
        pytest.fail(f"{name} is not installed and DTFC_REQUIRE_ALL=1", pytrace=False)
    pytest.skip(reason=f"{name} is not installed")
