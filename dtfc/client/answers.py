"""What nodes answer, as values.

Rules of this file: pure. Members that a node does not tell, or that have another type
than they should, are None; what cannot be done without is an error. Members that are
not known here are kept in ``members`` where somebody may want them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dtfc.digest import Digest
from dtfc.errors import BadDigest


@dataclass(frozen=True, slots=True)
class Head:
    """What a node says of a blob without sending it.

    Args:
        digest: of the blob.
        length: in bytes.
        name: the file name it gives, if it gives one.
        content_type: that follows from the name.
    """

    digest: Digest
    length: int
    name: str | None
    content_type: str | None


@dataclass(frozen=True, slots=True)
class Info:
    """What is known of a blob on one node.

    Args:
        digest: of the blob.
        length: in bytes.
        filename: its current name there.
        names: all of its names, the current one last.
        content_type: that follows from the name.
        stored_at: seconds since 1970.
        last_verified_at: when the scrub last found every byte right, likewise.
        replicas: URLs of peers that are known to have a copy.
    """

    digest: Digest
    length: int
    filename: str | None
    names: tuple[str, ...]
    content_type: str | None
    stored_at: float | None
    last_verified_at: float | None
    replicas: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A name, and the blob that it stands for.

    Args:
        name: of the file.
        digest: of the blob.
        length: in bytes, if it is known.
        stored_at: seconds since 1970; None if the name was given elsewhere.
    """

    name: str
    digest: Digest
    length: int | None
    stored_at: float | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a list of names.

    Args:
        rows: in order.
        next: what to go on with; None on the last page.
    """

    rows: tuple[Row, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of an upload.

    Args:
        digest: of the bytes; taken here too, and the same.
        length: in bytes.
        filename: under which it is stored now.
        new: whether the bytes were not there before; None if the node did not say.
        sent: bytes that were sent for it now.
        replicas: how many nodes have it durably, where the node says so.
    """

    digest: Digest
    length: int
    filename: str | None
    new: bool | None
    sent: int
    replicas: int | None = None


@dataclass(frozen=True, slots=True)
class PeerDeletion:
    """How far a deletion is on one peer.

    Args:
        state: ``acknowledged``, ``pending`` or ``overruled``.
        reason: why it is still pending.
    """

    state: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """A deletion everywhere.

    Args:
        id: under which the node knows it.
        digest: of the blob.
        status: ``pending`` or ``complete``.
        peers: each peer's URL, and how far it is there.
        was_here: whether the node that was asked had the blob.
    """

    id: str
    digest: Digest
    status: str
    peers: dict[str, PeerDeletion]
    was_here: bool | None = None

    @property
    def complete(self) -> bool:
        """Whether no peer is waited for."""
        return self.status == "complete"


@dataclass(frozen=True, slots=True)
class Peers:
    """The peers of a node.

    Args:
        urls: those in force.
        health: how each of them is, as the node has seen it; its members are in
            docs/protocol.md, section 4.
        bad_lines: of the peer list.
        errors: files and names that could not be read.
    """

    urls: tuple[str, ...]
    health: tuple[dict[str, Any], ...] = ()
    bad_lines: tuple[dict[str, Any], ...] = ()
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """How a node is.

    Args:
        node: its URL.
        ready: whether it takes writes; of a node of 2015: whether it answers.
        version: of the program; None of a node of 2015.
        facts: whatever else it says.
    """

    node: str
    ready: bool
    version: str | None
    facts: dict[str, Any] = field(default_factory=dict)


class Senseless(ValueError):
    """An answer lacks what cannot be done without."""


def parsed(body: bytes) -> dict[str, Any]:
    """Return a JSON object, whatever the answer calls its type.

    Raises:
        Senseless: it is none.
    """
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise Senseless("its answer is no JSON") from None
    if not isinstance(told, dict):
        raise Senseless("its answer is no JSON object")
    return told


def info_of(told: Mapping[str, Any]) -> Info:
    """Read ``/<digest>/info``.

    Raises:
        Senseless: digest or length are missing.
    """
    return Info(
        digest_of(told),
        length_of(told),
        text(told, "filename"),
        texts(told, "names"),
        text(told, "content_type"),
        number(told, "stored_at"),
        number(told, "last_verified_at"),
        texts(told, "replicas"),
    )


def page_of(told: Mapping[str, Any]) -> Page:
    """Read ``/files.json``.

    Raises:
        Senseless: there are no files in it, or one without name or digest.
    """
    files = told.get("files")
    if not isinstance(files, list):
        raise Senseless("its answer has no list of files")
    return Page(tuple(map(_row, files)), text(told, "next"))


def _row(told: object) -> Row:
    if not isinstance(told, dict):
        raise Senseless("a file in its list makes no sense")
    name = text(told, "name")
    if name is None:
        raise Senseless("a file in its list has no name")
    length = told.get("length")
    known = length if isinstance(length, int) and length >= 0 else None
    return Row(name, digest_of(told), known, number(told, "stored_at"))


def receipt_of(told: Mapping[str, Any]) -> Receipt:
    """Read the receipt of a deletion everywhere.

    Raises:
        Senseless: it has no id, digest or status.
    """
    found, status, peers = text(told, "id"), text(told, "status"), told.get("peers")
    if found is None or status is None or not isinstance(peers, dict):
        raise Senseless("its receipt makes no sense")
    states = {
        str(url): PeerDeletion(text(each, "state") or "pending", text(each, "reason"))
        for url, each in peers.items()
        if isinstance(each, dict)
    }
    was_here = told.get("was_here")
    here = was_here if isinstance(was_here, bool) else None
    return Receipt(found, digest_of(told), status, states, here)


def peers_of(told: Mapping[str, Any]) -> Peers:
    """Read ``/refreshpeers.html``."""
    return Peers(
        texts(told, "peers"), objects(told, "health"), objects(told, "bad_lines"),
        texts(told, "errors"),
    )  # fmt: skip


def digest_of(told: Mapping[str, Any]) -> Digest:
    """Return the member ``sha512``.

    Raises:
        Senseless: there is none.
    """
    try:
        return Digest.from_hex(text(told, "sha512") or "")
    except BadDigest:
        raise Senseless("its answer has no sha512") from None


def length_of(told: Mapping[str, Any]) -> int:
    """Return the member ``length``.

    Raises:
        Senseless: there is none.
    """
    length = told.get("length")
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise Senseless("its answer has no length")
    return length


def text(told: Mapping[str, Any], name: str) -> str | None:
    """Return a member that is text."""
    value = told.get(name)
    return value if isinstance(value, str) else None


def number(told: Mapping[str, Any], name: str) -> float | None:
    """Return a member that is a number."""
    value = told.get(name)
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if good and value is not None else None


def texts(told: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return the texts of a member that is a list."""
    return tuple(each for each in _listed(told, name) if isinstance(each, str))


def objects(told: Mapping[str, Any], name: str) -> tuple[dict[str, Any], ...]:
    """Return the objects of a member that is a list."""
    return tuple(each for each in _listed(told, name) if isinstance(each, dict))


def _listed(told: Mapping[str, Any], name: str) -> Sequence[object]:
    value = told.get(name)
    return value if isinstance(value, list) else []
