"""``dtfc mirror``: blobs from one node to another, by their names."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dtfc.cli.connecting import (
    DONE,
    USAGE,
    client_of,
    code_of,
    credential_of,
    joined,
    note,
    printable,
    run,
    say_json,
    talking,
    tell_failure,
    tls_of,
    token_of,
)
from dtfc.cli.progress import Item, Progress, told
from dtfc.client import Blob, Client, Mirrored, Row
from dtfc.client.mirroring import JOBS
from dtfc.errors import BadSetting
from dtfc.settings.values import integer, origin

MOST_JOBS = 32


def add_mirror_command(commands: Any) -> None:
    """Add ``mirror`` to the command's parser."""
    mirror = commands.add_parser(
        "mirror",
        parents=[talking()],
        help="copy to a node what it lacks of another one's blobs",
        description="Bytes go from the one node to the other as they come. What was deleted at "
        "TO stays deleted there. The same command again goes on where this one ended.",
    )
    mirror.add_argument("source", metavar="FROM", help="the URL of the node that has them")
    mirror.add_argument("target", metavar="TO", help="the URL of the node that is to have them")
    mirror.add_argument(
        "--name", default="*", metavar="PATTERN", help="only blobs with such a name: 'photo-*.jpg'"
    )
    mirror.add_argument(
        "--jobs", type=integer(1, MOST_JOBS), default=JOBS, metavar="N", help="blobs at once (2)"
    )
    mirror.add_argument(
        "--from-token-file", metavar="FILE", help="a token for FROM, where it is another one"
    )
    mirror.add_argument("--dry-run", action="store_true", help="copy nothing, say what would be")


def mirror(given: argparse.Namespace) -> int:
    """Do it; return the exit code."""
    try:
        source, target = origin(given.source), origin(given.target)
        token = None if given.from_token_file is None else token_of(given.from_token_file)
    except (ValueError, BadSetting) as error:
        note(str(error))
        return USAGE

    async def work() -> int:
        shown = token or credential_of(given)
        tls = tls_of(given)
        async with (
            Client(source, credential=shown, tls=tls, patience=given.patience) as one,
            client_of(given, [target]) as other,
        ):
            return await _Mirror(given).run(one, other)

    return run(given, work)


class _Mirror:
    """One run of the command."""

    def __init__(self, given: argparse.Namespace) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - the other commands do without

        self._given = given
        self._clock: Any = reactor
        self._progress = Progress(reactor, quiet=given.quiet)
        self._items: dict[Row, Item] = {}
        self._began = self._clock.seconds()

    async def run(self, one: Client, other: Client) -> int:
        """Copy, and say what it came to."""
        given = self._given
        done = await one.mirror_to(
            other,
            given.name,
            jobs=given.jobs,
            saw=self._saw,
            progress=self._moved,
            dry_run=given.dry_run,
        )
        self._tell(done)
        return joined(code_of(error) for _, error in done.failed) if done.failed else DONE

    def _saw(self, blob: Blob) -> None:
        if blob.outcome is None:
            self._items[blob.row] = self._progress.begin(blob.row.name)
            return
        item = self._items.pop(blob.row, None)
        if item is not None:
            self._progress.end(item)
        if blob.error is not None:
            tell_failure(self._given, blob.row.name, blob.error)
        elif blob.outcome == "copied" and self._given.json:
            told_blob = {"copied": blob.row.name, "sha512": blob.row.digest.hex}
            say_json({**told_blob, "length": blob.row.length, "dry_run": self._given.dry_run})
        elif blob.outcome == "copied" and not self._given.quiet:
            sys.stdout.write(f"{blob.row.digest.hex}  {printable(blob.row.name)}\n")
            sys.stdout.flush()

    def _moved(self, row: Row, done: int, total: int | None) -> None:
        item = self._items.get(row)
        if item is not None:
            item.saw(done, total)

    def _tell(self, done: Mirrored) -> None:
        if self._given.json:
            figures = {"looked_at": done.looked_at, "copied": done.copied, "length": done.length}
            rest = {"there": done.there, "deleted": done.deleted, "failed": len(done.failed)}
            say_json({"summary": {**figures, **rest}})
            return
        if self._given.quiet:
            return
        would = " (nothing was: --dry-run)" if self._given.dry_run else ""
        seconds = self._clock.seconds() - self._began
        note(
            f"{done.looked_at} names fit; {done.copied} blobs copied{would}, "
            f"{told(done.length, seconds)}; {done.there} were there, {done.deleted} were deleted "
            f"there, {len(done.failed)} failed"
        )
