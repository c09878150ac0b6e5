"""``dtfc``: the command of operators, and of those who use nodes (docs/command.md).

Exit codes: 0 done, 1 the work failed or something is damaged, 2 the command
line cannot be used; of those that talk to a node also 3 to 5 (``dtfc.cli.connecting``).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from dtfc import __version__
from dtfc.cli.completion import add_completion_command, print_completion
from dtfc.cli.couchdb import add_couchdb_command, run_couchdb
from dtfc.cli.getting import add_get_command, get
from dtfc.cli.mirroring import add_mirror_command, mirror
from dtfc.cli.putting import add_put_command, put
from dtfc.cli.relayout import add_relayout_command, run_relayout
from dtfc.cli.scrubbing import scrub_now, show_progress, verify
from dtfc.cli.showing import SHOWING, add_showing_commands, show
from dtfc.cli.signing import add_sign_command, print_link
from dtfc.cli.tokens import add_token_command, new_token
from dtfc.cli.undeleting import add_undelete_command, undelete
from dtfc.errors import BadDigest, BadSettings, DtfcError
from dtfc.settings import Settings, load
from dtfc.store.blobs import Store, open_store


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        arguments: of the command line; those of the process if None.

    Returns:
        The exit code.
    """
    parser = make_parser()
    given = parser.parse_args(arguments)
    if given.command == "completion":
        return print_completion(given, parser)
    without_store = {"token": new_token, "sign": print_link, "couchdb": run_couchdb}
    without_store |= {"put": put, "get": get, "mirror": mirror, **dict.fromkeys(SHOWING, show)}
    return without_store.get(given.command, _with_store)(given)


def _with_store(given: argparse.Namespace) -> int:
    """Run a subcommand that works on a store."""
    try:
        flags = {"basedir": given.basedir, "config": given.config}
        settings = load(flags, dict(os.environ), os.getcwd()).settings
        if not os.path.isdir(settings.basedir):
            sys.stderr.write(f"dtfc: there is no store at {settings.basedir}\n")
            return 1
        _become_owner(settings.basedir)
        return _run_on(settings, given)
    except BadSettings as error:
        for problem in error.problems:
            sys.stderr.write(f"dtfc: {problem}\n")
        return 2
    except BadDigest as error:
        sys.stderr.write(f"dtfc: {error.given!r}: {error}\n")
        return 2
    except DtfcError as error:
        sys.stderr.write(f"dtfc: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ndtfc: interrupted\n")
        return 130


def make_parser() -> argparse.ArgumentParser:
    """Make what reads the command line."""
    parser = argparse.ArgumentParser(
        prog="dtfc", description="Use dtfc nodes, and look after a store."
    )
    parser.add_argument("--version", action="version", version=f"dtfc {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_put_command(commands)
    add_get_command(commands)
    add_mirror_command(commands)
    add_showing_commands(commands)
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--basedir", help="the store; as the daemon's flag")
    where.add_argument("--config", help="the daemon's configuration file")
    scripts = argparse.ArgumentParser(add_help=False)
    scripts.add_argument("--json", action="store_true", help="print one JSON object")
    commands.add_parser(
        "reindex",
        parents=[where],
        help="make the catalog (names, sizes) anew from the files; a node may run meanwhile",
    )
    check = commands.add_parser(
        "verify",
        parents=[where, scripts],
        help="read blobs and compare them with their digests; changes nothing",
    )
    check.add_argument("digest", nargs="*", help="which blobs; all of them if none is named")
    scrub = commands.add_parser(
        "scrub",
        parents=[where, scripts],
        help="say how far the node's scrub is; --now reads everything at once",
    )
    scrub.add_argument(
        "--now",
        action="store_true",
        help="read everything now, as fast as the disk can, and put damaged blobs into "
        "quarantine, from where a running node brings them back",
    )
    add_relayout_command(commands, where, scripts)
    add_undelete_command(commands, where)
    add_token_command(commands)
    add_sign_command(commands)
    add_couchdb_command(commands)
    add_completion_command(commands)
    return parser


def _run_on(settings: Settings, given: argparse.Namespace) -> int:
    if given.command == "relayout":
        # It opens the store by itself, and has it alone.
        return run_relayout(settings.basedir, settings.reserve, given)
    store = open_store(settings.basedir)
    try:
        return _run(given, store)
    finally:
        store.close()


def _run(given: argparse.Namespace, store: Store) -> int:
    if given.command == "verify":
        return verify(store, given.digest, as_json=given.json)
    if given.command == "undelete":
        return undelete(store, given)
    if given.command == "scrub":
        act = scrub_now if given.now else show_progress
        return act(store, as_json=given.json)
    told = ", ".join(f"{name} {count}" for name, count in asdict(store.reindex()).items())
    sys.stdout.write(f"the catalog of {store.layout.basedir} is complete: {told}\n")
    return 0


def _become_owner(basedir: str) -> None:
    """Leave root behind: what root makes in a store, its node could not use."""
    if os.geteuid() != 0:
        return
    facts = os.stat(basedir)
    if facts.st_uid != 0:
        os.setgroups([])
        os.setgid(facts.st_gid)
        os.setuid(facts.st_uid)


if __name__ == "__main__":
    sys.exit(main())
