"""Request targets and hosts: where they are cut, and that what passes is safe further up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.routing import Map

from dtfc.http.fields import BadHead
from dtfc.http.targets import Target, check_host, parse_target


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        (b"/", Target(b"/", b"/", None, None)),
        (b"/a/b%2Fc", Target(b"/a/b%2Fc", b"/a/b%2Fc", None, None)),
        (b"/a?", Target(b"/a?", b"/a", b"", None)),
        (b"/a?b?c/%zz", Target(b"/a?b?c/%zz", b"/a", b"b?c/%zz", None)),
        (b"//a/b", Target(b"//a/b", b"//a/b", None, None)),
        (b"http://h/a?b", Target(b"/a?b", b"/a", b"b", b"h")),
        (b"HTTPS://h:8443/a", Target(b"/a", b"/a", None, b"h:8443")),
        (b"http://h", Target(b"/", b"/", None, b"h")),
        (b"http://h?b", Target(b"/?b", b"/", b"b", b"h")),
        (b"http://[::1]:80//x", Target(b"//x", b"//x", None, b"[::1]:80")),
        (b"http://h/a?u=http://x@y/", Target(b"/a?u=http://x@y/", b"/a", b"u=http://x@y/", b"h")),
    ],
)
def test_where_it_is_cut(raw: bytes, target: Target) -> None:
    assert parse_target("GET", raw) == target


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        (b"*", Target(b"*", b"*", None, None)),
        (b"http://h:80", Target(b"*", b"*", None, b"h:80")),
        (b"http://h/", Target(b"/", b"/", None, b"h")),
        (b"http://h?q", Target(b"/?q", b"/", b"q", b"h")),
    ],
)
def test_options_of_the_whole_server(raw: bytes, target: Target) -> None:
    assert parse_target("OPTIONS", raw) == target


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"*", "OPTIONS only"),
        (b"/a#b", "fragment"),
        (b"/%4x", "hexadecimal"),
        (b"http://h/%", "hexadecimal"),
        (b"a/b", "must begin with '/'"),
        (b"h:80", "must begin with '/'"),
        (b"http://u@h/", "user information"),
        (b"http:///a", "host of the URL"),
    ],
)
def test_the_refusal_says_why(raw: bytes, words: str) -> None:
    with pytest.raises(BadHead, match=words) as caught:
        parse_target("GET", raw)
    assert caught.value.status == 400


@given(
    raw=st.binary(max_size=40)
    | st.from_regex(rb"(?i:http)s?://[a-z@:.\[\]%/?*]{0,20}", fullmatch=True)
)
def test_any_target_is_cut_or_refused(raw: bytes) -> None:
    try:
        target = parse_target("GET", raw)
    except BadHead as failure:
        assert failure.status == 400  # noqa: PT017 - either outcome is fine, no other is
    else:
        assert target.path.startswith(b"/")


HOSTS = st.from_regex(rb"[a-zA-Z0-9_.\-]{0,70}(:[0-9]{0,6})?", fullmatch=True) | st.from_regex(
    rb"\[[0-9a-f:.]{0,12}\](:[0-9]{0,6})?", fullmatch=True
)


@given(value=HOSTS | st.binary(max_size=20))
def test_a_host_that_passes_does_not_break_the_router(value: bytes) -> None:
    """Werkzeug turns the name into IDNA and raises BadHost outside Klein's reach if it cannot."""
    try:
        check_host(value)
    except BadHead:
        return
    text = value.decode("ascii")
    name = text.partition("]")[0] + "]" if text.startswith("[") else text.partition(":")[0]
    Map().bind(name)
    Map().bind(text)


@pytest.mark.parametrize("length", [255, 256])
def test_the_longest_name(length: int) -> None:
    name = (b"a" * 50 + b".") * 5 + b"a" * (length - 255)
    if length == 255:
        check_host(name)
    else:
        with pytest.raises(BadHead):
            check_host(name)
