"""Completion of the command's words, in a real bash, and in what other shells are given."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from dtfc.cli.completion import SHELLS
from dtfc.cli.grammar import grammar
from dtfc.cli.main import main, make_parser
from tests.support.programs import require_program


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The file for bash, as the command prints it."""
    assert main(["completion", "bash"]) == 0
    path = tmp_path / "dtfc"
    path.write_text(capsys.readouterr().out)
    return path


def bash(script: Path, then: str) -> str:
    told = subprocess.run(
        [require_program("bash"), "--norc", "-c", f"source {shlex.quote(str(script))}; {then}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=script.parent,
    )
    assert told.stderr == ""
    return told.stdout


def offered(script: Path, *words: str) -> list[str]:
    """What bash would offer for the last of these words."""
    line = " ".join(shlex.quote(word) for word in words)
    then = (
        f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _dtfc; "
        'for each in "${COMPREPLY[@]}"; do echo "$each"; done'
    )
    return bash(script, then).split()


def test_bash_knows_it(script: Path) -> None:
    assert "-F _dtfc dtfc" in bash(script, "complete -p dtfc")


def test_commands(script: Path) -> None:
    commands = [each.words[-1] for each in grammar(make_parser()).commands]
    assert offered(script, "dtfc", "") == commands


def test_the_beginning_of_a_command(script: Path) -> None:
    assert offered(script, "dtfc", "ver") == ["verify"]


def test_a_command_below_another(script: Path) -> None:
    assert offered(script, "dtfc", "couchdb", "in") == ["init"]


def test_flags_of_a_command(script: Path) -> None:
    assert offered(script, "dtfc", "scrub", "--n") == ["--now"]


def test_flags_behind_a_flag_and_its_value(script: Path) -> None:
    assert offered(script, "dtfc", "verify", "--basedir", "scrub", "--js") == ["--json"]


def test_a_value_is_a_file(script: Path) -> None:
    assert offered(script, "dtfc", "verify", "--config", "") == []


def test_one_of_a_few_words(script: Path) -> None:
    assert offered(script, "dtfc", "completion", "z") == ["zsh"]


def test_nothing_is_run_that_help_says(script: Path) -> None:
    """Help has backquotes and dollars in it now and then."""
    assert "`" not in script.read_text()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_every_flag_is_in_what_other_shells_get(shell: str) -> None:
    command = grammar(make_parser())
    text = SHELLS[shell](command)
    flags = {name.lstrip("-") for c in command.all() for o in c.options for name in o.names}
    assert [flag for flag in sorted(flags) if flag not in text] == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_it(shell: str, tmp_path: Path) -> None:
    """With the shell itself where it is installed; else its quotes at least come in pairs."""
    path = tmp_path / "file"
    path.write_text(SHELLS[shell](grammar(make_parser())))
    program = shutil.which(shell)
    if program is None:
        assert all(line.count("'") % 2 == 0 for line in path.read_text().splitlines())
    else:
        subprocess.run([program, "-n", str(path)], check=True)
