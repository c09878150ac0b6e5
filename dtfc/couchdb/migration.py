"""Moves all attachments of a database to a node, or back.

Rules of this file: a document is changed by one update, after all its bytes are
where they go, so whoever is killed has changed it or has not; to look at it again
does no harm. The sequence that is kept is one up to which all documents are done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlencode

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from dtfc.access.sessions import Credential
from dtfc.couchdb.asking import DatabaseGone
from dtfc.couchdb.client import Answer, Couch
from dtfc.couchdb.documents import BEGINNING, Change, Page, Reference, parse_json
from dtfc.couchdb.feed import Database
from dtfc.couchdb.leaves import LARGEST_BODY
from dtfc.couchdb.migrating import (
    Attachment,
    Stored,
    attachments_of,
    document_path,
    entries_of,
    is_design,
    moved,
    parse,
    same,
    without_entries,
)
from dtfc.couchdb.moving import Away, Conflict, Mover, Stopped, Unfit, revision_of
from dtfc.couchdb.nodeuser import Anybody, ByPassword
from dtfc.errors import CouchUnreached, TooLarge

#: Changes asked for at once.
PAGE = 200

#: Times that a document is tried again while both servers answer.
TRIES = 4

#: Longest wait before something is tried again, in seconds.
LONGEST_WAIT = 15.0

#: Bytes of answers that say little.
SMALL = 1024 * 1024

T = TypeVar("T")


@dataclass(slots=True)
class Figures:
    """What was done.

    Args:
        documents: looked at; one that changes meanwhile comes again.
        changed: leaf revisions that were updated, or would be.
        files: attachments that were moved, or would be.
        length: bytes of them.
        stored: bytes that attachments took in the database's file which are there no more.
        left: attachments or entries that stay, each with a reason.
        failed: documents that could not be done.
    """

    documents: int = 0
    changed: int = 0
    files: int = 0
    length: int = 0
    stored: int = 0
    left: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is to be done.

    Args:
        back: from the node to the database.
        keep: what is moved stays where it is as well.
        dry_run: nothing is changed.
        designs: design documents, too.
        jobs: documents at once.
        patience: seconds that a server may be away.
    """

    back: bool = False
    keep: bool = False
    dry_run: bool = False
    designs: bool = False
    jobs: int = 4
    patience: float = 120.0


@dataclass(slots=True)
class State:
    """How far it is, in a file that is replaced as a whole.

    Args:
        path: of the file; None to remember nothing.
        what: which database and which work it is about.
    """

    path: str | None
    what: dict[str, Any]
    since: str = BEGINNING

    def read(self) -> None:
        """Read it (blocks).

        Raises:
            ValueError: it is about something else, or no such file.
            OSError: it cannot be read.
        """
        if self.path is None:
            return
        try:
            with open(self.path, "rb") as file:
                found = parse_json(file.read(SMALL))
        except FileNotFoundError:
            return
        if not isinstance(found, dict) or "since" not in found:
            raise ValueError(f"{self.path} is no state of a migration")
        if found.get("what") != self.what:
            raise ValueError(f"{self.path} is the state of another migration: {found.get('what')}")
        self.since = json.dumps(found["since"], separators=(",", ":"))

    def write(self, since: str) -> None:
        """Replace it (blocks for a small file).

        Raises:
            Stopped: it cannot be written.
        """
        self.since = since
        if self.path is None:
            return
        new = f"{self.path}.new"
        try:
            with open(new, "w", encoding="utf-8") as file:
                json.dump({"what": self.what, "since": json.loads(since)}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self.path)
        except OSError as error:
            raise Stopped(f"{self.path}: {error.strerror}") from None


@dataclass
class Migration:
    """Walks a database.

    Args:
        couch: where it is.
        credential: of a user who may write its documents.
        name: of the database.
        node: where the blobs are.
        mover: moves bytes.
        wishes: what is to be done.
        state: how far it is.
        clock: measures waits.
        told: called with a line for each document that could not be done.
        progress: called after each document.
    """

    couch: Couch
    credential: Credential | None
    name: str
    node: Couch
    mover: Mover
    wishes: Wishes
    state: State
    clock: IReactorTime
    told: Callable[[str], None]
    progress: Callable[[Figures], None] = lambda _figures: None
    figures: Figures = field(default_factory=Figures)

    def __post_init__(self) -> None:
        user = Anybody() if self.credential is None else ByPassword(self.credential)
        self._database = Database(self.couch, user, self.name, "", self.clock)
        # What was written with --keep comes again in the feed, with all that was kept.
        self._written: set[str] = set()
        self._left: set[tuple[str, str]] = set()

    async def run(self) -> int | None:
        """Do it; return the bytes that compaction frees, if the database can say that.

        Raises:
            Stopped: it could not be done to the end.
        """
        await self._begin()
        whole = True
        while True:
            page = await self._page()
            whole = await self._done(page.changes) and whole
            if whole and not self.wishes.dry_run:
                self.state.write(page.since)
            if not page.changes:
                return await self._compactable()
            self._since = page.since

    async def _begin(self) -> None:
        self._since = self.state.since
        answer = await self._patiently(lambda: self._ask("GET", f"/{quote(self.name, safe='')}"))
        if answer.status != 200:
            reason = "there is no such database" if answer.status == 404 else "it may not be read"
            raise Stopped(f"CouchDB answered {answer.status}: {reason}")

    async def _page(self) -> Page:
        async def ask() -> Page:
            try:
                return await self._database.page(self._since, PAGE)
            except CouchUnreached as error:
                raise Away(f"CouchDB: {error.reason}") from None
            except DatabaseGone:
                raise Stopped("the database is gone") from None

        return await self._patiently(ask)

    async def _done(self, changes: Sequence[Change]) -> bool:
        """Do some documents, several at once; return whether all were done."""
        # A document that changed twice on one page is as it was told last.
        coming = iter({change.id: change for change in changes}.values())
        whole = True

        async def work() -> None:
            nonlocal whole
            for change in coming:
                self.figures.documents += 1
                if self._wanted(change):
                    whole = await self._document(change.id) and whole
                self.progress(self.figures)

        workers = [Deferred.fromCoroutine(work()) for _ in range(self.wishes.jobs)]
        try:
            await gatherResults(workers, consumeErrors=True)
        except Exception as error:
            for each in workers:
                each.cancel()
            found = getattr(error, "subFailure", None)
            if isinstance(found, Failure) and isinstance(found.value, Stopped):
                raise found.value from None
            raise
        return whole

    def _wanted(self, change: Change) -> bool:
        if change.deleted or (is_design(change.id) and not self.wishes.designs):
            return False
        if len(change.leaves) > 1 or change.document is None:
            return True
        look = entries_of if self.wishes.back else attachments_of
        found, wrong = look(change.document)
        return bool(found or wrong)

    async def _document(self, name: str) -> bool:
        """Do one document, however often it takes; return whether it was done."""
        why = ""
        for turn in range(TRIES):
            try:
                return await self._leaves(name)
            except Conflict as error:
                why = str(error)
            except Away as error:
                why = str(error)
                await self._pause(turn)
                await self._patiently(self._both_answer)
        self._fail(name, why)
        return False

    def _fail(self, name: str, why: str) -> None:
        self.figures.failed += 1
        self.told(f"{name}: {why}")

    async def _leaves(self, name: str) -> bool:
        query = urlencode({"open_revs": "all", "att_encoding_info": "true"})
        path = f"{document_path(self.name, name)}?{query}"
        answer = await self._ask("GET", path, most=LARGEST_BODY)
        if answer.status == 404:
            return True
        if answer.status != 200:
            if answer.status >= 500 or answer.status in {408, 429}:
                raise Away(f"CouchDB answered {answer.status}")
            self._fail(name, f"CouchDB answered {answer.status}")
            return False
        try:
            leaves = [each["ok"] for each in parse(answer.body) if "ok" in each]
        except (ValueError, TypeError) as error:
            self._fail(name, f"it could not be written back as it is: {error}")
            return False
        done = True
        for leaf in leaves:
            if leaf.get("_deleted") is True or f"{name} {leaf['_rev']}" in self._written:
                continue
            try:
                act = self._back if self.wishes.back else self._forth
                done = await act(name, leaf) and done
            except (Unfit, ValueError) as error:
                self._fail(name, str(error))
                done = False
        return done

    async def _forth(self, name: str, leaf: dict[str, Any]) -> bool:
        attachments, wrong = attachments_of(leaf)
        if wrong:
            self._leave(name, f"{wrong} of its attachments make no sense", wrong)
        if self.wishes.dry_run:
            self._count(attachments, changed=bool(attachments))
            return not wrong
        stored: dict[str, Stored] = {}
        troubles: list[Unfit] = []
        for each in attachments:
            entries = leaf.get("dtfc", {})
            if isinstance(entries, dict) and each.name in entries:
                # What is not moved need not be sent.
                found = await self.mover.digest_of(name, leaf["_rev"], each)
                _, taken = moved(leaf, {each.name: found}, keep=True)
                if taken:
                    self._leave(name, f"its dtfc has another {each.name!r}: both stay", 1)
                    wrong += 1
                    continue
            try:
                stored[each.name] = await self.mover.to_node(name, leaf["_rev"], each)
            except Unfit as error:
                troubles.append(Unfit(f"{each.name!r}: {error}"))
        new, _ = moved(leaf, stored, keep=self.wishes.keep)
        if not same(new, leaf):
            await self._write(name, new)
            self._count([each for each in attachments if each.name in stored], changed=True)
        if troubles:
            raise Unfit("; ".join(map(str, troubles)))
        return not wrong

    async def _back(self, name: str, leaf: dict[str, Any]) -> bool:
        entries, wrong = entries_of(leaf)
        if wrong:
            self._leave(name, f"{wrong} entries of its dtfc can be no attachment", wrong)
        if self.wishes.dry_run:
            self._count(entries, changed=bool(entries))
            return not wrong
        there = {each.name: each for each in attachments_of(leaf)[0]}
        revision: str = leaf["_rev"]
        done: list[Reference] = []
        troubles: list[Unfit] = []
        for entry in entries:
            try:
                what = await self._compared(name, revision, there.get(entry.name), entry)
                if what == "another":
                    self._leave(name, f"it has another attachment {entry.name!r}: both stay", 1)
                    wrong += 1
                    continue
                if what == "missing":
                    revision = await self.mover.to_couch(name, revision, entry)
                done.append(entry)
            except Unfit as error:
                troubles.append(Unfit(f"{entry.name!r}: {error}"))
        if done and not self.wishes.keep:
            await self._without(name, revision, [each.name for each in done])
        elif self.wishes.keep:
            self._written.add(f"{name} {revision}")
        self._count(done, changed=revision != leaf["_rev"] or (bool(done) and not self.wishes.keep))
        if troubles:
            raise Unfit("; ".join(map(str, troubles)))
        return not wrong

    async def _compared(
        self, name: str, revision: str, there: Attachment | None, entry: Reference
    ) -> Literal["missing", "equal", "another"]:
        """Tell what of a blob its document has as an attachment.

        Of an upload that was cut off some servers (express-pouchdb) keep what they have. All
        of that is in the blob, so nothing is lost when the whole takes its place.
        """
        if there is None:
            return "missing"
        found = await self.mover.digest_of(name, revision, there)
        if found.sha512 == entry.digest.hex:
            return "equal"
        return "missing" if await self.mover.begins_with(entry, found) else "another"

    async def _without(self, name: str, revision: str, names: list[str]) -> None:
        """Drop entries from the revision that has their attachments by now."""
        path = f"{document_path(self.name, name)}?{urlencode({'rev': revision})}"
        answer = await self._ask("GET", path, most=LARGEST_BODY)
        if answer.status != 200:
            raise Away(f"CouchDB answered {answer.status}")
        await self._write(name, without_entries(parse(answer.body), names))

    async def _write(self, name: str, new: dict[str, Any]) -> None:
        content = json.dumps(new, allow_nan=False).encode()
        path = document_path(self.name, name)
        answer = await self._ask("PUT", path, most=SMALL, content=content)
        revision = revision_of(answer.status, answer.body)
        if self.wishes.keep:
            self._written.add(f"{name} {revision}")

    def _count(self, some: Sequence[Attachment | Reference], *, changed: bool) -> None:
        self.figures.changed += changed
        self.figures.files += len(some)
        self.figures.length += sum(each.length or 0 for each in some)
        if not self.wishes.keep:
            self.figures.stored += sum(e.stored for e in some if isinstance(e, Attachment))

    def _leave(self, name: str, why: str, count: int) -> None:
        # A document that was written comes again in the feed, with what was left in it.
        if (name, why) not in self._left:
            self._left.add((name, why))
            self.figures.left += count
            self.told(f"{name}: {why}")

    async def _compactable(self) -> int | None:
        """Return what the database's file has that is not alive (api/database/common.rst)."""
        answer = await self._patiently(lambda: self._ask("GET", f"/{quote(self.name, safe='')}"))
        try:
            sizes = parse_json(answer.body)["sizes"]
            return max(0, int(sizes["file"]) - int(sizes["active"]))
        except (ValueError, KeyError, TypeError):
            return None

    async def _both_answer(self) -> None:
        answer = await self._ask("GET", f"/{quote(self.name, safe='')}")
        if answer.status >= 500:
            raise Away(f"CouchDB answered {answer.status}")
        try:
            answer = await self.node.ask("GET", "/readyz", None, SMALL)
        except (CouchUnreached, TooLarge) as error:
            raise Away(f"the node: {getattr(error, 'reason', error)}") from None
        if answer.status != 200:
            raise Away(f"the node is not ready: it answered {answer.status}")

    async def _ask(
        self, method: str, path: str, *, most: int = SMALL, content: bytes | None = None
    ) -> Answer:
        try:
            return await self.couch.ask(method, path, self.credential, most, content=content)
        except CouchUnreached as error:
            raise Away(f"CouchDB: {error.reason}") from None
        except TooLarge as error:
            raise Unfit(str(error)) from None

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something until it can be done.

        Raises:
            Stopped: a server was away for too long.
        """
        began, turn = self.clock.seconds(), 0
        while True:
            try:
                return await work()
            except Away as error:
                if self.clock.seconds() - began > self.wishes.patience:
                    raise Stopped(f"{error} (for {self.wishes.patience:g} seconds)") from None
                await self._pause(turn)
                turn += 1

    async def _pause(self, turn: int) -> None:
        await deferLater(self.clock, min(LONGEST_WAIT, 0.25 * 2.0 ** min(turn, 10)))
