"""``dtfc``: the operator's command.

Exit codes: 0 done, 1 the work failed, 2 the command line cannot be used.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from dtfc import __version__
from dtfc.errors import BadSettings, DtfcError
from dtfc.settings import Settings, load
from dtfc.store.blobs import open_store


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        arguments: of the command line; those of the process if None.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="dtfc", description="Look after a dtfc store.")
    parser.add_argument("--version", action="version", version=f"dtfc {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    reindex = commands.add_parser(
        "reindex",
        help="make the catalog (names, sizes) anew from the files; a node may run meanwhile",
    )
    reindex.add_argument("--basedir", help="the store; as the daemon's flag")
    reindex.add_argument("--config", help="the daemon's configuration file")
    given = parser.parse_args(arguments)
    try:
        flags = {"basedir": given.basedir, "config": given.config}
        settings = load(flags, dict(os.environ), os.getcwd()).settings
        return _reindex(settings)
    except BadSettings as error:
        for problem in error.problems:
            sys.stderr.write(f"dtfc: {problem}\n")
        return 2
    except DtfcError as error:
        sys.stderr.write(f"dtfc: {error}\n")
        return 1


def _reindex(settings: Settings) -> int:
    if not os.path.isdir(settings.basedir):
        sys.stderr.write(f"dtfc: there is no store at {settings.basedir}\n")
        return 1
    store = open_store(settings.basedir)
    try:
        counts = store.reindex()
    finally:
        store.close()
    told = ", ".join(f"{name} {count}" for name, count in asdict(counts).items())
    sys.stdout.write(f"the catalog of {settings.basedir} is complete: {told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
