"""One load from several peers: who is asked for what, what jumps the queue, who is believed."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.peers.dealing import PullLimits
from dtfc.peers.pull import Pull
from dtfc.peers.steps import (
    Accuse,
    Action,
    Answered,
    Ask,
    AskMap,
    Complete,
    Drop,
    Ended,
    Event,
    Failed,
    Finish,
    Got,
    Hashed,
    Mapped,
    MapWanted,
    Note,
    Outcome,
    Restart,
    Shorten,
    Take,
    TakeBack,
    Trust,
    Verified,
    Verify,
    Wait,
    Waited,
    Wanted,
)
from dtfc.store.chunkmap import CHUNK, ChunkMap
from dtfc.store.spans import Spans

A, B, C = "http://a:1", "http://b:1", "http://c:1"
MANY = 64 * CHUNK


def fields(**values: str) -> Callable[[str], Sequence[str]]:
    known = {name.replace("_", "-"): [value] for name, value in values.items()}
    return lambda name: known.get(name, [])


def answer(ask: Ask, length: int) -> Answered:
    """What an honest peer says to an ask."""
    if not ask.start and ask.end is None:
        return Answered(ask.number, 200, fields(content_length=str(length)))
    end = length if ask.end is None else ask.end
    span = f"bytes {ask.start}-{end - 1}/{length}"
    return Answered(
        ask.number, 206, fields(content_length=str(end - ask.start), content_range=span)
    )


def asks(actions: list[Action]) -> list[Ask]:
    return [each for each in actions if isinstance(each, Ask)]


def begun(peers: list[str], length: int = MANY, **limits: float) -> Pull:
    """A load whose first peer has begun to send, a MiB in a tenth of a second."""
    pull = Pull(peers, limits=PullLimits(**limits))  # type: ignore[arg-type] # numbers all
    (first,) = asks(pull.begin(0.0))
    pull.on(answer(first, length), 0.01)
    pull.on(Got(1, CHUNK), 0.1)
    return pull


def test_a_lone_peer_keeps_its_one_long_ask() -> None:
    pull = begun([A])
    for tenth in range(2, 20):
        assert asks(pull.on(Waited(), tenth / 10)) == []


def test_an_idle_peer_gets_the_end() -> None:
    pull = begun([A, B])
    actions = pull.on(Waited(), 0.11)
    (ask,) = asks(actions)
    assert ask == Ask(2, B, ask.start, None)
    assert Shorten(1, ask.start) in actions
    assert abs(ask.start - MANY / 2) <= CHUNK


def test_what_is_nearly_over_is_left_alone() -> None:
    pull = begun([A, B], 2 * CHUNK)
    assert asks(pull.on(Waited(), 0.11)) == []


def test_a_peer_that_says_nothing_gets_a_rival() -> None:
    pull = Pull([A, B])
    pull.begin(0.0)
    assert asks(pull.on(Waited(), 0.4)) == []
    assert asks(pull.on(Waited(), 0.5)) == [Ask(2, B, 0)]


def test_the_first_of_two_rivals_is_kept() -> None:
    pull = Pull([A, B])
    pull.begin(0.0)
    pull.on(Waited(), 0.5)
    actions = pull.on(answer(Ask(2, B, 0), MANY), 0.6)
    assert Drop(1) in actions
    assert Take(2, 0, MANY, 0) in actions


def test_a_rival_whose_answer_is_taken_has_won() -> None:
    pull = Pull([A, B])
    pull.begin(0.0)
    pull.on(Waited(), 0.5)
    before = pull.hedges, pull.hedges_won
    pull.on(answer(Ask(2, B, 0), MANY), 0.6)
    assert (before, (pull.hedges, pull.hedges_won)) == ((1, 0), (1, 1))


def test_a_rival_of_one_that_answers_after_all_has_not() -> None:
    pull = Pull([A, B])
    pull.begin(0.0)
    pull.on(Waited(), 0.5)
    pull.on(answer(Ask(1, A, 0), MANY), 0.6)
    assert (pull.hedges, pull.hedges_won) == (1, 0)


def test_who_shares_the_work_is_no_rival() -> None:
    pull = begun([A, B])
    (ask,) = asks(pull.on(Waited(), 0.11))
    pull.on(answer(ask, MANY), 0.2)
    assert (pull.hedges, pull.hedges_won) == (0, 0)


def test_who_stops_in_the_middle_gets_a_rival_for_the_rest() -> None:
    pull = begun([A, B], 3 * CHUNK)
    pull.on(Got(1, CHUNK + 5), 0.2)
    (ask,) = asks(pull.on(Waited(), 2.3))
    assert (ask.peer, ask.start) == (B, 2 * CHUNK + 5)
    actions = pull.on(answer(ask, 3 * CHUNK), 2.4)
    assert Drop(1) in actions
    assert Take(2, 0, CHUNK - 5, 2 * CHUNK + 5) in actions


def test_a_rival_is_dropped_when_the_first_one_goes_on() -> None:
    length = 2 * CHUNK + 1000
    pull = begun([A, B], length)
    (ask,) = asks(pull.on(Waited(), 2.2))
    pull.on(Got(1, 5), 2.3)
    assert Drop(ask.number) in pull.on(answer(ask, length), 2.4)


def with_a_rival() -> tuple[Pull, Ask]:
    """Two gaps: one that the second peer fills, one for which the first has a rival."""
    held = Spans([(0, CHUNK), (2 * CHUNK, 3 * CHUNK)])
    pull = Pull([A, B, C], held, length=5 * CHUNK)
    first, second = asks(pull.begin(0.0))
    (rival,) = asks(pull.on(Waited(), 0.5))
    assert rival == Ask(3, C, CHUNK, 2 * CHUNK)
    pull.on(answer(second, 5 * CHUNK), 0.51)
    pull.on(answer(first, 5 * CHUNK), 0.52)
    return pull, rival


def test_a_rival_is_dropped_when_the_first_one_has_ended() -> None:
    """It would be asked for nothing, and so would its own rival."""
    pull, rival = with_a_rival()
    pull.on(Got(1, CHUNK), 0.6)
    assert Drop(rival.number) in pull.on(Ended(1), 0.6)


def test_a_rival_is_dropped_when_the_first_one_has_sent_all() -> None:
    pull, rival = with_a_rival()
    pull.on(Got(1, CHUNK), 0.6)
    actions = pull.on(answer(rival, 5 * CHUNK), 10.0)
    assert Drop(rival.number) in actions
    assert Drop(1) not in actions


def test_one_more_is_asked_at_a_time_for_each_that_does_not_have_it() -> None:
    peers = [f"http://p{number}:1" for number in range(6)]
    pull = Pull(peers)
    pull.begin()
    assert len(asks(pull.on(Answered(1, 404, fields())))) == 2
    assert len(asks(pull.on(Answered(2, 404, fields())))) == 2


def test_while_nobody_has_it_more_are_asked_at_once_than_send() -> None:
    peers = [f"http://p{number}:1" for number in range(100)]
    pull = Pull(peers, limits=PullLimits(peers=4))
    actions, open_now, most = pull.begin(), set[int](), 0
    for number in range(1, 60):
        open_now |= {each.number for each in asks(actions)}
        most = max(most, len(open_now))
        open_now.discard(number)
        actions = pull.on(Answered(number, 404, fields()))
    assert most == 16


def test_not_so_by_those_who_wait_for_an_ancestor() -> None:
    """They are many, and would ask everybody the same."""
    others = [f"http://p{number}:1" for number in range(100)]
    pull = Pull(others, limits=PullLimits(peers=4, hedge=0.5), ancestors=[A])
    (first,) = asks(pull.begin(0.0))
    actions = pull.on(Waited(), 0.5)
    for number in range(2, 20):
        (ask,) = asks(actions)
        assert (first.peer, ask.peer, ask.number) == (A, others[number - 2], number)
        actions = pull.on(Answered(number, 404, fields()), 0.5)


def test_what_was_cut_short_for_others_is_not_offered_to_everybody() -> None:
    others = [f"http://p{number}:1" for number in range(100)]
    pull = begun([A, *others])
    actions, number = pull.on(Waited(), 0.2), 1
    while todo := asks(actions):
        actions = []
        for ask in todo:
            number = ask.number
            actions += pull.on(Answered(number, 404, fields()), 0.2)
    assert number < 30


def test_the_end_is_fetched_on_a_second_connection_to_the_only_peer() -> None:
    pull = begun([A])
    actions = pull.on(Wanted(MANY - 1000, MANY), 0.12)
    assert actions[:2] == [Shorten(1, MANY - CHUNK), Ask(2, A, MANY - CHUNK)]


def test_wanted_bytes_that_come_by_themselves_are_waited_for() -> None:
    pull = begun([A])
    assert asks(pull.on(Wanted(CHUNK + 10, 2 * CHUNK), 0.12)) == []


def test_a_second_wish_waits_for_room_that_is_made() -> None:
    """Two asks to the one peer: the one that brings nothing wanted ends with its chunk."""
    pull = begun([A])
    pull.on(Wanted(MANY - 1000, MANY), 0.12)
    actions = pull.on(Wanted(MANY // 2, MANY // 2 + 10), 0.13)
    assert actions == [Shorten(1, 2 * CHUNK)]
    pull.on(Got(1, CHUNK), 0.14)
    (ask,) = asks(pull.on(Ended(1), 0.14))
    assert (ask.peer, ask.start) == (A, MANY // 2)


def test_a_wish_before_the_first_byte_is_not_forgotten() -> None:
    pull = Pull([A])
    pull.begin()
    pull.on(Wanted(MANY - 5, MANY))
    pull.on(answer(Ask(1, A, 0), MANY))
    assert asks(pull.on(Got(1, 10))) == [Ask(2, A, MANY - CHUNK)]


def test_a_gap_of_an_earlier_process_is_filled() -> None:
    pull = Pull([A], Spans([(0, CHUNK), (3 * CHUNK, 5 * CHUNK)]), length=5 * CHUNK)
    assert asks(pull.begin()) == [Ask(1, A, CHUNK, 3 * CHUNK)]


def test_maps_are_asked_for_when_somebody_waits_for_them() -> None:
    pull = begun([A])
    assert pull.on(MapWanted()) == [AskMap(A)]


def map_of(content: bytes) -> ChunkMap:
    pieces = [content[at : at + CHUNK] for at in range(0, len(content), CHUNK)]
    hashes = b"".join(hashlib.sha256(piece).digest() for piece in pieces)
    return ChunkMap(Digest.of(content), len(content), hashes)


CONTENT = random.Random(7).randbytes(3 * CHUNK + 99)
MAP = map_of(CONTENT)


def test_a_chunk_that_is_as_the_map_says_is_trusted() -> None:
    pull = begun([A], len(CONTENT))
    pull.on(MapWanted())
    pull.on(Mapped(A, MAP))
    assert pull.on(Hashed(0, MAP.hash_of(0))) == [Trust((0,))]


def test_a_chunk_that_is_not_is_fetched_from_another_peer() -> None:
    pull = begun([A, B], len(CONTENT))
    pull.on(MapWanted())
    pull.on(Mapped(A, MAP))
    actions = pull.on(Hashed(0, b"x" * 32))
    assert TakeBack((0,)) in actions
    assert [(ask.peer, ask.start) for ask in asks(actions)] == [(B, 0)]


def test_a_chunk_that_is_found_wrong_while_the_whole_is_compared_costs_itself_alone() -> None:
    pull = Pull([A], len(CONTENT) - CHUNK, length=len(CONTENT))
    (rest,) = asks(pull.begin(0.0))
    pull.on(answer(rest, len(CONTENT)), 0.1)
    pull.on(Mapped(A, MAP))
    pull.on(Got(rest.number, CHUNK))
    assert Verify() in pull.on(Ended(rest.number))

    assert TakeBack((0,)) in pull.on(Hashed(0, b"x" * 32))

    (again,) = asks(pull.on(Verified(right=False)))
    assert (again.start, again.end) == (0, CHUNK)


def test_a_map_that_agrees_with_nobody_is_believed_no_longer() -> None:
    pull = begun([A], len(CONTENT))
    pull.on(MapWanted())
    pull.on(Mapped(A, MAP))
    actions = pull.on(Hashed(0, b"x" * 32))
    assert actions == [Note(A, "its chunk map agrees with nobody's bytes")]


@dataclass
class Honest:
    """A peer, and what it does wrong."""

    content: bytes = field(repr=False)
    rate: float = 10e6
    chunk_map: ChunkMap | None = field(default=None, repr=False)
    dies_after: int | None = None
    absent: bool = False


@dataclass
class Network:
    """Peers on a clock that only moves here; every action is performed, and looked at."""

    digest: Digest
    peers: dict[str, Honest]
    now: float = 0.0
    file: bytearray = field(default_factory=bytearray)
    held: Spans = field(default_factory=Spans)
    asked: dict[str, int] = field(default_factory=dict)
    bytes_of: dict[str, int] = field(default_factory=dict)
    accused: list[str] = field(default_factory=list)
    trusted: set[int] = field(default_factory=set)

    def run(self, pull: Pull, wanted: Sequence[Wanted] = ()) -> Outcome:
        """Load; returns how it ended."""
        self.pull = pull
        self.open: dict[int, tuple[Ask, Take | None, int, int]] = {}
        self.due: deque[Event] = deque(wanted)
        self.wake: float | None = None
        actions = pull.begin(self.now)
        for _ in range(6_000):
            for action in actions:
                if isinstance(action, Finish):
                    return action.outcome
                self.perform(action)
            actions = self.next()
        pytest.fail("it does not end")

    def perform(self, action: Action) -> None:  # noqa: C901, PLR0912 -- one case for each word
        match action:
            case Ask():
                self.open[action.number] = (action, None, 0, 0)
                self.asked[action.peer] = self.asked.get(action.peer, 0) + 1
                peer = self.peers[action.peer]
                if peer.absent:
                    self.due.append(Answered(action.number, 404, fields()))
                else:
                    self.due.append(answer(action, len(peer.content)))
            case Take(number=number):
                ask = self.open[number][0]
                self.open[number] = (ask, action, action.at, action.at + action.count)
            case Shorten(number=number, end=end):
                ask, take, at, _ = self.open[number]
                self.open[number] = (ask, take, at, max(at, end))
            case Drop(number=number):
                self.open.pop(number, None)
            case AskMap(peer=peer_url):
                self.due.append(Mapped(peer_url, self.peers[peer_url].chunk_map))
            case Trust(chunks=chunks):
                self.trusted |= set(chunks)
            case TakeBack(chunks=chunks):
                self.trusted -= set(chunks)
                for chunk in chunks:
                    self.held.remove(chunk * CHUNK, (chunk + 1) * CHUNK)
            case Restart():
                self.held.clear()
                self.trusted.clear()
            case Wait(seconds=seconds):
                self.wake = self.now + seconds
            case Verify():
                right = Digest.of(bytes(self.file[: self.pull.length])) == self.digest
                self.due.append(Verified(right))
            case Accuse(peer=peer_url):
                self.accused.append(peer_url)

    def next(self) -> list[Action]:
        if self.due:
            return self.pull.on(self.due.popleft(), self.now)
        self.now += 0.02
        if self.wake is not None and self.now >= self.wake:
            self.wake = None
            return self.pull.on(Waited(), self.now)
        actions: list[Action] = []
        for number in list(self.open):
            if number in self.open and self.open[number][1] is not None:
                for action in self.deliver(number):
                    if isinstance(action, Finish):
                        return [action]
                    self.perform(action)
        return actions

    def deliver(self, number: int) -> list[Action]:
        ask, _, at, end = self.open[number]
        peer = self.peers[ask.peer]
        sent = self.bytes_of.get(ask.peer, 0)
        sharing = sum(1 for a, t, _, _ in self.open.values() if a.peer == ask.peer and t)
        count = min(end - at, max(1, int(peer.rate * 0.02 / sharing)))
        if peer.dies_after is not None:
            count = min(count, peer.dies_after - sent)
        actions: list[Action] = []
        if count > 0:
            for start, stop in self.held.gaps(at, at + count):
                if len(self.file) < stop:
                    self.file.extend(bytes(stop - len(self.file)))
                self.file[start:stop] = peer.content[start:stop]
            self.bytes_of[ask.peer] = sent + count
            self.held.add(at, at + count)
            self.open[number] = (ask, self.open[number][1], at + count, end)
            actions += self.pull.on(Got(number, count), self.now)
            actions += self.hashes(at, at + count)
        if at + count >= end or count <= 0:
            cut = None if at + count >= end else "died"
            self.open.pop(number, None)
            actions += self.pull.on(Ended(number, cut), self.now)
        return actions

    def hashes(self, start: int, end: int) -> list[Action]:
        actions: list[Action] = []
        length = self.pull.length or 0
        for chunk in range(start // CHUNK, -(-end // CHUNK)):
            stop = min((chunk + 1) * CHUNK, length)
            if self.held.has(chunk * CHUNK, stop):
                sha256 = hashlib.sha256(self.file[chunk * CHUNK : stop]).digest()
                actions += self.pull.on(Hashed(chunk, sha256), self.now)
        return actions


SIZE = 12 * CHUNK + 345
WHOLE = random.Random(11).randbytes(SIZE)
DIGEST = Digest.of(WHOLE)
RIGHT_MAP = map_of(WHOLE)


def spoilt(*chunks: int) -> bytes:
    """The blob with a bit wrong in these chunks."""
    content = bytearray(WHOLE)
    for chunk in chunks:
        content[chunk * CHUNK + 17] ^= 1
    return bytes(content)


def load(peers: list[Honest], **more: object) -> Network:
    """Load from these peers; it must come out right."""
    named = {f"http://p{number}:1": each for number, each in enumerate(peers)}
    network = Network(DIGEST, named)
    outcome = network.run(Pull(list(named), digest_hex=DIGEST.hex), **more)  # type: ignore[arg-type] # wishes
    assert outcome == Complete()
    assert bytes(network.file[:SIZE]) == WHOLE
    return network


def test_three_peers_are_much_faster_than_one() -> None:
    one = load([Honest(WHOLE, 5e6)]).now
    three = load([Honest(WHOLE, 5e6) for _ in range(3)]).now
    assert one > 1.8 * three


def test_a_slow_peer_does_not_hold_up_a_fast_one() -> None:
    alone = load([Honest(WHOLE, 10e6)]).now
    beside = load([Honest(WHOLE, 0.2e6), Honest(WHOLE, 10e6)]).now
    assert beside < 2 * alone + 1


def test_a_bad_chunk_costs_itself_alone() -> None:
    liar = Honest(spoilt(5), chunk_map=map_of(spoilt(5)))
    network = load([liar, Honest(WHOLE, chunk_map=RIGHT_MAP)])
    assert sum(network.bytes_of.values()) <= SIZE + 3 * CHUNK
    assert network.accused == ["http://p0:1"]


def test_only_the_honest_one_has_a_map() -> None:
    network = load([Honest(spoilt(1, 2, 9), 50e6), Honest(WHOLE, chunk_map=RIGHT_MAP)])
    assert sum(network.bytes_of.values()) <= SIZE + 6 * CHUNK


def test_an_honest_peer_is_not_accused_because_of_a_lying_map() -> None:
    lying = map_of(spoilt(0, 1, 2, 3))
    network = load([Honest(spoilt(0, 1, 2, 3), chunk_map=lying), Honest(WHOLE)])
    assert network.accused in ([], ["http://p0:1"])


def test_one_honest_peer_among_five_liars() -> None:
    liars = [Honest(spoilt(number, 11), chunk_map=map_of(spoilt(number))) for number in range(5)]
    load([*liars, Honest(WHOLE, chunk_map=RIGHT_MAP)])


def test_one_honest_peer_without_a_map_among_five_liars() -> None:
    load([*(Honest(spoilt(number)) for number in range(5)), Honest(WHOLE)])


CONTENTS = [WHOLE, WHOLE, spoilt(0), spoilt(3, 4), spoilt(12)]
MAPS = [None, RIGHT_MAP, map_of(spoilt(3, 4)), map_of(spoilt(7))]

# Numbers, so that what fails can be read.
Kind = tuple[int, float, int, int | None, bool]
kinds = st.tuples(
    st.integers(0, 4),
    st.sampled_from([2e6, 5e6, 50e6]),
    st.integers(0, 3),
    st.sampled_from([None, None, 3 * CHUNK + 5]),
    st.sampled_from([False, False, False, True]),
)


def made(kind: Kind) -> Honest:
    content, rate, a_map, dies, absent = kind
    return Honest(CONTENTS[content], rate, MAPS[a_map], dies, absent)


@settings(deadline=None, max_examples=60)
@given(st.lists(kinds, max_size=4), st.lists(st.integers(0, SIZE), max_size=3), st.integers(0, 4))
def test_beside_one_honest_peer_every_load_ends_right(
    others: list[Kind], wishes: list[int], place: int
) -> None:
    peers = [made(each) for each in others]
    peers.insert(min(place, len(peers)), Honest(WHOLE, 5e6, RIGHT_MAP))
    load(peers, wanted=[Wanted(at, at + 10) for at in wishes])


@settings(deadline=None, max_examples=60)
@given(st.lists(kinds, max_size=5))
def test_whatever_peers_do_it_ends_and_nothing_wrong_is_complete(peers: list[Kind]) -> None:
    named = {f"http://p{number}:1": made(each) for number, each in enumerate(peers)}
    network = Network(DIGEST, named)
    outcome = network.run(Pull(list(named), digest_hex=DIGEST.hex))
    if outcome == Complete():
        assert bytes(network.file[:SIZE]) == WHOLE


def test_what_is_failed_by_the_disk_is_not_asked_for_for_ever() -> None:
    pull = Pull([A, B])
    actions = pull.begin()
    for number in range(1, 50):
        if pull.over:
            break
        actions = pull.on(Failed(number, "no room"))
        if any(isinstance(each, Wait) for each in actions) and not asks(actions):
            actions = pull.on(Waited())
    assert pull.over
