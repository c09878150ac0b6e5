"""``dtfc sign``: what it prints may be used as was asked for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dtfc.access.links import check_link
from dtfc.access.verbs import Verb
from dtfc.cli.main import main

KEY = b"0123456789abcdef0123456789abcdef"
DIGEST = "ab" * 64


@pytest.fixture
def secret(tmp_path: Path) -> str:
    made = tmp_path / "secret"
    made.write_bytes(KEY)
    made.chmod(0o600)
    return str(made)


def test_a_blob_for_an_hour(secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["get", DIGEST.upper(), "--name", "a photo.jpg", "--base", "http://files.example/"]
    assert main(["sign", *words, "--secret-file", secret]) == 0
    url = capsys.readouterr().out.strip()
    assert url.startswith(f"http://files.example/{DIGEST}?name=a%20photo.jpg&expires=")
    target = url.removeprefix("http://files.example")
    assert check_link([KEY], Verb.GET, target, None, time.time() + 3590)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("photo 1.jpg", "/photo%201.jpg"),
        (DIGEST, f"/{DIGEST}"),
        (f"{DIGEST}/a b", f"/{DIGEST}/a%20b"),
    ],
)
def test_an_upload(secret: str, capsys: pytest.CaptureFixture[str], target: str, path: str) -> None:
    more = ["--network", "192.0.2.0/24", "--expires", "10m"]
    assert main(["sign", "PUT", target, "--secret-file", secret, *more]) == 0
    url = capsys.readouterr().out.strip()
    assert url.startswith(f"{path}?expires=")
    assert check_link([KEY], Verb.PUT, url, "192.0.2.9", time.time())


@pytest.mark.parametrize(
    "words",
    [
        ["post", DIGEST],
        ["get", "photo.jpg"],
        ["get", f"{DIGEST}/name"],
        ["put", ".."],
        ["get", DIGEST, "--expires", "soon"],
        ["get", DIGEST, "--network", "x"],
        ["get", DIGEST, "--name", "a/b"],
    ],
)
def test_what_makes_no_sense(
    secret: str, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(["sign", *words, "--secret-file", secret]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("dtfc: ")


def test_a_secret_that_others_may_read(secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(secret).chmod(0o644)
    assert main(["sign", "get", DIGEST, "--secret-file", secret]) == 2
    assert "mode 0644" in capsys.readouterr().err
