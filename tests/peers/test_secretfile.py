"""The secret file on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dtfc.errors import BadSetting
from dtfc.peers.secretfile import LARGEST_FILE, read_secrets

SECRET = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "secret"
    made.write_bytes(SECRET + b"\n")
    made.chmod(0o600)
    return made


def test_no_file() -> None:
    assert read_secrets(None) is None


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_file_for_the_node_alone(file: Path, mode: int) -> None:
    file.chmod(mode)

    found = read_secrets(str(file))

    assert found is not None
    assert found.keys == (SECRET,)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o660, 0o777])
def test_a_file_that_others_may_read_or_change(file: Path, mode: int) -> None:
    file.chmod(mode)

    with pytest.raises(BadSetting, match=f"mode {mode:04o}") as caught:
        read_secrets(str(file))

    assert caught.value.where == "peer-secret-file"


def test_a_short_secret(file: Path) -> None:
    file.write_bytes(b"hunter2")

    with pytest.raises(BadSetting, match="line 1: a secret has at least 32"):
        read_secrets(str(file))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="No such file"):
        read_secrets(str(tmp_path / "none"))


def test_a_folder_and_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)

    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(BadSetting, match=r"not a regular file|Is a directory"):
            read_secrets(str(path))


def test_some_other_file(file: Path) -> None:
    file.write_bytes(b"x" * (LARGEST_FILE + 1))

    with pytest.raises(BadSetting, match="larger than 65536"):
        read_secrets(str(file))
