"""``dtfc get``: blobs, by digest or name, into files or to the standard output."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import Any

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

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
from dtfc.cli.progress import Progress, size, told
from dtfc.client import Client, ClientError, Got, NotFound, Row, Unavailable
from dtfc.client.partfile import PART
from dtfc.digest import Digest
from dtfc.errors import BadName
from dtfc.names import check_name
from dtfc.settings.values import origin

STDOUT = "-"
_DIGEST = re.compile(r"[0-9a-fA-F]{128}\Z")


def add_get_command(commands: Any) -> None:
    """Add ``get`` to the command's parser."""
    get = commands.add_parser(
        "get",
        parents=[talking()],
        help="fetch blobs from a node, or from several at once",
        description="What was fetched before it was cut off is not fetched again. The file "
        "appears when all of it is there, and its SHA-512 is right.",
    )
    get.add_argument("what", nargs="+", metavar="DIGEST|NAME", help="a digest, or a file's name")
    get.add_argument(
        "--from",
        dest="sources",
        action="append",
        metavar="URL",
        help="a node; of several, all are used at once",
    )
    get.add_argument(
        "-o",
        "--output",
        metavar="FILE|DIR|-",
        help="where to: a file, a folder (the current one), or the standard output",
    )
    get.add_argument("--force", action="store_true", help="replace another file of that name")


def get(given: argparse.Namespace) -> int:
    """Do it; return the exit code."""
    try:
        nodes = [origin(each) for each in given.sources or ()] or [node_of(given)]
        names = [each if _DIGEST.match(each) else check_name(each) for each in given.what]
    except (ValueError, BadName) as error:
        note(str(error))
        return USAGE
    if given.output is not None and len(names) > 1 and not _is_folder(given.output):
        note("several blobs need a folder: -o DIR")
        return USAGE

    async def work() -> int:
        async with client_of(given, nodes) as client:
            return await _Getting(given, client).all(names)

    return run(given, work)


class _Getting:
    """One run of the command."""

    def __init__(self, given: argparse.Namespace, client: Client) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - the other commands do without

        self._given = given
        self._client = client
        self._clock: Any = reactor
        self._to_stdout = given.output == STDOUT
        self._progress = Progress(reactor, quiet=given.quiet)

    async def all(self, names: list[str]) -> int:
        """Fetch one after another: each is fetched as fast as can be."""
        codes = []
        for name in names:
            try:
                await self._one(name)
                codes.append(DONE)
            except ClientError as error:
                tell_failure(self._given, name, error)
                codes.append(code_of(error))
        total = self._progress.total()
        if total is not None:
            note(total)
        return joined(codes)

    async def _one(self, what: str) -> None:
        name: str | None = None
        if _DIGEST.match(what):
            digest = Digest.from_hex(what)
        else:
            row = await find(self._client, what, quiet=self._given.quiet)
            digest, name = row.digest, what
        path = STDOUT if self._to_stdout else await self._path(digest, name)
        item = self._progress.begin(what if name or len(what) < 128 else os.path.basename(path))
        seconds, whole = 0.0, False
        try:
            if self._to_stdout:
                got = await self._client.stream(digest, _write, progress=item.saw)
            else:
                got = await self._client.get(
                    digest, path, overwrite=self._given.force, progress=item.saw
                )
            whole = True
        except BaseException:
            self._progress.end(item, counts=False)
            _tell_kept(path, item.done)
            raise
        finally:
            if whole:
                seconds = self._progress.end(item)
        self._tell(got, path, item.moved, seconds)

    async def _path(self, digest: Digest, name: str | None) -> str:
        """Return the path of the file; its name is asked for, if nobody has said one."""
        output = self._given.output
        if output is not None and not _is_folder(output):
            return str(output)
        if name is None:
            # Nobody downloads a hidden file unawares.
            name = (await self._name_of(digest) or "").lstrip(".") or digest.hex
        return os.path.join(output or "", name)

    async def _name_of(self, digest: Digest) -> str | None:
        """Ask what a blob is called; a node that loads it first is asked again."""
        since = self._clock.seconds()
        while True:
            try:
                return (await self._client.head(digest)).name
            except Unavailable as error:
                late = self._clock.seconds() - since >= self._given.patience
                if error.retry_after is None or late:
                    raise
                await deferLater(self._clock, float(max(1, error.retry_after)))

    def _tell(self, got: Got, path: str, moved: int, seconds: float) -> None:
        if self._given.json and not self._to_stdout:
            say_json(
                {
                    "got": path,
                    "sha512": got.digest.hex,
                    "length": got.length,
                    "name": got.name,
                    "resumed": got.resumed,
                    "from": got.from_nodes,
                    "seconds": round(seconds, 3),
                }
            )
            return
        if self._given.quiet:
            return
        if got.resumed >= got.length and got.length:
            how = f"{size(got.length)} were here already"
        else:
            how = told(moved, seconds)
        text = f"{path}: {how}, sha512 right\n"
        (sys.stderr if self._to_stdout else sys.stdout).write(text)


async def find(client: Client, name: str, *, quiet: bool = True, only: bool = False) -> Row:
    """Return the blob that a name stands for; of several the one that was stored last.

    Args:
        client: asks its first node.
        name: of the file.
        quiet: whether to say nothing of the others.
        only: whether there may be no others.

    Raises:
        NotFound: there is no such name.
        ClientError: the node does not say; or there are several.
    """
    rows = await client.named(name)
    if not rows:
        raise NotFound("no file has this name", node=client.node)
    if only and len({row.digest for row in rows}) > 1:
        digests = ", ".join(row.digest.hex for row in rows)
        raise ClientError(f"{len(rows)} blobs have this name; say which: {digests}")
    rows.sort(key=lambda row: row.stored_at or 0.0)
    if len(rows) > 1 and not quiet:
        note(f"{name}: {len(rows)} blobs have this name; this is the one that was stored last")
    return rows[-1]


def _tell_kept(path: str, count: int) -> None:
    """Say what is left of a file that did not become whole, and how to go on."""
    if os.path.exists(f"{path}{PART}"):
        note(f"{size(count)} are kept in {path}{PART}; the same dtfc get goes on there")


def _is_folder(output: str) -> bool:
    return output.endswith("/") or os.path.isdir(output)


def _write(block: bytes) -> Any:
    """Write to the standard output, not on the reactor: whoever reads it may be slow."""
    return deferToThread(_write_all, block)


def _write_all(block: bytes) -> None:
    sys.stdout.buffer.write(block)
    sys.stdout.buffer.flush()
