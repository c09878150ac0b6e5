"""Asks ffprobe about blobs: a few at a time, each in a cell, each once.

Rules of this file: ffprobe is started by ``dtfc.media.cell`` and gets one open
file; what it writes is bounded and checked (``dtfc.media.schema``); it is killed
with all that it started when its time is over, and when nobody waits any more.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtfc.errors import NoProgram, NotMedia, ProbeFailed, TooManyProbes
from dtfc.media import cell
from dtfc.media.schema import LONGEST_ANSWER, NoAnswer, described

#: Formats whose readers open nothing but the file: no playlists, no scripts, no devices.
FORMATS = (
    *("mov", "matroska", "avi", "flv", "asf", "mpeg", "mpegts", "mpegvideo", "mxf", "nut", "dv"),
    *("h264", "hevc", "m4v", "mjpeg", "ivf", "rm", "wtv", "yuv4mpegpipe", "gif", "apng"),
    *("mp3", "aac", "ac3", "eac3", "dts", "flac", "ogg", "wav", "w64", "aiff", "caf", "amr"),
    *("ape", "wv", "tta", "tak", "mpc", "mpc8", "dsf", "au", "voc", "rso", "shn", "oma"),
    *("jpeg_pipe", "png_pipe", "webp_pipe", "tiff_pipe", "bmp_pipe", "gif_pipe", "jpegls_pipe"),
    *("j2k_pipe", "jpegxl_pipe", "psd_pipe", "exr_pipe", "dpx_pipe", "qoi_pipe", "pcx_pipe"),
    *("ppm_pipe", "pgm_pipe", "pbm_pipe", "pam_pipe", "sgi_pipe", "ico"),
)

ARGUMENTS = (
    *("-hide_banner", "-loglevel", "error", "-protocol_whitelist", "file"),
    *("-format_whitelist", ",".join(FORMATS), "-probesize", "20M", "-analyzeduration", "10M"),
    *("-threads", "1", "-print_format", "json=compact=1"),
    *("-show_format", "-show_streams", "-show_chapters", "-i", "file:/proc/self/fd/0"),
)

#: Bytes that ffprobe may say of what went wrong.
LONGEST_COMPLAINT = 4096

#: Results that are remembered, each of so many bytes at most.
MOST_REMEMBERED = 256
LARGEST_REMEMBERED = 64 * 1024

#: Seconds for which a failure is remembered: it costs as much each time.
FAILURE_SECONDS = 60.0

#: What must stand for a cell to be one.
USUAL_WALLS = frozenset({"user", "net", "landlock", "seccomp"})

_log = Logger()

Result = dict[str, Any]
OnFile = Callable[[Callable[[int], Awaitable[Result]]], Awaitable[Result]]


@dataclass(frozen=True, slots=True)
class ProbeTerms:
    """How much ffprobe may take.

    Args:
        program: its name or path; empty for none.
        at_once: how many may run.
        queue: how many may wait; then more are refused.
        seconds: for one, by the clock on the wall and by the processor's.
        memory: bytes of address space.
    """

    program: str = "ffprobe"
    at_once: int = 2
    queue: int = 32
    seconds: float = 5.0
    memory: int = 1024 * 1024 * 1024


class Prober:
    """Asks ffprobe, or remembers what it said.

    Args:
        reactor: starts processes and measures time.
        terms: replaced as a whole when the configuration is read again.
        ticks: seconds that no change of the time of day moves.

    Attributes:
        counts: how often ffprobe was asked, by what came of it.
    """

    def __init__(self, reactor: Any, terms: ProbeTerms, ticks: Callable[[], float]) -> None:
        self._reactor = reactor
        self.terms = terms
        self._ticks = ticks
        self._running: set[_Cell] = set()
        self._taken = 0
        self._waiting: list[Deferred[None]] = []
        self._asked: dict[str, _Asked] = {}
        # None for what is no media file: an exception that is kept would keep, each time
        # that it is raised, the frames of the request that it is raised in.
        self._known: OrderedDict[str, Result | None] = OrderedDict()
        self._failed: OrderedDict[str, float] = OrderedDict()
        self._told_walls = False
        self.counts: Counter[str] = Counter()

    @property
    def program(self) -> str:
        """Where ffprobe is.

        Raises:
            NoProgram: nowhere.
        """
        name = self.terms.program
        found = shutil.which(name) if name else None
        if found is None or not cell_possible():
            raise NoProgram("ffprobe", "--ffprobe")
        return found

    async def describe(self, digest_hex: str, on_file: OnFile) -> Result:
        """Return what ffprobe says of a blob.

        Args:
            digest_hex: which.
            on_file: opens it, verified, when its turn has come, calls what it is
                given with the descriptor, and closes it.

        Raises:
            NoProgram: there is no ffprobe.
            NotMedia: it is nothing that ffprobe knows.
            ProbeFailed: ffprobe took too long, or went wrong.
            TooManyProbes: too many wait already.
            DtfcError: whatever ``on_file`` raises.
        """
        program = self.program
        if digest_hex in self._known:
            self._known.move_to_end(digest_hex)
            return _given(self._known[digest_hex])
        if self._failed.get(digest_hex, 0.0) > self._ticks():
            raise ProbeFailed("it failed a moment ago")
        asked = self._asked.get(digest_hex)
        if asked is None:
            if self._taken >= self.terms.at_once and len(self._waiting) >= self.terms.queue:
                self.counts["refused"] += 1
                raise TooManyProbes(self.terms.queue, "--ffprobe-queue")
            asked = self._asked[digest_hex] = _Asked()
            work = Deferred.fromCoroutine(self._turn(digest_hex, program, on_file))
            asked.work = work
            work.addBoth(self._over, digest_hex, asked)
        return await asked.join()

    def _over(self, result: object, digest_hex: str, asked: _Asked) -> None:
        if self._asked.get(digest_hex) is asked:
            del self._asked[digest_hex]
        asked.finish(result)

    async def _turn(self, digest_hex: str, program: str, on_file: OnFile) -> Result:
        if self._taken >= self.terms.at_once:
            # Fired by whoever is done.
            turn: Deferred[None] = Deferred(self._give_up_turn)
            self._waiting.append(turn)
            await turn
        else:
            self._taken += 1
        try:
            result = await on_file(lambda fd: self._probe(program, fd))
        except NotMedia:
            self.counts["none"] += 1
            self._remember(digest_hex, None)
            raise
        except ProbeFailed:
            self.counts["failed"] += 1
            self._failed[digest_hex] = self._ticks() + FAILURE_SECONDS
            while len(self._failed) > MOST_REMEMBERED:
                self._failed.popitem(last=False)
            raise
        finally:
            if self._waiting:
                self._waiting.pop(0).callback(None)
            else:
                self._taken -= 1
        self.counts["told"] += 1
        self._remember(digest_hex, result)
        return result

    def _give_up_turn(self, turn: Deferred[None]) -> None:
        if turn in self._waiting:
            self._waiting.remove(turn)

    def _remember(self, digest_hex: str, result: Result | None) -> None:
        if len(repr(result)) > LARGEST_REMEMBERED:
            return
        self._known[digest_hex] = result
        while len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)

    async def _probe(self, program: str, fd: int) -> Result:
        running = _Cell(self._reactor, self.terms.seconds)
        self._running.add(running)
        try:
            running.start(program, fd, self.terms)
            status, said = await running.done
        finally:
            self._running.discard(running)
        self._tell_walls(running.walls)
        if running.cut:
            raise ProbeFailed(running.cut)
        if status != 0 and not said.strip().startswith(b"{"):
            raise ProbeFailed("it ended without a word")
        try:
            return described(said)
        except NoAnswer:
            if status > 0:
                raise NotMedia from None
            raise ProbeFailed("its answer makes no sense") from None

    def _tell_walls(self, walls: frozenset[str]) -> None:
        if self._told_walls or not walls:
            return
        self._told_walls = True
        tell = _log.info if walls >= USUAL_WALLS else _log.warn
        tell(
            "ffprobe runs behind limits and: {walls}{missing}",
            walls=", ".join(sorted(walls)),
            missing=""
            if walls >= USUAL_WALLS
            else "; not allowed here: " + ", ".join(sorted(USUAL_WALLS - walls)),
        )

    def stop(self) -> None:
        """Kill what runs."""
        for asked in list(self._asked.values()):
            if asked.work is not None:
                asked.work.cancel()
        for each in list(self._running):
            each.kill()


class _Asked:
    """One question, and all who wait for its answer."""

    def __init__(self) -> None:
        self.work: Deferred[Result] | None = None
        self._result: object = None
        self._waiters: list[Deferred[Result]] = []
        self._finished = False

    def join(self) -> Deferred[Result]:
        """Wait for it; when the last who waits is cancelled, so is it."""
        waiter: Deferred[Result] = Deferred(self._leave)
        if self._finished:
            self._tell(waiter)
        else:
            self._waiters.append(waiter)
        return waiter

    def finish(self, result: object) -> None:
        """Tell everybody."""
        self._finished, self._result = True, result
        waiters, self._waiters = self._waiters, []
        for each in waiters:
            self._tell(each)

    def _tell(self, waiter: Deferred[Result]) -> None:
        if isinstance(self._result, Failure):
            waiter.errback(self._result)
        else:
            waiter.callback(self._result)  # type: ignore[arg-type]  # what the work returned

    def _leave(self, waiter: Deferred[Result]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        if not self._waiters and self.work is not None and not self._finished:
            self.work.cancel()


class _Cell(ProcessProtocol):
    """One process, until it and all that it started are gone."""

    transport: Any = None

    def __init__(self, reactor: Any, seconds: float) -> None:
        # Fired by processEnded, which comes whatever happens.
        self.done: Deferred[tuple[int, bytes]] = Deferred(lambda _done: self.kill())
        self.walls: frozenset[str] = frozenset()
        self.cut = ""
        self._reactor = reactor
        self._seconds = seconds
        self._said = bytearray()
        self._complained = bytearray()
        self._deadline: IDelayedCall | None = None

    def start(self, program: str, fd: int, terms: ProbeTerms) -> None:
        """Start it with a file as its standard input.

        Raises:
            ProbeFailed: no process can be started now.
        """
        limits = (str(terms.memory), str(max(1, int(terms.seconds))))
        arguments = ["-I", "-S", cell.__file__, program, *limits, *ARGUMENTS]
        self._deadline = self._reactor.callLater(self._seconds, self._too_late)
        try:
            self._reactor.spawnProcess(
                self,
                sys.executable,
                [sys.executable, *arguments],
                env={},
                path="/",
                childFDs={0: fd, 1: "r", 2: "r"},
            )
        except OSError as error:
            self._deadline.cancel()
            raise ProbeFailed(f"it cannot be started: {error.strerror}") from error

    def outReceived(self, data: bytes) -> None:  # noqa: N802 -- Twisted's name
        """Take what it says."""
        self._said += data
        if len(self._said) > LONGEST_ANSWER:
            self._cut_off("it said more than anybody wants to know")

    def errReceived(self, data: bytes) -> None:  # noqa: N802 -- Twisted's name
        """Take which walls stand; the rest is a stranger's, and goes nowhere."""
        if len(self._complained) < LONGEST_COMPLAINT:
            self._complained += data[:LONGEST_COMPLAINT]
            line, end, _ = bytes(self._complained).partition(b"\n")
            if end and line.startswith(b"walls ") and not self.walls:
                self.walls = frozenset(line.decode("ascii", "replace").split()[1:])

    def _too_late(self) -> None:
        self._deadline = None
        self._cut_off(f"it took longer than {self._seconds:g} seconds")

    def _cut_off(self, why: str) -> None:
        if not self.cut:
            self.cut = why
            self._said.clear()
        self.kill()

    def kill(self) -> None:
        """Kill it, and whatever it started."""
        if self.transport is None:
            return
        pid = self.transport.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        # What it started may hold the pipes open, also when it has ended itself.
        self.transport.loseConnection()

    def connectionMade(self) -> None:  # noqa: N802 -- Twisted's name
        """Note which group it leads."""
        self._group = self.transport.pid

    def processExited(self, reason: Failure) -> None:  # noqa: N802, ARG002 -- Twisted's names
        """Kill what it has left behind: nothing of it outlives its answer."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._group, signal.SIGKILL)

    def processEnded(self, reason: Failure) -> None:  # noqa: N802 -- Twisted's name
        """Hand over what it said."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if not self.done.called:
            status = getattr(reason.value, "exitCode", None)
            self.done.callback((-1 if status is None else status, bytes(self._said)))


def cell_possible() -> bool:
    """Whether this system has what a cell is made of at the least: /proc names open files."""
    return os.path.exists("/proc/self/fd/0")


def _given(known: Result | None) -> Result:
    if known is None:
        raise NotMedia
    return known
