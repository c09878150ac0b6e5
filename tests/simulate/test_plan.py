"""A story is decided by its seed, step by step."""

from __future__ import annotations

from simulate.plan import KINDS, plan


def test_a_seed_gives_one_plan() -> None:
    assert plan(3, 50, 1000) == plan(3, 50, 1000)


def test_a_longer_story_begins_as_the_shorter_one() -> None:
    assert plan(3, 80, 1000).steps[:50] == plan(3, 50, 1000).steps


def test_every_kind_of_step_comes() -> None:
    assert {step.kind for step in plan(1, 2000, 1000).steps} == set(KINDS)
