"""The chunk map over HTTP: what it says, when it is made, and what a damaged blob answers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dtfc.access.decisions import Policy
from dtfc.digest import Digest
from dtfc.store.chunkmap import CHUNK, map_size, read_map
from tests.web.test_blobs import DIGEST as HELLO_DIGEST
from tests.web.test_blobs import HELLO, Served

LARGE = os.urandom(2 * CHUNK + 77)
DIGEST = Digest.of(LARGE)


@pytest.fixture
def served(tmp_path: Path, new_wire: Callable[..., Any]) -> Iterator[Served]:
    """A node that holds a large blob, a small one and an empty one."""
    served = Served(tmp_path, new_wire)
    for content in (LARGE, HELLO, b""):
        served.ask("PUT", "/x", content)
    yield served
    served.store.close()


def map_path(served: Served) -> Path:
    return Path(served.store.layout.folder(DIGEST)) / "chunks"


def test_it_has_a_sha_256_for_each_mib(served: Served) -> None:
    answer = served.ask("GET", f"/{DIGEST}/chunks")

    found = read_map(answer.body, DIGEST, len(LARGE))
    assert answer.status == 200
    assert found is not None
    assert found.hash_of(1) == hashlib.sha256(LARGE[CHUNK : 2 * CHUNK]).digest()
    assert found.hash_of(2) == hashlib.sha256(LARGE[2 * CHUNK :]).digest()


def test_its_head(served: Served) -> None:
    answer = served.ask("GET", f"/{DIGEST}/chunks")

    assert answer.fields["etag"] == f'"{DIGEST}-chunks"'
    assert answer.fields["content-type"] == "application/vnd.dtfc.chunks"
    assert answer.fields["content-length"] == str(map_size(len(LARGE)))
    assert "immutable" in answer.fields["cache-control"]


def test_head_has_no_body(served: Served) -> None:
    answer = served.ask("HEAD", f"/{DIGEST}/chunks")

    assert (answer.status, answer.body) == (200, b"")
    assert answer.fields["content-length"] == str(map_size(len(LARGE)))


def test_not_modified(served: Served) -> None:
    answer = served.ask("GET", f"/{DIGEST}/chunks", If_None_Match=f'"{DIGEST}-chunks"')

    assert (answer.status, answer.body) == (304, b"")


def test_another_tag_is_412(served: Served) -> None:
    assert served.ask("GET", f"/{DIGEST}/chunks", If_Match='"x"').status == 412


def test_a_part_of_it(served: Served) -> None:
    answer = served.ask("GET", f"/{DIGEST}/chunks", Range="bytes=0-7")

    assert (answer.status, answer.body) == (206, b"dtfc-map")


def test_beyond_its_end_is_416(served: Served) -> None:
    assert served.ask("GET", f"/{DIGEST}/chunks", Range="bytes=5000-").status == 416


def test_a_blob_of_one_chunk_has_one_too(served: Served) -> None:
    answer = served.ask("GET", f"/{HELLO_DIGEST}/chunks")

    found = read_map(answer.body, HELLO_DIGEST, len(HELLO))
    assert found is not None
    assert found.hashes == hashlib.sha256(HELLO).digest()


def test_an_empty_blob_has_one_without_chunks(served: Served) -> None:
    digest = Digest.of(b"")

    found = read_map(served.ask("GET", f"/{digest}/chunks").body, digest, 0)

    assert found is not None
    assert found.hashes == b""


def test_one_that_is_missing_is_made(served: Served) -> None:
    before = map_path(served).read_bytes()
    map_path(served).unlink()

    answer = served.ask("GET", f"/{DIGEST}/chunks")

    assert answer.body == before
    assert map_path(served).read_bytes() == before


def test_one_that_is_damaged_is_made_again(served: Served) -> None:
    before = map_path(served).read_bytes()
    map_path(served).write_bytes(before[:-1] + b"!")

    assert served.ask("GET", f"/{DIGEST}/chunks").body == before


def damage(served: Served, digest: Digest) -> None:
    path = served.store.layout.data(digest)
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.write(b"?")


@pytest.mark.parametrize("digest", [DIGEST, HELLO_DIGEST], ids=["large", "small"])
def test_none_is_made_of_wrong_bytes(served: Served, digest: Digest) -> None:
    damage(served, digest)
    map_path(served).unlink()

    assert served.ask("GET", f"/{digest}/chunks").status == 503


def test_absent_is_404_and_nobody_is_asked(served: Served) -> None:
    answer = served.ask("GET", "/" + "ab" * 64 + "/chunks")

    assert answer.status == 404
    assert served.loader.asked == []


def test_a_marker_denies_it(served: Served) -> None:
    Path(served.store.layout.marker(DIGEST, 403)).touch()

    assert served.ask("GET", f"/{DIGEST}/chunks").status == 403


def test_a_deny_file_denies_it(served: Served, tmp_path: Path) -> None:
    served.gate.policy = Policy(str(tmp_path / "deny-"), served.gate.policy.anonymous)
    (tmp_path / "deny-get").touch()

    assert served.ask("GET", f"/{DIGEST}/chunks").status == 403
