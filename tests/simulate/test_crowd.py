"""A flash crowd, by the nodes' own code."""

from __future__ import annotations

import pytest

from dtfc.peers.rendezvous import ranked
from simulate.crowd import MOST_COPIES, Crowd, Terms, flash_crowd


@pytest.mark.parametrize("seed", range(6))
def test_the_source_sends_few_copies_and_nobody_waits_long(seed: int) -> None:
    figures = flash_crowd(Terms(60, chunks=40), seed)
    assert figures.source_copies <= MOST_COPIES
    assert figures.most_copies <= MOST_COPIES
    assert figures.seconds <= figures.terms.allowed


def test_in_the_way_of_2015_the_source_sends_to_everybody() -> None:
    terms = Terms(20, chunks=16, way="2015")
    figures = flash_crowd(terms, 1)
    assert figures.source_copies == 19
    assert figures.seconds > 19 * terms.file_seconds


def test_with_any_number_at_once_a_source_inside_the_tree_sends_three_copies() -> None:
    terms = Terms(60, chunks=40, at_once=0)
    inner = next(seed for seed in range(50) if 0 < _rank_of_source(terms, seed) < 25)
    assert flash_crowd(terms, inner).source_copies == 3


def test_a_crowd_of_two_costs_one_copy() -> None:
    figures = flash_crowd(Terms(2, chunks=8), 1)
    assert (figures.source_copies, figures.most_copies) == (1, 0)


def test_the_same_seed_gives_the_same_figures() -> None:
    terms = Terms(30, chunks=8)
    assert flash_crowd(terms, 3) == flash_crowd(terms, 3)


def _rank_of_source(terms: Terms, seed: int) -> int:
    crowd = Crowd(terms, seed)
    nodes = ranked(crowd.digest, crowd.members)
    return next(rank for rank, url in enumerate(nodes) if crowd.members[url].whole)
