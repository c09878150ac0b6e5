"""The file of tokens on the disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dtfc.errors import BadSettings
from dtfc.web.tokenfile import LARGEST_FILE, read_tokens

LINE = f"camera {hashlib.sha256(b'x').hexdigest()} put"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "tokens"
    made.write_text(f"{LINE}\n")
    made.chmod(0o644)
    return made


def reasons(path: Path | str) -> list[str]:
    with pytest.raises(BadSettings) as caught:
        read_tokens(str(path))
    return [str(each) for each in caught.value.problems]


def test_no_file() -> None:
    assert len(read_tokens(None)) == 0


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o444])
def test_everybody_may_read_it(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert len(read_tokens(str(file))) == 1


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o660, 0o777])
def test_nobody_else_may_have_written_it(file: Path, mode: int) -> None:
    file.chmod(mode)
    (told,) = reasons(file)
    assert f"others may change it (mode {mode:04o})" in told
    assert told.startswith("tokens: ")


def test_every_line_that_makes_no_sense_is_named(file: Path) -> None:
    file.write_text(f"{LINE}\nx\n{LINE}\n")
    assert [each.partition(": ")[0] for each in reasons(file)] == [f"{file}:2", f"{file}:3"]


def test_what_is_no_such_file(file: Path, tmp_path: Path) -> None:
    file.write_bytes(b"#" * (LARGEST_FILE + 1))
    assert "is larger than" in reasons(file)[0]
    assert "No such file" in reasons(tmp_path / "none")[0]
    assert "Is a directory" in reasons(tmp_path)[0]
