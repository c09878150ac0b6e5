"""What is remembered of uploads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dtfc.client.uploadstates import UploadStates, default_states

NODE = "http://files.example"
KEY = "/home/ada/film.mp4\x005\x0017"


@pytest.fixture
def states(tmp_path: Path) -> UploadStates:
    made = UploadStates(str(tmp_path / "states"))
    made.keep(NODE, KEY, "film.mp4", "/uploads/abc")
    return made


def test_an_upload_is_found_again(states: UploadStates) -> None:
    assert states.find(NODE, KEY, "film.mp4") == "/uploads/abc"


@pytest.mark.parametrize(
    ("node", "key", "name"),
    [
        ("http://other.example", KEY, "film.mp4"),
        (NODE, f"{KEY}8", "film.mp4"),
        (NODE, KEY, "another"),
        (NODE, KEY, None),
    ],
)
def test_by_node_bytes_and_name(
    states: UploadStates, node: str, key: str, name: str | None
) -> None:
    assert states.find(node, key, name) is None


def test_it_is_forgotten(states: UploadStates) -> None:
    states.forget(NODE, KEY, "film.mp4")
    states.forget(NODE, KEY, "film.mp4")

    assert states.find(NODE, KEY, "film.mp4") is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"node": 5}', b"x" * 100_000])
def test_nonsense_is_nothing_remembered(states: UploadStates, content: bytes) -> None:
    (state,) = Path(states.folder).iterdir()
    state.write_bytes(content)

    assert states.find(NODE, KEY, "film.mp4") is None


def test_nobody_else_may_read_it(states: UploadStates) -> None:
    (state,) = Path(states.folder).iterdir()

    assert (state.stat().st_mode & 0o777, os.stat(states.folder).st_mode & 0o777) == (0o600, 0o700)


def test_after_a_month_it_is_forgotten(states: UploadStates) -> None:
    (state,) = Path(states.folder).iterdir()
    now = state.stat().st_mtime

    states.sweep(now + 29 * 86400)
    before = states.find(NODE, KEY, "film.mp4")
    states.sweep(now + 31 * 86400)

    assert (before, states.find(NODE, KEY, "film.mp4")) == ("/uploads/abc", None)


def test_where_nothing_can_be_written_an_upload_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    states = UploadStates(str(tmp_path / "file" / "states"))

    states.keep(NODE, KEY, None, "/uploads/abc")

    assert states.find(NODE, KEY, None) is None


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/dtfc/uploads"),
        ({"HOME": "/h"}, "/h/.local/state/dtfc/uploads"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/dtfc/uploads"),
    ],
)
def test_where_they_lie(environment: dict[str, str], folder: str) -> None:
    assert default_states(environment) == folder
