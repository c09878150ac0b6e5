"""Peers that send to others first: a load asks elsewhere, waits, and holds it against nobody."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.peers.dealing import PullLimits
from dtfc.peers.pull import LONGEST_REFUSED, Pull
from dtfc.peers.steps import (
    Action,
    Answered,
    Ask,
    Complete,
    Drop,
    Ended,
    Finish,
    Got,
    Lacks,
    Note,
    NotReached,
    Take,
    Wait,
    Waited,
)
from dtfc.store.chunkmap import CHUNK
from tests.peers.conftest import Node
from tests.peers.hostile import Behaviour, Exchange, answer, honest, in_turn, status

A, B, C = "http://a:1", "http://b:1", "http://c:1"
LENGTH = 40 * CHUNK
SHORT = random.Random(7).randbytes(300_000)
DIGEST = Digest.of(SHORT)
GIVES_WAY = "DTFC-Gives-Way: ?1"


def fields(**values: str) -> Callable[[str], Sequence[str]]:
    known = {name.replace("_", "-"): [value] for name, value in values.items()}
    return lambda name: known.get(name, [])


def refused(number: int) -> Answered:
    return Answered(number, 503, fields(retry_after="1", dtfc_gives_way="?1"))


def may_be_cut(number: int, start: int = 0) -> Answered:
    told = {"content_length": str(LENGTH - start), "dtfc_gives_way": "?1"}
    if start:
        told["content_range"] = f"bytes {start}-{LENGTH - 1}/{LENGTH}"
    return Answered(number, 206 if start else 200, fields(**told))


def absent(number: int) -> Answered:
    return Answered(number, 404, fields())


def asked(actions: list[Action]) -> list[Ask]:
    return [each for each in actions if isinstance(each, Ask)]


def waits(actions: list[Action]) -> list[float]:
    return [each.seconds for each in actions if isinstance(each, Wait)]


def test_who_is_refused_asks_the_next_one_at_once() -> None:
    pull = Pull([A, B])
    pull.begin(0.0)
    actions = pull.on(refused(1), 0.0)
    assert actions[0] == Drop(1)
    assert asked(actions) == [Ask(2, B, 0)]
    assert not [each for each in actions if isinstance(each, Note | Lacks)]


def test_where_it_is_the_only_one_it_is_asked_again_and_again() -> None:
    pull = Pull([A])
    pull.begin(0.0)
    now, paused = 0.0, []
    for number in range(1, 8):
        (seconds,) = waits(pull.on(refused(number), now))
        paused.append(round(seconds, 3))
        now += seconds
        assert asked(pull.on(Waited(), now)) == [Ask(number + 1, A, 0)]
    assert paused == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert pull.on(may_be_cut(8), now) == [Take(8, 0, LENGTH)]


def test_it_is_waited_for_although_nobody_else_has_it() -> None:
    pull = Pull([A, B])
    pull.begin(0.0)
    actions = pull.on(refused(1), 0.0)
    actions = pull.on(absent(2), 0.0)
    assert not [each for each in actions if isinstance(each, Finish)]
    assert asked(pull.on(Waited(), 0.1)) == [Ask(3, A, 0)]


def test_it_is_not_waited_for_for_ever() -> None:
    pull = Pull([A])
    actions = pull.begin(0.0)
    now = 0.0
    for _ in range(10_000):
        (ask,) = asked(actions)
        actions = pull.on(refused(ask.number), now)
        if isinstance(actions[-1], Finish):
            break
        now += waits(actions)[0]
        actions = pull.on(Waited(), now)
    assert now == pytest.approx(LONGEST_REFUSED, abs=2)
    assert actions[-1] == Finish(NotReached({A: "sends to others first"}, 10))


def test_who_is_cut_off_for_others_goes_on_elsewhere_from_where_it_was() -> None:
    pull = Pull([A, B])
    pull.begin(0.0)
    pull.on(may_be_cut(1), 0.0)
    pull.on(Got(1, 3 * CHUNK), 0.0)
    actions = pull.on(Ended(1, "broke off", broken_off=True), 0.0)
    assert asked(actions) == [Ask(2, B, 3 * CHUNK)]
    assert not [each for each in actions if isinstance(each, Note)]


def test_what_broke_off_without_a_word_of_others_is_the_peers_fault() -> None:
    pull = Pull([A, B])
    pull.begin(0.0)
    pull.on(Answered(1, 200, fields(content_length=str(LENGTH))), 0.0)
    actions = pull.on(Ended(1, "broke off", broken_off=True), 0.0)
    assert Note(A, "broke off") in actions


def test_so_is_silence_whatever_was_said_before() -> None:
    pull = Pull([A, B])
    pull.begin(0.0)
    pull.on(may_be_cut(1), 0.0)
    assert Note(A, "sent nothing") in pull.on(Ended(1, "sent nothing"), 0.0)


def test_a_503_without_a_word_of_others_is_as_before() -> None:
    pull = Pull([A])
    pull.begin(0.0)
    actions = pull.on(Answered(1, 503, fields(retry_after="120")), 0.0)
    assert actions[-1] == Finish(NotReached({A: "it answered 503"}, 120))


def test_while_others_send_it_is_asked_again_seldom() -> None:
    pull = Pull([A, B])
    pull.begin(0.0)
    pull.on(refused(1), 0.0)
    pull.on(may_be_cut(2), 0.0)
    pull.on(Got(2, CHUNK), 0.05)
    now, times = 0.05, []
    while now < 20:
        now = round(now + 0.1, 1)
        for ask in asked([*pull.on(Waited(), now), *pull.on(Got(2, 100), now)]):
            assert ask.peer == A
            times.append(now)
            pull.on(refused(ask.number), now)
    assert 3 <= len(times) <= 6


def test_when_nobody_else_is_left_ancestors_are_asked_again_as_well() -> None:
    """They are sent to first, so they will have begun to load it."""
    pull = Pull([C], ancestors=[A, B], limits=PullLimits(peers=1))
    pull.begin(0.0)
    pull.on(absent(1), 0.0)
    pull.on(absent(2), 0.0)
    actions = pull.on(refused(3), 0.0)
    assert waits(actions)
    actions = pull.on(Waited(), 0.1)
    assert asked(actions)[0] == Ask(4, A, 0, None, partial=True)


@dataclass
class Source:
    """A peer on a clock, that sends to others first for a while, or cuts off.

    Args:
        free_at: from when on it sends.
        cuts: after so many chunks of each answer it cuts off, so often.
        every: chunks of an answer that it sends before it cuts off.
    """

    free_at: float
    cuts: int
    every: int
    has: bool = True


@settings(max_examples=60, deadline=None)
@given(
    sources=st.lists(
        st.builds(
            Source,
            st.sampled_from([0.0, 0.3, 5.0, 59.0]),
            st.integers(0, 5),
            st.integers(0, 7),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    ),
    above=st.integers(0, 2),
)
def test_where_anybody_has_it_every_load_ends_with_it(sources: list[Source], above: int) -> None:
    peers = {f"http://p{number}:1": each for number, each in enumerate(sources)}
    pull = Pull(list(peers)[above:], ancestors=list(peers)[:above])
    end = _Drive(pull, peers).run()
    if any(each.has for each in sources):
        # The bytes came, and nobody was blamed.
        assert end == "all"
    else:
        assert end == "nobody"


class _Drive:
    """Performs what a load wants, on a clock."""

    def __init__(self, pull: Pull, peers: dict[str, Source]) -> None:
        self.pull = pull
        self.peers = peers
        self.now = 0.0
        self.wake: float | None = None
        self.open: dict[int, tuple[Ask, int, int, int]] = {}
        self.answers: list[Ask] = []

    def run(self) -> str:
        end = self.perform(self.pull.begin(self.now))
        for _ in range(20_000):
            if end:
                return end
            end = self.step()
        return "never"

    def perform(self, actions: Sequence[Action]) -> str:
        for action in actions:
            match type(action).__name__, action:
                case _, Ask():
                    self.answers.append(action)
                case _, Take(number, _, count, at):
                    ask = next(each for each in self.given if each.number == number)
                    self.open[number] = (ask, at, at + count, 0)
                case "Shorten", _:
                    number, end = action.number, action.end  # type: ignore[union-attr]
                    ask, at, _, sent = self.open[number]
                    self.open[number] = (ask, at, max(at, end), sent)
                case _, Drop(number):
                    self.open.pop(number, None)
                    self.answers = [each for each in self.answers if each.number != number]
                case _, Wait(seconds):
                    self.wake = self.now + seconds
                case "Verify", _:
                    return "all"
                case _, Finish(outcome):
                    return "all" if outcome == Complete() else "nobody"
                case _, Note():
                    pytest.fail(f"blamed: {action}")
        return ""

    def step(self) -> str:
        if self.answers:
            ask = self.answers.pop(0)
            self.given = [ask]
            return self.perform(self.pull.on(self.answer(ask), self.now))
        self.now += 0.02
        if self.wake is not None and self.now >= self.wake:
            self.wake = None
            return self.perform(self.pull.on(Waited(), self.now))
        for number, (ask, at, end, sent) in list(self.open.items()):
            if number in self.open:
                found = self.deliver(number, ask, at, end, sent)
                if found:
                    return found
        return ""

    def answer(self, ask: Ask) -> Answered:
        peer = self.peers[ask.peer]
        if not peer.has:
            return absent(ask.number)
        if self.now < peer.free_at:
            return refused(ask.number)
        stop = LENGTH if ask.end is None else ask.end
        told = {"content_length": str(stop - ask.start), "dtfc_gives_way": "?1"}
        if ask.start or ask.end is not None:
            told["content_range"] = f"bytes {ask.start}-{stop - 1}/{LENGTH}"
        return Answered(ask.number, 206 if "content_range" in told else 200, fields(**told))

    def deliver(self, number: int, ask: Ask, at: int, end: int, sent: int) -> str:
        peer = self.peers[ask.peer]
        if peer.cuts and sent >= peer.every:
            peer.cuts -= 1
            del self.open[number]
            return self.perform(self.pull.on(Ended(number, "cut", broken_off=True), self.now))
        count = min(CHUNK, end - at)
        self.open[number] = (ask, at + count, end, sent + 1)
        found = self.perform(self.pull.on(Got(number, count), self.now)) if count else ""
        if not found and number in self.open and self.open[number][1] >= self.open[number][2]:
            del self.open[number]
            return self.perform(self.pull.on(Ended(number), self.now))
        return found


# Over sockets.


def gives_way(count: int) -> Behaviour:
    """Sends so many bytes of the body, then closes the connection for others."""

    def behave(exchange: Exchange) -> None:
        exchange.send(answer(exchange, SHORT, GIVES_WAY)[:count])
        exchange.close()

    return behave


REFUSES = status(503, GIVES_WAY, "Retry-After: 1")


@pytest_twisted.ensureDeferred
async def test_the_only_peer_is_waited_for_and_did_nothing_wrong(node: Node) -> None:
    loader = node.loader(
        in_turn(REFUSES, REFUSES, gives_way(100_000), gives_way(0), REFUSES, honest(SHORT))
    )
    with loader.ensure(DIGEST) as share:
        await share.finished()
    assert node.read(DIGEST) == SHORT
    assert node.peers[0].ranges == [None, None, None, *["bytes=100000-"] * 3]
    (told,) = loader.picker.snapshot(0.0)
    assert (told.failures, told.rests) == (0, 0)
    assert loader.counters.peer_failures == 0
    assert loader.counters.refetched_bytes == 0


@pytest_twisted.ensureDeferred
async def test_the_rest_comes_from_another_peer(node: Node) -> None:
    loader = node.loader(gives_way(100_000), honest(SHORT))
    with loader.ensure(DIGEST) as share:
        await share.finished()
    assert [len(peer.requests) for peer in node.peers] == [1, 1]
    assert node.peers[1].ranges == ["bytes=100000-"]
    assert loader.counters.peer_failures == 0


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("others", "said"), [(0, None), (1, "http://me:1")])
async def test_a_node_says_who_it_is_if_there_is_somebody_else_to_ask(
    node: Node, others: int, said: str | None
) -> None:
    loader = node.loader(honest(SHORT), *[status(404)] * others)
    node.roster.set_sources(str(node.list), me="http://me:1")
    node.roster.reload()
    with loader.ensure(DIGEST) as share:
        await share.finished()
    assert node.peers[0].seen[0].get("dtfc-node") == said
