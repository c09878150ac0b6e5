"""The queue of copies on the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.errors import BrokenStore, StoreFailure
from dtfc.store.outbox import Add, Again, Done, Drop, Length, Outbox, Wait

A, B, C = (Digest.of(each) for each in (b"a", b"b", b"c"))
ONE, OTHER = "http://one:80", "http://other:80"
LATE = 1e12


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "replicas")


@pytest.fixture
def outbox(folder: str) -> Iterator[Outbox]:
    made = Outbox(folder)
    yield made
    made.close()


def test_what_was_added_is_due(outbox: Outbox) -> None:
    assert outbox.apply([Add(A, 5.0), Add(B, 6.0)]) == [True, True]
    assert set(outbox.due(10, 10)) == {A, B}
    assert outbox.length() == Length(2, 0, 5.0)


def test_no_more_are_given_than_were_asked_for(outbox: Outbox) -> None:
    outbox.apply([Add(A, 5.0), Add(B, 6.0)])
    assert len(outbox.due(10, 1)) == 1


def test_what_is_done_is_gone_and_its_copies_are_known(outbox: Outbox) -> None:
    outbox.apply([Add(A, 5.0)])
    outbox.apply([Done(A, (OTHER, ONE))])
    assert outbox.due(10, 10) == []
    assert outbox.copies(A) == [ONE, OTHER]
    assert outbox.length() == Length(0, 0, None)


def test_what_was_deleted_is_gone_and_no_copy_of_it_is_known(outbox: Outbox) -> None:
    outbox.apply([Add(A, 5.0), Wait(A, (ONE,), LATE, (OTHER,))])
    outbox.apply([Drop(A)])
    assert outbox.length().entries == 0
    assert outbox.copies(A) == []
    assert outbox.awaited() == []


def test_what_is_done_after_it_was_deleted_leaves_no_copies(outbox: Outbox) -> None:
    outbox.apply([Add(A, 5.0), Drop(A)])
    assert outbox.apply([Done(A, (ONE,))]) == [False]
    assert outbox.copies(A) == []


def test_what_waits_for_a_peer_is_not_due_but_found_by_it(outbox: Outbox) -> None:
    outbox.apply([Add(A, 1.0), Add(B, 2.0), Add(C, 3.0)])
    outbox.apply(
        [Wait(B, (), LATE, (ONE,)), Wait(A, (OTHER,), LATE, (ONE,)), Wait(C, (), LATE, (OTHER,))]
    )
    assert outbox.due(1e9, 10) == []
    assert outbox.waiting_for(ONE, 10) == [B, A]
    assert outbox.waiting_for(ONE, 1) == [B]
    assert outbox.copies(A) == [OTHER]
    assert outbox.awaited() == [ONE, OTHER]


def test_what_waits_again_waits_at_the_end(outbox: Outbox) -> None:
    outbox.apply([Add(A, 1.0), Add(B, 2.0)])
    outbox.apply([Wait(A, (), LATE, (ONE,)), Wait(B, (), LATE, (ONE,)), Wait(A, (), LATE, (ONE,))])
    assert outbox.waiting_for(ONE, 10) == [B, A]


def test_what_is_stuck_is_counted_once(outbox: Outbox) -> None:
    outbox.apply([Add(A, 1.0)])
    outbox.apply([Wait(A, (), due=50.0, why="refused"), Wait(A, (), due=60.0, why="refused")])
    assert outbox.length().stuck == 1
    assert outbox.due(59, 10) == []
    assert outbox.due(60, 10) == [A]
    outbox.apply([Wait(A, (), LATE, (ONE,))])
    assert outbox.length().stuck == 0


def test_a_second_put_makes_it_due_again(outbox: Outbox) -> None:
    outbox.apply([Add(A, 1.0), Wait(A, (), LATE, (ONE,))])
    assert outbox.apply([Add(A, 9.0)]) == [True]
    assert outbox.due(10, 10) == [A]
    assert outbox.length().oldest == 1.0


def test_a_new_entry_forgets_copies_from_before(outbox: Outbox) -> None:
    outbox.apply([Add(A, 1.0), Done(A, (ONE,))])
    outbox.apply([Add(A, 2.0)])
    assert outbox.copies(A) == []


def test_an_entry_that_waits_forgets_copies_from_before_too(folder: str, outbox: Outbox) -> None:
    outbox.apply([Add(A, 1.0), Wait(A, (ONE,), LATE, (OTHER,))])
    other = Outbox(folder)
    assert other.apply([Add(A, 2.0)]) == [False]
    assert other.copies(A) == []
    other.close()


def test_a_second_put_forgets_copies_from_before(outbox: Outbox) -> None:
    outbox.apply([Add(A, 1.0), Wait(A, (ONE,), LATE, (OTHER,))])
    outbox.apply([Add(A, 2.0)])
    assert outbox.copies(A) == []


def test_the_other_process_has_its_own(folder: str, outbox: Outbox) -> None:
    other = Outbox(folder)
    try:
        outbox.apply([Add(A, 1.0)])
        assert other.apply([Add(B, 2.0), Add(A, 3.0)]) == [True, False]
        assert other.due(10, 10) == [B]
        assert other.apply([Done(A, (ONE,))]) == [False]
        assert outbox.due(10, 10) == [A]
        assert outbox.length() == other.length() == Length(2, 0, 1.0)
    finally:
        other.close()


def test_nothing_is_adopted_from_who_lives(folder: str, outbox: Outbox) -> None:
    other = Outbox(folder)
    try:
        other.apply([Add(A, 1.0)])
        assert outbox.adopt(1e13) == 0
    finally:
        other.close()


def test_what_a_closed_process_left_is_adopted(folder: str, outbox: Outbox) -> None:
    other = Outbox(folder)
    other.apply([Add(A, 1.0), Add(B, 1.0), Wait(B, (), LATE, (ONE,))])
    other.close()
    assert outbox.adopt(1e13) == 2
    assert outbox.due(10, 10) == [A]
    assert outbox.waiting_for(ONE, 10) == [B]
    assert outbox.adopt(1e13) == 0


def test_what_is_due_too_far_in_the_future_is_due_now(outbox: Outbox) -> None:
    outbox.apply([Add(A, 1.0), Wait(A, (), due=5000.0)])
    outbox.adopt(4000.0)
    assert outbox.due(10, 10) == [A]


def test_what_is_stuck_and_nothing_else_is_due_again(outbox: Outbox) -> None:
    outbox.apply([Add(A, 1.0), Wait(A, (), LATE, (ONE,))])
    outbox.apply([Add(B, 1.0), Wait(B, (), LATE, why="refused")])
    outbox.apply([Again(5.0)])
    assert outbox.due(10, 10) == [B]


def test_it_survives_kill_9(folder: str, outbox: Outbox) -> None:
    program = (
        "import os, signal, sys\n"
        "from dtfc.digest import Digest\n"
        "from dtfc.store.outbox import Add, Outbox\n"
        f"outbox = Outbox({folder!r})\n"
        "outbox.apply([Add(Digest.of(b'a'), 1.0)])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert ended.returncode == -signal.SIGKILL
    assert outbox.adopt(1e13) == 1
    assert outbox.due(10, 10) == [A]


def test_a_damaged_queue_is_set_aside(folder: str) -> None:
    Path(folder).mkdir()
    (Path(folder) / "queue.sqlite").write_bytes(b"this is no database, whatever its name says" * 99)
    outbox = Outbox(folder)
    assert outbox.set_aside
    assert outbox.length().entries == 0
    assert any("damaged" in name for name in os.listdir(folder))
    outbox.close()


def test_a_queue_of_a_later_version_is_refused(folder: str) -> None:
    outbox = Outbox(folder)
    with outbox._transaction() as connection:
        connection.execute("PRAGMA user_version = 99")
    outbox.close()
    with pytest.raises(BrokenStore, match="99"):
        Outbox(folder)


def test_a_closed_queue_says_so(folder: str) -> None:
    outbox = Outbox(folder)
    outbox.close()
    with pytest.raises(StoreFailure):
        outbox.length()


def test_a_failure_undoes_the_whole_group(outbox: Outbox) -> None:
    with pytest.raises(AttributeError):
        outbox.apply([Add(A, 1.0), None])  # type: ignore[list-item]
    assert outbox.length().entries == 0
