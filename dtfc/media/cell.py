"""Builds walls around itself, one after the other, and becomes ffprobe inside them.

Rules of this file: run as a program of its own (``python -I -S cell.py PROGRAM
MEMORY SECONDS ARGUMENT...``), so it imports nothing of ours, and is gone when
ffprobe runs. The file to be looked at is descriptor 0. A wall that the kernel
does not have, or that whoever started us forbids, is left out: the first line on
standard error says which stand. Limits are no walls; they always hold.

Discussion. ffprobe reads what strangers made with half a million lines of C, so
it is taken for hostile from its first byte on. What it could want, and what
stands against each:

    another file        Landlock: it may read its own libraries, and descriptor 0
    the network         a network of its own with nothing in it; no sockets (seccomp)
    this node           a user of its own, without a right to anything; no ptrace
    all of the memory,  limits on memory, processor time, files, and how large a
    time or disk        file may be (0); whoever started us kills it in time
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys

_libc = ctypes.CDLL(None, use_errno=True)

# See prctl(2).
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2

# See unshare(2).
_NAMESPACES = {
    "user": 0x10000000,
    "net": 0x40000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
}

# See landlock(7).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_FS_EXECUTE, _FS_READ_FILE, _FS_READ_DIR = 1, 4, 8
_FS_BY_ABI = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}
_FS_NEWEST = 0xFFFF
_NET_BOTH = 3
_NET_SINCE = 4

#: What a program and its libraries are read from.
_LIBRARIES = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives", "/nix/store")

# Calls that nothing which reads a file needs: numbers on x86-64, and elsewhere. Those on
# other processes, too: in a user namespace of its own it still has our user's number,
# and so it could end or starve this node; and nothing leaves the group that is killed.
_X86 = {
    "socket": 41,
    "connect": 42,
    "accept": 43,
    "sendto": 44,
    "bind": 49,
    "listen": 50,
    "socketpair": 53,
    "fork": 57,
    "vfork": 58,
    "kill": 62,
    "ptrace": 101,
    "setpgid": 109,
    "setsid": 112,
    "rt_sigqueueinfo": 129,
    "setpriority": 141,
    "sched_setparam": 142,
    "sched_setscheduler": 144,
    "pivot_root": 155,
    "chroot": 161,
    "mount": 165,
    "umount2": 166,
    "init_module": 175,
    "tkill": 200,
    "sched_setaffinity": 203,
    "tgkill": 234,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "ioprio_set": 251,
    "unshare": 272,
    "rt_tgsigqueueinfo": 297,
    "perf_event_open": 298,
    "setns": 308,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "sched_setattr": 314,
    "bpf": 321,
    "userfaultfd": 323,
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "pidfd_open": 434,
    "pidfd_getfd": 438,
}
_ARM = {
    "socket": 198,
    "socketpair": 199,
    "bind": 200,
    "listen": 201,
    "accept": 202,
    "connect": 203,
    "sendto": 206,
    "ptrace": 117,
    "ioprio_set": 30,
    "sched_setparam": 118,
    "sched_setscheduler": 119,
    "sched_setaffinity": 122,
    "kill": 129,
    "tkill": 130,
    "tgkill": 131,
    "rt_sigqueueinfo": 138,
    "setpriority": 140,
    "setpgid": 154,
    "setsid": 157,
    "rt_tgsigqueueinfo": 240,
    "sched_setattr": 274,
    "pivot_root": 41,
    "chroot": 51,
    "mount": 40,
    "umount2": 39,
    "init_module": 105,
    "add_key": 217,
    "request_key": 218,
    "keyctl": 219,
    "unshare": 97,
    "perf_event_open": 241,
    "setns": 268,
    "process_vm_readv": 270,
    "process_vm_writev": 271,
    "bpf": 280,
    "userfaultfd": 282,
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "pidfd_open": 434,
    "pidfd_getfd": 438,
}
# Refused for other processes; its own limits a program may look at.
_PRLIMIT = {"x86_64": 302, "aarch64": 261}
_CALLS = {"x86_64": (0xC000003E, _X86), "aarch64": (0xC00000B7, _ARM)}

# seccomp(2), and the classic BPF that it takes
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000
_X32 = 0x40000000


def limit(memory: int, seconds: int) -> None:
    """Bound what this process may use, whatever becomes of it.

    Args:
        memory: bytes of address space.
        seconds: of processor time.
    """
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 32),
    ):
        hard = resource.getrlimit(what)[1]
        lowest = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (lowest, lowest))


def leave_namespaces() -> list[str]:
    """Have a user, a network and more of our own; return what came of it."""
    every = 0
    for flag in _NAMESPACES.values():
        every |= flag
    if _libc.unshare(every) == 0:
        return sorted(_NAMESPACES)
    # Without a user namespace the others are for root alone.
    without_user = every & ~_NAMESPACES["user"]
    return ["ipc", "net", "uts"] if _libc.unshare(without_user) == 0 else []


def lock_land(program: str) -> list[str]:
    """Read nothing but libraries and descriptor 0; return what came of it."""
    abi = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if abi < 1:
        return []
    handled = _FS_BY_ABI.get(abi, _FS_NEWEST)
    attributes = struct.pack("=QQ", handled, _NET_BOTH if abi >= _NET_SINCE else 0)
    size = 16 if abi >= _NET_SINCE else 8
    rules = _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    if rules < 0:
        return []
    readable = _FS_EXECUTE | _FS_READ_FILE | _FS_READ_DIR
    for path in (*_LIBRARIES, os.path.dirname(program)):
        try:
            beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rights = readable if os.path.isdir(path) else _FS_READ_FILE
        _libc.syscall(_ADD_RULE, rules, 1, struct.pack("=Qi", rights, beneath), 0)
        os.close(beneath)
    _libc.syscall(_ADD_RULE, rules, 1, struct.pack("=Qi", _FS_READ_FILE, 0), 0)
    # /proc/self/fd/0 leads there; what else is in /proc stays shut.
    if _libc.syscall(_RESTRICT_SELF, rules, 0) != 0:
        return []
    os.close(rules)
    return ["landlock"]


def refuse_calls() -> list[str]:
    """Have the kernel refuse calls that lead out; return what came of it."""
    known = _CALLS.get(platform.machine())
    if known is None:
        return []
    architecture, calls = known
    numbers = sorted(calls.values())
    program = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)]
    program += [(_LOAD, 0, 0, 0), (_AT_LEAST, len(numbers) + 6, 0, _X32)]
    # The first argument is a process; 0 means itself.
    program += [(_EQUAL, 0, 4, _PRLIMIT[platform.machine()]), (_LOAD, 0, 0, 16)]
    program += [(_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    for at, number in enumerate(numbers):
        program.append((_EQUAL, len(numbers) - at, 0, number))
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    raw = b"".join(struct.pack("=HBBI", *each) for each in program)
    buffer = ctypes.create_string_buffer(raw)
    described = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    done = _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, described, 0, 0)
    return ["seccomp"] if done == 0 else []


def main(arguments: list[str]) -> None:
    """Build the walls, and become the program."""
    program, memory, seconds, *rest = arguments
    parent = os.getppid()
    os.setsid()
    os.closerange(3, 1024)
    os.chdir("/")
    os.umask(0o777)
    walls = leave_namespaces()
    # A new user forgets it, so not before: whoever started us takes us along.
    _libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
    if os.getppid() != parent:
        return
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    limit(int(memory), int(seconds))
    walls += lock_land(os.path.realpath(program))
    walls += refuse_calls()
    os.write(2, f"walls {' '.join(walls) or 'none'}\n".encode("ascii"))
    environment = {"LANG": "C", "PATH": "/usr/bin:/bin"}
    os.execve(program, [program, *rest], environment)  # noqa: S606 -- no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
