"""Errors as answers: one table, and problem+json (RFC 9457).

Rules of this file: this is the only place where an error gets its status. What
a person reads is a title that says what happened, and a detail that says what
was found. Nothing of the inside (paths, types, tracebacks) ever gets out: of an
error that is not in the table the answer says only that it is in the log.

Discussion. Bytes that do not have the digest promised are 422, whether the
promise stood in the URL or in a digest field: the request was well formed, the
content is what is wrong. Rejected: 400 for the field (RFC 9530 appendix B
shows it), because a client would have to look at two statuses for one fault.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from dtfc import errors
from dtfc.http.fields import BadMessage
from dtfc.http.replies import GIVES_WAY, YES

Fields = tuple[tuple[str, str], ...]

_ALWAYS: Fields = (
    ("Content-Type", "application/problem+json"),
    # 404, 405, 410, 414 and 501 could be kept by a cache otherwise (RFC 9110
    # section 15.1): a blob that is absent now may be here in a second.
    ("Cache-Control", "no-store"),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error answer.

    Args:
        status: the HTTP status code.
        title: what went wrong, the same each time for one kind of problem.
        detail: what was found this time.
        members: further facts for programs; none may be called as the five
            standard members are, those win.
        fields: header fields beside Content-Type and Cache-Control, which are
            always there.
        type: a URI that names the kind of problem, for those that have one.
    """

    status: int
    title: str
    detail: str
    members: Mapping[str, object] = field(default_factory=dict)
    fields: Fields = ()
    type: str = "about:blank"

    def __post_init__(self) -> None:
        fixed = [name.lower() for name, _ in _ALWAYS]
        further = tuple(each for each in self.fields if each[0].lower() not in fixed)
        object.__setattr__(self, "fields", _ALWAYS + further)

    def body(self) -> bytes:
        """Return the JSON, in UTF-8, as one line."""
        standard = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        text = json.dumps(
            standard
            | {name: value for name, value in self.members.items() if name not in standard},
            ensure_ascii=False,
            default=str,
        )
        # A lone surrogate (a byte of an old name that is no UTF-8) becomes the
        # \udcxx that JSON has for it.
        return text.encode("utf-8", "backslashreplace") + b"\n"

    def with_members(self, **members: object) -> Problem:
        """Return the same problem with further facts for programs."""
        return replace(self, members={**self.members, **members})


@dataclass(frozen=True, slots=True)
class _Row:
    """What becomes of one kind of error.

    Args:
        status: the HTTP status code.
        title: of the problem.
        shows: attributes of the error that become members, by member name.
        retry_after: seconds; an attribute of that name on the error goes first.
        fields: of the answer.
        detail: said instead of the error's own words, where these are not for
            the client's eyes.
        type: a URI that names the kind of problem.
    """

    status: int
    title: str
    shows: Mapping[str, str] = field(default_factory=dict)
    retry_after: int | None = None
    fields: Fields = ()
    detail: str = ""
    type: str = "about:blank"


#: Where the IETF draft of resumable uploads has its types of problems.
_REGISTERED = "https://iana.org/assignments/http-problem-types"

_IN_THE_LOG = "this node's log says what it was"
_UNKNOWN = _Row(500, "Something went wrong here", detail=_IN_THE_LOG)
_FULL = "There is no room for this"
_NOT_ENTERED = "Stored, but not entered in the document"
_NOT_NOW = "The store cannot be used now"

_TABLE: Mapping[type[Exception], _Row] = {
    errors.BadDigest: _Row(400, "This is no digest"),
    errors.BadName: _Row(400, "This cannot be a file name"),
    errors.BadInput: _Row(400, "The request cannot be used"),
    # RFC 9110 section 15.5.2 wants a challenge, and no registered scheme is RFC 9421.
    errors.BadSignature: _Row(
        401, "This is not signed as a peer signs", fields=(("WWW-Authenticate", "DTFC-Peer"),)
    ),
    # RFC 6750 section 3: no error code where nothing was brought.
    errors.NoCredentials: _Row(
        401, "Who are you?", fields=(("WWW-Authenticate", 'Bearer realm="dtfc"'),)
    ),
    errors.BadToken: _Row(
        401,
        "This token is good for nothing",
        fields=(("WWW-Authenticate", 'Bearer realm="dtfc", error="invalid_token"'),),
    ),
    # No Basic challenge: a browser would ask for a password, as CouchDB's own page does not.
    errors.BadSession: _Row(
        401, "Who are you?", fields=(("WWW-Authenticate", 'Bearer realm="dtfc"'),)
    ),
    errors.TooManyFailures: _Row(429, "Too many wrong credentials", retry_after=60),
    errors.CouchUnreached: _Row(
        503, "CouchDB cannot be asked", retry_after=2, detail="this node's log says why"
    ),
    errors.NoDatabase: _Row(404, "There is no such database"),
    errors.UnfitDocument: _Row(409, "The document cannot refer to files"),
    errors.NotEntered: _Row(403, _NOT_ENTERED),
    errors.EntryRefused: _Row(403, _NOT_ENTERED),
    # RFC 9110 section 15.5.2 wants a challenge; as for BadSession, not for a password.
    errors.EntryUnauthorized: _Row(
        401, _NOT_ENTERED, fields=(("WWW-Authenticate", 'Bearer realm="dtfc"'),)
    ),
    errors.EntryContended: _Row(409, _NOT_ENTERED, retry_after=1),
    errors.EntryUnreached: _Row(503, _NOT_ENTERED, retry_after=2),
    errors.Denied: _Row(403, "This is not allowed"),
    errors.NotSecure: _Row(403, "Not over a connection in clear", {"where": "where"}),
    # RFC 9110 section 15.5.20.
    errors.Misdirected: _Row(421, "Misdirected request"),
    errors.Absent: _Row(
        404, "There is no such blob", {"sha512": "digest_hex", "deleted": "deleted"}
    ),
    errors.StaysDeleted: _Row(410, "This blob was deleted", {"sha512": "digest_hex"}),
    # RFC 6585 section 4.
    errors.TooManyRequests: _Row(429, "Too many requests", {"limit": "setting"}, retry_after=1),
    errors.TooManyUploads: _Row(429, "Too many uploads at once", {"limit": "limit"}, retry_after=5),
    errors.TooManyConnections: _Row(429, "Too many connections", {"limit": "limit"}, retry_after=1),
    errors.UnknownUpload: _Row(404, "There is no such upload"),
    errors.UploadsFull: _Row(503, "Too many uploads are open", {"limit": "limit"}, retry_after=60),
    errors.WrongOffset: _Row(
        409,
        "The part does not begin where the upload ends",
        {"expected-offset": "expected", "provided-offset": "provided"},
        type=f"{_REGISTERED}#mismatching-upload-offset",
    ),
    errors.UploadOver: _Row(409, "The upload is complete", type=f"{_REGISTERED}#completed-upload"),
    errors.PartsJoined: _Row(403, "This upload is joined of others"),
    errors.WrongPart: _Row(422, "The part is not what was promised"),
    errors.Superseded: _Row(409, "Another request goes on"),
    errors.Stalled: _Row(408, "The request took too long"),
    errors.TooLarge: _Row(413, "This is too large", {"limit": "limit"}),
    errors.WrongLength: _Row(
        400, "The body has the wrong length", {"expected": "expected", "actual": "actual"}
    ),
    errors.WrongDigest: _Row(
        422,
        "The bytes do not have the digest that was promised",
        {"algorithm": "algorithm", "expected": "expected", "actual": "actual"},
    ),
    errors.Contradiction: _Row(
        422, "The digests that were promised contradict each other", {"algorithm": "algorithm"}
    ),
    # Never sent, since nobody is there to read it: the number is for the log,
    # where nginx has made it known.
    errors.ConnectionGone: _Row(499, "The client left"),
    errors.Busy: _Row(503, "Another process is at it", retry_after=2),
    errors.PeersUnreached: _Row(
        503,
        "Not every peer could be asked",
        {"sha512": "digest_hex", "unreached": "unreached"},
        retry_after=5,
    ),
    errors.TooManySenders: _Row(503, "Too many peers", retry_after=600),
    errors.QuorumMissed: _Row(
        503,
        "Stored, but with too few copies",
        {"sha512": "digest_hex", "copies": "copies", "wanted": "wanted"},
        retry_after=5,
    ),
    errors.QueueFull: _Row(
        503, "Too many files lack their copies", {"limit": "limit"}, retry_after=30
    ),
    errors.NoProgram: _Row(501, "This needs a program that is not here"),
    errors.NotMedia: _Row(404, "This is no media file"),
    errors.ProbeFailed: _Row(503, "ffprobe gave up", retry_after=60),
    errors.TooManyProbes: _Row(503, "Too many wait for ffprobe", {"limit": "limit"}, retry_after=5),
    errors.TooManyTorrents: _Row(503, "Too many torrents", {"limit": "limit"}, retry_after=10),
    errors.Corrupt: _Row(503, "Damaged here", retry_after=60),
    errors.Retracted: _Row(503, "Loaded anew", retry_after=5),
    errors.GivesWay: _Row(503, "Sent to others first", retry_after=1, fields=((GIVES_WAY, YES),)),
    errors.Draining: _Row(503, "This node is shutting down", retry_after=5),
    errors.NoSpace: _Row(507, _FULL, {"needed": "needed"}),
    errors.NoInodes: _Row(507, _FULL),
    errors.StoreFailure: _Row(500, "The store failed"),
    errors.BrokenStore: _Row(500, "The store is broken", detail=_IN_THE_LOG),
    errors.BadSetting: _Row(500, "A setting cannot be used", detail=_IN_THE_LOG),
    errors.BadSettings: _Row(500, "Settings cannot be used", detail=_IN_THE_LOG),
}

#: What the operating system's own reason makes of a failure of the store.
_BY_ERRNO: Mapping[int | None, _Row] = {
    errno.ENOSPC: _Row(507, _FULL),
    errno.EDQUOT: _Row(507, _FULL),
    errno.EFBIG: _Row(413, "This is too large"),
    errno.EROFS: _Row(503, _NOT_NOW, retry_after=60),
    errno.EMFILE: _Row(503, _NOT_NOW, retry_after=5),
    errno.ENFILE: _Row(503, _NOT_NOW, retry_after=5),
    errno.ENOMEM: _Row(503, _NOT_NOW, retry_after=5),
}


def problem_for(error: BaseException) -> Problem:
    """Return the answer to an error.

    An error whose kind is not in the table is answered as the nearest of its
    base classes is; one that has none there is a fault of this program, and
    its answer says nothing about it.
    """
    if isinstance(error, BadMessage):
        # What violates HTTP itself brings its answer: the RFC names the status
        # in the same sentence as the rule.
        return Problem(error.status, error.title, error.detail)
    row = _row(error)
    retry_after = getattr(error, "retry_after", row.retry_after)
    return Problem(
        row.status,
        row.title,
        row.detail or str(error),
        {name: getattr(error, attribute) for name, attribute in row.shows.items()},
        row.fields if row.retry_after is None else (("Retry-After", str(retry_after)), *row.fields),
        row.type,
    )


def _row(error: BaseException) -> _Row:
    if isinstance(error, errors.StoreFailure) and error.errno in _BY_ERRNO:
        return _BY_ERRNO[error.errno]
    return next((_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE), _UNKNOWN)


# What is found while a request is routed, where no error was raised.


def not_found(path: str) -> Problem:
    """404: no URL of ours looks like that."""
    return Problem(404, "There is nothing here", f"no address of this node is {path}")


def method_not_allowed(allow: Iterable[str]) -> Problem:
    """405: the URL exists; ``allow`` are the methods that it takes (RFC 9110 section 15.5.6)."""
    methods = ", ".join(sorted(allow))
    return Problem(
        405,
        "This address does not take this method",
        f"it takes {methods or 'none'}",
        fields=(("Allow", methods),),
    )


def length_required() -> Problem:
    """411: a body is needed, and neither Content-Length nor chunks announce one."""
    return Problem(
        411,
        "The length is missing",
        "send Content-Length, or Transfer-Encoding: chunked",
    )


def precondition_failed() -> Problem:
    """412: If-Match, If-None-Match or If-Unmodified-Since says no."""
    return Problem(
        412,
        "A precondition of the request does not hold",
        "what is stored is not what If-Match, If-None-Match or If-Unmodified-Since asks for",
    )


def unsupported_media_type(given: str, taken: str) -> Problem:
    """415: the body is of another kind than this URL takes."""
    return Problem(
        415,
        "This kind of body is not taken here",
        f"{given or 'a body without Content-Type'} came, {taken} is what is taken",
    )


def range_not_satisfiable(length: int) -> Problem:
    """416: no byte asked for exists; ``length`` is that of the file (RFC 9110 section 15.5.17)."""
    return Problem(
        416,
        "The file has no such bytes",
        f"it has {length} bytes, and the range asked for has none of them",
        {"length": length},
        (("Content-Range", f"bytes */{length}"),),
    )


def not_implemented(method: str) -> Problem:
    """501: a method that no URL of ours knows (RFC 9110 section 15.6.2)."""
    return Problem(501, "This method is not known here", f"no address of this node takes {method}")
