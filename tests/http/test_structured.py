"""Single items of structured fields."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.errors import BadInput
from dtfc.http.structured import boolean, parse_boolean, parse_count


@pytest.mark.parametrize(
    ("values", "count"), [([], None), (["0"], 0), (["  12 "], 12), (["5;a=1;b"], 5), (["007"], 7)]
)
def test_a_count(values: list[str], count: int | None) -> None:
    assert parse_count("Upload-Length", values) == count


@pytest.mark.parametrize(
    "values", [["-1"], ["+1"], ["1.5"], ["a"], [""], ["1", "2"], ["1, 2"], ["1" * 16], ["?1"]]
)
def test_no_count(values: list[str]) -> None:
    with pytest.raises(BadInput, match="Upload-Length"):
        parse_count("Upload-Length", values)


@pytest.mark.parametrize(
    ("values", "value"), [([], None), (["?1"], True), (["?0"], False), ([" ?1;a=b "], True)]
)
def test_a_boolean(values: list[str], value: bool | None) -> None:  # noqa: FBT001 -- the value
    assert parse_boolean("Upload-Complete", values) is value


@pytest.mark.parametrize("values", [["1"], ["true"], ["?2"], ["?"], ["?1", "?1"], ["?1x"], [""]])
def test_no_boolean(values: list[str]) -> None:
    with pytest.raises(BadInput, match="Upload-Complete"):
        parse_boolean("Upload-Complete", values)


@given(st.booleans())
def test_a_boolean_comes_back_as_it_went(value: bool) -> None:  # noqa: FBT001 -- the value
    assert parse_boolean("x", [boolean(value)]) is value


@given(st.sampled_from([parse_count, parse_boolean]), st.text(max_size=30))
def test_garbage_is_refused_and_no_more(
    parse: Callable[[str, list[str]], object], text: str
) -> None:
    with contextlib.suppress(BadInput):
        assert parse("x", [text]) is not None
