"""The name a peer gives: what is understood, and that the rest is no name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.errors import BadName
from dtfc.names import check_name, content_disposition
from dtfc.peers.disposition import file_name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ('attachment; filename="photo.jpg"', "photo.jpg"),
        ("attachment; filename=photo.jpg", "photo.jpg"),
        ("inline;filename=photo.jpg", "photo.jpg"),
        ('attachment; FileName="a b;c.txt"', "a b;c.txt"),
        ('attachment; filename="a\\"b"', 'a"b'),
        ("attachment; filename*=UTF-8''%e2%82%ac.txt", "\u20ac.txt"),
        ("attachment; filename=\"x\"; filename*=utf-8'en'%c3%a9", "\u00e9"),
        ("attachment; filename*=UTF-8''%2e%2e; filename=fine", "fine"),
        ("attachment; filename*=UTF-8''%ff; filename=fine", "fine"),
        ('attachment; filename="\xe2\x82\xac"', "\u20ac"),
    ],
)
def test_a_name_is_understood(value: str, name: str) -> None:
    assert file_name([value]) == name


@pytest.mark.parametrize(
    "values",
    [
        [],
        ["attachment"],
        ["attachment; filename=a", "attachment; filename=b"],
        ['attachment; filename="../../etc/passwd"'],
        ['attachment; filename=".."'],
        ['attachment; filename=""'],
        ['attachment; filename="unclosed'],
        ["attachment; filename*=UTF-8''a%00b"],
        ["attachment; filename*=UTF-8''a%0d%0ab"],
        ["attachment; filename*=UTF-8''%2"],
        ["attachment; filename*=UTF-16''ab"],
        ['attachment; filename="\xff\xfe"'],
        ["attachment; filename=a; ;;="],
        ["; filename=a"],
        ["attachment; filename=" + "a" * 5000],
    ],
)
def test_nonsense_is_no_name(values: list[str]) -> None:
    assert file_name(values) is None


@given(st.text(max_size=60))
def test_what_a_dtfc_node_sends_comes_back(text: str) -> None:
    try:
        name = check_name(text)
    except BadName:
        return
    # Leading dots are left out on the way (dtfc.names says why).
    if visible := name.lstrip("."):
        assert file_name([content_disposition(name, inline=False)]) == visible


@given(st.text(st.characters(max_codepoint=255)))
def test_any_field_gives_a_name_that_may_be_kept_or_none(value: str) -> None:
    name = file_name([value])
    assert name is None or check_name(name) == name
