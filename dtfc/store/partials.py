"""Blobs that are being loaded: their bytes so far, which outlive the process.

A partial is a file named by the digest it is to have, with holes where nothing
has come yet. Of a blob of more than one chunk a second file
(``dtfc.store.progress``) says what is there, for a later process and for the
other ones. Neither is ever trusted: what is there is hashed again by the
process that goes on with it, and the whole goes through the same door as every
other blob. The lock on the file makes one load a node.

The SHA-512 is taken from 0 on, as far as there are no holes, and the SHA-256 of
each chunk beside it, of what is read back from the page cache: so those who
wait for bytes do not wait for hashes. Of a chunk behind a hole the SHA-256 is
taken when it is whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from dtfc.digest import Digest
from dtfc.errors import Busy, NoSpace, StoreFailure, WrongDigest
from dtfc.store import syscalls
from dtfc.store.chunkmap import CHUNK, count_of
from dtfc.store.door import Door, Whole
from dtfc.store.facts import Stored
from dtfc.store.incoming import Growth
from dtfc.store.looking import Watched
from dtfc.store.progress import ABSENT, HERE, TRUSTED, Progress, spans_of
from dtfc.store.spans import Spans
from dtfc.store.volume import Scratch, Volume, write_all

STATE = ".state"

#: Bytes after which the disk is asked to begin, so that the fsync at the end
#: finds most of the work done.
_WRITE_EVERY = 16 << 20

#: Blocks that are kept until they are hashed; what is further behind is read again.
_MOST_FRESH = 3

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class WayIn(Protocol):
    """Where the whole goes: a node's :class:`dtfc.store.door.Door`."""

    def allow_load(self, digest: Digest) -> None:
        """Refuse what must not come here.

        Raises:
            Absent, Denied: it was deleted, or a marker forbids it.
        """

    def seal(self, source: Scratch) -> None:
        """Make a file's bytes final and durable."""

    def enter(self, whole: Whole, name: str | None, *, deliberate: bool) -> Stored:
        """Give bytes that are whole their place."""


class Partial:
    """The bytes of a blob so far.

    Used from one thread at a time, but :meth:`catch_up` may run in another one
    beside, and :attr:`fd` may be read by others, where :attr:`held` says so,
    until :meth:`close` or :meth:`discard`.

    Args:
        digest: what the whole must hash to.
        fd: the file, locked, open for reading and writing.
        path: its name.
        door: where the whole goes.
        volume: the file system.
    """

    def __init__(self, digest: Digest, fd: int, path: str, door: WayIn, volume: Volume) -> None:
        self.digest = digest
        self.held = Spans()
        """Which bytes are there. To be changed by this object alone."""
        self.total: int | None = None
        """Of the blob, as a peer said it, if that is known."""
        self._source = Scratch(fd, path)
        self._state_path = f"{path}{STATE}"
        self._state: Progress | None = None
        self._door = door
        self._volume = volume
        self._growth = Growth(volume, self._source)
        self._known: dict[int, bytes] = {}
        self._fresh: deque[tuple[int, Sequence[bytes]]] = deque()
        self._taken_over = False
        self._told = 0
        self._writing_from = 0
        # Who hashes holds it, and who changes what was hashed.
        self._hashing = threading.Lock()
        # Around what is looked at and changed in two threads.
        self._looking = threading.Lock()

    @property
    def fd(self) -> int:
        """The descriptor, -1 once closed; a commit leaves it open."""
        return self._source.fd

    @property
    def length(self) -> int:
        """How many bytes from 0 on are there and hashed."""
        return self._growth.length

    @property
    def behind(self) -> bool:
        """Whether there are more bytes from 0 on than were hashed."""
        return self._growth.length < self._front()

    def sha256_of(self, chunk: int) -> bytes | None:
        """The SHA-256 of a chunk as it came; None if it was not hashed yet. For any thread."""
        chunks = self._growth.chunks
        return chunks.hash_of(chunk) if chunk < len(chunks) else self._known.get(chunk)

    def _front(self) -> int:
        with self._looking:
            return self.held.front

    # -- what an earlier process left -----------------------------------------------

    def take_over(self) -> Spans:
        """Find out what an earlier process left; nothing of it is hashed yet.

        Raises:
            StoreFailure: it cannot be read.
        """
        self._growth.restart()
        self._known.clear()
        self._fresh.clear()
        self.held.clear()
        self._told = 0
        with self._volume.failing("read a partial blob"):
            facts = os.fstat(self.fd)
            self._drop_state()
            if facts.st_size:
                self._state = Progress.open(self._state_path, facts.st_ino)
            if self._state is None:
                self.held.add(0, facts.st_size)
            else:
                known = self._state.known
                self.total = known.length
                chunks = self._state.chunks()
                for start, end in spans_of(known.ready, chunks, known.length):
                    self.held.add(start, min(end, facts.st_size))
                # What was compared then may have been lost since.
                unsure = {i: HERE for i, each in enumerate(chunks) if each}
                self._state.put(self.held.front, unsure)
        self._taken_over = True
        return self.held

    def absorb(self) -> int:
        """Take over what an earlier process left, and hash it; return how many bytes that is.

        Raises:
            StoreFailure: they cannot be read.
        """
        self.take_over()
        while self.behind:
            self.catch_up()
        return self.length

    def catch_up(self, most: int = 8) -> list[tuple[int, bytes]]:
        """Hash what is there behind what was hashed, some chunks at a time.

        Args:
            most: chunks to read.

        Returns:
            The chunks whose SHA-256 was not known before, and what it is.

        Raises:
            StoreFailure: it cannot be read.
        """
        with self._hashing, self._volume.failing("read a partial blob"):
            for _ in range(most):
                at = self._growth.length
                blocks = self._fresh_at(at)
                if blocks is not None:
                    self._growth.mark()
                    self._growth.take(blocks)
                    continue
                left = self._front() - at
                if left <= 0 or self.fd < 0:
                    break
                content = os.pread(self.fd, min(left, CHUNK - at % CHUNK), at)
                if not content:
                    # The file is shorter than was believed.
                    with self._looking:
                        self.held.remove(at, self.held.front)
                    break
                if at % CHUNK == 0:
                    self._growth.mark()
                known = self._known.get(at // CHUNK)
                if known is not None and at % CHUNK == 0 and len(content) == CHUNK:
                    self._growth.take_chunk(content, known)
                else:
                    self._growth.take([content])
            return self._newly_hashed()

    def _fresh_at(self, at: int) -> Sequence[bytes] | None:
        """Return what was written there a moment ago, if it is still in memory."""
        while self._fresh and self._fresh[0][0] <= at:
            start, blocks = self._fresh.popleft()
            if start == at:
                return blocks
        return None

    def _newly_hashed(self) -> list[tuple[int, bytes]]:
        """Return the chunks that were hashed from 0 on and that nobody was told of yet."""
        chunks = self._growth.chunks
        found = []
        for index in range(self._told, len(chunks)):
            if index not in self._known:
                found.append((index, chunks.hash_of(index)))
            self._known.pop(index, None)
        self._told = max(self._told, len(chunks))
        total = self.total
        if total is not None and total % CHUNK and self._growth.length >= total:
            # The last one is shorter, so it is not known to be whole.
            last = total // CHUNK
            if self._told == last and self._known.pop(last, None) is None:
                content = os.pread(self.fd, total - last * CHUNK, last * CHUNK)
                found.append((last, hashlib.sha256(content).digest()))
            self._told = max(self._told, last + 1)
        return found

    # -- more -------------------------------------------------------------------------

    def reserve(self, total: int) -> None:
        """Make sure that the whole will fit.

        Args:
            total: how long the whole is, in bytes.

        Raises:
            NoSpace: it will not.
            StoreFailure: as the operating system says.
        """
        if not self._taken_over:
            self.absorb()
        with self._volume.failing("look at a partial blob"):
            allocated = os.fstat(self.fd).st_blocks * 512
        self._growth.reserve(total, allocated)
        if total != self.total or (self._state is None and total > CHUNK):
            self._keep_state(total)
        self.total = total

    def _keep_state(self, total: int) -> None:
        with self._volume.failing("keep the state of a load"):
            self._drop_state()
            if total > CHUNK:
                self._state = Progress.make(self._state_path, total, os.fstat(self.fd).st_ino)
                self._state.put(self.held.front, dict.fromkeys(self._whole_chunks(total), HERE))
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._state_path)

    def _whole_chunks(self, total: int) -> list[int]:
        found: list[int] = []
        for start, end in self.held:
            last = count_of(total) if end >= total else end // CHUNK
            found += range(-(-start // CHUNK), last)
        return found

    def write(self, blocks: Sequence[bytes]) -> None:
        """Append the next bytes, behind all those from 0 on.

        Raises:
            NoSpace, StoreFailure: as the operating system says; what was there
                before stays, and the write may be repeated.
            ValueError: after a commit was tried; only a restart helps then.
        """
        if not self._taken_over:
            self.absorb()
        self.put(self.held.front, blocks)

    def put(self, at: int, blocks: Sequence[bytes]) -> list[tuple[int, bytes]]:
        """Write bytes where they belong; what is there already stays as it is.

        Args:
            at: the offset of the first one.
            blocks: the bytes.

        Returns:
            The chunks that are whole now, and their SHA-256.

        Raises:
            NoSpace, StoreFailure, ValueError: as :meth:`write`.
        """
        if self._source.sealed:
            raise ValueError("this partial blob is sealed; nothing can be added to it")
        if not self._taken_over:
            self.absorb()
        end = at + sum(map(len, blocks))
        before = self.held.front
        gaps = list(self.held.gaps(at, end))
        if gaps == [(at, end)] and at == self._growth.length == before and self._state is None:
            self._append(blocks)
            found = self._newly_hashed()
        else:
            # What others wait for is the bytes: the hashes are taken beside.
            if gaps:
                self._write_at(at, blocks, gaps)
            found = []
        with self._looking:
            self.held.add(at, end)
        if gaps == [(at, end)] and at == before and len(self._fresh) < _MOST_FRESH:
            self._fresh.append((at, blocks))
        if self._state is None or at > self.held.front:
            found += self._whole_now(at, end)
        self._note(at, end)
        return found

    def _append(self, blocks: Sequence[bytes]) -> None:
        self._growth.mark()
        try:
            self._growth.append(blocks)
        except BaseException:
            self._cut_to_length()
            raise

    def _write_at(self, at: int, blocks: Sequence[bytes], gaps: Sequence[tuple[int, int]]) -> None:
        size = sum(end - start for start, end in gaps)
        self._volume.require_room(size)
        with self._volume.failing("write", size):
            if len(gaps) == 1 and gaps[0] == (at, at + sum(map(len, blocks))):
                write_all(self.fd, blocks, at)
                return
            content = memoryview(b"".join(blocks))
            for start, end in gaps:
                write_all(self.fd, [bytes(content[start - at : end - at])], start)

    def _whole_now(self, at: int, end: int) -> list[tuple[int, bytes]]:
        """Hash the chunks that these bytes made whole and that were not hashed from 0 on."""
        found = []
        total = self.total
        for index in range(at // CHUNK, -(-end // CHUNK)):
            start, stop = index * CHUNK, (index + 1) * CHUNK
            if total is not None:
                stop = min(stop, total)
            if index < self._told or index in self._known or not self.held.has(start, stop):
                continue
            if stop % CHUNK and (total is None or stop != total):
                continue
            content = os.pread(self.fd, stop - start, start)
            if len(content) == stop - start:
                sha256 = hashlib.sha256(content).digest()
                self._known[index] = sha256
                found.append((index, sha256))
        return found

    def _note(self, at: int, end: int) -> None:
        if self._state is not None and self.total is not None:
            whole = [
                index
                for index in range(at // CHUNK, -(-end // CHUNK))
                if self.held.has(index * CHUNK, min((index + 1) * CHUNK, self.total))
            ]
            with self._volume.failing("keep the state of a load"):
                self._state.put(self.held.front, dict.fromkeys(whole, HERE))
            front = self.held.front
            if front - self._writing_from >= _WRITE_EVERY:
                syscalls.start_writing(self.fd, self._writing_from, front - self._writing_from)
                self._writing_from = front

    def _cut_to_length(self) -> None:
        """Drop what was written but not hashed, or see to it that it is hashed again."""
        if any(end > self._growth.length for _, end in self.held):
            return  # others' bytes lie behind it; what is not held is not believed
        try:
            os.ftruncate(self.fd, self._growth.length)
        except OSError:
            self._taken_over = False

    # -- what peers say of it -----------------------------------------------------------

    def trust(self, chunks: Sequence[int]) -> None:
        """Note that chunks are what the peers' maps say.

        Raises:
            StoreFailure: as the operating system says.
        """
        if self._state is not None:
            with self._volume.failing("keep the state of a load"):
                self._state.put(self.held.front, dict.fromkeys(chunks, TRUSTED))

    def take_back(self, chunks: Sequence[int]) -> None:
        """Forget chunks that are wrong.

        Raises:
            StoreFailure: as the operating system says, or it is stored by now:
                its bytes are the blob's.
        """
        with self._hashing, self._volume.failing("empty a part of a partial blob"):
            self._unseal()
            self._fresh.clear()
            for index in chunks:
                with self._looking:
                    self.held.remove(index * CHUNK, (index + 1) * CHUNK)
                self._known.pop(index, None)
            self._rewind(min(chunks) * CHUNK)
            if self._state is not None:
                self._state.take_back(self.held.front, dict.fromkeys(chunks, ABSENT))

    def _rewind(self, offset: int) -> None:
        known = self._growth.chunks
        for index in range(offset // CHUNK + 1, len(known)):
            if self.held.has(index * CHUNK, (index + 1) * CHUNK):
                self._known[index] = known.hash_of(index)
        self._growth.rewind(offset)
        # What lies before it and is hashed again is known to whoever was told.
        self._told = max(len(self._growth.chunks), min(self._told, offset // CHUNK))

    def _unseal(self) -> None:
        if os.fstat(self.fd).st_nlink != 1:
            raise OSError(errno.EBUSY, "its bytes are a stored blob's")
        os.fchmod(self.fd, 0o600)
        self._source.sealed = False

    def restart(self) -> None:
        """Throw away what is there, because it is not the blob.

        Raises:
            StoreFailure: as the operating system says, or it is stored by now:
                its bytes are the blob's.
        """
        with self._hashing, self._volume.failing("empty a partial blob"):
            self._unseal()
            if self._state is None:
                os.ftruncate(self.fd, 0)
            else:
                # Somebody may be sending from the file: let him find out by himself.
                self._state.take_back(0, dict.fromkeys(range(self._state.count), ABSENT))
            self._growth.restart()
            self._known.clear()
            self._fresh.clear()
            self._told = 0
            self._writing_from = 0
            with self._looking:
                self.held.clear()
            self._taken_over = True

    # -- its end ------------------------------------------------------------------------

    def compare(self) -> None:
        """See whether all that is there is the blob, and may be had; :meth:`commit` stores it.

        Raises:
            WrongDigest, Absent, Denied, StoreFailure: as :meth:`commit`.
        """
        self._compare()
        self._door.allow_load(self.digest)

    def _compare(self) -> None:
        if not self._taken_over:
            self.absorb()
        while self.behind:
            self.catch_up()
        actual = Digest(self._growth.sha512.digest())
        if actual != self.digest:
            raise WrongDigest("SHA-512", self.digest.hex, actual.hex)

    def commit(self, name: str | None) -> Stored:
        """Store the whole; when this returns it is durable.

        Args:
            name: the file name the peer gave.

        Raises:
            WrongDigest: it is not the blob; :meth:`take_back`, :meth:`restart`
                or :meth:`discard` it.
            Absent: the blob was deleted here meanwhile.
            Denied: an operator's marker forbids it.
            BadName: the name cannot be kept.
            NoSpace, StoreFailure: as the operating system says. If its bytes
                could not be made durable, the partial is discarded.
        """
        self._compare()
        with self._volume.failing("read a partial blob"):
            if os.fstat(self.fd).st_size > self.length:
                os.ftruncate(self.fd, self.length)
        try:
            self._door.seal(self._source)
        except (NoSpace, StoreFailure):
            # Reading it again would show bytes that the disk does not have.
            self.discard()
            raise
        whole = Whole(self._source, self.digest, self.length, self._growth.chunk_map())
        stored = self._door.enter(whole, name, deliberate=False)
        self._forget_path()
        return stored

    def _forget_path(self) -> None:
        if self._source.path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._source.path)
            self._source.path = None
            self._remove_state()

    def call(self, name: str) -> None:
        """Let the other processes know the name that a peer gave.

        Raises:
            StoreFailure: as the operating system says.
        """
        if self._state is not None:
            with self._volume.failing("keep the state of a load"):
                self._state.call(name)

    def wished(self) -> list[int]:
        """Return the chunks that other processes wish for, each once.

        Raises:
            StoreFailure: as the operating system says.
        """
        if self._state is None:
            return []
        with self._volume.failing("read the state of a load"):
            return self._state.wished()

    def close(self) -> None:
        """Keep the file for later and let others have it; harmless when repeated."""
        with self._hashing:
            self._drop_state()
            self._source.path = None
            self._source.drop()

    def discard(self) -> None:
        """Remove the file; harmless after a commit, and when repeated."""
        with self._hashing:
            if self._source.path is not None:
                self._source.drop()
                self._remove_state()
            self._drop_state()
            self._source.drop()

    def _drop_state(self) -> None:
        state, self._state = self._state, None
        if state is not None:
            state.close()

    def _remove_state(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._state_path)
        self._drop_state()


class Partials:
    """The partials of one store.

    Args:
        folder: where they lie.
        door: where the whole goes.
        volume: the file system.
    """

    def __init__(self, folder: str, door: Door, volume: Volume) -> None:
        self._folder = folder
        self._door = door
        self._volume = volume

    def open(self, digest: Digest) -> Partial:
        """Take the partial of a blob, an empty one if there is none.

        Raises:
            Busy: it is being loaded, by this process or another one.
            NoSpace, StoreFailure: as the operating system says.
        """
        path = f"{self._folder}/{digest.hex}"
        with self._volume.failing("open a partial blob"):
            while True:
                fd = self._take(path, digest)
                if fd is not None:
                    return Partial(digest, fd, path, self._door, self._volume)

    def _take(self, path: str, digest: Digest) -> int | None:
        """Open and lock a partial; None if the name has to be looked up again."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
        except PermissionError:
            # It was sealed, and its commit was cut off.
            fd = os.open(path, os.O_RDONLY | _FLAGS)
        taken = False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = self._usable(path, fd)
        except BlockingIOError as error:
            raise Busy(f"the load of {digest}") from error
        finally:
            if not taken:
                os.close(fd)
        return fd if taken else None

    def _usable(self, path: str, fd: int) -> bool:
        facts = os.fstat(fd)
        if facts.st_nlink == 0:
            # Removed between its opening and its lock.
            return False
        if facts.st_nlink > 1 or not stat.S_ISREG(facts.st_mode):
            # Linked as a blob already, by a commit that was cut off before it
            # could remove this name: to write here would be to damage the blob.
            os.unlink(path)
            return False
        if stat.S_IMODE(facts.st_mode) != 0o600:
            os.fchmod(fd, 0o600)
            return False
        return True

    def drop(self, digest: Digest) -> None:
        """Remove the partial of a blob, unless somebody is at it."""
        with contextlib.suppress(OSError):
            self._drop(f"{self._folder}/{digest.hex}", None)

    def expire(self, before: float) -> int:
        """Remove what nobody has gone on with.

        Args:
            before: seconds since 1970; what was written later stays.

        Returns:
            How many were removed.

        Raises:
            StoreFailure: they cannot be listed.
        """
        return sum(self._drop_quietly(path, before) for path in self._paths())

    def watch(self, digest: Digest) -> Watched | None:
        """Look at what another process loads; None if there is nothing to be seen (yet).

        Raises:
            StoreFailure: as the operating system says.
        """
        path = f"{self._folder}/{digest.hex}"
        with self._volume.failing("look at a partial blob"):
            try:
                fd = os.open(path, os.O_RDONLY | _FLAGS)
            except FileNotFoundError:
                return None
            try:
                state = Progress.open(f"{path}{STATE}", os.fstat(fd).st_ino)
            except BaseException:
                os.close(fd)
                raise
            if state is None:
                os.close(fd)
                return None
            return Watched(fd, state, self._volume)

    def sweep(self) -> None:
        """Remove what is stored by now: its commit was cut off after it was linked.

        And states without a partial.

        Raises:
            StoreFailure: they cannot be listed.
        """
        for path in self._paths():
            with contextlib.suppress(OSError):
                if os.stat(path, follow_symlinks=False).st_nlink > 1:
                    self._drop(path, None)
        with self._volume.failing("list the partial blobs"):
            names = set(os.listdir(self._folder))
        for name in names:
            digest, dot, _ = name.partition(".")
            # A partial is there before its state is.
            if dot and digest not in names and not os.path.exists(f"{self._folder}/{digest}"):
                with contextlib.suppress(OSError):
                    os.unlink(f"{self._folder}/{name}")

    def _paths(self) -> list[str]:
        with self._volume.failing("list the partial blobs"):
            names = os.listdir(self._folder)
        return [f"{self._folder}/{name}" for name in names if "." not in name]

    def _drop_quietly(self, path: str, before: float) -> bool:
        try:
            return self._drop(path, before)
        except OSError:
            return False

    def _drop(self, path: str, before: float | None) -> bool:
        fd = os.open(path, os.O_RDONLY | _FLAGS)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if before is not None and os.fstat(fd).st_mtime >= before:
                return False
            if os.fstat(fd).st_nlink == 0:
                return False
            os.unlink(path)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{path}{STATE}")
        finally:
            os.close(fd)
        return True
