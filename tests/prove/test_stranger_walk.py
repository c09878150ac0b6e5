"""What a stranger types stands in the README; the walk itself is long (``--only stranger``)."""

from __future__ import annotations

import pytest

from prove.stranger import COMMANDS
from tests.support.live import CHECKOUT


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_stands_in_the_readme(command: str) -> None:
    assert command in (CHECKOUT / "README.md").read_text()
