"""The flash crowd: N nodes want one file at once, and one has it.

The nodes' own code decides: :mod:`dtfc.peers.rendezvous` and the picker whom to
ask, :mod:`dtfc.peers.pull` what to ask for. This file carries the questions and
the bytes between them (:mod:`simulate.links`), and says for each node what it
answers:

- who has the whole sends it;
- who is loading lets those wait who stand below it in the digest's tree, and
  sends them what it has, and the rest as it comes; it tells others that it has
  nothing;
- a node sends to so many others at once, as :mod:`dtfc.peers.receivers` decides.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dtfc.digest import Digest
from dtfc.http.replies import GIVES_WAY, YES
from dtfc.peers.listing import Peer
from dtfc.peers.picker import Picker
from dtfc.peers.pull import Pull
from dtfc.peers.receivers import LARGE, Place, Receivers
from dtfc.peers.steps import (
    Action,
    Answered,
    Ask,
    AskMap,
    Complete,
    Drop,
    Ended,
    Event,
    Finish,
    Got,
    Mapped,
    Shorten,
    Take,
    Verified,
    Verify,
    Wait,
    Waited,
    Wanted,
)
from dtfc.store.chunkmap import CHUNK
from dtfc.store.spans import Spans
from dtfc.web.loading import AHEAD
from simulate.links import Link, Stream, Timeline

#: What is compared: the first is how it should be.
WAYS: tuple[tuple[str, int], ...] = (("tree", 2), ("tree", 0), ("2015", 0))

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
        at_once: to how many others a node sends at once; 0 for any number.
    """

    nodes: int
    chunks: int = 64
    rate: float = 125e6
    latency: float = 0.001
    way: str = "tree"
    at_once: int = 2

    @property
    def bound(self) -> int:
        """To how many a node sends at once; in 2015 there was no bound."""
        return self.at_once if self.way == "tree" else 0

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
        whole: whether it has the file.
    """

    def __init__(self, crowd: Crowd, url: str, *, whole: bool) -> None:
        chunks = range(crowd.terms.chunks)
        self.url = url
        self.held = set(chunks) if whole else set[int]()
        self.depth = 0
        self.done_at = 0.0
        self.link = Link(crowd.timeline, crowd.terms.chunk_seconds, crowd.terms.latency)
        self.link.has = self.held.__contains__
        self.receivers = Receivers(crowd.terms.bound)
        self._crowd = crowd
        self._pull: Pull | None = None
        self._alarm = 0
        self._asked: dict[int, Member] = {}
        self._coming: dict[int, Stream] = {}
        self._places: dict[tuple[str, int], Place] = {}
        self._waiting: list[tuple[Member, Ask]] = []
        self._wanted = Spans()

    @property
    def whole(self) -> bool:
        """Whether all of it is here."""
        return len(self.held) == self._crowd.terms.chunks

    # -- who wants it ---------------------------------------------------------

    def want(self, peers: Sequence[str], ancestors: Sequence[str] = ()) -> None:
        """Begin to load, from these peers in this order, the ancestors before them."""
        self._pull = Pull(peers, 0, self._crowd.digest.hex, ancestors=ancestors)
        self._perform(self._pull.begin(self._crowd.timeline.now))

    def _perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Ask():
                    self._ask(action)
                case Take():
                    self._take(action)
                case Shorten(number, end):
                    self._asked[number].link.shorten(self._coming[number], end // CHUNK)
                case Drop(number):
                    self._coming.pop(number, None)
                    self._asked.pop(number).forget(self, number)
                case Wait(seconds):
                    self._alarm += 1
                    later = self._crowd.timeline.now + seconds
                    self._crowd.timeline.at(later, self._waited, self._alarm)
                case _:
                    self._conclude(action)

    def _conclude(self, action: Action) -> None:
        timeline = self._crowd.timeline
        match action:
            case AskMap(peer):
                # Nobody lies here: maps are not needed.
                timeline.at(timeline.now, self._happened, Mapped(peer, None))
            case Verify():
                timeline.at(timeline.now, self._happened, Verified(right=True))
            case Finish(outcome):
                if outcome != Complete():
                    raise RuntimeError(f"{self.url}: {outcome}")
                self.done_at = timeline.now

    def _happened(self, event: Event) -> None:
        if self._pull is not None:
            self._perform(self._pull.on(event, self._crowd.timeline.now))

    def _waited(self, alarm: int) -> None:
        if alarm == self._alarm:
            self._happened(Waited())

    def _ask(self, ask: Ask) -> None:
        crowd = self._crowd
        crowd.requests += 1
        peer = self._asked[ask.number] = crowd.members[ask.peer]
        crowd.timeline.at(crowd.timeline.now + crowd.terms.latency, peer.asked, self, ask)

    def answered(self, ask: Ask, status: int, fields: Mapping[str, list[str]]) -> None:
        """The head of an answer has come."""
        self._happened(Answered(ask.number, status, lambda name: fields.get(name, [])))

    def _take(self, take: Take) -> None:
        number = take.number
        peer = self._asked[number]

        def got(chunk: int) -> None:
            if self._coming.get(number) is not stream or chunk >= stream.stop:
                return
            self.held.add(chunk)
            self.depth = max(self.depth, peer.depth + 1)
            self._happened(Got(number, CHUNK))
            self._serve_who_waits()
            self.link.go_on()
            self._want_for_others()

        def ended(why: str | None) -> None:
            if self._coming.get(number) is stream:
                del self._coming[number]
                self._asked.pop(number).forget(self, number)
                self._happened(Ended(number, why, broken_off=why is not None))

        first = take.at // CHUNK
        stream = Stream(peer.link, self.link, first, first + take.count // CHUNK, got, ended)
        self._coming[number] = stream
        peer.send(self, number, stream)

    # -- who is asked ---------------------------------------------------------

    def asked(self, asker: Member, ask: Ask) -> None:
        """A request has come."""
        if self.whole or (ask.partial and ask.start // CHUNK in self.held):
            self._answer(asker, ask)
        elif ask.partial and self._pull is not None:
            self._waiting.append((asker, ask))
        else:
            self._say(asker, ask, 404, {"content-length": ["0"]})

    def _answer(self, asker: Member, ask: Ask) -> None:
        crowd = self._crowd
        length = crowd.terms.chunks * CHUNK
        end = length if ask.end is None else ask.end
        told = {"content-length": [str(end - ask.start)], "etag": [crowd.digest.etag]}
        if crowd.terms.bound and end - ask.start > LARGE:
            told[GIVES_WAY.lower()] = [YES]
            place = self.receivers.let_in(crowd.digest, asker.url, crowd.timeline.now)
            if place is None:
                self._say(asker, ask, 503, told | {"retry-after": ["1"]})
                return
            self._places[asker.url, ask.number] = place
            self._cut_off()
        if ask.start or ask.end is not None:
            told["content-range"] = [f"bytes {ask.start}-{end - 1}/{length}"]
        self._say(asker, ask, 206 if "content-range" in told else 200, told)

    def _say(self, asker: Member, ask: Ask, status: int, fields: Mapping[str, list[str]]) -> None:
        later = self._crowd.timeline.now + self._crowd.terms.latency
        self._crowd.timeline.at(later, asker.answered, ask, status, fields)

    def _serve_who_waits(self) -> None:
        waiting, self._waiting = self._waiting, []
        for asker, ask in waiting:
            self.asked(asker, ask)

    def forget(self, asker: Member, number: int) -> None:
        """Who asked wants no more of an answer, or has all of it."""
        self._waiting = [
            each for each in self._waiting if (each[0].url, each[1].number) != (asker.url, number)
        ]
        for stream in [each for each in self.link.streams if each.of == (asker.url, number)]:
            self.link.drop(stream)
        place = self._places.pop((asker.url, number), None)
        if place is not None:
            self.receivers.leave(place)

    def send(self, asker: Member, number: int, stream: Stream) -> None:
        """Send an answer's body."""
        stream.of = asker.url, number
        self.link.begin(stream)
        self._cut_off()
        self._want_for_others()

    def _want_for_others(self) -> None:
        """Bring first what an answer waits for, as an answer does in a node."""
        for chunk in sorted({stream.next for stream in self.link.streams}):
            start, end = chunk * CHUNK, (chunk + 1) * CHUNK
            if chunk not in self.held and not self._wanted.has(start, end):
                end = min(end + AHEAD, self._crowd.terms.chunks * CHUNK)
                self._wanted.add(start, end)
                self._happened(Wanted(start, end))

    def _cut_off(self) -> None:
        """Send nothing more to those who lost their places."""
        for stream in list(self.link.streams):
            place = self._places.get(stream.of)
            if place is not None and place.lost:
                self.link.end(stream, "broke off")


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
        for url in urls:
            self.members[url] = Member(self, url, whole=url == source)
        self._urls = urls
        self._source = self.members[source]

    def run(self) -> Figures:
        """Let all want it at once."""
        peers = tuple(Peer(url) for url in self._urls)
        for url, member in self.members.items():
            if member is not self._source:
                others = tuple(peer for peer in peers if peer.url != url)
                self.timeline.at(0.0, self._begin, member, others)
        self.timeline.run()
        loaders = [each for each in self.members.values() if each is not self._source]
        late = [each.url for each in loaders if not each.whole]
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
        member.want(picker.order(self.digest, 0.0), picker.ancestors(self.digest))


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


def _in_words(way: str, at_once: int) -> str:
    if way == "2015":
        return "2015: in list order, whole files"
    return f"tree, {at_once} at once" if at_once else "tree, any number at once"
