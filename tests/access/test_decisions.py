"""Who may do what: every cell of the table."""

from __future__ import annotations

import ipaddress

import pytest

from dtfc.access.decisions import Caller, Policy, check, check_peer, client_of, is_local
from dtfc.access.verbs import Verb
from dtfc.errors import Denied

PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("127.0.0.0/8"))
LOOPBACK = Caller("127.0.0.1")
REMOTE = Caller("192.0.2.7")


def nothing(_path: str) -> bool:
    return False


def allowed(policy: Policy, caller: Caller, verb: Verb, exists: set[str] | None = None) -> bool:
    try:
        check(policy, caller, verb, (exists or set()).__contains__)
    except Denied:
        return False
    return True


@pytest.mark.parametrize(
    ("caller", "trusted", "local"),
    [
        (LOOPBACK, (), True),
        (Caller("::1"), (), True),
        (Caller("::ffff:127.0.0.1"), (), True),
        (Caller("127.9.9.9"), (), True),
        (Caller(None), (), True),
        (REMOTE, (), False),
        (Caller("::ffff:192.0.2.7"), (), False),
        (Caller("127.0.0.1", ("192.0.2.7",)), (), False),
        (Caller("127.0.0.1", ("127.0.0.1",)), (), False),
        (Caller(None, ("127.0.0.1",)), (), False),
        (Caller("127.0.0.1", ("192.0.2.7",)), PROXIES, False),
        (Caller("127.0.0.1", ("127.0.0.1",)), PROXIES, True),
        (Caller("127.0.0.1", ("127.0.0.1, 192.0.2.7",)), PROXIES, False),
        (Caller("127.0.0.1", ("127.0.0.1", "192.0.2.7, 10.1.1.1")), PROXIES, False),
        (Caller("192.0.2.7", ("127.0.0.1",)), PROXIES, False),
        (Caller("10.0.0.1", ("127.0.0.1, 10.0.0.5",)), PROXIES, False),
        (Caller("10.0.0.1", ("127.0.0.1",)), PROXIES, False),
        (Caller("127.0.0.1", rebound=True), (), False),
        (Caller("127.0.0.1", ("unknown",)), PROXIES, False),
        (Caller("127.0.0.1", ("",)), PROXIES, False),
        (Caller("nonsense"), (), False),
    ],
)
def test_who_is_local(
    caller: Caller, trusted: tuple[ipaddress.IPv4Network, ...], *, local: bool
) -> None:
    assert is_local(caller, trusted) is local


@pytest.mark.parametrize(
    ("caller", "client"),
    [
        (REMOTE, "192.0.2.7"),
        (Caller("192.0.2.7", ("1.2.3.4",)), "192.0.2.7"),
        (Caller("10.0.0.1", ("1.2.3.4",)), "1.2.3.4"),
        (Caller("10.0.0.1", ("6.6.6.6, 1.2.3.4",)), "1.2.3.4"),
        (Caller("10.0.0.1", ("6.6.6.6", "1.2.3.4, 10.0.0.9")), "1.2.3.4"),
        (Caller("10.0.0.1", ("10.2.2.2, 10.3.3.3",)), "10.2.2.2"),
        (Caller("10.0.0.1", ('evil" - - [x]',)), "unknown"),
        (Caller("10.0.0.1", ("",)), "unknown"),
        (Caller(None, ("1.2.3.4",)), None),
    ],
)
def test_who_the_client_is(caller: Caller, client: str | None) -> None:
    assert client_of(caller, PROXIES) == client


@pytest.mark.parametrize("verb", Verb)
def test_without_configuration_reads_are_open_and_writes_local(verb: Verb) -> None:
    reads = verb in (Verb.GET, Verb.HEAD)

    assert allowed(Policy(), LOOPBACK, verb)
    assert allowed(Policy(), REMOTE, verb) is reads


@pytest.mark.parametrize("verb", Verb)
def test_a_verb_can_be_opened(verb: Verb) -> None:
    assert allowed(Policy(anonymous=frozenset({verb})), REMOTE, verb)


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("denied", Verb)
def test_a_deny_file_denies_its_verb_to_everybody(verb: Verb, denied: Verb) -> None:
    policy = Policy("/etc/deny-", frozenset(Verb))

    assert allowed(policy, LOOPBACK, verb, {f"/etc/deny-{denied.value}"}) is (verb != denied)


@pytest.mark.parametrize("verb", Verb)
def test_a_page_of_another_site_changes_nothing(verb: Verb) -> None:
    writes = verb in (Verb.PUT, Verb.DELETE)

    assert allowed(Policy(anonymous=frozenset(Verb)), Caller("127.0.0.1", foreign=True), verb) is (
        not writes
    )


def test_the_refusal_names_the_flag() -> None:
    with pytest.raises(Denied, match="--allow-anonymous put"):
        check(Policy(), REMOTE, Verb.PUT, nothing)


@pytest.mark.parametrize("verb", Verb)
def test_a_peer_that_signs_may_write_from_anywhere(verb: Verb) -> None:
    assert allowed(Policy(), Caller("192.0.2.7", peer=True), verb)
    assert allowed(Policy(), Caller("10.0.0.1", ("192.0.2.7",), peer=True), verb)


@pytest.mark.parametrize("verb", Verb)
def test_but_not_past_a_deny_file(verb: Verb) -> None:
    policy = Policy("/etc/deny-")

    assert not allowed(policy, Caller("192.0.2.7", peer=True), verb, {f"/etc/deny-{verb.value}"})


@pytest.mark.parametrize(
    ("caller", "signed_only", "passes"),
    [
        (LOOPBACK, False, True),
        (LOOPBACK, True, False),
        (REMOTE, False, False),
        (REMOTE, True, False),
        (Caller("192.0.2.7", peer=True), True, True),
        (Caller("127.0.0.1", ("192.0.2.7",)), False, False),
        (Caller("127.0.0.1", rebound=True), False, False),
        (Caller("127.0.0.1", foreign=True), False, False),
        (Caller("127.0.0.1", foreign=True, peer=True), True, False),
    ],
)
def test_what_is_for_peers_only(caller: Caller, *, signed_only: bool, passes: bool) -> None:
    try:
        check_peer(Policy(), caller, signed_only=signed_only)
    except Denied:
        assert not passes
    else:
        assert passes


def test_who_asks_here_under_another_name_is_told_so() -> None:
    with pytest.raises(Denied, match="--host"):
        check(Policy(), Caller("127.0.0.1", rebound=True), Verb.PUT, lambda _path: False)
    with pytest.raises(Denied, match="--allow-anonymous"):
        check(Policy(), Caller("192.0.2.1", rebound=True), Verb.PUT, lambda _path: False)
