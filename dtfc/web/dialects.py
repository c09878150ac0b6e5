"""The two dialects in which clients speak of uploads: what they ask, and how they are answered.

Rules of this file: fields in, facts out, and back; nothing is decided here. tus
is told by ``Tus-Resumable``; everything else is the IETF's draft, of which the
versions 3 to 8 differ here in one name (``Upload-Incomplete`` until 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dtfc.digest import Digest
from dtfc.errors import BadInput, Contradiction, WrongPart
from dtfc.http import structured, tus
from dtfc.http.dates import http_date
from dtfc.http.digests import parse_digest_field
from dtfc.http.problems import Problem, unsupported_media_type
from dtfc.http.tus import Checksum, Concat
from dtfc.names import check_name
from dtfc.peers.disposition import file_name
from dtfc.store.uploadstate import Announced

if TYPE_CHECKING:
    from dtfc.web.request import Request

Fields = Sequence[tuple[str, str]]

#: Media type of a part, in the draft.
PART = "application/partial-upload"

#: Versions of the draft whose 104 clients understand.
_INTERIM = frozenset({"6", "7", "8"})

#: The version in which what is now Upload-Complete was its contrary.
_INVERTED = "3"

#: What tells that a proxy is between: it could take a 104 for the answer.
_PROXIED = (
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
)


class WrongVersion(BadInput):
    """A version of tus that is not spoken here."""


class WrongType(BadInput):
    """A body of another media type than parts have.

    Args:
        given: what it has.
        taken: what it should have.
    """

    def __init__(self, given: str, taken: str) -> None:
        super().__init__(f"a part is {taken}, not {given or 'of no type'}")
        self.given = given
        self.taken = taken


@dataclass(frozen=True, slots=True)
class Creation:
    """What somebody wants to begin.

    Args:
        announced: what the upload is to be.
        final: whether this request brings all of it; None where the length tells.
        checksum: what the body must have, if it has one.
    """

    announced: Announced
    final: bool | None = None
    checksum: Checksum | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """What somebody wants to add.

    Args:
        offset: where it begins.
        final: whether it is the last one; None where the length tells.
        length: of the whole, if this request tells it.
        checksum: what it must have.
    """

    offset: int
    final: bool | None = None
    length: int | None = None
    checksum: Checksum | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How an upload is.

    Args:
        offset: bytes that are here.
        length: of the whole; None while that is not known.
        complete: whether all are here.
        metadata: tus' field, as it came.
        is_part: whether it is to be joined with others.
        parts: the URLs of those that it was joined of.
        expires: seconds since 1970.
    """

    offset: int
    length: int | None
    complete: bool
    metadata: str = ""
    is_part: bool = False
    parts: tuple[str, ...] = ()
    expires: float = 0.0


class Tus:
    """tus 1.0."""

    is_tus = True

    def __init__(self, request: Request) -> None:
        self._request = request

    def check(self) -> None:
        """Return if the client speaks a version that is spoken here.

        Raises:
            WrongVersion: it does not.
        """
        if self._request.field("tus-resumable") != [tus.VERSION]:
            raise WrongVersion(f"Tus-Resumable: {tus.VERSION} is the version that is spoken here")

    def creation(self) -> Creation:
        """Read a POST to ``/uploads/``.

        Raises:
            BadInput, BadName, BadDigest, WrongType, UnknownUpload: it makes no sense.
        """
        request = self._request
        values = request.field("upload-metadata")
        metadata = tus.parse_metadata(values)
        length = tus.parse_count("Upload-Length", request.field("upload-length"))
        concat = tus.parse_concat(request.field("upload-concat"))
        deferred = request.field("upload-defer-length")
        if concat is not None and concat.joins:
            if length is not None:
                raise BadInput("the length of an upload that is joined of others is theirs")
        elif deferred not in ([], ["1"]) or (length is None) != (deferred == ["1"]):
            raise BadInput("Upload-Length: N, or else Upload-Defer-Length: 1, says how long it is")
        if request.body.length != 0:
            _check_type(request, tus.PART)
        promised = metadata.get("sha512")
        sha512 = None if promised is None else Digest.from_hex(promised).hex
        name = metadata.get("filename") or metadata.get("name")
        announced = _announced(request, name, length, sha512, ",".join(values), concat)
        return Creation(announced, None, self._checksum())

    def part(self) -> Part:
        """Read a PATCH.

        Raises:
            BadInput, WrongType: it makes no sense.
        """
        request = self._request
        _check_type(request, tus.PART)
        offset = tus.parse_count("Upload-Offset", request.field("upload-offset"))
        if offset is None:
            raise BadInput("Upload-Offset says where the part begins")
        length = tus.parse_count("Upload-Length", request.field("upload-length"))
        return Part(offset, None, length, self._checksum())

    def _checksum(self) -> Checksum | None:
        return tus.parse_checksum(self._request.field("upload-checksum")) or _content_digest(
            self._request
        )

    def interim(self) -> bool:
        """Whether the client may be told of the upload before the answer."""
        return False

    def fields(self, progress: Progress) -> Fields:
        """Return what an answer says of an upload."""
        told = [("Tus-Resumable", tus.VERSION), ("Upload-Offset", str(progress.offset))]
        if not progress.complete and progress.expires:
            told.append(("Upload-Expires", http_date(int(progress.expires))))
        return told

    def looked(self, progress: Progress) -> tuple[int, Fields]:
        """Return the answer to HEAD."""
        told = list(self.fields(progress))
        if progress.length is None:
            told.append(("Upload-Defer-Length", "1"))
        else:
            told.append(("Upload-Length", str(progress.length)))
        if progress.metadata:
            told.append(("Upload-Metadata", progress.metadata))
        if progress.is_part:
            told.append(("Upload-Concat", "partial"))
        if progress.parts:
            told.append(("Upload-Concat", f"final;{' '.join(progress.parts)}"))
        return 200, told

    def failed(self, error: Exception, problem: Problem) -> tuple[int, Fields]:
        """Return the status of an error, and the fields that it has in this dialect."""
        told = [("Tus-Resumable", tus.VERSION)]
        if isinstance(error, WrongVersion):
            return 412, [*told, ("Tus-Version", tus.VERSION)]
        return 460 if isinstance(error, WrongPart) else problem.status, told


class Draft:
    """The IETF's draft of resumable uploads (draft-ietf-httpbis-resumable-upload)."""

    is_tus = False

    def __init__(self, request: Request) -> None:
        self._request = request
        self._version = "".join(request.field("upload-draft-interop-version")).strip(" ")

    def check(self) -> None:
        """Return: a client need not say which version it speaks."""

    def creation(self) -> Creation:
        """Read a POST to ``/uploads/``.

        Raises:
            BadInput, BadName: it makes no sense.
        """
        request = self._request
        complete = self._complete()
        if complete is None:
            raise BadInput(
                "an upload begins with Tus-Resumable (tus), or with Upload-Complete: ?0 or ?1"
            )
        length = structured.parse_count("Upload-Length", request.field("upload-length"))
        if complete:
            length = _agreed(length, request.body.length)
        announced = _announced(request, None, length, None, "", None)
        return Creation(announced, complete, _content_digest(request))

    def part(self) -> Part:
        """Read a PATCH.

        Raises:
            BadInput, WrongType: it makes no sense.
        """
        request = self._request
        # Until version 5 a part had no type of its own.
        if self._version not in ("3", "4", "5"):
            _check_type(request, PART)
        offset = structured.parse_count("Upload-Offset", request.field("upload-offset"))
        if offset is None:
            raise BadInput("Upload-Offset says where the part begins")
        complete = self._complete()
        if complete is None:
            raise BadInput("Upload-Complete says whether this is the last part (?1) or not (?0)")
        length = structured.parse_count("Upload-Length", request.field("upload-length"))
        return Part(offset, complete, length, _content_digest(request))

    def _complete(self) -> bool | None:
        request = self._request
        if self._version == _INVERTED:
            values = request.field("upload-incomplete")
            incomplete = structured.parse_boolean("Upload-Incomplete", values)
            return None if incomplete is None else not incomplete
        return structured.parse_boolean("Upload-Complete", request.field("upload-complete"))

    def interim(self) -> bool:
        """Whether the client may be told of the upload before the answer."""
        request = self._request
        return (
            self._version in _INTERIM
            and request.head.version >= (1, 1)
            and not any(map(request.field, _PROXIED))
        )

    def fields(self, progress: Progress) -> Fields:
        """Return what an answer says of an upload."""
        complete = ("Upload-Complete", structured.boolean(progress.complete))
        if self._version == _INVERTED:
            complete = ("Upload-Incomplete", structured.boolean(not progress.complete))
        return [
            ("Upload-Draft-Interop-Version", self._version or "8"),
            ("Upload-Offset", str(progress.offset)),
            complete,
        ]

    def looked(self, progress: Progress) -> tuple[int, Fields]:
        """Return the answer to HEAD."""
        told = list(self.fields(progress))
        if progress.length is not None:
            told.append(("Upload-Length", str(progress.length)))
        return 204, told

    def failed(self, error: Exception, problem: Problem) -> tuple[int, Fields]:  # noqa: ARG002 -- as tus
        """Return the status of an error, and the fields that it has in this dialect."""
        return problem.status, []


Dialect = Tus | Draft


def dialect_of(request: Request) -> Dialect:
    """Return in which dialect a request is."""
    return Tus(request) if request.field("tus-resumable") else Draft(request)


def problem_of(error: Exception, problem: Problem) -> Problem:
    """Return the problem of an error that only this file knows."""
    if isinstance(error, WrongType):
        return unsupported_media_type(error.given, error.taken)
    return problem


def _announced(  # noqa: PLR0917 -- what two dialects say of one thing
    request: Request,
    name: str | None,
    length: int | None,
    sha512: str | None,
    metadata: str,
    concat: Concat | None,
) -> Announced:
    name = name or request.query("name")
    if name is None:
        disposition = request.field("content-disposition")
        name = file_name(disposition)
    found = parse_digest_field(request.field("repr-digest"))
    raw = found.get("sha-512")
    if raw is not None:
        told = Digest(raw).hex
        if sha512 is not None and sha512 != told:
            raise Contradiction("sha-512", sha512, told)
        sha512 = told
    sha256 = found.get("sha-256")
    return Announced(
        name=None if name is None else check_name(name),
        length=length,
        sha512=sha512,
        sha256=None if sha256 is None else sha256.hex(),
        metadata=metadata,
        is_part=concat is not None and not concat.joins,
        parts=() if concat is None else concat.parts,
    )


def _content_digest(request: Request) -> Checksum | None:
    found = parse_digest_field(request.field("content-digest"))
    for name, algorithm in (("sha-512", "sha512"), ("sha-256", "sha256")):
        if name in found:
            return Checksum(algorithm, found[name])
    return None


def _agreed(length: int | None, body: int | None) -> int | None:
    if length is not None and body is not None and length != body:
        raise BadInput("Upload-Length and Content-Length of a whole upload are not the same")
    return body if length is None else length


def _check_type(request: Request, taken: str) -> None:
    given = (request.field("content-type") or [""])[-1].partition(";")[0].strip().lower()
    if given != taken:
        raise WrongType(given, taken)
