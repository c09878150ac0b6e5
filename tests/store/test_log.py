"""The log of small blobs: what is whole is read, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.store.log import BLOCK, Log, Record, read

SIZE = 16 * BLOCK
bodies = st.binary(max_size=6000)
names = st.none() | st.text(st.characters(codec="utf-8"), max_size=40)
records = st.builds(lambda body, name: Record(Digest.of(body), name, body), body=bodies, name=names)


def written(path: Path, groups: list[list[Record]]) -> Path:
    log = Log(str(path), SIZE)
    for group in groups:
        assert log.fits(group)
        log.append(group)
    log.close()
    return path


def record(number: int, length: int = 3000) -> Record:
    body = bytes([number]) * length
    return Record(Digest.of(body), f"name-{number}", body)


GROUPS = [[record(1), record(2)], [record(3, 0)], [record(4), record(5, 5000), record(6, 1)]]
ALL = [each for group in GROUPS for each in group]


@given(st.lists(st.lists(records, min_size=1, max_size=2), max_size=3))
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[Record]]
) -> None:
    path = written(tmp_path_factory.mktemp("log") / "log-0", groups)
    assert read(str(path)) == ([each for group in groups for each in group], False)


def test_the_name_of_none_is_not_the_empty_name(tmp_path: Path) -> None:
    nameless = Record(Digest.of(b"x"), None, b"x")
    assert read(str(written(tmp_path / "log-0", [[nameless]])))[0] == [nameless]


def test_a_log_cut_anywhere_holds_a_prefix(tmp_path: Path) -> None:
    whole = written(tmp_path / "log-0", GROUPS).read_bytes()
    torn = tmp_path / "torn"
    seen = set()
    for end in range(0, len(whole), 97):
        torn.write_bytes(whole[:end])
        found = read(str(torn))[0]
        assert found == ALL[: len(found)]
        seen.add(len(found))
    assert seen == set(range(len(ALL) + 1))


@pytest.mark.parametrize("block", range(1, 7))
def test_a_block_that_was_not_written_takes_no_earlier_group_with_it(
    tmp_path: Path, block: int
) -> None:
    path = written(tmp_path / "log-0", GROUPS)
    content = bytearray(path.read_bytes())
    content[block * BLOCK : (block + 1) * BLOCK] = bytes(BLOCK)
    path.write_bytes(content)
    found = read(str(path))[0]
    assert found == ALL[: len(found)]
    blocks_of_groups = (2, 1, 3)
    whole_groups = 0
    while sum(blocks_of_groups[: whole_groups + 1]) < block:
        whole_groups += 1
    assert len(found) >= sum(len(group) for group in GROUPS[:whole_groups])


def test_a_flipped_bit_ends_the_log(tmp_path: Path) -> None:
    path = written(tmp_path / "log-0", GROUPS)
    content = bytearray(path.read_bytes())
    for at in (BLOCK, BLOCK + 5, BLOCK + 30, BLOCK + 96, BLOCK + 1000):
        damaged = bytearray(content)
        damaged[at] ^= 4
        path.write_bytes(damaged)
        assert read(str(path))[0] == []


def test_a_damaged_header_is_no_log(tmp_path: Path) -> None:
    path = written(tmp_path / "log-0", GROUPS)
    content = bytearray(path.read_bytes())
    content[14] ^= 1
    path.write_bytes(content)
    assert read(str(path)) == ([], False)


def test_a_new_cycle_forgets_the_old_one(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log-0"), SIZE)
    log.append(GROUPS[0])
    log.begin()
    assert log.empty
    assert read(str(tmp_path / "log-0"))[0] == []
    log.append([record(9)])
    # What the old cycle wrote behind it is not taken for the new one's.
    assert read(str(tmp_path / "log-0"))[0] == [record(9)]
    log.close()


def test_what_a_failed_append_left_can_be_cut(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log-0"), SIZE)
    log.append(GROUPS[0])
    end = log._end
    log.append(GROUPS[1])
    log._end = end
    log.cut()
    log.close()
    assert read(str(tmp_path / "log-0"))[0] == GROUPS[0]


def test_distrust_is_remembered(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log-0"), SIZE)
    log.append(GROUPS[0])
    log.distrust()
    log.close()
    assert read(str(tmp_path / "log-0")) == (GROUPS[0], True)


def test_a_group_that_does_not_fit_is_said_not_to(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log-0"), SIZE)
    group = [record(1, 4000)]
    while log.fits(group):
        log.append(group)
    assert os.path.getsize(tmp_path / "log-0") == SIZE
    log.close()
