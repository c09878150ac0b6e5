"""A node's loader on a real store, and peers around it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor

from dtfc.digest import Digest
from dtfc.disk import Disk, InlineDisk
from dtfc.peers.body import PeerLimits
from dtfc.peers.client import open_peer_http
from dtfc.peers.loader import Loader
from dtfc.peers.picker import Picker
from dtfc.peers.roster import Roster
from dtfc.peers.transfer import LoadLimits
from dtfc.store.blobs import Store, open_store
from tests.peers.hostile import Behaviour, HostilePeer

reactor: Any = _reactor

QUICK = PeerLimits(connect=2, first_byte=0.4, stall=0.4, lowest_rate=1000, rate_window=0.6)


class InListOrder(Picker):
    """Asks in the order of the list, whatever has happened."""

    def order(self, digest: Digest, now: float) -> tuple[str, ...]:
        del digest, now
        return tuple(peer.url for peer in self._listed.current())


@dataclass
class Node:
    """One node under test."""

    folder: Path
    limits: PeerLimits = QUICK
    disk: Disk = field(default_factory=InlineDisk)
    peers: list[HostilePeer] = field(default_factory=list)
    loaders: list[Loader] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = self.open_store()
        self.list = self.folder / "peers.txt"

    def open_store(self, reserve: int = 0) -> Store:
        """Open the node's store, as one more process would."""
        store = open_store(str(self.folder / "store"), reserve=reserve, fan_out=2)
        self.stores.append(store)
        return store

    def peer(self, behaviour: Behaviour) -> HostilePeer:
        """Start a peer; the ones started before :meth:`loader` are in its list."""
        peer = HostilePeer(behaviour)
        peer.listen()
        self.peers.append(peer)
        return peer

    def loader(self, *behaviours: Behaviour, **settings: Any) -> Loader:
        """A loader that asks these peers in this order."""
        for behaviour in behaviours:
            self.peer(behaviour)
        self.list.write_text("".join(f"{peer.url}/\n" for peer in self.peers))
        self.roster = Roster(str(self.list))
        self.roster.reload()
        loader = Loader(
            settings.pop("store", self.store),
            self.disk,
            self.roster,
            open_peer_http(reactor, self.limits),
            settings.pop("clock", reactor),
            picker=InListOrder(self.roster, lambda: 1.0),
            limits=LoadLimits(**settings),
        )
        self.loaders.append(loader)
        return loader

    def read(self, digest: Digest) -> bytes:
        """The bytes of a stored blob."""
        with self.store.open(digest) as blob:
            return os.pread(blob.fd, blob.length + 1, 0)

    def leave_behind(self, digest: Digest, data: bytes) -> None:
        """Leave a partial, as a process that was killed does."""
        partial = self.store.partial(digest)
        partial.absorb()
        partial.write([data])
        partial.close()

    def left_behind(self, digest: Digest) -> bytes:
        """What a later process would find."""
        partial = self.store.partial(digest)
        length = partial.absorb()
        data = os.pread(partial.fd, length + 1, 0)
        partial.close()
        return data

    def deny(self, digest: Digest) -> None:
        """Put an operator's 403 marker where the blob would be."""
        folder = Path(self.store.layout.folder(digest))
        folder.mkdir(parents=True)
        (folder / "403").touch()

    async def close(self) -> None:
        """End everything."""
        for loader in self.loaders:
            await loader.stop()
        for peer in self.peers:
            await peer.close()
        for store in self.stores:
            store.close()


@pytest_twisted.async_yield_fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    yield made
    await made.close()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Any]:
    """Wait on the real reactor until something is so."""

    async def wait(so: Callable[[], bool]) -> None:
        for _ in range(400):
            if so():
                return
            await pause(0.01)
        pytest.fail("it did not come about")

    return wait


async def pause(seconds: float) -> None:
    """Let the reactor run."""
    from twisted.internet.task import deferLater  # noqa: PLC0415 - with the reactor installed

    await deferLater(reactor, seconds)
