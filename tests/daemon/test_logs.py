"""The log file."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger, LogLevel, globalLogPublisher
from twisted.python.failure import Failure

from dtfc.daemon.logs import LoggedLines, Messages
from dtfc.logfile import ReopenableFile
from tests.conftest import LoggedFailures


@pytest.fixture
def log(tmp_path: Path) -> ReopenableFile:
    file = ReopenableFile(str(tmp_path / "log"))
    file.open()
    return file


def test_a_line_is_there_at_once(log: ReopenableFile) -> None:
    log.line("one")
    log.line("two")
    assert Path(log.path).read_text() == "one\ntwo\n"


def test_lines_are_added_to_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("old\n")
    log = ReopenableFile(str(tmp_path / "log"))
    log.open()
    log.line("new")
    assert (tmp_path / "log").read_text() == "old\nnew\n"


def test_a_new_file_is_not_for_everybody(log: ReopenableFile) -> None:
    assert stat.S_IMODE(os.stat(log.path).st_mode) & 0o007 == 0


def test_a_file_that_was_moved_away(log: ReopenableFile) -> None:
    log.line("old")
    os.rename(log.path, f"{log.path}.1")
    log.line("still old")
    log.reopen()
    log.line("new")
    assert Path(f"{log.path}.1").read_text() == "old\nstill old\n"
    assert Path(log.path).read_text() == "new\n"


def test_reopening_leaves_no_descriptor(log: ReopenableFile) -> None:
    before = len(os.listdir("/proc/self/fd"))
    log.reopen()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_old_file_goes_on_where_it_cannot_be_opened_again(log: ReopenableFile) -> None:
    moved = f"{log.path}.1"
    os.rename(log.path, moved)
    os.mkdir(log.path)
    log.reopen()
    log.line("kept")
    assert Path(moved).read_text() == "kept\n"


def test_a_line_that_cannot_be_written_is_counted() -> None:
    log = ReopenableFile("/dev/full")
    log.open()
    log.line("x")
    assert log.lost == 1


def test_a_closed_log_loses_lines_and_does_not_fail(log: ReopenableFile) -> None:
    log.close()
    log.close()
    log.line("x")
    assert log.lost == 1


def test_text_that_is_no_unicode(log: ReopenableFile) -> None:
    log.line("\udcff")
    assert Path(log.path).read_text() == "\\udcff\n"


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    log = ReopenableFile("-")
    log.open()
    log.line("x")
    log.close()
    assert capfd.readouterr().out == "x\n"


class Kept:
    """Keeps lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def said_of(event: dict[str, Any], *, as_json: bool) -> list[str]:
    kept = Kept()
    Messages(kept, as_json=as_json)(event)
    return kept.lines


EVENT = {
    "log_time": 1.5,
    "log_level": LogLevel.warn,
    "log_namespace": "dtfc.node",
    "log_format": "{what} is full",
    "what": "disk",
}


def test_a_message_as_twistd_writes_it() -> None:
    [line] = said_of(EVENT, as_json=False)
    assert line.endswith("[dtfc.node#warn] disk is full")


def test_a_message_as_json() -> None:
    [line] = said_of(EVENT, as_json=True)
    assert json.loads(line) == {
        "kind": "message",
        "at": 1.5,
        "level": "warn",
        "from": "dtfc.node",
        "message": "disk is full",
    }


def test_a_failure_as_json_is_one_line(logged_failures: LoggedFailures) -> None:
    kept = Kept()
    observer = Messages(kept, as_json=True)
    globalLogPublisher.addObserver(observer)
    Logger().failure("it broke", Failure(KeyError("x")))
    globalLogPublisher.removeObserver(observer)
    logged_failures.flush(KeyError)
    [line] = kept.lines
    assert "KeyError" in json.loads(line)["traceback"]


def test_access_lines_go_through_the_log_where_there_is_no_file() -> None:
    kept = Kept()
    observer = Messages(kept, as_json=False)
    globalLogPublisher.addObserver(observer)
    LoggedLines().line('"GET /{x} HTTP/1.1" 200')
    globalLogPublisher.removeObserver(observer)
    [line] = kept.lines
    assert line.endswith('[dtfc.access#info] "GET /{x} HTTP/1.1" 200')
