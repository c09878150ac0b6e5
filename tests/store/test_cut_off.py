"""What a crash cut off in the middle is brought to its end, or leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.errors import Absent
from dtfc.store.blobs import Store, open_store


class Cut(BaseException):
    """The process ends here."""


def stored(store: Store, data: bytes, name: str) -> Digest:
    intake = store.intake(len(data))
    intake.write([data])
    return intake.commit(name).info.digest


@pytest.mark.parametrize("nth", [1, 2])
def test_a_deletion_that_was_cut_off_is_finished_at_the_next_start(
    tmp_path: Path, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = str(tmp_path)
    store = open_store(base, fan_out=2, reserve=0)
    digest = stored(store, b"gone", "its name")
    folder = store.layout.folder(digest)
    real, seen = os.unlink, 0

    def unlink(path: str, *, dir_fd: int | None = None) -> None:
        nonlocal seen
        seen += path in ("data", "filename")
        if seen == nth:
            raise Cut
        real(path, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        with pytest.raises(Cut):
            store.delete(digest)
    assert len(os.listdir(folder)) > 1
    store.close()
    store = open_store(base, reserve=0)
    assert os.listdir(folder) == ["404"]
    with pytest.raises(Absent, match="was deleted"):
        store.stat(digest)
    assert [each.digest for each in store.catalog.tombstones()] == [digest]
    store.close()
