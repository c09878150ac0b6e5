"""A store in a folder of its own, whose every change and promise is noted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random

from dtfc.digest import Digest
from dtfc.errors import DtfcError
from dtfc.store.blobs import Store, open_store
from dtfc.store.facts import Stored
from dtfc.store.records import Record
from dtfc.store.together import Small, Together
from dtfc.store.upload import Upload
from dtfc.store.uploadstate import Announced
from prove.ledger import Deed, Ledger, State, Told
from prove.record import Recorder

#: Bytes of a log of small blobs: small, so that it turns over often.
LOG = 48 * 1024


@dataclass(frozen=True, slots=True)
class Form:
    """How a store is opened.

    Args:
        fan_out: 2 or 64.
        anonymous: whether to use ``O_TMPFILE``.
        elsewhere: whether temporary files lie outside of the store.
    """

    fan_out: int = 2
    anonymous: bool = True
    elsewhere: bool = False

    def open(self, root: str) -> Store:
        """Open the store below a folder."""
        return open_store(
            f"{root}/store",
            temp=f"{root}/elsewhere" if self.elsewhere else None,
            fan_out=self.fan_out,
            reserve=0,
            anonymous_files=self.anonymous,
        )


class Scene:
    """What a workload plays on.

    Args:
        root: an empty folder.
        form: of the store.
        recorder: notes the steps; installed by the caller.
        chance: what the workload may ask.
    """

    def __init__(self, root: str, form: Form, recorder: Recorder, chance: Random) -> None:
        self.root = root
        self.form = form
        self.recorder = recorder
        self.chance = chance
        self.ledger = Ledger()
        self._store: Store | None = None
        self._together: Together | None = None

    @property
    def store(self) -> Store:
        """The store, opened if it is not."""
        if self._store is None:
            self._store = self.form.open(self.root)
            self.recorder.catalog_changed()
        return self._store

    @property
    def together(self) -> Together:
        """Where small blobs go, opened if it is not."""
        if self._together is None:
            self._together = together_of(self.store)
        return self._together

    def open(self) -> Store:
        """Open the store, if it is not."""
        return self.store

    def begin_groups(self) -> Together:
        """Make the logs of small blobs, if there are none."""
        return self.together

    def close(self) -> None:
        """Close everything in order."""
        if self._together is not None:
            self._together.close()
            self._together = None
        if self._store is not None:
            self._store.close()
            self._store = None
        self.recorder.catalog_changed()

    def kill(self) -> None:
        """End the process, as far as the disk is concerned."""
        if self._together is not None:
            self._together._join()  # noqa: SLF001 - a thread of this process would go on
        self.recorder.kill()
        for forgotten in (self._together, self._store):
            _forget(forgotten)
        self._together = self._store = None
        self.recorder.catalog_changed()

    @contextmanager
    def deed(self, digest: Digest, result: State | None, name: str | None) -> Iterator[Deed]:
        """Do something to a blob, which is acknowledged at the end."""
        deed = self.ledger.begin(digest, result, name, self.recorder.at)
        yield deed
        deed.done = self.recorder.at

    def put(self, body: bytes, name: str | None = None, *, announced: bool = True) -> Digest:
        """Store a blob, as a PUT does."""
        digest = self.ledger.body(body)
        store = self.store
        with self.deed(digest, "here", name) as deed:
            intake = store.intake(len(body) if announced else None)
            half = len(body) // 2
            for block in (body[:half], body[half:]):
                intake.write([block])
            revival = intake.commit(name).revival
            if revival is not None:
                deed.rank = revival.rank
        return digest

    def upload(self, body: bytes, name: str, *parts: int, right: Sequence[bool] = ()) -> Upload:
        """Begin an upload, and add parts to it, each in a request of its own.

        Args:
            body: the whole.
            name: the file name.
            parts: where each of them ends.
            right: of the parts with a checksum, the first ones, whether they have it.
        """
        self.ledger.body(body)
        upload = self.store.uploads.create(Announced(name, len(body)))
        for number, end in enumerate(parts):
            if number:
                upload = self.store.uploads.take(upload.name)
            checked = number < len(right)
            if checked:
                upload.begin_part()
            before = upload.offset
            for at in range(before, end, 6000):
                upload.write([body[at : min(end, at + 6000)]])
            if checked:
                upload.end_part(right=right[number])
            offset = upload.sync()
            self.ledger.offsets.append(Told(upload.name, body, offset, self.recorder.at))
            upload.close()
        return upload

    def finish(self, upload: Upload) -> None:
        """Make a blob of an upload that is complete."""
        told = self.ledger.told(self.recorder.at)[upload.name]
        with self.deed(Digest.of(told.body), "here", upload.known.announced.name):
            upload = self.store.uploads.take(upload.name)
            upload.sync()
            upload.enter()
            upload.is_stored({"sha512": Digest.of(told.body).hex})
            upload.close()

    def give_up(self, upload: Upload) -> None:
        """Take an upload away."""
        self.ledger.offsets = [each for each in self.ledger.offsets if each.upload != upload.name]
        self.store.uploads.take(upload.name).discard()

    def small(self, *blobs: tuple[bytes, str | None]) -> None:
        """Store a group of small blobs, as the writer does; what it refuses goes to the door."""
        together = self.together
        at = self.recorder.at
        deeds = [
            self.ledger.begin(self.ledger.body(body), "here", name, at) for body, name in blobs
        ]
        results = together.put([Small(body, name) for body, name in blobs])
        for deed, result, (body, name) in zip(deeds, results, blobs, strict=True):
            if result is None:
                intake = self.store.intake(len(body))
                intake.write([body])
                intake.commit(name)
            elif not isinstance(result, Stored):
                raise result
            deed.done = self.recorder.at

    def name(self, digest: Digest, name: str) -> None:
        """Give a blob a further name."""
        with self.deed(digest, None, name):
            self.store.store_again(digest, name)

    def delete(self, digest: Digest) -> None:
        """Delete a blob."""
        with self.deed(digest, "deleted", None):
            self.store.delete(digest)

    def everywhere(self, digest: Digest) -> None:
        """Delete a blob here, and remember what the others must hear."""
        with self.deed(digest, "deleted", None) as deed:
            deleted = self.store.delete_everywhere(digest, self.chance.randbytes(16).hex())
            if deleted.record is not None:
                deed.rank = deleted.record.rank

    def hear(self, digest: Digest, counter: int, *, deleted: bool) -> None:
        """Hear from another node that a blob is deleted, or may come back."""
        record = Record(digest, counter, deleted=deleted, id="ab" * 16, at="2026", node="cd" * 16)
        with self.deed(digest, "deleted" if deleted else "never", None) as deed:
            self.store.hear(record)
            deed.rank = record.rank

    def load(
        self, body: bytes, name: str | None = None, *, upto: int | None = None, fresh: bool = False
    ) -> Digest:
        """Load a blob as from a peer, or only a part of it; go on with what is there.

        Args:
            body: all of it.
            name: that the peer gives.
            upto: bytes after which the load is left alone.
            fresh: whether to throw away first what is there.
        """
        digest = self.ledger.body(body)
        store = self.store
        partial = store.partial(digest)
        try:
            partial.absorb()
            if fresh:
                partial.restart()
            partial.reserve(len(body))
            end = len(body) if upto is None else upto
            while partial.length < end:
                at = partial.length
                partial.write([body[at : min(end, at + 5000)]])
            if upto is None:
                deed = self.ledger.begin(digest, "here", name, self.recorder.at)
                try:
                    partial.commit(name)
                except DtfcError:
                    # Deleted meanwhile: nothing was promised.
                    self.ledger.deeds.remove(deed)
                    partial.discard()
                else:
                    deed.done = self.recorder.at
        finally:
            partial.close()
        return digest

    def body(self, size: int) -> bytes:
        """Make up a blob."""
        return self.chance.randbytes(size)


def _forget(owner: object) -> None:
    """Let an object go whose descriptors were closed under it."""
    for name in ("catalog",):
        catalog = getattr(owner, name, None)
        if catalog is not None:
            with suppress(Exception):
                catalog.close()


def elsewhere(root: str) -> str:
    """Return where temporary files lie if not in the store, and make it."""
    path = f"{root}/elsewhere"
    os.makedirs(path, exist_ok=True)
    return path


def together_of(store: Store) -> Together:
    """Open what stores small blobs together, with logs that are soon full."""
    return Together(
        store.layout,
        store._volume,  # noqa: SLF001 - the writer asks the store, with larger logs
        store._folders,  # noqa: SLF001 - the same
        store.catalog,
        store.settle,
        size=LOG,
    )
