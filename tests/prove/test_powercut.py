"""A slice of the power cuts, and faults put in on purpose, which must be found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from prove import powercut
from prove.disk import Disk, Tree
from prove.powercut import Job, run
from prove.record import Recorder
from prove.steps import ROOT, Cut, Entry, Node, Step, Write

LEAF = 124  # characters in the name of a blob's folder


def last(step: Step) -> str:
    return step.where.rpartition("/")[2]


FAULTS: dict[str, tuple[str, Callable[[Step], bool]]] = {
    "the folder of a blob is not synced": ("puts", lambda s: len(last(s)) == LEAF),
    "the folders above are not synced": ("puts", lambda s: len(last(s)) == 2),
    "the bytes are not synced": ("puts", lambda s: "/tmp/" in s.where),  # noqa: S108 - the store's
    "a tombstone is not synced": ("deletes", lambda s: len(last(s)) == LEAF),
    "a record is not synced": ("everywhere", lambda s: len(last(s)) == LEAF),
    "a partial is not synced": ("loads", lambda s: "/partial/" in s.where),
    "the bytes of an upload are not synced": (
        "uploads",
        lambda s: s.call == "fsync" and "/uploads/" in s.where and ".upload" not in s.where,
    ),
    "how far an upload is, is not synced": ("uploads", lambda s: ".upload" in s.where),
    "the log is not synced": ("groups", lambda s: s.call == "fdatasync"),
    "the tree is not synced before the log turns over": (
        "deleted groups",
        lambda s: s.call == "syncfs",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_sync_that_does_nothing_is_found(fault: str) -> None:
    workload, deaf = FAULTS[fault]
    job = Job(workload, "two levels", 1, samples=2, points=100, recoveries=0, enough=1)
    assert run(job, deaf).counted > 0


def test_a_slice(seed: int) -> None:
    (row,) = powercut.prove(seed, 0.02)
    print(row.cases)
    assert row.violations == 0, "\n".join(row.examples)


def test_what_goes_past_the_recorder_is_noticed(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path), str(tmp_path / "store"))
    with recorder.installed():
        os.mkdir(tmp_path / "seen")
        assert recorder.differences() == []
        unseen = os.posix_spawnp("mkdir", ["mkdir", str(tmp_path / "unseen")], os.environ)
        os.waitpid(unseen, 0)
        with pytest.raises(AssertionError, match=r"missed something: .*unseen"):
            recorder.finish()


class TestDisk:
    """What the models say of a disk."""

    @pytest.fixture
    def disk(self) -> Disk:
        disk = Disk({ROOT: Node(folder=True, mode=0o700), 1: Node(folder=False, mode=0o600)})
        disk.apply(Step("open", "file", (Entry(ROOT, "file", 1),)))
        disk.apply(Step("write", "file", (Write(1, 0, b"x" * 5000),)))
        return disk

    def seen(self, make: Callable[[Random], Tree]) -> set[bytes | None]:
        found: set[bytes | None] = set()
        for number in range(300):
            tree = make(Random(number))
            found.add(tree.files(1) if "file" in tree.entries[ROOT] else None)
        return found

    def test_nothing_synced(self, disk: Disk) -> None:
        for make in (disk.journal, lambda chance: disk.posix(chance, 0.5)):
            found = self.seen(make)
            assert {None, b"", b"x" * 5000, bytes(5000)} <= found
        assert b"x" * 4096 in self.seen(disk.journal)

    def test_a_synced_file_has_its_bytes_and_in_posix_no_name(self, disk: Disk) -> None:
        disk.apply(Step("fsync", "file", sync=1))
        assert self.seen(disk.journal) == {b"x" * 5000}
        assert self.seen(lambda chance: disk.posix(chance, 0.5)) == {None, b"x" * 5000}

    def test_a_synced_folder_has_its_names_and_no_bytes(self, disk: Disk) -> None:
        disk.apply(Step("fsync", ".", sync=ROOT))
        found = self.seen(lambda chance: disk.posix(chance, 0.5))
        assert None not in found
        assert len(found) > 3

    def test_everything_synced(self, disk: Disk) -> None:
        disk.apply(Step("syncfs", ".", everything=True))
        assert disk.pending() == []
        assert self.seen(disk.journal) == {b"x" * 5000}

    def test_a_rename_may_leave_both_names_of_a_file_in_posix_alone(self, disk: Disk) -> None:
        disk.apply(Step("syncfs", ".", everything=True))
        disk.apply(Step("rename", "new", (Entry(ROOT, "file", None), Entry(ROOT, "new", 1))))

        def names(make: Callable[[Random], Tree]) -> set[frozenset[str]]:
            return {frozenset(make(Random(n)).entries[ROOT]) for n in range(100)}

        old, new = frozenset({"file"}), frozenset({"new"})
        assert names(disk.journal) == {old, new}
        assert names(lambda chance: disk.posix(chance, 0.5)) == {old, new, old | new, frozenset()}

    def test_a_cut_comes_before_what_is_written_after_it(self, disk: Disk) -> None:
        disk.apply(Step("syncfs", ".", everything=True))
        disk.apply(Step("ftruncate", "file", (Cut(1, 0),)))
        disk.apply(Step("write", "file", (Write(1, 0, b"new"),)))
        assert disk.whole().files(1) == b"new"
        assert {b"x" * 5000, b"new"} <= self.seen(lambda chance: disk.posix(chance, 0.5))
