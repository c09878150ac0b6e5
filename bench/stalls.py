"""How long a loop stood still: what the daemon says, or what can be seen from outside."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
from typing import Any

from bench.servers import Server

_METRIC = re.compile(
    r"^dtfc_\w*(?:longest_\w*stall|stall\w*_(?:max|longest))\w*(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE
)
_OWN = re.compile(r"^dtfc_loop_own_stall_seconds_max (\S+)", re.MULTILINE)


def told(server: Server) -> float | None:
    """Return the longest stall that a daemon has noticed, in seconds; None if it does not say."""
    try:
        status, body = server.get("/metrics")
        if status == 200:
            found = [float(value) for value in _METRIC.findall(body.decode("utf-8", "replace"))]
            if found:
                return max(found)
        status, body = server.get("/status.json")
        if status == 200:
            return _in_json(json.loads(body))
    except (OSError, http.client.HTTPException, ValueError):
        pass
    return None


def told_own(server: Server) -> float | None:
    """Return the same less what the loop waited for a processor; None if it is not said."""
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        status, body = server.get("/metrics")
        found = _OWN.search(body.decode("utf-8", "replace"))
        if status == 200 and found:
            return float(found[1])
    return None


def _in_json(value: Any) -> float | None:
    """Look for a number whose key tells of a stall."""
    if not isinstance(value, dict):
        return None
    for key, inner in value.items():
        if "stall" in key and isinstance(inner, int | float):
            return float(inner)
        deeper = _in_json(inner)
        if deeper is not None:
            return deeper
    return None
