"""What a node is told of who may do what, at its start and while it runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtfc.access.verbs import Verb
from dtfc.errors import BadSettings
from tests.test_node_peers import Handed

LINE = f"camera {hashlib.sha256(b'x').hexdigest()} put\n"


@pytest.fixture
def handed(tmp_path: Path) -> Iterator[Handed]:
    made = Handed(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    made = tmp_path / "tokens"
    made.write_text(LINE)
    made.chmod(0o644)
    return made


def test_there_are_no_tokens(handed: Handed) -> None:
    assert (len(handed.node._gate.tokens), handed.node._gate.policy.tokens) == (0, False)


def test_tokens_come_and_go(handed: Handed, tokens: Path) -> None:
    handed.reload(tokens=str(tokens))
    assert (len(handed.node._gate.tokens), handed.node._gate.policy.tokens) == (1, True)
    tokens.write_text("")
    handed.reload()
    assert (len(handed.node._gate.tokens), handed.node._gate.policy.tokens) == (0, True)


def test_a_bad_file_changes_nothing(handed: Handed, tokens: Path) -> None:
    handed.reload(tokens=str(tokens))
    tokens.write_text(f"{LINE}x\n")
    with pytest.raises(BadSettings, match=f"{tokens}:2"):
        handed.reload(zone="attic")
    assert len(handed.node._gate.tokens) == 1
    assert handed.node.settings.zone is None


def test_reads_are_open_unless_it_is_private(handed: Handed) -> None:
    assert handed.node._gate.policy.anonymous == {Verb.GET, Verb.HEAD}
    handed.reload(private=True)
    assert handed.node._gate.policy.anonymous == set()
    handed.reload(private=True, allow_anonymous=("head", "put"))
    assert handed.node._gate.policy.anonymous == {Verb.HEAD, Verb.PUT}
