"""To how many nodes a blob is sent at once: who is let in, and who gives way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.peers.receivers import PATIENCE, Place, Receivers
from dtfc.peers.rendezvous import ranked

DIGEST = Digest.of(b"a crowd's")
FIRST, SECOND, THIRD, LAST, LOWEST = ranked(DIGEST, [f"http://node{n}:1" for n in range(5)])


def receivers(most: int = 2) -> Receivers:
    return Receivers(most)


def test_as_many_as_may_be_are_let_in() -> None:
    sent_to = receivers()
    assert sent_to.let_in(DIGEST, SECOND, 0.0)
    assert sent_to.let_in(DIGEST, THIRD, 0.0)
    assert sent_to.let_in(DIGEST, LAST, 0.0) is None
    assert (sent_to.refused, sent_to.cut) == (1, 0)


def test_the_lowest_in_the_tree_gives_way_to_one_that_stands_higher() -> None:
    sent_to = receivers()
    lower, higher = sent_to.let_in(DIGEST, THIRD, 0.0), sent_to.let_in(DIGEST, SECOND, 0.0)
    assert lower
    assert higher
    assert sent_to.let_in(DIGEST, FIRST, 0.0)
    assert (lower.lost, higher.lost) == (True, False)
    assert (sent_to.refused, sent_to.cut) == (0, 1)
    # It was the lower one's already that it gives back.
    sent_to.leave(lower)
    assert sent_to.let_in(DIGEST, THIRD, 0.0) is None


def test_a_place_that_is_given_back_is_free() -> None:
    sent_to = receivers()
    place = sent_to.let_in(DIGEST, FIRST, 0.0)
    assert place
    assert sent_to.let_in(DIGEST, SECOND, 0.0)
    sent_to.leave(place)
    sent_to.leave(place)
    assert sent_to.let_in(DIGEST, LAST, 0.0)
    assert sent_to.let_in(DIGEST, LAST, 0.0)


def test_who_asks_twice_has_one_place_until_both_are_over() -> None:
    sent_to = receivers()
    one, two = sent_to.let_in(DIGEST, FIRST, 0.0), sent_to.let_in(DIGEST, FIRST, 0.0)
    assert one
    assert two
    assert sent_to.let_in(DIGEST, SECOND, 0.0)
    sent_to.leave(one)
    assert sent_to.let_in(DIGEST, LAST, 0.0) is None
    sent_to.leave(two)
    assert sent_to.let_in(DIGEST, LAST, 0.0)


def test_all_answers_to_a_node_end_with_its_place() -> None:
    sent_to = receivers(1)
    one, two = sent_to.let_in(DIGEST, LAST, 0.0), sent_to.let_in(DIGEST, LAST, 0.0)
    assert sent_to.let_in(DIGEST, FIRST, 0.0)
    assert one
    assert two
    assert (one.lost, two.lost) == (True, True)


def test_blobs_do_not_count_together() -> None:
    sent_to = receivers(1)
    assert sent_to.let_in(DIGEST, FIRST, 0.0)
    assert sent_to.let_in(Digest.of(b"another"), LAST, 0.0)


def test_any_number_where_there_is_no_bound() -> None:
    sent_to = receivers(0)
    assert all(sent_to.let_in(DIGEST, f"http://n{n}:1", 0.0) for n in range(100))


def test_receivers_that_stay_for_ever_keep_nobody_out_for_ever() -> None:
    sent_to = receivers()
    for each in (FIRST, SECOND):
        assert sent_to.let_in(DIGEST, each, 0.0)
    assert sent_to.let_in(DIGEST, LAST, PATIENCE - 1) is None
    assert sent_to.let_in(DIGEST, LAST, PATIENCE)
    # One more, not all.
    assert sent_to.let_in(DIGEST, LOWEST, PATIENCE) is None


@given(
    most=st.integers(1, 3),
    asks=st.lists(
        st.tuples(st.sampled_from([FIRST, SECOND, THIRD, LAST]), st.booleans()), max_size=40
    ),
)
def test_those_who_are_sent_to_are_the_highest_of_all_who_wait(
    most: int, asks: list[tuple[str, bool]]
) -> None:
    sent_to = receivers(most)
    order = [FIRST, SECOND, THIRD, LAST]
    held: list[Place] = []
    for node, comes in asks:
        if comes:
            place = sent_to.let_in(DIGEST, node, 0.0)
            if place is None:
                others = {each.node for each in held if not each.lost}
                assert len(others) == most
                assert all(order.index(each) < order.index(node) for each in others)
            else:
                held.append(place)
        else:
            for place in [each for each in held if each.node == node]:
                sent_to.leave(place)
                held.remove(place)
        held = [each for each in held if not each.lost]
        assert len({each.node for each in held}) <= most
