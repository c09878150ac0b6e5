"""``dtfc relayout``: a store is given the other form."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from dtfc.store.layout import FULL_SPLIT, TWO_LEVELS
from dtfc.store.relayout import MOST_TOLD, relayout


def add_relayout_command(
    commands: Any, where: argparse.ArgumentParser, scripts: argparse.ArgumentParser
) -> None:
    """Add ``relayout`` to the command's parser."""
    command = commands.add_parser(
        "relayout",
        parents=[where, scripts],
        help="give a store the other --fan-out, in place; no node may run on it",
        description="It may be interrupted at any moment: the same command goes on, and with the "
        "other --fan-out it goes back. Until it is done no node starts on the store.",
    )
    command.add_argument(
        "--fan-out",
        type=int,
        choices=[TWO_LEVELS, FULL_SPLIT],
        required=True,
        help="folders that a blob is to lie deep in",
    )


def run_relayout(basedir: str, reserve: int, given: argparse.Namespace) -> int:
    """Do it; return the exit code: 1 if something was left that is no blob's.

    Raises:
        DtfcError: it cannot be done, or not be finished.
    """
    on_terminal = sys.stderr.isatty() and not given.json

    def told(moved: int) -> None:
        if on_terminal:
            sys.stderr.write(f"\r{moved} blobs moved")
            sys.stderr.flush()

    done = relayout(basedir, given.fan_out, reserve=reserve, told=told)
    if on_terminal and done.moved:
        sys.stderr.write("\n")
    if given.json:
        sys.stdout.write(json.dumps(asdict(done)) + "\n")
    else:
        sys.stdout.write(
            f"{basedir} has fan-out {done.fan_out}: blobs moved {done.moved}, "
            f"folders removed {done.removed}\n"
        )
    for path in done.left:
        sys.stderr.write(f"dtfc: {path} holds something that is no blob's, and was left\n")
    if len(done.left) >= MOST_TOLD:
        sys.stderr.write("dtfc: and perhaps further ones\n")
    return 1 if done.left else 0
