"""Which peers take copies."""

from __future__ import annotations

from dtfc.replicas.reach import LONGEST_REST, Reach

PEER = "http://a:80"


def test_one_that_was_never_asked_is_not_down() -> None:
    reach = Reach(lambda: 0.5)
    assert not reach.is_down(PEER)
    assert reach.gone_at(PEER, 10) is None


def test_one_that_failed_is_down_until_it_answers() -> None:
    reach = Reach(lambda: 1.0)
    assert reach.failed(PEER, 100.0)
    assert not reach.failed(PEER, 101.0)
    assert reach.is_down(PEER)
    reach.answers(PEER)
    assert not reach.is_down(PEER)


def test_it_is_probed_once_a_rest_and_rests_grow() -> None:
    reach = Reach(lambda: 1.0)
    now = 0.0
    rests = []
    for _ in range(8):
        reach.failed(PEER, now)
        began = now
        while not reach.to_probe(now):
            now += 0.25
        assert reach.to_probe(now) == []
        rests.append(now - began)
    assert rests == [1, 2, 4, 8, 16, LONGEST_REST, LONGEST_REST, LONGEST_REST]


def test_patience_counts_from_the_first_failure_until_it_takes_something() -> None:
    reach = Reach(lambda: 0.0)
    reach.failed(PEER, 0.0)
    reach.answers(PEER)
    assert not reach.is_gone(PEER, 100.0, 10.0)
    reach.failed(PEER, 100.0)
    assert reach.is_gone(PEER, 100.0, 10.0)
    reach.answers(PEER)
    reach.took(PEER)
    reach.failed(PEER, 200.0)
    assert not reach.is_gone(PEER, 205.0, 10.0)
    assert reach.gone_at(PEER, 10.0) == 210.0


def test_who_left_the_list_is_forgotten() -> None:
    reach = Reach(lambda: 0.0)
    reach.failed(PEER, 0.0)
    reach.keep(["http://b:80"])
    assert reach.down() == []
