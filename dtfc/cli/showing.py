"""``dtfc ls``, ``head``, ``info``, ``rm``, ``peers`` and ``status``: short questions to a node."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from dtfc.cli.connecting import (
    DONE,
    FAILED,
    USAGE,
    client_of,
    code_of,
    joined,
    note,
    printable,
    run,
    say_json,
    talking,
    tell_failure,
)
from dtfc.cli.getting import find
from dtfc.cli.progress import size
from dtfc.client import Client, ClientError, Receipt
from dtfc.digest import Digest
from dtfc.errors import BadDigest

_DIGEST = re.compile(r"[0-9a-fA-F]{128}\Z")

Act = Callable[[argparse.Namespace, Client, Digest, str], Awaitable[None]]


def add_showing_commands(commands: Any) -> None:
    """Add them to the command's parser."""
    flags = talking()
    names = commands.add_parser("ls", parents=[flags], help="list the files of a node")
    names.add_argument("prefix", nargs="?", help="only names that begin so")
    some = argparse.ArgumentParser(add_help=False)
    some.add_argument("what", nargs="+", metavar="DIGEST|NAME", help="a digest, or a file's name")
    commands.add_parser(
        "head", parents=[flags, some], help="ask for length and name of blobs, here or at peers"
    )
    info = commands.add_parser("info", parents=[flags, some], help="what a node knows of blobs")
    info.add_argument(
        "--media", action="store_true", help="what ffprobe says of a picture, sound or film"
    )
    rm = commands.add_parser(
        "rm", parents=[flags, some], help="delete blobs on a node, or everywhere"
    )
    rm.add_argument("--everywhere", action="store_true", help="on all of the node's peers, too")
    rm.add_argument(
        "--wait", action="store_true", help="until every peer has deleted it, however long"
    )
    commands.add_parser(
        "peers", parents=[flags], help="have a node read its peer list, and show it"
    )
    commands.add_parser("status", parents=[flags], help="say how a node is")


def show(given: argparse.Namespace) -> int:
    """Do one of them; return the exit code."""
    if given.command == "rm" and given.wait and not given.everywhere:
        note("--wait is for --everywhere")
        return USAGE

    async def work() -> int:
        async with client_of(given) as client:
            return await _ACTS[given.command](given, client)

    return run(given, work)


async def _ls(given: argparse.Namespace, client: Client) -> int:
    async for row in client.files(prefix=given.prefix):
        if given.json:
            told = {"name": row.name, "sha512": row.digest.hex, "length": row.length}
            say_json({**told, "stored_at": row.stored_at})
            continue
        when = "-" if row.stored_at is None else _date(row.stored_at)
        length = "-" if row.length is None else str(row.length)
        sys.stdout.write(f"{row.digest.hex}  {length:>12}  {when:16}  {printable(row.name)}\n")
    return DONE


async def _each(given: argparse.Namespace, client: Client, act: Act, *, only: bool) -> int:
    """Do something with each blob that the command line names."""
    codes = []
    for what in given.what:
        try:
            if _DIGEST.match(what):
                digest = Digest.from_hex(what)
            else:
                digest = (await find(client, what, quiet=given.quiet, only=only)).digest
            await act(given, client, digest, what)
            codes.append(DONE)
        except (ClientError, BadDigest) as error:
            tell_failure(given, what, error)
            codes.append(code_of(error))
    return joined(codes)


async def _head(given: argparse.Namespace, client: Client) -> int:
    return await _each(given, client, _head_of, only=False)


async def _head_of(given: argparse.Namespace, client: Client, digest: Digest, _what: str) -> None:
    head = await client.head(digest)
    told = {"sha512": digest.hex, "length": head.length, "name": head.name}
    _say(given, {**told, "content_type": head.content_type})


async def _info(given: argparse.Namespace, client: Client) -> int:
    return await _each(given, client, _info_of, only=False)


async def _info_of(given: argparse.Namespace, client: Client, digest: Digest, _what: str) -> None:
    if given.media:
        say_json(await client.ffmetadata(digest))
        return
    info = await client.info(digest)
    told = asdict(info)
    del told["digest"]
    if not given.json:
        for name in ("stored_at", "last_verified_at"):
            told[name] = "never" if told[name] is None else _date(told[name], seconds=True)
        for name in ("names", "replicas"):
            told[name] = ", ".join(told[name]) or "none"
    _say(given, {"sha512": digest.hex, **told})


async def _rm(given: argparse.Namespace, client: Client) -> int:
    return await _each(given, client, _rm_of, only=True)


async def _rm_of(given: argparse.Namespace, client: Client, digest: Digest, what: str) -> None:
    if not given.everywhere:
        await client.delete(digest)
        if given.json:
            say_json({"deleted": what, "sha512": digest.hex})
        elif not given.quiet:
            sys.stdout.write(f"{printable(what)}: deleted\n")
        return
    receipt = await client.delete_everywhere(digest)
    if given.wait:
        if not receipt.complete and not given.quiet:
            note(f"{_pending(receipt)} peers have not said yet that it is gone; waiting")
        receipt = await client.wait_for(receipt)
    _tell_receipt(given, what, receipt)


def _tell_receipt(given: argparse.Namespace, what: str, receipt: Receipt) -> None:
    if given.json:
        told: dict[str, Any] = asdict(receipt)
        del told["digest"]
        say_json({"deleted": what, "sha512": receipt.digest.hex, **told})
        return
    sys.stdout.write(f"{printable(what)}: deleted everywhere, {receipt.status}\n")
    if given.quiet:
        return
    sys.stdout.write(f"  receipt: /deletions/{printable(receipt.id)}\n")
    for url, peer in receipt.peers.items():
        why = f": {peer.reason}" if peer.reason else ""
        sys.stdout.write(printable(f"  {url}  {peer.state}{why}") + "\n")


def _pending(receipt: Receipt) -> int:
    return sum(peer.state == "pending" for peer in receipt.peers.values())


async def _peers(given: argparse.Namespace, client: Client) -> int:
    peers = await client.peers()
    if given.json:
        say_json(asdict(peers))
        return DONE
    health = {each.get("url"): each for each in peers.health}
    for url in peers.urls:
        known = health.get(url, {})
        rate = known.get("rate")
        quick = f"  {size(rate)}/s" if isinstance(rate, (int, float)) else ""
        sys.stdout.write(printable(f"{url}  {known.get('state', 'unknown')}{quick}") + "\n")
    for line in peers.bad_lines:
        note(f"line {line.get('line')}: {line.get('reason')}")
    for error in peers.errors:
        note(error)
    return DONE


async def _status(given: argparse.Namespace, client: Client) -> int:
    status = await client.status()
    if given.json:
        say_json(asdict(status))
    else:
        ready = "ready" if status.ready else "not ready"
        version = "of 2015, or something else" if status.version is None else status.version
        sys.stdout.write(f"{status.node}: {ready}, dtfc {printable(version)}\n")
        for name, value in status.facts.items():
            if name not in ("status", "type", "title"):
                shown = size(value) if name.endswith("_bytes") else str(value)
                sys.stdout.write(printable(f"  {name.replace('_', ' ')}: {shown}") + "\n")
    return DONE if status.ready else FAILED


def _say(given: argparse.Namespace, told: dict[str, Any]) -> None:
    if given.json:
        say_json(told)
        return
    for name, value in told.items():
        if value is not None:
            sys.stdout.write(f"{name}: {printable(str(value))}\n")


def _date(stamp: float, *, seconds: bool = False) -> str:
    form = "%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M"
    return time.strftime(form, time.localtime(stamp))


_ACTS: dict[str, Callable[[argparse.Namespace, Client], Awaitable[int]]] = {
    "ls": _ls,
    "head": _head,
    "info": _info,
    "rm": _rm,
    "peers": _peers,
    "status": _status,
}

SHOWING = tuple(_ACTS)
