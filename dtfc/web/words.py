"""Numbers as people read them.

Rules of this file: pure; the page's own scripts say the same in the same way
(``page/format.js``).
"""

from __future__ import annotations

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def spell(count: int) -> str:
    """Return a number with its thousands apart."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def amount(count: float) -> str:
    """Return so many bytes in the unit that leaves one to four digits."""
    if count < 1024:
        return f"{count:.0f} B"
    value, unit = float(count), ""
    for unit in _UNITS:
        value /= 1024
        if value < 1023.5:
            break
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"
