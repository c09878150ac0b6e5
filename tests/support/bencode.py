"""Reads what BEP 3 calls bencoded, strictly: a second opinion on what is written."""

from __future__ import annotations

from typing import Any


def read_bencoded(content: bytes) -> Any:
    """Return the value that all of ``content`` is.

    Raises:
        ValueError: it is none, or keys are not in order, or something follows it.
    """
    value, end = _read(content, 0)
    if end != len(content):
        raise ValueError("something follows")
    return value


def _read(content: bytes, at: int) -> tuple[Any, int]:
    kind = content[at : at + 1]
    if kind == b"i":
        end = content.index(b"e", at)
        return int(content[at + 1 : end]), end + 1
    if kind == b"l":
        return _read_list(content, at + 1)
    if kind == b"d":
        items, end = _read_list(content, at + 1)
        keys = items[::2]
        if keys != sorted(set(keys)):
            raise ValueError("keys are not in order")
        return dict(zip(keys, items[1::2], strict=True)), end
    colon = content.index(b":", at)
    stop = colon + 1 + int(content[at:colon])
    if stop > len(content):
        raise ValueError("it is cut off")
    return content[colon + 1 : stop], stop


def _read_list(content: bytes, at: int) -> tuple[list[Any], int]:
    found = []
    while content[at : at + 1] != b"e":
        value, at = _read(content, at)
        found.append(value)
    return found, at + 1
