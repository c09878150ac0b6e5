"""``dtfc put``: files to a node."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dtfc.cli.connecting import (
    DONE,
    USAGE,
    client_of,
    code_of,
    joined,
    node_of,
    note,
    run,
    say_json,
    talking,
    tell_failure,
)
from dtfc.cli.progress import Progress, told
from dtfc.client import Client, ClientError, Stored
from dtfc.client.uploading import SMALL
from dtfc.errors import BadName
from dtfc.names import check_name
from dtfc.settings.values import origin

STDIN = "-"


def add_put_command(commands: Any) -> None:
    """Add ``put`` to the command's parser."""
    put = commands.add_parser(
        "put",
        parents=[talking()],
        help="store files on a node",
        description="Prints the digest and the name of each, as sha512sum does. A large file "
        "goes on where it was cut off, when the same command is given again.",
    )
    put.add_argument("files", nargs="+", metavar="FILE", help="a file; - is the standard input")
    put.add_argument("--to", metavar="URL", help="which node; as --node")
    put.add_argument("--name", help="under which name (only one FILE then)")


def put(given: argparse.Namespace) -> int:
    """Do it; return the exit code."""
    if given.name is None and STDIN in given.files:
        note("what comes from the standard input needs a name: --name")
        return USAGE
    if given.name is not None and len(given.files) > 1:
        note("--name is for one file")
        return USAGE
    try:
        node = origin(given.to) if given.to else node_of(given)
        given.name = None if given.name is None else check_name(given.name)
    except (ValueError, BadName) as error:
        note(str(error))
        return USAGE

    async def work() -> int:
        async with client_of(given, [node]) as client:
            return await _all(given, client)

    return run(given, work)


async def _all(given: argparse.Namespace, client: Client) -> int:
    from twisted.internet import reactor  # noqa: PLC0415 - the other commands do without

    progress = Progress(reactor, quiet=given.quiet)
    codes = []
    for path in given.files:
        item = progress.begin(given.name or path)
        try:
            what = sys.stdin.buffer if path == STDIN else path
            stored = await client.put(what, name=given.name, progress=item.saw)
        except ClientError as error:
            progress.end(item, counts=False)
            tell_failure(given, path, error)
            codes.append(code_of(error))
        except BaseException:
            progress.end(item, counts=False)
            if item.done and (item.total or 0) > SMALL:
                note(f"{path}: the same command again goes on where this one ended")
            raise
        else:
            seconds = progress.end(item)
            _tell(given, path, stored, seconds)
            codes.append(DONE)
    total = progress.total()
    if total is not None:
        note(total)
    return joined(codes)


def _tell(given: argparse.Namespace, path: str, stored: Stored, seconds: float) -> None:
    if given.json:
        say_json(
            {
                "put": path,
                "sha512": stored.digest.hex,
                "length": stored.length,
                "filename": stored.filename,
                "new": stored.new,
                "sent": stored.sent,
                "replicas": stored.replicas,
                "seconds": round(seconds, 3),
            }
        )
        return
    sys.stdout.write(f"{stored.digest.hex}  {stored.filename or path}\n")
    sys.stdout.flush()
    if not given.quiet:
        how = "was there already" if stored.new is False else told(stored.sent, seconds)
        copies = "" if stored.replicas is None else f", {stored.replicas} copies"
        note(f"{path}: {how}, sha512 right{copies}")
