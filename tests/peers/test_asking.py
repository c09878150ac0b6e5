"""What HEAD of a blob that is not here teaches the picker."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from twisted.internet import reactor as _reactor

from dtfc.digest import Digest
from dtfc.peers.picker import Picker
from tests.peers.conftest import Node
from tests.peers.hostile import closes, honest, status

reactor: Any = _reactor
DATA = b"hello"
DIGEST = Digest.of(DATA)


@pytest_twisted.ensureDeferred
async def test_what_peers_say_of_a_blob_is_remembered(node: Node) -> None:
    loader = node.loader(status(404), closes, honest(DATA))
    without, down, holder = (peer.url for peer in node.peers)

    await loader.probe(DIGEST)

    learned = Picker.order(loader._around.picker, DIGEST, reactor.seconds())
    assert learned == (holder, without, down)
