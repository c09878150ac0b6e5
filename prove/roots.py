"""A fresh Debian in a folder, entered as a container would be: its own mounts and processes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

RELEASE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
_CA = "/etc/ssl/certs/ca-certificates.crt"
_NEEDED = ("debootstrap", "unshare", "chroot")


def missing() -> str:
    """Say why no root can be made here; empty if one can."""
    if os.geteuid() != 0:
        return "only root may make a root"
    lacks = [name for name in _NEEDED if shutil.which(name, path=_path()) is None]
    return f"{lacks[0]} is not installed" if lacks else ""


class Root:
    """A Debian of the least possible size.

    Args:
        folder: where it is made; must not be there.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        _run(
            ["debootstrap", "--variant=minbase", RELEASE, folder, os.environ.get("MIRROR", MIRROR)],
            {},
            900,
        )
        # Names, and whom to trust, are this machine's affair.
        shutil.copy("/etc/resolv.conf", f"{folder}/etc/resolv.conf")
        with open(f"{folder}/etc/hosts", "w", encoding="ascii") as file:
            # As whoever makes a container writes it.
            file.write("127.0.0.1 localhost\n::1 localhost\n")
        self._more: dict[str, str] = {}
        if os.path.exists(_CA):
            shutil.copy(_CA, f"{folder}/etc/trusted-here.crt")
            self._more = {"PIP_CERT": "/etc/trusted-here.crt"}

    def run(self, script: str, timeout: float = 600) -> str:
        """Run a script in it; whatever the script has started ends with it.

        Args:
            script: for sh, which stops at the first command that fails.
            timeout: in seconds.

        Returns:
            What it wrote.

        Raises:
            RuntimeError: with what it wrote, if it failed.
        """
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        enter += [f"--mount-proc={self.folder}/proc", "chroot", self.folder]
        return self.within(enter, script, timeout)

    def within(self, enter: list[str], script: str, timeout: float) -> str:
        """Run a script in it, entered by a command of the caller's."""
        return _run([*enter, "/bin/sh", "-euc", script], self._more, timeout)

    def remove(self) -> None:
        """Take it away."""
        shutil.rmtree(self.folder)


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"


def _run(command: list[str], more: Mapping[str, str], timeout: float) -> str:
    environment = {"PATH": _path(), "HOME": "/root", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command,
        env={**environment, "DEBIAN_FRONTEND": "noninteractive", **more},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    if done.returncode:
        raise RuntimeError(f"{command[-1][:60]!r} ended with {done.returncode}: {said[-3000:]}")
    return said


def copy_checkout(into: str) -> None:
    """Copy the checkout, without what was made in it."""
    left_out = (".git", ".venv", "*.egg-info", "__pycache__", "build", "dist", "var", ".*_cache")
    shutil.copytree(os.getcwd(), into, ignore=shutil.ignore_patterns(*left_out))
