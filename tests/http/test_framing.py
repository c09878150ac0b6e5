"""What the fields say about host, length and connection, where the table says only the status."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dtfc.http.fields import BadHead
from dtfc.http.framing import MAX_LENGTH, body_of, connection_options, expects_continue, host_of


@given(length=st.integers(0, MAX_LENGTH))
@example(MAX_LENGTH)
def test_every_length_that_a_file_can_have(length: int) -> None:
    assert body_of((1, 1), {b"content-length": [b"%d" % length]}) == (length, False)


def test_the_longest_is_what_a_file_offset_can_hold() -> None:
    assert MAX_LENGTH == 9223372036854775807


@given(length=st.integers(MAX_LENGTH + 1, 10**30))
def test_every_length_beyond(length: int) -> None:
    with pytest.raises(BadHead) as caught:
        body_of((1, 1), {b"content-length": [b"%d" % length]})
    assert caught.value.status == 413


@given(value=st.binary(max_size=8) | st.text("0123456789+-_ ,x", max_size=8).map(str.encode))
def test_a_length_is_digits_or_refused(value: bytes) -> None:
    if value.isdigit():  # of bytes, this means ASCII digits
        assert body_of((1, 1), {b"content-length": [value]}) == (int(value), False)
        return
    with pytest.raises(BadHead) as caught:
        body_of((1, 1), {b"content-length": [value]})
    assert caught.value.status == 400


@given(lines=st.lists(st.sampled_from([b"chunked", b"gzip", b"", b"identity", b"a b"]), min_size=2))
def test_more_than_one_coding_is_always_refused(lines: list[bytes]) -> None:
    with pytest.raises(BadHead) as several:
        body_of((1, 1), {b"transfer-encoding": lines})
    with pytest.raises(BadHead) as joined:
        body_of((1, 1), {b"transfer-encoding": [b",".join(lines)]})
    assert several.value.status == joined.value.status


def test_no_fields_mean_no_body() -> None:
    assert body_of((1, 1), {}) == (None, False)


def test_connection_options_are_one_list_in_lower_case() -> None:
    assert connection_options({b"connection": [b"Close, ,TE", b"foo"]}) == {b"close", b"te", b"foo"}


def test_nothing_is_expected_without_the_field() -> None:
    assert not expects_continue({})


def test_http_1_0_needs_no_host() -> None:
    assert host_of((1, 0), {}) == b""
