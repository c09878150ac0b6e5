"""What a node makes of settings about its peers, at the start and on a reload."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from dtfc.disk import InlineDisk
from dtfc.errors import BadSetting
from dtfc.node import Node
from dtfc.peers.srv import Answer, Target
from dtfc.settings import load

OLD = b"0123456789abcdef0123456789abcdef"
NEW = b"another secret of a decent length"


class Disk(InlineDisk):
    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


class Alone(MemoryReactorClock):
    """A reactor that can start no process."""

    def spawnProcess(self, *_args: Any, **_kw: Any) -> Any:  # noqa: N802 -- Twisted's name
        raise OSError("no programs here")


class Handed:
    """A node on a false clock, with a secret and a peer list."""

    def __init__(self, folder: Path) -> None:
        self.secret = folder / "secret"
        self.secret.write_bytes(OLD)
        self.secret.chmod(0o600)
        self.list = folder / "peers"
        self.list.write_text("http://127.0.0.2:1\n")
        flags = {
            "basedir": str(folder / "store"),
            "fan-out": "2",
            "peer-secret-file": str(self.secret),
            "peerlist": str(self.list),
            "me": "http://me:1",
        }
        self.clock: Any = Alone()
        self.asked: list[str] = []
        self.node = Node(
            load(flags, {}, str(folder)).settings,
            self.clock,
            lambda _lines: None,
            disk=Disk(),
            owns_process=False,
            lookup=self.look_up,
        )
        self.node.startService()

    def stop(self) -> None:
        if self.node.running:
            self.node.stopService()
            self.clock.advance(1)

    def look_up(self, name: str) -> Deferred[Answer]:
        self.asked.append(name)
        answer: Deferred[Answer] = Deferred()
        answer.callback(Answer((Target(0, 1, "127.0.0.3", 1),), 60.0))
        return answer

    @property
    def accepted(self) -> tuple[bytes, ...]:
        secrets = self.node._gate.terms.secrets
        return () if secrets is None else secrets.keys

    @property
    def signing(self) -> bytes | None:
        secrets = self.node._signer.secrets
        return None if secrets is None else secrets.signing

    def reload(self, **changed: Any) -> None:
        self.node.reload(replace(self.node.settings, **changed))


@pytest.fixture
def handed(tmp_path: Path) -> Iterator[Handed]:
    made = Handed(tmp_path)
    yield made
    made.stop()


def test_the_secret_signs_and_is_accepted(handed: Handed) -> None:
    assert (handed.signing, handed.accepted) == (OLD, (OLD,))


def test_what_is_meant_for_it(handed: Handed) -> None:
    assert handed.node._gate.terms.own == {"me:1"}


def test_a_secret_is_changed_without_a_gap(handed: Handed) -> None:
    handed.secret.write_bytes(OLD + b"\n" + NEW)
    handed.reload()
    assert (handed.signing, handed.accepted) == (OLD, (OLD, NEW))

    handed.secret.write_bytes(NEW + b"\n" + OLD)
    handed.reload()
    assert (handed.signing, handed.accepted) == (NEW, (NEW, OLD))

    handed.secret.write_bytes(NEW)
    handed.reload()
    assert (handed.signing, handed.accepted) == (NEW, (NEW,))


def test_a_bad_file_changes_nothing(handed: Handed) -> None:
    handed.secret.write_bytes(b"short")

    with pytest.raises(BadSetting, match="line 1"):
        handed.reload(zone="attic")

    assert handed.accepted == (OLD,)
    assert handed.node.settings.zone is None


def test_the_secret_is_given_up(handed: Handed) -> None:
    handed.reload(peer_secret_file=None)

    assert (handed.signing, handed.accepted) == (None, ())


def test_clocks_and_zones_are_reloaded(handed: Handed) -> None:
    handed.reload(peer_clock_skew=60.0, zone="attic")

    assert handed.node._gate.terms.skew == 60.0
    assert handed.node._picker.zone == "attic"


def test_without_a_secret_nothing_of_it_is_on_the_disk(handed: Handed, tmp_path: Path) -> None:
    assert (tmp_path / "store/.dtfc/senders").exists()
    handed.reload(peer_secret_file=None)
    other = load({"basedir": str(tmp_path / "other"), "fan-out": "2"}, {}, str(tmp_path)).settings
    node = Node(other, handed.clock, lambda _lines: None, disk=Disk(), owns_process=False)
    node.startService()

    assert not (tmp_path / "other/.dtfc/senders").exists()
    node.stopService()
    handed.clock.advance(1)


@pytest.fixture
def targets_are_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let DNS name an address, which it may not: a name would be looked up for real."""
    monkeypatch.setattr("dtfc.peers.srv._is_address", lambda _host: False)


@pytest.mark.usefixtures("targets_are_addresses")
def test_a_service_is_looked_up_when_the_list_says_so(handed: Handed) -> None:
    handed.list.write_text("http://127.0.0.2:1\ndns+srv://_dtfc._tcp.example\n")
    handed.reload()

    assert handed.asked == ["_dtfc._tcp.example"]
    assert [each.url for each in handed.node._roster.current()] == [
        "http://127.0.0.2:1",
        "http://127.0.0.3:1",
    ]


@pytest.mark.usefixtures("targets_are_addresses")
def test_what_dns_said_outlives_the_process(handed: Handed) -> None:
    handed.list.write_text("dns+srv://_dtfc._tcp.example\n")
    handed.reload()
    handed.stop()
    silent: Deferred[Answer] = Deferred()
    settings = handed.node.settings
    node = Node(
        settings,
        handed.clock,
        lambda _lines: None,
        disk=Disk(),
        owns_process=False,
        lookup=lambda _name: silent,
    )

    node.startService()

    assert [each.url for each in node._roster.current()] == ["http://127.0.0.3:1"]
    node.stopService()
    handed.clock.advance(1)
