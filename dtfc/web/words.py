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
    value, power = count / 1024, 0
    while value >= 1023.5 and power < len(_UNITS) - 1:
        value, power = value / 1024, power + 1
    return f"{value:.1f} {_UNITS[power]}" if value < 99.95 else f"{value:.0f} {_UNITS[power]}"
