"""A daemon behind the walls that a systemd unit asks for, where no systemd runs.

What of the unit can be had without it is taken from the unit's own lines: the system
calls (by libseccomp, as systemd does), families of sockets, no namespaces, no
capabilities, no new privileges, and a file system of which only the state folder can
be written.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from tests.support.live import LiveNode
from tests.support.programs import require_program

#: Runs in the daemon, before everything else. It is told the calls and the families.
_PRELUDE = """
import ctypes, json, socket
calls, families = json.loads({told!r})
lib = ctypes.CDLL("libseccomp.so.2")
lib.seccomp_init.restype = ctypes.c_void_p
lib.seccomp_rule_add_array.argtypes = [
    ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
lib.seccomp_load.argtypes = [ctypes.c_void_p]
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int),
                ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]
filter = lib.seccomp_init(ERRNO | 1)
def number(name):
    return lib.seccomp_syscall_resolve_name(name.encode())
for name in calls:
    if name not in ("socket", "unshare", "setns") and number(name) >= 0:
        lib.seccomp_rule_add_array(filter, ALLOW, number(name), 0, None)
for family in range(46):
    allowed = any(getattr(socket, each, -1) == family for each in families)
    rule = Compare(0, 4, family, 0)
    lib.seccomp_rule_add_array(
        filter, ALLOW if allowed else ERRNO | 97, number("socket"), 1, ctypes.byref(rule))
assert lib.seccomp_load(filter) == 0
del filter, lib
"""


def settings_of(unit: Path) -> dict[str, list[str]]:
    """Return the values of each setting of a unit, in order."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def calls_of(filters: list[str]) -> set[str]:
    """Return the system calls that the lines of SystemCallFilter= leave."""
    allowed: set[str] = set()
    for line in filters:
        names = {each for word in line.removeprefix("~").split() for each in _expanded(word)}
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


def _expanded(word: str) -> set[str]:
    if not word.startswith("@"):
        return {word}
    told = subprocess.run(
        [require_program("systemd-analyze"), "syscall-filter", word],
        capture_output=True,
        text=True,
        check=True,
    )
    names = [line.strip() for line in told.stdout.splitlines()[1:]]
    return {each for name in names if name and name[0] != "#" for each in _expanded(name)}


def confine(node: LiveNode, unit: Path) -> None:
    """Let a node that is not started yet run as the unit says."""
    settings = settings_of(unit)
    assert settings["ProtectSystem"] == ["strict"]
    assert settings["CapabilityBoundingSet"] == [""]
    assert settings["NoNewPrivileges"] == ["yes"]
    families = settings["RestrictAddressFamilies"][0].split()
    told = json.dumps([sorted(calls_of(settings["SystemCallFilter"])), families])
    node.prelude = _PRELUDE.format(told=told)
    # The state folder on a mount of its own, then everything else read-only.
    script = (
        f"mount --make-rprivate / && mount --bind {node.folder} {node.folder} && "
        f"mount -o remount,bind,ro / && cd {node.folder} && "
        f'exec {shutil.which("setpriv")} --no-new-privs --bounding-set=-all --inh-caps=-all "$@"'
    )
    node.wrapper = [require_program("unshare"), "--mount", "sh", "-c", script, "sh"]
