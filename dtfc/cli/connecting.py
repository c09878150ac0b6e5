"""What the commands that talk to nodes have in common: which node, who asks, how it ended."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from dtfc.cli.migrating import read_token
from dtfc.client import (
    Client,
    ClientError,
    Cookie,
    Credential,
    NotAllowed,
    NotFound,
    Password,
    Tls,
    Token,
    WrongBytes,
    read_tls,
)
from dtfc.client.client import PATIENCE
from dtfc.client.uploadstates import default_states
from dtfc.errors import BadDigest, BadSetting, DtfcError
from dtfc.guarded import read_guarded
from dtfc.settings.values import duration, origin

DONE, FAILED, USAGE, NOT_FOUND, DENIED, WRONG, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

DEFAULT_NODE = "http://localhost:8080"

_LARGEST_SECRET = 8192


def talking() -> argparse.ArgumentParser:
    """Return the flags of every command that talks to a node."""
    flags = argparse.ArgumentParser(add_help=False)
    about = flags.add_argument_group("node")
    about.add_argument("--node", metavar="URL", help=f"which node (DTFC_NODE, else {DEFAULT_NODE})")
    about.add_argument(
        "--token-file",
        metavar="FILE",
        help="a token, one line, in no file that others may read (or DTFC_TOKEN)",
    )
    about.add_argument(
        "--user-file", metavar="FILE", help="a user of CouchDB: name:password, likewise"
    )
    about.add_argument("--cookie-file", metavar="FILE", help="a session: AuthSession=..., likewise")
    about.add_argument("--cacert", metavar="FILE", help="authorities to believe, PEM")
    about.add_argument("--cert", metavar="FILE", help="a certificate to show, PEM")
    about.add_argument("--key", metavar="FILE", help="its key, PEM")
    about.add_argument(
        "--patience",
        type=duration(),
        default=PATIENCE,
        metavar="TIME",
        help="how long a node may say nothing, or be away in the middle (1m)",
    )
    flags.add_argument("--json", action="store_true", help="one JSON object a line")
    flags.add_argument("-q", "--quiet", action="store_true", help="no progress and no remarks")
    return flags


def node_of(given: argparse.Namespace) -> str:
    """Return the URL of the node that is meant.

    Raises:
        ValueError: it is none.
    """
    return origin(given.node or os.environ.get("DTFC_NODE") or DEFAULT_NODE)


def credential_of(given: argparse.Namespace) -> Credential | None:
    """Return what the flags and the environment say of who asks (blocks).

    Raises:
        ValueError, BadSetting: it makes no sense, or a file cannot be used.
    """
    files = [given.token_file, given.user_file, given.cookie_file]
    if sum(each is not None for each in files) > 1:
        raise ValueError("--token-file, --user-file and --cookie-file: only one of them")
    if given.user_file is not None:
        user, colon, password = _secret("user-file", given.user_file).partition(":")
        if not colon:
            raise ValueError(f"{given.user_file}: name:password is what it should have")
        return Password(user, password)
    if given.cookie_file is not None:
        return Cookie(_secret("cookie-file", given.cookie_file))
    return token_of(given.token_file)


def token_of(path: str | None) -> Token | None:
    """Return the token of a file, or of the environment.

    Raises:
        ValueError, BadSetting: it is none, or the file cannot be used.
    """
    token = read_token(path) or os.environ.get("DTFC_TOKEN") or None
    return None if token is None else Token(token)


def _secret(flag: str, path: str) -> str:
    return read_guarded(flag, path, _LARGEST_SECRET).decode("utf-8", "replace").strip("\r\n")


def tls_of(given: argparse.Namespace) -> Tls | None:
    """Return the certificates that the flags name (blocks).

    Raises:
        LocalTrouble: one cannot be used.
    """
    return read_tls(given.cacert, given.cert, given.key)


def client_of(given: argparse.Namespace, nodes: Iterable[str] | None = None) -> Client:
    """Return a client as the flags say (blocks).

    Args:
        given: the flags.
        nodes: the nodes' URLs; the one that is meant, if None.

    Raises:
        ValueError, BadSetting, LocalTrouble: they make no sense.
    """
    asked = [node_of(given)] if nodes is None else list(nodes)
    return Client(
        *asked,
        credential=credential_of(given),
        tls=tls_of(given),
        patience=given.patience,
        states=default_states(os.environ),
    )


def code_of(error: BaseException) -> int:
    """Return the exit code that stands for an error."""
    match error:
        case NotFound():
            return NOT_FOUND
        case NotAllowed():
            return DENIED
        case WrongBytes():
            return WRONG
        case BadDigest() | BadSetting():
            return USAGE
    return FAILED


def joined(codes: Iterable[int]) -> int:
    """Return the exit code of several things that were done: that of the failures, if it is one."""
    failures = {code for code in codes if code}
    return failures.pop() if len(failures) == 1 else (FAILED if failures else DONE)


def run(given: argparse.Namespace, work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run a command's coroutine on the reactor; return the exit code.

    A first SIGINT or SIGTERM lets it clean up, a second one ends the process.

    Args:
        given: the flags.
        work: makes the coroutine; its errors are told, and become the exit code.
    """
    from twisted.internet import reactor as only  # noqa: PLC0415 - the other commands do without

    reactor: Any = only
    ended: list[int] = []
    caught: list[int] = []

    def begin() -> None:
        running: Deferred[int] = Deferred.fromCoroutine(work())

        def interrupt(number: int, _frame: object) -> None:
            if caught:
                os._exit(128 + number)
            caught.append(number)
            reactor.callFromThread(running.cancel)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, interrupt)
        running.addBoth(end)

    def end(result: int | Failure) -> None:
        if isinstance(result, int):
            ended.append(result)
        elif caught and result.check(CancelledError):
            note("interrupted")
            ended.append(128 + caught[0])
        else:
            ended.append(_told(given, result))
        reactor.stop()

    reactor.callWhenRunning(begin)
    reactor.run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read it has left; nothing is to be said when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    return ended[0] if ended else FAILED


def _told(given: argparse.Namespace, failure: Failure) -> int:
    error = failure.value
    if isinstance(error, BrokenPipeError):
        return FAILED
    if isinstance(error, (DtfcError, ValueError)):
        tell_failure(given, "", error)
        return USAGE if type(error) is ValueError else code_of(error)
    sys.stderr.write(failure.getTraceback())
    return FAILED


def tell_failure(given: argparse.Namespace, what: str, error: BaseException) -> None:
    """Say that something failed, and why.

    Args:
        given: the flags.
        what: that was to be done it with: a file, name or digest; empty for all.
        error: why.
    """
    if given.json:
        told: dict[str, Any] = {"failed": what, "exit_code": code_of(error), "reason": str(error)}
        if isinstance(error, ClientError):
            told |= {"node": error.node, "status": error.status, "title": error.title}
            told |= {"detail": error.detail, "members": error.members}
        say_json(told)
    where = f"{error.node}: " if isinstance(error, ClientError) and error.node else ""
    note(f"{what}{': ' if what else ''}{where}{error}")


def say_json(told: dict[str, Any]) -> None:
    """Write one JSON object."""
    sys.stdout.write(f"{json.dumps(told)}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Write a line for people."""
    sys.stderr.write(f"dtfc: {printable(text)}\n")
    sys.stderr.flush()


def printable(text: str) -> str:
    """Return what a terminal can be given: a node, or a file's name, may say anything."""
    return "".join(each if each.isprintable() else "?" for each in text)
