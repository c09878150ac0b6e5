"""DNS in the roster: a small server on loopback, and one that is played."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.names import authority, dns, server

from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.errors import PeersUnreached
from dtfc.peers.body import PeerLimits
from dtfc.peers.client import open_peer_http
from dtfc.peers.discovery import AGAIN, LONGEST_WAIT, Discovery, NameServers, system_servers
from dtfc.peers.failure import PeerFailure
from dtfc.peers.roster import Roster, RosterChange
from dtfc.peers.srv import SHORTEST_TTL, Answer, Target, parse
from tests.peers.conftest import Node
from tests.peers.hostile import status

reactor: Any = _reactor
NAME = "_dtfc._tcp.example"
DIGEST = Digest.of(b"hello")
LINE = f"dns+srv://{NAME}"


class Zone(authority.FileAuthority):
    """The zone ``example``, in memory."""

    def __init__(self, *records: dns.Record_SRV) -> None:
        self._srv = list(records)
        authority.FileAuthority.__init__(self, "")

    def loadFile(self, filename: str) -> None:  # noqa: N802 - Twisted's name
        del filename
        soa = dns.Record_SOA(mname="ns.example", rname="x.example", serial=1, minimum=60)
        zone: Any = self
        zone.soa = (b"example", soa)
        zone.records = {b"example": [soa], NAME.encode(): self._srv}


class DNSServer:
    """A name server on loopback, UDP and TCP on one port."""

    def __init__(self, *records: dns.Record_SRV) -> None:
        factory = server.DNSServerFactory(authorities=[Zone(*records)])
        factory.noisy = False
        self._tcp = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.port = self._tcp.getHost().port
        protocol = dns.DNSDatagramProtocol(factory)
        protocol.noisy = False
        self._udp = reactor.listenUDP(self.port, protocol, interface="127.0.0.1")

    async def close(self) -> None:
        await self._udp.stopListening()
        await self._tcp.stopListening()


@pytest_twisted.async_yield_fixture
async def servers() -> AsyncIterator[list[DNSServer]]:
    running: list[DNSServer] = []
    yield running
    for each in running:
        await each.close()


class TestARealServer:
    def asking(self, port: int) -> NameServers:
        return NameServers(reactor, InlineDisk(), [("127.0.0.1", port)])

    @pytest_twisted.ensureDeferred
    async def test_its_records(self, servers: list[DNSServer]) -> None:
        servers.append(
            DNSServer(
                dns.Record_SRV(10, 3, 8080, "a.example", ttl=120),
                dns.Record_SRV(20, 0, 8081, "b.example", ttl=90),
            )
        )

        answer = await self.asking(servers[0].port)(NAME)

        assert set(answer.targets) == {
            Target(10, 3, "a.example", 8080),
            Target(20, 0, "b.example", 8081),
        }
        assert answer.ttl == 90

    @pytest_twisted.ensureDeferred
    async def test_more_than_a_datagram_holds(self, servers: list[DNSServer]) -> None:
        hosts = [f"node{number}.of.some.length.example" for number in range(100)]
        servers.append(DNSServer(*(dns.Record_SRV(1, 1, 8080, each, ttl=60) for each in hosts)))

        answer = await self.asking(servers[0].port)(NAME)

        assert sorted(each.host for each in answer.targets) == sorted(hosts)

    @pytest_twisted.ensureDeferred
    async def test_a_name_that_it_does_not_know(
        self, servers: list[DNSServer], tmp_path: Path
    ) -> None:
        servers.append(DNSServer(dns.Record_SRV(10, 3, 8080, "a.example", ttl=120)))
        (tmp_path / "peers").write_text("dns+srv://_other._tcp.example")
        roster = Roster(str(tmp_path / "peers"))
        roster.reload()
        asking = self.asking(servers[0].port)
        discovery = Discovery(roster, asking, Clock(), lambda _change: None)
        discovery.startService()

        await discovery.ask_now()

        assert roster.last_change.errors == (
            "dns+srv://_other._tcp.example: DNS does not know that name",
        )
        discovery.stopService()

    @pytest_twisted.ensureDeferred
    async def test_into_the_roster(self, servers: list[DNSServer], tmp_path: Path) -> None:
        servers.append(
            DNSServer(
                dns.Record_SRV(10, 1, 8080, "a.example", ttl=120),
                dns.Record_SRV(10, 1, 8080, "me.example", ttl=120),
            )
        )
        (tmp_path / "peers").write_text(f"http://b:1\n{LINE} zone=attic")
        roster = Roster(str(tmp_path / "peers"), me="me.example:8080")
        roster.reload()
        asking = self.asking(servers[0].port)
        discovery = Discovery(roster, asking, Clock(), lambda _change: None)
        discovery.startService()

        await discovery.ask_now()

        assert [(each.url, each.zone) for each in roster.current()] == [
            ("http://b:1", ""),
            ("http://a.example:8080", "attic"),
        ]
        assert roster.me == "http://me.example:8080"
        discovery.stopService()


class Bench:
    """A discovery whose DNS is played by the test."""

    def __init__(self, folder: Path, text: str = LINE, *, begin: bool = True) -> None:
        self.path = folder / "peers"
        self.path.write_text(text)
        self.roster = Roster(str(self.path))
        self.roster.reload()
        self.clock = Clock()
        self.asked: list[str] = []
        self.waiting: list[Deferred[Answer]] = []
        self.changes: list[RosterChange] = []
        self.kept: list[bytes] = []
        self.discovery = Discovery(
            self.roster, self.look_up, self.clock, self.changed, keep=self.kept.append
        )
        if begin:
            self.discovery.startService()

    def look_up(self, name: str) -> Deferred[Answer]:
        self.asked.append(name)
        answer: Deferred[Answer] = Deferred()
        self.waiting.append(answer)
        return answer

    def changed(self, change: RosterChange) -> None:
        self.changes.append(change)
        self.discovery.sync()

    def say(self, *hosts: str, ttl: float = 100) -> None:
        targets = tuple(Target(0, 1, host, 8080) for host in hosts)
        self.waiting.pop(0).callback(Answer(targets, ttl))

    def fail(self, reason: str = "no answer") -> None:
        self.waiting.pop(0).errback(OSError(reason))

    @property
    def urls(self) -> list[str]:
        return [each.url for each in self.roster.current()]

    def rewrite(self, text: str) -> None:
        self.path.write_text(text)
        self.changed(self.roster.reload())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_until_dns_answers_the_line_stands_for_its_peers(bench: Bench) -> None:
    assert bench.urls == [LINE]

    bench.say("a")

    assert bench.urls == ["http://a:8080"]


@pytest_twisted.ensureDeferred
async def test_and_to_ask_it_fails(bench: Bench) -> None:
    http = open_peer_http(reactor, PeerLimits())

    with pytest.raises(PeerFailure, match="DNS has not said yet"):
        await http.ask("GET", bench.urls[0], "0" * 128)

    await http.close()


@pytest_twisted.ensureDeferred
async def test_so_nothing_passes_for_absent(node: Node) -> None:
    loader = node.loader(status(404))
    node.list.write_text(f"{node.peers[0].url}\n{LINE}")
    node.roster.reload()

    for asked in (loader.probe(DIGEST), loader.ensure(DIGEST).finished()):
        with pytest.raises(PeersUnreached) as caught:
            await asked
        assert list(caught.value.unreached) == [LINE]


def test_it_is_asked_again_when_the_ttl_is_over(bench: Bench) -> None:
    bench.say("a", ttl=100)
    bench.clock.advance(99)
    assert len(bench.asked) == 1

    bench.clock.advance(1)
    bench.say("b")

    assert len(bench.asked) == 2
    assert bench.urls == ["http://b:8080"]


def test_a_ttl_of_nothing_does_not_make_it_run_hot(bench: Bench) -> None:
    bench.say("a", ttl=0)
    bench.clock.advance(SHORTEST_TTL - 1)

    assert len(bench.asked) == 1


def test_the_last_good_answer_is_kept(bench: Bench) -> None:
    bench.say("a", "b", ttl=100)
    bench.clock.advance(100)
    bench.fail()

    assert bench.urls == ["http://a:8080", "http://b:8080"]
    assert bench.roster.last_change.errors == (f"{LINE}: no answer; the 2 peers that it had hold",)
    bench.clock.advance(AGAIN)
    bench.say("c")
    assert bench.urls == ["http://c:8080"]
    assert not bench.roster.last_change.errors


def test_a_failure_is_said_once(bench: Bench) -> None:
    for _ in range(3):
        bench.fail()
        bench.clock.advance(AGAIN)
    bench.fail("something else")

    said = [error for change in bench.changes for error in change.errors]
    assert said == [f"{LINE}: no answer", f"{LINE}: something else"]


def test_an_empty_answer_empties_nothing(bench: Bench) -> None:
    bench.say("a")
    bench.clock.advance(100)
    bench.say()

    assert bench.urls == ["http://a:8080"]
    assert "no SRV record" in bench.roster.last_change.errors[0]


def test_a_reading_of_the_file_keeps_what_dns_said(bench: Bench) -> None:
    bench.say("a")

    bench.rewrite(f"{LINE}\nhttp://b:1")

    assert bench.urls == ["http://b:1", "http://a:8080"]
    assert len(bench.asked) == 1


def test_a_line_that_left_is_asked_for_no_more(bench: Bench) -> None:
    bench.say("a")

    bench.rewrite("http://b:1")
    bench.clock.advance(1000)

    assert bench.urls == ["http://b:1"]
    assert len(bench.asked) == 1


def test_a_line_that_left_while_it_was_asked_for(bench: Bench) -> None:
    bench.rewrite("http://b:1")
    bench.rewrite(f"{LINE} weight=2")
    bench.waiting.pop(0)
    bench.say("a")

    assert bench.urls == ["http://a:8080"]
    assert [each.weight for each in bench.roster.current()] == [2]


def test_a_peer_in_the_file_goes_before_the_same_one_in_dns(tmp_path: Path) -> None:
    bench = Bench(tmp_path, f"{LINE} weight=5\nhttp://a:8080 weight=9")
    bench.say("a")

    assert [each.weight for each in bench.roster.current()] == [9]


class TestAnEarlierProcess:
    def test_what_dns_said_to_it_holds(self, bench: Bench, tmp_path: Path) -> None:
        bench.say("a", "b")
        later = Bench(tmp_path, f"{LINE} zone=attic", begin=False)

        later.discovery.recall(bench.kept[-1])

        assert later.urls == ["http://a:8080", "http://b:8080"]
        assert later.roster.current()[0].zone == "attic"
        later.discovery.startService()
        later.say("c")
        assert later.urls == ["http://c:8080"]

    def test_the_same_answer_is_not_kept_again(self, bench: Bench) -> None:
        for hosts in ("ab", "ba", "ab"):
            bench.say(*hosts)
            bench.clock.advance(100)

        assert len(bench.kept) == 1

    def test_of_a_line_that_left_nothing_is_kept(self, bench: Bench) -> None:
        bench.say("a")
        bench.rewrite("dns+srv://other")
        bench.say("b")

        assert parse(bench.kept[-1]) == {"other": (Target(0, 1, "b", 8080),)}

    @pytest.mark.parametrize(
        "kept",
        [
            b"",
            b"nonsense",
            b"[1]",
            b'{"_dtfc._tcp.example": 7}',
            b'{"_dtfc._tcp.example": [[1, 2, 3]]}',
            b'{"_dtfc._tcp.example": [[1, 2, "a b", 4]]}',
            b'{"_dtfc._tcp.example": []}',
            b"[" * 100_000,
            b"\xff",
        ],
    )
    def test_nonsense_is_nothing(self, bench: Bench, kept: bytes) -> None:
        bench.discovery.recall(kept)

        assert bench.urls == [LINE]


class TestAskingNow:
    def test_it_waits_for_the_answer(self, bench: Bench) -> None:
        bench.say("a")
        over = Deferred.fromCoroutine(bench.discovery.ask_now())
        assert (len(bench.asked), over.called) == (2, False)

        bench.say("b")

        assert over.called
        assert bench.urls == ["http://b:8080"]

    def test_but_not_for_ever(self, bench: Bench) -> None:
        over = Deferred.fromCoroutine(bench.discovery.ask_now())
        bench.clock.advance(LONGEST_WAIT)
        assert over.called

        bench.say("a")

        assert bench.urls == ["http://a:8080"]

    def test_without_a_service(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path, "http://b:1")

        assert Deferred.fromCoroutine(bench.discovery.ask_now()).called


def test_when_it_stops_nothing_is_left(bench: Bench) -> None:
    bench.discovery.stopService()
    bench.rewrite(f"{LINE}\ndns+srv://other")

    assert bench.clock.getDelayedCalls() == []
    assert len(bench.asked) == 1


def test_the_systems_name_servers(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# x\nsearch example\nnameserver 10.0.0.1\nnameserver ::1\nnameserver\n")

    assert system_servers(str(file)) == [("10.0.0.1", 53), ("::1", 53)]
    assert system_servers(str(tmp_path / "none")) == [("127.0.0.1", 53)]
