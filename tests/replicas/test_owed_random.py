"""Whatever happens meanwhile: what was acknowledged has its copies in the end."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from dtfc.digest import Digest
from dtfc.errors import Absent
from tests.replicas.conftest import URLS, Owing

TERMS: dict[str, Any] = {"at_once": 3, "at_once_to_one": 1, "patience": 30.0}

#: So few that each matters.
PEERS = URLS[:3]

peer = st.sampled_from(PEERS)
blob = st.integers(0, 9).map(lambda number: str(number).encode())
step = st.one_of(
    st.tuples(st.just("put"), blob),
    st.tuples(st.just("put"), blob),
    st.tuples(st.just("put"), blob),
    st.tuples(st.just("delete"), blob),
    st.tuples(st.just("down"), peer),
    st.tuples(st.just("up"), peer),
    st.tuples(st.just("lose"), peer),
    st.tuples(st.just("refuse"), peer),
    st.tuples(st.just("slow"), peer),
    st.tuples(st.just("let"), st.integers(1, 3)),
    st.tuples(st.just("wait"), st.integers(1, 40)),
    st.tuples(st.just("die"), st.none()),
    st.tuples(st.just("list"), st.integers(1, 3)),
)


class Story:
    """What happens, and which blobs a client was told are stored."""

    def __init__(self, owing: Owing) -> None:
        self.owing = owing
        self.owed: set[Digest] = set()

    def put(self, content: bytes) -> None:
        self.owing.peers.broken.pop(Digest.of(content), None)
        self.owed.add(self.owing.owe(content))

    def delete(self, content: bytes) -> None:
        digest = Digest.of(content)
        self.owed.discard(digest)
        self.owing.peers.broken[digest] = Absent(digest.hex, deleted=True)
        assert Deferred.fromCoroutine(self.owing.replicas.forget(digest)).called

    def down(self, url: str) -> None:
        self.owing.peers.down.add(url)

    def up(self, url: str) -> None:
        self.owing.peers.down.discard(url)
        self.owing.peers.refusing.pop(url, None)

    def lose(self, url: str) -> None:
        # A new disk: what it had is owed by nobody any more.
        self.owed -= self.owing.peers.held.pop(url, set())

    def refuse(self, url: str) -> None:
        self.owing.peers.refusing[url] = 507

    def slow(self, url: str) -> None:
        self.owing.peers.slow.symmetric_difference_update({url})

    def let(self, count: int) -> None:
        self.owing.peers.let(count)

    def wait(self, seconds: int) -> None:
        self.owing.pass_time(seconds)

    def die(self, _value: None) -> None:
        self.owing.stop()
        self.owing.start(**TERMS)

    def list(self, count: int) -> None:
        self.owing.roster.change(*PEERS[:count])

    def ends(self) -> None:
        owing, peers = self.owing, self.owing.peers
        peers.down.clear()
        peers.refusing.clear()
        peers.slow.clear()
        owing.roster.change(*PEERS)
        for _ in range(3):
            peers.let()
            owing.pass_time(120)
        assert owing.queue() == 0
        lacking = {digest for digest in self.owed if len(peers.holders(digest)) < 2}
        assert lacking == set()
        assert owing.replicas._works == {}
        assert peers.running == 0


@given(st.lists(step, min_size=10, max_size=60))
def test_every_acknowledged_blob_has_its_copies_in_the_end(steps: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        owing = Owing(Path(folder) / "replicas")
        owing.roster.change(*PEERS)
        owing.start(**TERMS)
        try:
            story = Story(owing)
            for what, value in steps:
                getattr(story, what)(value)
            story.ends()
        finally:
            for replicas in list(owing.begun):
                owing.stop(replicas)
        assert owing.clock.getDelayedCalls() == []
