"""The programs that people use: curl, wget, aria2."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.live import MIB, LiveNode, sha512_of
from tests.support.programs import require_program

CONTENT = random.Random(1).randbytes(8 * MIB + 321)


@pytest.fixture
def node(live: Callable[..., LiveNode]) -> LiveNode:
    return live()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(CONTENT)
    return path


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_curl_stores_and_fetches(node: LiveNode, photo: Path, tmp_path: Path) -> None:
    curl = require_program("curl")
    stored = json.loads(run(curl, "-sT", str(photo), f"{node.url}/photo.jpg", cwd=tmp_path))

    run(curl, "-so", "back", f"{node.url}/{stored['sha512']}", cwd=tmp_path)

    assert stored == {
        "sha512": sha512_of(photo),
        "filename": "photo.jpg",
        "length": len(CONTENT),
        "content_type": "image/jpeg",
        "stub": True,
    }
    assert sha512_of(tmp_path / "back") == stored["sha512"]


def test_curl_takes_the_stored_name(node: LiveNode, tmp_path: Path) -> None:
    curl = require_program("curl")
    digest = node.put("caf%C3%A9.txt", b"hello")

    run(curl, "-sOJ", f"{node.url}/{digest}", cwd=tmp_path)

    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    # curl 7.88 reads filename, not filename*: the fallback in ASCII
    assert names == {"cafe.txt"}


def test_curl_range(node: LiveNode, tmp_path: Path) -> None:
    curl = require_program("curl")
    digest = node.put("x", CONTENT)

    run(curl, "-sr", "1000-1999", "-o", "part", f"{node.url}/{digest}", cwd=tmp_path)

    assert (tmp_path / "part").read_bytes() == CONTENT[1000:2000]


def test_curl_resumes(node: LiveNode, tmp_path: Path) -> None:
    curl = require_program("curl")
    digest = node.put("x", CONTENT)
    (tmp_path / "part").write_bytes(CONTENT[:3_000_000])

    log = run(
        *(curl, "-sC", "-", "-o", "part", "-w", "%{size_download}", f"{node.url}/{digest}"),
        cwd=tmp_path,
    )

    assert (tmp_path / "part").read_bytes() == CONTENT
    assert int(log) == len(CONTENT) - 3_000_000


def test_curl_sends_a_form(node: LiveNode, photo: Path, tmp_path: Path) -> None:
    curl = require_program("curl")

    answer = run(
        *(curl, "-s", "-F", f"a=@{photo}", "-F", "note=hi", "-F", f"b=@{photo};filename=b.png"),
        f"{node.url}/",
        cwd=tmp_path,
    )

    assert [(each["filename"], each["sha512"]) for each in json.loads(answer)] == [
        ("photo.jpg", sha512_of(photo)),
        ("b.png", sha512_of(photo)),
    ]


def test_curl_sends_a_pipe_in_chunks(node: LiveNode) -> None:
    curl = require_program("curl")

    done = subprocess.run(
        [curl, "-sT", "-", f"{node.url}/piped"], input=CONTENT, capture_output=True, check=True
    )

    assert json.loads(done.stdout)["length"] == len(CONTENT)


def test_curl_hears_a_refusal_before_it_sends(node: LiveNode, photo: Path, tmp_path: Path) -> None:
    curl = require_program("curl")

    answer = run(
        *(curl, "-sT", str(photo), "-w", "\n%{http_code} %{size_upload}"),
        *("-H", "Expect: 100-continue", "-H", "Content-Encoding: gzip", f"{node.url}/x"),
        cwd=tmp_path,
    )

    assert answer.splitlines()[-1] == "415 0"


def test_wget_resumes(node: LiveNode, tmp_path: Path) -> None:
    wget = require_program("wget")
    digest = node.put("x", CONTENT)
    (tmp_path / digest).write_bytes(CONTENT[:2_000_001])

    run(wget, "-qc", f"{node.url}/{digest}", cwd=tmp_path)

    assert (tmp_path / digest).read_bytes() == CONTENT


def test_aria2_with_four_connections_cut_and_resumed(node: LiveNode, tmp_path: Path) -> None:
    aria2c = require_program("aria2c")
    digest = node.put("x", CONTENT)
    command = [aria2c, "-q", "-x4", "-s4", "-k1M", "-c", "--auto-save-interval=1"]
    out = ["-o", "file", f"{node.url}/{digest}"]
    first = subprocess.Popen([*command, "--max-overall-download-limit=2M", *out], cwd=tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(timeout=1.5)
    first.kill()
    first.wait()
    assert (tmp_path / "file").exists()

    run(*command, *out, cwd=tmp_path)

    assert sha512_of(tmp_path / "file") == digest
