"""``dtfc sign``: makes a URL that may be used for one thing, for a while."""

from __future__ import annotations

import argparse
import re
import sys
import time
from typing import Any
from urllib.parse import quote

from dtfc.access.links import sign_link
from dtfc.access.verbs import Verb
from dtfc.errors import DtfcError
from dtfc.names import check_name
from dtfc.peers.secretfile import URL_SECRETS, read_secrets
from dtfc.settings.values import duration

_DIGEST = re.compile(r"[0-9a-fA-F]{128}(?:/[^/?#]+)?\Z")


def add_sign_command(commands: Any) -> None:
    """Add ``sign`` to the command's parser."""
    sign = commands.add_parser(
        "sign",
        help="print a URL that lets whoever has it do one thing, for a while",
        description="A URL for GET is good for HEAD, too. It is signed with the first secret of "
        "the node's --url-secret-file.",
    )
    sign.add_argument("verb", help="get, put or delete")
    sign.add_argument("target", help="a blob's digest; for put a file name, or both: DIGEST/NAME")
    sign.add_argument("--secret-file", required=True, help="as the node's --url-secret-file")
    sign.add_argument("--expires", default="1h", metavar="TIME", help="how long (default: 1h)")
    sign.add_argument("--name", help="the name under which a browser shall save it")
    sign.add_argument("--network", metavar="CIDR", help="for clients of this network alone")
    sign.add_argument("--base", default="", metavar="URL", help="of the node: http://files.example")


def print_link(given: argparse.Namespace) -> int:
    """Sign a URL; return the exit code."""
    try:
        verb, path = _path_of(given.verb, given.target)
        secrets = read_secrets(given.secret_file, URL_SECRETS)
        query = "" if given.name is None else f"name={quote(check_name(given.name), safe='')}"
        expires = int(time.time() + duration(1)(given.expires))
        key = b"" if secrets is None else secrets.signing
        link = sign_link(key, verb, path, expires, query=query, network=given.network or "")
    except (ValueError, DtfcError) as error:
        sys.stderr.write(f"dtfc: {error}\n")
        return 2
    sys.stdout.write(f"{given.base.rstrip('/')}{link}\n")
    return 0


def _path_of(verb: str, target: str) -> tuple[Verb, str]:
    """Return the verb, and the path of what it is for.

    Raises:
        ValueError: there is no such verb, or it is not for this.
        BadName: it is no file name.
    """
    if verb.lower() not in ("get", "put", "delete"):
        raise ValueError(f"{verb!r} is neither get, put nor delete")
    wanted = Verb(verb.lower())
    if _DIGEST.match(target):
        digest, slash, name = target.partition("/")
        if slash and wanted is not Verb.PUT:
            raise ValueError("a name behind the digest is for put; --name names what is fetched")
        end = f"/{quote(check_name(name), safe='')}" if slash else ""
        return wanted, f"/{digest.lower()}{end}"
    if wanted is not Verb.PUT:
        raise ValueError(f"what is to be signed for {verb} is a digest, 128 hexadecimal digits")
    return wanted, f"/{quote(check_name(target), safe='')}"
