"""``dtfc undelete``, as an operator sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtfc.cli.main import main
from dtfc.digest import Digest
from dtfc.store.blobs import Store, open_store

ONE, TWO = Digest.of(b"one"), Digest.of(b"two")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Make a store whose two blobs were collected."""
    store = open_store(str(tmp_path / "store"), fan_out=2)
    for data in (b"one", b"two"):
        intake = store.intake(None)
        intake.write([data])
        seen = store.collected.look(intake.commit(f"{data.decode()}.txt").info.digest)
        assert seen is not None
        store.collected.collect(seen)
    yield store
    store.close()


def run(store: Store, *arguments: str) -> int:
    return main(["undelete", "--basedir", store.layout.basedir, *arguments])


def test_it_lists_what_can_come_back(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(store) == 0
    said = capsys.readouterr().out.splitlines()
    assert sorted(said) == sorted(
        f"{each.hex} {3:>14} {name}.txt" for each, name in ((ONE, "one"), (TWO, "two"))
    )
    assert not store.holds(ONE)


def test_one_comes_back(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(store, ONE.hex, "--json") == 0
    facts = {"sha512": ONE.hex, "length": 3, "filename": "one.txt"}
    assert json.loads(capsys.readouterr().out) == facts
    assert (store.holds(ONE), store.holds(TWO)) == (True, False)


def test_all_come_back(store: Store) -> None:
    assert run(store, "--all") == 0
    assert (store.holds(ONE), store.holds(TWO)) == (True, True)


def test_what_is_not_there_is_told_and_the_others_come_back(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Digest.of(b"other").hex
    assert run(store, other, TWO.hex) == 1
    assert f"dtfc: {other}: it is not among the collected" in capsys.readouterr().err
    assert store.holds(TWO)


def test_what_was_deleted_since_is_not_there(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.delete(ONE)
    assert run(store, ONE.hex) == 1
    assert ONE.hex in capsys.readouterr().err
    assert not store.holds(ONE)


def test_no_digest_is_no_digest(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(store, "xyz") == 2
    assert "xyz" in capsys.readouterr().err
    assert not store.holds(ONE)
