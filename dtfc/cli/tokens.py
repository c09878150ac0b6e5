"""``dtfc token new``: makes a token, and the line of the file that lets it in."""

from __future__ import annotations

import argparse
import hashlib
import secrets
import sys
import time
from typing import Any

from dtfc.access.tokens import BEGINNING, SIZE, line_of, parse_token
from dtfc.settings.values import duration


def add_token_command(commands: Any) -> None:
    """Add ``token`` to the command's parser."""
    token = commands.add_parser("token", help="make a token that lets somebody do something")
    acts = token.add_subparsers(dest="act", required=True, metavar="ACT")
    new = acts.add_parser(
        "new",
        help="print a new token, and its line for the file of --tokens",
        description="The token goes to whoever is to use it, and is shown only now. "
        "The line goes into the file of --tokens; then the node is sent SIGHUP.",
    )
    new.add_argument("name", help="what the log calls it")
    new.add_argument(
        "verbs", nargs="?", default="get,head", help="get, head, put, delete (default: get,head)"
    )
    new.add_argument("--digests", help="only blobs whose digests begin so: ab12,cd34")
    new.add_argument("--names", help="only blobs whose names begin so: photo-,scan-")
    new.add_argument(
        "--expires",
        metavar="WHEN",
        help="how long it is good for (90d), or until when (2027-01-31)",
    )
    new.add_argument("--append", metavar="FILE", help="write the line at the end of this file")


def new_token(given: argparse.Namespace) -> int:
    """Make a token; return the exit code."""
    token = BEGINNING + secrets.token_urlsafe(SIZE)
    conditions = [
        f"{key}={value}"
        for key, value in (("digests", given.digests), ("names", given.names))
        if value is not None
    ]
    try:
        if given.expires is not None:
            conditions.append(f"expires={_until(given.expires)}")
        hashed = hashlib.sha256(token.encode("ascii")).hexdigest()
        line = line_of(parse_token(given.name, hashed, given.verbs, conditions))
        if given.append is not None:
            with open(given.append, "a", encoding="utf-8") as file:
                file.write(f"{line}\n")
    except ValueError as error:
        sys.stderr.write(f"dtfc: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"dtfc: {given.append}: {error.strerror}\n")
        return 1
    sys.stdout.write(f"{token}\n")
    if given.append is None:
        sys.stderr.write(f"the line for the file of --tokens:\n{line}\n")
    return 0


def _until(text: str) -> str:
    """Return the date that a duration from now, or a date, means."""
    try:
        seconds = duration(1)(text)
    except ValueError:
        return text
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
