"""Of what ffprobe says only what is named passes, of the right type, and bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.media.schema import LONGEST_ANSWER, LONGEST_TAG, MOST_STREAMS, NoAnswer, described

FORMAT: dict[str, Any] = {"format_name": "mov,mp4", "duration": "2.000000"}


def said(form: Any = None, streams: Any = (), chapters: Any = ()) -> dict[str, Any]:
    whole = {"format": FORMAT | (form or {}), "streams": streams, "chapters": chapters}
    return described(json.dumps(whole).encode())


def test_numbers_written_as_text_become_numbers() -> None:
    found = said({"bit_rate": "122108", "start_time": "-0.5"})["format"]
    assert found == {"format_name": "mov,mp4", "duration": 2.0, "bit_rate": 122108} | {
        "start_time": -0.5
    }


def test_nothing_of_the_file_s_place_passes() -> None:
    found = said({"filename": "file:/proc/self/fd/0", "nb_programs": 3, "size": "1"})
    assert set(found["format"]) == {"format_name", "duration"}


def test_a_stream() -> None:
    stream = {
        "index": 0,
        "codec_name": "h264",
        "codec_type": "video",
        "profile": "High",
        "width": 1920,
        "display_aspect_ratio": "16:9",
        "avg_frame_rate": "25/1",
        "disposition": {"default": 1, "dub": 0},
        "side_data_list": [{"side_data_type": "Display Matrix", "rotation": -90}],
        "extradata": "00000000: 0164",
        "tags": {"language": "und"},
    }
    (found,) = said(streams=[stream])["streams"]
    assert found == {
        "index": 0,
        "codec_name": "h264",
        "codec_type": "video",
        "profile": "High",
        "width": 1920,
        "display_aspect_ratio": "16:9",
        "avg_frame_rate": "25/1",
        "disposition": ["default"],
        "rotation": -90,
        "tags": {"language": "und"},
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", "1920"),
        ("width", True),
        ("width", 2**64),
        ("width", [1]),
        ("codec_name", "<script>"),
        ("codec_name", "a" * 100),
        ("duration", "NaN"),
        ("duration", "1e400"),
        ("avg_frame_rate", "1/../2"),
        ("tags", "x"),
    ],
)
def test_what_is_of_another_type_does_not_pass(name: str, value: Any) -> None:
    assert said(streams=[{name: value}])["streams"] == [{}]


def test_text_loses_what_terminals_and_pages_act_on() -> None:
    tags = {"ti\x1btle": "a\r\nb\x1b[31m\u202ec\u2028d\ud800", "comment": "x" * 9999}
    found = said({"tags": tags})["format"]["tags"]
    assert found == {"title": "ab[31mcd", "comment": "x" * LONGEST_TAG}


def test_streams_are_bounded() -> None:
    assert len(said(streams=[{"index": 1}] * 1000)["streams"]) == MOST_STREAMS


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"format": {}}',
        b'{"format": {"format_name": 1}}',
        b'{"format": "mov"}',
        b"[" * 100_000,
        b'{"format": {"format_name": "mov"}}' + b" " * LONGEST_ANSWER,
    ],
)
def test_what_is_no_answer(raw: bytes) -> None:
    with pytest.raises(NoAnswer):
        described(raw)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_none(raw: bytes) -> None:
    with pytest.raises(NoAnswer):
        described(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=20,
)
NAMES = st.sampled_from(["tags", "width", "profile", "duration", "side_data_list", "disposition"])


@given(st.dictionaries(NAMES, JSON), st.dictionaries(NAMES, JSON))
def test_any_json_of_the_right_form_is_told_in_bounds(
    form: dict[str, Any], stream: dict[str, Any]
) -> None:
    told = json.dumps(said(form, [stream]), allow_nan=False)
    assert len(told) < LONGEST_ANSWER
    assert all(json.loads(told)[name] is not None for name in ("format", "streams"))
