"""The order in which peers are asked: traces of measurements, and rules that always hold."""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.peers.health import FIRST_REST, LIARS_REST, LONGEST_REST, USUAL_FIRST_BYTE
from dtfc.peers.holdings import HAS_SECONDS, LACKS_SECONDS, MOST_HOLDERS, Holdings
from dtfc.peers.listing import Peer
from dtfc.peers.picker import Picker
from dtfc.peers.rendezvous import path_up, ranked

D = Digest.of(b"trace 62")
"""Where nothing is known, its order is c, b, d, a."""


@dataclass
class Listing:
    """A list of peers."""

    peers: tuple[Peer, ...]
    me: str | None = None

    def current(self) -> tuple[Peer, ...]:
        return self.peers


def listing(*names: str, me: str | None = None) -> Listing:
    """Make a list; ``a@attic*3`` is the peer a, in zone attic, of weight 3."""
    peers = []
    for name in names:
        rest, _, weight = name.partition("*")
        url, _, zone = rest.partition("@")
        peers.append(Peer(url, int(weight or 1), zone))
    return Listing(tuple(peers), me)


def picker(*names: str, zone: str = "", share: float = 1.0, me: str | None = None) -> Picker:
    return Picker(listing(*names, me=me), lambda: share, zone)


def follow(trace: str, *names: str, zone: str = "") -> None:
    """Do what a trace says, line by line: seconds, what happened, and to whom.

    ``order`` says what the order must be then.
    """
    here = picker(*names, zone=zone)
    for number, line in enumerate(dedent(trace).strip().splitlines(), start=1):
        when, what, *more = line.partition("#")[0].split()
        now = 1_795_000_000 + float(when)
        match what:
            case "order":
                assert list(here.order(D, now)) == more, f"line {number}: {line}"
            case "first_byte":
                here.first_byte(more[0], float(more[1]), now)
            case "delivered":
                here.delivered(more[0], int(float(more[1])), float(more[2]), now)
            case "failed" | "lied":
                getattr(here, what)(more[0], now)
            case "has" | "lacks":
                getattr(here, what)(more[0], D, now)
            case _:
                pytest.fail(f"line {number}: {what}")


class TestTraces:
    def test_where_nothing_is_known_the_digest_decides(self) -> None:
        follow("0 order c b d a", "a", "b", "c", "d")

    def test_the_quicker_is_asked_first(self) -> None:
        follow(
            """
            0 first_byte a 0.004
            0 delivered  a 100e6 1.0
            0 first_byte b 0.3
            0 order a c b         # what is unknown stands between
            """,
            "a",
            "b",
            "c",
        )

    def test_about_as_quick_is_as_quick(self) -> None:
        follow(
            """
            0 first_byte a 0.050
            0 delivered  a 22e6 1.0
            0 first_byte b 0.047
            0 delivered  b 21e6 1.0
            0 order c b a
            """,
            "a",
            "b",
            "c",
        )

    def test_throughput_counts_as_the_first_byte_does(self) -> None:
        follow(
            """
            0 first_byte a 0.001
            0 delivered  a 1e6 4.0
            0 first_byte b 0.080
            0 delivered  b 100e6 1.0
            0 order b a
            """,
            "a",
            "b",
        )

    def test_what_was_measured_fades(self) -> None:
        follow(
            """
            0    order c b a
            0    first_byte c 2
            1    order b a c
            900  order c b a      # it is given another try
            """,
            "a",
            "b",
            "c",
        )

    def test_a_peer_that_became_slow_is_noticed_soon(self) -> None:
        follow(
            """
            0 first_byte c 0.01
            1 first_byte c 0.01
            2 first_byte c 0.01
            3 first_byte c 0.01
            4 order c b a
            5 first_byte c 3
            5 order b a c
            """,
            "a",
            "b",
            "c",
        )

    def test_known_holders_come_first(self) -> None:
        follow(
            """
            0    has a
            0    order a c b
            1    lacks c
            1    order a b c
            2    lacks a          # it was deleted there
            2    order b c a
            15.9 order b c a
            16.1 order c b a      # what lacked it may have it by now
            """,
            "a",
            "b",
            "c",
        )

    def test_a_holder_is_not_one_for_ever(self) -> None:
        follow(
            """
            0    has a
            3599 order a c b
            3601 order c b a
            """,
            "a",
            "b",
            "c",
        )

    def test_a_holder_that_is_down_is_not_asked_first(self) -> None:
        follow("0 has a\n0 failed a\n0.5 order c b a", "a", "b", "c")

    def test_who_fails_rests_longer_each_time(self) -> None:
        follow(
            """
            0    order c b a
            0    failed c
            0.9  order b a c
            1.1  order c b a
            1.1  failed c
            1.2  failed c         # the same outage
            3.0  order b a c
            3.2  order c b a
            3.2  failed c
            7.1  order b a c
            7.3  order c b a
            7.3  first_byte c 0.05
            8    failed c         # it had come back: from the beginning
            9.1  order c b a
            """,
            "a",
            "b",
            "c",
        )

    def test_of_those_that_rest_the_first_to_be_back_is_asked_first(self) -> None:
        follow(
            """
            0   failed c
            1.1 failed c
            1.2 failed b
            1.3 failed a
            1.4 order b a c
            """,
            "a",
            "b",
            "c",
        )

    def test_a_liar_rests_long_and_comes_last_of_all(self) -> None:
        follow(
            """
            0    lied c
            0    first_byte c 0.001
            0    failed b
            0.5  order a b c
            3599 order b a c
            3601 order c b a
            """,
            "a",
            "b",
            "c",
        )

    def test_ones_own_zone_comes_first(self) -> None:
        names = ("a@attic", "b@cellar", "c@cellar", "d")
        follow("0 order c b d a", *names)
        follow("0 order a c b d", *names, zone="attic")
        follow("0 order c b d a", *names, zone="cellar")
        follow("0 has d\n0 first_byte a 3\n0 order d a c b", *names, zone="attic")
        follow("0 failed a\n0 order c b d a", *names, zone="attic")

    def test_a_clock_that_jumps_back(self) -> None:
        follow(
            """
            7200 failed c
            7200 lacks b
            0    order c b a
            """,
            "a",
            "b",
            "c",
        )


class TestJitter:
    def test_it_shortens_by_up_to_a_half(self) -> None:
        for share, seconds in ((0.0, FIRST_REST / 2), (1.0, FIRST_REST)):
            here = picker("a", share=share)
            here.failed("a", 100.0)

            assert here.snapshot(100.0)[0].rests == pytest.approx(seconds)

    def test_no_rest_is_longer_than_the_longest(self) -> None:
        here = picker("a")
        now = 0.0
        for _ in range(60):
            here.failed("a", now)
            rests = here.snapshot(now)[0].rests
            now += rests + 0.001

        assert rests == pytest.approx(LONGEST_REST)


class TestWeights:
    def test_thrice_the_weight_is_first_three_times_as_often(self) -> None:
        here = picker("a", "b*3")
        first = Counter(here.order(Digest.of(b"%d" % n), 0.0)[0] for n in range(4000))

        assert first["b"] / first["a"] == pytest.approx(3, rel=0.15)

    def test_equals_share_the_digests(self) -> None:
        here = picker("a", "b", "c", "d")
        first = Counter(here.order(Digest.of(b"%d" % n), 0.0)[0] for n in range(4000))

        assert min(first.values()) > 850


class TestTree:
    NODES = tuple(f"http://n{number}:8080" for number in range(100))

    def ancestors(self, me: str) -> tuple[str, ...]:
        others = tuple(each for each in self.NODES if each != me)
        return picker(*others, me=me).ancestors(D)

    def test_every_node_agrees_on_one_tree(self) -> None:
        ways = {me: self.ancestors(me) for me in self.NODES}

        assert Counter(map(len, ways.values())) == Counter(
            {0: 1, 1: 2, 2: 4, 3: 8, 4: 16, 5: 32, 6: 37}
        )
        for me, way in ways.items():
            assert me not in way
            if way:
                assert ways[way[0]] == way[1:]

    def test_nobody_is_asked_by_more_than_two(self) -> None:
        parents = Counter(way[0] for me in self.NODES if (way := self.ancestors(me)))

        assert max(parents.values()) == 2

    def test_each_digest_has_its_own_root(self) -> None:
        roots = {ranked(Digest.of(b"%d" % n), self.NODES)[0] for n in range(400)}

        assert len(roots) > 90

    def test_a_node_that_does_not_know_itself_has_none(self) -> None:
        assert picker("a", "b").ancestors(D) == ()

    def test_one_that_is_alone(self) -> None:
        assert picker(me="http://me").ancestors(D) == ()

    @given(st.integers(0, 10**6))
    def test_the_way_up_is_short(self, rank: int) -> None:
        way = path_up(rank)

        assert len(way) == (rank + 1).bit_length() - 1
        assert way == sorted(way, reverse=True)


class TestSnapshots:
    def test_what_is_known(self) -> None:
        here = picker("a@attic*3", "b")
        here.first_byte("a", 0.02, 10.0)
        here.delivered("a", 3_000_000, 0.5, 10.0)
        here.lied("b", 10.0)
        here.failed("b", 10.0)

        one, other = here.snapshot(11.0)

        assert (one.url, one.zone, one.weight) == ("a", "attic", 3)
        assert one.first_byte == pytest.approx(0.02)
        assert one.rate == pytest.approx(6e6)
        assert (one.rests, one.lying, one.failures, one.lies) == (0, False, 0, 0)
        assert one.received == 3_000_000
        assert (other.first_byte, other.rate) == (None, None)
        assert other.rests == pytest.approx(LIARS_REST - 1)
        assert other.lying
        assert (other.failures, other.lies) == (1, 1)

    def test_what_left_the_list_is_forgotten(self) -> None:
        here = Picker(given_ := listing("a", "b"), lambda: 1.0)
        here.lied("a", 10.0)
        given_.peers = (Peer("b"),)
        here.lied("a", 10.0)
        assert [each.url for each in here.snapshot(10.0)] == ["b"]

        given_.peers = (Peer("a"), Peer("b"))

        assert here.snapshot(10.0)[0].lies == 0

    def test_the_first_byte_to_reckon_with(self) -> None:
        here = picker("a")
        assert here.expected_first_byte("a", 0.0) == USUAL_FIRST_BYTE

        for second in range(10):
            here.first_byte("a", 1.0, float(second))

        assert here.expected_first_byte("a", 10.0) == pytest.approx(1.0, rel=0.1)
        assert here.expected_first_byte("unheard of", 10.0) == USUAL_FIRST_BYTE


class TestHoldings:
    def test_the_oldest_digests_are_forgotten(self) -> None:
        holdings = Holdings(most=10)
        digests = [Digest.of(b"%d" % number) for number in range(12)]
        for digest in digests:
            holdings.has("a", digest, 0.0)

        assert len(holdings) == 10
        assert [bool(holdings.of(digest, 1.0)) for digest in digests] == [False] * 2 + [True] * 10

    def test_one_digest_cannot_push_out_all_others(self) -> None:
        holdings = Holdings(most=400)
        other = Digest.of(b"other")
        holdings.has("a", other, 0.0)
        for number in range(1000):
            holdings.has(f"holder{number}", D, 0.0)
            holdings.lacks(f"lacker{number}", D, 0.0)

        assert holdings.of(other, 1.0) == {"a": True}
        found = holdings.of(D, 1.0)
        assert sum(found.values()) <= MOST_HOLDERS
        assert len(holdings) <= 1 + 100 + MOST_HOLDERS

    @pytest.mark.parametrize(("has", "seconds"), [(True, HAS_SECONDS), (False, LACKS_SECONDS)])
    def test_what_was_said_is_believed_for_a_while(self, *, has: bool, seconds: float) -> None:
        holdings = Holdings()
        (holdings.has if has else holdings.lacks)("a", D, 100.0)

        assert holdings.of(D, 99.0 + seconds) == {"a": has}
        assert holdings.of(D, 101.0 + seconds) == {}


NAMES = st.text("abcdefgh0123456789.-", min_size=1, max_size=12).map("http://".__add__)
PEERS = st.lists(
    st.builds(Peer, NAMES, st.integers(1, 1000), st.sampled_from(["", "attic", "cellar"])),
    max_size=12,
    unique_by=lambda peer: peer.url,
)
DIGESTS = st.binary(max_size=3).map(Digest.of)
EVENT = st.tuples(
    st.sampled_from(["first_byte", "delivered", "failed", "lied", "has", "lacks"]),
    st.integers(0, 11),
    st.floats(0, 100),
    st.floats(0, 10_000),
)


@dataclass
class Story:
    """What happened to a picker, to be told again."""

    peers: list[Peer]
    events: list[tuple[str, int, float, float]]
    zone: str
    seed: int
    digests: tuple[Digest, Digest]
    without: set[str] = field(default_factory=set)

    def told(self) -> tuple[Picker, float]:
        kept = tuple(each for each in self.peers if each.url not in self.without)
        here = Picker(Listing(kept), random.Random(self.seed).random, self.zone)
        now = 0.0
        for number, (what, which, pause, value) in enumerate(self.events):
            now += pause
            if not self.peers:
                continue
            url = self.peers[which % len(self.peers)].url
            if url in self.without:
                continue
            digest = self.digests[number % 2]
            match what:
                case "first_byte":
                    here.first_byte(url, value, now)
                case "delivered":
                    here.delivered(url, int(value * 1000), value / 7, now)
                case "has" | "lacks":
                    getattr(here, what)(url, digest, now)
                case _:
                    getattr(here, what)(url, now)
        return here, now


STORIES = st.builds(
    Story,
    PEERS,
    st.lists(EVENT, max_size=25),
    st.sampled_from(["", "attic"]),
    st.integers(0, 9),
    st.tuples(DIGESTS, DIGESTS),
)


@given(STORIES, st.floats(0, 1e6))
def test_every_peer_in_force_stands_in_the_order_once(story: Story, later: float) -> None:
    here, now = story.told()

    assert sorted(here.order(story.digests[0], now + later)) == sorted(
        each.url for each in story.peers
    )


@given(STORIES)
def test_the_same_story_has_the_same_end(story: Story) -> None:
    (one, now), (other, _) = story.told(), story.told()

    assert one.order(story.digests[0], now) == other.order(story.digests[0], now)
    assert one.snapshot(now) == other.snapshot(now)


@given(STORIES, st.data())
def test_who_joins_or_leaves_moves_nobody_else(story: Story, data: st.DataObject) -> None:
    # What rests draws its jitter in turn, so that its share depends on others.
    story.events = [each for each in story.events if each[0] != "failed"]
    here, now = story.told()
    whole = here.order(story.digests[0], now)
    leaving = data.draw(st.sets(st.sampled_from(whole))) if whole else set()
    story.without = leaving

    rest, _ = story.told()

    assert rest.order(story.digests[0], now) == tuple(url for url in whole if url not in leaving)


@given(STORIES)
def test_nobody_rests_longer_than_a_day(story: Story) -> None:
    here, now = story.told()

    assert all(0 <= each.rests <= 86400 for each in here.snapshot(now))


def test_memory_grows_with_peers_and_not_with_what_happens() -> None:
    names = [f"http://peer{number}" for number in range(50)]
    here = picker(*names)

    def rounds(count: int) -> int:
        for number in range(count):
            for name in names:
                here.first_byte(name, 0.01, float(number))
                here.delivered(name, 1000, 0.1, float(number))
                here.failed(name, float(number))
        here.order(D, float(count))
        return sum(
            sys.getsizeof(part)
            for each in here._health.values()
            for part in (each, each.first_byte, each.rate, each.dead, each.lying)
        ) + sys.getsizeof(here._health)

    assert rounds(200) == rounds(2)
