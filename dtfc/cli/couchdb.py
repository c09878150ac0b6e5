"""``dtfc couchdb``: what is to be done once with a database."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dtfc.access.sessions import Credential
from dtfc.cli.migrating import add_migrate_commands, run_migration
from dtfc.couchdb.client import Couch
from dtfc.couchdb.nodeuser import read_user
from dtfc.couchdb.preparing import PATIENCE, prepare
from dtfc.errors import BadSetting, CouchUnreached
from dtfc.settings.values import database as database_name
from dtfc.settings.values import origin


def add_couchdb_command(commands: Any) -> None:
    """Add ``couchdb`` to the command's parser."""
    couchdb = commands.add_parser("couchdb", help="make a database ready for references to blobs")
    acts = couchdb.add_subparsers(dest="act", required=True, metavar="ACT")
    init = acts.add_parser(
        "init",
        help="put the design document _design/dtfc and an index into a database",
        description="The design document refuses documents whose dtfc makes no sense, and has a "
        "view from digests to documents. What is there already stays.",
    )
    init.add_argument("url", metavar="URL", help="http://couchdb.example:5984/DATABASE")
    init.add_argument(
        "--couchdb-user-file",
        metavar="FILE",
        help="an administrator of the database: one line, name:password, in no file that others "
        "may read",
    )
    add_migrate_commands(acts)


def run_couchdb(given: argparse.Namespace) -> int:
    """Do it; return the exit code."""
    try:
        server, name = _parts(given.url)
        if given.act != "init":
            return run_migration(given, server, name)
        credential = read_user(given.couchdb_user_file)
    except (ValueError, BadSetting) as error:
        sys.stderr.write(f"dtfc: {error}\n")
        return 2
    try:
        for line in _prepared(server, credential, name):
            sys.stdout.write(f"{name}: {line}\n")
    except CouchUnreached as error:
        sys.stderr.write(f"dtfc: {given.url}: {error.reason}\n")
        return 1
    return 0


def _parts(url: str) -> tuple[str, str]:
    """Return the server's URL and the database's name.

    Raises:
        ValueError: it is not the URL of a database.
    """
    server, slash, name = url.rstrip("/").rpartition("/")
    if not slash or server.endswith("/"):
        raise ValueError(f"{url!r} is not a URL such as http://127.0.0.1:5984/photos")
    return origin(server), database_name(name.replace("%2F", "/").replace("%2f", "/"))[0]


def _prepared(server: str, credential: Credential | None, name: str) -> list[str]:
    from twisted.internet import reactor, task  # noqa: PLC0415 - the other commands do without

    lines: list[str] = []
    failed: list[CouchUnreached] = []

    async def work(_reactor: Any) -> None:
        couch = Couch(reactor, server, PATIENCE)
        try:
            lines.extend(await prepare(couch, credential, name))
        except CouchUnreached as error:
            failed.append(error)
        finally:
            await couch.close()

    try:
        task.react(work)
    except SystemExit as done:
        if done.code:
            raise
    if failed:
        raise failed[0]
    return lines
