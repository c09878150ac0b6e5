"""A node that takes resumable uploads (tus 1.0), as far as a client has to do with it."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Upload:
    """One upload."""

    length: int
    name: str | None
    content: bytearray = field(default_factory=bytearray)
    stored: dict[str, Any] | None = None


@dataclass
class StandIn:
    """The node.

    Args:
        resumes: whether it takes resumable uploads; one of 2015 does not.
    """

    resumes: bool = True
    cuts: list[int] = field(default_factory=list)
    """Bytes of a PATCH after which it breaks off, for each of the next ones."""
    refuses: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """Answered to the next PATCH or PUT before its body."""
    deaf: bool = False
    """Whether answers to PATCH get lost."""
    spoils: bool = False
    """Whether it stores other bytes than came."""
    tells: dict[str, str] = field(default_factory=dict)
    """Fields of its answer to a POST, in the place of those that make sense."""
    uploads: dict[str, Upload] = field(default_factory=dict)
    blobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    received: int = 0
    fields: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        node = self

        class Handler(_Handler):
            stand_in = node

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def store(self, content: bytes, name: str | None) -> tuple[dict[str, Any], bool]:
        """Store bytes; tell of them as a PUT does, and whether they are new."""
        if self.spoils:
            content += b"!"
        digest = hashlib.sha512(content).hexdigest()
        new = digest not in self.blobs
        told = {"sha512": digest, "filename": name, "length": len(content), "stub": True}
        self.blobs[digest] = told
        return told, new


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_args: object) -> None:
        """A client that breaks off is what is tested."""


class _Handler(BaseHTTPRequestHandler):
    stand_in: StandIn
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes = b"", **fields: str) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def noted(self) -> StandIn:
        self.stand_in.requests.append(f"{self.command} {self.path}")
        self.stand_in.fields.append({name.lower(): value for name, value in self.headers.items()})
        return self.stand_in

    def refused(self) -> bool:
        if not self.stand_in.refuses:
            return False
        status, members = self.stand_in.refuses.pop(0)
        self.answer(status, json.dumps({"status": status, **members}).encode(), Connection="close")
        self.close_connection = True
        return True

    def upload(self) -> Upload | None:
        found = self.stand_in.uploads.get(urlsplit(self.path).path)
        if found is None:
            self.answer(404)
        return found

    def do_OPTIONS(self) -> None:
        if self.noted().resumes:
            self.answer(204, Tus_Version="1.0.0", Tus_Resumable="1.0.0")
        else:
            self.answer(404)

    def do_GET(self) -> None:
        self.noted()
        if self.path.startswith("/files.json"):
            files = [
                {"name": told["filename"], "sha512": digest, "length": told["length"]}
                for digest, told in self.stand_in.blobs.items()
            ]
            self.answer(200, json.dumps({"files": files, "next": None}).encode())
            return
        upload = self.upload()
        if upload is not None:
            whole = len(upload.content) >= upload.length
            told = {"offset": len(upload.content), "complete": whole, "stored": upload.stored}
            self.answer(200, json.dumps(told).encode())

    def do_HEAD(self) -> None:
        self.noted()
        upload = self.upload()
        if upload is not None:
            offset, length = str(len(upload.content)), str(upload.length)
            self.answer(200, Upload_Offset=offset, Upload_Length=length)

    def do_POST(self) -> None:
        self.noted()
        pairs = [each.split(" ") for each in self.headers.get("Upload-Metadata", "").split(",")]
        told = {pair[0]: base64.b64decode(pair[1]).decode() for pair in pairs if len(pair) == 2}
        upload = Upload(int(self.headers["Upload-Length"]), told.get("filename"))
        path = f"/uploads/{secrets.token_urlsafe(32)}"
        self.stand_in.uploads[path] = upload
        known = self.stand_in.blobs.get(told.get("sha512", ""))
        offset = 0
        if known is not None:
            upload.stored, offset = known, upload.length
            upload.content = bytearray(upload.length)
        fields = {"Location": path, "Upload_Offset": str(offset)} | self.stand_in.tells
        self.answer(201, b"", **fields)

    def do_PATCH(self) -> None:
        node = self.noted()
        upload = self.upload()
        if upload is None or self.refused():
            return
        if int(self.headers["Upload-Offset"]) != len(upload.content):
            self.answer(409, Upload_Offset=str(len(upload.content)))
            self.close_connection = True
            return
        length = int(self.headers["Content-Length"])
        most = min(length, node.cuts.pop(0)) if node.cuts else length
        content = self.rfile.read(most)
        upload.content += content
        node.received += len(content)
        if len(upload.content) >= upload.length:
            upload.stored, _ = node.store(bytes(upload.content), upload.name)
        if most < length or node.deaf:
            node.deaf = False
            self.close_connection = True
            return
        assert upload.stored is not None
        where = f"/{upload.stored['sha512']}"
        self.answer(204, Upload_Offset=str(len(upload.content)), Content_Location=where)

    def do_PUT(self) -> None:
        node = self.noted()
        if self.refused():
            return
        if self.headers.get("Expect"):
            self.send_response_only(100)
            self.end_headers()
        content = self.rfile.read(int(self.headers["Content-Length"]))
        node.received += len(content)
        told, new = node.store(content, unquote(self.path.rsplit("/", 1)[1]))
        # As in 2015: JSON that is called text.
        self.answer(201 if new else 200, json.dumps(told).encode(), Content_Type="text/plain")

    def handle_expect_100(self) -> bool:
        return True

    def log_message(self, *_args: object) -> None:
        """Say nothing."""
