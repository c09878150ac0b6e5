"""Uploads that somebody is at: one request at a time, and the newest one wins.

Rules of this file: an upload that was taken is let go of behind its last step,
whatever becomes of the request; and whatever arrived of a body is written
first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtfc.disk import Disk, Lane
from dtfc.errors import Busy, Superseded, TooLarge, WrongPart
from dtfc.web.ingest import BLOCK

if TYPE_CHECKING:
    from dtfc.http.tus import Checksum
    from dtfc.store.upload import Upload
    from dtfc.store.uploads import Uploads
    from dtfc.web.body import RequestBody

R = TypeVar("R")

#: Seconds between two looks at uploads that arrive: what has come is written then,
#: however little it is, and who else wants the upload is noticed.
LOOK_SECONDS = 0.5

#: Seconds between two tries to take an upload that another process holds.
_TRY_SECONDS = 0.05

#: Seconds after which somebody who wants an upload is told to come back.
PATIENCE = 30.0

#: Bytes of one request after which what has come is made durable.
DURABLE_EVERY = 256 << 20


class Held:
    """One upload, in the hands of one request.

    Args:
        name: its id.
        disk: where blocking work runs.
    """

    _log = Logger()

    def __init__(self, name: str, disk: Disk) -> None:
        self.name = name
        self.lane = Lane(disk)
        self._hashing = Lane(disk)
        self._upload: Upload | None = None
        self._body: RequestBody | None = None
        self._writing: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        self._durable_from = 0
        self._released = False
        self._ended = False
        self._checksum: Any = None
        self._gap = False
        self._finishing: Deferred[None] | None = None

    @property
    def upload(self) -> Upload:
        """The upload.

        Raises:
            LookupError: it was not taken yet.
        """
        if self._upload is None:
            raise LookupError("this upload was not taken")
        return self._upload

    @property
    def taken(self) -> bool:
        """Whether it was taken."""
        return self._upload is not None

    @property
    def ended(self) -> bool:
        """Whether somebody else wants to go on with it."""
        return self._ended

    # -- for whoever gives it ---------------------------------------------------------

    def fetch(self, take: Callable[[], Upload]) -> Deferred[None]:
        """Take it, by a step of the lane."""

        def fetched() -> None:
            # Kept here and not returned: if the request is cancelled meanwhile,
            # what lets go of it must still find it.
            self._upload = take()

        return self.lane.run(fetched)

    def gone(self) -> Deferred[None]:
        """Wait until it is let go of."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def end(self) -> None:
        """Let somebody else go on with it; a body that is only begun later ends at once."""
        self._ended = True
        self.yield_body()

    def yield_body(self) -> None:
        """Let somebody else go on with it, if a body is what it is held for now."""
        if self._body is not None:
            self._body.fail_with(Superseded())

    def hurry(self) -> None:
        """Have written what has come so far."""
        if self._body is not None:
            self._body.hurry()

    def give_up(self) -> None:
        """Take it away, behind the step that runs, and behind what must not stop half-way."""
        if self._finishing is not None:
            self._finishing.addCallback(lambda _: self.give_up())
            return

        def discarded() -> None:
            if self._upload is not None:
                self._upload.discard()

        self.lane.run(discarded)

    def release(self, then: Callable[[], None]) -> None:
        """Let go of it, behind the step that runs; ``then`` is called when that is done."""
        if self._finishing is not None:
            self._finishing.addCallback(lambda _: self.release(then))
            return
        self._released = True

        def closed(result: Failure | None) -> None:
            if result is not None:
                self._log.error("an upload: {error}", error=result.getErrorMessage())
            then()
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                if not each.called:
                    each.callback(None)

        self.lane.run(self._close).addBoth(closed)

    def finish(self, work: Awaitable[R]) -> Deferred[R]:
        """Do what must not stop half-way, though the client leaves; it is let go of after that."""
        done: Deferred[R] = Deferred()
        over: Deferred[None] = Deferred()
        self._finishing = over

        async def whole() -> None:
            try:
                result: R | Failure = await work
            except BaseException:  # noqa: BLE001 -- for whoever waits, if anybody does
                result = Failure()
            self._finishing = None
            if not done.called:
                done.callback(result)
            elif isinstance(result, Failure):
                self._log.error("an upload: {error}", error=result.getErrorMessage())
            over.callback(None)

        Deferred.fromCoroutine(whole())
        return done

    def _close(self) -> None:
        if self._upload is not None:
            self._upload.close()

    # -- for the request --------------------------------------------------------------

    async def receive(
        self,
        body: RequestBody,
        *,
        most: int | None,
        checksum: Checksum | None = None,
        durable: Callable[[int], None] = lambda _offset: None,
    ) -> None:
        """Add a body.

        Args:
            body: the bytes.
            most: of the whole; None for no limit.
            checksum: what the body must have.
            durable: told how many bytes of the whole are durable, now and then.

        Raises:
            WrongPart: it does not have the checksum; the upload is as it was.
            TooLarge: the whole would be larger than it may.
            DtfcError: whatever stopped it; what had come is kept.
        """
        upload = self.upload
        if checksum is not None:
            await self.lane.run(upload.begin_part)
            self._checksum = hashlib.new(checksum.algorithm)
        self._durable_from = upload.offset
        coming = upload.offset
        self._hash_beside()
        self._body = body
        if self._ended:
            body.fail_with(Superseded())
        self._gap = complete = False
        in_hand: Sequence[bytes] = ()
        try:
            while in_hand := await body.read(BLOCK):
                coming += sum(map(len, in_hand))
                if most is not None and coming > most:
                    # Nothing of it counts, nor what came behind it.
                    in_hand = ()
                    body.left()
                    raise TooLarge(most, "--max-body")
                await self._settle()
                self._writing = self.lane.run(self._write, in_hand)
                in_hand = ()
                if coming - self._durable_from >= DURABLE_EVERY:
                    self._durable_from = coming
                    self.lane.run(upload.sync).addCallbacks(durable, lambda _failure: None)
            await self._settle()
            complete = True
        finally:
            self._body = None
            if not complete:
                self._keep_rest(body, in_hand)
        if checksum is not None:
            right = self._checksum.digest() == checksum.digest
            await self.lane.run(upload.end_part, right=right)
            if not right:
                raise WrongPart(checksum.algorithm)

    def _keep_rest(self, body: RequestBody, in_hand: Sequence[bytes]) -> None:
        """Write what came of a body before it was cut off.

        Args:
            body: has what nobody has read.
            in_hand: was read, and waited for what was being written: it comes first.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            # Who waited for it is told otherwise.
            writing.addErrback(lambda _failure: None)
        rest = [*in_hand, *body.left()]
        if rest:
            self.lane.run(self._write, rest).addErrback(lambda _failure: None)

    async def _settle(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    def _write(self, blocks: Sequence[bytes]) -> None:
        if self._gap:
            # What was to lie before them could not be written.
            return
        self._gap = True
        self.upload.write(blocks)
        self._gap = False
        if self._checksum is not None:
            for block in blocks:
                self._checksum.update(block)

    def _hash_beside(self) -> None:
        """Hash what an earlier request brought, while more comes."""

        def on(_done: object = None) -> None:
            if self.upload.behind and not self._released:
                self._hashing.run(self.upload.catch_up).addCallbacks(on, lambda _failure: None)

        on()


class Uploading:
    """Who is at which upload.

    Args:
        uploads: the store's.
        disk: where blocking work runs.
        clock: the reactor.
    """

    def __init__(self, uploads: Uploads, disk: Disk, clock: Any) -> None:
        self.uploads = uploads
        self._disk = disk
        self._clock = clock
        self._held: dict[str, Held] = {}
        self._look = LoopingCall(self._look_at_all)
        self._look.clock = clock

    async def create(self, take: Callable[[], Upload]) -> Held:
        """Hold an upload that ``take`` makes.

        Raises:
            DtfcError: as ``take`` says.
        """
        held = Held("", self._disk)
        try:
            await held.fetch(take)
        except BaseException:
            # Nobody will ever hear of it, though it may have been made.
            held.give_up()
            held.release(lambda: None)
            raise
        held.name = held.upload.name
        self._hold(held)
        return held

    async def take(self, name: str, *, patient: bool = True) -> Held:
        """Hold an upload; whoever is at it has to stop.

        Args:
            name: its id.
            patient: False raises at once if somebody is at it.

        Raises:
            UnknownUpload: there is none.
            Busy: somebody is at it, and does not stop.
            Superseded: while another process was at it somebody else came.
            StoreFailure: as the operating system says.
        """
        while (other := self._held.get(name)) is not None:
            if not patient:
                raise Busy("this upload")
            gone = other.gone()
            other.end()
            await gone
        held = Held(name, self._disk)
        self._hold(held)
        try:
            await self._fetch(held, patient=patient)
        except BaseException:
            self.release(held)
            raise
        return held

    async def _fetch(self, held: Held, *, patient: bool) -> None:
        """Take an upload as soon as no other process has it."""
        ends = self._clock.seconds() + PATIENCE
        while True:
            try:
                await held.fetch(lambda: self.uploads.take(held.name))
            except Busy:
                if not patient or self._clock.seconds() > ends:
                    raise
                if held.ended:
                    raise Superseded from None
            else:
                return
            await self._disk.run(self.uploads.wish, held.name)
            await deferLater(self._clock, _TRY_SECONDS)

    def release(self, held: Held) -> None:
        """Let go of an upload; harmless when repeated."""
        held.release(lambda: self._forget(held))

    def _hold(self, held: Held) -> None:
        self._held[held.name] = held
        if not self._look.running:
            self._look.start(LOOK_SECONDS, now=False)

    def _forget(self, held: Held) -> None:
        if self._held.get(held.name) is held:
            del self._held[held.name]
        if not self._held and self._look.running:
            self._look.stop()

    def _look_at_all(self) -> None:
        for held in list(self._held.values()):
            held.hurry()
            # Before it is taken the wish is our own.
            # By another process: a worker, or one that this one succeeds or is succeeded by.
            if held.taken:
                self._disk.run(self.uploads.is_wanted, held.name).addCallbacks(
                    lambda wanted, held=held: held.yield_body() if wanted else None,
                    lambda _failure: None,
                )

    def stop(self) -> Deferred[None]:
        """Wait until all that was held is let go of."""

        async def settled() -> None:
            for held in list(self._held.values()):
                gone = held.gone()
                held.end()
                await gone

        return Deferred.fromCoroutine(settled())
