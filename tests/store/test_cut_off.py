"""What a crash cut off in the middle is brought to its end, or leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtfc.digest import Digest
from dtfc.errors import Absent
from dtfc.store import drafts
from dtfc.store.blobs import Store, open_store
from dtfc.store.facts import Stored
from dtfc.store.together import Small


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


@pytest.mark.parametrize("of", ["format", "running"])
def test_a_first_start_that_was_cut_off_leaves_no_draft(
    tmp_path: Path, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = str(tmp_path)
    real = os.link

    def link(src: str, dst: str, **kwargs: Any) -> None:
        if os.path.basename(dst) == of:
            raise Cut
        real(src, dst, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", link)
        patch.setattr(os, "unlink", lambda *_args, **_kwargs: None)
        with pytest.raises(Cut):
            open_store(base, fan_out=2, reserve=0)
    own = tmp_path / ".dtfc"
    assert list(own.glob(f"{of}.*"))
    store = open_store(base, reserve=0)
    assert not list(own.glob("*.*"))
    store.close()


def test_a_draft_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    base = str(tmp_path)
    open_store(base, fan_out=2, reserve=0).close()
    fd, draft = drafts.begin(str(tmp_path / ".dtfc" / "running"), 0o600)
    open_store(base, reserve=0).close()
    assert os.path.exists(draft)
    os.close(fd)
    open_store(base, reserve=0).close()
    assert not os.path.exists(draft)


class TestALogAndNames:
    """What a log says of a name, and what the folder says."""

    @pytest.fixture
    def dead(self, tmp_path: Path) -> tuple[str, Digest]:
        """A small blob that stands in the log of a process that is no more."""
        base = str(tmp_path)
        store = open_store(base, fan_out=2, reserve=0)
        together = store.together()
        (result,) = together.put([Small(b"small", "from the log")])
        assert isinstance(result, Stored)
        self.store = store
        return base, result.info.digest

    def names_after(self, base: str, digest: Digest) -> tuple[str, ...]:
        # Its lock goes with its process.
        copy = base + "-after"
        shutil.copytree(base, copy)
        store = open_store(copy, reserve=0)
        try:
            return store.stat(digest).names
        finally:
            store.close()

    @pytest.mark.parametrize("torn", [b"", b"from th", b"\0\0\0\0", b"from\0\0\0\0\n"])
    def test_a_torn_name_is_mended(self, dead: tuple[str, Digest], torn: bytes) -> None:
        base, digest = dead
        with open(self.store.layout.names(digest), "wb") as file:
            file.write(torn)
        assert self.names_after(base, digest) == ("from the log",)

    @pytest.mark.parametrize("name", ["another", None])
    def test_a_name_that_was_deleted_stays_away(
        self, dead: tuple[str, Digest], name: str | None
    ) -> None:
        base, digest = dead
        self.store.delete(digest)
        intake = self.store.intake(5)
        intake.write([b"small"])
        intake.commit(name)
        assert self.names_after(base, digest) == (() if name is None else (name,))

    def test_a_name_that_came_later_stays(self, dead: tuple[str, Digest]) -> None:
        base, digest = dead
        self.store.store_again(digest, "later")
        os.unlink(self.store.layout.data(digest))
        assert self.names_after(base, digest) == ("from the log", "later")


def test_a_sign_that_was_linked_and_kept_its_draft(tmp_path: Path) -> None:
    base = str(tmp_path)
    open_store(base, fan_out=2, reserve=0).close()
    fd, draft = drafts.begin(str(tmp_path / ".dtfc" / "running"), 0o600)
    os.close(fd)
    os.link(draft, tmp_path / ".dtfc" / "running")
    open_store(base, reserve=0).close()
    assert not os.path.exists(draft)


@pytest.mark.parametrize("nth", range(1, 9))
def test_a_replay_that_was_cut_off_keeps_names_that_came_later(
    tmp_path: Path, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = str(tmp_path / "store")
    store = open_store(base, fan_out=2, reserve=0)
    (result,) = store.together().put([Small(b"small", "from the log")])
    assert isinstance(result, Stored)
    store.store_again(result.info.digest, "later")
    os.unlink(store.layout.data(result.info.digest))
    copy = str(tmp_path / "copy")
    shutil.copytree(base, copy)
    seen = 0

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def call(*args: Any, **kwargs: Any) -> None:
            nonlocal seen
            seen += 1
            if seen == nth:
                raise Cut
            real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("rename", "fsync"):
            patch.setattr(os, name, counted(getattr(os, name)))
        with contextlib.suppress(Cut):
            open_store(copy, reserve=0).close()
    again = open_store(copy, reserve=0)
    assert again.stat(result.info.digest).names == ("from the log", "later")
    with again.open(result.info.digest) as blob:
        assert os.pread(blob.fd, 10, 0) == b"small"
    again.close()
