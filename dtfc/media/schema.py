"""What of ffprobe's answer is handed on.

Rules of this file: pure. ffprobe has read what a stranger made, so its answer is
a stranger's, too: only what is named here passes, of the type that it should
have, and bounded. Text loses whatever a terminal or a page could act on.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Value: TypeAlias = Any
Check: TypeAlias = Callable[[Value], Value]

#: Bytes of an answer that are looked at.
LONGEST_ANSWER = 1024 * 1024

MOST_STREAMS = 64
MOST_CHAPTERS = 500
MOST_TAGS = 64
LONGEST_TEXT = 256
LONGEST_TAG = 4096

_WORD = re.compile(r"[A-Za-z0-9_.:/+-]{1,64}\Z")
_NUMBER = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,12})?\Z")
_RATIO = re.compile(r"[0-9]{1,20}[:/][0-9]{1,20}\Z")
_LARGEST = 2**63


class NoAnswer(ValueError):
    """That was no answer of ffprobe's."""


def described(raw: bytes) -> dict[str, Value]:
    """Return what ffprobe said, as far as it is of use.

    Args:
        raw: what it wrote.

    Returns:
        ``format``, ``streams`` and ``chapters``.

    Raises:
        NoAnswer: that is no JSON, or has no format in it.
    """
    if len(raw) > LONGEST_ANSWER:
        raise NoAnswer("it is too long")
    try:
        said = json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise NoAnswer("it is no JSON") from None
    if not isinstance(said, dict) or not isinstance(said.get("format"), dict):
        raise NoAnswer("it has no format")
    form = _picked(said["format"], _FORMAT)
    if "format_name" not in form:
        raise NoAnswer("its format has no name")
    return {
        "format": form,
        "streams": [_stream(each) for each in _items(said, "streams", MOST_STREAMS)],
        "chapters": [_picked(each, _CHAPTER) for each in _items(said, "chapters", MOST_CHAPTERS)],
    }


def _stream(said: Mapping[str, Value]) -> dict[str, Value]:
    found = _picked(said, _STREAM)
    if "side_data_list" in found:
        # Photos and videos of telephones: by how much they are to be turned.
        found["rotation"] = found.pop("side_data_list")
    return found


def _items(said: Mapping[str, Value], name: str, most: int) -> list[Mapping[str, Value]]:
    found = said.get(name)
    if not isinstance(found, list):
        return []
    return [each for each in found[:most] if isinstance(each, dict)]


def _picked(said: Mapping[str, Value], wanted: Mapping[str, Check]) -> dict[str, Value]:
    checked = {name: check(said[name]) for name, check in wanted.items() if name in said}
    return {name: value for name, value in checked.items() if value is not None}


# Each returns what may pass, or None.


def _integer(value: Value) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) < _LARGEST else None


def _number(value: Value) -> float | int | None:
    """A number, which ffprobe likes to write as text."""
    if isinstance(value, str) and _NUMBER.match(value):
        value = float(value) if "." in value else int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) and abs(value) < _LARGEST else None
    return _integer(value)


def _ratio(value: Value) -> str | None:
    return value if isinstance(value, str) and _RATIO.match(value) else None


def _word(value: Value) -> str | None:
    return value if isinstance(value, str) and _WORD.match(value) else None


def _names(value: Value) -> str | None:
    return value if isinstance(value, str) and re.match(r"[a-z0-9_,-]{1,128}\Z", value) else None


def _text(value: Value, longest: int = LONGEST_TEXT) -> str | None:
    if not isinstance(value, str):
        return None
    # Cc, Cf (directions and other invisible marks), Cs, Co, Cn, and line ends of any kind.
    plain = "".join(
        character
        for character in value[: longest * 2]
        if unicodedata.category(character)[0] != "C"
        and unicodedata.category(character) not in ("Zl", "Zp")
    )
    return plain[:longest]


def _profile(value: Value) -> str | None:
    return str(value) if isinstance(value, int) else _text(value, 64)


def _tags(value: Value) -> dict[str, str] | None:
    if not isinstance(value, dict):
        return None
    found: dict[str, str] = {}
    for name, text in list(value.items())[:MOST_TAGS]:
        plain, said = _text(name, 64), _text(text, LONGEST_TAG)
        if plain and said is not None:
            found[plain] = said
    return found


def _disposition(value: Value) -> list[str] | None:
    if not isinstance(value, dict):
        return None
    return sorted(name for name, on in value.items() if on == 1 and _word(name))[:32]


def _rotation(value: Value) -> float | int | None:
    if not isinstance(value, list):
        return None
    for each in value[:16]:
        if isinstance(each, dict) and "rotation" in each:
            return _number(each["rotation"])
    return None


_FORMAT: Mapping[str, Check] = {
    "format_name": _names,
    "format_long_name": _text,
    "start_time": _number,
    "duration": _number,
    "bit_rate": _number,
    "tags": _tags,
}
_STREAM: Mapping[str, Check] = {
    "index": _integer,
    "codec_name": _word,
    "codec_long_name": _text,
    "codec_type": _word,
    "profile": _profile,
    "width": _integer,
    "height": _integer,
    "sample_aspect_ratio": _ratio,
    "display_aspect_ratio": _ratio,
    "pix_fmt": _word,
    "level": _integer,
    "color_range": _word,
    "color_space": _word,
    "color_transfer": _word,
    "color_primaries": _word,
    "field_order": _word,
    "avg_frame_rate": _ratio,
    "sample_fmt": _word,
    "sample_rate": _number,
    "channels": _integer,
    "channel_layout": _text,
    "bits_per_sample": _integer,
    "bits_per_raw_sample": _number,
    "time_base": _ratio,
    "start_time": _number,
    "duration": _number,
    "bit_rate": _number,
    "nb_frames": _number,
    "disposition": _disposition,
    "side_data_list": _rotation,
    "tags": _tags,
}
_CHAPTER: Mapping[str, Check] = {"start_time": _number, "end_time": _number, "tags": _tags}
