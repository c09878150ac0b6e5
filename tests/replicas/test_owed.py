"""Copies that are owed: made whatever happens, counted as they are, and not forgotten."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dtfc.digest import Digest
from dtfc.errors import Absent, Corrupt, Denied, QueueFull, QuorumMissed
from dtfc.replicas.copyfilter import parse_filter
from tests.replicas.conftest import URLS, Owing

Contents = Callable[[int], list[bytes]]


def test_a_blob_gets_its_copies_at_once(owing: Owing) -> None:
    owing.start()
    digest = owing.owe()
    assert owing.peers.holders(digest) == set(owing.places(digest))
    assert owing.queue() == 0
    assert owing.replicas.counts.sent == 2


def test_who_has_it_already_counts(owing: Owing) -> None:
    owing.start()
    digest = owing.owe()
    assert owing.owe() == digest
    assert (owing.replicas.counts.sent, owing.replicas.counts.found) == (2, 2)


def test_what_the_filter_excludes_owes_nothing(owing: Owing) -> None:
    owing.start()
    wants, _ = parse_filter("exclude name=*.tmp\nexclude type=text/* min-size=3")
    owing.replicas.set_terms(owing.replicas.terms, wants)
    assert owing.peers.holders(owing.owe(b"a", "a.tmp")) == set()
    assert owing.peers.holders(owing.owe(b"long", "a.txt")) == set()
    assert len(owing.peers.holders(owing.owe(b"b", "a.txt"))) == 2
    assert len(owing.peers.holders(owing.owe(b"c", None))) == 2


def test_one_replica_owes_nothing(owing: Owing) -> None:
    owing.start(replicas=1)
    owing.owe()
    assert owing.queue() == 0
    assert owing.peers.asked == []


class TestAPeerThatIsDown:
    def test_it_gets_what_waits_for_it_when_it_is_back(self, owing: Owing) -> None:
        owing.start()
        digest = owing.owe(b"other")
        down, up = owing.places(digest)
        owing.peers.held.clear()
        owing.peers.down = {down}
        owing.owe(b"other")
        owing.pass_time(60)
        assert owing.peers.holders(digest) == {up}
        assert owing.queue() == 1
        owing.peers.down = set()
        owing.pass_time(31)
        assert owing.peers.holders(digest) == {down, up}
        assert owing.queue() == 0

    def test_another_takes_its_place_when_patience_ends(self, owing: Owing) -> None:
        owing.start(patience=20.0)
        digest = owing.owe()
        down, up = owing.places(digest)
        third = owing.places(digest, 3)[2]
        owing.peers.held.clear()
        owing.peers.down = {down}
        owing.owe()
        owing.pass_time(19)
        assert owing.peers.holders(digest) == {up}
        owing.pass_time(3)
        assert owing.peers.holders(digest) == {up, third}
        assert owing.queue() == 0
        owing.peers.down = set()
        owing.pass_time(100)
        assert owing.peers.holders(digest) == {up, third}

    def test_when_it_is_known_to_be_gone_new_blobs_do_not_wait(self, owing: Owing) -> None:
        owing.start(patience=20.0)
        owing.peers.down = {URLS[0]}
        for number in range(20):
            owing.owe(str(number).encode())
        owing.pass_time(30)
        assert owing.queue() == 0
        for number in range(20, 40):
            digest = owing.owe(str(number).encode())
            assert len(owing.peers.holders(digest)) == 2

    def test_it_is_asked_less_and_less_often(self, owing: Owing) -> None:
        owing.start(patience=10_000.0)
        owing.peers.down = set(URLS)
        owing.owe()
        asked = len(owing.peers.asked)
        owing.pass_time(600)
        assert len(owing.peers.asked) == asked
        # 1/2, 1, 2, 4, 8 and then 15 seconds: with this chance, half of each rest.
        assert 35 < owing.peers.probed.count(owing.peers.asked[0][0]) < 50

    def test_nothing_is_sent_while_it_is_down(self, owing: Owing, contents: Contents) -> None:
        owing.start()
        owing.peers.down = {URLS[0]}
        for content in contents(200):
            owing.owe(content)
        assert sum(peer == URLS[0] for peer, _ in owing.peers.asked) == 1
        owing.peers.down = set()
        owing.pass_time(60)
        assert owing.queue() == 0

    def test_many_wait_for_it_and_all_get_there(self, owing: Owing, contents: Contents) -> None:
        owing.start(at_once=3, at_once_to_one=1)
        owing.peers.down = {URLS[0], URLS[1]}
        digests = [owing.owe(content) for content in contents(300)]
        owing.pass_time(3)
        owing.peers.down = set()
        owing.pass_time(60)
        assert [digest for digest in digests if len(owing.peers.holders(digest)) != 2] == []
        assert owing.queue() == 0


class TestASlowPeer:
    def test_it_holds_up_nobody_else(self, owing: Owing, contents: Contents) -> None:
        owing.start(at_once=8, at_once_to_one=1)
        owing.peers.slow = {URLS[0]}
        digests = [owing.owe(content) for content in contents(300)]
        owing.pass_time(5)
        others = [digest for digest in digests if URLS[0] not in owing.places(digest)]
        assert [digest for digest in others if len(owing.peers.holders(digest)) != 2] == []
        assert len(owing.peers.waiting) == 1
        for _ in range(2000):
            owing.peers.let()
            owing.clock.advance(0.1)
        assert owing.queue() == 0

    def test_no_more_copies_are_on_their_way_than_may_be(
        self, owing: Owing, contents: Contents
    ) -> None:
        owing.start(at_once=5, at_once_to_one=2)
        owing.peers.slow = set(URLS)
        for content in contents(100):
            owing.owe(content)
        for _ in range(400):
            per_peer = [peer for peer, _ in owing.peers.waiting]
            assert all(per_peer.count(url) <= 2 for url in URLS)
            owing.peers.let(1)
            owing.clock.advance(0.1)
        assert owing.peers.most == 5
        assert owing.queue() == 0


class TestRefusals:
    def test_the_next_one_takes_it_at_once(self, owing: Owing) -> None:
        owing.start()
        digest = owing.owe()
        first, second, third = owing.places(digest, 3)
        owing.peers.held.clear()
        owing.peers.refusing = {first: 507}
        owing.owe()
        assert owing.peers.holders(digest) == {second, third}
        assert owing.queue() == 0

    def test_who_says_deleted_is_asked_once_more(self, owing: Owing) -> None:
        owing.start()
        digest = owing.owe()
        first, second, third = owing.places(digest, 3)
        owing.peers.held.clear()
        owing.peers.refusing = {first: 410}
        owing.owe()
        assert owing.peers.holders(digest) == {second}
        owing.peers.refusing = {}
        owing.clock.advance(1)
        assert owing.peers.holders(digest) == {first, second}
        owing.peers.held.clear()
        owing.peers.refusing = {first: 410}
        owing.owe()
        owing.clock.advance(1)
        assert owing.peers.holders(digest) == {second, third}

    def test_what_nobody_takes_is_kept_said_and_offered_again(self, owing: Owing) -> None:
        owing.start()
        owing.peers.refusing = dict.fromkeys(URLS, 403)
        digest = owing.owe()
        owing.pass_time(2)
        assert owing.replicas.length.stuck == 1
        assert owing.replicas.counts.refused == 5
        owing.pass_time(40)
        assert owing.replicas.counts.refused == 5
        owing.peers.refusing = {}
        owing.pass_time(20)
        assert len(owing.peers.holders(digest)) == 2
        assert owing.replicas.length.stuck == 0

    def test_too_few_peers_are_said_and_a_new_list_is_tried_at_once(self, owing: Owing) -> None:
        owing.start()
        owing.roster.change(URLS[0])
        digest = owing.owe()
        owing.pass_time(2)
        assert owing.peers.holders(digest) == {URLS[0]}
        assert owing.replicas.length.stuck == 1
        owing.roster.change(*URLS[:2])
        owing.pass_time(2)
        assert owing.peers.holders(digest) == {URLS[0], URLS[1]}
        assert owing.queue() == 0

    def test_a_peer_that_left_the_list_is_waited_for_no_more(self, owing: Owing) -> None:
        owing.start()
        digest = owing.owe()
        down, up = owing.places(digest)
        owing.peers.held.clear()
        owing.peers.down = {down}
        owing.owe()
        owing.roster.change(*(url for url in URLS if url != down))
        owing.pass_time(2)
        assert len(owing.peers.holders(digest) - {down}) == 2
        assert up in owing.peers.holders(digest)


class TestWhatIsWrongHere:
    def test_a_deleted_blob_leaves_the_queue(self, owing: Owing) -> None:
        owing.start()
        owing.peers.down = set(URLS)
        digest = owing.owe()
        outcome = owing.replicas.forget(digest)
        with pytest.raises(StopIteration):
            outcome.send(None)
        assert owing.queue() == 0

    def test_one_that_turns_out_to_be_deleted_does_too(self, owing: Owing) -> None:
        owing.start()
        content = b"gone"
        digest = owing.owe(content)
        owing.peers.broken[digest] = Absent(digest.hex, deleted=True)
        owing.owe(content)
        assert owing.queue() == 0
        assert owing.replicas._outbox.copies(digest) == []

    @pytest.mark.parametrize(
        "error", [Absent("00"), Denied("a marker"), Corrupt("00", 3)], ids=["absent", "403", "rot"]
    )
    def test_what_cannot_be_read_is_kept_and_tried_again(
        self, owing: Owing, error: Exception
    ) -> None:
        owing.start()
        digest = owing.owe(b"first")
        owing.peers.held.clear()
        owing.peers.broken[digest] = error
        owing.owe(b"first")
        owing.pass_time(2)
        assert owing.replicas.length.stuck == 1
        owing.peers.broken.clear()
        owing.pass_time(60)
        assert len(owing.peers.holders(digest)) == 2

    def test_deleted_while_it_is_sent_and_stored_again(self, owing: Owing) -> None:
        owing.start()
        owing.peers.slow = set(URLS)
        digest = owing.owe()
        with pytest.raises(StopIteration):
            owing.replicas.forget(digest).send(None)
        owing.peers.slow = set()
        owing.owe()
        assert len(owing.peers.holders(digest)) == 2
        assert owing.queue() == 0


class TestQuorum:
    def test_a_client_gets_as_many_copies_as_it_must_have(self, owing: Owing) -> None:
        owing.start(quorum=2)
        owing.peers.slow = set(URLS)
        client = owing.put()
        assert not client.done
        owing.peers.let(1)
        assert (client.done, client.copies) == (True, 2)
        owing.peers.let()

    def test_one_of_them_down_does_not_hold_it_up(self, owing: Owing) -> None:
        owing.start(quorum=2)
        owing.peers.down = {owing.places(owing.put(b"y").digest)[0]}
        assert owing.put(b"y").copies == 2

    def test_too_few_are_said_in_time_and_the_copies_are_owed(self, owing: Owing) -> None:
        owing.start(quorum=2, quorum_timeout=5.0)
        owing.peers.down = set(URLS)
        client = owing.put()
        owing.pass_time(4)
        assert not client.done
        owing.pass_time(2)
        assert isinstance(client.error, QuorumMissed)
        assert (client.error.copies, client.error.wanted) == (1, 2)
        assert owing.queue() == 1
        owing.peers.down = set()
        owing.pass_time(31)
        assert len(owing.peers.holders(client.digest)) == 2
        assert owing.put().copies == 3

    def test_a_peer_that_comes_back_meanwhile_is_enough(self, owing: Owing) -> None:
        owing.start(quorum=2, quorum_timeout=20.0)
        owing.peers.down = set(URLS)
        client = owing.put()
        owing.pass_time(5)
        owing.peers.down = set()
        owing.pass_time(14)
        assert client.error is None
        assert client.copies is not None
        assert client.copies >= 2

    def test_a_place_that_is_taken_by_another_meanwhile_is_enough(self, owing: Owing) -> None:
        owing.start(quorum=3, quorum_timeout=20.0, patience=5.0)
        digest = owing.put(b"y").digest
        owing.peers.held.clear()
        owing.peers.down = {owing.places(digest)[0]}
        client = owing.put(b"y")
        owing.pass_time(4)
        assert not client.done
        owing.pass_time(4)
        assert client.copies == 3

    def test_clients_that_wait_cost_the_disk_nothing(self, owing: Owing) -> None:
        owing.start(quorum=2, quorum_timeout=20.0)
        owing.peers.down = set(URLS)
        clients = [owing.put(str(number).encode()) for number in range(10)]
        looked: list[Digest] = []
        copies = owing.replicas._outbox.copies

        def look(digest: Digest) -> list[str]:
            looked.append(digest)
            return copies(digest)

        owing.replicas._outbox.copies = look  # type: ignore[method-assign]
        owing.pass_time(10)
        assert len(looked) == 0
        owing.pass_time(11)
        assert all(isinstance(client.error, QuorumMissed) for client in clients)

    def test_a_client_that_leaves_leaves_its_copies_owed(self, owing: Owing) -> None:
        owing.start(quorum=2)
        owing.peers.slow = set(URLS)
        client = owing.put()
        client.leave()
        owing.peers.slow = set()
        owing.peers.let()
        assert len(owing.peers.holders(client.digest)) == 2
        assert owing.queue() == 0

    def test_what_is_deleted_meanwhile_is_said(self, owing: Owing) -> None:
        owing.start(quorum=2)
        owing.peers.slow = set(URLS)
        client = owing.put()
        with pytest.raises(StopIteration):
            owing.replicas.forget(client.digest).send(None)
        assert isinstance(client.error, Absent)

    def test_clients_that_wait_go_before_what_waits(self, owing: Owing, contents: Contents) -> None:
        owing.start(quorum=1, at_once=2, at_once_to_one=1)
        owing.peers.slow = set(URLS)
        for content in contents(50):
            owing.owe(content)
        owing.replicas.set_terms(
            type(owing.replicas.terms)(replicas=3, quorum=2, at_once=2, at_once_to_one=1),
            owing.replicas.wants,
        )
        client = owing.put(b"urgent")
        for _ in range(30):
            owing.peers.let(1)
        assert client.copies == 2
        assert owing.queue() > 20

    def test_another_process_that_copies_it_already_is_looked_at(self, owing: Owing) -> None:
        first = owing.start()
        owing.peers.slow = set(URLS)
        owing.owe()
        second = owing.start(chores=False, quorum=3)
        client = owing.put()
        owing.clock.advance(0.1)
        assert not client.done
        owing.peers.let()
        owing.peers.let()
        owing.clock.advance(0.3)
        assert client.copies == 3
        assert (first.counts.sent, second.counts.sent) == (2, 0)


class TestTheQueue:
    def test_a_full_one_turns_away(self, owing: Owing, contents: Contents) -> None:
        owing.start(queue=5)
        owing.peers.down = set(URLS)
        for content in contents(5):
            owing.replicas.admit()
            owing.owe(content)
        owing.pass_time(1)
        with pytest.raises(QueueFull) as caught:
            owing.replicas.admit()
        assert caught.value.limit == 5
        owing.peers.down = set()
        owing.pass_time(31)
        owing.replicas.admit()

    def test_what_is_left_is_taken_up_by_the_next_process(
        self, owing: Owing, contents: Contents
    ) -> None:
        owing.start()
        owing.peers.down = set(URLS)
        digests = [owing.owe(content) for content in contents(30)]
        owing.stop()
        owing.peers.down = set()
        owing.start()
        owing.pass_time(3)
        assert [digest for digest in digests if len(owing.peers.holders(digest)) != 2] == []
        assert owing.queue() == 0

    def test_a_copy_that_was_lost_before_the_last_put_is_made_again(self, owing: Owing) -> None:
        owing.start()
        digest = owing.owe()
        lost, down = owing.places(digest)
        owing.peers.held.clear()
        owing.peers.down = {down}
        owing.owe()
        assert owing.peers.holders(digest) == {lost}
        # A new disk; then the blob is stored again, and the node dies before
        # it could ask.
        owing.peers.held.clear()
        owing.peers.slow = {lost}
        owing.owe()
        owing.stop()
        owing.peers.down = set()
        owing.peers.slow = set()
        owing.start()
        owing.pass_time(3)
        assert owing.peers.holders(digest) == {lost, down}

    def test_what_a_process_leaves_goes_to_one_that_lives(
        self, owing: Owing, contents: Contents
    ) -> None:
        survivor = owing.start()
        owing.peers.slow = set(URLS)
        dying = owing.start(chores=False)
        digests = [owing.owe(content) for content in contents(30)]
        owing.stop(dying)
        owing.replicas = survivor
        owing.peers.slow = set()
        owing.pass_time(12)
        assert [digest for digest in digests if len(owing.peers.holders(digest)) != 2] == []

    def test_more_than_memory_keeps_is_read_from_the_disk(
        self, owing: Owing, contents: Contents
    ) -> None:
        owing.start(at_once=1, at_once_to_one=1)
        owing.peers.slow = set(URLS)
        digests = [owing.owe(content) for content in contents(1500)]
        assert len(owing.replicas._fresh) <= 1000
        owing.peers.slow = set()
        owing.peers.let()
        owing.pass_time(60)
        assert [digest for digest in digests if len(owing.peers.holders(digest)) != 2] == []
        assert owing.queue() == 0

    def test_fewer_replicas_from_now_on_empty_the_queue(self, owing: Owing) -> None:
        owing.start()
        owing.peers.down = set(URLS)
        owing.owe()
        owing.stop()
        owing.peers.down = set()
        owing.start(replicas=1)
        owing.pass_time(60)
        assert owing.queue() == 0

    def test_who_has_copies_is_known(self, owing: Owing) -> None:
        owing.start()
        digest = owing.owe()
        assert set(owing.replicas._outbox.copies(digest)) == set(owing.places(digest))
