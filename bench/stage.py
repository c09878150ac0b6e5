"""Where the measurements happen: options, folders, blobs, and what all rows share."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from bench import servers, stalls
from bench.load import HOST, Wrong
from bench.servers import NGINX_PUSH, Server
from bench.tools import program
from dtfc.digest import Digest
from dtfc.store.layout import open_layout

KIB, MIB, GIB = 2**10, 2**20, 2**30
_BLOCK = 4 * MIB


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured.

    Args:
        quick: smaller bodies, shorter samples, fewer pairs.
        pairs: of each comparison.
        seconds: of a sample that is bounded by time.
        big: bytes of the big blob.
        pinned: one CPU for the server, one for the load generator, in the rows
            where one process serves; for both sides alike.
    """

    quick: bool
    pairs: int
    seconds: float
    big: int
    pinned: bool

    @classmethod
    def of(cls, *, quick: bool, pairs: int | None, pinned: bool) -> Options:
        """Return the usual options, quick or full."""
        if quick:
            return cls(quick, pairs or 3, 0.7, 256 * MIB, pinned)
        return cls(quick, pairs or 7, 4.0, GIB, pinned)

    @property
    def server_cpu(self) -> int | None:
        """The CPU of a server that is measured as one process."""
        return 0 if self.pinned else None

    @property
    def client_cpu(self) -> int | None:
        """The CPU of the load generator beside it."""
        return 1 if self.pinned else None

    @property
    def size(self) -> str:
        """The big blob's length, for titles."""
        return "1 GiB" if self.big == GIB else f"{self.big // MIB} MiB"


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob that both sides serve: the same inode under two names.

    Args:
        digest: its SHA-512.
        length: in bytes.
        file: its name for nginx and the others.
    """

    digest: Digest
    length: int
    file: str

    def at(self, server: Server) -> str:
        """Return its path there."""
        return f"/{self.digest.hex}" if server.name == "dtfc" else f"/{self.file}"


@dataclass
class Stage:
    """One run of the measurements.

    Args:
        options: how much is measured.
        workdir: an empty folder on the file system that is measured.
        longest_stalls: what each daemon said of its own loop, in seconds, by row.
        longest_own_stalls: the same, less what the loop waited for a processor.
    """

    options: Options
    workdir: str
    longest_stalls: dict[str, float] = field(default_factory=dict)
    longest_own_stalls: dict[str, float] = field(default_factory=dict)
    _folders: int = 0

    def folder(self, name: str) -> str:
        """Make a new folder, for one server or one store."""
        self._folders += 1
        path = os.path.join(self.workdir, f"{self._folders:03d}-{name}")
        os.makedirs(path)
        return path

    @contextlib.contextmanager
    def scratch(self, name: str) -> Iterator[str]:
        """Lend a folder that is removed afterwards."""
        path = self.folder(name)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    # -- what is served -----------------------------------------------------

    @cached_property
    def source(self) -> str:
        """A file of random bytes, as large as the big blob."""
        path = os.path.join(self.workdir, "source")
        with open(path, "wb") as file:
            file.writelines(os.urandom(_BLOCK) for _ in range(self.options.big // _BLOCK))
        return path

    def restamp(self) -> None:
        """Make the source a file that nobody has seen, and nothing more."""
        with open(self.source, "r+b", buffering=0) as file:
            file.write(secrets.token_bytes(64))

    @cached_property
    def hot_store(self) -> str:
        """The store that GETs are measured on: its form is the default one."""
        return self.folder("store")

    @cached_property
    def www(self) -> str:
        """The folder that the others serve."""
        return self.folder("www")

    @cached_property
    def blobs(self) -> dict[str, Blob]:
        """What is served: ``big``, ``mib`` (1 MiB) and ``small`` (4 KiB)."""
        folder = self.folder("seed")
        paths = {"big": self.source}
        for name, length in (("mib", MIB), ("small", 4 * KIB)):
            paths[name] = os.path.join(folder, name)
            with open(paths[name], "wb") as file:
                file.write(os.urandom(length))
        with self.dtfc("seed", self.hot_store) as server:
            put = {name: put_file(server, path) for name, path in paths.items()}
        layout = open_layout(self.hot_store)
        found = {}
        for name, digest in put.items():
            blob = Blob(digest, os.path.getsize(paths[name]), f"{name}.bin")
            os.link(layout.data(digest), os.path.join(self.www, blob.file))
            found[name] = blob
        return found

    @cached_property
    def certificate(self) -> tuple[str, str]:
        """A key and a certificate that says so itself."""
        folder = self.folder("certificate")
        key, cert = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
        subprocess.run(
            [
                *(program("openssl"), "req", "-x509", "-nodes", "-days", "2"),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
                *("-subj", "/CN=localhost", "-keyout", key, "-out", cert),
            ],
            check=True,
            capture_output=True,
        )
        return key, cert

    # -- who serves ---------------------------------------------------------

    @contextlib.contextmanager
    def dtfc(
        self, row: str, basedir: str, *flags: str, pinned: bool = False, tls: bool = False
    ) -> Iterator[Server]:
        """Run a node; when it ends, keep what it says of its loop."""
        with servers.dtfc(
            self.folder("dtfc"),
            basedir,
            *flags,
            cpu=self.options.server_cpu if pinned else None,
            certificate=self.certificate if tls else None,
        ) as server:
            server.ready()
            yield server
            stall = stalls.told(server)
            if stall is not None:
                self.longest_stalls[row] = max(stall, self.longest_stalls.get(row, 0.0))
            own = stalls.told_own(server)
            if own is not None:
                self.longest_own_stalls[row] = max(own, self.longest_own_stalls.get(row, 0.0))

    @contextlib.contextmanager
    def nginx(
        self, more: str = NGINX_PUSH, *, pinned: bool = False, tls: bool = False
    ) -> Iterator[Server]:
        """Run nginx; ``more`` goes into its configuration."""
        with servers.nginx(
            self.folder("nginx"),
            self.www,
            cpu=self.options.server_cpu if pinned else None,
            certificate=self.certificate if tls else None,
            more=more,
        ) as server:
            server.ready()
            yield server

    @contextlib.contextmanager
    def static_file(self) -> Iterator[Server]:
        """Run plain Twisted."""
        folder = self.folder("static")
        with servers.static_file(folder, self.www, cpu=self.options.server_cpu) as server:
            server.ready()
            yield server


def put_file(server: Server, path: str) -> Digest:
    """PUT a file and check the answer and what is there then.

    Raises:
        Wrong: the node did not take it as it is.
    """
    connection = http.client.HTTPConnection(HOST, server.port, timeout=120)
    try:
        with open(path, "rb") as file:
            length = str(os.path.getsize(path))
            connection.request("PUT", "/seed.bin", file, {"Content-Length": length})
            answer = connection.getresponse()
            said = answer.read()
    finally:
        connection.close()
    right = sha512(path)
    if answer.status not in (200, 201) or json.loads(said)["sha512"] != right:
        raise Wrong(f"PUT was answered with {answer.status}: {said[:200]!r}")
    return Digest.from_hex(right)


def sha512(path: str) -> str:
    """Return a file's digest in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()


def forget(server: Server, digest: str) -> None:
    """DELETE a blob, so that the disk does not fill.

    Raises:
        Wrong: the node refuses.
    """
    connection = http.client.HTTPConnection(HOST, server.port, timeout=120)
    try:
        connection.request("DELETE", f"/{digest}")
        answer = connection.getresponse()
        answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise Wrong(f"DELETE was answered with {answer.status}")


def drop_caches(*paths: str) -> bool:
    """Make the kernel forget what it has of the disk; tell whether all of it was asked for.

    As root everything goes; otherwise only the files named, where clean.
    """
    os.sync()
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
    try:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("3\n")
    except OSError:
        return False
    return True


def warm(path: str) -> None:
    """Read a file once, so that it lies in the page cache."""
    with open(path, "rb", buffering=0) as file:
        while file.read(_BLOCK):
            pass


def is_cold(path: str) -> bool:
    """Tell whether the page cache has nothing of a file, as far as a few looks show."""
    size = os.path.getsize(path)
    fd = os.open(path, os.O_RDONLY)
    try:
        for at in range(0, size, max(size // 64, 1)):
            with contextlib.suppress(BlockingIOError):
                os.preadv(fd, [bytearray(1)], at, os.RWF_NOWAIT)
                return False
    finally:
        os.close(fd)
    return True
