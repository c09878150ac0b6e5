"""The operator's command."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtfc.cli.main import main
from dtfc.store.blobs import open_store


def test_reindex_finds_what_the_catalog_does_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(str(tmp_path))
    intake = store.intake(None)
    intake.write([b"x"])
    digest = intake.commit("known.txt").info.digest
    store.close()
    for path in (tmp_path / ".dtfc").glob("catalog*"):
        if path.is_file():
            path.unlink()

    code = main(["reindex", "--basedir", str(tmp_path)])

    store = open_store(str(tmp_path))
    assert (code, [row.digest for row in store.catalog.by_name().rows]) == (0, [digest])
    assert "blobs 1" in capsys.readouterr().out
    store.close()


def test_no_store_is_an_error_and_makes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["reindex", "--basedir", str(tmp_path / "none")])

    assert (code, (tmp_path / "none").exists()) == (1, False)
    assert "there is no store" in capsys.readouterr().err


def test_a_bad_configuration_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "dtfc.toml"
    config.write_text("port = 'x'\n")

    code = main(["reindex", "--config", str(config)])

    assert code == 2
    assert "dtfc.toml" in capsys.readouterr().err


def test_without_a_command_it_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])

    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err
