"""One line for each thing that was changed, or refused: who, what, when, from where.

Rules of this file: a line is one JSON object in ASCII, whatever a client sent; it
has no credential in it. What is read, and found missing, is for the access log.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import NamedTuple

#: Methods that change something.
CHANGES = frozenset({b"PUT", b"POST", b"DELETE"})

#: Statuses that say no to whoever asks, whatever it asks for.
REFUSALS = frozenset({401, 403, 421, 429})

#: Longest path that is written, in characters.
LONGEST_PATH = 1024


class Deed(NamedTuple):
    """What was done, or not.

    Args:
        at: when the answer ended, seconds since the epoch.
        address: the client's.
        principal: who it says it is, and that was believed; ``-`` for nobody.
        method: what it wanted.
        path: of what, without a signature.
        status: what it was answered.
        digest: the blob, where it is known.
        reason: why not, where it was refused or failed.
    """

    at: float
    address: str
    principal: str
    method: str
    path: str
    status: int
    digest: str = ""
    reason: str = ""

    @property
    def action(self) -> str:
        """What became of it, in a word."""
        if self.status in REFUSALS:
            return "refused"
        if self.status >= 400:
            return "failed"
        if self.path.startswith("/uploads/") and (self.method == "DELETE" or not self.digest):
            return {"DELETE": "given up", "POST": "begun"}.get(self.method, "continued")
        done = {"DELETE": "deleted", "PUT": "stored", "POST": "stored", "PATCH": "stored"}
        return done.get(self.method, "done")


def is_deed(method: bytes, status: int, digest: str) -> bool:
    """Whether a request is to be written down.

    Args:
        method: what it wanted.
        status: what it was answered.
        digest: the blob that it was about; of the parts of an upload only the last
            one is about a blob.
    """
    return method in CHANGES or status in REFUSALS or (method == b"PATCH" and digest != "")


def as_line(deed: Deed) -> str:
    """Return the line of a deed."""
    at = dt.datetime.fromtimestamp(deed.at, dt.UTC).isoformat(timespec="milliseconds")
    told: dict[str, object] = {
        "at": at.replace("+00:00", "Z"),
        "action": deed.action,
        "address": deed.address,
        "principal": deed.principal,
        "method": deed.method,
        "path": deed.path[:LONGEST_PATH],
        "status": deed.status,
    }
    if deed.digest:
        told["sha512"] = deed.digest
    if deed.reason:
        told["reason"] = deed.reason
    return json.dumps(told)
