"""Whole nodes in a test tube: some seeds, and that the rig can fail."""

from __future__ import annotations

import secrets
from typing import Any


def test_some_fresh_seeds_break_no_promise(simulate: Any) -> None:
    seed = secrets.randbelow(1_000_000)
    print(f"seed {seed}")
    status, printed, figures = simulate(
        "cluster", "--seed", str(seed), "--seeds", "8", "--steps", "120"
    )
    assert status == 0, printed
    assert figures["seeds"] == 8


def test_a_seed_has_the_same_history_each_time(simulate: Any) -> None:
    once = simulate("cluster", "--seed", "7", "--steps", "120", "--whole")[2]
    again = simulate("cluster", "--seed", "7", "--steps", "120", "--whole")[2]
    assert once["history"] == again["history"]


def test_a_seed_has_a_history_of_its_own(simulate: Any) -> None:
    once = simulate("cluster", "--seed", "7", "--steps", "20", "--whole")[2]
    other = simulate("cluster", "--seed", "8", "--steps", "20", "--whole")[2]
    assert once["history"] != other["history"]


def test_everything_broken_on_purpose_is_noticed(simulate: Any) -> None:
    status, printed, figures = simulate("broken")
    assert status == 0, printed
    assert len(figures["noticed"]) == 8


def test_what_nobody_has_costs_no_more_requests_than_there_are_peers(simulate: Any) -> None:
    status, printed, figures = simulate("absent")
    assert status == 0, printed
    assert figures == {
        "ring": {"status": 404, "requests": 1, "by_others": 0},
        "mesh": {"status": 404, "requests": 4, "by_others": 0},
    }
