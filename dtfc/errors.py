"""What can go wrong, as facts.

Rules of this file: an error says what was found, never which status code it
becomes (``dtfc.http.problems`` has that table). Every error carries its facts
as attributes, and ``str(error)`` is a sentence that a person understands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class DtfcError(Exception):
    """Anything dtfc itself refuses or fails at."""


class BadDigest(DtfcError):
    """What was given is not a SHA-512 in hexadecimal."""

    def __init__(self, given: str) -> None:
        super().__init__("a digest is 128 hexadecimal digits (the SHA-512 of the bytes)")
        self.given = given


class BadName(DtfcError):
    """What was given cannot be a file name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BadInput(DtfcError):
    """A request, field or form that makes no sense; ``reason`` says which part."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BadSetting(DtfcError):
    """A flag or a line of the configuration that cannot be used."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


class Absent(DtfcError):
    """The blob is not here, was deleted here, or is nowhere.

    Args:
        digest_hex: the blob.
        deleted: a marker says so: no peer is asked.
        everywhere: every peer was asked, and said no.
    """

    def __init__(self, digest_hex: str, *, deleted: bool = False, everywhere: bool = False) -> None:
        if deleted:
            message = "this blob was deleted here"
        elif everywhere:
            message = "this node does not have this blob, nor does any of its peers"
        else:
            message = "this node does not have this blob"
        super().__init__(message)
        self.digest_hex = digest_hex
        self.deleted = deleted


class StaysDeleted(DtfcError):
    """A node sends a copy of what was deleted here: only a client's own PUT brings it back."""

    def __init__(self, digest_hex: str) -> None:
        super().__init__(
            "this blob was deleted: a copy from another node does not bring it back, "
            "a PUT by a client does"
        )
        self.digest_hex = digest_hex


class Denied(DtfcError):
    """Not allowed.

    Args:
        reason: what forbids it (a deny file, a marker, protected mode).
        remedy: how the operator would allow it; empty if that is not the
            client's business.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.reason = reason
        self.remedy = remedy


class NoCredentials(DtfcError):
    """Whoever asks would have to say who it is.

    Args:
        verb: what it wants.
        couchdb: whether being a user of CouchDB would help.
        tokens: whether a token would.
    """

    def __init__(self, verb: str, *, couchdb: bool = False, tokens: bool = True) -> None:
        ways = ["a token (Authorization: Bearer TOKEN)"] * tokens
        ways += ["a CouchDB user (session cookie, or name and password)"] * couchdb
        super().__init__(f"{verb} needs {' or '.join(ways)} here")
        self.verb = verb


class BadToken(DtfcError):
    """A request brings a token that is good for nothing; ``reason`` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BadSession(DtfcError):
    """CouchDB knows nobody by what a request brings.

    Args:
        kind: cookie, basic or bearer.
    """

    def __init__(self, kind: str) -> None:
        what = {"cookie": "session", "basic": "name and password", "bearer": "token"}[kind]
        super().__init__(f"CouchDB knows nobody by this {what}; perhaps it has expired")
        self.kind = kind


class TooManyFailures(DtfcError):
    """Credentials were wrong too often for CouchDB to be asked again.

    Args:
        retry_after: seconds after which it is.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            "too many wrong passwords, sessions or tokens came from this address or for this "
            "name; CouchDB would lock the name out, so it is not asked for a while"
        )
        self.retry_after = retry_after


class CouchUnreached(DtfcError):
    """CouchDB would have to be asked something, and does not answer; ``reason`` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"CouchDB cannot be asked: {reason}")
        self.reason = reason


class NoDatabase(DtfcError):
    """CouchDB has no database of that name."""

    def __init__(self, database: str) -> None:
        super().__init__(f"CouchDB has no database {database}")
        self.database = database


class UnfitDocument(DtfcError):
    """A document has no place for an entry; ``reason`` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the document cannot refer to a file: {reason}")
        self.reason = reason


class NotEntered(DtfcError):
    """A file is stored, and the document that was to refer to it does not.

    Args:
        error: one word for it, CouchDB's own where it said one.
        reason: a sentence for the client.
    """

    def __init__(self, error: str, reason: str) -> None:
        super().__init__(
            f"the file is stored, but the document does not refer to it: {reason}; until one "
            "does, nothing keeps the file here"
        )
        self.error = error
        self.reason = reason


class EntryRefused(NotEntered):
    """CouchDB, or what validates its documents, does not take the new revision."""


class EntryUnauthorized(NotEntered):
    """CouchDB took the user's credential before the body, and no longer after it."""


class EntryContended(NotEntered):
    """Others wrote the document each time before the file could be entered.

    Args:
        tries: how often that was.
    """

    def __init__(self, tries: int) -> None:
        super().__init__("conflict", f"others changed the document {tries} times meanwhile")


class EntryUnreached(NotEntered):
    """CouchDB does not answer; perhaps the file is entered all the same.

    Args:
        why: it does not, for the log.
    """

    def __init__(self, why: str) -> None:
        super().__init__(
            "unreached", "CouchDB does not answer now; the same request again enters the file"
        )
        self.why = why


class BadSignature(DtfcError):
    """A request that says it comes from a peer, and does not prove it."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this request does not prove that a peer made it: {reason}")
        self.reason = reason


class TooManySenders(DtfcError):
    """More processes have signed requests than this node can remember.

    Args:
        most: how many it remembers.
        retry_after: seconds after which one of them is forgotten, or may be.
    """

    def __init__(self, most: int, retry_after: int) -> None:
        super().__init__(f"more than {most} peer processes have signed requests lately")
        self.most = most
        self.retry_after = retry_after


class Misdirected(DtfcError):
    """A request for a host that this node does not answer for."""

    def __init__(self) -> None:
        super().__init__("this node does not answer under that name; the operator lists its names")


class NotSecure(DtfcError):
    """A request that came in clear, where that is not taken.

    Args:
        where: where it is taken.
    """

    def __init__(self, where: str) -> None:
        super().__init__(
            f"this is taken over https only, at {where}; what was sent is not safe now"
        )
        self.where = where


class WrongDigest(DtfcError):
    """The bytes that came do not have the digest that was promised."""

    def __init__(self, algorithm: str, expected: str, actual: str) -> None:
        super().__init__(f"the {algorithm} of the bytes is {actual}, not {expected}")
        self.algorithm = algorithm
        self.expected = expected
        self.actual = actual


class Contradiction(DtfcError):
    """The URL and the digest fields of a request promise different bytes."""

    def __init__(self, algorithm: str, one: str, other: str) -> None:
        super().__init__(f"the request promises two different {algorithm}: {one} and {other}")
        self.algorithm = algorithm


class WrongLength(DtfcError):
    """Fewer or more bytes came than were announced."""

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(f"{expected} bytes were announced, {actual} came")
        self.expected = expected
        self.actual = actual


class TooLarge(DtfcError):
    """The body is larger than this node takes."""

    def __init__(self, limit: int, setting: str) -> None:
        super().__init__(f"more than {limit} bytes; the limit is set by {setting}")
        self.limit = limit
        self.setting = setting


class NoSpace(DtfcError):
    """The disk has no room for the body beside the reserve."""

    def __init__(self, needed: int, free: int, reserve: int) -> None:
        super().__init__(f"{needed} bytes needed, {free} free, of which {reserve} are kept back")
        self.needed = needed
        self.free = free
        self.reserve = reserve


class NoInodes(NoSpace):
    """The file system has bytes left, but no room for more files.

    Args:
        free: inodes left.
        kept: how many of them are kept back.
    """

    def __init__(self, free: int, kept: int) -> None:
        super().__init__(0, 0, 0)
        self.args = (f"no more files fit: {free} inodes free, of which {kept} are kept back",)


class StoreFailure(DtfcError):
    """The operating system refused an operation on the store."""

    def __init__(self, operation: str, error: OSError) -> None:
        super().__init__(f"the store could not {operation}: {error.strerror}")
        self.operation = operation
        self.errno = error.errno


class BrokenStore(DtfcError):
    """The store's own files make no sense, or are of a later version."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class Busy(DtfcError):
    """Another process of this node is already doing it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is in use by another process of this node")
        self.what = what


class PeersUnreached(DtfcError):
    """The blob is not here, and not every peer could be asked.

    Args:
        digest_hex: the blob.
        unreached: peer URL to what happened there.
        retry_after: seconds after which asking again makes sense.
    """

    def __init__(self, digest_hex: str, unreached: Mapping[str, str], retry_after: int) -> None:
        peers = ", ".join(unreached)
        super().__init__(f"this blob is not here, and could not be had from: {peers}")
        self.digest_hex = digest_hex
        self.unreached = dict(unreached)
        self.retry_after = retry_after


class QuorumMissed(DtfcError):
    """A blob is stored here, but fewer copies are durable than its client must have.

    Args:
        digest_hex: the blob.
        copies: that are durable, the one here included.
        wanted: that ``--write-quorum`` wants.
        retry_after: seconds after which sending it again makes sense.
    """

    def __init__(self, digest_hex: str, copies: int, wanted: int, retry_after: int) -> None:
        super().__init__(
            f"stored here, {copies} of {wanted} copies; the others are made as soon as peers can "
            "be reached, and the same PUT again says whether they are"
        )
        self.digest_hex = digest_hex
        self.copies = copies
        self.wanted = wanted
        self.retry_after = retry_after


class QueueFull(DtfcError):
    """So many blobs lack their copies that no further one is taken.

    Args:
        limit: blobs that may.
        setting: what the limit is called.
    """

    def __init__(self, limit: int, setting: str) -> None:
        super().__init__(f"{limit} blobs lack copies on other nodes; the limit is set by {setting}")
        self.limit = limit
        self.setting = setting


class TooManyRequests(DtfcError):
    """Somebody asks more often than it may.

    Args:
        who: an address, or a token's name.
        setting: what the limit is called.
        retry_after: seconds after which the next request is taken.
    """

    def __init__(self, who: str, setting: str, retry_after: int) -> None:
        super().__init__(f"{who} asks more often than it may; the limit is set by {setting}")
        self.setting = setting
        self.retry_after = retry_after


class TooManyUploads(DtfcError):
    """Somebody uploads more at once than it may.

    Args:
        who: an address, or a token's name.
        limit: uploads at once.
        setting: what the limit is called.
    """

    def __init__(self, who: str, limit: int, setting: str) -> None:
        super().__init__(
            f"{who} has {limit} uploads under way, and no more are taken at once; "
            f"the limit is set by {setting}"
        )
        self.limit = limit
        self.setting = setting


class UnknownUpload(DtfcError):
    """There is no such upload: it never was, was given up, or has expired."""

    def __init__(self) -> None:
        super().__init__("there is no such upload here; it may have expired, so begin a new one")


class UploadsFull(DtfcError):
    """As many uploads are open in this node as may be.

    Args:
        limit: uploads.
        setting: what the limit is called.
    """

    def __init__(self, limit: int, setting: str) -> None:
        super().__init__(
            f"{limit} uploads are open here, and no more are taken; the limit is set by {setting}"
        )
        self.limit = limit
        self.setting = setting


class WrongOffset(DtfcError):
    """A part begins where the upload does not end.

    Args:
        expected: bytes that are here.
        provided: where the part begins.
        complete: whether nothing is lacking any more.
    """

    def __init__(self, expected: int, provided: int, *, complete: bool = False) -> None:
        super().__init__(
            f"this upload has {expected} bytes, and the part begins at {provided}; "
            f"go on at {expected}"
        )
        self.expected = expected
        self.provided = provided
        self.complete = complete


class UploadOver(DtfcError):
    """An upload is complete, and takes no further bytes."""

    def __init__(self, length: int) -> None:
        super().__init__(f"this upload is complete, with {length} bytes")
        self.length = length


class PartsJoined(DtfcError):
    """An upload is joined of others, and takes no bytes of its own."""

    def __init__(self) -> None:
        super().__init__("this upload is joined of others; bytes go to those")


class WrongPart(DtfcError):
    """A part of an upload does not have the checksum that came with it."""

    def __init__(self, algorithm: str, *, cut: bool = False) -> None:
        found = "was cut off, and nobody can tell" if cut else "does not have the one that came"
        super().__init__(f"the part was to have a {algorithm}, but {found}; it was discarded")
        self.algorithm = algorithm


class Superseded(DtfcError):
    """Another request goes on with the same upload."""

    def __init__(self) -> None:
        super().__init__("another request goes on with this upload; this one is over")


class TooManyConnections(DtfcError):
    """An address has more connections than it may.

    Args:
        limit: connections of one address.
        setting: what the limit is called.
    """

    def __init__(self, limit: int, setting: str) -> None:
        super().__init__(
            f"this address has {limit} connections already; the limit is set by {setting}"
        )
        self.limit = limit
        self.setting = setting


class Stalled(DtfcError):
    """A client or peer was slower than the lowest rate for too long."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"{what}: nothing useful came for {seconds:g} seconds")
        self.what = what
        self.seconds = seconds


class Draining(DtfcError):
    """This node is shutting down and takes no new work."""

    def __init__(self) -> None:
        super().__init__("this node is shutting down; ask again in a moment, or ask another node")


class ConnectionGone(DtfcError):
    """The client left before its request was complete."""

    def __init__(self) -> None:
        super().__init__("the client closed the connection before the request was complete")


class BadSettings(DtfcError):
    """Everything that is wrong with flags and configuration file."""

    def __init__(self, problems: Iterable[BadSetting]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class NoProgram(DtfcError):
    """A program that this needs is not on this machine.

    Args:
        program: its name.
        setting: what names it.
    """

    def __init__(self, program: str, setting: str) -> None:
        super().__init__(f"this node has no {program}; its operator installs it, or sets {setting}")
        self.program = program


class NotMedia(DtfcError):
    """A blob is no image, sound or film that ffprobe knows."""

    def __init__(self) -> None:
        super().__init__("ffprobe knows no image, sound or film in this blob")


class ProbeFailed(DtfcError):
    """ffprobe could not be asked about a blob; ``reason`` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"ffprobe does not say what this blob is: {reason}")
        self.reason = reason


class TooManyTorrents(DtfcError):
    """So many wait for a torrent to be made that no further one is taken.

    Args:
        limit: requests that may wait.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} requests wait for torrents that are still to be made")
        self.limit = limit


class TooManyProbes(DtfcError):
    """So many blobs wait for ffprobe that no further one is taken.

    Args:
        limit: blobs that may wait.
        setting: what the limit is called.
    """

    def __init__(self, limit: int, setting: str) -> None:
        super().__init__(f"{limit} blobs wait for ffprobe; the limit is set by {setting}")
        self.limit = limit
        self.setting = setting


class Corrupt(DtfcError):
    """The bytes that lie here are not the blob's.

    Args:
        digest_hex: the blob.
        chunk: the first one that is wrong, counted from 0; None if only the
            whole is known to be.
    """

    def __init__(self, digest_hex: str, chunk: int | None = None) -> None:
        where = "" if chunk is None else f", at MiB {chunk} at the earliest"
        super().__init__(f"this node's copy of the blob is damaged{where}")
        self.digest_hex = digest_hex
        self.chunk = chunk


class Retracted(DtfcError):
    """What had come of a load, and was sent on, turned out to be wrong."""

    def __init__(self) -> None:
        super().__init__("a peer's bytes were wrong; the blob is loaded anew")


class GivesWay(DtfcError):
    """This node sends a blob to as many others as it may; who stands higher goes first."""

    def __init__(self) -> None:
        super().__init__(
            "this blob is sent to as many nodes at once as may be (--peer-receivers); "
            "others may have it by now"
        )
