"""traceparent, as W3C Trace Context has it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.http.traces import Trace, carried, carrying, taken_up

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SPAN = "1234567890abcdef"
GIVEN = f"00-{TRACE}-{PARENT}-01"


def test_a_trace_is_taken_up() -> None:
    assert taken_up([GIVEN], SPAN) == Trace(TRACE, SPAN, PARENT, "01")


def test_what_is_asked_of_others_has_this_span() -> None:
    found = taken_up([GIVEN], SPAN)
    assert found is not None
    assert found.field == f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(("flags", "passed_on"), [("00", "00"), ("01", "01"), ("ff", "01")])
def test_only_the_flag_that_is_known_is_passed_on(flags: str, passed_on: str) -> None:
    found = taken_up([f"00-{TRACE}-{PARENT}-{flags}"], SPAN)
    assert found is not None
    assert found.flags == passed_on


@pytest.mark.parametrize("more", ["", "-", "-what-later-versions-say"])
def test_a_later_version_may_say_more(more: str) -> None:
    assert taken_up([f"cc-{TRACE}-{PARENT}-01{more}"], SPAN) is not None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-0x",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01-",
        f"cc-{TRACE}-{PARENT}-01more",
        f"00-{TRACE}-{PARENT}-01 ",
        f"00-{TRACE}-{PARENT}-01\n",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00{TRACE}{PARENT}01",
        f"00-{TRACE}-{PARENT}-01,00-{TRACE}-{PARENT}-01",
        f"00-{'٣' * 32}-{PARENT}-01",
    ],
)
def test_what_makes_no_sense_is_nothing(value: str) -> None:
    assert taken_up([value], SPAN) is None


@pytest.mark.parametrize("values", [[], [GIVEN, GIVEN]])
def test_none_and_two_are_nothing(values: list[str]) -> None:
    assert taken_up(values, SPAN) is None


@given(st.text())
def test_whatever_comes_nothing_fails(value: str) -> None:
    found = taken_up([value], SPAN)
    assert found is None or found.field.isascii()


def test_what_is_begun_meanwhile_is_done_for_it() -> None:
    trace = taken_up([GIVEN], SPAN)
    with carrying(trace):
        with carrying(None):
            inside = carried()
        assert (carried(), inside) == (trace, None)
    assert carried() is None
