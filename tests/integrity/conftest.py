"""A store to damage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.store.blobs import Store, open_store


class Damageable:
    """A store, and ways to spoil it.

    Args:
        store: which.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def put(self, data: bytes, name: str | None = None) -> Digest:
        """Store a blob."""
        intake = self.store.intake(len(data))
        intake.write([data])
        return intake.commit(name).info.digest

    def folder(self, digest: Digest) -> Path:
        """Return the folder of a blob."""
        return Path(self.store.layout.basedir) / self.store.layout.relative(digest)

    def flip(self, digest: Digest, at: int = 0) -> None:
        """Change one bit."""
        path = self.folder(digest) / "data"
        path.chmod(0o644)
        with path.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))
        path.chmod(0o444)

    def content(self, digest: Digest) -> bytes:
        """Return what lies there."""
        with self.store.open(digest) as blob:
            return os.pread(blob.fd, blob.length + 1, 0)


@pytest.fixture
def spoilt(tmp_path: Path) -> Iterator[Damageable]:
    """Return a new store."""
    store = open_store(str(tmp_path / "store"), fan_out=2, reserve=0)
    yield Damageable(store)
    store.close()
