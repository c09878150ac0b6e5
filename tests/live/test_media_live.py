"""What ffprobe says of real files, through a real node."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.live import LiveNode
from tests.support.programs import require_program

NewNode = Callable[..., LiveNode]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A second of a film, turned on its side, with a title."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    subprocess.run(
        [
            *(require_program("ffmpeg"), "-loglevel", "error", "-f", "lavfi"),
            *("-i", "testsrc=size=64x48:rate=5:duration=1", "-f", "lavfi", "-i", "sine=duration=1"),
            *("-metadata", "title=Fjäll", str(path)),
        ],
        check=True,
        timeout=60,
    )
    return path.read_bytes()


def ask(node: LiveNode, digest: str, method: str = "GET", **fields: str) -> tuple[int, Any]:
    status, _, body = node.request(method, f"/{digest}/ffmetadata", **fields)
    return status, json.loads(body) if body else None


def test_a_film(live: NewNode, film: bytes) -> None:
    require_program("ffprobe")
    node = live()
    digest = node.put("film.mkv", film)
    status, said = ask(node, digest)
    assert status == 200
    assert said["sha512"] == digest
    assert said["format"]["format_name"] == "matroska,webm"
    assert said["format"]["duration"] == pytest.approx(1.0, abs=0.1)
    assert said["format"]["tags"]["title"] == "Fjäll"
    assert [each["codec_type"] for each in said["streams"]] == ["video", "audio"]
    assert (said["streams"][0]["width"], said["streams"][0]["height"]) == (64, 48)
    assert "/" not in json.dumps(list(said["format"]["tags"].values()))
    status, fields, body = node.request("HEAD", f"/{digest}/ffmetadata")
    assert (status, body) == (200, b"")
    assert int(fields["content-length"]) > 100
    assert node.request("OPTIONS", f"/{digest}/ffmetadata")[1]["allow"] == "GET, HEAD, OPTIONS, PUT"


def test_a_film_of_a_peer_is_loaded_first(live: NewNode, film: bytes, tmp_path: Path) -> None:
    require_program("ffprobe")
    first = live()
    digest = first.put("film.mkv", film)
    peers = tmp_path / "peers"
    peers.write_text(f"{first.url}\n")
    second = live("--peerlist", str(peers))
    assert ask(second, digest)[0] == 200
    assert second.request("HEAD", f"/{digest}/nopeerload")[0] == 200


def test_what_has_none(live: NewNode) -> None:
    require_program("ffprobe")
    node = live()
    text = node.put("a.txt", b"just some text")
    assert ask(node, text)[0] == 404
    assert ask(node, node.put("empty", b""))[0] == 404
    assert ask(node, "0" * 128)[0] == 404
    node.request("DELETE", f"/{text}")
    status, said = ask(node, text)
    assert (status, said["deleted"]) == (404, True)


def test_it_is_read_by_whoever_may_read_the_blob(live: NewNode, film: bytes) -> None:
    node = live("--private", "--trusted-proxies", "127.0.0.0/8")
    digest = node.put("film.mkv", film)
    assert ask(node, digest, X_Forwarded_For="203.0.113.9")[0] == 403


@pytest.mark.parametrize("program", ["none", "/nowhere/ffprobe"])
def test_without_the_program(live: NewNode, program: str) -> None:
    node = live("--ffprobe", program)
    status, said = ask(node, node.put("a", b"a"))
    assert status == 501
    assert "--ffprobe" in said["detail"]
