"""What a workload asked for and what it was promised, and what that allows after a crash."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dtfc.digest import Digest

State = Literal["here", "deleted", "never"]


@dataclass(slots=True, eq=False)
class Deed:
    """One operation on one blob.

    Args:
        digest: the blob.
        result: what it makes of the blob; None if it only adds a name.
        name: the name it adds.
        begun: how many steps there were when it began.
        done: how many there were when it was acknowledged; None if never.
        rank: of the record that it leaves, if it leaves one.
    """

    digest: Digest
    result: State | None
    name: str | None
    begun: int
    done: int | None = None
    rank: tuple[int, bool] = (0, False)

    def began_by(self, at: int) -> bool:
        """Whether it may have changed anything before step ``at``."""
        return self.begun < at

    def done_by(self, at: int) -> bool:
        """Whether it was acknowledged by then."""
        return self.done is not None and self.done <= at

    def before(self, other: Deed) -> bool:
        """Whether it was over when the other one began."""
        return self.done is not None and self.done <= other.begun


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be found of one blob after a crash.

    Args:
        states: any of these.
        required: names it must have, if it is here.
        possible: names it may have.
        current: any of these may be the current name; None for no name.
        rank: that its record must have, at least.
    """

    states: frozenset[State]
    required: frozenset[str] = frozenset()
    possible: frozenset[str] = frozenset()
    current: frozenset[str | None] = frozenset({None})
    rank: tuple[int, bool] = (0, False)


@dataclass(frozen=True, slots=True)
class Told:
    """What the client of an upload that resumes was told.

    Args:
        upload: its id.
        body: the whole.
        offset: how many bytes are durable.
        at: how many steps there were.
    """

    upload: str
    body: bytes
    offset: int
    at: int


@dataclass(slots=True)
class Ledger:
    """Everything a workload did, and the bytes it did it with."""

    bodies: dict[Digest, bytes] = field(default_factory=dict)
    deeds: list[Deed] = field(default_factory=list)
    offsets: list[Told] = field(default_factory=list)

    def told(self, at: int) -> dict[str, Told]:
        """Say what was told last of each upload by then."""
        return {told.upload: told for told in self.offsets if told.at <= at}

    def body(self, content: bytes) -> Digest:
        """Know some bytes; return their digest."""
        digest = Digest.of(content)
        self.bodies[digest] = content
        return digest

    def begin(self, digest: Digest, result: State | None, name: str | None, at: int) -> Deed:
        """Note that an operation begins."""
        deed = Deed(digest, result, name, at)
        self.deeds.append(deed)
        return deed

    def allowed(self, at: int) -> dict[Digest, Allowed]:
        """Say what may be found of each blob if a crash comes after ``at`` steps."""
        return {digest: self._of(digest, at) for digest in self.bodies}

    def _of(self, digest: Digest, at: int) -> Allowed:
        deeds = [deed for deed in self.deeds if deed.digest == digest and deed.began_by(at)]
        making = [deed for deed in deeds if deed.result is not None]
        states = {deed.result for deed in making if not _over(deed, making, at)}
        if not any(deed.done_by(at) for deed in making):
            states.add("never")
        removing = [deed for deed in making if deed.result == "deleted"]
        naming = [deed for deed in deeds if deed.name is not None]
        possible = [
            deed
            for deed in naming
            if not any(away.done_by(at) and deed.before(away) for away in removing)
        ]
        required = [
            deed
            for deed in possible
            if deed.done_by(at) and all(away.before(deed) for away in removing)
        ]
        current: set[str | None] = {deed.name for deed in possible if not _over(deed, naming, at)}
        if not required:
            current.add(None)
        return Allowed(
            frozenset(state for state in states if state is not None),
            frozenset(deed.name for deed in required if deed.name is not None),
            frozenset(deed.name for deed in possible if deed.name is not None),
            frozenset(current),
            max((deed.rank for deed in deeds if deed.done_by(at)), default=(0, False)),
        )


def _over(deed: Deed, others: list[Deed], at: int) -> bool:
    """Whether another one came wholly after it, and was acknowledged."""
    return any(other.done_by(at) and deed.before(other) for other in others if other is not deed)
