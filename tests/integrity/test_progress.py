"""How far the scrub is outlives the process, and nonsense is no progress."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.integrity.progress import Ledger, Progress, compose_progress, parse_progress

DIGEST = Digest.of(b"x")
times = st.floats(0, 1e12)
counts = st.integers(0, 2**60)


@given(
    st.builds(
        Progress,
        st.none() | st.binary(min_size=64, max_size=64).map(Digest),
        times,
        times,
        counts,
        counts,
        counts,
    )
)
def test_what_is_written_is_read_back(progress: Progress) -> None:
    assert parse_progress(compose_progress(progress)) == progress


@given(st.text())
def test_nonsense_is_no_progress(text: str) -> None:
    assert parse_progress(text) == Progress()


@pytest.mark.parametrize("length", [0, 1, 50, 100])
def test_half_a_line_is_no_progress(length: int) -> None:
    assert parse_progress(compose_progress(Progress(DIGEST, 5.0))[:length]) == Progress()


def test_the_first_pass_is_due_at_once() -> None:
    assert Progress().due(1e9, 30 * 86400)


def test_a_pass_that_was_cut_off_is_due() -> None:
    assert Progress().new_pass(1e9).due(1e9 + 1, 30 * 86400)


def test_the_next_pass_is_due_a_period_after_the_last_began() -> None:
    over = Progress().new_pass(1000).completed(1500)
    assert not over.due(1999, 1000)
    assert over.due(2000, 1000)


def test_a_new_pass_begins_at_the_beginning() -> None:
    over = Progress(DIGEST, 1000.0, 500.0, 7, 8, 9).completed(1500)
    assert over.new_pass(3000) == Progress(began=3000.0, ended=1500.0)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = str(tmp_path / "scrub")
    with Ledger(path) as one, Ledger(path) as other:
        assert one.take()
        assert not other.take()
        one.close()
        assert other.take()


def test_a_shorter_progress_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    with Ledger(str(tmp_path / "scrub")) as ledger:
        assert ledger.take()
        ledger.write(Progress(DIGEST, 1.0, 2.0, 3, 4, 5))
        ledger.write(Progress())
        assert ledger.read() == Progress()


def test_everybody_may_read(tmp_path: Path) -> None:
    with Ledger(str(tmp_path / "scrub")) as ledger:
        assert ledger.take()
        ledger.write(Progress(DIGEST, 1.0))
        assert Ledger(str(tmp_path / "scrub")).read().cursor == DIGEST


def test_no_file_is_no_progress(tmp_path: Path) -> None:
    assert Ledger(str(tmp_path / "scrub")).read() == Progress()


def test_it_is_not_closed_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(str(tmp_path / "scrub"))
    assert ledger.take()
    real = os.pwrite
    closing = threading.Thread(target=ledger.close)
    ended: list[bool] = []

    def slow(fd: int, content: bytes, offset: int) -> int:
        closing.start()
        closing.join(0.2)
        ended.append(not closing.is_alive())
        return real(fd, content, offset)

    monkeypatch.setattr(os, "pwrite", slow)
    ledger.write(Progress(began=1.0))
    closing.join()
    assert ended == [False]
    assert ledger.read().began == 1.0


@pytest.mark.parametrize(
    ("progress", "ratio"),
    [
        (Progress(), 0.0),
        (Progress(began=1.0), 0.0),
        (Progress(Digest.from_hex("80" + "0" * 126), began=1.0), 0.5),
        (Progress(Digest.from_hex("f" * 128), began=2.0, ended=1.0), 1.0),
        (Progress(began=1.0, ended=2.0), 1.0),
    ],
)
def test_how_far_a_pass_is(progress: Progress, ratio: float) -> None:
    assert progress.ratio == pytest.approx(ratio, abs=1e-6)
