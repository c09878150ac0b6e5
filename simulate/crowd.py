"""The flash crowd: N nodes want one file at once, and one has it.

The nodes' own code decides: :mod:`dtfc.peers.rendezvous` and the picker whom to
ask, :mod:`dtfc.peers.pull` what to ask for. This file carries the questions and
the bytes between them (:mod:`simulate.links`), and says for each node what it
answers:

- who has the whole sends it;
- who is loading sends what it has, and the rest as it comes;
- who is loading and has nothing yet lets those wait who stand below it in the
  digest's tree (nobody waits for one who waits for it), and tells others that it
  has nothing;
- a node sends to so many others at once; to one more only in place of the one
  that stands lowest in the tree, which goes on with its next ancestor.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dtfc.digest import Digest
from dtfc.peers.listing import Peer
from dtfc.peers.picker import Picker
from dtfc.peers.pull import Pull
from dtfc.peers.rendezvous import path_up, ranked
from dtfc.peers.steps import Answered, Ended, Got, Verified, Waited
from dtfc.store.chunkmap import CHUNK
from simulate.links import Link, Stream, Timeline

#: Peers that the root of the tree, which has nobody above it, asks at once who has it.
PROBES_AT_ONCE = 64

#: What is compared: the first is how it should be.
WAYS: tuple[tuple[str, int | None], ...] = (("tree", 2), ("tree", None), ("2015", None))

#: Copies that the source may send.
MOST_COPIES = 4


@dataclass(frozen=True, slots=True)
class Terms:
    """Of one flash crowd.

    Args:
        nodes: how many, the one that has the file included.
        chunks: of the file.
        rate: of each link, bytes per second, each way.
        latency: seconds from one node to another.
        way: ``tree``; or ``2015``: all ask in the order of the list, and who has
            not the whole has nothing.
        at_once: to how many others a node sends at once; None for any number.
    """

    nodes: int
    chunks: int = 64
    rate: float = 125e6
    latency: float = 0.001
    way: str = "tree"
    at_once: int | None = 2

    @property
    def chunk_seconds(self) -> float:
        """How long a chunk takes over one link."""
        return CHUNK / self.rate

    @property
    def file_seconds(self) -> float:
        """How long the file takes over one link."""
        return self.chunks * self.chunk_seconds

    @property
    def allowed(self) -> float:
        """How long all may take: 2.5 files, and 3 chunks for each level of the tree."""
        return 2.5 * self.file_seconds + 3 * math.log2(self.nodes) * self.chunk_seconds


@dataclass(frozen=True, slots=True)
class Figures:
    """What a flash crowd came to.

    Args:
        terms: of it.
        source_copies: what the source sent, in files.
        most_copies: what any other node sent at most, in files.
        seconds: until the last node had all.
        depth: nodes between which the last byte went, the source not counted, at most.
        requests: that were made.
        events: that were simulated.
    """

    terms: Terms
    source_copies: float
    most_copies: float
    seconds: float
    depth: int
    requests: int
    events: int


class _List:
    """The peers of one node, as the picker wants them."""

    def __init__(self, peers: tuple[Peer, ...], me: str) -> None:
        self._peers = peers
        self.me: str | None = me

    def current(self) -> tuple[Peer, ...]:
        return self._peers


class Member:
    """One node of the crowd.

    Args:
        crowd: all of them.
        url: its own.
        rank: its place in the digest's tree.
        whole: whether it has the file.
    """

    def __init__(self, crowd: Crowd, url: str, rank: int, *, whole: bool) -> None:
        self.url = url
        self.rank = rank
        self.ready = crowd.terms.chunks if whole else 0
        self.depth = 0
        self.done_at = 0.0
        self.link = Link(crowd.timeline, crowd.terms.chunk_seconds, crowd.terms.latency)
        self.link.has = lambda chunk: chunk < self.ready
        self._crowd = crowd
        self._pull: Pull | None = None
        self.streams: dict[int, Stream] = {}
        self._askers: dict[int, Member] = {}
        self._waiting: list[tuple[Member, Any]] = []
        self.above: tuple[int, ...] = tuple(path_up(rank))

    # -- who wants it ---------------------------------------------------------

    def want(self, peers: Sequence[str]) -> None:
        """Begin to load, from these peers in this order."""
        self._pull = Pull(peers, 0, self._crowd.digest.hex)
        self._perform(self._pull.begin())

    def _perform(self, actions: Sequence[Any]) -> None:
        crowd, later = self._crowd, self._crowd.timeline
        for action in actions:
            match type(action).__name__:
                case "Ask":
                    crowd.requests += 1
                    peer = crowd.members[action.peer]
                    self._askers[action.number] = peer
                    later.at(later.now + crowd.terms.latency, peer.asked, self, action)
                case "Take":
                    self._take(action)
                case "Drop":
                    self._askers.pop(action.number).forget(self, action.number)
                case "Verify":
                    later.at(later.now, self._happened, Verified(right=True))
                case "Wait":
                    later.at(later.now + action.seconds, self._happened, Waited())
                case "Finish":
                    self.done_at = later.now

    def _happened(self, event: Any) -> None:
        if self._pull is not None:
            self._perform(self._pull.on(event))

    def answered(self, number: int, status: int, start: int) -> None:
        """The head of an answer has come."""
        fields = self._crowd.fields(status, start)
        self._happened(Answered(number, status, lambda name: fields.get(name, [])))

    def _take(self, take: Any) -> None:
        peer = self._askers[take.number]
        first = self.ready

        def got(chunk: int) -> None:
            if chunk == self.ready:
                self.ready += 1
                self.depth = max(self.depth, peer.depth + 1)
                self._happened(Got(take.number, CHUNK))
                self._serve_who_waits()
                self.link.go_on()

        def ended(why: str | None) -> None:
            self.streams.pop(take.number, None)
            self._happened(Ended(take.number, why))

        stream = Stream(peer.link, self.link, first, self._crowd.terms.chunks, got, ended)
        self.streams[take.number] = stream
        peer.send(stream)

    # -- who is asked ---------------------------------------------------------

    def asked(self, asker: Member, ask: Any) -> None:
        """A request has come."""
        start = ask.start // CHUNK
        if self.ready > start or self.ready == self._crowd.terms.chunks:
            self._answer(asker, ask, 206 if start else 200)
        elif self._crowd.terms.way == "tree" and self.rank in asker.above:
            self._waiting.append((asker, ask))
        else:
            self._answer(asker, ask, 404)

    def _answer(self, asker: Member, ask: Any, status: int) -> None:
        later = self._crowd.timeline
        at = later.now + self._crowd.terms.latency
        later.at(at, asker.answered, ask.number, status, ask.start)

    def _serve_who_waits(self) -> None:
        waiting, self._waiting = self._waiting, []
        for asker, ask in waiting:
            self.asked(asker, ask)

    def forget(self, asker: Member, number: int) -> None:
        """Who asked wants no answer any more."""
        self._waiting = [each for each in self._waiting if each[0] is not asker]
        stream = asker.streams.pop(number, None)
        if stream is not None:
            self.link.drop(stream)

    def send(self, stream: Stream) -> None:
        """Send, in place of another if there are too many."""
        self.link.begin(stream)
        most = self._crowd.terms.at_once
        if most is not None and self._crowd.terms.way == "tree":
            while len(self.link.streams) > most:
                ranks = self._crowd.ranks
                lowest = max(self.link.streams, key=lambda each: ranks[id(each.target)])
                self.link.end(lowest, "sends to those who stand higher")


class Crowd:
    """All of them.

    Args:
        terms: how many, and how they are connected.
        seed: decides the digest, and so the tree.
    """

    def __init__(self, terms: Terms, seed: int) -> None:
        self.terms = terms
        self.timeline = Timeline()
        self.requests = 0
        rng = random.Random(f"crowd {seed}")
        self.digest = Digest(rng.randbytes(64))
        urls = [f"http://10.0.{n // 250}.{n % 250 + 1}:8080" for n in range(terms.nodes)]
        rng.shuffle(urls)
        source = urls[rng.randrange(len(urls))]
        self.members: dict[str, Member] = {}
        for rank, url in enumerate(ranked(self.digest, urls)):
            self.members[url] = Member(self, url, rank, whole=url == source)
        self.ranks = {id(each.link): each.rank for each in self.members.values()}
        self._urls = urls
        self._source = self.members[source]

    def fields(self, status: int, start: int) -> dict[str, list[str]]:
        """Return the fields of an answer."""
        length = self.terms.chunks * CHUNK
        if status == 404:
            return {"content-length": ["0"]}
        told = {"content-length": [str(length - start)], "etag": [f'"{self.digest.hex}"']}
        if status == 206:
            told["content-range"] = [f"bytes {start}-{length - 1}/{length}"]
        return told

    def run(self) -> Figures:
        """Let all want it at once."""
        peers = tuple(Peer(url) for url in self._urls)
        for url, member in self.members.items():
            if member is not self._source:
                others = tuple(peer for peer in peers if peer.url != url)
                self.timeline.at(0.0, self._begin, member, others)
        self.timeline.run()
        loaders = [each for each in self.members.values() if each is not self._source]
        late = [each.url for each in loaders if each.ready < self.terms.chunks]
        if late:
            raise RuntimeError(f"{len(late)} nodes never got it")
        return Figures(
            self.terms,
            self._source.link.sent / self.terms.chunks,
            max(each.link.sent for each in loaders) / self.terms.chunks,
            max(each.done_at for each in loaders),
            max(each.depth for each in loaders),
            self.requests,
            self.timeline.happened,
        )

    def _begin(self, member: Member, others: tuple[Peer, ...]) -> None:
        if self.terms.way == "2015":
            # One after the other, until one has it; none keeps what it was told.
            before = self._urls.index(self._source.url)
            self.requests += before
            wait = 2 * before * self.terms.latency
            self.timeline.at(self.timeline.now + wait, member.want, (self._source.url,))
            return
        picker = Picker(_List(others, member.url), random.Random(member.url).random)
        above = picker.ancestors(self.digest)
        if above:
            member.want(above)
            return
        # The root: so many at a time, until one has it.
        order = picker.order(self.digest, 0.0)
        turns = order.index(self._source.url) // PROBES_AT_ONCE + 1
        self.requests += min(len(order), turns * PROBES_AT_ONCE)
        wait = 2 * turns * self.terms.latency
        self.timeline.at(self.timeline.now + wait, member.want, (self._source.url,))


def flash_crowd(terms: Terms, seed: int) -> Figures:
    """Simulate one."""
    return Crowd(terms, seed).run()


def table(sizes: Sequence[int], seeds: Sequence[int]) -> tuple[list[str], bool]:
    """Return the scaling table, worst figures of several digests each; and whether all is kept.

    Args:
        sizes: numbers of nodes.
        seeds: of the digests.
    """
    lines = [
        "| nodes | way | source sent | any other sent | time | allowed | depth | requests |",
        "|---|---|---|---|---|---|---|---|",
    ]
    kept = True
    for nodes in sizes:
        for way, at_once in WAYS:
            terms = Terms(nodes, way=way, at_once=at_once)
            worst = [flash_crowd(terms, seed) for seed in seeds]
            copies = max(each.source_copies for each in worst)
            seconds = max(each.seconds for each in worst)
            if (way, at_once) == WAYS[0]:
                kept = kept and copies <= MOST_COPIES and seconds <= terms.allowed
            lines.append(
                f"| {nodes:,} | {_in_words(way, at_once)} | {copies:.2f} | "
                f"{max(each.most_copies for each in worst):.2f} | "
                f"{seconds / terms.file_seconds:.2f} | {terms.allowed / terms.file_seconds:.2f} | "
                f"{max(each.depth for each in worst)} | {max(each.requests for each in worst):,} |"
            )
    return lines, kept


def _in_words(way: str, at_once: int | None) -> str:
    if way == "2015":
        return "2015: in list order, whole files"
    return "tree, any number at once" if at_once is None else f"tree, {at_once} at once"
