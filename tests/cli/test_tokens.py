"""``dtfc token new``: what it prints is good for what was asked for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dtfc.access.tokens import Target, parse_tokens
from dtfc.access.verbs import Verb
from dtfc.cli.main import main
from dtfc.errors import BadToken


def test_the_token_and_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "new", "camera", "put", "--names", "photo-"]) == 0
    printed = capsys.readouterr()
    brought = printed.out.strip()
    assert brought not in printed.err
    tokens, bad = parse_tokens(printed.err.splitlines()[-1])
    assert not bad
    found = tokens.find(f"Bearer {brought}", time.time())
    assert found is not None
    assert found.name == "camera"
    assert found.check(Verb.PUT, Target(None, "photo-1")) is None


def test_the_line_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tokens"
    file.write_text("# mine\n")
    for name in ("a", "b"):
        assert main(["token", "new", name, "--append", str(file)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    tokens, bad = parse_tokens(file.read_text())
    assert (len(tokens), bad) == (2, [])
    for brought in printed.out.split():
        assert brought.startswith("dtfc_")
        assert brought not in file.read_text()
        assert tokens.find(f"Bearer {brought}", 0.0) is not None


def test_it_expires(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "new", "a", "get", "--expires", "2h"]) == 0
    printed = capsys.readouterr()
    tokens, _ = parse_tokens(printed.err.splitlines()[-1])
    credentials = f"Bearer {printed.out.strip()}"
    assert tokens.find(credentials, time.time() + 7100) is not None
    with pytest.raises(BadToken):
        tokens.find(credentials, time.time() + 7300)


@pytest.mark.parametrize(
    "words",
    [["a:b"], ["a", "post"], ["a", "get", "--digests", "x"], ["a", "get", "--expires", "soon"]],
)
def test_what_makes_no_sense(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "new", *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("dtfc: ")


def test_a_file_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "new", "a", "--append", str(tmp_path)]) == 1
    assert capsys.readouterr().out == ""
