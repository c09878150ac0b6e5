"""Rot below the page cache: no time stamp changes, and no program wrote anything.

An ext4 file system in an image; a blob in it that was verified and served; a bit
flipped in the image where the blob lies. What the node holds in memory is
right; what comes off the disk next is not, and must be found. And a disk that
cannot read a block, as strace makes one.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random

from dtfc.integrity.residency import WARY, by_cachestat
from dtfc.web.hotblobs import SMALL
from prove.asking import Asker, Seen
from prove.bodies import Body, make_bodies, put_all
from prove.figures import Row
from prove.house import House
from prove.hurt import PAGE, data_of
from prove.zygote import Zygote

_NO_SCRUB = ("--scrub-rate", "0")
#: Seconds until a node is calm again.
CALM = WARY + 0.5

_SIZES = (700, 30_000, 65_536, 200_000, 1 << 20, 3_500_000)

#: How a bit comes to be read from the disk.
WAYS = ("dropped", "dropped, and read back by another program", "one page dropped")


@contextmanager
def image(root: str) -> Iterator[tuple[str, str]]:
    """Mount an ext4 file system; yields where, and the file that it lies in.

    Raises:
        OSError: it cannot be mounted.
    """
    path, at = f"{root}/image", f"{root}/mounted"
    os.mkdir(at)
    with open(path, "wb") as file:
        file.truncate(512 << 20)
    for command in (
        ["mkfs.ext4", "-q", "-F", path],
        ["mount", "-o", "loop,noatime", path, at],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(done.stderr.strip())
    try:
        yield at, path
    finally:
        subprocess.run(["umount", "-l", at], check=False)


def _place_of(path: str, at: int) -> int:
    """Return where in the image a byte of a file lies."""
    said = subprocess.run(["filefrag", "-e", "-b4096", path], capture_output=True, text=True)  # noqa: PLW1510 -- no match below tells
    for first, last, place in re.findall(
        r"^ *\d+: *(\d+)\.\. *(\d+): *(\d+)\.\.", said.stdout, re.MULTILINE
    ):
        if int(first) <= at // PAGE <= int(last):
            return (int(place) + at // PAGE - int(first)) * PAGE + at % PAGE
    raise AssertionError(f"no extent of {path} holds byte {at}: {said.stdout}{said.stderr}")


def _flip_below(path: str, img: str, at: int) -> None:
    place = _place_of(path, at)
    fd = os.open(img, os.O_RDWR)
    try:
        old = os.pread(fd, 1, place)
        os.pwrite(fd, bytes([old[0] ^ 4]), place)
        os.fsync(fd)
    finally:
        os.close(fd)


def _drop(path: str, first: int = 0, count: int = 0) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, first, count, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def _in_memory(path: str, at: int) -> bool:
    asked = by_cachestat()
    fd = os.open(path, os.O_RDONLY)
    try:
        return asked is None or asked(fd, at - at % PAGE, 1)
    finally:
        os.close(fd)


class Depths:
    """A node on an image, perhaps with a peer."""

    def __init__(self, zygote: Zygote, root: str, mounted: str, img: str, seed: int) -> None:
        self.victim, self.peer = House(zygote, f"{mounted}/victim"), House(zygote, f"{root}/peer")
        self._img = img
        self._chance = Random(f"{seed} silent")
        self.unread = 0
        """Flips that never came off the disk, for the kernel kept the page."""
        self.tried = 0

    def round(  # noqa: C901 -- one step after the other
        self, bodies: list[Body], way: str, *, verify: str, peer: bool
    ) -> Seen:
        """Serve blobs, rot them, serve them again."""
        self.victim.peers = [self.peer] if peer else []
        self.victim.again(*_NO_SCRUB, "--verify", verify)
        put_all(bodies, self.victim.port)
        subprocess.run(["sync", "-f", self.victim.store], check=True)
        time.sleep(0.2)
        seen = Seen()
        asker = Asker(self.victim.port, seen, self._chance)
        places: list[tuple[Body, int]] = []
        for body in bodies:
            path = data_of(self.victim.store, body)
            if way == WAYS[2]:
                # Read in again page by page; else the kernel keeps larger pieces.
                _drop(path)
            for _ in range(3):
                asker.whole(body, 0)
            if way == WAYS[2]:
                # A node that has just met a page that was missing looks more closely.
                time.sleep(CALM)
            at = self._chance.randrange(body.size)
            before = os.stat(path)
            _flip_below(path, self._img, at)
            if way == WAYS[2]:
                _drop(path, at - at % PAGE, PAGE)
            else:
                _drop(path)
            if _in_memory(path, at):
                self.unread += 1
                continue
            if os.stat(path) != before:
                seen.wrong.append("a time stamp has changed")
            places.append((body, at))
            if way != WAYS[1]:
                self._look(asker, body, at, peer=peer)
        if way == WAYS[1]:
            time.sleep(2.5)
            for body, at in places:
                with open(data_of(self.victim.store, body), "rb") as file:
                    if hashlib.sha512(file.read()).digest() == body.digest.raw:
                        seen.wrong.append("the other program saw no rot")
                self._look(asker, body, at, peer=peer)
        return seen

    def _look(self, asker: Asker, body: Body, at: int, *, peer: bool) -> None:
        self.tried += 1
        if body.size <= SMALL:
            # Its whole answer is kept for the second that is its Date.
            time.sleep(1.1)
        before = asker.seen.complete
        asker.whole(body, at)
        if peer and asker.seen.complete == before:
            asker.seen.wrong.append(f"{body.size} bytes: not answered in full")


def below(seed: int, each: int, verify: str = "chunk") -> Row:
    """Flip bits in the image under so many blobs of every size, in every way."""
    name, begun = "rot below the page cache", time.monotonic()
    missing = [each for each in ("mkfs.ext4", "filefrag", "mount") if not shutil.which(each)]
    if os.geteuid() or missing:
        why = f"no {missing[0]}" if missing else "only root may mount"
        return Row(name, "", 0, 0.0, seed, skipped=why)
    root = tempfile.mkdtemp(prefix="dtfc-prove-")
    wrong: list[str] = []
    try:
        with Zygote() as zygote, image(root) as (mounted, img):
            depths = Depths(zygote, root, mounted, img, seed)
            depths.peer.start(*_NO_SCRUB)
            try:
                for number, way in enumerate(WAYS):
                    for peer in (True, False):
                        bodies = [
                            body
                            for size in _SIZES
                            for body in make_bodies(
                                Random(f"{seed} {size} {number} {peer}"), each, size=size
                            )
                        ]
                        put_all(bodies, depths.peer.port)
                        seen = depths.round(bodies, way, verify=verify, peer=peer)
                        wrong += [f"{way}: {text}" for text in seen.wrong]
                        wrong += [f"{way}: a traceback"] * depths.victim.tracebacks()
            finally:
                depths.victim.end()
                depths.peer.end()
    except OSError as error:
        return Row(name, "", 0, 0.0, seed, skipped=str(error))
    finally:
        with suppress(OSError):
            shutil.rmtree(root, ignore_errors=True)
    cases = (
        f"{depths.tried} flips in the image, served before, no time stamp changed; "
        f"{len(WAYS)} ways back from the disk, with a peer and without"
    )
    if depths.unread:
        cases += f"; {depths.unread} more stayed in memory"
    return Row(name, cases, len(wrong), time.monotonic() - begun, seed, wrong[:10])


def unreadable(seed: int, count: int) -> Row:
    """Let every read of some blobs' files fail with EIO; a peer has them."""
    name, begun = "blocks that cannot be read (EIO)", time.monotonic()
    strace = shutil.which("strace")
    if strace is None:
        return Row(name, "", 0, 0.0, seed, skipped="no strace")
    root = tempfile.mkdtemp(prefix="dtfc-prove-")
    seen = Seen()
    try:
        with Zygote() as zygote:
            victim, peer = House(zygote, f"{root}/victim"), House(zygote, f"{root}/peer")
            try:
                victim.peers = [peer]
                peer.start(*_NO_SCRUB)
                victim.start(*_NO_SCRUB)
                bodies = make_bodies(Random(f"{seed} eio"), count, largest=4 << 20)
                for house in (peer, victim):
                    put_all(bodies, house.port)
                for body in bodies:
                    _one_unreadable(strace, victim, body, seen, seed)
                seen.wrong += ["a traceback"] * victim.tracebacks()
            finally:
                victim.end()
                peer.end()
    finally:
        shutil.rmtree(root, ignore_errors=True)
    cases = f"{count} blobs, {seen.complete} of {seen.answers} answers complete"
    seconds = time.monotonic() - begun
    return Row(name, cases, len(seen.wrong), seconds, seed, seen.wrong[:10])


def _one_unreadable(strace: str, victim: House, body: Body, seen: Seen, seed: int) -> None:
    path = data_of(victim.store, body)
    inode = os.stat(path).st_ino
    command = [strace, "-f", "-qq", "-o", "/dev/null", "-p", str(victim.pid), "-P", path]
    command += ["-e", "trace=preadv,preadv2", "-e", "inject=preadv,preadv2:error=EIO"]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        _wait_until_traced(victim.pid)
        before = seen.complete
        Asker(victim.port, seen, Random(seed)).whole(body, 0)
        if seen.complete == before:
            seen.wrong.append(f"{body.size} bytes: not answered in full")
    finally:
        tracer.terminate()
        tracer.wait()
    end = time.monotonic() + 5
    while os.stat(path).st_ino == inode and time.monotonic() < end:
        time.sleep(0.02)
    if os.stat(path).st_ino == inode:
        seen.wrong.append(f"{body.size} bytes: still the same file")


def _wait_until_traced(pid: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            if "TracerPid:\t0\n" not in file.read():
                # All threads, too.
                time.sleep(0.1)
                return
        time.sleep(0.01)
    raise AssertionError("strace did not attach")


def prove(seed: int, share: float) -> list[Row]:
    """Rot some blobs below the page cache, and let some not be read, or a share of that."""
    rows = [below(seed, max(1, int(6 * share))), unreadable(seed, max(2, int(20 * share)))]
    for row in rows:
        print(f"  {row.name}: {row.cases}{row.skipped}; {row.violations} wrong", flush=True)
    return rows
