"""A node on what it is handed: a clock, a disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from dtfc.disk import InlineDisk
from dtfc.node import SETTLING, Node
from dtfc.settings import load


class Alone(Clock):
    """A clock that can start no process."""

    def spawnProcess(self, *_args: Any, **_kw: Any) -> Any:  # noqa: N802 -- Twisted's name
        raise OSError("no programs here")


class Disk(InlineDisk):
    def __init__(self) -> None:
        self.states: list[str] = []

    def start(self) -> None:
        self.states.append("started")

    def stop(self) -> None:
        self.states.append("stopped")


class Handed:
    """A node, and what it was handed."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.clock: Any = Alone()
        self.ticked = 0.0
        self.disk = Disk()
        settings = load({"basedir": str(folder / "store"), "fan-out": "2"}, {}, str(folder))
        self.node = Node(
            settings.settings,
            self.clock,
            lambda _lines: None,
            disk=self.disk,
            ticks=lambda: self.ticked,
            **more,
        )

    def run(self, seconds: int) -> None:
        self.node.startService()
        for _ in range(seconds):
            self.clock.advance(1)

    def stop(self) -> bool:
        ended: list[object] = []
        self.node.stopService().addBoth(ended.append)
        self.clock.advance(1)
        return ended == [None]


def test_a_node_begins_and_ends_the_disk_it_was_handed(tmp_path: Path) -> None:
    handed = Handed(tmp_path, owns_process=False)
    handed.run(3)
    assert handed.stop()
    assert handed.disk.states == ["started", "stopped"]


def test_a_node_ends_its_disk_when_all_that_was_asked_of_it_is_done(tmp_path: Path) -> None:
    """What was given up closes its files behind the step that ran."""
    handed = Handed(tmp_path, owns_process=False)
    handed.run(1)
    handed.disk.busy = True
    assert not handed.stop()
    assert handed.disk.states == ["started"]
    handed.disk.busy = False
    handed.clock.advance(1)
    assert handed.disk.states == ["started", "stopped"]


def test_a_node_waits_for_its_disk_no_longer_than_that(tmp_path: Path) -> None:
    handed = Handed(tmp_path, owns_process=False)
    handed.run(1)
    handed.disk.busy = True
    assert not handed.stop()
    handed.ticked += SETTLING
    handed.clock.advance(1)
    assert handed.disk.states == ["started", "stopped"]


def test_a_node_leaves_nothing_on_the_clock_it_was_handed(tmp_path: Path) -> None:
    handed = Handed(tmp_path, owns_process=False)
    handed.run(3)
    assert handed.stop()
    assert [call for call in handed.clock.getDelayedCalls() if call.active()] == []


def test_a_node_that_shares_its_process_does_not_watch_the_loop(tmp_path: Path) -> None:
    handed = Handed(tmp_path, owns_process=False)
    handed.run(3)
    names = {getattr(call.func, "__qualname__", "") for call in handed.clock.getDelayedCalls()}
    assert handed.stop()
    assert "StallDetector._look" not in names


def test_a_node_has_no_store_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(LookupError):
        _ = Handed(tmp_path).node.store


def test_what_a_node_remembers_of_its_peers_it_measures_with_ticks(tmp_path: Path) -> None:
    handed = Handed(tmp_path, owns_process=False)
    handed.run(1)
    handed.ticked = 7.0
    measured = handed.node._loader._around.clock.seconds() if handed.node._loader else None
    assert handed.stop()
    assert measured == 7.0


def test_copies_that_are_owed_are_measured_with_ticks_from_the_time_of_day_on(
    tmp_path: Path,
) -> None:
    handed = Handed(tmp_path, owns_process=False)
    handed.node.settings = replace(handed.node.settings, replicas=2)
    handed.run(1)
    handed.clock.rightNow += 3600
    handed.ticked = 7.0
    owed_at = handed.node._replicas.now() if handed.node._replicas else None
    assert handed.stop()
    assert owed_at == 7.0


def test_a_node_that_is_succeeded_leaves_the_chores_to_the_other(tmp_path: Path) -> None:
    handed = Handed(tmp_path, owns_process=False)
    handed.run(2)
    handed.node.set_succeeded(yes=True)
    handed.clock.advance(1)
    upkeep, deletions = handed.node._upkeep, handed.node._deletions
    assert upkeep is not None
    assert deletions is not None
    assert not handed.node._expiry.running
    assert upkeep.scrubber._running is None
    assert not deletions._turns.running
    assert handed.stop()


def test_what_is_under_way_there_is_shared_from_then_on(tmp_path: Path) -> None:
    handed = Handed(tmp_path, owns_process=False)
    handed.run(2)
    handed.node.set_succeeded(yes=True)
    loader = handed.node._loader
    assert loader is not None
    assert loader._around.shared
    assert handed.stop()
