"""Regular expressions beside Python's own, and within bounds where that has none."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dtfc.couchdb.patterns import Pattern

CHARACTERS = "ab1_ .\n-"


def found(pattern: str, text: str) -> bool:
    return Pattern(pattern).found_in(text, lambda _steps: None)


def found_by_python(pattern: str, text: str) -> bool:
    # Up to 3.13 nothing at all is no place for \\B there; PCRE and JavaScript find it.
    assume(text or r"\B" not in pattern)
    return bool(re.search(pattern, text, re.ASCII))


def repeated(pieces: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    quantifiers = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,}", "{0,2}", "*?"])
    piece = st.tuples(pieces, quantifiers).map(lambda both: f"(?:{both[0]}){both[1]}")
    return st.one_of(
        piece,
        st.lists(piece, min_size=2, max_size=3).map("".join),
        st.lists(pieces, min_size=2, max_size=3).map("|".join),
    )


single = st.sampled_from(
    [
        *("a", "b", "1", "_", " ", "", ".", r"\.", r"\-", r"\n", r"\x61", "^", "$", r"\b", r"\B"),
        *("[ab]", "[^a]", "[a-z_]", "[]a]", "[a-]", r"[\d.]", r"[\]x]"),
        *(r"\d", r"\D", r"\w", r"\W", r"\s", r"\S"),
    ]
)
patterns = st.recursive(single, repeated, max_leaves=8)


@given(patterns, st.text(CHARACTERS, max_size=8))
def test_it_finds_what_python_finds(pattern: str, text: str) -> None:
    assert found(pattern, text) == found_by_python(pattern, text)


@given(patterns, st.text("aAbB1", max_size=6))
def test_it_finds_in_any_case_what_python_finds(pattern: str, text: str) -> None:
    pattern = f"(?i){pattern}"
    assert found(pattern, text) == found_by_python(pattern, text)


@pytest.mark.parametrize(
    "pattern", [r"(a+)+$", r"(a|a)*$", r"(a*)*b", r"a*a*a*a*a*a*b", r"(?:a?){60}a{60}"]
)
def test_what_never_ends_elsewhere_ends_here(pattern: str) -> None:
    steps = 0

    def spend(more: int) -> None:
        nonlocal steps
        steps += more

    Pattern(pattern).found_in("a" * 50 + "!", spend)
    assert steps < 52 * 500


def test_who_counts_the_steps_may_end_it() -> None:
    def spend(_steps: int) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        Pattern("a").found_in("b", spend)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(a", "nothing closes"),
        ("a)", "nothing opens"),
        ("*a", "repeats nothing"),
        ("[a", "in the middle"),
        ("a\\", "in the middle"),
        ("[b-a]", "is empty"),
        ("a{3,2}", "is empty"),
        (r"(a)\1", r"\\1 is not known"),
        ("(?=a)", r"\(\?= is not known"),
        ("(?P<x>a)", r"\(\?P is not known"),
        ("a++", "possessive"),
        ("a**", "is repeated"),
        ("[[:alpha:]]", r"\[: is not known"),
        (r"\p{L}", r"\\p is not known"),
        (r"\xg0", "hexadecimal"),
        ("(a{100}){100}", "more than 1000 steps"),
        ("a{9999}", "more than 1000 steps"),
        ("(" * 51 + ")" * 51, "groups within groups"),
    ],
)
def test_what_is_not_known_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Pattern(pattern)
