"""What tests of the process share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import LogEvent, formatEvent, globalLogPublisher


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """Everything that is logged during the test, without times."""
    lines: list[str] = []

    def keep(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(keep)  # type: ignore[arg-type]  # any callable observes
    yield lines
    globalLogPublisher.removeObserver(keep)  # type: ignore[arg-type]  # any callable observes
