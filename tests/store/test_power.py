from __future__ import annotations

import os
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.store import power
from dtfc.store.blobs import open_store
from dtfc.store.power import Running


def looks(path: Path) -> tuple[Running, bool]:
    lost: list[bool] = []
    running = Running(str(path), lambda: lost.append(True))
    return running, bool(lost)


@pytest.fixture
def sign(tmp_path: Path) -> Path:
    return tmp_path / "running"


def test_first_opening_is_no_loss(sign: Path) -> None:
    running, lost = looks(sign)
    assert not lost
    assert sign.read_bytes() == power.boot_id()
    running.close()


def test_sign_goes_with_a_clean_close(sign: Path) -> None:
    looks(sign)[0].close()
    assert os.listdir(sign.parent) == []


def test_killed_process_is_no_loss_of_power(sign: Path) -> None:
    sign.write_bytes(power.boot_id() or b"")
    running, lost = looks(sign)
    assert not lost
    running.close()


@pytest.mark.parametrize("content", [b"", b"another boot\n"])
def test_sign_of_another_boot_is_a_loss_of_power(sign: Path, content: bytes) -> None:
    sign.write_bytes(content)
    running, lost = looks(sign)
    assert lost
    running.close()


def test_loss_is_told_once(sign: Path) -> None:
    sign.write_bytes(b"another boot\n")
    first, _ = looks(sign)
    second, lost = looks(sign)
    assert not lost
    first.close()
    second.close()


def test_sign_stays_while_another_process_is_there(sign: Path) -> None:
    first, _ = looks(sign)
    second, _ = looks(sign)
    first.close()
    assert sign.exists()
    second.close()
    assert not sign.exists()


def test_system_without_a_boot_id_excludes_nothing(
    sign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "_BOOT_ID", "/nowhere")
    running, lost = looks(sign)
    assert not lost
    os.close(running._fd)
    running, lost = looks(sign)
    assert lost
    running.close()


def test_store_that_lost_power_wants_a_reindex_until_it_has_one(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), fan_out=2, reserve=0)
    intake = store.intake(None)
    intake.commit("a")
    store.close()
    (tmp_path / ".dtfc" / "running").write_bytes(b"another boot\n")
    open_store(str(tmp_path), reserve=0).close()
    store = open_store(str(tmp_path), reserve=0)
    wanted = [store.needs_reindex]
    store.reindex()
    wanted.append(store.needs_reindex)
    assert wanted == [True, False]
    assert store.catalog.digests() == [Digest.of(b"")]
    store.close()
