"""Signed URLs: good for what was signed, and for nothing else."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dtfc.access.links import check_link, sign_link, without_signature
from dtfc.access.verbs import Verb
from dtfc.errors import Denied

KEY = b"0123456789abcdef0123456789abcdef"
OLD = b"fedcba9876543210fedcba9876543210"
PATH = "/" + "ab" * 64
NOW = 1_795_000_000


def check(
    url: str,
    verb: Verb = Verb.GET,
    *,
    client: str | None = "192.0.2.7",
    now: float = NOW,
    keys: tuple[bytes, ...] = (KEY, OLD),
) -> bool:
    left = check_link(keys, verb, url, client, now)
    assert left is None or 0 < left <= 3600
    return left is not None


def signed(verb: Verb = Verb.GET, **more: str) -> str:
    return sign_link(KEY, verb, PATH, NOW + 3600, **more)


def test_it_may_be_used() -> None:
    assert check(signed())
    assert check(signed(query="name=photo%201.jpg&inline=1"))


def test_a_url_without_a_signature_is_none() -> None:
    assert not check(PATH)
    assert not check(f"{PATH}?name=sig")
    assert not check(f"{PATH}?expires={NOW + 3600}")


@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize("other", list(Verb))
def test_it_is_good_for_its_verb(verb: Verb, other: Verb) -> None:
    if verb is other is not Verb.HEAD or (verb, other) == (Verb.GET, Verb.HEAD):
        assert check(signed(verb), other)
    else:
        with pytest.raises(Denied, match="another verb"):
            check(signed(verb), other)


def test_an_older_secret_counts_while_it_is_there() -> None:
    url = sign_link(OLD, Verb.GET, PATH, NOW + 1)
    assert check(url)
    with pytest.raises(Denied, match="was changed"):
        check(url, keys=(KEY,))


def test_it_is_used_late() -> None:
    assert check(signed(), now=NOW + 3599.9)
    with pytest.raises(Denied, match="until a while ago"):
        check(signed(), now=NOW + 3600)


@pytest.mark.parametrize(
    ("network", "client", "good"),
    [
        ("192.0.2.0/24", "192.0.2.7", True),
        ("192.0.2.0/24", "::ffff:192.0.2.7", True),
        ("192.0.2.0/24", "192.0.3.7", False),
        ("192.0.2.0/24", "2001:db8::1", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.0/24", "unknown", False),
        ("192.0.2.0/24", None, False),
    ],
)
def test_from_where(network: str, client: str | None, good: bool) -> None:  # noqa: FBT001
    url = signed(network=network)
    if good:
        assert check(url, client=client)
    else:
        with pytest.raises(Denied, match="another network"):
            check(url, client=client)


@pytest.mark.parametrize(
    "changed",
    [
        lambda url: url.replace("ab", "ac", 1),
        lambda url: url.replace("name=a", "name=b"),
        lambda url: url.replace("expires=1", "expires=2"),
        lambda url: url.replace("&sig=", "&inline=1&sig="),
        lambda url: url + "&inline=1",
        lambda url: url + "&sig=x",
        lambda url: url[:-1],
        lambda url: url.split("&sig=")[0] + "&sig=",
        lambda url: url.replace("name=a&", ""),
        lambda url: url.split("?")[0] + "?sig=" + url.split("sig=")[1],
        lambda url: url.replace("&network=192.0.2.7/32", ""),
        lambda url: url.replace("192.0.2.7", "192.0.2.8"),
    ],
)
def test_it_was_changed(changed: object) -> None:
    url = signed(query="name=a", network="192.0.2.7")
    assert check(url)
    made = changed(url)  # type: ignore[operator] # a lambda
    assert made != url
    with pytest.raises(Denied, match="was changed"):
        check(made)


@given(st.text(max_size=80), st.integers(0, 400), st.integers(1, 255))
def test_any_other_text_is_refused(text: str, at: int, by: int) -> None:
    url = signed(query="name=a")
    at %= len(url)
    for made in (f"{PATH}?{text}&sig={text}", url[:at] + chr(ord(url[at]) ^ by) + url[at + 1 :]):
        assume(made != url)
        with contextlib.suppress(Denied):
            assert not check(made)


def test_a_log_has_no_signature() -> None:
    url = signed(query="name=a")
    assert without_signature(url) == url.split("sig=")[0] + "sig=-"
    assert without_signature(f"/x?sig=abc&sig=def {PATH}") == f"/x?sig=-&sig=- {PATH}"
    assert without_signature(PATH) == PATH


def test_what_cannot_be_signed() -> None:
    for wrong in (
        {"path": PATH, "query": "a=1&sig=x"},
        {"path": PATH, "query": "expires=1"},
        {"path": f"{PATH}?a=1"},
        {"path": PATH, "network": "nowhere"},
    ):
        with pytest.raises(ValueError, match=r"signed already|no \?|does not appear"):
            sign_link(KEY, Verb.GET, expires=NOW, **wrong)
