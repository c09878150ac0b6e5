from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.errors import BrokenStore
from dtfc.store.layout import open_layout

DIGEST = Digest.of(b"one")


def write_format(base: Path, content: str) -> None:
    (base / ".dtfc").mkdir(parents=True)
    (base / ".dtfc" / "format").write_text(content)


def test_full_split_has_a_folder_for_every_two_characters(tmp_path: Path) -> None:
    layout = open_layout(str(tmp_path), 64)
    expected = [DIGEST.hex[at : at + 2] for at in range(0, 128, 2)]
    assert layout.data(DIGEST) == str(tmp_path.joinpath(*expected, "data"))


def test_two_levels_keep_the_rest_in_one_folder(tmp_path: Path) -> None:
    layout = open_layout(str(tmp_path), 2)
    text = DIGEST.hex
    assert layout.names(DIGEST) == f"{tmp_path}/{text[:2]}/{text[2:4]}/{text[4:]}/filename"


def test_marker_lies_beside_the_data(tmp_path: Path) -> None:
    layout = open_layout(str(tmp_path))
    assert layout.marker(DIGEST, 403) == layout.folder(DIGEST) + "/403"


def test_new_store_is_the_full_split(tmp_path: Path) -> None:
    assert open_layout(str(tmp_path / "new")).fan_out == 64


def test_form_and_node_are_remembered(tmp_path: Path) -> None:
    first = open_layout(str(tmp_path), 2)
    assert open_layout(str(tmp_path)) == first


def test_format_file_is_the_documented_json(tmp_path: Path) -> None:
    layout = open_layout(str(tmp_path), 2)
    facts = json.loads((tmp_path / ".dtfc" / "format").read_text())
    assert facts == {"version": 1, "fan_out": 2, "node": layout.node_id}


def test_own_folders_are_private(tmp_path: Path) -> None:
    open_layout(str(tmp_path))
    modes = {
        name: (tmp_path / ".dtfc" / name).stat().st_mode & 0o777
        for name in ("", "tmp", "partial", "uploads", "quarantine", "catalog")
    }
    assert set(modes.values()) == {0o700}


def test_nothing_but_the_format_is_left_of_its_making(tmp_path: Path) -> None:
    open_layout(str(tmp_path))
    assert [each.name for each in (tmp_path / ".dtfc").iterdir() if each.is_file()] == ["format"]


def test_another_fan_out_than_the_store_has_is_refused(tmp_path: Path) -> None:
    open_layout(str(tmp_path), 64)
    with pytest.raises(BrokenStore, match="this store has fan-out 64"):
        open_layout(str(tmp_path), 2)


def test_fan_out_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenStore, match="64 or 2, not 3"):
        open_layout(str(tmp_path), 3)


def test_tree_of_2015_is_the_full_split(tmp_path: Path) -> None:
    (tmp_path / "ab" / "cd" / "ef").mkdir(parents=True)
    assert open_layout(str(tmp_path)).fan_out == 64


def test_tree_of_2015_that_is_all_but_empty_is_the_full_split(tmp_path: Path) -> None:
    (tmp_path / "ab").mkdir()
    with pytest.raises(BrokenStore, match="fan-out 64, not 2"):
        open_layout(str(tmp_path), 2)


def test_two_levels_are_recognised_when_their_format_file_was_lost(tmp_path: Path) -> None:
    (tmp_path / "ab" / "cd" / ("e" * 124)).mkdir(parents=True)
    assert open_layout(str(tmp_path)).fan_out == 2


def test_other_folders_do_not_make_it_a_tree_of_2015(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    assert open_layout(str(tmp_path), 2).fan_out == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not JSON"),
        ("\x00\x00", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "which version"),
        ('{"version": true, "fan_out": 2, "node": "' + "a" * 32 + '"}', "which version"),
        ('{"version": 2, "fan_out": 2, "node": "' + "a" * 32 + '"}', "version 2"),
        ('{"version": 1, "fan_out": 3, "node": "' + "a" * 32 + '"}', "fan_out"),
        ('{"version": 1, "fan_out": 2, "node": "../x"}', "node id"),
        ('{"version": 1, "fan_out": 2}', "node id"),
    ],
)
def test_format_file_that_makes_no_sense(tmp_path: Path, content: str, reason: str) -> None:
    write_format(tmp_path, content)
    with pytest.raises(BrokenStore, match=reason):
        open_layout(str(tmp_path))


def test_file_in_the_place_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(BrokenStore, match="not a folder"):
        open_layout(str(tmp_path / "store"))


def test_link_in_the_place_of_an_own_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "store" / ".dtfc")
    with pytest.raises(BrokenStore, match="in the way"):
        open_layout(str(tmp_path / "store"))


def test_openers_at_the_same_time_agree(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(open_layout(str(tmp_path)).node_id))
        for _ in range(8)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 8
    assert len(set(found)) == 1
