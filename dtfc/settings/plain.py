"""Settings as plain values, which JSON can carry, and back.

Rules of this file: it resolves nothing. What comes back is what went in, also
when file, environment or folder are others by then.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from dtfc.settings.table import TABLE, Settings

_NETWORKS = "trusted_proxies"


def to_plain(settings: Settings) -> dict[str, Any]:
    """Return the settings by attribute, as numbers, text, lists and ``None``."""
    plain: dict[str, Any] = {}
    for each in TABLE:
        value = getattr(settings, each.attribute)
        if each.attribute == _NETWORKS:
            value = [str(network) for network in value]
        plain[each.attribute] = list(value) if isinstance(value, tuple) else value
    return plain


def from_plain(plain: Mapping[str, Any]) -> Settings:
    """Return the settings that :func:`to_plain` was given.

    Raises:
        ValueError: these are no settings of this version.
    """
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()
    }
    if values.keys() != {each.attribute for each in TABLE}:
        raise ValueError("these are not the settings of this version")
    values[_NETWORKS] = tuple(ipaddress.ip_network(network) for network in values[_NETWORKS])
    return Settings(**values)
