"""Reads the filter file of copies (blocks; it is small)."""

from __future__ import annotations

from dtfc.errors import BadSetting, BadSettings
from dtfc.replicas.copyfilter import CopyFilter, parse_filter

#: Bytes of a filter file; a larger one is some other file, named by mistake.
LARGEST = 1024 * 1024


def read_filter(path: str | None) -> CopyFilter:
    """Return the filter in a file; without one, the filter that includes everything.

    Raises:
        BadSettings: with each line that makes no sense, or why it cannot be read.
    """
    if path is None:
        return CopyFilter()
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise BadSettings([BadSetting("replica-filter", f"{path}: {error.strerror}")]) from error
    if len(content) > LARGEST:
        raise BadSettings([BadSetting("replica-filter", f"{path}: is larger than {LARGEST} bytes")])
    found, bad = parse_filter(content.decode("utf-8", errors="replace"))
    if bad:
        raise BadSettings([BadSetting(f"{path}:{each.number}", each.reason) for each in bad])
    return found
