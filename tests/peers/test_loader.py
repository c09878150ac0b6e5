"""Loads from peers over real sockets: what comes here, and what never does."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred

from dtfc.digest import Digest
from dtfc.errors import Absent, BadInput, Denied, Draining, NoSpace, PeersUnreached
from dtfc.peers.loader import Loader, RemoteInfo
from dtfc.store.door import Door
from dtfc.store.facts import BlobInfo
from dtfc.store.volume import Scratch
from tests.peers import hostile
from tests.peers.conftest import Node, pause
from tests.peers.hostile import Behaviour, cut_after, honest, in_turn, status

MIB = 1 << 20
DATA = random.Random(1).randbytes(3 * MIB + 12345)
DIGEST = Digest.of(DATA)
HALF = len(DATA) // 2
SMALL = b"hello, peer"

Until = Callable[[Callable[[], bool]], Any]


async def load(loader: Loader, digest: Digest = DIGEST) -> BlobInfo:
    with loader.ensure(digest) as share:
        return await share.finished()


def later(coroutine: Any) -> Deferred[Any]:
    """Start a coroutine, and keep its failure for whoever awaits it."""
    return Deferred.fromCoroutine(coroutine)


@pytest_twisted.ensureDeferred
async def test_a_blob_comes_with_its_name(node: Node) -> None:
    loader = node.loader(honest(DATA, 'Content-Disposition: attachment; filename="photo.jpg"'))
    info = await load(loader)
    assert info.digest == DIGEST
    assert info.length == len(DATA)
    assert info.name == "photo.jpg"
    assert node.read(DIGEST) == DATA


@pytest_twisted.ensureDeferred
async def test_what_is_asked(node: Node) -> None:
    """The whole, without Range, as it is, from the URL that never makes a peer ask others."""
    loader = node.loader(honest(DATA))
    await load(loader)
    peer = node.peers[0]
    assert peer.requests == [f"GET /{DIGEST.hex}/nopeerload"]
    assert set(peer.seen[0]) <= {"host", "accept-encoding", "user-agent", "connection"}
    assert peer.seen[0]["accept-encoding"] == "identity"
    assert peer.seen[0]["user-agent"].startswith("dtfc/")


@pytest_twisted.ensureDeferred
async def test_what_is_counted(node: Node) -> None:
    loader = node.loader(status(404), honest(DATA))
    await load(loader)
    counters = loader.counters
    assert (counters.loads, counters.loaded, counters.running) == (1, 1, 0)
    assert counters.loaded_bytes == counters.received_bytes == len(DATA)
    assert (counters.refetched_bytes, counters.resumed_bytes) == (0, 0)
    assert counters.peer_failures == 0


@pytest_twisted.ensureDeferred
async def test_what_became_of_each_request_is_counted(node: Node) -> None:
    loader = node.loader(status(404), honest(DATA))
    await load(loader)
    told = [dict(each.fetches) for each in loader.picker.snapshot(0.0)]
    results = [{name: count for name, count in each.items() if count} for each in told]
    assert results == [{"absent": 1}, {"ok": 1}]


@pytest_twisted.ensureDeferred
async def test_an_empty_blob(node: Node) -> None:
    info = await load(node.loader(honest(b"")), Digest.of(b""))
    assert info.length == 0


@pytest_twisted.ensureDeferred
async def test_a_blob_of_one_byte(node: Node) -> None:
    digest = Digest.of(b"x")
    await load(node.loader(honest(b"x")), digest)
    assert node.read(digest) == b"x"


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "a\\\\b", "", "..", "a\x01b"],
)
@pytest_twisted.ensureDeferred
async def test_a_bad_name_is_no_name(node: Node, name: str) -> None:
    field = f'Content-Disposition: attachment; filename="{name}"'
    info = await load(node.loader(honest(SMALL, field)), Digest.of(SMALL))
    assert info.name is None


LIARS: dict[str, Behaviour] = {
    "dies half-way": cut_after(DATA, HALF),
    "silent": hostile.silent,
    "goes silent half-way": hostile.stalls_after(DATA, HALF),
    "wrong Content-Range": hostile.wrong_content_range(DATA),
    "multipart": hostile.multipart_for_range(DATA),
    "wrong bytes": hostile.wrong_bytes(DATA),
    "gzip": hostile.encoded(DATA),
    "unknown coding": hostile.encoded(DATA, "br"),
    "shorter": hostile.shorter(DATA),
    "longer": hostile.longer(DATA),
    "announces more": hostile.announces_more(DATA),
    "an exabyte": hostile.announces_an_exabyte,
    "endless chunks": hostile.endless_chunks,
    "wrong and endless": hostile.endless_piece(bytes(len(DATA))),
    "drips": hostile.drips(DATA),
    "redirects": status(302, "Location: http://127.0.0.1:1/x"),
    "reset": hostile.resets,
    "closes": hostile.closes,
    "no HTTP": hostile.speaks_no_http,
    "half a head": hostile.half_a_head,
    "endless head": hostile.endless_head,
    "endless 1xx": hostile.endless_interim,
    "another blob": honest(DATA, f'ETag: "{"0" * 128}"'),
    "403": status(403),
    "500": status(500, body=b"oh"),
    "503": status(503, "Retry-After: 120"),
    "204": status(204),
    "304": status(304),
}
kinds = pytest.mark.parametrize("kind", LIARS)


@kinds
@pytest_twisted.ensureDeferred
async def test_a_liar_beside_an_honest_peer_does_no_harm(node: Node, kind: str) -> None:
    loader = node.loader(LIARS[kind], honest(DATA))
    await load(loader)
    assert node.read(DIGEST) == DATA
    assert len(node.peers[0].requests) <= 3
    assert len(node.peers[1].requests) <= 3
    assert loader.counters.peer_failures >= 1


@kinds
@pytest_twisted.ensureDeferred
async def test_a_liar_after_a_cut_does_no_harm(node: Node, kind: str) -> None:
    """The honest peer breaks off, the liar is asked for the rest, then the honest one again."""
    loader = node.loader(in_turn(cut_after(DATA, HALF), honest(DATA)), LIARS[kind])
    await load(loader)
    assert node.read(DIGEST) == DATA


# Two of them are honest in halves: asked twice they have given the whole.
@pytest.mark.parametrize("kind", sorted(LIARS.keys() - {"dies half-way", "goes silent half-way"}))
@pytest_twisted.ensureDeferred
async def test_a_liar_alone_stores_nothing(node: Node, kind: str) -> None:
    loader = node.loader(LIARS[kind])
    with pytest.raises((PeersUnreached, NoSpace)):
        await load(loader)
    assert list(node.store.walk()) == []
    assert loader.counters.loaded == 0
    assert loader.counters.peer_failures >= 1


@pytest_twisted.ensureDeferred
async def test_a_redirect_is_not_followed(node: Node) -> None:
    target = hostile.HostilePeer(honest(DATA))
    target.listen()
    loader = node.loader(status(302, f"Location: {target.url}/{DIGEST.hex}"))
    with pytest.raises(PeersUnreached):
        await load(loader)
    assert target.connects == 0
    await target.close()


@pytest_twisted.ensureDeferred
async def test_a_cookie_is_not_kept(node: Node) -> None:
    loader = node.loader(honest(SMALL, "Set-Cookie: a=b"))
    await load(loader, Digest.of(SMALL))
    with pytest.raises(PeersUnreached):
        await load(loader)
    assert all("cookie" not in fields for fields in node.peers[0].seen)


@pytest_twisted.ensureDeferred
async def test_endless_bytes_behind_the_right_ones_are_cut(node: Node, until: Until) -> None:
    loader = node.loader(hostile.endless_piece(DATA))
    node.leave_behind(DIGEST, DATA[:10])
    await load(loader)
    assert node.read(DIGEST) == DATA
    await until(lambda: not node.peers[0].connections)


@pytest_twisted.ensureDeferred
async def test_a_cut_resumes_at_the_next_peer_and_nothing_comes_twice(node: Node) -> None:
    loader = node.loader(cut_after(DATA, HALF), honest(DATA))
    await load(loader)
    assert node.peers[1].ranges == [f"bytes={HALF}-"]
    assert loader.counters.received_bytes == len(DATA)
    assert loader.counters.refetched_bytes == 0


@pytest_twisted.ensureDeferred
async def test_many_cuts_of_one_peer(node: Node) -> None:
    loader = node.loader(cut_after(DATA, 400_000))
    await load(loader)
    assert node.read(DIGEST) == DATA
    assert len(node.peers[0].requests) == 8
    assert loader.counters.refetched_bytes == 0


@pytest_twisted.ensureDeferred
async def test_a_left_over_part_is_gone_on_with(node: Node) -> None:
    node.leave_behind(DIGEST, DATA[:HALF])
    loader = node.loader(honest(DATA))
    await load(loader)
    assert node.peers[0].ranges == [f"bytes={HALF}-"]
    assert loader.counters.resumed_bytes == HALF
    assert loader.counters.received_bytes == len(DATA) - HALF


@pytest_twisted.ensureDeferred
async def test_a_left_over_whole_needs_no_peer(node: Node) -> None:
    node.leave_behind(DIGEST, DATA)
    loader = node.loader(honest(DATA))
    await load(loader)
    assert node.peers[0].requests == []
    assert node.read(DIGEST) == DATA


@pytest.mark.parametrize("junk", [b"junk", bytes(len(DATA)), bytes(len(DATA) + 5)])
@pytest_twisted.ensureDeferred
async def test_a_left_over_part_that_is_wrong_is_found_out(node: Node, junk: bytes) -> None:
    node.leave_behind(DIGEST, junk)
    await load(node.loader(honest(DATA)))
    assert node.read(DIGEST) == DATA


@pytest_twisted.ensureDeferred
async def test_a_server_without_ranges_is_the_last_resort(node: Node) -> None:
    node.leave_behind(DIGEST, DATA[:HALF])
    loader = node.loader(hostile.whole_for_range(DATA), honest(DATA))
    await load(loader)
    assert loader.counters.refetched_bytes == 0
    assert loader.counters.received_bytes == len(DATA) - HALF


@pytest_twisted.ensureDeferred
async def test_a_server_without_ranges_is_used_if_there_is_no_other(node: Node) -> None:
    node.leave_behind(DIGEST, DATA[:HALF])
    loader = node.loader(status(404), hostile.whole_for_range(DATA))
    await load(loader)
    assert node.read(DIGEST) == DATA
    assert loader.counters.refetched_bytes == HALF


@pytest_twisted.ensureDeferred
async def test_wrong_bytes_from_one_of_two_cost_a_second_whole(node: Node) -> None:
    loader = node.loader(hostile.wrong_bytes(DATA), honest(DATA))
    await load(loader)
    assert loader.counters.received_bytes == 2 * len(DATA)
    assert loader.counters.refetched_bytes == len(DATA)


@pytest_twisted.ensureDeferred
async def test_nobody_has_it(node: Node) -> None:
    loader = node.loader(status(404, body=b"{}"), status(410))
    with pytest.raises(Absent) as caught:
        await load(loader)
    assert not caught.value.deleted
    assert loader.counters.absent == 1


@pytest_twisted.ensureDeferred
async def test_without_peers_nobody_has_it(node: Node) -> None:
    with pytest.raises(Absent):
        await load(node.loader())


@pytest_twisted.ensureDeferred
async def test_who_was_not_reached_is_named(node: Node) -> None:
    loader = node.loader(status(404), hostile.silent, status(503, "Retry-After: 77"))
    with pytest.raises(PeersUnreached) as caught:
        await load(loader)
    assert caught.value.unreached == {
        node.peers[1].url: "no answer within 0.4 seconds",
        node.peers[2].url: "it answered 503",
    }
    assert caught.value.retry_after == 77


@pytest_twisted.ensureDeferred
async def test_a_peer_that_is_down_is_not_reached(node: Node) -> None:
    peer = node.peer(silent_peer := hostile.silent)
    del silent_peer
    loader = node.loader()
    await peer.port.stopListening()
    with pytest.raises(PeersUnreached) as caught:
        await load(loader)
    assert caught.value.unreached[peer.url].startswith("no connection: ")


@pytest_twisted.ensureDeferred
async def test_a_peer_that_is_briefly_busy_is_asked_again(node: Node) -> None:
    loader = node.loader(in_turn(status(503, "Retry-After: 0"), honest(SMALL)))
    await load(loader, Digest.of(SMALL))
    assert len(node.peers[0].requests) == 2


@pytest_twisted.ensureDeferred
async def test_fifty_waiters_are_one_request(node: Node) -> None:
    loader = node.loader(honest(DATA))
    infos = [await each for each in [later(load(loader)) for _ in range(50)]]
    assert {info.digest for info in infos} == {DIGEST}
    assert len(node.peers[0].requests) == 1
    assert loader.counters.loads == 1


@pytest_twisted.ensureDeferred
async def test_a_cancelled_waiter_disturbs_nobody(node: Node) -> None:
    loader = node.loader(honest(DATA))
    first, second, third = (later(load(loader)) for _ in range(3))
    second.cancel()
    assert (await first).length == len(DATA)
    assert (await third).length == len(DATA)
    with pytest.raises(CancelledError):
        await second
    assert loader.counters.loads == 1


@pytest_twisted.ensureDeferred
async def test_a_waiter_may_leave_from_inside_its_wake_up(node: Node) -> None:
    loader = node.loader(hostile.stalls_after(DATA, HALF))

    async def look() -> int:
        with loader.ensure(DIGEST) as share:
            return await share.sized()

    assert await look() == len(DATA)
    await pause(0.05)
    assert loader.counters.running == 0
    assert loader.counters.stopped == 1


@pytest_twisted.ensureDeferred
async def test_a_load_can_be_read_while_it_comes(node: Node) -> None:
    loader = node.loader(hostile.stalls_after(DATA, HALF))
    share = loader.ensure(DIGEST)
    assert await share.sized() == len(DATA)
    await share.wait_for(HALF)
    assert share.ready >= HALF
    assert share.length == len(DATA)
    assert os.pread(share.fd, HALF, 0) == DATA[:HALF]
    share.leave()


@pytest_twisted.ensureDeferred
async def test_waiting_for_more_than_there_is(node: Node) -> None:
    share = node.loader(honest(SMALL)).ensure(Digest.of(SMALL))
    with pytest.raises(BadInput):
        await share.wait_for(len(SMALL) + 1)
    with pytest.raises(LookupError):
        assert share.fd
    share.leave()


@pytest_twisted.ensureDeferred
async def test_the_last_to_leave_stops_a_load_that_has_barely_begun(
    node: Node, until: Until
) -> None:
    loader = node.loader(hostile.stalls_after(DATA, 300_000))
    one, two = loader.ensure(DIGEST), loader.ensure(DIGEST)
    await one.wait_for(300_000)
    one.leave()
    one.leave()
    assert loader.counters.running == 1
    two.leave()
    await until(lambda: loader.counters.running == 0)
    assert loader.counters.stopped == 1
    assert node.left_behind(DIGEST) == DATA[:300_000]
    await until(lambda: not node.peers[0].connections)


@pytest_twisted.ensureDeferred
async def test_a_load_that_is_half_there_runs_on(node: Node, until: Until) -> None:
    loader = node.loader(in_turn(hostile.stalls_after(DATA, HALF + 1), honest(DATA)))
    share = loader.ensure(DIGEST)
    await share.wait_for(HALF + 1)
    share.leave()
    await until(lambda: loader.counters.loaded == 1)
    assert node.read(DIGEST) == DATA


@pytest_twisted.ensureDeferred
async def test_who_comes_while_a_load_is_being_given_up_gets_a_new_one(node: Node) -> None:
    loader = node.loader(in_turn(hostile.stalls_after(DATA, 300_000), honest(DATA)))
    share = loader.ensure(DIGEST)
    await share.wait_for(300_000)
    share.leave()
    await load(loader)
    assert node.peers[0].ranges == [None, "bytes=300000-"]


@pytest_twisted.ensureDeferred
async def test_joining_a_load_in_progress(node: Node) -> None:
    loader = node.loader(honest(DATA))
    assert loader.loading(DIGEST) is None
    first = loader.ensure(DIGEST)
    second = loader.loading(DIGEST)
    assert second is not None
    assert (await second.finished()).length == len(DATA)
    first.leave()
    second.leave()


@pytest_twisted.ensureDeferred
async def test_who_joins_is_counted_while_it_waits(node: Node) -> None:
    loader = node.loader(honest(DATA))
    first, second = loader.ensure(DIGEST), loader.ensure(DIGEST)
    joined = loader.counters.waiters
    await second.finished()
    first.leave()
    second.leave()
    assert (joined, loader.counters.waiters) == (1, 0)


@pytest_twisted.ensureDeferred
async def test_another_process_that_loads_is_waited_for(node: Node) -> None:
    other = node.open_store().partial(DIGEST)
    other.absorb()
    loader = node.loader(honest(DATA))
    waiting = later(load(loader))
    await pause(0.12)
    other.write([DATA])
    other.commit("theirs")
    other.close()
    assert (await waiting).name == "theirs"
    assert node.peers[0].requests == []


@pytest_twisted.ensureDeferred
async def test_another_process_that_dies_is_taken_over_from(node: Node) -> None:
    other = node.open_store().partial(DIGEST)
    other.absorb()
    other.write([DATA[:HALF]])
    loader = node.loader(honest(DATA))
    waiting = later(load(loader))
    await pause(0.12)
    other.close()
    await waiting
    assert node.peers[0].ranges == [f"bytes={HALF}-"]


@pytest_twisted.ensureDeferred
async def test_what_is_here_is_not_loaded(node: Node) -> None:
    intake = node.store.intake(None)
    intake.write([DATA])
    intake.commit("mine")
    loader = node.loader(honest(DATA))
    assert (await load(loader)).name == "mine"
    assert node.peers[0].requests == []
    assert loader.counters.loads == 0


@pytest_twisted.ensureDeferred
async def test_what_was_deleted_here_is_not_loaded(node: Node) -> None:
    node.store.delete(DIGEST)
    loader = node.loader(honest(DATA))
    with pytest.raises(Absent) as caught:
        await load(loader)
    assert caught.value.deleted
    assert node.peers[0].requests == []


@pytest_twisted.ensureDeferred
async def test_what_the_operator_denies_is_not_loaded(node: Node) -> None:
    node.deny(DIGEST)
    loader = node.loader(honest(DATA))
    with pytest.raises(Denied):
        await load(loader)
    assert node.peers[0].requests == []


@pytest_twisted.ensureDeferred
async def test_nothing_stays_of_what_is_deleted_while_it_loads(node: Node) -> None:
    loader = node.loader(in_turn(hostile.stalls_after(DATA, HALF), honest(DATA)))
    share = loader.ensure(DIGEST)
    await share.wait_for(HALF)
    node.store.delete(DIGEST)
    with pytest.raises(Absent):
        await share.finished()
    share.leave()
    assert not (node.folder / "store" / ".dtfc" / "partial" / DIGEST.hex).exists()


@pytest_twisted.ensureDeferred
async def test_it_is_right_before_it_is_durable(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow disk makes nobody wait who only wants the bytes."""
    seen: list[tuple[bool, bool]] = []
    seal = Door.seal

    def looked_at(door: Door, source: Scratch) -> None:
        seen.append((share.right, share.here))
        seal(door, source)

    monkeypatch.setattr(Door, "seal", looked_at)
    loader = node.loader(honest(DATA))
    with loader.ensure(DIGEST) as share:
        before = share.right
        await share.finished()
        after = share.right
    assert (before, after) == (False, True)
    assert seen[0] == (True, False)


@pytest_twisted.ensureDeferred
async def test_what_is_wrong_is_never_right(node: Node) -> None:
    loader = node.loader(hostile.wrong_bytes(DATA))
    with loader.ensure(DIGEST) as share:
        with pytest.raises(PeersUnreached):
            await share.finished()
        assert not share.right


@pytest_twisted.ensureDeferred
async def test_many_probes_are_one_question(node: Node) -> None:
    loader = node.loader(honest(DATA))
    answers = [later(loader.probe(DIGEST)) for _ in range(20)]
    assert {(await answer).length for answer in answers} == {len(DATA)}
    assert len(node.peers[0].requests) == 1


@pytest_twisted.ensureDeferred
async def test_a_refused_connection_costs_next_to_nothing(node: Node) -> None:
    loader = node.loader(*[honest(DATA) for _ in range(10)])
    for peer in node.peers[:-1]:
        await peer.close()
    begun = time.monotonic()
    await load(loader)
    assert time.monotonic() - begun < 1.5


@pytest_twisted.ensureDeferred
async def test_what_is_deleted_while_it_loads_stays_deleted(node: Node) -> None:
    loader = node.loader(in_turn(hostile.stalls_after(DATA, HALF), honest(DATA)))
    share = loader.ensure(DIGEST)
    await share.wait_for(HALF)
    node.store.delete(DIGEST)
    with pytest.raises(Absent) as caught:
        await share.finished()
    share.leave()
    assert caught.value.deleted
    assert list(node.store.walk()) == []


@pytest_twisted.ensureDeferred
async def test_a_full_disk_is_said_to_be_full(node: Node) -> None:
    loader = node.loader(honest(DATA), store=node.open_store(reserve=1 << 60))
    with pytest.raises(NoSpace):
        await load(loader)


@pytest_twisted.ensureDeferred
async def test_what_nobody_had_is_not_asked_for_again_at_once(node: Node) -> None:
    loader = node.loader(status(404), remember_absent=60)
    for _ in range(3):
        with pytest.raises(Absent):
            await load(loader)
    assert len(node.peers[0].requests) == 1


@pytest_twisted.ensureDeferred
async def test_what_nobody_had_is_asked_for_again_later(node: Node) -> None:
    loader = node.loader(in_turn(status(404), honest(DATA)), remember_absent=0.05)
    with pytest.raises(Absent):
        await load(loader)
    await pause(0.06)
    await load(loader)


@pytest_twisted.ensureDeferred
async def test_a_new_peer_is_asked_at_once(node: Node) -> None:
    loader = node.loader(status(404), remember_absent=60)
    with pytest.raises(Absent):
        await load(loader)
    node.list.write_text(node.list.read_text() + node.peer(honest(DATA)).url)
    node.roster.reload()
    await load(loader)


@pytest_twisted.ensureDeferred
async def test_a_blob_that_was_stored_is_not_remembered_as_absent(node: Node) -> None:
    loader = node.loader(in_turn(status(404), honest(DATA)), remember_absent=60)
    with pytest.raises(Absent):
        await load(loader)
    loader.stored(DIGEST)
    await load(loader)


@pytest_twisted.ensureDeferred
async def test_stopping_ends_loads_and_keeps_what_came(node: Node) -> None:
    loader = node.loader(hostile.stalls_after(DATA, HALF))
    share = loader.ensure(DIGEST)
    await share.wait_for(HALF)
    waiting = later(share.finished())
    await loader.stop()
    with pytest.raises(Draining):
        await waiting
    with pytest.raises(Draining):
        loader.ensure(DIGEST)
    with pytest.raises(Draining):
        await loader.probe(DIGEST)
    assert node.left_behind(DIGEST) == DATA[:HALF]


@pytest.mark.parametrize(
    "behaviour",
    [hostile.silent, hostile.half_a_head, hostile.drips(DATA)],
)
@pytest_twisted.ensureDeferred
async def test_stopping_does_not_wait_for_a_peer(
    node: Node, until: Until, behaviour: Behaviour
) -> None:
    loader = node.loader(behaviour)
    waiting = later(load(loader))
    await until(lambda: len(node.peers[0].requests) == 1)
    await loader.stop()
    with pytest.raises(Draining):
        await waiting


@pytest_twisted.ensureDeferred
async def test_probe_asks_with_head_until_one_has_it(node: Node) -> None:
    name = 'Content-Disposition: attachment; filename="a.txt"'
    loader = node.loader(status(404), honest(DATA, name), honest(DATA))
    assert await loader.probe(DIGEST) == RemoteInfo(len(DATA), "a.txt")
    assert node.peers[1].requests == [f"HEAD /{DIGEST.hex}/nopeerload"]
    assert node.peers[2].requests == []
    assert node.peers[1].body_bytes == 0


@pytest_twisted.ensureDeferred
async def test_probe_of_what_nobody_has(node: Node) -> None:
    loader = node.loader(status(404), status(404), remember_absent=60)
    for _ in range(2):
        with pytest.raises(Absent):
            await loader.probe(DIGEST)
    assert len(node.peers[0].requests) == 1


@pytest_twisted.ensureDeferred
async def test_probe_names_who_was_not_reached(node: Node) -> None:
    loader = node.loader(status(404), hostile.silent, status(403))
    with pytest.raises(PeersUnreached) as caught:
        await loader.probe(DIGEST)
    assert set(caught.value.unreached) == {node.peers[1].url, node.peers[2].url}


@pytest_twisted.ensureDeferred
async def test_a_cancelled_probe_asks_nobody_else(node: Node, until: Until) -> None:
    loader = node.loader(hostile.silent, honest(DATA))
    probing = later(loader.probe(DIGEST))
    await until(lambda: len(node.peers[0].requests) == 1)
    probing.cancel()
    with pytest.raises(CancelledError):
        await probing
    await until(lambda: not node.peers[0].connections)
    assert node.peers[1].requests == []


@pytest_twisted.ensureDeferred
async def test_stopping_ends_a_probe(node: Node, until: Until) -> None:
    loader = node.loader(hostile.silent)
    probing = later(loader.probe(DIGEST))
    await until(lambda: len(node.peers[0].requests) == 1)
    await loader.stop()
    with pytest.raises(PeersUnreached):
        await probing


@pytest_twisted.ensureDeferred
async def test_probe_of_what_is_being_loaded_asks_nobody(node: Node) -> None:
    loader = node.loader(hostile.stalls_after(DATA, HALF))
    share = loader.ensure(DIGEST)
    await share.sized()
    assert await loader.probe(DIGEST) == RemoteInfo(len(DATA), None)
    share.leave()


@pytest_twisted.ensureDeferred
async def test_a_connection_is_used_again(node: Node) -> None:
    loader = node.loader(
        in_turn(status(404, body=b"x" * 500), honest(SMALL), honest(DATA)), remember_absent=0
    )
    with pytest.raises(Absent):
        await load(loader)
    await pause(0.01)
    await load(loader, Digest.of(SMALL))
    await pause(0.01)
    await load(loader)
    assert node.peers[0].connects == 1


@pytest_twisted.ensureDeferred
async def test_a_connection_that_the_peer_closed_meanwhile_is_no_failure(
    node: Node, until: Until
) -> None:
    loader = node.loader(honest(SMALL), remember_absent=0)
    await load(loader, Digest.of(SMALL))
    peer = node.peers[0]
    for each in list(peer.connections):
        each.close()
    await until(lambda: not peer.connections)
    peer.behaviour = honest(DATA)
    await load(loader)
    assert loader.counters.peer_failures == 0


@pytest_twisted.ensureDeferred
async def test_no_more_is_asked_of_one_peer_at_once_than_may_be(node: Node, until: Until) -> None:
    """Of all loads together; the next one is asked for when another is over."""
    blobs = [random.Random(number).randbytes(1000) for number in range(6)]
    by_path = {f"/{Digest.of(blob).hex}/nopeerload": blob for blob in blobs}
    exchanges: list[hostile.Exchange] = []
    loader = node.loader(exchanges.append, asks_per_peer=2)
    running = [later(load(loader, Digest.of(blob))) for blob in blobs]
    for done in range(len(blobs)):
        expected = min(len(blobs), done + 2)
        await until(lambda expected=expected: len(exchanges) >= expected)  # type: ignore[misc]
        await pause(0.05)
        assert len(exchanges) == expected
        exchange = exchanges[done]
        exchange.send(hostile.answer(exchange, by_path[exchange.path]))
    for each in running:
        await each
