"""Every setting once: name, type, default, help; from flags, file and environment."""

from __future__ import annotations

from dtfc.settings.reading import Loaded, changed, load, reloaded
from dtfc.settings.table import BY_NAME, TABLE, Settings

__all__ = ["BY_NAME", "TABLE", "Loaded", "Settings", "changed", "load", "reloaded"]
