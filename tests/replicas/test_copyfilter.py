"""The filter file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.replicas.copyfilter import MOST_RULES, Described, parse_filter

PHOTO = Described("beach.jpg", "image/jpeg", 3_000_000, ("albums",))


def wants(text: str, blob: Described = PHOTO) -> bool:
    found, bad = parse_filter(text)
    assert not bad
    return found.wants(blob)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", True),
        ("# nothing\n\n", True),
        ("exclude", False),
        ("exclude name=*.jpg", False),
        ("exclude name=*.JPG", True),
        ("exclude name=beach.???", False),
        ("exclude name=each.jpg", True),
        ('exclude name="beach*"  # quoted', False),
        ("exclude type=image/*", False),
        ("exclude type=IMAGE/JPEG", False),
        ("exclude min-size=3MB", False),
        ("exclude min-size=3000001", True),
        ("exclude max-size=3MB", False),
        ("exclude max-size=2999999", True),
        ("exclude db=albums", False),
        ("exclude db=other", True),
        ("exclude name=*.jpg max-size=1MiB", True),
        ("include name=beach*\nexclude", True),
        ("exclude\ninclude name=beach*", False),
        ("include type=text/*\r\nexclude\r\n", False),
        ("\ufeffexclude", False),
    ],
)
def test_the_first_rule_that_matches_decides(text: str, wanted: object) -> None:
    assert wants(text) is wanted


def test_a_blob_without_a_name_matches_only_what_any_name_does() -> None:
    nameless = Described("", "application/octet-stream", 1)
    assert not wants("exclude name=*", nameless)
    assert wants("exclude name=?*", nameless)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("copy name=*", "include or exclude"),
        ("include nmae=x", "none of name="),
        ("include name", "none of name="),
        ("include name=", "lacks its value"),
        ("include name=a name=b", "written twice"),
        ("include max-size=huge", "not a size"),
        ("include min-size=2K max-size=1K", "no blob is like that"),
        ("include db=UPPER", "no name of a CouchDB database"),
        ('include name="a', "quotation"),
    ],
)
def test_what_makes_no_sense_is_said_with_its_line(line: str, said: str) -> None:
    _, bad = parse_filter(f"include name=*.ok\n{line}\n# and so on\n")
    assert [each.number for each in bad] == [2]
    assert said in bad[0].reason


def test_every_bad_line_is_said() -> None:
    _, bad = parse_filter("x\ninclude\ny\n")
    assert [each.number for each in bad] == [1, 3]


def test_there_is_an_end_to_rules() -> None:
    _, bad = parse_filter("include\n" * (MOST_RULES + 5))
    assert [each.number for each in bad] == [MOST_RULES + 1]


@given(st.text(alphabet="incluexd nam=*[]?\"'\\#\n-sizetypb", max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    found, _ = parse_filter(text)
    assert found.wants(PHOTO) in (True, False)
