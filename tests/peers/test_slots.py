"""Places for loads: as many as there are, in order, and none lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from dtfc.peers.slots import Slots, SlotsByName


def take(slots: Slots) -> Deferred[None]:
    return Deferred.fromCoroutine(slots.take())


def test_a_free_place_is_taken_at_once() -> None:
    assert take(Slots(1)).called


def test_a_place_too_many_waits() -> None:
    slots = Slots(1)
    take(slots)

    assert not take(slots).called


def test_places_are_given_in_order() -> None:
    slots = Slots(1)
    take(slots)
    first, second = take(slots), take(slots)

    slots.give_back()

    assert (first.called, second.called) == (True, False)


def test_who_is_cancelled_leaves_the_queue() -> None:
    slots = Slots(1)
    take(slots)
    gone, next_one = take(slots), take(slots)
    gone.addErrback(lambda failure: failure.trap(CancelledError) and None)
    gone.cancel()

    slots.give_back()

    assert next_one.called


def test_more_places_let_more_in() -> None:
    slots = Slots(1)
    take(slots)
    first, second = take(slots), take(slots)
    slots.most = 2

    slots.give_back()

    assert (first.called, second.called) == (True, True)


@given(st.integers(1, 4), st.lists(st.sampled_from("tgc"), max_size=60))
def test_never_more_than_there_are_and_none_is_lost(most: int, steps: list[str]) -> None:
    slots = Slots(most)
    inside, waiting = 0, list[Deferred[None]]()
    for step in steps:
        if step == "t":
            waiting.append(take(slots))
        elif step == "g" and inside:
            slots.give_back()
            inside -= 1
        elif step == "c" and waiting and not waiting[-1].called:
            gone = waiting.pop()
            gone.addErrback(lambda failure: failure.trap(CancelledError) and None)
            gone.cancel()
        inside += sum(each.called for each in waiting)
        waiting = [each for each in waiting if not each.called]
        assert inside <= most
        assert inside == most or not waiting


def take_of(slots: SlotsByName, name: str) -> Deferred[None]:
    return Deferred.fromCoroutine(slots.take(name))


def test_each_name_has_places_of_its_own() -> None:
    slots = SlotsByName(1)
    take_of(slots, "a")

    assert (take_of(slots, "b").called, take_of(slots, "a").called) == (True, False)


def test_places_of_a_name_are_given_to_those_who_wait_for_it() -> None:
    slots = SlotsByName(1)
    take_of(slots, "a")
    take_of(slots, "b")
    waiting = take_of(slots, "a")

    slots.give_back("b")
    assert not waiting.called
    slots.give_back("a")
    assert waiting.called


def test_more_places_of_each_name_let_more_in() -> None:
    slots = SlotsByName(1)
    take_of(slots, "a")
    waiting = take_of(slots, "a")
    slots.most = 2
    take_of(slots, "b")

    assert take_of(slots, "b").called
    slots.give_back("a")
    assert waiting.called
