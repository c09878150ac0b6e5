"""Stretches of a blob, beside a plain set of numbers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dtfc.store.spans import Spans

Stretch = tuple[int, int]
stretches = st.tuples(st.integers(0, 30), st.integers(0, 30))
changes = st.lists(st.tuples(st.booleans(), stretches), max_size=25)


def made_by(changed: list[tuple[bool, Stretch]]) -> tuple[Spans, set[int]]:
    spans, model = Spans(), set[int]()
    for put_in, (start, end) in changed:
        if put_in:
            spans.add(start, end)
            model |= set(range(start, end))
        else:
            spans.remove(start, end)
            model -= set(range(start, end))
    return spans, model


def numbers(of: object) -> set[int]:
    found: set[int] = set()
    for start, end in of:  # type: ignore[attr-defined]
        found |= set(range(start, end))
    return found


@given(changes)
def test_it_holds_what_was_put_in_and_not_taken_out(changed: list[tuple[bool, Stretch]]) -> None:
    spans, model = made_by(changed)
    assert numbers(spans) == model
    assert spans.total == len(model)


@given(changes)
def test_stretches_neither_overlap_nor_touch(changed: list[tuple[bool, Stretch]]) -> None:
    spans, _ = made_by(changed)
    listed = list(spans)
    assert all(start < end for start, end in listed)
    assert all(one[1] < other[0] for one, other in pairwise(listed))


@given(changes, stretches)
def test_what_is_missing(changed: list[tuple[bool, Stretch]], asked: Stretch) -> None:
    spans, model = made_by(changed)
    assert numbers(spans.gaps(*asked)) == set(range(*asked)) - model
    assert spans.has(*asked) == (set(range(*asked)) <= model)


@given(changes, st.integers(0, 30))
def test_how_far_it_reaches(changed: list[tuple[bool, Stretch]], offset: int) -> None:
    spans, model = made_by(changed)
    end = offset
    while end in model:
        end += 1
    assert spans.reach(offset) == end


@given(changes)
def test_its_front(changed: list[tuple[bool, Stretch]]) -> None:
    spans, _ = made_by(changed)
    assert spans.front == spans.reach(0)
