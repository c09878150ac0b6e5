"""Blobs over HTTP: a real store behind a connection without a socket."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
from twisted.internet.task import Clock

from dtfc.access.decisions import Policy
from dtfc.access.verbs import Verb
from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.errors import Absent, PeersUnreached, QueueFull, QuorumMissed
from dtfc.peers.loader import RemoteInfo
from dtfc.peers.roster import Roster, RosterChange
from dtfc.store.blobs import BlobInfo, Store, open_store
from dtfc.web.blobs import Blobs, Terms
from dtfc.web.gate import Gate
from dtfc.web.hotblobs import HotBlobs
from dtfc.web.routes import Routes
from dtfc.web.smallputs import LONGEST
from dtfc.web.status import Status
from tests.support.alone import NoPieces, upkeep_alone

HELLO = b"hello, world"
DIGEST = Digest.of(HELLO)


class NoPeers:
    """A loader that finds nothing, or what a test put into it."""

    def __init__(self, store: Store) -> None:
        self.remote: dict[Digest, bytes] = {}
        self.error: Exception | None = None
        self.asked: list[Digest] = []
        self._store = store

    def ensure(self, digest: Digest) -> Any:
        loader = self

        class Load:
            def __enter__(self) -> Self:
                return self

            def __exit__(self, *exc_info: object) -> None:
                pass

            here = True

            async def sized(self) -> int:
                if loader.error is not None:
                    loader.asked.append(digest)
                    raise loader.error
                return len(loader.remote[digest])

            async def finished(self) -> None:
                loader.asked.append(digest)
                if loader.error is not None:
                    raise loader.error
                intake = loader._store.intake(None)
                intake.write([loader.remote[digest]])
                intake.commit("remote.txt", digest=digest)

        return Load()

    async def probe(self, digest: Digest) -> RemoteInfo:
        self.asked.append(digest)
        if self.error is not None:
            raise self.error
        return RemoteInfo(len(self.remote[digest]), "remote.txt")

    def stored(self, digest: Digest) -> None:
        pass


class Answer:
    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.fields = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served:
    """A node's URLs, asked one request at a time on fresh connections."""

    def __init__(self, folder: Path, new_wire: Callable[..., Any]) -> None:
        self.store = open_store(str(folder / "store"), fan_out=2)
        self.loader = NoPeers(self.store)
        self.gate = Gate(Policy(anonymous=frozenset(Verb)))
        disk = InlineDisk()
        self.pieces = NoPieces()
        self.blobs = Blobs(
            self.store,
            disk,
            self.loader,  # type: ignore[arg-type] # a stand-in
            upkeep_alone(self.store, disk, self.pieces),
            self.gate,
            terms=Terms(),
            hot=HotBlobs(0),
        )
        self.changes: list[RosterChange] = []
        self.status = Status(
            self.store,
            disk,
            Roster(None),
            self.gate,
            draining=lambda: False,
            metrics=lambda _node: b"",
            clock=Clock(),
            changed=self.changes.append,
        )
        self._resource = Routes(self.blobs, self.status).app.resource()
        self._new_wire = new_wire

    def ask(self, method: str, path: str, body: bytes | None = None, **fields: str) -> Answer:
        wire = self.wire()
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        wire.send("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        return Answer(wire.got)

    def wire(self) -> Any:
        wire = self._new_wire()
        wire.site.resource = self._resource
        return wire


@pytest.fixture
def served(tmp_path: Path, new_wire: Callable[..., Any]) -> Iterator[Served]:
    served = Served(tmp_path, new_wire)
    yield served
    served.store.close()


class Owing:
    """Stands for the copies on other nodes."""

    def __init__(self) -> None:
        self.owed: list[str] = []
        self.forgotten: list[Digest] = []
        self.refusal: Exception | None = None
        self.outcome: int | Exception | None = 3

    def admit(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    async def owe(self, info: BlobInfo) -> bool | None:
        self.owed.append(info.digest.hex)
        return None if self.outcome is None else True

    async def enough(self, _digest: Digest, *, own: bool) -> int:
        assert own
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome or 0

    async def known(self, _digest: Digest) -> list[str]:
        return ["http://other:80"]

    async def forget(self, digest: Digest) -> None:
        self.forgotten.append(digest)


@pytest.fixture
def owing(served: Served) -> Owing:
    replicas = Owing()
    served.blobs.storing.replicas = replicas  # type: ignore[assignment] # a stand-in
    return replicas


FORM = (
    b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nhello, world\r\n'
    b'--x\r\nContent-Disposition: form-data; name="f"; filename="b"\r\n\r\nmore\r\n--x--\r\n'
)


class TestOwingCopies:
    @pytest.mark.parametrize("path", ["/a.txt", "/a%20b", f"/{DIGEST}", f"/{DIGEST}/a"])
    def test_a_put_owes_them_and_says_how_many_there_are(
        self, served: Served, owing: Owing, path: str
    ) -> None:
        answer = served.ask("PUT", path, HELLO)

        assert (answer.status, answer.json["replicas"]) == (201, 3)
        assert owing.owed == [DIGEST.hex]

    def test_a_long_put_owes_them_too(self, served: Served, owing: Owing) -> None:
        body = bytes(LONGEST + 1)

        assert served.ask("PUT", "/a", body).json["replicas"] == 3
        assert owing.owed == [Digest.of(body).hex]

    def test_every_file_of_a_form_owes_them(self, served: Served, owing: Owing) -> None:
        answer = served.ask("POST", "/", FORM, Content_Type="multipart/form-data; boundary=x")

        assert [stub["replicas"] for stub in answer.json] == [3, 3]
        assert owing.owed == [DIGEST.hex, Digest.of(b"more").hex]

    def test_what_owes_none_is_answered_as_ever(self, served: Served, owing: Owing) -> None:
        owing.outcome = None

        answer = served.ask("PUT", "/a", HELLO)

        assert list(answer.json) == ["sha512", "filename", "length", "content_type", "stub"]

    def test_a_copy_owes_none(self, served: Served, owing: Owing) -> None:
        owing.refusal = QueueFull(5, "--replica-queue")

        assert served.ask("PUT", f"/{DIGEST}", HELLO, DTFC_Replica="?1").status == 201
        assert owing.owed == []

    def test_too_few_are_503_and_the_blob_stays(self, served: Served, owing: Owing) -> None:
        owing.outcome = QuorumMissed(DIGEST.hex, 1, 2, 5)

        answer = served.ask("PUT", "/a", HELLO)

        assert (answer.status, answer.fields["retry-after"]) == (503, "5")
        assert (answer.json["copies"], answer.json["wanted"]) == (1, 2)
        assert served.store.holds(DIGEST)

    def test_too_few_of_a_form_are_503_and_tell_what_is_stored(
        self, served: Served, owing: Owing
    ) -> None:
        owing.outcome = QuorumMissed(DIGEST.hex, 1, 2, 5)

        answer = served.ask("POST", "/", FORM, Content_Type="multipart/form-data; boundary=x")

        assert answer.status == 503
        assert [stub["filename"] for stub in answer.json["stored"]] == ["a", "b"]

    @pytest.mark.parametrize("method", ["PUT", "POST"])
    def test_a_full_queue_is_said_before_the_body(
        self, served: Served, owing: Owing, method: str
    ) -> None:
        owing.refusal = QueueFull(5, "--replica-queue")
        wire = served.wire()
        path, kind = ("/", "multipart/form-data; boundary=x") if method == "POST" else ("/a", "a/b")

        wire.send(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
            "Content-Length: 99999\r\nExpect: 100-continue\r\n\r\n".encode()
        )

        assert wire.statuses == [503]
        assert Answer(wire.got).json["limit"] == 5

    @pytest.mark.usefixtures("owing")
    def test_info_says_who_has_copies(self, served: Served) -> None:
        served.ask("PUT", "/a", HELLO)

        assert served.ask("GET", f"/{DIGEST}/info").json["replicas"] == ["http://other:80"]

    def test_what_is_deleted_owes_none_any_more(self, served: Served, owing: Owing) -> None:
        served.ask("PUT", "/a", HELLO)

        assert served.ask("DELETE", f"/{DIGEST}").status == 200
        assert owing.forgotten == [DIGEST]


class TestCopies:
    """PUTs that another node makes."""

    def test_a_copy_is_stored(self, served: Served) -> None:
        assert served.ask("PUT", f"/{DIGEST}/a", HELLO, DTFC_Replica="?1").status == 201

    @pytest.mark.parametrize("length", [10, LONGEST + 1])
    def test_a_copy_of_what_was_deleted_is_410(self, served: Served, length: int) -> None:
        body = bytes(length)
        digest = Digest.of(body)
        served.ask("PUT", "/a", body)
        served.ask("DELETE", f"/{digest}")

        answer = served.ask("PUT", f"/{digest}/a", body, DTFC_Replica="?1")

        assert (answer.status, answer.json["sha512"]) == (410, digest.hex)
        assert not served.store.holds(digest)

    def test_a_copy_has_to_say_of_what_it_is_one(self, served: Served) -> None:
        assert served.ask("PUT", "/a", HELLO, DTFC_Replica="?1").status == 400

    def test_a_copy_of_what_was_deleted_is_refused_before_its_body(self, served: Served) -> None:
        served.ask("PUT", "/a", HELLO)
        served.ask("DELETE", f"/{DIGEST}")
        wire = served.wire()

        wire.send(
            f"PUT /{DIGEST}/a HTTP/1.1\r\nHost: localhost\r\nDTFC-Replica: ?1\r\n"
            "Content-Length: 12\r\nExpect: 100-continue\r\n\r\n".encode()
        )

        assert wire.statuses == [410]

    @pytest.mark.parametrize("said", ["?0", "1", "true", "?1, ?1", "??1"])
    def test_only_the_boolean_makes_a_copy(self, served: Served, said: str) -> None:
        served.ask("PUT", "/a", HELLO)
        served.ask("DELETE", f"/{DIGEST}")

        assert served.ask("PUT", f"/{DIGEST}/a", HELLO, DTFC_Replica=said).status == 201


class TestPut:
    def test_new_is_201(self, served: Served) -> None:
        answer = served.ask("PUT", "/hello.txt", HELLO)

        assert answer.status == 201
        assert list(answer.json) == ["sha512", "filename", "length", "content_type", "stub"]
        assert answer.json["sha512"] == DIGEST.hex
        assert answer.fields["location"] == f"/{DIGEST}"
        assert answer.fields["etag"] == f'"{DIGEST}"'

    def test_again_is_200(self, served: Served) -> None:
        served.ask("PUT", "/hello.txt", HELLO)

        assert served.ask("PUT", "/other.txt", HELLO).status == 200

    def test_by_digest(self, served: Served) -> None:
        answer = served.ask("PUT", f"/{DIGEST}/named.txt", HELLO)

        assert (answer.status, answer.json["filename"]) == (201, "named.txt")

    def test_by_digest_without_a_name(self, served: Served) -> None:
        answer = served.ask("PUT", f"/{DIGEST}", HELLO)

        assert (answer.status, answer.json["filename"]) == (201, None)

    def test_another_digest_is_422_and_nothing_is_stored(self, served: Served) -> None:
        answer = served.ask("PUT", "/" + "ab" * 64, HELLO)

        assert answer.status == 422
        assert not served.store.holds(DIGEST)

    def test_repr_digest_is_checked(self, served: Served) -> None:
        wrong = base64.b64encode(hashlib.sha512(b"other").digest()).decode()

        answer = served.ask("PUT", "/x", HELLO, Repr_Digest=f"sha-512=:{wrong}:")

        assert answer.status == 422

    def test_a_right_sha_256_is_taken(self, served: Served) -> None:
        right = base64.b64encode(hashlib.sha256(HELLO).digest()).decode()

        assert served.ask("PUT", "/x", HELLO, Content_Digest=f"sha-256=:{right}:").status == 201

    def test_a_wrong_sha_256_is_422(self, served: Served) -> None:
        wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()

        assert served.ask("PUT", "/x", HELLO, Content_Digest=f"sha-256=:{wrong}:").status == 422

    def test_impossible_digests_are_422_before_the_body(self, served: Served) -> None:
        other = base64.b64encode(hashlib.sha512(b"other").digest()).decode()
        wire = served.wire()

        wire.send(
            f"PUT /{DIGEST} HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n"
            f"Expect: 100-continue\r\nRepr-Digest: sha-512=:{other}:\r\n\r\n".encode()
        )

        assert wire.statuses == [422]

    def test_what_the_operator_denies_is_403_before_the_body(self, served: Served) -> None:
        marker = Path(served.store.layout.marker(DIGEST, 404))
        marker.parent.mkdir(parents=True)
        marker.touch()
        wire = served.wire()

        wire.send(
            f"PUT /{DIGEST} HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n"
            "Expect: 100-continue\r\n\r\n".encode()
        )

        assert wire.statuses == [403]

    def test_what_was_deleted_may_be_stored_again(self, served: Served) -> None:
        served.ask("PUT", f"/{DIGEST}", HELLO)
        served.ask("DELETE", f"/{DIGEST}")
        wire = served.wire()

        wire.send(
            f"PUT /{DIGEST} HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n"
            "Expect: 100-continue\r\n\r\n".encode()
        )
        wire.send(HELLO)

        assert wire.statuses == [100, 201]

    def test_without_a_length_is_411(self, served: Served) -> None:
        assert served.ask("PUT", "/x").status == 411

    def test_an_empty_file_is_a_blob(self, served: Served) -> None:
        answer = served.ask("PUT", "/empty", b"")

        assert (answer.status, answer.json["length"]) == (201, 0)
        assert served.ask("GET", f"/{answer.json['sha512']}").body == b""

    def test_a_part_is_400(self, served: Served) -> None:
        assert served.ask("PUT", "/x", HELLO, Content_Range="bytes 0-11/20").status == 400

    def test_a_coded_body_is_415(self, served: Served) -> None:
        assert served.ask("PUT", "/x", HELLO, Content_Encoding="gzip").status == 415

    def test_too_large_is_413_before_the_body(self, served: Served) -> None:
        served.blobs.terms = Terms(max_body=11)
        wire = served.wire()

        wire.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n")

        assert wire.statuses == [413]

    def test_too_large_in_chunks_is_413(self, served: Served) -> None:
        served.blobs.terms = Terms(max_body=3)
        wire = served.wire()

        wire.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n")
        wire.send(b"0\r\n\r\n")

        assert wire.statuses == [413]

    def test_create_only(self, served: Served) -> None:
        served.ask("PUT", "/x", HELLO)

        assert served.ask("PUT", f"/{DIGEST}", HELLO, If_None_Match="*").status == 412

    def test_a_client_that_leaves_stores_nothing(self, served: Served) -> None:
        wire = served.wire()
        wire.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nhello")

        wire.lose()

        assert list(served.store.walk()) == []
        assert [entry.status for entry in wire.log] == [499]

    @pytest.mark.parametrize(
        "path", ["/a%2Fb", "/..%2fx", "/%00", "/a%5Cb", "/%FF", "/" + "x" * 256]
    )
    def test_an_impossible_name_is_400(self, served: Served, path: str) -> None:
        assert served.ask("PUT", path, HELLO).status == 400


class TestForm:
    FORM = (
        b"--B\r\nContent-Disposition: form-data; name=note\r\n\r\nhi\r\n"
        b'--B\r\nContent-Disposition: form-data; name=f; filename="a.txt"\r\n\r\nhello\r\n'
        b'--B\r\nContent-Disposition: form-data; name=f; filename=""\r\n\r\n\r\n'
        b'--B\r\nContent-Disposition: form-data; name=f; filename="C:\\b.png"\r\n\r\n\r\n--B--\r\n'
    )
    KIND = "multipart/form-data; boundary=B"

    def test_each_file_is_stored(self, served: Served) -> None:
        answer = served.ask("POST", "/", self.FORM, Content_Type=self.KIND)

        assert answer.status == 201
        assert [(each["filename"], each["length"]) for each in answer.json] == [
            ("a.txt", 5),
            ("b.png", 0),
        ]

    def test_byte_by_byte(self, served: Served) -> None:
        wire = served.wire()
        wire.send(
            f"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {self.KIND}\r\n"
            f"Content-Length: {len(self.FORM)}\r\n\r\n".encode()
        )
        for byte in self.FORM:
            wire.send(bytes([byte]))

        assert Answer(wire.got).json[0]["sha512"] == Digest.of(b"hello").hex

    def test_a_form_cut_short_is_400_and_says_what_is_stored(self, served: Served) -> None:
        cut = self.FORM[: self.FORM.index(b"C:") + 12]

        answer = served.ask("POST", "/", cut, Content_Type=self.KIND)

        assert answer.status == 400
        assert [each["filename"] for each in answer.json["stored"]] == ["a.txt"]

    def test_a_form_without_files_is_400(self, served: Served) -> None:
        form = b"--B\r\nContent-Disposition: form-data; name=note\r\n\r\nhi\r\n--B--\r\n"

        assert served.ask("POST", "/", form, Content_Type=self.KIND).status == 400

    def test_another_type_is_415(self, served: Served) -> None:
        assert served.ask("POST", "/", b"x", Content_Type="text/plain").status == 415

    @pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary="])
    def test_no_boundary_is_400(self, served: Served, kind: str) -> None:
        assert served.ask("POST", "/", b"x", Content_Type=kind).status == 400


class TestGet:
    @pytest.fixture(autouse=True)
    def _stored(self, served: Served) -> None:
        served.ask("PUT", "/hello.txt", HELLO)

    def test_the_bytes(self, served: Served) -> None:
        answer = served.ask("GET", f"/{DIGEST}")

        assert (answer.status, answer.body) == (200, HELLO)
        assert answer.fields["content-length"] == "12"
        assert answer.fields["content-type"] == "text/plain; charset=utf-8"
        assert answer.fields["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.fields["content-disposition"].startswith("attachment")

    def test_upper_case_is_the_same_blob(self, served: Served) -> None:
        assert served.ask("GET", f"/{DIGEST.hex.upper()}").body == HELLO

    def test_head_has_the_same_fields_and_no_body(self, served: Served) -> None:
        get = served.ask("GET", f"/{DIGEST}")
        head = served.ask("HEAD", f"/{DIGEST}")

        assert (head.status, head.body, head.fields) == (200, b"", get.fields)

    def test_one_range(self, served: Served) -> None:
        answer = served.ask("GET", f"/{DIGEST}", Range="bytes=-5")

        assert (answer.status, answer.body) == (206, b"world")
        assert answer.fields["content-range"] == "bytes 7-11/12"

    def test_several_ranges(self, served: Served) -> None:
        content = bytes(range(256)) * 20
        digest = served.ask("PUT", "/long.bin", content).json["sha512"]

        answer = served.ask("GET", f"/{digest}", Range="bytes=0-9,3000-3009")

        assert answer.status == 206
        assert answer.fields["content-type"].startswith("multipart/byteranges; boundary=")
        assert len(answer.body) == int(answer.fields["content-length"])
        assert content[3000:3010] in answer.body

    def test_beyond_the_end_is_416(self, served: Served) -> None:
        answer = served.ask("GET", f"/{DIGEST}", Range="bytes=12-")

        assert (answer.status, answer.fields["content-range"]) == (416, "bytes */12")
        assert answer.fields["content-type"] == "application/problem+json"

    def test_not_modified(self, served: Served) -> None:
        answer = served.ask("GET", f"/{DIGEST}", If_None_Match=f'"{DIGEST}"')

        assert (answer.status, answer.body) == (304, b"")
        assert answer.fields["etag"] == f'"{DIGEST}"'
        assert "content-type" not in answer.fields

    def test_if_match_of_another_is_412(self, served: Served) -> None:
        assert served.ask("GET", f"/{DIGEST}", If_Match='"x"').status == 412

    def test_another_name(self, served: Served) -> None:
        answer = served.ask("GET", f"/{DIGEST}?name=other.jpg&inline=1")

        assert answer.fields["content-type"] == "image/jpeg"
        assert answer.fields["content-disposition"] == 'inline; filename="other.jpg"'

    def test_html_is_never_inline(self, served: Served) -> None:
        answer = served.ask("GET", f"/{DIGEST}?name=x.html&inline=1")

        assert answer.fields["content-disposition"].startswith("attachment")

    def test_info(self, served: Served) -> None:
        served.ask("PUT", "/second.txt", HELLO)

        answer = served.ask("GET", f"/{DIGEST}/info")

        assert answer.json["names"] == ["hello.txt", "second.txt"]
        assert answer.json["length"] == 12


class TestAbsent:
    def test_it_is_loaded(self, served: Served) -> None:
        served.loader.remote[DIGEST] = HELLO

        answer = served.ask("GET", f"/{DIGEST}")

        assert (answer.status, answer.body) == (200, HELLO)

    def test_head_asks_and_loads_nothing(self, served: Served) -> None:
        served.loader.remote[DIGEST] = HELLO

        answer = served.ask("HEAD", f"/{DIGEST}")

        assert (answer.status, answer.fields["content-length"]) == (200, "12")
        assert not served.store.holds(DIGEST)

    def test_nobody_has_it(self, served: Served) -> None:
        served.loader.error = Absent(DIGEST.hex)

        assert served.ask("GET", f"/{DIGEST}").status == 404

    def test_somebody_was_not_reached(self, served: Served) -> None:
        served.loader.error = PeersUnreached(DIGEST.hex, {"http://b:1": "refused"}, 7)

        answer = served.ask("GET", f"/{DIGEST}")

        assert (answer.status, answer.fields["retry-after"]) == (503, "7")
        assert answer.json["unreached"] == {"http://b:1": "refused"}

    def test_nopeerload_asks_nobody(self, served: Served) -> None:
        assert served.ask("GET", f"/{DIGEST}/nopeerload").status == 404
        assert served.loader.asked == []

    def test_deleted_asks_nobody(self, served: Served) -> None:
        served.ask("PUT", "/x", HELLO)
        served.ask("DELETE", f"/{DIGEST}")

        assert served.ask("GET", f"/{DIGEST}").status == 404
        assert served.loader.asked == []


class TestDelete:
    def test_it_tells_what_was_deleted(self, served: Served) -> None:
        served.ask("PUT", "/x", HELLO)

        answer = served.ask("DELETE", f"/{DIGEST}")

        assert list(answer.json)[:2] == ["deleted", "sha512"]
        assert served.ask("HEAD", f"/{DIGEST}").status == 404

    def test_a_precondition_that_does_not_hold_deletes_nothing(self, served: Served) -> None:
        served.ask("PUT", "/x", HELLO)

        assert served.ask("DELETE", f"/{DIGEST}", If_Match='"other"').status == 412
        assert served.ask("DELETE", f"/{DIGEST}", If_Match=f'"{DIGEST}"').status == 200

    def test_an_unknown_digest_is_404_and_blocked(self, served: Served) -> None:
        assert served.ask("DELETE", f"/{DIGEST}").status == 404
        assert served.ask("GET", f"/{DIGEST}").status == 404
        assert served.loader.asked == []


class TestAccess:
    @pytest.mark.parametrize(
        ("fields", "status"),
        [
            ({"Sec_Fetch_Site": "cross-site"}, 403),
            ({"Sec_Fetch_Site": "same-site"}, 403),
            ({"Sec_Fetch_Site": "same-origin", "Origin": "http://localhost"}, 201),
            ({"Sec_Fetch_Site": "none"}, 201),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://localhost"}, 201),
            ({}, 201),
        ],
    )
    def test_a_page_of_another_site_stores_nothing(
        self, served: Served, fields: dict[str, str], status: int
    ) -> None:
        assert served.ask("PUT", "/x", HELLO, **fields).status == status

    def test_writes_are_for_this_machine_only(self, served: Served) -> None:
        served.gate.policy = Policy()

        answer = served.ask("PUT", "/x", HELLO)

        assert answer.status == 403
        assert "--allow-anonymous put" in answer.json["detail"]

    def test_a_deny_file_denies(self, served: Served, tmp_path: Path) -> None:
        served.gate.policy = Policy(str(tmp_path / "deny-"), frozenset(Verb))
        (tmp_path / "deny-put").touch()

        assert served.ask("PUT", "/x", HELLO).status == 403


class TestOther:
    @pytest.mark.parametrize("query", ["name=caf%C3%A9.txt", "name=a%20b", "verbose", "name="])
    def test_a_query_in_utf_8(self, served: Served, query: str) -> None:
        assert served.ask("GET", f"/files.json?{query}").status == 200

    @pytest.mark.parametrize("query", ["name=%FF", "name=a&" + "x=1&" * 60])
    def test_a_query_that_cannot_be_read_is_400(self, served: Served, query: str) -> None:
        assert served.ask("GET", f"/files.json?{query}").status == 400

    @pytest.mark.parametrize("path", ["//", f"//{DIGEST}", f"/{DIGEST}/", "/x/", "//health.html"])
    def test_an_empty_part_of_the_path_is_400(self, served: Served, path: str) -> None:
        assert served.ask("GET", path).status == 400

    def test_the_peer_list_is_not_read_by_get(self, served: Served) -> None:
        answer = served.ask("GET", "/refreshpeers.html")

        assert (answer.status, answer.fields["allow"]) == (405, "OPTIONS, POST, PUT")

    def test_the_status_line_has_words(self, served: Served) -> None:
        wire = served.wire()
        wire.send(b"PUT /" + b"ab" * 64 + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")

        assert wire.got.startswith(b"HTTP/1.1 422 Unprocessable Entity\r\n")

    def test_names_are_listed(self, served: Served) -> None:
        served.ask("PUT", "/a.txt", b"a")
        served.ask("PUT", "/b.txt", b"b")

        first = served.ask("GET", "/files.json?limit=1").json
        second = served.ask("GET", f"/files.json?limit=1&after={first['next']}").json

        assert [each["name"] for each in first["files"] + second["files"]] == ["a.txt", "b.txt"]

    @pytest.mark.parametrize("query", ["name=cafe%CC%81", "prefix=cafe%CC%81", "name=caf%C3%A9"])
    @pytest.mark.parametrize("stored", ["caf%C3%A9", "cafe%CC%81"])
    def test_a_name_is_found_in_whatever_form(
        self, served: Served, query: str, stored: str
    ) -> None:
        served.ask("PUT", f"/{stored}", b"a")

        [found] = served.ask("GET", f"/files.json?{query}").json["files"]
        assert found["name"] == "caf\N{LATIN SMALL LETTER E WITH ACUTE}"

    def test_a_name_of_2015_is_found_as_it_stands(self, served: Served) -> None:
        info = served.store.stat(Digest.from_hex(served.ask("PUT", "/x", b"a").json["sha512"]))
        decomposed = "cafe\N{COMBINING ACUTE ACCENT}"
        served.store.catalog.record(replace(info, name=decomposed, names=(decomposed,)))

        [found] = served.ask("GET", "/files.json?prefix=cafe%CC%81").json["files"]
        assert found["name"] == decomposed

    @pytest.mark.parametrize("limit", ["0", "1001", "x", "-1", "99999999999999999999"])
    def test_a_silly_limit_is_400(self, served: Served, limit: str) -> None:
        assert served.ask("GET", f"/files.json?limit={limit}").status == 400

    def test_a_name_is_not_an_address(self, served: Served) -> None:
        answer = served.ask("GET", "/photo.jpg")

        assert answer.status == 404
        assert "/files.json?name=photo.jpg" in answer.json["detail"]

    def test_a_wrong_method_is_405_with_allow(self, served: Served) -> None:
        answer = served.ask("POST", f"/{DIGEST}", b"")

        assert answer.status == 405
        assert set(answer.fields["allow"].split(", ")) >= {"GET", "HEAD", "PUT", "DELETE"}

    def test_a_deeper_path_is_404(self, served: Served) -> None:
        assert served.ask("GET", "/a/b/c").status == 404

    @pytest.mark.parametrize(
        ("path", "methods"),
        [
            ("/", {"GET", "HEAD", "POST"}),
            ("/" + "ab" * 64, {"GET", "HEAD", "PUT", "DELETE"}),
            ("/refreshpeers.html", {"PUT", "POST"}),
            ("/photo.jpg", {"GET", "HEAD", "PUT"}),
        ],
    )
    def test_options(self, served: Served, path: str, methods: set[str]) -> None:
        answer = served.ask("OPTIONS", path)

        assert answer.status == 204
        assert set(answer.fields["allow"].split(", ")) == methods | {"OPTIONS"}

    def test_readyz(self, served: Served) -> None:
        answer = served.ask("GET", "/readyz?verbose")

        assert (answer.status, answer.json["store"]) == (200, "writable")

    def test_refreshpeers(self, served: Served) -> None:
        answer = served.ask("POST", "/refreshpeers.html", b"")

        assert (answer.status, answer.json["peers"]) == (200, [])

    def test_refreshpeers_says_what_it_read_to_whoever_has_to_know(self, served: Served) -> None:
        served.ask("POST", "/refreshpeers.html", b"")

        assert len(served.changes) == 1


class TestNothingNeedBeSent:
    """A client that waits for 100 Continue, and promises what is here already."""

    def waiting(self, served: Served, path: str, length: int = len(HELLO)) -> Any:
        wire = served.wire()
        wire.send(
            f"PUT {path} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        return wire

    def test_of_what_is_here(self, served: Served) -> None:
        served.ask("PUT", "/old", HELLO)

        assert self.waiting(served, f"/{DIGEST}/new").statuses == [200]

    def test_the_new_name_is_kept(self, served: Served) -> None:
        served.ask("PUT", "/old", HELLO)
        self.waiting(served, f"/{DIGEST}/new")

        assert served.store.stat(DIGEST).names == ("old", "new")

    def test_but_of_what_is_not_here(self, served: Served) -> None:
        assert self.waiting(served, f"/{DIGEST}/new").statuses == [100]

    def test_but_without_the_right_to_read(self, served: Served) -> None:
        served.ask("PUT", "/old", HELLO)
        served.gate.policy = Policy(anonymous=frozenset({Verb.PUT}))

        assert self.waiting(served, f"/{DIGEST}/new").statuses == [100]

    def test_but_with_another_length(self, served: Served) -> None:
        served.ask("PUT", "/old", HELLO)

        assert self.waiting(served, f"/{DIGEST}/new", 6000).statuses == [100]

    def test_but_of_what_has_rotted(self, served: Served) -> None:
        served.ask("PUT", "/old", HELLO)
        path = Path(served.store.layout.data(DIGEST))
        path.chmod(0o600)
        path.write_bytes(b"x" * len(HELLO))

        assert self.waiting(served, f"/{DIGEST}/new").statuses == [100]
