"""The machine that decides each step of a load: its table, its rules, and that it always ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.peers.pull import FRUITFUL, Pull
from dtfc.peers.steps import (
    Accuse,
    Action,
    Answered,
    Ask,
    Complete,
    Drop,
    Ended,
    Event,
    Failed,
    Finish,
    Got,
    Lacks,
    NobodyHasIt,
    Note,
    NotReached,
    Outcome,
    Restart,
    Take,
    Verified,
    Verify,
    Wait,
    Waited,
)

A, B, C = "http://a:1", "http://b:1", "http://c:1"
BIG = 10 * FRUITFUL


def fields(**values: str) -> Callable[[str], Sequence[str]]:
    known = {name.replace("_", "-"): [value] for name, value in values.items()}
    return lambda name: known.get(name, [])


def whole(number: int, length: int) -> Answered:
    return Answered(number, 200, fields(content_length=str(length)))


def piece(number: int, start: int, length: int) -> Answered:
    return Answered(
        number,
        206,
        fields(
            content_length=str(length - start), content_range=f"bytes {start}-{length - 1}/{length}"
        ),
    )


def absent(number: int) -> Answered:
    return Answered(number, 404, fields())


def busy(number: int, retry_after: int) -> Answered:
    return Answered(number, 503, fields(retry_after=str(retry_after)))


def run(pull: Pull, *events: Event) -> list[Action]:
    """Feed events; return the actions that the last one led to."""
    actions = pull.begin()
    for event in events:
        actions = pull.on(event)
    return actions


def quiet(actions: list[Action]) -> list[Action]:
    """Without what only tells of peers, or only measures time."""
    return [each for each in actions if not isinstance(each, Wait | Lacks | Accuse)]


def finished(actions: list[Action]) -> Outcome:
    last = actions[-1]
    assert isinstance(last, Finish)
    return last.outcome


def test_the_first_peer_is_asked_for_everything() -> None:
    assert run(Pull([A, B])) == [Ask(1, A, 0), Wait(0.5)]


def test_without_peers_nobody_has_it() -> None:
    assert run(Pull([])) == [Finish(NobodyHasIt())]


def test_a_body_is_taken_and_the_whole_verified() -> None:
    pull = Pull([A])
    assert run(pull, whole(1, 100)) == [Take(1, 0, 100)]
    assert pull.length == 100
    assert pull.on(Got(1, 100)) == []
    assert pull.on(Ended(1)) == [Verify()]
    assert pull.on(Verified(right=True)) == [Finish(Complete())]
    assert pull.over


def test_an_empty_blob() -> None:
    pull = Pull([A])
    assert run(pull, whole(1, 0)) == [Take(1, 0, 0)]
    assert pull.on(Ended(1)) == [Verify()]


def test_a_wrong_empty_body_has_an_author() -> None:
    pull = Pull([A, B])
    actions = run(pull, whole(1, 0), Ended(1), Verified(right=False))
    assert quiet(actions) == [Note(A, "sent bytes with another digest"), Ask(2, B, 0)]


def test_a_404_goes_on_to_the_next() -> None:
    assert run(Pull([A, B]), absent(1)) == [Drop(1), Lacks(A), Ask(2, B, 0)]


def test_nobody_has_it_only_if_everybody_said_so() -> None:
    assert finished(run(Pull([A, B]), absent(1), absent(2))) == NobodyHasIt()


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Failed(2, "connection refused"), "connection refused"),
        (Answered(2, 403, fields()), "it answered 403"),
        (Answered(2, 500, fields()), "it answered 500"),
        (Answered(2, 302, fields()), "it answered 302"),
        (Answered(2, 200, fields()), "it does not say how many bytes will come"),
        (busy(2, 120), "it answered 503"),
    ],
)
def test_anything_else_than_404_is_not_reached(event: Event, reason: str) -> None:
    outcome = finished(run(Pull([A, B]), absent(1), event))
    assert isinstance(outcome, NotReached)
    assert outcome.reasons == {B: reason}


def test_a_cut_goes_on_where_it_stopped_with_the_next_peer() -> None:
    actions = run(Pull([A, B]), whole(1, 100), Got(1, 40), Ended(1, "broke off"))
    assert actions == [Note(A, "broke off"), Ask(2, B, 40)]


def test_a_peer_that_delivered_comes_again_at_the_end_of_the_round() -> None:
    pull = Pull([A, B])
    actions = run(pull, whole(1, 100), Got(1, 40), Ended(1, "cut"), Failed(2, "refused"))
    assert actions == [Note(B, "refused"), Ask(3, A, 40)]


def test_a_round_with_progress_is_followed_by_another_after_a_pause() -> None:
    pull = Pull([A, B])
    events: list[Event] = [whole(1, 100), Got(1, 40), Ended(1, "cut"), Failed(2, "refused")]
    assert run(pull, *events, Failed(3, "refused")) == [Note(A, "refused"), Wait(1.0)]
    assert quiet(pull.on(Waited())) == [Ask(4, A, 40)]


def test_a_round_without_progress_ends_the_load() -> None:
    outcome = finished(run(Pull([A, B]), Failed(1, "refused"), Failed(2, "silent")))
    assert outcome == NotReached({A: "refused", B: "silent"}, 10)


def test_a_later_length_that_contradicts_is_passed_over() -> None:
    actions = run(Pull([A, B, C]), whole(1, 100), Got(1, 40), Ended(1, "cut"), piece(2, 40, 99))
    assert actions == [
        Drop(2),
        Note(B, "it says 99 bytes, the blob has 100"),
        Ask(3, C, 40),
    ]


def test_a_length_without_bytes_does_not_bind() -> None:
    pull = Pull([A, B])
    actions = run(pull, whole(1, 100), Ended(1, "cut"))
    assert actions[-1] == Ask(2, B, 0)
    assert pull.on(whole(2, 99)) == [Take(2, 0, 99)]


def test_a_dispute_is_settled_by_asking_one_at_a_time() -> None:
    """A said a length, died, and B says another: B gets its chance, from 0 on."""
    pull = Pull([A, B])
    actions = run(
        pull,
        whole(1, 100),
        Got(1, 40),
        Ended(1, "cut"),
        piece(2, 40, 99),
        Failed(3, "refused"),
        Waited(),
        Failed(4, "refused"),
    )
    assert quiet(actions) == [Note(A, "refused"), Restart(), Ask(5, B, 0)]
    assert pull.on(whole(5, 99)) == [Take(5, 0, 99)]


def test_the_whole_for_a_range_is_put_off_while_others_are_left() -> None:
    pull = Pull([A, B, C])
    actions = run(pull, whole(1, 100), Got(1, 40), Ended(1, "cut"), whole(2, 100))
    assert actions == [Drop(2), Ask(3, C, 40)]
    assert pull.on(piece(3, 40, 100)) == [Take(3, 0, 60, 40)]


def test_the_whole_for_a_range_is_taken_from_the_last_one_left() -> None:
    pull = Pull([A, B])
    run(pull, whole(1, 100), Got(1, 40), Ended(1, "cut"))
    assert pull.on(whole(2, 100)) == [Drop(2), Ask(3, A, 40)]
    assert quiet(pull.on(absent(3))) == [Drop(3), Ask(4, B, 40)]
    assert pull.on(whole(4, 100)) == [Take(4, 40, 60, 40)]


def test_wrong_bytes_of_one_peer_exclude_it() -> None:
    pull = Pull([A, B])
    actions = run(pull, whole(1, 100), Got(1, 100), Ended(1), Verified(right=False))
    assert quiet(actions) == [Note(A, "sent bytes with another digest"), Restart(), Ask(2, B, 0)]
    assert Accuse(A, "sent bytes with another digest") in actions
    assert pull.ready == 0
    assert finished(pull.on(absent(2))) == NotReached({A: "sent bytes with another digest"}, 10)


def test_wrong_bytes_of_several_are_asked_for_one_peer_at_a_time() -> None:
    pull = Pull([A, B])
    actions = run(
        pull,
        whole(1, 100),
        Got(1, 40),
        Ended(1, "cut"),
        piece(2, 40, 100),
        Got(2, 60),
        Ended(2),
        Verified(right=False),
    )
    assert actions == [Restart(), Ask(3, A, 0)]
    assert pull.on(whole(3, 100)) == [Take(3, 0, 100)]
    pull.on(Got(3, 50))
    assert pull.on(Ended(3, "cut")) == [Note(A, "cut"), Ask(4, A, 50)]
    assert pull.on(Failed(4, "refused")) == [Note(A, "refused"), Restart(), Ask(5, B, 0)]
    assert pull.on(whole(5, 100)) == [Take(5, 0, 100)]
    pull.on(Got(5, 100))
    assert pull.on(Ended(5)) == [Verify()]
    assert pull.on(Verified(right=True)) == [Finish(Complete())]


def test_what_is_left_over_is_verified_before_anybody_is_asked() -> None:
    assert run(Pull([A], held=70)) == [Verify()]
    assert run(Pull([A], held=70), Verified(right=True)) == [Finish(Complete())]
    assert run(Pull([A], held=70), Verified(right=False)) == [Ask(1, A, 70)]


def test_a_wrong_left_over_part_blames_nobody() -> None:
    pull = Pull([A], held=70)
    run(pull, Verified(right=False), piece(1, 70, 100), Got(1, 30), Ended(1))
    assert pull.on(Verified(right=False)) == [Restart(), Ask(2, A, 0)]


def test_a_left_over_part_that_is_too_long_is_given_up_when_a_peer_says_so() -> None:
    pull = Pull([A], held=70)
    run(pull, Verified(right=False))
    actions = pull.on(Answered(1, 416, fields(content_range="bytes */50")))
    assert actions[0] == Drop(1)
    assert actions[-2:] == [Restart(), Ask(2, A, 0)]


def test_a_left_over_part_stays_if_nobody_has_the_blob() -> None:
    actions = run(Pull([A], held=70), Verified(right=False), absent(1))
    assert quiet(actions) == [Drop(1), Finish(NobodyHasIt())]


def test_a_busy_peer_is_asked_once_more_if_that_is_soon() -> None:
    pull = Pull([A, B])
    assert run(pull, busy(1, 3), absent(2)) == [Drop(2), Lacks(B), Wait(3.0)]
    assert quiet(pull.on(Waited())) == [Ask(3, A, 0)]
    assert finished(pull.on(busy(3, 3))) == NotReached({A: "it answered 503"}, 3)


def test_a_busy_peer_is_not_waited_for_if_that_takes_long() -> None:
    assert finished(run(Pull([A]), busy(1, 120))) == NotReached({A: "it answered 503"}, 120)


def test_no_peer_makes_clients_wait_for_days() -> None:
    assert finished(run(Pull([A]), busy(1, 86400))) == NotReached({A: "it answered 503"}, 3600)


def test_a_body_that_ends_short_although_it_says_all_came_is_a_cut() -> None:
    actions = run(Pull([A, B]), whole(1, 100), Got(1, 40), Ended(1))
    assert actions == [Note(A, "sent less than it offered"), Ask(2, B, 40)]


@pytest.mark.parametrize(
    "late", [absent(1), Got(1, 5), Ended(1), Failed(1, "late"), Verified(right=True), Waited()]
)
def test_late_events_change_nothing(late: Event) -> None:
    pull = Pull([A, B])
    run(pull, absent(1))
    assert pull.on(late) == []
    assert pull.ready == 0
    assert pull.on(whole(2, 10)) == [Take(2, 0, 10)]


def test_a_peer_that_drips_is_given_up_in_the_end() -> None:
    pull = Pull([A])
    actions = run(pull)
    asks = 0
    while not pull.over:
        match actions[-1]:
            case Ask(number, _, start):
                asks += 1
                pull.on(piece(number, start, BIG) if start else whole(number, BIG))
                pull.on(Got(number, 1))
                actions = pull.on(Ended(number, "cut"))
            case Wait():
                actions = pull.on(Waited())
    assert asks == 9
    assert isinstance(finished(actions), NotReached)


@dataclass
class World:
    """Peers that do as the test says, and a check of every action against the rules."""

    pull: Pull
    data: st.DataObject
    length: int
    asked: set[str] = field(default_factory=set)
    said_absent: set[str] = field(default_factory=set)
    held: int = 0
    asks: int = 0
    bound: int | None = None

    def answer(self, ask: Ask) -> Event:
        self.asked.add(ask.peer)
        self.asks += 1
        assert ask.start == self.held == self.pull.ready
        assert self.bound is None or ask.start < self.bound
        claimed = max(0, self.length + self.data.draw(st.sampled_from([0, 0, 0, -1, 1])))
        wait = self.data.draw(st.sampled_from([0, 2, 100]))
        number = ask.number
        events: list[Event] = [
            piece(number, ask.start, claimed) if ask.start < claimed else Failed(number, "mute"),
            whole(number, claimed),
            absent(number),
            Answered(number, 403, fields()),
            busy(number, wait),
            Answered(number, 416, fields(content_range=f"bytes */{claimed}")),
            Answered(number, 206, fields(content_range="bytes 7-3/1")),
            Failed(number, "refused"),
        ]
        return self.data.draw(st.sampled_from(events))

    def deliver(self, take: Take) -> list[Event]:
        assert take.count >= 0
        assert take.skip in (0, self.held)
        come = take.count
        if self.data.draw(st.booleans()):
            come = self.data.draw(st.integers(0, take.count))
        self.held += come
        if come:
            self.bound = self.pull.length
        events: list[Event] = [Got(take.number, come)] if come else []
        return [*events, Ended(take.number, None if come == take.count else "cut")]

    def step(self, action: Action) -> list[Event]:
        match action:
            case Ask():
                return [self.answer(action)]
            case Take():
                return self.deliver(action)
            case Lacks():
                self.said_absent.add(action.peer)
            case Restart():
                self.held = 0
                self.bound = None
            case Verify():
                return [Verified(right=self.data.draw(st.sampled_from([False, False, True])))]
            case Wait(seconds):
                assert 0 < seconds <= 5
                return [Waited()]
        return []


@given(
    st.data(),
    st.integers(0, 5),
    st.sampled_from([0, 0, 1, 50, FRUITFUL]),
    st.sampled_from([0, 1, 100, 3 * FRUITFUL]),
)
def test_every_load_ends_and_keeps_the_rules(
    data: st.DataObject, count: int, left_over: int, length: int
) -> None:
    """Whatever peers do: within bounds, at the right offset, and absent only if all said so."""
    peers = [f"http://p{number}:1" for number in range(count)]
    pull = Pull(peers, left_over)
    world = World(pull, data, length, held=left_over)
    actions = pull.begin()
    outcome: Outcome | None = None
    while actions:
        action = actions.pop(0)
        if isinstance(action, Finish):
            assert actions == []
            outcome = action.outcome
        for event in world.step(action):
            actions.extend(pull.on(event))
        # Every whole restores patience at most once for each author, and there
        # is one pass alone; 4 * n + 4 fruitless asks fit between two of these.
        assert world.asks <= (count + 4) * (4 * count + 5) * 5
    assert pull.over
    match outcome:
        case NobodyHasIt():
            assert world.said_absent == set(peers)
        case NotReached(reasons, retry_after):
            assert set(reasons) == set(peers) - world.said_absent
            assert "not asked" not in reasons.values()
            assert 1 <= retry_after <= 3600
        case Complete():
            assert pull.ready == world.held
        case _:
            pytest.fail("no outcome")


@given(st.lists(st.sampled_from(["got", "ended", "failed", "verified", "waited", "404"])))
def test_events_in_any_order_do_no_harm(names: list[str]) -> None:
    pull = Pull([A, B])
    pull.begin()
    events: dict[str, Event] = {
        "got": Got(1, 10),
        "ended": Ended(1),
        "failed": Failed(1, "x"),
        "verified": Verified(right=True),
        "waited": Waited(),
        "404": absent(1),
    }
    for name in names:
        for action in pull.on(events[name]):
            assert action != Finish(Complete())
            assert action != Finish(NobodyHasIt())
