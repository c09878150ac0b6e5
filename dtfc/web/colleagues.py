"""What one process of a node asks the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dtfc.web.families import Family
    from dtfc.web.samples import Totals


class Colleagues(Protocol):
    """The other processes that serve this node."""

    async def counts(self) -> Sequence[Family]:
        """Return what all processes of the node have counted together.

        Raises:
            Busy: they cannot be asked now.
        """

    def present(self) -> tuple[int, int]:
        """Return how many workers serve, and how many there are to be."""

    def totals(self) -> tuple[float, Totals] | None:
        """Return what all have counted together, and when that was heard; None if not at all."""

    def peers_read(self) -> None:
        """Tell the others to read the peer list again."""


class Alone:
    """No other process: what this one says is all there is."""

    async def counts(self) -> Sequence[Family]:
        """Return nothing that would stand for what this process counts."""
        return ()

    def present(self) -> tuple[int, int]:
        """Return that this is the one."""
        return 1, 1

    def totals(self) -> None:
        """Return nothing: what this process counts is all there is."""

    def peers_read(self) -> None:
        """Tell nobody."""
