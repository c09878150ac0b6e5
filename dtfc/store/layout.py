"""Where a blob lies: the folders of a digest, and the file that remembers their form.

Two forms exist. The full split, which the 2015 program made, has a folder for
every two characters of the digest, 64 in all. ``fan_out`` 2 has two of those
and one folder for the remaining 124 characters, which costs far fewer inodes
and fsyncs. ``.dtfc/format`` says which one a store has; a tree without that
file is recognised by its folders and taken over as it is.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
from dataclasses import dataclass
from typing import Literal

from dtfc.digest import HEX_LENGTH, Digest
from dtfc.errors import BrokenStore, StoreFailure
from dtfc.store import drafts, durable

VERSION = 1
CONVERTING = 2
"""The version of the format of a store that is being given another form."""
FULL_SPLIT = 64
TWO_LEVELS = 2
OWN = ".dtfc"

_SHARD = re.compile(r"[0-9a-f]{2}\Z")
_REST = re.compile(r"[0-9a-f]{124}\Z")
_NODE = re.compile(r"[0-9a-f]{32}\Z")
_OWN_FOLDERS = ("tmp", "partial", "uploads", "quarantine", "collected", "catalog", "log")
_FORMAT_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """The form of one store.

    Args:
        basedir: the absolute path of the store.
        fan_out: 64 or 2, the number of folder levels of two characters.
        node_id: 32 hexadecimal digits that name this node for ever.
    """

    basedir: str
    fan_out: int
    node_id: str

    def levels(self, digest: Digest) -> list[str]:
        """Return the names of the folders that lead to a blob, outermost first."""
        text = digest.hex
        shards = [text[at : at + 2] for at in range(0, 2 * self.fan_out, 2)]
        if self.fan_out == FULL_SPLIT:
            return shards
        return [*shards, text[2 * self.fan_out :]]

    def relative(self, digest: Digest) -> str:
        """Return the blob's folder as a path that starts at the store."""
        return "/".join(self.levels(digest))

    def folder(self, digest: Digest) -> str:
        """Return the absolute path of the blob's folder."""
        return f"{self.basedir}/{self.relative(digest)}"

    def data(self, digest: Digest) -> str:
        """Return the absolute path of the blob's bytes."""
        return f"{self.folder(digest)}/data"

    def names(self, digest: Digest) -> str:
        """Return the absolute path of the file with the blob's names."""
        return f"{self.folder(digest)}/filename"

    def marker(self, digest: Digest, status: Literal[403, 404]) -> str:
        """Return the absolute path of the marker that would deny the blob."""
        return f"{self.folder(digest)}/{status}"

    def own(self, name: str) -> str:
        """Return the absolute path of something of the store's own, such as ``tmp``."""
        return f"{self.basedir}/{OWN}/{name}"


@dataclass(frozen=True, slots=True)
class Form:
    """What the format file says.

    Args:
        fan_out: 64 or 2.
        node_id: as in :class:`Layout`.
        becomes: the fan-out that the store is being given; None if it stays as it is.
    """

    fan_out: int
    node_id: str
    becomes: int | None = None

    def in_words(self) -> bytes:
        """Compose the file."""
        facts = {"version": VERSION, "fan_out": self.fan_out, "node": self.node_id}
        if self.becomes is not None:
            facts |= {"version": CONVERTING, "becomes": self.becomes}
        return json.dumps(facts).encode("ascii") + b"\n"


def is_shard(name: str) -> bool:
    """Tell whether a folder's name is two lower-case hexadecimal digits."""
    return _SHARD.match(name) is not None


def is_rest(name: str) -> bool:
    """Tell whether a folder's name is the remaining 124 digits of a digest."""
    return _REST.match(name) is not None


def open_layout(basedir: str, fan_out: int | None = None) -> Layout:
    """Find out the form of the store at ``basedir``; make one if there is none.

    Args:
        basedir: the store; created with mode 0700 if it is missing.
        fan_out: 64 or 2 for a new store (64 if None). For a store that exists
            it is only compared.

    Raises:
        BrokenStore: the format file makes no sense or is of a later version,
            or ``fan_out`` is not what the store has.
        StoreFailure: the operating system refuses.
    """
    if fan_out not in (None, TWO_LEVELS, FULL_SPLIT):
        raise BrokenStore(basedir, f"a fan-out is {FULL_SPLIT} or {TWO_LEVELS}, not {fan_out}")
    base = os.path.abspath(basedir)
    try:
        _make_folders(base)
        layout = _read_format(base)
        if layout is None:
            layout = _begin(base, fan_out)
    except (FileExistsError, NotADirectoryError) as error:
        raise BrokenStore(str(error.filename), "is in the way: it is not a folder") from error
    except OSError as error:
        raise StoreFailure(f"open the folder {base}", error) from error
    if fan_out not in (None, layout.fan_out):
        raise BrokenStore(
            base,
            f"this store has fan-out {layout.fan_out}, not {fan_out}; "
            "leave the flag out, or use a new folder",
        )
    return layout


def _make_folders(base: str) -> None:
    if not os.path.isdir(base):
        os.makedirs(os.path.dirname(base), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(base, 0o700)
        durable.sync_folder(os.path.dirname(base))
    made = _made(f"{base}/{OWN}")
    if made:
        durable.sync_folder(base)
    made_inside = [name for name in _OWN_FOLDERS if _made(f"{base}/{OWN}/{name}")]
    if made_inside:
        durable.sync_folder(f"{base}/{OWN}")


def _made(path: str) -> bool:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path) or os.path.islink(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
        return False
    return True


def _read_format(base: str) -> Layout | None:
    form = read_form(base)
    if form is None:
        return None
    if form.becomes is not None:
        raise BrokenStore(
            f"{base}/{OWN}/format",
            f"the store is being given fan-out {form.becomes}; "
            f"'dtfc relayout --fan-out {form.becomes}' goes on with that",
        )
    return Layout(base, form.fan_out, form.node_id)


def write_form(base: str, form: Form) -> None:
    """Put a format file in the place of the one that is there, durably.

    Raises:
        OSError: it cannot be written.
    """
    path = f"{base}/{OWN}/format"
    fd, draft = drafts.begin(path, 0o644)
    try:
        os.write(fd, form.in_words())
        durable.sync(fd)
        os.rename(draft, path)
    finally:
        os.close(fd)
        drafts.remove(draft)
    durable.sync_folder(f"{base}/{OWN}")


def read_form(base: str) -> Form | None:
    """Return what the format file of a store says; None if there is none.

    Raises:
        BrokenStore: it makes no sense, or is of a later version.
        OSError: it cannot be read.
    """
    path = f"{base}/{OWN}/format"
    try:
        with open(path, "rb") as file:
            text = file.read(_FORMAT_LIMIT)
    except FileNotFoundError:
        return None
    try:
        facts = json.loads(text)
    except ValueError as error:
        raise BrokenStore(path, "is not JSON") from error
    if not isinstance(facts, dict):
        raise BrokenStore(path, "is not a JSON object")
    version, fan_out, node = (facts.get(key) for key in ("version", "fan_out", "node"))
    becomes = facts.get("becomes")
    if type(version) is not int or version < 1:
        raise BrokenStore(path, "does not say which version of the format it is")
    converting = version == CONVERTING and becomes in (FULL_SPLIT, TWO_LEVELS)
    if version > VERSION and not converting:
        raise BrokenStore(
            path, f"is version {version} of the format; this program knows {VERSION} and earlier"
        )
    if type(fan_out) is not int or fan_out not in (FULL_SPLIT, TWO_LEVELS):
        raise BrokenStore(path, f"has a fan_out that is neither {FULL_SPLIT} nor {TWO_LEVELS}")
    if not isinstance(node, str) or not _NODE.match(node):
        raise BrokenStore(path, "has a node id that is not 32 lower-case hexadecimal digits")
    return Form(fan_out, node, becomes if converting else None)


def _begin(base: str, fan_out: int | None) -> Layout:
    """Write the format file of a store that has none, and return what it says.

    Several processes may do so at once: the file is linked into place, so the
    first one wins and the others read what it wrote.
    """
    form = Form(_recognise(base) or fan_out or FULL_SPLIT, secrets.token_hex(16))
    path = f"{base}/{OWN}/format"
    fd, draft = drafts.begin(path, 0o644)
    try:
        os.write(fd, form.in_words())
        durable.sync(fd)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.close(fd)
        drafts.remove(draft)
    durable.sync_folder(f"{base}/{OWN}")
    written = _read_format(base)
    if written is None:
        raise BrokenStore(path, "vanished while the store was opened")
    return written


def _recognise(base: str) -> int | None:
    """Say which form a tree without a format file has; None if it has no folders.

    The third level decides: two characters are the full split, 124 are two
    levels (a store whose ``.dtfc`` was lost). Folders that end before that
    were left by the 2015 program, which knew only the full split.
    """
    found = None
    for first in _folders(base):
        if not is_shard(os.path.basename(first)):
            continue
        found = FULL_SPLIT
        for second in _folders(first):
            for third in _folders(second):
                name = os.path.basename(third)
                if is_shard(name):
                    return FULL_SPLIT
                if len(name) == HEX_LENGTH - 2 * TWO_LEVELS and is_rest(name):
                    return TWO_LEVELS
    return found


def _folders(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
