"""A client, and nodes that behave as they are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest_twisted

from dtfc.client import Client
from tests.peers.hostile import Behaviour, HostilePeer

PATIENCE = 3.0


@dataclass
class Nodes:
    """Nodes, and clients of them."""

    folder: Path
    made: list[HostilePeer] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    def client(self, *behaviours: Behaviour, **settings: Any) -> Client:
        """A client of nodes that behave so."""
        for behaviour in behaviours:
            node = HostilePeer(behaviour)
            node.listen()
            self.made.append(node)
        return self.another(*(node.url for node in self.made), **settings)

    def another(self, *urls: str, **settings: Any) -> Client:
        """A client of nodes that are there already."""
        made = Client(*urls, **{"patience": PATIENCE, **settings})
        self.clients.append(made)
        return made

    async def close(self) -> None:
        """End everything."""
        for client in self.clients:
            await client.close()
        for node in self.made:
            await node.close()


@pytest_twisted.async_yield_fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    made = Nodes(tmp_path)
    yield made
    await made.close()
