"""``dtfc couchdb migrate`` and ``restore``: attachments to a node, and back."""

from __future__ import annotations

import argparse
import re
import sys
import time
from typing import Any

from dtfc.access.sessions import Credential
from dtfc.couchdb.client import Couch
from dtfc.couchdb.migration import Figures, Migration, State, Wishes
from dtfc.couchdb.moving import SILENCE, Mover, Stopped
from dtfc.couchdb.nodeuser import read_user
from dtfc.errors import BadSetting
from dtfc.guarded import read_guarded
from dtfc.peers.addresses import EVERYWHERE
from dtfc.peers.body import PeerLimits
from dtfc.peers.client import open_peer_http
from dtfc.settings.values import database as database_name
from dtfc.settings.values import duration, origin

#: Seconds for an answer that is no bytes.
PATIENCE = 60.0

#: Seconds between two lines of progress.
EVERY = 0.5

MOST_JOBS = 64

_LARGEST_TOKEN_FILE = 4096
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z")


def add_migrate_commands(acts: Any) -> None:
    """Add ``migrate`` and ``restore`` to ``dtfc couchdb``."""
    both = argparse.ArgumentParser(add_help=False)
    both.add_argument("url", metavar="URL", help="http://couchdb.example:5984/DATABASE")
    both.add_argument("node", metavar="NODE", help="http://files.example:8080")
    both.add_argument(
        "--couchdb-user-file",
        metavar="FILE",
        help="a user who may write the documents: one line, name:password, in no file that others "
        "may read",
    )
    both.add_argument(
        "--token-file",
        metavar="FILE",
        help="a token that the node takes, one line, in no file that others may read",
    )
    both.add_argument("--dry-run", action="store_true", help="change nothing, say what would be")
    both.add_argument("--jobs", type=_jobs, default=4, metavar="N", help="documents at once (4)")
    both.add_argument(
        "--state", metavar="FILE", help="keeps how far it is; a run that was killed goes on there"
    )
    both.add_argument(
        "--patience",
        type=duration(),
        default=120.0,
        metavar="TIME",
        help="how long CouchDB or the node may be away (2m)",
    )
    both.add_argument("--design-documents", action="store_true", help="theirs, too")
    both.add_argument("--quiet", action="store_true", help="no progress")
    migrate = acts.add_parser(
        "migrate",
        parents=[both],
        help="move the attachments of a database to a node",
        description="Each attachment becomes a blob of the node, and an entry of its document's "
        "dtfc instead of _attachments, all of a document in one update.",
    )
    migrate.add_argument("--keep", action="store_true", help="leave the attachments where they are")
    restore = acts.add_parser(
        "restore",
        parents=[both],
        help="make attachments again of what documents refer to",
        description="Each blob that a document's dtfc has becomes an attachment of that document, "
        "verified by its SHA-512. The blobs stay at the node.",
    )
    restore.add_argument("--keep", action="store_true", help="leave the entries of dtfc, too")


def run_migration(given: argparse.Namespace, server: str, name: str) -> int:
    """Do it; return the exit code.

    Args:
        given: the command line.
        server: URL of CouchDB.
        name: of the database.
    """
    wishes = Wishes(
        back=given.act == "restore",
        keep=given.keep,
        dry_run=given.dry_run,
        designs=given.design_documents,
        jobs=given.jobs,
        patience=given.patience,
    )
    what = {"act": given.act, "url": f"{server}/{name}", "keep": given.keep}
    what["designs"] = given.design_documents
    state = State(given.state, what)
    try:
        node = origin(given.node)
        credential = read_user(given.couchdb_user_file)
        token = read_token(given.token_file)
        database_name(name)
        state.read()
    except (ValueError, BadSetting) as error:
        sys.stderr.write(f"dtfc: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"dtfc: {given.state}: {error.strerror}\n")
        return 2
    line = _Line(quiet=given.quiet)
    figures, stop, freed = _run(server, credential, name, node, token, wishes, state, line)
    line.clear()
    if figures.documents or not stop:
        sys.stdout.write(_summary(server, name, figures, wishes, freed))
    if stop:
        kept = f"; {given.state} has how far it is" if given.state else ""
        sys.stderr.write(f"dtfc: {given.url}: {stop}{kept}\n")
    return 1 if stop or figures.failed or figures.left else 0


def _run(  # noqa: PLR0917 -- what the command line says, once
    server: str,
    credential: Credential | None,
    name: str,
    node_url: str,
    token: str | None,
    wishes: Wishes,
    state: State,
    line: _Line,
) -> tuple[Figures, str, int | None]:
    """Return what was done, why not all was, and what compaction frees."""
    from twisted.internet import reactor, task  # noqa: PLC0415 - the other commands do without

    figures = Figures()
    clock: Any = reactor
    stop = "interrupted"
    freed: int | None = None

    async def work(_reactor: Any) -> None:
        nonlocal stop, freed
        couch, node = Couch(reactor, server, PATIENCE), Couch(reactor, node_url, PATIENCE)
        limits = PeerLimits(
            connect=PATIENCE, first_byte=PATIENCE, stall=SILENCE, networks=EVERYWHERE
        )
        http = open_peer_http(reactor, limits)
        mover = Mover(couch, credential, name, node, token, http, clock)
        migration = Migration(
            *(couch, credential, name, node, mover, wishes, state, clock, line.tell, line.show),
            figures=figures,
        )
        try:
            freed = await migration.run()
            stop = ""
        except Stopped as error:
            stop = str(error)
        finally:
            for each in (http, couch, node):
                await each.close()

    try:
        task.react(work)
    except SystemExit as done:
        if done.code and not stop:
            raise
    return figures, stop, freed


def read_token(path: str | None) -> str | None:
    """Read a node's token (blocks).

    Raises:
        BadSetting: it cannot be read, may be read by everybody, or holds none.
    """
    if path is None:
        return None
    text = read_guarded("token-file", path, _LARGEST_TOKEN_FILE).decode("latin-1").strip()
    if not _TOKEN.match(text):
        raise BadSetting("token-file", f"{path}: it is not one line with a token")
    return text


def _jobs(given: str) -> int:
    number = int(given)
    if not 1 <= number <= MOST_JOBS:
        raise ValueError
    return number


class _Line:
    """Progress, on a terminal, and what could not be done."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = not quiet and sys.stderr.isatty()
        self._last = 0.0

    def show(self, figures: Figures) -> None:
        now = time.monotonic()
        if self._shown and now - self._last >= EVERY:
            self._last = now
            sys.stderr.write(f"\r\x1b[K{_counts(figures)}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")

    def tell(self, text: str) -> None:
        self.clear()
        plain = "".join(each if each.isprintable() else "?" for each in text)
        sys.stderr.write(f"dtfc: {plain}\n")


def _counts(figures: Figures) -> str:
    return (
        f"{figures.documents} documents looked at, {figures.changed} changed, "
        f"{figures.files} attachments, {figures.length} bytes"
    )


def _summary(server: str, name: str, figures: Figures, wishes: Wishes, freed: int | None) -> str:
    would = " (nothing was changed: --dry-run)" if wishes.dry_run else ""
    lines = [f"{name}: {_counts(figures)}{would}"]
    if figures.left or figures.failed:
        lines.append(
            f"{name}: {figures.left} left where they are, {figures.failed} times a document "
            "could not be done"
        )
    if not wishes.back:
        # Before anything was changed, the file's own sizes do not know yet.
        known = freed is not None and not wishes.dry_run
        about = freed if known else figures.stored
        lines.append(
            f"{name}: compaction {'frees' if known else 'frees about'} {about} bytes: "
            f"curl -X POST -H 'Content-Type: application/json' {server}/"
            f"{name.replace('/', '%2F')}/_compact"
        )
    return "".join(f"{line}\n" for line in lines)
