"""What settings look like as text."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.settings import values


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4096", 4096),
        ("4096B", 4096),
        ("64MiB", 64 << 20),
        ("64 MiB", 64 << 20),
        ("1G", 1 << 30),
        ("1g", 1 << 30),
        ("1GB", 1_000_000_000),
        ("1.5KiB", 1536),
        ("2T", 2 << 40),
    ],
)
def test_a_size(text: str, count: int) -> None:
    assert values.size()(text) == count


@pytest.mark.parametrize("text", ["", "G", "-1", "+1", "1_000", "1e3", "0x10", "1 XiB", "1.G", "٣"])
def test_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        values.size()(text)


def test_a_size_below_the_lowest() -> None:
    with pytest.raises(ValueError, match="less than 1024 bytes"):
        values.size(1024)("1023")


@given(st.integers(1, 1 << 60))
def test_plain_bytes_are_themselves(count: int) -> None:
    assert values.size()(str(count)) == count


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("30", 30.0),
        ("500ms", 0.5),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("7d", 604800.0),
        ("1w", 604800.0),
        ("0.5s", 0.5),
    ],
)
def test_a_duration(text: str, seconds: float) -> None:
    assert values.duration()(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1h30", "30 s", "1y", "1e3", "inf", "nan"])
def test_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|without a unit"):
        values.duration()(text)


def test_a_duration_of_nothing_is_none_unless_it_is_allowed() -> None:
    assert values.duration(0)("0s") == 0.0
    with pytest.raises(ValueError, match="less than"):
        values.duration()("0s")


@pytest.mark.parametrize("text", ["1KiB", "1KiB/s", "1024"])
def test_a_rate(text: str) -> None:
    assert values.rate(text) == 1024


@pytest.mark.parametrize("text", ["0", "65535", "08"])
def test_a_whole_number(text: str) -> None:
    assert values.integer(0, 65535)(text) == int(text)


@pytest.mark.parametrize("text", ["", "-1", "65536", "1.0", "1_0", " 1", "9" * 5000])
def test_no_whole_number_in_bounds(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a whole number|not between"):
        values.integer(0, 65535)(text)


def test_none_is_no_limit() -> None:
    parse = values.or_none(values.size())
    assert (parse("none"), parse("1K")) == (None, 1024)


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("[::1]", "::1"), ("fe80::1%lo", "fe80::1%lo")],
)
def test_an_address(text: str, address: str) -> None:
    assert values.address(text) == address


@pytest.mark.parametrize("text", ["localhost", "eth0", "127.0.0.1:80", "1.2.3", ""])
def test_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not an IP address"):
        values.address(text)


@pytest.mark.parametrize("text", ["tcp:8080", "systemd:domain=INET6:index=0", "unix:/run/x"])
def test_an_endpoint(text: str) -> None:
    assert values.endpoint(text) == (text,)


@pytest.mark.parametrize("text", ["8080", "tcp", "tcp:", ":80"])
def test_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match="is not an endpoint"):
        values.endpoint(text)


def test_verbs_are_separated_by_commas() -> None:
    assert values.verbs("put, DELETE,") == ("put", "delete")


def test_an_unknown_verb_is_named() -> None:
    with pytest.raises(ValueError, match="'patch'"):
        values.verbs("put,patch")


def test_networks_of_both_versions() -> None:
    assert values.networks("10.0.0.0/8, ::1") == (
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("::1/128"),
    )


@pytest.mark.parametrize("text", ["10.0.0.1/8", "example.org", "10.0.0.0/33"])
def test_no_network(text: str) -> None:
    with pytest.raises(ValueError, match="is not a network"):
        values.networks(text)


@pytest.mark.parametrize(
    "text", ["http://files1.example:8080/", "https://[::1]:443", "files1.example:8080", "10.0.0.1"]
)
def test_a_node(text: str) -> None:
    assert values.node_url(text) == text


@pytest.mark.parametrize(
    "text", ["ftp://a/", "http://a/b", "http://a:99999/", "http://u@a/", "http://", "a b"]
)
def test_no_node(text: str) -> None:
    with pytest.raises(ValueError, match="is not a node's URL"):
        values.node_url(text)


@pytest.mark.parametrize("name", ["s3", "FS", ""])
def test_only_the_file_system_is_a_provider(name: str) -> None:
    with pytest.raises(ValueError, match="is not built into this version"):
        values.provider(name)


PARSERS = [
    values.size(),
    values.duration(),
    values.integer(0, 10),
    values.networks,
    values.verbs,
    values.node_url,
    values.address,
    values.endpoint,
    values.fan_out,
    values.rate,
]


@given(st.text(), st.sampled_from(PARSERS))
def test_a_parser_raises_nothing_but_value_errors(text: str, parse: Callable[[str], Any]) -> None:
    with contextlib.suppress(ValueError):
        parse(text)
