"""Which other nodes a client is told of: those known to have a blob, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from dtfc.digest import Digest
from dtfc.errors import StoreFailure
from dtfc.http.links import Mirror
from dtfc.peers.failure import PeerFailure
from dtfc.peers.holdings import HAS_SECONDS
from dtfc.peers.listing import DNS, Peer
from dtfc.peers.mirrors import (
    ASK_AGAIN,
    MOST_ASKED,
    MOST_AT_ONCE,
    MOST_NAMED,
    WAIT,
    Mirrors,
    Naming,
)
from dtfc.peers.picker import Picker

D = Digest.of(b"mirrored")
A = "http://a.example:80"
B = "https://b.example:443"
INSIDE = "http://10.0.0.5:8080"


class Listing:
    me = None

    def __init__(self, *urls: str) -> None:
        self.peers = tuple(Peer(url, zone="DE" if url == B else "attic") for url in urls)

    def current(self) -> tuple[Peer, ...]:
        return self.peers


class Reply:
    def drop(self) -> None:
        """There is no body."""


class Asked:
    """Stands for the questions to peers; a test answers them."""

    def __init__(self, picker: Picker, clock: Clock) -> None:
        self.open: dict[str, Deferred[bool]] = {}
        self.lengths: list[int | None] = []
        self._picker = picker
        self._clock = clock

    async def ask(
        self, method: str, peer: str, digest: Digest, *, length: int | None = None
    ) -> tuple[Reply, object]:
        assert method == "HEAD"
        self.lengths.append(length)
        answer = self.open[peer] = Deferred()
        try:
            has = await answer
        except PeerFailure:
            self._picker.failed(peer, self._clock.seconds())
            raise
        (self._picker.has if has else self._picker.lacks)(peer, digest, self._clock.seconds())
        return Reply(), None


class World:
    def __init__(self, *urls: str, naming: Naming = Naming.PUBLIC) -> None:
        self.clock = Clock()
        self.clock.advance(1e9)
        self.picker = Picker(Listing(*urls), lambda: 1.0)
        self.asked = Asked(self.picker, self.clock)
        asking: Any = self.asked
        self.mirrors = Mirrors(self.picker, asking, self.clock, naming)

    def has(self, *urls: str) -> None:
        for url in urls:
            self.picker.has(url, D, self.clock.seconds())

    def urls(self) -> list[str]:
        return [mirror.url for mirror in self.mirrors.of(D)]

    def find(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.mirrors.find(D, 5))


def at(*urls: str) -> list[str]:
    return [f"{url}/{D}" for url in urls]


def test_who_has_it_is_named() -> None:
    world = World(A, B)
    world.has(B)

    assert world.mirrors.of(D) == (Mirror(f"{B}/{D}", "de"),)


def test_who_has_not_said_so_is_not() -> None:
    assert World(A, B).urls() == []


def test_who_said_no_since_is_not() -> None:
    world = World(A)
    world.has(A)
    world.picker.lacks(A, D, world.clock.seconds())

    assert world.urls() == []


def test_who_said_so_long_ago_is_not() -> None:
    world = World(A)
    world.has(A)
    world.clock.advance(HAS_SECONDS + 1)

    assert world.urls() == []


@pytest.mark.parametrize("what", ["failed", "lied"])
def test_who_rests_is_not(what: str) -> None:
    world = World(A, B)
    world.has(A, B)
    getattr(world.picker, what)(A, world.clock.seconds())

    assert world.urls() == at(B)


def test_who_left_the_list_is_not() -> None:
    world = World(A)
    world.has(A, B)

    assert world.urls() == at(A)


def test_the_quicker_one_is_named_first() -> None:
    world = World(A, B)
    world.has(A, B)
    world.picker.first_byte(A, 2.0, world.clock.seconds())
    world.picker.first_byte(B, 0.001, world.clock.seconds())

    assert world.urls() == at(B, A)


@pytest.mark.parametrize(
    ("naming", "named"),
    [(Naming.NOBODY, []), (Naming.PUBLIC, [A]), (Naming.ALL, [INSIDE, A])],
)
def test_the_operator_says_who_may_be_named(naming: Naming, named: list[str]) -> None:
    world = World(A, INSIDE, naming=naming)
    world.has(A, INSIDE)

    assert sorted(world.urls()) == at(*named)


def test_who_was_given_a_copy_is_named() -> None:
    world = World(A)

    async def given(_digest: Digest) -> list[str]:
        return [A, B]

    world.mirrors.copies = given
    Deferred.fromCoroutine(world.mirrors.recall(D))

    assert world.urls() == at(A)


def test_who_was_given_a_copy_and_says_no_since_is_not() -> None:
    world = World(A)
    world.picker.lacks(A, D, world.clock.seconds())

    async def given(_digest: Digest) -> list[str]:
        return [A]

    world.mirrors.copies = given
    Deferred.fromCoroutine(world.mirrors.recall(D))

    assert world.urls() == []


def test_a_queue_that_cannot_be_read_names_nobody(logged_failures: Any) -> None:
    world = World(A)

    async def given(_digest: Digest) -> list[str]:
        raise StoreFailure("read the queue", OSError(5, "no"))

    world.mirrors.copies = given
    Deferred.fromCoroutine(world.mirrors.recall(D))

    assert world.urls() == []
    logged_failures.flush()


class TestAsking:
    def test_it_waits_until_all_have_said(self) -> None:
        world = World(A, B)
        finding = world.find()
        world.asked.open[A].callback(True)
        before = finding.called
        world.asked.open[B].callback(False)

        assert (before, finding.called, world.urls()) == (False, True, at(A))

    def test_it_waits_a_moment_only(self) -> None:
        world = World(A, B)
        finding = world.find()
        world.asked.open[A].callback(True)
        world.clock.advance(WAIT)

        assert (finding.called, world.urls()) == (True, at(A))
        world.asked.open[B].callback(True)
        assert sorted(world.urls()) == at(A, B)

    def test_who_fails_is_not_waited_for(self) -> None:
        world = World(A)
        finding = world.find()
        world.asked.open[A].errback(PeerFailure("gone"))

        assert (finding.called, world.urls()) == (True, [])
        assert world.clock.getDelayedCalls() == []

    def test_who_said_something_lately_is_not_asked(self) -> None:
        world = World(A, B)
        world.has(A)
        world.picker.lacks(B, D, world.clock.seconds())

        assert world.find().called
        assert world.asked.open == {}

    def test_who_would_not_be_named_is_not_asked(self) -> None:
        world = World(INSIDE, A)
        world.find()

        assert list(world.asked.open) == [A]
        world.asked.open[A].callback(False)

    def test_a_name_that_dns_has_not_answered_is_not_asked(self) -> None:
        assert World(f"{DNS}_dtfc._tcp.a.example", naming=Naming.ALL).find().called

    def test_no_more_than_some_are_asked(self) -> None:
        world = World(*(f"http://n{number}.example:80" for number in range(30)))
        world.find()

        assert len(world.asked.open) == MOST_ASKED
        for answer in list(world.asked.open.values()):
            answer.callback(False)

    def test_the_length_is_asked_for(self) -> None:
        world = World(A)
        world.find()

        assert world.asked.lengths == [5]
        world.asked.open[A].callback(False)

    def test_two_clients_are_one_question(self) -> None:
        world = World(A)
        first = world.find()
        second = world.find()
        world.asked.open[A].callback(True)

        assert (first.called, second.called, len(world.asked.lengths)) == (True, True, 1)

    def test_a_client_that_leaves_ends_no_question(self) -> None:
        world = World(A)
        leaving, staying = world.find(), world.find()
        leaving.addErrback(lambda failure: failure.trap(CancelledError))
        leaving.cancel()
        world.asked.open[A].callback(True)

        assert (staying.called, world.urls()) == (True, at(A))

    def test_off_asks_nobody(self) -> None:
        world = World(A, naming=Naming.NOBODY)

        assert world.find().called
        assert world.asked.open == {}

    def test_only_so_many_blobs_are_asked_about_at_once(self) -> None:
        world = World(A)
        findings = [
            Deferred.fromCoroutine(world.mirrors.find(Digest.of(b"%d" % number), 5))
            for number in range(MOST_AT_ONCE + 1)
        ]

        assert [each.called for each in findings] == [False] * MOST_AT_ONCE + [True]
        world.clock.advance(WAIT)
        assert all(each.called for each in findings)


class TestAskingBehindOnesBack:
    def test_the_next_answer_knows_more(self) -> None:
        world = World(A)
        world.mirrors.find_later(D, 5)
        world.asked.open[A].callback(True)

        assert world.urls() == at(A)

    def test_where_somebody_is_known_nobody_is_asked(self) -> None:
        world = World(A, B)
        world.has(A)
        world.mirrors.find_later(D, 5)

        assert world.asked.open == {}

    def test_not_again_for_a_while(self) -> None:
        world = World(A)
        counts = []
        for _ in range(3):
            world.mirrors.find_later(D, 5)
            counts.append(len(world.asked.lengths))
            if not world.asked.open[A].called:
                world.asked.open[A].callback(False)
            world.clock.advance(ASK_AGAIN * 0.6)

        assert counts == [1, 1, 2]


class TestStill:
    def test_what_was_told_is_right_while_nothing_changes(self) -> None:
        world = World(A, B)
        world.has(A, B)

        assert world.mirrors.still(D, world.mirrors.of(D))

    def test_another_order_changes_nothing(self) -> None:
        world = World(A, B)
        world.has(A, B)

        assert world.mirrors.still(D, world.mirrors.of(D)[::-1])

    @pytest.mark.parametrize("what", ["more", "fewer", "rests", "off"])
    def test_what_has_changed_since(self, what: str) -> None:
        world = World(A, B)
        world.has(A)
        told = world.mirrors.of(D)
        now = world.clock.seconds()
        if what == "more":
            world.has(B)
        elif what == "fewer":
            world.picker.lacks(A, D, now)
        elif what == "rests":
            world.picker.failed(A, now)
        else:
            world.mirrors.naming = Naming.NOBODY

        assert not world.mirrors.still(D, told)

    def test_of_many_only_some_are_named_and_that_is_right(self) -> None:
        urls = [f"http://n{number}.example:80" for number in range(30)]
        world = World(*urls)
        world.has(*urls)
        told = world.mirrors.of(D)

        assert (len(told), world.mirrors.still(D, told)) == (MOST_NAMED, True)
