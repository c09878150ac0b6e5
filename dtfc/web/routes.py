"""Every URL on one screen. What stands behind each is in the modules named here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import BaseConverter

from dtfc.access.links import without_signature
from dtfc.digest import Digest
from dtfc.errors import BadName, BrokenStore, DtfcError, GivesWay, StoreFailure
from dtfc.http.problems import method_not_allowed, not_found, problem_for
from dtfc.names import check_name
from dtfc.web.transmit import Shrunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from dtfc.web.blobs import Blobs
    from dtfc.web.couchpages import CouchPages
    from dtfc.web.deletions import DeletionPages
    from dtfc.web.frontpage import FrontPage
    from dtfc.web.mediapages import MediaPages
    from dtfc.web.metalink import MetalinkPages
    from dtfc.web.request import Request
    from dtfc.web.status import Status
    from dtfc.web.torrents import TorrentPages
    from dtfc.web.uploads import UploadPages

_log = Logger()


#: Errors that a client is told of, and that the operator has to know as well.
_FOR_THE_OPERATOR = (StoreFailure, BrokenStore, Shrunk)

#: A digest, perhaps with a name behind it; or else a name.
_PLAIN = re.compile(
    rb"/(?:([0-9a-fA-F]{128})(?:/([0-9A-Za-z._~-]+))?|(?![0-9a-fA-F]{128}\Z)([0-9A-Za-z._~-]+))\Z"
)

#: What may follow a digest in a URL that is read.
_ABOUT_BLOBS = (b"nopeerload", b"info", b"chunks", b"ffmetadata")

#: What some paths take.
_FIXED = {
    b"/": ["GET", "HEAD", "OPTIONS", "POST"],
    b"/refreshpeers.html": ["OPTIONS", "POST", "PUT"],
    b"/uploads/": ["OPTIONS", "POST"],
}

_OF_AN_UPLOAD = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST"]

#: What follows ``/deletions`` where it is no receipt's id. It is a name, too.
_DELETIONS = {
    (): ["GET", "HEAD", "OPTIONS", "POST", "PUT"],
    (b"compare",): ["OPTIONS", "POST"],
}


class DigestConverter(BaseConverter):
    """128 hexadecimal digits of either case in a URL."""

    regex = "[0-9a-fA-F]{128}"
    weight = 50  # before <name>: a digest in a URL always names a blob

    def to_python(self, value: str) -> Digest:
        """Parse the digits."""
        return Digest.from_hex(value)


class Routes:
    """The URLs of a node.

    Args:
        blobs: what is kept and served.
        status: what the node says of itself.
        deletions: deletion everywhere; None where there is none.
        media: what ffprobe says of blobs; None where it is not asked.
        couch: what is known of CouchDB's databases; None where none is followed.
        uploads: uploads that resume; None where there are none.
        metalinks: where else blobs can be had; None where nobody says.
        torrents: the same as torrents; None likewise.
        page: for people; None where there is none.
    """

    app = Klein()
    app.url_map.converters["digest"] = DigestConverter
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False

    def __init__(
        self,
        blobs: Blobs,
        status: Status,
        *,
        deletions: DeletionPages | None = None,
        media: MediaPages | None = None,
        couch: CouchPages | None = None,
        uploads: UploadPages | None = None,
        metalinks: MetalinkPages | None = None,
        torrents: TorrentPages | None = None,
        page: FrontPage | None = None,
    ) -> None:
        self._blobs = blobs
        self._status = status
        self._deletions = deletions
        self._media = media
        self._couch = couch
        self._uploads = uploads
        self._metalinks = metalinks
        self._torrents = torrents
        self._page = page

    @property
    def _front(self) -> FrontPage:
        if self._page is None:
            raise NotFound
        return self._page

    @property
    def _upload_pages(self) -> UploadPages:
        if self._uploads is None:
            raise NotFound
        return self._uploads

    @property
    def _pages(self) -> DeletionPages:
        if self._deletions is None:
            raise NotFound
        return self._deletions

    def resource(self) -> Resource:
        """Return what answers requests: the tree, and a short cut past it."""
        return ShortCut(self._blobs, self.app.resource(), self.failed)

    # -- the node -----------------------------------------------------------

    @app.route("/", methods=["GET"])
    async def front(self, request: Request) -> None:
        await self._front.front(request)

    @app.route("/page/<name>", methods=["GET"])
    def page(self, request: Request, name: str) -> None:
        self._front.asset(request, name)

    @app.route("/status.json", methods=["GET"])
    async def status(self, request: Request) -> None:
        await self._front.status(request)

    @app.route("/health.html", methods=["GET"])
    def health(self, request: Request) -> None:
        self._status.health(request)

    @app.route("/livez", methods=["GET"])
    def livez(self, request: Request) -> None:
        self._status.livez(request)

    @app.route("/readyz", methods=["GET"])
    async def readyz(self, request: Request) -> None:
        await self._status.readyz(request)

    @app.route("/metrics", methods=["GET"])
    async def metrics(self, request: Request) -> None:
        await self._status.metrics(request)

    @app.route("/files.json", methods=["GET"])
    async def files(self, request: Request) -> None:
        await self._status.files(request)

    @app.route("/refreshpeers.html", methods=["PUT", "POST"])
    async def refresh_peers(self, request: Request) -> None:
        await self._status.refresh_peers(request)

    # -- blobs --------------------------------------------------------------

    @app.route("/", methods=["POST"])
    async def post(self, request: Request) -> None:
        await self._blobs.storing.post(request)

    @app.route("/<digest:digest>", methods=["GET"])
    async def get(self, request: Request, digest: Digest) -> None:
        await self._blobs.get(request, digest, ask_peers=True)

    @app.route("/<digest:digest>/nopeerload", methods=["GET"])
    async def get_here(self, request: Request, digest: Digest) -> None:
        await self._blobs.get(request, digest, ask_peers=False)

    @app.route("/<digest:digest>/info", methods=["GET"])
    async def info(self, request: Request, digest: Digest) -> None:
        await self._blobs.info(request, digest)

    @app.route("/<digest:digest>/chunks", methods=["GET"])
    async def chunks(self, request: Request, digest: Digest) -> None:
        await self._blobs.chunks(request, digest)

    @app.route("/<digest:digest>.meta4", methods=["GET"])
    async def meta4(self, request: Request, digest: Digest) -> None:
        if self._metalinks is None or not self._metalinks.answers:
            self._blobs.no_such_url(request, f"{digest}.meta4")
        else:
            await self._metalinks.describe(request, digest)

    @app.route("/<digest:digest>.torrent", methods=["GET"])
    async def torrent(self, request: Request, digest: Digest) -> None:
        if self._torrents is None or self._metalinks is None or not self._metalinks.answers:
            self._blobs.no_such_url(request, f"{digest}.torrent")
        else:
            await self._torrents.describe(request, digest)

    @app.route("/<digest:digest>/ffmetadata", methods=["GET"])
    async def ffmetadata(self, request: Request, digest: Digest) -> None:
        if self._media is None:
            raise NotFound
        await self._media.describe(request, digest)

    @app.route("/<digest:digest>", methods=["DELETE"])
    async def delete(self, request: Request, digest: Digest) -> None:
        await self._blobs.storing.delete(request, digest)

    @app.route("/<digest:digest>/allpeers", methods=["DELETE"])
    async def delete_everywhere(self, request: Request, digest: Digest) -> None:
        if await self._blobs.storing.may_delete(request, digest):
            await self._pages.delete(request, digest)

    @app.route("/deletions/<name>", methods=["GET"])
    async def receipt(self, request: Request, name: str) -> None:
        await self._pages.receipt(request, name)

    # -- uploads that resume --------------------------------------------------

    @app.route("/uploads/", methods=["POST"])
    async def begin_upload(self, request: Request) -> None:
        await self._upload_pages.create(request)

    @app.route("/uploads/", methods=["OPTIONS"])
    def uploads(self, request: Request) -> None:
        self._upload_pages.options(request, ", ".join(allowed(b"/uploads/")))

    @app.route("/uploads/<name>", methods=["OPTIONS"])
    def upload_options(self, request: Request, name: str) -> None:
        self._upload_pages.options(request, ", ".join(allowed(f"/uploads/{name}".encode())))

    @app.route("/uploads/<name>", methods=["PATCH"])
    async def add_to_upload(self, request: Request, name: str) -> None:
        await self._upload_pages.patch(request, name)

    @app.route("/uploads/<name>", methods=["GET"])
    async def upload(self, request: Request, name: str) -> None:
        await self._upload_pages.look(request, name)

    @app.route("/uploads/<name>", methods=["DELETE"])
    async def give_upload_up(self, request: Request, name: str) -> None:
        await self._upload_pages.delete(request, name)

    @app.route("/uploads/<name>", methods=["POST"])
    async def upload_by_post(self, request: Request, name: str) -> None:
        await self._upload_pages.post(request, name)

    # What CouchDB refers to.

    @app.route("/couchdb/databases", methods=["GET"])
    async def databases(self, request: Request) -> None:
        if self._couch is None:
            raise NotFound
        await self._couch.databases(request)

    @app.route("/couchdb/garbage", methods=["GET"])
    async def garbage(self, request: Request) -> None:
        if self._couch is None:
            raise NotFound
        await self._couch.garbage(request)

    @app.route("/couchdb/<name>/missing", methods=["GET"])
    async def missing(self, request: Request, name: str) -> None:
        if self._couch is None:
            raise NotFound
        await self._couch.missing(request, name)

    # Among nodes.

    @app.route("/deletions", methods=["POST"])
    async def hear(self, request: Request) -> None:
        await self._pages.hear(request)

    @app.route("/deletions/compare", methods=["POST"])
    async def compare(self, request: Request) -> None:
        await self._pages.compare(request)

    @app.route("/<digest:digest>", methods=["PUT"])
    async def put_digest(self, request: Request, digest: Digest) -> None:
        await self._blobs.storing.put(request, None, digest)

    @app.route("/<digest:digest>/<name>", methods=["PUT"])
    async def put_digest_and_name(self, request: Request, digest: Digest, name: str) -> None:
        await self._blobs.storing.put(request, check_name(name), digest)

    @app.route("/<name>", methods=["PUT"])
    async def put_name(self, request: Request, name: str) -> None:
        await self._blobs.storing.put(request, check_name(name), None)

    @app.route("/<name>", methods=["GET"])
    def get_name(self, request: Request, name: str) -> None:
        if name == "refreshpeers.html":
            raise MethodNotAllowed
        self._blobs.no_such_url(request, name)

    # -- everything else ----------------------------------------------------

    @app.handle_errors(MethodNotAllowed, NotFound)
    def no_route(self, request: Any, failure: Failure) -> bytes:  # noqa: ARG002 -- Klein's signature
        """Answer OPTIONS for every URL of ours, and say no to the rest."""
        methods = allowed(request.path)
        body: bytes
        if not methods:
            body = request.begin_problem(not_found(request.path.decode("latin-1")))
            return body
        if request.method != b"OPTIONS":
            body = request.begin_problem(method_not_allowed(methods))
            return body
        request.put("Allow", ", ".join(methods))
        request.setResponseCode(204)
        return b""

    @app.handle_errors(Exception)
    def failed(self, request: Any, failure: Failure) -> bytes | Deferred[None] | None:
        """Turn any error into a problem; a bug is logged, and hides behind a 500.

        Returns:
            The answer's body, which Klein is to write; None where nobody is
            left to answer; where an answer had been begun, and so the
            connection is cut, a Deferred that fires when it is gone.
        """
        if request.finished or request._disconnected:  # noqa: SLF001 -- Twisted has no public name
            return None
        error: BaseException = failure.value or RuntimeError()
        uri = without_signature(request.uri.decode("latin-1"))
        if isinstance(error, _FOR_THE_OPERATOR):
            _log.error("{method} {uri}: {error}", method=request.method, uri=uri, error=str(error))
        elif not isinstance(error, DtfcError):
            _log.failure(
                "{method} {uri} failed ({id})",
                failure,
                method=request.method,
                uri=uri,
                id=request.id,
            )
        if not request.startedWriting:
            body: bytes = request.begin_problem(problem_for(error))
            return body
        if isinstance(error, GivesWay):
            request.close()
        else:
            request.abort()
        # Klein would finish the answer now; it waits until that cannot happen.
        gone: Deferred[None] = request.notifyFinish()
        return gone.addErrback(lambda _failure: None)


class ShortCut(Resource):
    """Takes plain PUTs past the router, which costs more than all the rest of a small one.

    Only what is plainly one of the tree's three routes for PUT is taken, with
    nothing in its path that has to be decoded; what is done then, and what
    becomes of errors, is the same.

    Args:
        blobs: what is kept and served.
        tree: answers everything else.
        failed: says what an error is in HTTP, as for the tree.
    """

    isLeaf = True  # noqa: N815 -- Twisted's name

    def __init__(
        self,
        blobs: Blobs,
        tree: Resource,
        failed: Callable[[Request, Failure], bytes | Deferred[None] | None],
    ) -> None:
        Resource.__init__(self)
        self._blobs = blobs
        self._tree = tree
        self._failed = failed

    def render(self, request: Request) -> Any:
        """Answer a request."""
        if request.method == b"PUT":
            plain = _plain_put(request.path)
            if plain is not None:
                self._put(request, *plain)
                return NOT_DONE_YET
        return self._tree.render(request)

    def _put(self, request: Request, name: str | None, digest: Digest | None) -> None:
        putting = Deferred.fromCoroutine(self._blobs.storing.put(request, name, digest))
        if putting.called:
            putting.addErrback(self._answer, request)
            return
        # A client that leaves takes its PUT with it, as in the tree.
        gone: Deferred[None] = request.notifyFinish()
        gone.addErrback(lambda _failure: putting.cancel())
        putting.addErrback(self._answer, request)

    def _answer(self, failure: Failure, request: Request) -> None:
        body = self._failed(request, failure)
        if isinstance(body, bytes):
            request.write(body)
            request.finish()


def _plain_put(path: bytes) -> tuple[str | None, Digest | None] | None:
    """Return the name and digest of a PUT's path; None if the tree has to look at it."""
    found = _PLAIN.match(path)
    if found is None or path == b"/refreshpeers.html":
        return None
    digest, name, other = (None if each is None else each.decode() for each in found.groups())
    try:
        # A name is refused here as in the tree: by the tree.
        for each in (name, other):
            if each is not None:
                check_name(each)
    except BadName:
        return None
    return name or other, None if digest is None else Digest.from_hex(digest)


def allowed(path: bytes) -> list[str]:
    """Return the methods that a path takes (RFC 9110 section 9.3.7); empty for no URL of ours."""
    first, *rest = path[1:].split(b"/")
    is_digest = len(first) == 128 and not first.strip(b"0123456789abcdefABCDEF")
    if path in _FIXED:
        return _FIXED[path]
    if first == b"uploads" and len(rest) == 1:
        return _OF_AN_UPLOAD
    if first == b"deletions" or (first == b"page" and rest):
        special = _DELETIONS if first == b"deletions" else {}
        return special.get(tuple(rest), ["GET", "HEAD", "OPTIONS"] if len(rest) == 1 else [])
    if not rest:
        methods = ["GET", "HEAD", "OPTIONS", *["POST"] * (path == b"/uploads"), "PUT"]
        return ["DELETE", *methods] if is_digest else methods
    if not is_digest or len(rest) > 1:
        return []
    more = ["GET", "HEAD"] if rest[0] in _ABOUT_BLOBS else []
    return ["DELETE"] * (rest[0] == b"allpeers") + more + ["OPTIONS", "PUT"]
