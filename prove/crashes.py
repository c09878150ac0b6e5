"""Puts a crash state on a disk, opens the store, and looks for broken promises."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dtfc.digest import Digest
from dtfc.errors import Absent
from dtfc.store import power
from prove.record import CATALOG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dtfc.store.blobs import Store
    from prove.disk import Tree
    from prove.ledger import Allowed, Told
    from prove.scene import Form

from prove.steps import ROOT

#: Seconds that an opening may take.
QUICK = 1.0

_OWN = {
    "format",
    "running",
    "tmp",
    "partial",
    "uploads",
    "quarantine",
    "collected",
    "catalog",
    "log",
}
#: What an upload's files are called, and a draft of one that is replaced.
_UPLOAD = re.compile(r"[A-Za-z0-9_-]{43}(\.upload|\.wanted)?\Z")
_BLOB = {"data", "filename", "404", "403", "chunks", "deletion"}
_NOT_COMPARED = re.compile(r"/store/\.dtfc/(running|catalog(/.*)?|log/lock)\Z")


def place(tree: Tree, root: str, catalog: Mapping[str, bytes] | None) -> None:
    """Make what a crash leaves.

    Args:
        tree: what it is.
        root: an empty folder.
        catalog: SQLite's files; None if they are lost.
    """
    made: dict[int, str] = {}
    _place(tree, ROOT, root, made)
    folder = f"{root}/store/{CATALOG}"
    if catalog is not None and os.path.isdir(folder):
        for name, content in catalog.items():
            with open(f"{folder}/{name}", "wb") as file:
                file.write(content)


def _place(tree: Tree, inode: int, path: str, made: dict[int, str]) -> None:
    for name, child in tree.entries[inode].items():
        full = f"{path}/{name}"
        if child in tree.entries:
            if child in made:
                # A rename between two folders of which one was written out: a
                # file system has a folder in one place only.
                continue
            made[child] = full
            os.mkdir(full, 0o700)
            _place(tree, child, full, made)
            if tree.modes(child) != 0o700:
                os.chmod(full, tree.modes(child))
        elif child in made:
            os.link(made[child], full)
        else:
            made[child] = full
            fd = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(fd, tree.files(child))
            os.fchmod(fd, tree.modes(child))
            os.close(fd)


def clear(root: str) -> None:
    """Remove everything below a folder, quickly."""
    with os.scandir(root) as entries:
        found = list(entries)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            clear(entry.path)
            os.rmdir(entry.path)
        else:
            os.unlink(entry.path)


@contextmanager
def boot(name: bytes) -> Iterator[None]:
    """Let the kernel have another name meanwhile."""
    before = power.boot_id
    power.boot_id = lambda: name
    try:
        yield
    finally:
        power.boot_id = before


class Check:
    """Opens a store after a crash, and says what is wrong with it.

    Args:
        root: the folder with the store.
        form: how it is opened.
        allowed: what may be found of each blob.
        bodies: their bytes.
        told: what was told of uploads, by id; None if there were none.
    """

    def __init__(
        self,
        root: str,
        form: Form,
        allowed: Mapping[Digest, Allowed],
        bodies: Mapping[Digest, bytes],
        told: Mapping[str, Told] | None = None,
    ) -> None:
        self._told = told
        self._root = root
        self._form = form
        self._allowed = allowed
        self._bodies = bodies
        self.wrong: list[str] = []

    def run(self, boot_name: bytes, *, reindex: bool, trusted: bool = False) -> list[str]:
        """Open it, look, and open it once more; return what is wrong.

        Args:
            boot_name: the kernel's; another one than before stands for a power cut.
            reindex: whether to rebuild the catalog, if it wants to be.
            trusted: the catalog must be right without that.
        """
        with boot(boot_name):
            try:
                self._look(reindex=reindex, trusted=trusted)
                self._again()
                self._uploads()
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not be
                self.wrong.append(f"opening failed: {type(error).__name__}: {error}")
        return self.wrong

    def _look(self, *, reindex: bool, trusted: bool) -> None:
        begun = time.perf_counter()
        store = self._form.open(self._root)
        took = time.perf_counter() - begun
        try:
            if took > QUICK:
                self.wrong.append(f"opening took {took:.2f} s")
            here = {digest for digest in self._bodies if self._blob(store, digest)}
            self._litter(store)
            if trusted and store.needs_reindex:
                self.wrong.append("the catalog was lost, though the machine went on")
            if store.needs_reindex and not reindex:
                return
            if store.needs_reindex:
                store.reindex()
            self._leftovers(store)
            self._catalog(store, here)
        finally:
            store.close()

    def _blob(self, store: Store, digest: Digest) -> bool:
        allowed, body = self._allowed[digest], self._bodies[digest]
        short = f"{digest.hex[:8]} ({len(body)} bytes)"
        try:
            with store.open(digest) as blob:
                found = os.pread(blob.fd, len(body) + 1, 0)
                names = blob.info.names
        except Absent as absent:
            state = "deleted" if absent.deleted else "never"
            if state not in allowed.states:
                self.wrong.append(f"{short} is {state}, not {sorted(allowed.states)}")
            return False
        if "here" not in allowed.states:
            self.wrong.append(f"{short} is here, not {sorted(allowed.states)}")
        if found != body:
            self.wrong.append(f"{short} has wrong bytes, {len(found)} of them")
        if not allowed.required <= set(names) <= allowed.possible:
            self.wrong.append(
                f"{short} has the names {names}, not at least {sorted(allowed.required)} "
                f"and at most {sorted(allowed.possible)}"
            )
        elif (names[-1] if names else None) not in allowed.current:
            self.wrong.append(f"{short} has the name {names[-1:]}, not {allowed.current}")
        return True

    def _litter(self, store: Store) -> None:
        base = store.layout.basedir
        own = f"{base}/.dtfc"
        self._only(own, _OWN)
        for name in ("tmp", "quarantine", "collected"):
            self._only(f"{own}/{name}", set())
        # What is left of an upload that nobody was told of expires.
        names = set() if self._told is None else set(os.listdir(f"{own}/uploads"))
        self._only(f"{own}/uploads", {name for name in names if _UPLOAD.match(name)})
        self._only(f"{own}/log", {"lock"})
        # What is left of a load that nobody goes on with expires later.
        loads = {digest.hex for digest in self._bodies}
        self._only(f"{own}/partial", loads | {f"{each}.state" for each in loads})
        if self._form.elsewhere:
            self._only(f"{self._root}/elsewhere", set())
        for digest, folder in store._folders.walk():  # noqa: SLF001 - also what is denied
            names = set(os.listdir(folder))
            if not names <= _BLOB:
                self.wrong.append(f"{digest.hex[:8]} has {sorted(names - _BLOB)} in its folder")
            if digest not in self._bodies and names:
                self.wrong.append(f"{digest.hex[:8]} was never asked for")

    def _uploads(self) -> None:
        """Every offset that was told is still there, with the bytes before it."""
        if not self._told:
            return
        store = self._form.open(self._root)
        try:
            for name, told in self._told.items():
                upload = store.uploads.take(name)
                offset, path = upload.offset, store.layout.own(f"uploads/{name}")
                if offset < told.offset:
                    self.wrong.append(f"an upload went back from {told.offset} to {offset}")
                if not upload.known.over:
                    with open(path, "rb") as file:
                        if file.read() != told.body[:offset]:
                            self.wrong.append("an upload has other bytes than were sent")
                upload.close()
        finally:
            store.close()

    def _leftovers(self, store: Store) -> None:
        """What a deletion left goes when the catalog is in order again, not before."""
        for digest, folder in store._folders.walk():  # noqa: SLF001 - also what is denied
            names = set(os.listdir(folder))
            if "404" in names and names & {"data", "filename"}:
                self.wrong.append(f"{digest.hex[:8]} was deleted, and keeps {sorted(names)}")

    def _only(self, folder: str, expected: set[str]) -> None:
        found = set(os.listdir(folder)) - expected
        if found:
            self.wrong.append(f"litter in {os.path.relpath(folder, self._root)}: {sorted(found)}")

    def _catalog(self, store: Store, here: set[Digest]) -> None:
        if set(store.catalog.digests()) != here:
            self.wrong.append("the catalog disagrees with the tree, and does not say so")
        if store.catalog.unsettled():
            self.wrong.append("something stayed unsettled")
        for digest, allowed in self._allowed.items():
            known = store.memory.get(digest)
            if ((0, False) if known is None else known.rank) < allowed.rank:
                self.wrong.append(f"{digest.hex[:8]} has forgotten {allowed.rank}")
            if known is not None and known.deleted and digest in here:
                self.wrong.append(f"{digest.hex[:8]} is deleted everywhere, and here")

    def _again(self) -> None:
        before = listing(self._root)
        self._form.open(self._root).close()
        after = listing(self._root)
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        if changed:
            self.wrong.append(f"a second recovery changed {sorted(changed)}")


def listing(root: str) -> dict[str, tuple[int, ...]]:
    """Say what lies below a folder, so that two moments can be compared."""
    found: dict[str, tuple[int, ...]] = {}
    waiting = [root]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                path = entry.path[len(root) :]
                if _NOT_COMPARED.search(path):
                    continue
                facts = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(facts.st_mode):
                    waiting.append(entry.path)
                    found[path] = (facts.st_mode, facts.st_ino)
                else:
                    found[path] = (facts.st_mode, facts.st_ino, facts.st_size, facts.st_mtime_ns)
    return found
