"""Which peers hold copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.peers.listing import Peer
from dtfc.replicas.placement import choose

DIGEST = Digest.of(b"one")

zones = st.sampled_from(["", "here", "there"])
peer_lists = st.lists(
    st.builds(Peer, st.integers(0, 30).map("http://h{}:80".format), st.integers(1, 9), zones),
    unique_by=lambda peer: peer.url,
    max_size=12,
)
digests = st.binary(min_size=64, max_size=64).map(Digest)


def some(peers: Sequence[Peer], mask: int) -> set[str]:
    return {peer.url for at, peer in enumerate(peers) if mask >> at & 1}


masks = st.tuples(st.integers(0, 4095), st.integers(0, 4095))


@given(digests, peer_lists, st.integers(0, 5), zones, masks)
def test_as_many_as_wanted_are_chosen_where_there_are_so_many(
    digest: Digest, peers: list[Peer], wanted: int, zone: str, held_and_out: tuple[int, int]
) -> None:
    held, out = (some(peers, mask) for mask in held_and_out)
    chosen = choose(digest, peers, wanted, own_zone=zone, held=held, out=out)
    urls = [peer.url for peer in chosen]
    assert len(set(urls)) == len(urls)
    assert held <= set(urls)
    assert not (set(urls) - held) & out
    possible = {peer.url for peer in peers} - (out - held)
    assert len(urls) == max(len(held), min(wanted, len(possible)))


@given(digests, peer_lists, st.integers(0, 5), zones, st.randoms())
def test_the_order_of_the_list_does_not_matter(
    digest: Digest, peers: list[Peer], wanted: int, zone: str, random: object
) -> None:
    shuffled = list(peers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one = choose(digest, peers, wanted, own_zone=zone)
    other = choose(digest, shuffled, wanted, own_zone=zone)
    assert set(one) == set(other)


@given(digests, peer_lists, st.integers(1, 5), zones)
def test_one_copy_stands_in_another_zone_where_there_is_one(
    digest: Digest, peers: list[Peer], wanted: int, zone: str
) -> None:
    chosen = choose(digest, peers, wanted, own_zone=zone)
    if any(peer.zone != zone for peer in peers):
        assert any(peer.zone != zone for peer in chosen)


@given(digests, peer_lists, st.integers(1, 4))
def test_who_leaves_moves_only_its_own_copies(
    digest: Digest, peers: list[Peer], wanted: int
) -> None:
    alike = [Peer(peer.url, peer.weight) for peer in peers]
    chosen = {peer.url for peer in choose(digest, alike, wanted)}
    for gone in alike:
        after = {peer.url for peer in choose(digest, alike, wanted, out={gone.url})}
        assert chosen - {gone.url} <= after


def test_the_zone_is_not_minded_where_all_copies_are_there_already() -> None:
    peers = [Peer("http://a:80", zone="x"), Peer("http://b:80", zone="y")]
    assert choose(DIGEST, peers, 1, own_zone="x", held={"http://a:80"}) == (peers[0],)


def test_twice_the_weight_gets_twice_the_copies() -> None:
    peers = [Peer("http://a:80", 1), Peer("http://b:80", 2), Peer("http://c:80", 1)]
    first = Counter(
        choose(Digest.of(str(number).encode()), peers, 1)[0].url for number in range(4000)
    )
    assert 1850 < first["http://b:80"] < 2150
    assert 870 < first["http://a:80"] < 1130
