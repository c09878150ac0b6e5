"""systemd itself, as process 1 of a root in namespaces of its own."""

from __future__ import annotations

import os
import subprocess
import time

from prove.roots import Root

_TARGET = "dtfc-proof.target"

# What is a machine's affair, and not a service's.
_MASKED = (
    *("systemd-sysctl.service", "systemd-modules-load.service", "systemd-udevd.service"),
    *("systemd-udev-trigger.service", "systemd-random-seed.service", "systemd-binfmt.service"),
    *("systemd-remount-fs.service", "systemd-tmpfiles-setup-dev.service"),
    *("systemd-timesyncd.service", "systemd-journald-audit.socket", "systemd-logind.service"),
    *("proc-sys-fs-binfmt_misc.automount", "console-getty.service", "getty@tty1.service"),
)

_BOOT = """
set -eu
echo $$ > {group}/cgroup.procs
exec unshare --cgroup --pid --mount --uts --ipc --fork --kill-child sh -euc '
mount --make-rprivate /
cd {root}
mount --bind . .
cd {root}
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs sys
mkdir -p sys/fs/cgroup
mount -t cgroup2 none sys/fs/cgroup
pivot_root . mnt
umount -l /mnt
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
    /lib/systemd/systemd --unit={target} --log-target=journal --show-status=false'
"""


def cgroups() -> str:
    """Return where the cgroups of version 2 are mounted; empty if they are not."""
    with open("/proc/mounts", encoding="utf-8") as file:
        found = [line.split() for line in file]
    return next((each[1] for each in found if each[2] == "cgroup2"), "")


class Booted:
    """A root whose process 1 is systemd.

    Args:
        root: has systemd installed; nothing else runs in it.
        wanted: units that are started at once.
    """

    def __init__(self, root: Root, wanted: str) -> None:
        units = f"{root.folder}/etc/systemd/system"
        for name in _MASKED:
            if not os.path.lexists(f"{units}/{name}"):
                os.symlink("/dev/null", f"{units}/{name}")
        with open(f"{units}/{_TARGET}", "w", encoding="ascii") as file:
            file.write(f"[Unit]\nWants={wanted}\n")
        self._group = f"{cgroups()}/dtfc-proof-{os.getpid()}"
        os.mkdir(self._group)
        script = _BOOT.format(group=self._group, root=root.folder, target=_TARGET)
        self._outer = subprocess.Popen(["sh", "-c", script])
        self._root = root
        end = time.monotonic() + 60
        while not self._first():
            if self._outer.poll() is not None or time.monotonic() > end:
                raise RuntimeError("systemd did not start")
            time.sleep(0.1)

    def _first(self) -> int:
        """Return the process id of systemd, as it is out here; 0 before it runs."""
        path = f"/proc/{self._outer.pid}/task/{self._outer.pid}/children"
        with open(path, encoding="ascii") as file:
            children = file.read().split()
        for child in children:
            with open(f"/proc/{child}/comm", encoding="ascii") as file:
                if file.read().strip() == "systemd":
                    return int(child)
        return 0

    def run(self, script: str, timeout: float = 600) -> str:
        """Run a script beside systemd, and return what it wrote.

        Raises:
            RuntimeError: with what it wrote, if it failed.
        """
        enter = ["nsenter", "-t", str(self._first()), "-r", "-w", "-m", "-p", "-i", "-u", "-C"]
        return self._root.within(enter, script, timeout)

    def end(self) -> None:
        """End systemd, and with it all that runs there."""
        self._outer.kill()
        self._outer.wait()
        for _ in range(100):
            try:
                _remove(self._group)
            except OSError:
                time.sleep(0.1)
            else:
                return


def _remove(group: str) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        os.rmdir(folder)
