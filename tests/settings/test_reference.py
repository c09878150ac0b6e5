"""What is made of the table is what lies in the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dtfc.settings import TABLE, load
from dtfc.settings.__main__ import main
from dtfc.settings.reference import markdown, sample, spliced

CHECKOUT = Path(__file__).resolve().parents[2]


def test_the_sample_configuration_is_up_to_date() -> None:
    assert (CHECKOUT / "etc/dtfc.toml").read_text() == sample(), "make docs"


def test_the_operators_page_is_up_to_date() -> None:
    page = (CHECKOUT / "docs/running.md").read_text()
    assert page == spliced(page), "make docs"


def test_the_sample_says_nothing_until_it_is_edited(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(sample())
    environment = {"HOME": "/h"}
    given = load({"config": str(tmp_path / "x")}, environment, "/")
    assert given.where.keys() == {"config"}


def test_the_sample_with_every_line_in_force_is_every_default(tmp_path: Path) -> None:
    in_force = re.sub(r"^#(?=[a-z-]+ = )", "", sample(), flags=re.MULTILINE)
    (tmp_path / "x").write_text(in_force)
    environment = {"HOME": "/h"}
    flags = {"config": str(tmp_path / "x")}
    with_file = load(flags, environment, "/").settings
    plain = load({"config": None}, environment, "/").settings
    for each in TABLE:
        if each.name != "config":
            assert getattr(with_file, each.attribute) == getattr(plain, each.attribute), each.name


def test_each_setting_has_a_row() -> None:
    rows = [line for line in markdown().splitlines() if line.startswith("| `--")]
    assert len(rows) == len(TABLE)


def test_a_document_without_the_place_is_refused() -> None:
    with pytest.raises(ValueError, match="there are no lines"):
        spliced("# something else\n")


def test_updating_a_document_in_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- settings: made by make docs -->\nold\n<!-- settings: end -->\nb\n")
    assert main(["--update", str(page)]) == 0
    assert "| `--port PORT`" in page.read_text()


def test_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 2
    assert "usage:" in capsys.readouterr().err
