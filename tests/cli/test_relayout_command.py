"""``dtfc relayout``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dtfc.cli.main import main
from dtfc.store.blobs import open_store


@pytest.fixture
def base(tmp_path: Path) -> Path:
    store = open_store(str(tmp_path), fan_out=64)
    intake = store.intake(1)
    intake.write([b"x"])
    intake.commit("x.txt")
    store.close()
    return tmp_path


def test_it_says_what_it_did(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["relayout", "--fan-out", "2", "--basedir", str(base)])

    assert code == 0
    assert capsys.readouterr().out == (f"{base} has fan-out 2: blobs moved 1, folders removed 61\n")


def test_or_says_so_in_json(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["relayout", "--fan-out", "2", "--basedir", str(base), "--json"])

    told = json.loads(capsys.readouterr().out)
    assert told == {"fan_out": 2, "moved": 1, "removed": 61, "left": []}


def test_a_store_in_use_is_refused(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(str(base))
    code = main(["relayout", "--fan-out", "2", "--basedir", str(base)])
    store.close()

    assert code == 1
    assert "is in use by another process of this node" in capsys.readouterr().err


def test_what_is_left_is_an_error(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (second,) = base.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]")
    (folder,) = second.iterdir()
    (folder / "notes").write_text("mine")

    code = main(["relayout", "--fan-out", "2", "--basedir", str(base)])

    assert code == 1
    assert f"{folder.relative_to(base)} holds something" in capsys.readouterr().err


def test_it_wants_to_know_which_form(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["relayout"])

    assert ended.value.code == 2
    assert "--fan-out" in capsys.readouterr().err
