"""Why a peer gave no usable answer, in words for people and logs.

Rules of this file: what a peer sent appears in a reason only as one line of
plain ASCII. Nothing here logs or decides.
"""

from __future__ import annotations

from OpenSSL.SSL import Error as TLSError
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.web.client import (
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)

from dtfc.errors import DtfcError

_LONGEST_REASON = 200

#: What a Deferred says that was cancelled, and an endpoint's that was still connecting.
_CANCELLED = (CancelledError, ConnectingCancelledError)


class PeerFailure(DtfcError):
    """A peer gave no usable answer.

    Args:
        reason: why, in words that fit into one line of a log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def one_line(text: str) -> str:
    """What a peer said, safe for a log: printable ASCII, and not too long."""
    plain = "".join(each if " " <= each <= "~" else "?" for each in text)
    return plain if len(plain) <= _LONGEST_REASON else plain[:_LONGEST_REASON] + "..."


def cancelled(error: BaseException) -> bool:
    """Tell whether a request failed because it was cancelled on this side."""
    if isinstance(error, (ResponseFailed, RequestGenerationFailed)):
        return any(reason.check(*_CANCELLED) for reason in error.reasons)
    return isinstance(error, _CANCELLED)


def own_failure(error: BaseException) -> BaseException | None:
    """Return what this side itself gave up a request for, under Twisted's wrapping."""
    if not isinstance(error, RequestGenerationFailed) or cancelled(error):
        return None
    found: BaseException | None = error.reasons[0].value
    return found


def in_words(error: BaseException) -> str:
    """Say what went wrong with a request, without class names where possible."""
    match error:
        case PeerFailure():
            words = error.reason
        case DNSLookupError():
            words = "its host name is unknown"
        case ConnectError():
            words = f"no connection: {str(error).rstrip('.')}"
        case RequestTransmissionFailed():
            words = "closed the connection before it had it all"
        case ResponseNeverReceived() | ResponseFailed():
            words = _of_response(error)
        case _:
            words = f"{type(error).__name__}: {error}"
    return one_line(words)


def _of_response(error: ResponseFailed) -> str:
    for reason in error.reasons:
        if isinstance(reason.value, TLSError):
            return f"TLS failed: {_of_tls(reason.value)}"
    if isinstance(error, ResponseNeverReceived):
        return "closed the connection instead of answering"
    return f"no usable head: {error.reasons[0].getErrorMessage()}"


def _of_tls(error: TLSError) -> str:
    """OpenSSL's own words: the last member of each (library, function, reason)."""
    stack = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(str(each[-1]) for each in stack) or "no reason given"
