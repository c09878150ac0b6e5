"""Nodes and clients that are broken on purpose: what the rig must notice.

A check that cannot fail is worth nothing. Each of these is patched into a process
that is forked for one story, and each is what a mistake in dtfc, or in the rig's
own client, would look like.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dtfc.errors import WrongDigest
from dtfc.http import ranges
from dtfc.peers.slots import Slots
from dtfc.store import partials
from dtfc.store.blobs import OpenBlob, Store
from dtfc.web import blobs
from simulate.clients import Asking
from simulate.cluster import FLAGS

#: Every way to break things, by name.
WAYS: dict[str, Callable[[], None]] = {}


def _way(function: Callable[[], None]) -> Callable[[], None]:
    WAYS[function.__name__.replace("_", "-")] = function
    return function


def apply(name: str) -> None:
    """Break something in this process, for good."""
    WAYS[name]()


def _replace(owner: Any, name: str, new: Any) -> None:
    setattr(owner, name, new)


@_way
def no_digest_check() -> None:
    """What a load has brought is stored whatever its digest is."""
    compare = partials.Partial._compare  # noqa: SLF001 -- it is broken on purpose

    def believing(self: Any) -> None:
        with contextlib.suppress(WrongDigest):
            compare(self)

    _replace(partials.Partial, "_compare", believing)


@_way
def forgotten_tombstone() -> None:
    """A deletion frees the bytes, and is not remembered."""
    delete = Store.delete

    def forgetful(self: Any, digest: Any, *args: Any, **kwargs: Any) -> Any:
        deleted = delete(self, digest, *args, **kwargs)
        with contextlib.suppress(OSError):
            os.unlink(self.layout.marker(digest, 404))
        return deleted

    _replace(Store, "delete", forgetful)


@_way
def short_bodies_accepted() -> None:
    """The client takes the end of the connection for the end of the answer."""
    over = Asking._over  # noqa: SLF001 -- it is broken on purpose

    def trusting(self: Any) -> None:
        if self._leave_after < 0 and self.answer.status:
            self.answer.complete = True
        over(self)

    _replace(Asking, "_over", trusting)


@_way
def lost_acknowledged() -> None:
    """Some blobs are gone as soon as their PUT is acknowledged."""
    intake = Store.intake

    def careless(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = intake(self, *args, **kwargs)
        commit = made.commit

        def losing(*args: Any, **kwargs: Any) -> Any:
            stored = commit(*args, **kwargs)
            if stored.info.digest.raw[0] < 64:
                os.unlink(self.layout.data(stored.info.digest))
            return stored

        _replace(made, "commit", losing)
        return made

    _replace(Store, "intake", careless)


@_way
def places_never_given_back() -> None:
    """A load that has ended keeps its place, so that later ones wait for ever."""
    FLAGS["max-loads"] = "4"
    _replace(Slots, "give_back", lambda _self: None)


@_way
def unverified_reads() -> None:
    """What comes off the disk is sent as it is."""
    FLAGS["verify"] = "off"


@_way
def blobs_left_open() -> None:
    """A blob that was read is never closed."""
    _replace(OpenBlob, "close", lambda _self: None)


@_way
def wrong_ranges() -> None:
    """A part begins one byte too early, under a head that says otherwise."""
    plan = vars(blobs)["plan"]

    def early(*args: Any, **kwargs: Any) -> Any:
        planned = plan(*args, **kwargs)
        if planned.status != 206:
            return planned
        parts = [
            ranges.Span(part.start - 1, part.length)
            if isinstance(part, ranges.Span) and part.start
            else part
            for part in planned.parts
        ]
        return replace(planned, parts=tuple(parts))

    _replace(blobs, "plan", early)
