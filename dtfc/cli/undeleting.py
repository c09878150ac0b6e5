"""``dtfc undelete``: what the collector took comes back."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from dtfc.digest import Digest
from dtfc.errors import Absent, DtfcError

if TYPE_CHECKING:
    from dtfc.store.blobs import Store


def add_undelete_command(commands: Any, where: argparse.ArgumentParser) -> None:
    """Add ``undelete`` to the command's parser."""
    undelete = commands.add_parser(
        "undelete",
        parents=[where],
        help="bring back what --purge-untracked collected; a node may run meanwhile",
        description="Without DIGEST and --all: list what can come back.",
    )
    undelete.add_argument("digest", nargs="*", metavar="DIGEST", help="which blobs")
    undelete.add_argument("--all", action="store_true", help="all of them")
    undelete.add_argument("--json", action="store_true", help="print one JSON object a line")


def undelete(store: Store, given: argparse.Namespace) -> int:
    """Do it, or list what can be done; return the exit code."""
    wanted = [Digest.from_hex(text) for text in given.digest]
    if not wanted and not given.all:
        for each in store.collected.lying():
            _say(given, each.digest, length=each.length, filename=each.name)
        return 0
    code = 0
    for digest in wanted or [each.digest for each in store.collected.lying()]:
        try:
            info = store.collected.restore(digest)
        except Absent:
            sys.stderr.write(f"dtfc: {digest.hex}: it is not among the collected\n")
            code = 1
        except DtfcError as error:
            sys.stderr.write(f"dtfc: {digest.hex}: {error}\n")
            code = 1
        else:
            _say(given, digest, length=info.length, filename=info.name)
    return code


def _say(given: argparse.Namespace, digest: Digest, *, length: int, filename: str | None) -> None:
    if given.json:
        facts = {"sha512": digest.hex, "length": length, "filename": filename}
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        sys.stdout.write(f"{digest.hex} {length:>14} {filename or '-'}\n")
