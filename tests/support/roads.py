"""One store behind two ports: one with a fast lane, one without."""

from __future__ import annotations

import random
import re
import socket
import time
from pathlib import Path
from typing import Any, Self

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from dtfc.access.decisions import Policy
from dtfc.access.verbs import Verb
from dtfc.digest import Digest
from dtfc.disk import DiskThreads
from dtfc.http.heads import Limits
from dtfc.peers.failure import PeerFailure
from dtfc.peers.listing import Peer
from dtfc.peers.loader import Loader
from dtfc.peers.mirrors import Mirrors
from dtfc.peers.picker import Picker
from dtfc.peers.roster import Roster
from dtfc.store.blobs import open_store
from dtfc.store.chunkmap import CHUNK
from dtfc.store.watched import SETTLED
from dtfc.web.accesslog import Entry
from dtfc.web.blobs import Blobs, Terms
from dtfc.web.fastlane import FastLane, Match
from dtfc.web.gate import OWN_NAMES, Gate
from dtfc.web.hotblobs import HotBlobs
from dtfc.web.metalink import Links
from dtfc.web.receivers import Bound
from dtfc.web.routes import Routes
from dtfc.web.site import Bounds, Site
from dtfc.web.status import Status
from dtfc.web.transmit import FileServer
from tests.support.alone import upkeep_alone

reactor: Any = _reactor

#: The name that these tests ask under, as if it were this machine's.
OWN_NAMES.add("a")

CONTENT = random.Random(3).randbytes(200_000)
DIGEST = Digest.of(CONTENT)
EMPTY = Digest.of(b"")
PERCENT = Digest.of(b"percent")

#: Of more than one piece: its answers name who else has it.
LARGE_CONTENT = random.Random(4).randbytes(CHUNK + 5)
LARGE = Digest.of(LARGE_CONTENT)
ELSEWHERE = "https://b.example:443"


class TwoRoads:
    """One store behind two ports: one with a fast lane, one without."""

    def __init__(self, folder: Path, bound: Bound | None = None) -> None:
        self.store = open_store(str(folder / "store"), fan_out=2)
        for name, content in (
            ("photo.jpg", CONTENT),
            ("empty", b""),
            ("100%s.txt", b"percent"),
            ("large.iso", LARGE_CONTENT),
        ):
            intake = self.store.intake(None)
            intake.write([content])
            intake.commit(name)
        time.sleep(SETTLED / 1e9 + 0.02)
        self.disk = DiskThreads(reactor, 2)
        self.disk.start()
        self.gate = Gate(Policy(str(folder / "deny-"), frozenset(Verb)), now=time.time)
        self.hot = HotBlobs(8)
        self.hits: list[Match] = []
        self.log: list[Entry] = []
        no_peers: Any = NoPeers()
        self.upkeep = upkeep_alone(self.store, self.disk)
        self.blobs = Blobs(
            self.store,
            self.disk,
            no_peers,
            self.upkeep,
            self.gate,
            terms=Terms(),
            hot=self.hot,
            bound=bound,
        )
        # One that is known to have it, and that answers no question.
        self.picker = Picker(OnePeer(), lambda: 1.0)
        self.picker.has(ELSEWHERE, LARGE, reactor.seconds())
        silent: Any = Silent()
        self.blobs.links = links = Links(Mirrors(self.picker, silent, reactor))
        self.hot.still = links.still
        status = Status(
            self.store,
            self.disk,
            Roster(None),
            self.gate,
            draining=lambda: False,
            metrics=lambda _node: b"",
            clock=reactor,
        )
        resource = Routes(self.blobs, status).app.resource()
        self.sites = []
        self.ports = []
        for _ in range(2):
            site = Site(
                resource,
                reactor,
                Limits(),
                Bounds(),
                access_log=self.log.append,
                disk=self.disk,
            )
            port = reactor.listenTCP(0, site, interface="127.0.0.1")
            port.transport = FileServer
            self.sites.append(site)
            self.ports.append(port)
        lane = FastLane(self.hot, Limits(), lambda: self.gate.admits_all(Verb.GET), reactor)
        match = lane.match

        def counted(data: bytes) -> Match | None:
            hit = match(data)
            if hit is not None:
                self.hits.append(hit)
            return hit

        lane.match = counted  # type: ignore[method-assign] # to see which road was taken
        self.sites[0].fast_lane = lane

    def connect(self, road: int) -> Connection:
        return Connection(self.ports[road].getHost().port)

    def warm(self, digest: Digest = DIGEST) -> None:
        """Ask until the blob is hot (blocks; not on the loop)."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not self.hot.has(digest.hex.encode()):
            with self.connect(1) as connection:
                connection.ask(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % digest.hex.encode())
            time.sleep(0.01)

    async def stop(self) -> None:
        for port in self.ports:
            await port.stopListening()
        for site in self.sites:
            site.abort()
        pause: Deferred[None] = Deferred()
        reactor.callLater(0.02, pause.callback, None)
        await pause
        self.hot.clear()
        self.disk.stop()
        self.store.close()


class OnePeer:
    me = None
    peers = (Peer(ELSEWHERE, zone="de"),)

    def current(self) -> tuple[Peer, ...]:
        return self.peers


class Silent:
    async def ask(self, *_args: Any, **_more: Any) -> None:
        raise PeerFailure("it says nothing")


class NoPeers(Loader):
    def __init__(self) -> None:
        pass

    def stored(self, digest: Digest) -> None:
        """Nothing is known of what peers have."""


class Connection:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()
        self._socket.close()

    def ask(self, head: bytes) -> bytes:
        """Send a head, return the answer, with what differs each time made equal."""
        self._socket.sendall(head)
        answer = b""
        length = 0
        while True:
            line = self._file.readline()
            answer += line
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            if line in (b"\r\n", b""):
                break
        if not head.startswith(b"HEAD") and not answer.startswith(b"HTTP/1.1 304"):
            answer += self._file.read(length)
        answer = re.sub(rb"Date: [^\r]*", b"Date: -", answer)
        boundary = re.search(rb"boundary=([0-9a-f]{32})", answer)
        return answer.replace(boundary[1], b"B" * 32) if boundary else answer
