"""Ways of asking for a blob, of which every byte that arrives is compared at once.

A response is complete if all that its head promises has arrived. A complete one
with a wrong byte is the promise broken; so is a wrong byte before a cut.
"""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from prove.bodies import MIB, Body

_BLOCK = 1 << 20


@dataclass(slots=True)
class Seen:
    """What has arrived, over many answers.

    Args:
        answers: how many came.
        complete: how many of them were all there.
        cut: how many were not.
        refused: how many said 503.
        bytes: of blobs that arrived.
        wrong: what of them was wrong.
    """

    answers: int = 0
    complete: int = 0
    cut: int = 0
    refused: int = 0
    bytes: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks one daemon.

    Args:
        port: the daemon's.
        seen: what came of it.
        chance: what is random about it.
    """

    port: int
    seen: Seen
    chance: Random

    def whole(self, body: Body, _at: int) -> None:
        """All of it."""
        self._get("whole", body, {}, [(0, body.size)], 200)

    def around(self, body: Body, at: int) -> None:
        """A range that holds a certain byte."""
        first = max(0, at - self.chance.randrange(100_000))
        last = min(body.size - 1, at + self.chance.randrange(100_000))
        self._range("range around", body, first, last)

    def elsewhere(self, body: Body, at: int) -> None:
        """A range that does not hold a certain byte, if there is another."""
        if at and (at == body.size - 1 or self.chance.random() < 0.5):
            first = self.chance.randrange(at)
            last = min(at - 1, first + self.chance.randrange(300_000))
        elif at < body.size - 1:
            first = self.chance.randrange(at + 1, body.size)
            last = min(body.size - 1, first + self.chance.randrange(300_000))
        else:
            first = last = 0
        self._range("range elsewhere", body, first, last)

    def _range(self, what: str, body: Body, first: int, last: int) -> None:
        fields = {"Range": f"bytes={first}-{last}"}
        self._get(what, body, fields, [(first, last + 1 - first)], 206)

    def several(self, body: Body, at: int) -> None:
        """Three ranges, one of them around a certain byte."""
        if body.size < 1000:
            self.around(body, at)
            return
        third = body.size // 3
        spans = []
        for number in range(3):
            lowest = number * third
            first = lowest + self.chance.randrange(third // 2)
            if lowest <= at < lowest + third:
                first = max(lowest, at - self.chance.randrange(1 + min(at - lowest, 5000)))
            # With room between them: ranges that nearly touch may be joined.
            spans.append((first, min(lowest + third - first - 200, 400_000)))
        spans = [(first, max(1, count)) for first, count in spans]
        asked = ",".join(f"{first}-{first + count - 1}" for first, count in spans)
        self._get("several ranges", body, {"Range": f"bytes={asked}"}, spans, 206)

    def if_range(self, body: Body, at: int) -> None:
        """The rest from somewhere before a certain byte on, if it is still the same blob."""
        first = max(0, at - self.chance.randrange(3 * MIB))
        fields = {"Range": f"bytes={first}-", "If-Range": body.digest.etag}
        self._get("If-Range", body, fields, [(first, body.size - first)], 206)

    def head(self, body: Body, _at: int) -> None:
        """HEAD, which sends nothing of it, and then all of it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("HEAD", f"/{body.digest}")
            answer = connection.getresponse()
            said = answer.read()
            length = answer.getheader("Content-Length")
        finally:
            connection.close()
        self.seen.answers += 1
        if answer.status == 200:
            self.seen.complete += 1
            if said or length != str(body.size):
                self.seen.wrong.append(f"HEAD of {body.size} bytes: {length}, {len(said)} sent")
        elif answer.status == 503:
            self.seen.refused += 1
        elif answer.status != 404:
            self.seen.wrong.append(f"HEAD: {answer.status}")

    def aria2c(self, body: Body, _at: int) -> None:
        """With aria2c, on four connections."""
        program = shutil.which("aria2c")
        if program is None:
            self.whole(body, 0)
            return
        folder = tempfile.mkdtemp(prefix="dtfc-aria2c-")
        try:
            command = [program, "-q", "-x4", "-s4", "-k1M", "--no-conf", "--max-tries=1"]
            command += ["--auto-file-renaming=false", "-d", folder, "-o", "blob"]
            command += [f"http://127.0.0.1:{self.port}/{body.digest}"]
            done = subprocess.run(command, capture_output=True, timeout=120, check=False)
            self.seen.answers += 1
            if done.returncode:
                self.seen.cut += 1
                return
            self.seen.complete += 1
            self.seen.bytes += body.size
            with open(f"{folder}/blob", "rb") as file:
                if file.read() != body.whole:
                    self.seen.wrong.append(f"aria2c: {body.size} bytes, some wrong")
        finally:
            shutil.rmtree(folder)

    # -- one answer -----------------------------------------------------------

    def _get(
        self,
        what: str,
        body: Body,
        fields: dict[str, str],
        spans: list[tuple[int, int]],
        expected: int,
    ) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("GET", f"/{body.digest}", headers=fields)
            answer = connection.getresponse()
            self.seen.answers += 1
            if answer.status != expected:
                said = answer.read()
                if answer.status == 503:
                    self.seen.refused += 1
                else:
                    self.seen.wrong.append(f"{what} of {body.size}: {answer.status} {said[:200]!r}")
                return
            promised = int(answer.getheader("Content-Length") or -1)
            if (answer.getheader("Content-Type") or "").startswith("multipart/byteranges"):
                got = _multipart(answer, body, what, self.seen, len(spans), promised)
            else:
                got = _plain(answer, body, what, self.seen, spans, promised)
        except OSError as error:
            self.seen.wrong.append(f"{what} of {body.size}: {error!r}")
            return
        finally:
            connection.close()
        if got == promised:
            self.seen.complete += 1
        else:
            self.seen.cut += 1


def _read(answer: http.client.HTTPResponse, into: memoryview) -> int:
    """Read some; 0 at the end, and where the connection is cut."""
    try:
        return answer.readinto(into)
    except (ConnectionError, http.client.IncompleteRead):
        return 0


def _plain(  # noqa: PLR0917 -- one caller
    answer: http.client.HTTPResponse,
    body: Body,
    what: str,
    seen: Seen,
    spans: list[tuple[int, int]],
    promised: int,
) -> int:
    # Ranges that were close to each other may have been sent as one.
    first = min(first for first, _ in spans)
    if len(spans) > 1:
        found = re.match(r"bytes (\d+)-", answer.getheader("Content-Range") or "")
        first = int(found[1]) if found else first
    elif promised != spans[0][1]:
        seen.wrong.append(f"{what} of {body.size}: {promised} promised, {spans[0][1]} asked for")
    buffer = bytearray(_BLOCK)
    view = memoryview(buffer)
    got = 0
    while count := _read(answer, view):
        if buffer[:count] != body.part(first + got, count):
            seen.wrong.append(f"{what} of {body.size}: wrong within {count} from {first + got} on")
        got += count
    seen.bytes += got
    return got


def _multipart(  # noqa: PLR0917 -- one caller
    answer: http.client.HTTPResponse, body: Body, what: str, seen: Seen, parts: int, promised: int
) -> int:
    whole = bytearray()
    buffer = memoryview(bytearray(_BLOCK))
    while count := _read(answer, buffer):
        whole += buffer[:count]
    at, found = 0, 0
    pattern = re.compile(rb"Content-Range: bytes (\d+)-(\d+)/(\d+)\r\n\r\n", re.IGNORECASE)
    while match := pattern.search(whole, at):
        first, last, length = (int(each) for each in match.groups())
        wanted = body.part(first, last + 1 - first)
        piece = bytes(whole[match.end() : match.end() + len(wanted)])
        at = match.end() + len(piece)
        seen.bytes += len(piece)
        found += 1
        if piece != wanted[: len(piece)] or length != body.size:
            seen.wrong.append(f"{what} of {body.size}: wrong within {first}-{last}")
    if len(whole) == promised and not 1 < found <= parts:
        seen.wrong.append(f"{what} of {body.size}: {found} parts of {parts}")
    return len(whole)


#: How often each way is taken, of the whole.
WAYS: tuple[tuple[str, int], ...] = (
    ("whole", 5),
    ("around", 5),
    ("elsewhere", 3),
    ("several", 4),
    ("if_range", 3),
    ("head", 2),
    ("aria2c", 1),
)


def some_way(asker: Asker) -> Callable[[Body, int], None]:
    """Return one of the ways."""
    names = [name for name, weight in WAYS for _ in range(weight)]
    way: Callable[[Body, int], None] = getattr(asker, asker.chance.choice(names))
    return way
