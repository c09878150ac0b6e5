"""The machine and the versions that a figure belongs to."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version

from bench.tools import CHECKOUT, Missing, program


def facts(folder: str) -> dict[str, str]:
    """Return what a reader of the figures must know, in the order of reading.

    Args:
        folder: on the file system that was measured.
    """
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "disk": file_system(folder),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "twisted": version("Twisted"),
        "nginx": _said("nginx", "-v"),
        "openssl": _said("openssl", "version"),
    }


def file_system(folder: str, mounts: str = "/proc/self/mounts", jbd2: str = "/proc/fs/jbd2") -> str:
    """Return what a folder lies on, for example ``ext4, no journal (rw,relatime,discard)``.

    Small files depend on it more than on anything else: ext4 without a journal
    looks for an inode that was not deleted lately, one by one.
    """
    path = os.path.realpath(folder)
    found = ("", "", "unknown", "")
    try:
        with open(mounts, encoding="utf-8") as file:
            for line in file:
                device, point, kind, options = line.split()[:4]
                inside = point in ("/", path) or path.startswith(point + "/")
                if inside and len(point) >= len(found[1]):
                    found = (device, point, kind, options)
    except OSError:
        return "unknown"
    device, _, kind, options = found
    if kind == "ext4":
        name = os.path.basename(os.path.realpath(device))
        held = os.listdir(jbd2) if os.path.isdir(jbd2) else []
        journal = any(re.fullmatch(rf"{re.escape(name)}-\d+", each) for each in held)
        kind += "" if journal else ", no journal"
    return f"{kind} ({options})"


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            found = re.search(r"^model name\s*: (.*)$", file.read(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.machine()


def _said(name: str, flag: str) -> str:
    try:
        done = subprocess.run([program(name), flag], capture_output=True, text=True, check=False)
    except Missing:
        return "not installed"
    found = re.search(r"\d+(\.\d+)+\w*", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def _commit() -> str:
    git = ["git", "-C", CHECKOUT, "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
