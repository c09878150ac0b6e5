"""Lines on a terminal: what they say, how wide they are, and when there are none."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from dtfc.cli.progress import (
    EVERY,
    Item,
    Progress,
    clock_time,
    columns,
    line,
    shortened,
    size,
    told,
)

MIB = 1024 * 1024


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def half_way() -> Item:
    """An item of 10 MiB, at 5 MiB after 5 seconds."""
    item = Item("photo.jpg", 0.0)
    item.saw(0, 10 * MIB)
    item.saw(5 * MIB, 10 * MIB)
    return item


def test_a_line_says_name_share_bytes_speed_and_time_left() -> None:
    assert line(half_way(), 5.0, 80).split() == [
        "photo.jpg",
        "50%",
        *("5.0", "MiB", "of", "10.0", "MiB"),
        "1.0",
        "MiB/s",
        *("5.0", "s"),
    ]


def test_where_no_length_is_known_there_is_no_share() -> None:
    item = Item("x", 0.0)
    item.saw(0, None)
    item.saw(MIB, None)

    assert "%" not in line(item, 1.0, 80)


def test_what_was_there_before_counts_for_the_share_and_not_for_the_speed() -> None:
    item = Item("x", 0.0)
    item.saw(8 * MIB, 10 * MIB)
    item.saw(9 * MIB, 10 * MIB)

    assert (item.moved, item.rate(1.0)) == (MIB, MIB)


@given(st.text(), st.integers(20, 300), st.integers(0, 2**50), st.integers(0, 2**50))
def test_no_line_is_wider_than_the_terminal(name: str, width: int, done: int, more: int) -> None:
    item = Item(name, 0.0)
    item.saw(0, done + more)
    item.saw(done, done + more)

    shown = line(item, 3.0, width)

    assert columns(shown) < max(width, 40)
    assert shown.isprintable()


@given(st.text(), st.integers(8, 60))
def test_a_name_takes_the_room_that_it_gets(name: str, room: int) -> None:
    assert room - 2 <= columns(shortened(name, room)) <= room


def test_wide_characters_count_twice() -> None:
    assert columns("写真.jpg") == 8


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 * MIB, "3.0 MiB"), (5 << 40, "5.0 TiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.54, "2.5 s"), (185, "3:05"), (3723, "1:02:03"), (1e9, "days")]
)
def test_times(seconds: float, text: str) -> None:
    assert clock_time(seconds) == text


def test_what_took_no_time_has_no_speed() -> None:
    assert told(100, 0.0) == "100 B"


def test_five_lines_a_second_at_most() -> None:
    clock, out = Clock(), Terminal()
    progress = Progress(clock, quiet=False, out=out)
    item = progress.begin("photo.jpg")
    for number in range(200):
        item.saw(number, 200)
        clock.advance(0.01)

    assert out.getvalue().count("photo.jpg") <= 2.0 / EVERY


def test_the_line_goes_when_the_file_is_done() -> None:
    clock, out = Clock(), Terminal()
    progress = Progress(clock, quiet=False, out=out)
    item = progress.begin("photo.jpg")
    clock.advance(EVERY)

    progress.end(item)

    assert out.getvalue().endswith("\r\x1b[J")
    assert clock.getDelayedCalls() == []


def test_several_files_have_a_line_each() -> None:
    clock, out = Clock(), Terminal()
    progress = Progress(clock, quiet=False, out=out)
    items = [progress.begin(name) for name in ("one", "two")]
    clock.advance(EVERY)
    clock.advance(EVERY)

    assert "\x1b[1A" in out.getvalue()
    for item in items:
        progress.end(item)


def test_a_total_is_told_of_several() -> None:
    clock = Clock()
    progress = Progress(clock, quiet=False, out=Terminal())
    for name in ("one", "two"):
        item = progress.begin(name)
        item.saw(0, MIB)
        item.saw(MIB, MIB)
        clock.advance(1)
        progress.end(item)

    assert progress.total() == "2 files, 2.0 MiB in 2.0 s (1.0 MiB/s)"


@pytest.mark.parametrize(("out", "quiet"), [(io.StringIO(), False), (Terminal(), True)])
def test_nothing_is_shown_without_a_terminal_or_with_quiet(out: io.StringIO, quiet: bool) -> None:  # noqa: FBT001 -- a case
    clock = Clock()
    progress = Progress(clock, quiet=quiet, out=out)
    item = progress.begin("photo.jpg")
    clock.advance(1)
    progress.end(item)

    assert (out.getvalue(), progress.total()) == ("", None)
