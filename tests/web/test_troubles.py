"""The last things that went wrong: what is kept of the log, and what is left out."""

from __future__ import annotations

import pytest
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure

from dtfc.web.troubles import LONGEST, Troubles


@pytest.fixture
def troubles() -> Troubles:
    found = Troubles(kept=3, publisher=LogPublisher())
    found.start()
    return found


@pytest.fixture
def teller(troubles: Troubles) -> Logger:
    return Logger(namespace="dtfc.test", observer=troubles._publisher)


def words(troubles: Troubles) -> list[str]:
    return [each.text for each in troubles.latest()]


def test_warnings_and_errors_are_kept(troubles: Troubles, teller: Logger) -> None:
    teller.info("all is well")
    teller.warn("the disk is slow")
    teller.error("{what} is broken", what="the disk")
    assert words(troubles) == ["the disk is broken", "the disk is slow"]


def test_no_more_than_so_many(troubles: Troubles, teller: Logger) -> None:
    for number in range(9):
        teller.warn("{number}", number=number)
    assert words(troubles) == ["8", "7", "6"]


def test_the_same_again_is_counted(troubles: Troubles, teller: Logger) -> None:
    for _ in range(4):
        teller.warn("again")
    assert [each.times for each in troubles.latest()] == [4]


def test_of_an_exception_its_words_are_kept_and_no_traceback(
    troubles: Troubles, teller: Logger
) -> None:
    teller.failure("reading a blob", Failure(OSError("no such device")))
    assert words(troubles) == ["reading a blob: no such device"]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("GET /ab?sig=kq0Uu5 failed", "GET /ab?… failed"),
        ("asking http://root:relax@couch:5984/_session", "asking http://…@couch:5984/_session"),
        ("two\nlines\x1b[31m", "two lines [31m"),
        ("why? nobody knows", "why? nobody knows"),
        ("to \u202ethe other side", "to the other side"),
    ],
)
def test_what_is_nobodys_business_is_left_out(
    troubles: Troubles, teller: Logger, said: str, kept: str
) -> None:
    teller.warn("{said}", said=said)
    assert words(troubles) == [kept]


def test_a_long_one_is_cut(troubles: Troubles, teller: Logger) -> None:
    teller.warn("x" * 10_000)
    assert len(words(troubles)[0]) == LONGEST


def test_when_it_is_stopped_it_hears_nothing(troubles: Troubles, teller: Logger) -> None:
    troubles.stop()
    troubles.stop()
    teller.warn("too late")
    assert words(troubles) == []
