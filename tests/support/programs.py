"""Programs that a test needs."""

from __future__ import annotations

import os
import shutil

import pytest


def require_program(name: str) -> str:
    """Return the path of a program, or skip the test with a reason that names it.

    With ``DTFC_REQUIRE_ALL=1`` a missing program is a failure instead.
    """
    # Debian keeps daemons out of an ordinary user's way.
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        if os.environ.get("DTFC_REQUIRE_ALL") == "1":
            pytest.fail(f"{name} is not installed and DTFC_REQUIRE_ALL=1", pytrace=False)
        pytest.skip(reason=f"{name} is not installed")
    return path
