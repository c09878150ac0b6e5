"""Lines that DNS answers, and what its answers mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.peers.listing import Peer, Service, parse_roster, services_in
from dtfc.peers.srv import LONGEST_TTL, MOST_TARGETS, SHORTEST_TTL, Answer, Target, peers_of

NAME = "_dtfc._tcp.example"
PLAIN = Service(NAME)


@pytest.mark.parametrize(
    ("line", "service"),
    [
        (f"dns+srv://{NAME}", PLAIN),
        (f"DNS+SRV://{NAME.upper()}./", PLAIN),
        (f"dns+srv://{NAME} # all", PLAIN),
        (f"dns+srv://{NAME} weight=3 zone=attic scheme=https", Service(NAME, 3, "attic", "https")),
        ("dns+srv://peers.internal scheme=http", Service("peers.internal")),
    ],
)
def test_lines(line: str, service: Service) -> None:
    assert services_in(line) == (service,)
    assert parse_roster(line) == ((), [])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("dns+srv://", "a DNS name"),
        ("dns+srv://a..b", "a DNS name"),
        (f"dns+srv://{NAME}:8080", "a DNS name"),
        (f"dns+srv://{NAME}/x", "a DNS name"),
        ("dns+srv://" + "a." * 130 + "b", "a DNS name"),
        (f"dns+srv://{NAME} scheme=ftp", "http or https"),
        (f"dns+srv://{NAME} wait=3", "neither weight=, zone= nor scheme="),
        ("http://a:1 scheme=https", "neither weight= nor zone="),
    ],
)
def test_bad_lines(line: str, reason: str) -> None:
    peers, bad = parse_roster(line)

    assert (peers, services_in(line)) == ((), ())
    assert reason in bad[0].reason


def test_a_name_counts_once() -> None:
    text = f"dns+srv://{NAME}\nhttp://a:1\ndns+srv://{NAME} zone=attic"

    assert services_in(text) == (PLAIN,)


def test_priority_and_weight() -> None:
    targets = (
        Target(20, 0, "spare.example", 8080),
        Target(10, 3, "B.example.", 8080),
        Target(10, 1, "a.example", 80),
    )

    assert peers_of(Service(NAME, 2, "attic", "https"), targets) == (
        Peer("https://b.example:8080", 6, "attic", 0),
        Peer("https://a.example:80", 2, "attic", 0),
        Peer("https://spare.example:8080", 2, "attic", 1),
    )


def test_large_weights_keep_their_ratio() -> None:
    targets = (Target(0, 60000, "a", 1), Target(0, 30000, "b", 1), Target(0, 1, "c", 1))

    assert [each.weight for each in peers_of(PLAIN, targets)] == [1000, 500, 1]


def test_a_target_twice_is_one_peer() -> None:
    targets = (Target(1, 1, "a", 1), Target(0, 1, "A.", 1))

    assert peers_of(PLAIN, targets) == (Peer("http://a:1"),)


def test_a_dot_says_that_there_is_nobody() -> None:
    assert peers_of(PLAIN, (Target(0, 0, ".", 0),)) == ()


def test_no_record_is_no_answer() -> None:
    with pytest.raises(ValueError, match="no SRV record"):
        peers_of(PLAIN, ())


def test_a_target_that_is_no_host() -> None:
    with pytest.raises(ValueError, match="DNS names the target"):
        peers_of(PLAIN, (Target(0, 0, "a b", 1),))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "169.254.169.254", "::1", "localhost", "LOCALHOST.", "x.localhost"]
)
def test_a_target_that_is_no_name_of_another_host(host: str) -> None:
    with pytest.raises(ValueError, match="no name of a host"):
        peers_of(Service("_dtfc._tcp.example"), [Target(0, 1, host, 80)])


def test_the_first_ones_of_many_are_taken() -> None:
    targets = [Target(number, 1, f"h{number}", 1) for number in range(MOST_TARGETS + 5, 0, -1)]

    found = peers_of(PLAIN, targets)

    assert len(found) == MOST_TARGETS
    assert found[0].url == "http://h1:1"


@pytest.mark.parametrize(("ttl", "seconds"), [(0, SHORTEST_TTL), (300, 300), (10**6, LONGEST_TTL)])
def test_a_ttl_has_bounds(ttl: float, seconds: float) -> None:
    assert Answer((), ttl).holds == seconds


@given(
    st.lists(
        st.builds(
            Target,
            st.integers(0, 65535),
            st.integers(0, 65535),
            st.sampled_from("abcdefgh"),
            st.integers(1, 65535),
        ),
        min_size=1,
    ),
    st.integers(1, 1000),
)
def test_every_target_is_a_peer_with_a_weight_that_a_line_may_have(
    targets: list[Target], weight: int
) -> None:
    found = peers_of(Service(NAME, weight), targets)

    assert {each.url for each in found} == {f"http://{each.host}:{each.port}" for each in targets}
    assert all(1 <= each.weight <= 1000 for each in found)
    assert min(each.tier for each in found) == 0
