"""``dtfc verify`` and ``dtfc scrub``, as an operator sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtfc.cli.main import main
from dtfc.digest import Digest
from dtfc.integrity.scrubbing import Scrub
from dtfc.store.blobs import open_store


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Make a store with one blob that is sound and one that is damaged."""
    store = open_store(str(tmp_path / "store"), fan_out=2)
    for data in (b"sound", b"damaged"):
        intake = store.intake(None)
        intake.write([data])
        intake.commit(None)
    store.close()
    path = data_file(tmp_path / "store", b"damaged")
    path.chmod(0o644)
    path.write_bytes(b"damageD")
    path.chmod(0o444)
    return tmp_path / "store"


def data_file(base: Path, data: bytes) -> Path:
    name = Digest.of(data).hex
    return base / name[:2] / name[2:4] / name[4:] / "data"


def test_verify_names_what_is_damaged_and_leaves_it(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["verify", "--basedir", str(base)])
    said = capsys.readouterr().out
    assert code == 1
    assert f"corrupt: {Digest.of(b'damaged').hex}" in said
    assert "2 blobs, 12 B read; damaged or missing: 1; other findings: 0" in said
    assert data_file(base, b"damaged").exists()


def test_verify_of_one_that_is_sound_succeeds(base: Path) -> None:
    assert main(["verify", "--basedir", str(base), Digest.of(b"sound").hex]) == 0


def test_verify_of_one_that_is_not_here_says_so(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = Digest.of(b"absent").hex
    assert main(["verify", "--basedir", str(base), absent]) == 1
    assert f"missing: {absent}" in capsys.readouterr().out


def test_verify_of_nonsense_is_a_usage_error(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--basedir", str(base), "photo.jpg"]) == 2
    assert "photo.jpg" in capsys.readouterr().err


def test_verify_for_scripts(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["verify", "--basedir", str(base), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "blobs": 2,
        "bytes": 12,
        "findings": [{"kind": "corrupt", "where": Digest.of(b"damaged").hex}],
    }


def test_scrub_now_puts_the_damaged_blob_into_quarantine(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scrub", "--now", "--basedir", str(base)]) == 1
    assert not data_file(base, b"damaged").exists()
    assert len(os.listdir(base / ".dtfc" / "quarantine")) == 1
    capsys.readouterr()
    assert main(["scrub", "--now", "--basedir", str(base)]) == 0
    assert "damaged or missing: 0" in capsys.readouterr().out


def test_scrub_without_now_says_how_far_it_is(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scrub", "--basedir", str(base)]) == 0
    assert capsys.readouterr().out == "no pass has begun\nin quarantine: 0\n"


def test_scrub_for_scripts(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["scrub", "--basedir", str(base), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["under_way"], told["of_blobs"], told["quarantine"]) == (False, 2, 0)


def test_scrub_now_leaves_alone_what_was_put_right_meanwhile(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = data_file(base, b"damaged")
    real = Scrub.steps

    def steps(self: Scrub) -> Iterator[int]:
        for count in real(self):
            if self.findings and path.read_bytes() != b"damaged":
                # Before what was found is told, a node renames right bytes over it.
                healed = path.with_name("healed")
                healed.write_bytes(b"damaged")
                healed.rename(path)
            yield count

    monkeypatch.setattr(Scrub, "steps", steps)
    assert main(["scrub", "--now", "--basedir", str(base)]) == 1
    assert path.read_bytes() == b"damaged"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_leaves_nothing_of_its_own_in_a_store(tmp_path: Path, base: Path) -> None:
    for folder in (tmp_path, tmp_path.parent):
        folder.chmod(0o755)
    for path in (base, *base.rglob("*")):
        os.chown(path, 65534, 65534)
    command = [sys.executable, "-m", "dtfc.cli.main", "scrub", "--now", "--basedir", str(base)]
    subprocess.run(command, check=False, capture_output=True)
    assert {path.stat().st_uid for path in base.rglob("*")} == {65534}
