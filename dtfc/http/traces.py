"""``traceparent``: which of somebody's doings a request is a part of.

W3C Trace Context, Level 1 (w3.org/TR/trace-context), section 3.2. What is
malformed is nothing at all: a trace is for those who look, and no request may fail
for it. ``tracestate`` is not kept: this node puts nothing into it.

The trace that is being worked for is carried by the context (:mod:`contextvars`),
which a coroutine keeps from its start on: so what a request has peers do is of the
same trace, and what goes on by itself is of none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

FIELD = "traceparent"

# A later version may have more behind; ff is none (section 3.2.2.1 and 3.2.4).
_FIELD = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})"
    r"-(?P<parent>(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)


class Trace(NamedTuple):
    """One doing in a trace: here a request, as it is answered.

    Args:
        trace: the id of the trace, 32 hexadecimal digits.
        span: of the doing, 16 hexadecimal digits.
        parent: the span of whoever asked.
        flags: 2 hexadecimal digits; 01: somebody keeps it.
    """

    trace: str
    span: str
    parent: str
    flags: str

    @property
    def field(self) -> str:
        """The value of ``traceparent`` in requests that this doing makes (version 00)."""
        return f"00-{self.trace}-{self.span}-{self.flags}"


def taken_up(values: Sequence[str], span: str) -> Trace | None:
    """Return the trace that a request is a part of; None if it is of none, or makes no sense.

    Args:
        values: of its fields ``traceparent``.
        span: of what is done for it, 16 hexadecimal digits, not all 0.
    """
    found = _FIELD.fullmatch(values[0]) if len(values) == 1 else None
    if found is None or (found["more"] is not None and found["version"] == "00"):
        return None
    # Of the flags only the one that is known is passed on (section 4.3).
    flags = f"{int(found['flags'], 16) & 1:02x}"
    return Trace(found["trace"], span, found["parent"], flags)


_carried: ContextVar[Trace | None] = ContextVar("trace", default=None)


def carried() -> Trace | None:
    """Return what is being worked for; None if that is no trace."""
    return _carried.get()


@contextmanager
def carrying(trace: Trace | None) -> Iterator[None]:
    """Let what is begun meanwhile be done for a trace, or for none."""
    before = _carried.set(trace)
    try:
        yield
    finally:
        _carried.reset(before)
