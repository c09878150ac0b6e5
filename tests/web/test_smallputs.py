"""Small PUTs: the short cut past the router, and the writer beside the node."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.task import Clock, deferLater

from dtfc.access.decisions import Policy
from dtfc.access.verbs import Verb
from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.errors import StoreFailure
from dtfc.peers.loader import Loader
from dtfc.peers.roster import Roster
from dtfc.store import capabilities
from dtfc.store.blobs import Store, open_store
from dtfc.store.facts import Stored
from dtfc.store.together import Small
from dtfc.store.writer import UNABLE
from dtfc.web import smallputs
from dtfc.web.blobs import Blobs, Terms
from dtfc.web.gate import Gate
from dtfc.web.hotblobs import HotBlobs
from dtfc.web.routes import Routes
from dtfc.web.smallputs import LONGEST, Writer
from dtfc.web.status import Status
from tests.support.alone import upkeep_alone
from tests.web.conftest import Wire

reactor: Any = _reactor

HELLO = b"hello, world"
DIGEST = Digest.of(HELLO).hex.encode()
OTHER = Digest.of(b"other").hex.encode()


class NoPeers(Loader):
    def __init__(self) -> None:
        pass

    def stored(self, digest: Digest) -> None:
        pass


class InGroups:
    """Stores each small blob at once, as a group of one."""

    def __init__(self, store: Store) -> None:
        self.together = store.together()
        self.taken = 0

    def put(self, body: bytes, name: str | None, digest: Digest | None) -> Deferred[Stored | None]:
        self.taken += 1
        [result] = self.together.put([Small(body, name, digest)])
        assert not isinstance(result, StoreFailure)
        return maybeDeferred(lambda: result)


class Road:
    """A store behind a connection; with the short cut and groups, or without."""

    def __init__(self, base: str, *, short: bool) -> None:
        self.store = open_store(base, fan_out=2, reserve=0)
        self.groups = InGroups(self.store) if short else None
        disk = InlineDisk()
        deny = os.path.join(base, "deny-")
        gate = Gate(Policy(deny, frozenset(Verb)))
        peers = NoPeers()
        self.blobs = Blobs(
            self.store,
            disk,
            peers,
            upkeep_alone(self.store, disk),
            gate,
            terms=Terms(max_body=100_000),
            hot=HotBlobs(0),
            small_puts=self.groups,
        )
        status = Status(
            self.store,
            disk,
            Roster(None),
            gate,
            draining=lambda: False,
            metrics=lambda _node: b"",
            clock=Clock(),
        )
        routes = Routes(self.blobs, status)
        self._resource = routes.resource() if short else routes.app.resource()

    def ask(self, raw: bytes) -> bytes:
        """Send a request; return all that is answered."""
        wire = Wire()
        wire.site.resource = self._resource
        wire.send(raw)
        wire.lose()
        return wire.got

    def close(self) -> None:
        if self.groups is not None:
            self.groups.together.close()
        self.store.close()


@pytest.fixture
def roads(tmp_path: Path) -> Iterator[list[Road]]:
    made = [Road(str(tmp_path / str(short)), short=short) for short in (True, False)]
    yield made
    for road in made:
        road.close()


PATHS = [
    b"/x.txt",
    b"/" + DIGEST,
    b"/" + DIGEST.upper(),
    b"/" + DIGEST + b"/name.txt",
    b"/" + OTHER,
    b"/" + OTHER + b"/name",
    b"/" + DIGEST[:-1],
    b"/" + DIGEST + b"0",
    b"/" + DIGEST + b"/nopeerload",
    b"/" + DIGEST + b"/info",
    b"/" + DIGEST + b"/a/b",
    b"/" + DIGEST + b"/",
    b"/",
    b"/livez",
    b"/files.json",
    b"/health.html",
    b"/a%20b",
    b"/%c3%bc",
    b"/a/b",
    b"/..",
    b"/.",
    b"/...",
    b"/-~_.",
    b"/" + b"n" * 255,
    b"/" + b"n" * 256,
    b"/x.txt?a=b",
    b"//x",
    b"/a+b",
]
FIELDS = [
    b"Repr-Digest: sha-512=:AAAA:",
    b"Repr-Digest: sha-256=:Ccp+TqpuiuMWuneoh2uJbvvejmqYXR/kLilhgUKBcjs=:",
    b"Digest: md5=x",
    b"If-None-Match: *",
    b"If-Match: *",
    b'If-Match: "' + DIGEST + b'"',
    b"Content-Range: bytes 0-1/2",
    b"Content-Encoding: gzip",
    b"Content-Encoding: identity",
    b"Content-Type: text/plain",
    b"Origin: http://elsewhere",
    b"Sec-Fetch-Site: cross-site",
    b"X-Forwarded-For: 8.8.8.8",
    b"Expect: 100-continue",
    b"Connection: close",
]
bodies = st.sampled_from([b"", HELLO, b"other", b"x" * LONGEST, b"x" * (LONGEST + 1)])
requests = st.tuples(
    st.sampled_from(PATHS)
    | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12).map(
        lambda text: b"/" + text.encode()
    ),
    bodies,
    st.lists(st.sampled_from(FIELDS), max_size=2),
    st.sampled_from(["length", "chunked", "none"]),
)


def composed(path: bytes, body: bytes, fields: list[bytes], framing: str) -> bytes:
    lines = [b"PUT " + path + b" HTTP/1.1", b"Host: a", *fields]
    if framing == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    elif framing == "length":
        lines.append(b"Content-Length: %d" % len(body))
    else:
        body = b""
    return b"\r\n".join([*lines, b"", body])


@given(st.lists(requests, min_size=1, max_size=6))
def test_both_roads_give_the_same_answer(
    asked: list[tuple[bytes, bytes, list[bytes], str]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        short, tree = (Road(f"{folder}/{short}", short=short) for short in (True, False))
        try:
            for request in asked:
                raw = composed(*request)
                assert short.ask(raw) == tree.ask(raw)
            assert sorted(short.store.walk()) == sorted(tree.store.walk())
            for digest in short.store.walk():
                assert short.store.stat(digest).names == tree.store.stat(digest).names
        finally:
            short.close()
            tree.close()


def test_a_plain_small_put_takes_the_short_cut(
    roads: list[Road], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    road = roads[0]
    monkeypatch.setattr(type(road._resource._tree), "render", never)  # type: ignore[attr-defined] # to see that it is not asked
    assert b" 201 " in road.ask(composed(b"/x.txt", HELLO, [], "length"))
    assert b" 200 " in road.ask(composed(b"/" + DIGEST, HELLO, [], "length"))
    assert road.groups is not None
    assert road.groups.taken == 2


@pytest.mark.parametrize("what", ["deny file", "deleted", "marked", "too large"])
def test_what_forbids_it_forbids_it_on_both(roads: list[Road], what: str) -> None:
    answers = []
    for road in roads:
        if what == "deny file":
            Path(road.store.layout.basedir, "deny-PUT").touch()
        elif what == "deleted":
            road.ask(composed(b"/x.txt", HELLO, [], "length"))
            road.store.delete(Digest.of(HELLO))
        elif what == "marked":
            road.ask(composed(b"/x.txt", HELLO, [], "length"))
            Path(road.store.layout.marker(Digest.of(HELLO), 403)).touch()
        else:
            road.blobs.terms = Terms(max_body=5)
        answers.append(road.ask(composed(b"/y.txt", HELLO, [], "length")))
    where = roads[0].store.layout.basedir.encode(), roads[1].store.layout.basedir.encode()
    assert answers[0].replace(where[0], where[1]) == answers[1]


def test_a_client_that_leaves_takes_its_put_with_it(
    tmp_path: Path, new_wire: Callable[..., Wire]
) -> None:
    road = Road(str(tmp_path / "store"), short=True)
    wire = new_wire()
    wire.site.resource = road._resource
    wire.send(composed(b"/x.txt", HELLO, [], "length")[:-3])
    wire.lose()
    assert list(road.store.walk()) == []
    assert wire.log[0].status == 499
    road.close()


# -- the writer -------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(str(tmp_path / "store"), fan_out=2, reserve=0)
    yield opened
    opened.close()


async def ready(writer: Writer) -> None:
    """Ask until it takes blobs."""
    deadline = time.monotonic() + 20
    while await writer.put(random.randbytes(16), None, None) is None:
        assert time.monotonic() < deadline
        await deferLater(reactor, 0.02)


@pytest_twisted.ensureDeferred
async def test_the_writer_stores(store: Store) -> None:
    writer = Writer(store, reactor)
    await ready(writer)
    bodies = [random.randbytes(4096) for _ in range(200)]
    results = await gatherResults(
        [writer.put(body, f"n{number}", Digest.of(body)) for number, body in enumerate(bodies)]
    )
    for number, (body, result) in enumerate(zip(bodies, results, strict=True)):
        assert result is not None
        assert result.info == store.stat(Digest.of(body))
        assert result.info.name == f"n{number}"
    assert await writer.put(bodies[0], "again", None) is None
    await writer.stop()
    assert os.listdir(store.layout.own("log")) == ["lock"]
    assert await writer.put(HELLO, None, None) is None


@pytest_twisted.ensureDeferred
async def test_before_the_first_small_put_it_makes_no_log(store: Store) -> None:
    before = os.listdir(store.layout.own("log"))
    writer = Writer(store, reactor)
    writer.start()
    await deferLater(reactor, 1.0)
    assert os.listdir(store.layout.own("log")) == before
    await ready(writer)
    assert os.listdir(store.layout.own("log")) != before
    await writer.stop()


@pytest_twisted.ensureDeferred
async def test_the_first_small_put_starts_no_process_of_its_own(store: Store) -> None:
    writer = Writer(store, reactor)
    writer.start()
    pid = writer.transport.pid
    await ready(writer)
    assert writer.transport.pid == pid
    await writer.stop()


@pytest_twisted.ensureDeferred
async def test_one_that_died_while_it_waited_is_begun_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smallputs, "RETRY", 0.0)
    writer = Writer(store, reactor)
    writer.start()
    os.kill(writer.transport.pid, signal.SIGKILL)
    await ready(writer)
    await writer.stop()


@pytest_twisted.ensureDeferred
async def test_one_that_was_never_asked_heeds_no_signal_and_ends_with_the_node(
    store: Store,
) -> None:
    writer = Writer(store, reactor)
    writer.start()
    pid = writer.transport.pid
    # Until it ignores signals it is an interpreter like any other.
    while (Path("/proc") / str(pid) / "status").read_text().count("SigIgn:\t0000000000000000"):
        await deferLater(reactor, 0.01)
    await deferLater(reactor, 0.2)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    await deferLater(reactor, 0.2)
    assert writer._running
    await writer.stop()
    assert not writer._running


@pytest_twisted.ensureDeferred
async def test_the_reserve_in_force_is_kept(store: Store) -> None:
    writer = Writer(store, reactor)
    await ready(writer)
    store.set_reserve(1 << 60)
    assert await writer.put(HELLO, None, None) is None
    store.set_reserve(0)
    assert await writer.put(HELLO, None, None) is not None
    await writer.stop()


@pytest_twisted.ensureDeferred
async def test_a_writer_that_dies_is_begun_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smallputs, "RETRY", 0.0)
    writer = Writer(store, reactor)
    await ready(writer)
    pid = writer.transport.pid
    os.kill(pid, signal.SIGSTOP)
    waiting = writer.put(HELLO, None, None)
    os.kill(pid, signal.SIGKILL)
    # Whoever waits goes the ordinary road.
    assert await waiting is None
    await ready(writer)
    assert writer.transport.pid != pid
    await writer.stop()


@pytest_twisted.ensureDeferred
async def test_a_system_without_the_calls_goes_the_ordinary_road(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smallputs, "_RUN", f"import sys; sys.stdin.read(0); sys.exit({UNABLE})")
    monkeypatch.setattr(smallputs, "RETRY", 0.0)
    writer = Writer(store, reactor)
    assert await writer.put(HELLO, None, None) is None
    deadline = time.monotonic() + 20
    while writer._running:
        assert time.monotonic() < deadline
        await deferLater(reactor, 0.02)
    assert await writer.put(HELLO, None, None) is None
    assert not writer._running
    await writer.stop()


LOSES = """
import errno, sys
def lose_after(module, name, good):
    real, calls = getattr(module, name), []
    def call(fd):
        calls.append(fd)
        if len(calls) > good:
            raise OSError(errno.EIO, "lost")
        return real(fd)
    setattr(module, name, call)
"""
# Two logs are begun, and the first blob is stored; the tree is synced once before that.
LOSES_THE_GROUP = f"{LOSES}import os; lose_after(os, 'fdatasync', 3)\n"
LOSES_THE_TREE = "lose_after(syscalls, 'sync_filesystem', 1)"


@pytest_twisted.ensureDeferred
async def test_a_group_that_the_disk_loses_counts_here(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smallputs, "_RUN", LOSES_THE_GROUP + smallputs._RUN)
    writer = Writer(store, reactor)
    await ready(writer)
    with pytest.raises(StoreFailure):
        await writer.put(HELLO, None, None)
    await writer.stop()
    assert store.failed_syncs == 1


@pytest_twisted.ensureDeferred
async def test_a_tree_that_the_disk_loses_counts_here(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rest = smallputs._RUN.split("; from", 1)
    start = f"{LOSES}{path}\nfrom dtfc.store import syscalls\n{LOSES_THE_TREE}\nfrom{rest}"
    monkeypatch.setattr(smallputs, "_RUN", start)
    writer = Writer(store, reactor)
    await ready(writer)
    await writer.stop()
    assert store.failed_syncs == 1


@pytest_twisted.ensureDeferred
async def test_no_process_is_begun_where_it_could_do_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capabilities, "_here", set())
    writer = Writer(store, reactor)
    assert await writer.put(HELLO, None, None) is None
    assert not writer._running
    await writer.stop()


@pytest_twisted.ensureDeferred
async def test_a_python_that_may_not_be_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    writer = Writer(store, reactor)
    assert await writer.put(HELLO, None, None) is None
    deadline = time.monotonic() + 20
    while writer._running:
        assert time.monotonic() < deadline
        await deferLater(reactor, 0.02)
    await writer.stop()


@pytest_twisted.ensureDeferred
async def test_a_writer_that_does_not_end_is_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smallputs, "PATIENCE", 0.2)
    writer = Writer(store, reactor)
    await ready(writer)
    os.kill(writer.transport.pid, signal.SIGSTOP)
    await writer.stop()
    with pytest.raises(ProcessExitedAlready):
        writer.transport.signalProcess("KILL")
