"""Who the process is, and what must be ready before it stops being root.

Rules of this file: root is refused unless it is asked for. Folders and files
that are made while the process is still root are given to the user that it
becomes; what somebody else made is never given away.
"""

from __future__ import annotations

import errno
import os
import pwd
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from grp import getgrnam

from dtfc.daemon.cannot_start import CannotStart
from dtfc.errors import BadSetting
from dtfc.settings import Loaded

ROOT = 0

#: The most open files that macOS grants a process by itself.
OPEN_MAX = 10240

# What mkfs leaves in a new file system: that of Linux, and that of FreeBSD.
_OF_MKFS = {"lost+found", ".snap"}
ROOT_REFUSED = (
    "nothing in it needs to; name a user with twistd's --uid (twistd --uid nobody dtfc) or "
    "dtfc's own (twistd dtfc --uid nobody), or insist with --allow-root"
)


@dataclass(frozen=True, slots=True)
class Identity:
    """The user that the process becomes once its ports are bound.

    Args:
        uid: number of a user that exists.
        gid: number of the group.
    """

    uid: int
    gid: int

    @property
    def name(self) -> str:
        """The user's name."""
        return pwd.getpwuid(self.uid).pw_name


def choose_identity(
    loaded: Loaded, twistd_uid: int | None, twistd_gid: int | None, euid: int
) -> Identity | None:
    """Decide who to become; ``None`` to stay who we are.

    Args:
        loaded: dtfc's own uid, gid and allow-root.
        twistd_uid: twistd's ``--uid``.
        twistd_gid: twistd's ``--gid``.
        euid: who we are.

    Raises:
        BadSetting: there is no such user or group, the two disagree, only root
            could do it, or it is root and was not asked for.
    """
    uid = _agreed(loaded, "uid", loaded.settings.uid, twistd_uid)
    if uid in (None, ROOT):
        if euid == ROOT and not loaded.settings.allow_root:
            raise BadSetting("it does not run as root", ROOT_REFUSED)
        return None
    if euid == uid:
        return None
    if euid != ROOT:
        raise loaded.problem("uid", f"only root can become user {uid}; this is user {euid}")
    try:
        own_group = pwd.getpwuid(uid).pw_gid
    except KeyError:
        raise loaded.problem("uid", f"there is no user {uid}") from None
    gid = _agreed(loaded, "gid", loaded.settings.gid, twistd_gid)
    return Identity(uid, own_group if gid is None else gid)


def _agreed(loaded: Loaded, name: str, given: str | None, twistd: int | None) -> int | None:
    """Return the number that dtfc's or twistd's flag, or both, name."""
    if given is None:
        return twistd
    number = int(given) if given.isdecimal() else _NUMBER_OF[name](loaded, given)
    if twistd not in (None, number):
        raise loaded.problem(name, f"is {number}, but twistd's --{name} is {twistd}")
    return number


def _user(loaded: Loaded, given: str) -> int:
    try:
        return pwd.getpwnam(given).pw_uid
    except KeyError:
        raise loaded.problem("uid", f"there is no user {given!r}") from None


def _group(loaded: Loaded, given: str) -> int:
    try:
        return getgrnam(given).gr_gid
    except KeyError:
        raise loaded.problem("gid", f"there is no group {given!r}") from None


_NUMBER_OF = {"uid": _user, "gid": _group}


def prepare_folder(path: str, identity: Identity | None, flag: str) -> None:
    """Make a folder that the daemon will write in, and see that it will be able to.

    Args:
        path: absolute.
        identity: who will write there; ``None`` for who we are.
        flag: the setting that names the folder.

    Raises:
        CannotStart: it cannot be made or written in.
    """
    try:
        made = _make_folders(path, passable=identity is not None)
        if identity is not None and (made or _is_fresh(path)):
            os.chown(path, identity.uid, identity.gid)
    except OSError as error:
        raise CannotStart(f"--{flag} {path}: {error.strerror}") from error
    with _acting_as(identity):
        usable = os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True)
    if not usable:
        who = f"user {identity.name}" if identity else f"user {os.geteuid()}"
        raise CannotStart(
            f"--{flag} {path}: {who} cannot write there; "
            "give another, or chown it and what is in it"
        )


def prepare_file(path: str, identity: Identity | None, flag: str) -> None:
    """Make the folder of a file, and the file, if they are missing.

    Raises:
        CannotStart: one of them cannot be made.
    """
    folder = os.path.dirname(path)
    try:
        made = _make_folders(folder, passable=identity is not None)
        if made and identity is not None:
            os.chown(folder, identity.uid, identity.gid)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        except FileExistsError:
            return
        try:
            if identity is not None:
                os.fchown(fd, identity.uid, identity.gid)
        finally:
            os.close(fd)
    except OSError as error:
        raise CannotStart(f"--{flag} {path}: {error.strerror}") from error


def raise_descriptor_limit() -> int:
    """Take as many open files as the system grants; return how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS begins with 256 and says that there is no end, but refuses that.
    for wanted in (hard, max(soft, OPEN_MAX)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            continue
        return wanted
    return soft


def _make_folders(path: str, *, passable: bool) -> bool:
    """Make a folder (0700) and what is missing above it; ``False`` if it was there.

    Args:
        path: absolute.
        passable: folders that had to be made above it become 0755, whatever the
            umask: the user that the daemon becomes must be able to pass.
    """
    try:
        os.mkdir(path, 0o700)
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if _make_folders(parent, passable=passable) and passable:
            os.chmod(parent, 0o755)  # noqa: S103 - as /srv and /var/lib are
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
        return False
    return True


def _is_fresh(path: str) -> bool:
    """Whether an operator has just made or mounted the folder, and left it to us."""
    return os.stat(path).st_uid == ROOT and set(os.listdir(path)) <= _OF_MKFS


@contextmanager
def _acting_as(identity: Identity | None) -> Iterator[None]:
    if identity is None:
        yield
        return
    groups, gid, uid = os.getgroups(), os.getegid(), os.geteuid()
    # macOS lets a user be in more groups than a process (16).
    most = os.sysconf("SC_NGROUPS_MAX")
    os.setgroups(os.getgrouplist(identity.name, identity.gid)[:most])
    os.setegid(identity.gid)
    os.seteuid(identity.uid)
    try:
        yield
    finally:
        os.seteuid(uid)
        os.setegid(gid)
        os.setgroups(groups[:most])
