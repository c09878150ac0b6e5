"""``/uploads/``, in both dialects, on connections without sockets."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dtfc.access.decisions import Policy
from dtfc.access.verbs import Verb
from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.errors import NoSpace, QuorumMissed, StoreFailure
from dtfc.peers.roster import Roster
from dtfc.store.blobs import open_store
from dtfc.store.upload import Upload
from dtfc.web.auditlog import Deed
from dtfc.web.blobs import Blobs, Terms
from dtfc.web.gate import Gate
from dtfc.web.hotblobs import HotBlobs
from dtfc.web.routes import Routes
from dtfc.web.status import Status
from dtfc.web.uploading import Uploading
from dtfc.web.uploads import UploadPages, UploadTerms
from tests.support.alone import upkeep_alone

CONTENT = b"0123456789" * 1000
DIGEST = Digest.of(CONTENT)
TUS = {"Tus-Resumable": "1.0.0"}
TUS_PART = TUS | {"Content-Type": "application/offset+octet-stream"}
DRAFT = {"Upload-Draft-Interop-Version": "8"}
DRAFT_PART = DRAFT | {"Content-Type": "application/partial-upload"}


class NoPeers:
    def stored(self, _digest: Digest) -> None:
        pass


class Answer:
    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.interim: list[dict[str, str]] = []
        while True:
            head, _, self.body = raw.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            self.status = int(lines[0].split()[1])
            self.fields = {k.lower(): v for k, _, v in (one.partition(": ") for one in lines[1:])}
            if self.status >= 200:
                return
            if self.status == 104:
                self.interim.append(self.fields)
            raw = self.body

    def __getitem__(self, name: str) -> str:
        return self.fields[name]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served:
    """A node's URLs, asked one request at a time on fresh connections."""

    def __init__(self, folder: Path, new_wire: Callable[..., Any]) -> None:
        self.store = open_store(str(folder / "store"), fan_out=2)
        self.policy = Policy(str(folder / "deny-"), anonymous=frozenset(Verb))
        self.gate = Gate(self.policy)
        self.now = os.stat(folder).st_mtime
        self.clock = Clock()
        disk = InlineDisk()
        self.blobs = Blobs(
            self.store,
            disk,
            NoPeers(),  # type: ignore[arg-type] # a stand-in
            upkeep_alone(self.store, disk),
            self.gate,
            terms=Terms(),
            hot=HotBlobs(0),
        )
        status = Status(
            self.store,
            disk,
            Roster(None),
            self.gate,
            draining=lambda: False,
            metrics=lambda _node: b"",
            clock=self.clock,
        )
        self.uploading = Uploading(self.store.uploads, disk, self.clock)
        self.pages = UploadPages(
            self.blobs,
            self.uploading,
            disk,
            self.gate,
            terms=UploadTerms(),
            now=lambda: self.now,
        )
        self._resource = Routes(self.blobs, status, uploads=self.pages).resource()
        self._new_wire = new_wire

    def wire(self) -> Any:
        wire = self._new_wire()
        wire.site.resource = self._resource
        return wire

    def head(self, method: str, path: str, fields: dict[str, str], length: int | None) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        return "\r\n".join([*lines, "", ""]).encode()

    def ask(
        self, method: str, path: str, fields: dict[str, str], body: bytes | None = None
    ) -> Answer:
        wire = self.wire()
        length = None if body is None else len(body)
        wire.send(self.head(method, path, fields, length) + (body or b""))
        return Answer(wire.got)

    # -- what most tests begin with

    def begun(self, length: int = len(CONTENT), **fields: str) -> str:
        """Begin an upload in tus; return its URL."""
        told = TUS | {"Upload-Length": str(length)} | named(fields)
        answer = self.ask("POST", "/uploads/", told)
        assert answer.status == 201, answer.raw
        return answer["location"]

    def sent(self, url: str, content: bytes = CONTENT, offset: int = 0, **fields: str) -> Answer:
        """Add a part, in tus."""
        told = TUS_PART | {"Upload-Offset": str(offset)} | named(fields)
        return self.ask("PATCH", url, told, content)

    def cut(self, url: str, content: bytes, announced: int, **fields: str) -> None:
        """Add a part whose connection is lost in the middle."""
        told = TUS_PART | {"Upload-Offset": "0"} | named(fields)
        wire = self.wire()
        wire.send(self.head("PATCH", url, told, announced) + content)
        wire.lose()

    def offset(self, url: str) -> int:
        return int(self.ask("HEAD", url, TUS)["upload-offset"])

    def has(self, content: bytes = CONTENT) -> bool:
        return self.store.holds(Digest.of(content))


def named(fields: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in fields.items()}


@pytest.fixture
def served(tmp_path: Path, new_wire: Callable[..., Any]) -> Iterator[Served]:
    served = Served(tmp_path, new_wire)
    yield served
    served.store.close()


def b64(value: str | bytes) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


# -- tus: core and creation -------------------------------------------------------------


def test_options_tell_what_is_spoken(served: Served) -> None:
    answer = served.ask("OPTIONS", "/uploads/", {})

    assert answer["tus-version"] == "1.0.0"


def test_options_tell_the_extensions(served: Served) -> None:
    extensions = set(served.ask("OPTIONS", "/uploads/", {})["tus-extension"].split(","))

    assert extensions == {
        "creation",
        "creation-with-upload",
        "creation-defer-length",
        "checksum",
        "expiration",
        "termination",
        "concatenation",
    }


def test_options_tell_the_limits_of_the_draft(served: Served) -> None:
    served.blobs.terms = Terms(max_body=1000)

    limit = served.ask("OPTIONS", "/uploads/", {})["upload-limit"]

    assert limit == "max-size=1000, min-size=0, max-age=86400"


def test_an_upload_in_one_part(served: Served) -> None:
    answer = served.sent(served.begun())

    assert (answer.status, served.has()) == (204, True)


def test_the_end_says_which_blob_it_is(served: Served) -> None:
    answer = served.sent(served.begun())

    assert answer["content-location"] == f"/{DIGEST}"


def test_an_upload_in_many_parts(served: Served) -> None:
    url = served.begun()
    for at in range(0, len(CONTENT), 999):
        served.sent(url, CONTENT[at : at + 999], at)

    assert served.has()


def test_each_part_says_how_far_it_is(served: Served) -> None:
    assert served.sent(served.begun(), CONTENT[:999])["upload-offset"] == "999"


def test_each_part_says_when_the_upload_is_gone(served: Served) -> None:
    assert served.sent(served.begun(), CONTENT[:999])["upload-expires"].endswith(" GMT")


def test_its_name(served: Served) -> None:
    served.sent(served.begun(Upload_Metadata=f"filename {b64('a b.jpg')}"))

    assert served.store.stat(DIGEST).name == "a b.jpg"


def test_a_name_that_cannot_be_kept_is_refused_at_once(served: Served) -> None:
    told = TUS | {"Upload-Length": "1", "Upload-Metadata": f"filename {b64('a/b')}"}

    assert served.ask("POST", "/uploads/", told).status == 400


def test_head_tells_length_and_metadata(served: Served) -> None:
    url = served.begun(Upload_Metadata=f"filename {b64('a')},x")
    answer = served.ask("HEAD", url, TUS)

    assert (answer["upload-length"], answer["upload-metadata"]) == (
        str(len(CONTENT)),
        f"filename {b64('a')},x",
    )


def test_an_answer_about_uploads_is_kept_nowhere(served: Served) -> None:
    assert served.ask("HEAD", served.begun(), TUS)["cache-control"] == "no-store"


@pytest.mark.parametrize("version", ["0.2.2", "1.0.1", "x"])
def test_another_version_of_tus(served: Served, version: str) -> None:
    answer = served.ask("POST", "/uploads/", {"Tus-Resumable": version, "Upload-Length": "1"})

    assert (answer.status, answer["tus-version"]) == (412, "1.0.0")


def test_a_part_of_another_type(served: Served) -> None:
    told = TUS | {"Content-Type": "text/plain", "Upload-Offset": "0"}

    assert served.ask("PATCH", served.begun(), told, b"x").status == 415


def test_a_part_without_an_offset(served: Served) -> None:
    assert served.ask("PATCH", served.begun(), TUS_PART, b"x").status == 400


def test_the_wrong_offset(served: Served) -> None:
    url = served.begun()
    served.sent(url, CONTENT[:10])
    answer = served.sent(url, CONTENT[20:], 20)

    assert (answer.status, answer["upload-offset"]) == (409, "10")


def test_a_part_that_goes_beyond_the_end(served: Served) -> None:
    url = served.begun(10)

    assert served.sent(url, b"x" * 11).status == 400


def test_nothing_of_it_counts(served: Served) -> None:
    url = served.begun(10)
    served.sent(url, b"x" * 11)

    assert served.offset(url) == 0


def test_an_empty_upload_is_over_at_once(served: Served) -> None:
    served.begun(0)

    assert served.has(b"")


def test_neither_length_nor_a_later_one(served: Served) -> None:
    assert served.ask("POST", "/uploads/", TUS).status == 400


def test_a_length_that_is_told_later(served: Served) -> None:
    url = served.ask("POST", "/uploads/", TUS | {"Upload-Defer-Length": "1"})["location"]
    served.sent(url, CONTENT[:10])
    served.sent(url, CONTENT[10:], 10, Upload_Length=str(len(CONTENT)))

    assert served.has()


def test_head_says_that_the_length_is_not_known(served: Served) -> None:
    url = served.ask("POST", "/uploads/", TUS | {"Upload-Defer-Length": "1"})["location"]

    assert served.ask("HEAD", url, TUS)["upload-defer-length"] == "1"


def test_a_creation_that_brings_bytes(served: Served) -> None:
    told = TUS_PART | {"Upload-Length": str(len(CONTENT))}
    answer = served.ask("POST", "/uploads/", told, CONTENT[:100])

    assert (answer.status, answer["upload-offset"]) == (201, "100")


def test_a_creation_that_brings_all(served: Served) -> None:
    told = TUS_PART | {"Upload-Length": str(len(CONTENT))}
    answer = served.ask("POST", "/uploads/", told, CONTENT)

    assert (answer.status, answer["content-location"]) == (201, f"/{DIGEST}")


def test_it_too_says_where_the_upload_is(served: Served) -> None:
    told = TUS_PART | {"Upload-Length": str(len(CONTENT))}

    assert served.ask("POST", "/uploads/", told, CONTENT)["location"].startswith("/uploads/")


def test_patch_by_post(served: Served) -> None:
    told = TUS_PART | {"Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    served.ask("POST", served.begun(), told, CONTENT)

    assert served.has()


def test_a_post_that_stands_for_nothing(served: Served) -> None:
    assert served.ask("POST", served.begun(), TUS, b"").status == 400


def test_an_upload_that_never_was(served: Served) -> None:
    assert served.ask("HEAD", f"/uploads/{'x' * 43}", TUS).status == 404


def test_an_id_that_cannot_be_one(served: Served) -> None:
    assert served.ask("PATCH", "/uploads/x", TUS_PART | {"Upload-Offset": "0"}, b"").status == 404


# -- cuts -------------------------------------------------------------------------------


def test_what_came_before_a_cut_counts(served: Served) -> None:
    url = served.begun()
    served.cut(url, CONTENT[:777], len(CONTENT))

    assert served.offset(url) == 777


def test_it_goes_on_after_a_cut(served: Served) -> None:
    url = served.begun()
    served.cut(url, CONTENT[:777], len(CONTENT))
    served.sent(url, CONTENT[777:], 777)

    assert served.has()


def test_a_creation_that_is_cut_leaves_nothing(served: Served) -> None:
    wire = served.wire()
    told = TUS_PART | {"Upload-Length": "100"}
    wire.send(served.head("POST", "/uploads/", told, 100) + b"abc")
    wire.lose()

    assert os.listdir(served.store.layout.own("uploads")) == []


def test_bytes_that_trickle_are_written_now_and_then(served: Served) -> None:
    url = served.begun()
    wire = served.wire()
    told = TUS_PART | {"Upload-Offset": "0"}
    wire.send(served.head("PATCH", url, told, len(CONTENT)) + CONTENT[:5])
    served.clock.advance(1)
    path = f"{served.store.layout.own('uploads')}/{url.rpartition('/')[2]}"

    assert os.stat(path).st_size == 5
    wire.lose()


def test_a_new_request_ends_the_one_before(served: Served) -> None:
    url = served.begun()
    stale = served.wire()
    told = TUS_PART | {"Upload-Offset": "0"}
    stale.send(served.head("PATCH", url, told, len(CONTENT)) + CONTENT[:5])

    assert served.offset(url) == 5
    stale.lose()


def test_the_stale_one_is_told(served: Served) -> None:
    url = served.begun()
    stale = served.wire()
    told = TUS_PART | {"Upload-Offset": "0"}
    stale.send(served.head("PATCH", url, told, len(CONTENT)) + CONTENT[:5])
    served.offset(url)

    assert Answer(stale.got).status == 409
    stale.lose()


def test_to_look_ends_nothing(served: Served) -> None:
    url = served.begun()
    wire = served.wire()
    told = TUS_PART | {"Upload-Offset": "0"}
    wire.send(served.head("PATCH", url, told, len(CONTENT)) + CONTENT[:5])
    served.ask("GET", url, {})
    wire.send(CONTENT[5:])

    assert Answer(wire.got).status == 204


# -- tus: checksums ---------------------------------------------------------------------


def checksum(content: bytes, algorithm: str = "sha1") -> str:
    return f"{algorithm} {b64(hashlib.new(algorithm, content).digest())}"


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_a_part_with_its_checksum(served: Served, algorithm: str) -> None:
    url = served.begun()
    answer = served.sent(url, CONTENT, Upload_Checksum=checksum(CONTENT, algorithm))

    assert (answer.status, served.has()) == (204, True)


def test_a_part_with_another_checksum(served: Served) -> None:
    assert served.sent(served.begun(), CONTENT, Upload_Checksum=checksum(b"")).status == 460


def test_that_part_does_not_count(served: Served) -> None:
    url = served.begun()
    served.sent(url, CONTENT[:10])
    served.sent(url, CONTENT[10:], 10, Upload_Checksum=checksum(b""))

    assert served.offset(url) == 10


def test_a_checksum_of_an_unknown_kind(served: Served) -> None:
    assert served.sent(served.begun(), CONTENT, Upload_Checksum="md5 AAAA").status == 400


def test_a_part_with_a_checksum_that_is_cut_does_not_count(served: Served) -> None:
    url = served.begun()
    served.cut(url, CONTENT[:777], len(CONTENT), Upload_Checksum=checksum(CONTENT))

    assert served.offset(url) == 0


def test_content_digest_is_a_checksum_too(served: Served) -> None:
    wrong = f"sha-256=:{b64(hashlib.sha256(b'').digest())}:"

    assert served.sent(served.begun(), CONTENT, Content_Digest=wrong).status == 460


# -- tus: expiration, termination, concatenation ----------------------------------------


def test_an_upload_that_nobody_went_on_with_is_gone(served: Served) -> None:
    url = served.begun()
    served.now += 86400 + 60

    assert served.ask("HEAD", url, TUS).status == 404


def test_an_upload_that_was_given_up_is_gone(served: Served) -> None:
    url = served.begun()
    gone = served.ask("DELETE", url, TUS).status

    assert (gone, served.ask("HEAD", url, TUS).status) == (204, 404)


def parts(served: Served) -> list[str]:
    """Upload the content in two parts that are complete."""
    made = []
    for content in (CONTENT[:4000], CONTENT[4000:]):
        url = served.begun(len(content), Upload_Concat="partial")
        served.sent(url, content)
        made.append(url)
    return made


def joined(served: Served, urls: list[str], **fields: str) -> Answer:
    told = TUS | {"Upload-Concat": f"final;{' '.join(urls)}"} | named(fields)
    return served.ask("POST", "/uploads/", told)


def test_parts_are_no_blobs(served: Served) -> None:
    parts(served)

    assert not served.has(CONTENT[:4000])


def test_parts_are_joined(served: Served) -> None:
    answer = joined(served, parts(served))

    assert (answer.status, served.has()) == (201, True)


def test_the_whole_has_the_name_that_it_is_given(served: Served) -> None:
    joined(served, parts(served), Upload_Metadata=f"filename {b64('whole.bin')}")

    assert served.store.stat(DIGEST).name == "whole.bin"


def test_the_order_of_the_parts_is_that_of_the_request(served: Served) -> None:
    joined(served, parts(served)[::-1])

    assert served.has(CONTENT[4000:] + CONTENT[:4000])


def test_the_same_again_gets_the_same_answer(served: Served) -> None:
    urls = parts(served)

    assert joined(served, urls)["location"] == joined(served, urls)["location"]


def test_head_of_what_was_joined(served: Served) -> None:
    urls = parts(served)
    whole = joined(served, urls)["location"]

    assert served.ask("HEAD", whole, TUS)["upload-concat"] == f"final;{' '.join(urls)}"


def test_a_part_that_is_not_complete(served: Served) -> None:
    url = served.begun(10, Upload_Concat="partial")

    assert joined(served, [url]).status == 400


def test_an_upload_that_is_no_part(served: Served) -> None:
    url = served.begun()
    served.sent(url)

    assert joined(served, [url]).status == 400


def test_a_part_twice(served: Served) -> None:
    urls = parts(served)

    assert joined(served, [urls[0], urls[0]]).status == 400


def test_two_that_join_the_same_parts_in_different_orders_do_not_wait_for_each_other(
    served: Served,
) -> None:
    one, other = parts(served)
    holds = {name: took(served, name) for name in (one, other)}
    wires = []
    for urls in ([one, other], [other, one]):
        wires.append(served.wire())
        told = TUS | {"Upload-Concat": f"final;{' '.join(urls)}"}
        wires[-1].send(served.head("POST", "/uploads/", told, None))

    for held in holds.values():
        served.uploading.release(held)

    assert sorted(Answer(wire.got).status for wire in wires) == [201, 400]


def took(served: Served, url: str) -> Any:
    """Hold an upload, as a request does."""
    held: list[Any] = []
    name = url.rpartition("/")[2]
    Deferred.fromCoroutine(served.uploading.take(name)).addCallback(held.append)
    return held[0]


def test_a_join_that_fails_leaves_no_copy(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = parts(served)
    folder = served.store.layout.own("uploads")
    before = sorted(os.listdir(folder))
    with monkeypatch.context() as patched:
        patched.setattr(Upload, "enter", full)
        assert joined(served, urls).status == 507

    assert sorted(os.listdir(folder)) == before
    assert joined(served, urls).status == 201


def full(_upload: Upload) -> None:
    raise NoSpace(1, 0, 0)


def test_a_part_that_was_joined_with_others(served: Served) -> None:
    urls = parts(served)
    joined(served, urls)

    assert joined(served, urls[:1]).status == 400


def test_what_is_joined_takes_no_bytes(served: Served) -> None:
    whole = joined(served, parts(served))["location"]

    assert served.sent(whole, b"x", len(CONTENT)).status == 403


# -- the draft --------------------------------------------------------------------------


def drafted(served: Served, body: bytes = b"", **fields: str) -> Answer:
    told = DRAFT | {"Upload-Complete": "?0"} | named(fields)
    return served.ask("POST", "/uploads/?name=d.bin", told, body)


def test_a_draft_begins(served: Served) -> None:
    answer = drafted(served)

    assert (answer.status, answer["upload-complete"], answer["upload-offset"]) == (201, "?0", "0")


def test_a_draft_that_brings_bytes(served: Served) -> None:
    assert drafted(served, CONTENT[:9])["upload-offset"] == "9"


def test_a_draft_that_brings_all(served: Served) -> None:
    answer = drafted(served, CONTENT, Upload_Complete="?1")

    assert (answer.status, answer["location"]) == (201, f"/{DIGEST}")


def test_it_is_answered_as_a_put(served: Served) -> None:
    assert drafted(served, CONTENT, Upload_Complete="?1").json == {
        "sha512": DIGEST.hex,
        "filename": "d.bin",
        "length": len(CONTENT),
        "content_type": "application/octet-stream",
        "stub": True,
    }


def test_what_is_here_already_is_200(served: Served) -> None:
    drafted(served, CONTENT, Upload_Complete="?1")

    assert drafted(served, CONTENT, Upload_Complete="?1").status == 200


def appended(
    served: Served, url: str, content: bytes, offset: int, complete: str, **fields: str
) -> Answer:
    told = DRAFT_PART | {"Upload-Offset": str(offset), "Upload-Complete": complete}
    return served.ask("PATCH", url, told | named(fields), content)


def test_a_draft_goes_on(served: Served) -> None:
    url = drafted(served, CONTENT[:9])["location"]
    answer = appended(served, url, CONTENT[9:99], 9, "?0")

    assert (answer.status, answer["upload-offset"]) == (204, "99")


def test_a_draft_ends(served: Served) -> None:
    url = drafted(served, CONTENT[:9])["location"]
    answer = appended(served, url, CONTENT[9:], 9, "?1")

    assert (answer.status, answer.json["sha512"]) == (201, DIGEST.hex)


def test_a_draft_ends_with_nothing_more(served: Served) -> None:
    url = drafted(served, CONTENT)["location"]
    answer = appended(served, url, b"", len(CONTENT), "?1")

    assert (answer.status, served.has()) == (201, True)


def test_head_of_a_draft(served: Served) -> None:
    url = drafted(served, CONTENT[:9], Upload_Length=str(len(CONTENT)))["location"]
    answer = served.ask("HEAD", url, DRAFT)

    assert (answer.status, answer["upload-offset"], answer["upload-length"]) == (
        204,
        "9",
        str(len(CONTENT)),
    )


def test_the_wrong_offset_in_a_draft(served: Served) -> None:
    url = drafted(served, CONTENT[:9])["location"]
    answer = appended(served, url, b"x", 3, "?0")

    assert (answer.status, answer["upload-offset"], answer["upload-complete"]) == (409, "9", "?0")


def test_the_wrong_offset_of_what_is_complete(served: Served) -> None:
    url = drafted(served, CONTENT[:9])["location"]
    appended(served, url, CONTENT[9:], 9, "?1")
    answer = appended(served, url, b"x", 3, "?1")

    assert (answer.status, answer["upload-complete"]) == (409, "?1")


def test_it_is_a_problem_of_its_own_type(served: Served) -> None:
    url = drafted(served, CONTENT[:9])["location"]
    problem = appended(served, url, b"x", 3, "?0").json

    assert (problem["type"], problem["expected-offset"], problem["provided-offset"]) == (
        "https://iana.org/assignments/http-problem-types#mismatching-upload-offset",
        9,
        3,
    )


def test_a_last_part_that_does_not_reach_the_length(served: Served) -> None:
    url = drafted(served, b"", Upload_Length="100")["location"]

    assert appended(served, url, b"x" * 10, 0, "?1").status == 400


def test_a_draft_that_goes_on_though_all_is_here(served: Served) -> None:
    answer = drafted(served, CONTENT[:9], Upload_Length="9")

    assert (answer.status, answer["upload-complete"]) == (201, "?0")


def test_what_is_complete_takes_no_more(served: Served) -> None:
    url = drafted(served, CONTENT[:9], Upload_Length="9")["location"]

    assert appended(served, url, b"x", 9, "?1").status == 409


def test_version_3_has_the_contrary(served: Served) -> None:
    told = {"Upload-Draft-Interop-Version": "3", "Upload-Incomplete": "?1"}
    answer = served.ask("POST", "/uploads/", told, CONTENT[:9])

    assert (answer.status, answer["upload-incomplete"]) == (201, "?1")


def test_version_3_ends(served: Served) -> None:
    told = {"Upload-Draft-Interop-Version": "3", "Upload-Incomplete": "?0"}
    served.ask("POST", "/uploads/", told, CONTENT)

    assert served.has()


def test_version_5_has_no_type_for_parts(served: Served) -> None:
    url = drafted(served)["location"]
    told = {
        "Upload-Draft-Interop-Version": "5",
        "Upload-Offset": "0",
        "Upload-Complete": "?1",
        "Content-Type": "application/octet-stream",
    }
    served.ask("PATCH", url, told, CONTENT)

    assert served.has()


def test_later_versions_have(served: Served) -> None:
    url = drafted(served)["location"]
    told = DRAFT | {"Upload-Offset": "0", "Upload-Complete": "?1", "Content-Type": "text/plain"}

    assert served.ask("PATCH", url, told, CONTENT).status == 415


def test_neither_dialect(served: Served) -> None:
    assert served.ask("POST", "/uploads/", {}, b"x").status == 400


def test_its_name_is_in_content_disposition(served: Served) -> None:
    told = DRAFT | {
        "Upload-Complete": "?1",
        "Content-Disposition": 'attachment; filename="e.jpg"',
    }
    served.ask("POST", "/uploads/", told, CONTENT)

    assert served.store.stat(DIGEST).name == "e.jpg"


# -- 104 --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["6", "7", "8"])
def test_104_tells_where_the_upload_is(served: Served, version: str) -> None:
    answer = drafted(served, CONTENT, Upload_Draft_Interop_Version=version)

    assert answer.interim[0]["location"] == answer["location"]


def test_it_says_which_version(served: Served) -> None:
    assert drafted(served, CONTENT).interim[0]["upload-draft-interop-version"] == "8"


@pytest.mark.parametrize("version", ["3", "5", "9", ""])
def test_no_104_for_other_versions(served: Served, version: str) -> None:
    told = {"Upload-Complete": "?0", "Upload-Incomplete": "?1"}
    told["Upload-Draft-Interop-Version"] = version

    assert served.ask("POST", "/uploads/", told, CONTENT).interim == []


@pytest.mark.parametrize("field", ["Via", "X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_no_104_through_a_proxy(served: Served, field: str) -> None:
    assert drafted(served, CONTENT, **{field.replace("-", "_"): "1.1 a"}).interim == []


def test_no_104_in_tus(served: Served) -> None:
    told = TUS_PART | DRAFT | {"Upload-Length": str(len(CONTENT))}

    assert served.ask("POST", "/uploads/", told, CONTENT[:9]).interim == []


def test_a_creation_that_was_told_of_survives_a_cut(served: Served) -> None:
    wire = served.wire()
    told = DRAFT | {"Upload-Complete": "?1"}
    wire.send(served.head("POST", "/uploads/", told, len(CONTENT)) + CONTENT[:50])
    url = next(
        line.partition(": ")[2]
        for line in wire.got.decode().split("\r\n")
        if line.startswith("Location")
    )
    wire.lose()

    assert served.ask("HEAD", url, DRAFT)["upload-offset"] == "50"


# -- promises ---------------------------------------------------------------------------


def test_the_digest_that_was_promised(served: Served) -> None:
    url = served.begun(Upload_Metadata=f"sha512 {b64(DIGEST.hex)}")

    assert served.sent(url).status == 204


def test_bytes_that_do_not_have_it(served: Served) -> None:
    url = served.begun(Upload_Metadata=f"sha512 {b64(Digest.of(b'').hex)}")

    assert served.sent(url).status == 422


def test_that_upload_is_gone(served: Served) -> None:
    url = served.begun(Upload_Metadata=f"sha512 {b64(Digest.of(b'').hex)}")
    served.sent(url)

    assert served.ask("HEAD", url, TUS).status == 404


def test_two_promises_that_contradict_each_other(served: Served) -> None:
    told = TUS | {
        "Upload-Length": "5",
        "Upload-Metadata": f"sha512 {b64(DIGEST.hex)}",
        "Repr-Digest": f"sha-512=:{Digest.of(b'').base64}:",
    }

    assert served.ask("POST", "/uploads/", told).status == 422


def test_a_promise_of_sha256(served: Served) -> None:
    wrong = f"sha-256=:{b64(hashlib.sha256(b'').digest())}:"

    assert served.sent(served.begun(Repr_Digest=wrong)).status == 422


def kept(served: Served, content: bytes = CONTENT) -> None:
    intake = served.store.intake(None)
    intake.write([content])
    intake.commit("old.bin")


def promised(served: Served, **fields: str) -> Answer:
    told = TUS | {
        "Upload-Length": str(len(CONTENT)),
        "Upload-Metadata": f"filename {b64('new.bin')},sha512 {b64(DIGEST.hex)}",
    }
    return served.ask("POST", "/uploads/", told | named(fields))


def test_nothing_need_be_sent_of_what_is_here(served: Served) -> None:
    kept(served)
    answer = promised(served)

    assert (answer.status, answer["upload-offset"]) == (201, str(len(CONTENT)))


def test_it_has_the_new_name(served: Served) -> None:
    kept(served)
    promised(served)

    assert served.store.stat(DIGEST).names == ("old.bin", "new.bin")


def test_the_upload_can_be_asked(served: Served) -> None:
    kept(served)
    url = promised(served)["location"]

    assert served.ask("HEAD", url, TUS)["content-location"] == f"/{DIGEST}"


def test_nothing_need_be_sent_in_a_draft(served: Served) -> None:
    kept(served)
    answer = drafted(served, Repr_Digest=f"sha-512=:{DIGEST.base64}:")

    assert (answer.status, answer["location"]) == (200, f"/{DIGEST}")


def test_who_may_not_read_it_has_to_send_it(served: Served) -> None:
    kept(served)
    served.gate.policy = Policy(anonymous=frozenset({Verb.PUT}))

    assert promised(served)["upload-offset"] == "0"


def test_what_has_rotted_here_has_to_be_sent(served: Served) -> None:
    kept(served)
    path = served.store.layout.data(DIGEST)
    os.chmod(path, 0o600)
    Path(path).write_bytes(b"x" * len(CONTENT))

    assert promised(served)["upload-offset"] == "0"


def test_another_length_than_it_has(served: Served) -> None:
    kept(served)

    assert promised(served, Upload_Length="5")["upload-offset"] == "0"


# -- the end ----------------------------------------------------------------------------


def test_get_tells_what_became_of_it(served: Served) -> None:
    url = served.begun(Upload_Metadata=f"filename {b64('a.txt')}")
    served.sent(url)
    told = served.ask("GET", url, {}).json

    assert (told["complete"], told["stored"]["sha512"], told["stored"]["filename"]) == (
        True,
        DIGEST.hex,
        "a.txt",
    )


class Copies:
    """Owes copies of which there are not enough at first."""

    def __init__(self, missed: int) -> None:
        self._missed = missed

    def admit(self) -> None:
        """Take it."""

    async def owe(self, info: Any) -> bool:
        return bool(info)

    async def enough(self, digest: Digest, *, own: bool) -> int:
        assert own
        self._missed -= 1
        if self._missed >= 0:
            raise QuorumMissed(digest.hex, 1, 2, 5)
        return 2


def test_the_end_says_how_many_copies_there_are(served: Served) -> None:
    served.blobs.storing.replicas = Copies(0)  # type: ignore[assignment] # a stand-in

    assert drafted(served, CONTENT, Upload_Complete="?1").json["replicas"] == 2


@pytest.mark.parametrize("method", ["HEAD", "PATCH"])
def test_too_few_copies_are_no_end_until_there_are_enough(served: Served, method: str) -> None:
    served.blobs.storing.replicas = Copies(2)  # type: ignore[assignment] # a stand-in
    url = served.begun()
    told = TUS_PART | {"Upload-Offset": str(len(CONTENT))}
    body = b"" if method == "PATCH" else None

    first = served.sent(url).status
    others = [served.ask(method, url, told, body).status for _ in range(2)]

    assert [first, *others] == [503, 503, 204 if method == "PATCH" else 200]


class Entering:
    """Enters files in documents that only pretend."""

    def __init__(self) -> None:
        self.entered_in: list[str] = []
        self.hangs = True

    async def admit(self, request: Any, *_args: object, **_options: object) -> Any:
        document = request.query("doc")
        if document is None:
            return None

        async def entered(stub: dict[str, Any]) -> bool:
            if self.hangs:
                await Deferred()
            self.entered_in.append(f"{document}: {stub['filename']}")
            return True

        return SimpleNamespace(entered=entered)


def test_who_sees_that_all_is_here_has_it_in_its_document(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    entering = Entering()
    monkeypatch.setattr("dtfc.web.uploads.admit_entry", entering.admit)
    told = TUS | {"Upload-Length": str(len(CONTENT))}
    url = served.ask("POST", "/uploads/?name=a.txt&db=d&doc=album", told)["location"]
    wire = served.wire()
    part = TUS_PART | {"Upload-Offset": "0"}
    wire.send(served.head("PATCH", url, part, len(CONTENT)) + CONTENT)
    wire.lose()
    entering.hangs = False

    offset = served.offset(url)

    assert (offset, entering.entered_in) == (len(CONTENT), ["album: a.txt"])


def test_get_tells_when_what_is_over_is_forgotten(served: Served) -> None:
    url = served.begun()
    served.sent(url)
    state = f"{served.store.layout.own('uploads')}/{url.rpartition('/')[2]}.upload"
    os.utime(state, (served.now - 1000, served.now - 1000))

    told = served.ask("GET", url, {}).json["expires_at"]

    assert told == int(os.stat(state).st_mtime + served.pages.terms.ttl)


def test_get_tells_how_far_it_is(served: Served) -> None:
    url = served.begun()
    served.sent(url, CONTENT[:9])
    told = served.ask("GET", url, {}).json

    assert (told["offset"], told["length"], told["complete"], told["stored"]) == (
        9,
        len(CONTENT),
        False,
        None,
    )


def test_an_end_that_was_cut_off_is_made_up_for(served: Served) -> None:
    url = served.begun()
    upload = served.store.uploads.take(url.rpartition("/")[2])
    upload.write([CONTENT])
    upload.close()

    assert served.ask("HEAD", url, TUS)["content-location"] == f"/{DIGEST}"


def test_an_empty_part_at_the_end(served: Served) -> None:
    url = served.begun()
    served.sent(url)

    assert served.sent(url, b"", len(CONTENT))["content-location"] == f"/{DIGEST}"


# -- limits and rights ------------------------------------------------------------------


def test_a_length_that_is_too_large(served: Served) -> None:
    served.blobs.terms = Terms(max_body=10)

    assert served.ask("POST", "/uploads/", TUS | {"Upload-Length": "11"}).status == 413


def test_bytes_that_are_too_many(served: Served) -> None:
    served.blobs.terms = Terms(max_body=10)
    url = served.ask("POST", "/uploads/", TUS | {"Upload-Defer-Length": "1"})["location"]

    assert served.sent(url, b"x" * 11).status == 413


def test_too_many_open_ones(served: Served) -> None:
    served.pages.terms = UploadTerms(most_open=1)
    served.begun()
    answer = served.ask("POST", "/uploads/", TUS | {"Upload-Length": "1"})

    assert (answer.status, answer["retry-after"]) == (503, "60")


def test_complete_ones_do_not_count(served: Served) -> None:
    served.pages.terms = UploadTerms(most_open=1)
    served.sent(served.begun())

    assert served.ask("POST", "/uploads/", TUS | {"Upload-Length": "1"}).status == 201


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE", "GET"])
def test_who_may_not_put_may_not_go_on(served: Served, method: str) -> None:
    url = served.begun()
    served.gate.policy = Policy(anonymous=frozenset({Verb.GET, Verb.HEAD}))
    told = TUS_PART | {"Upload-Offset": "0", "X-Forwarded-For": "192.0.2.1"}
    body = b"x" if method == "PATCH" else None

    assert served.ask(method, url, told, body).status in (401, 403)


def test_a_coded_body(served: Served) -> None:
    assert served.sent(served.begun(), CONTENT, Content_Encoding="gzip").status == 415


def test_every_refusal_is_a_problem(served: Served) -> None:
    answer = served.ask("POST", "/uploads/", TUS)

    assert answer["content-type"] == "application/problem+json"


def test_every_refusal_in_tus_says_so(served: Served) -> None:
    assert served.ask("POST", "/uploads/", TUS)["tus-resumable"] == "1.0.0"


def test_a_creation_that_cannot_end_leaves_nothing(served: Served) -> None:
    told = TUS_PART | {
        "Upload-Length": str(len(CONTENT)),
        "Upload-Metadata": f"sha512 {b64(Digest.of(b'').hex)}",
    }
    served.ask("POST", "/uploads/", told, CONTENT)

    assert os.listdir(served.store.layout.own("uploads")) == []


def deeds_of(served: Served, method: str, path: str, fields: dict[str, str], body: bytes) -> Any:
    """Return what the audit log says of a request."""
    wire = served.wire()
    deeds: list[Deed] = []
    wire.site.audit = deeds.append
    wire.send(served.head(method, path, fields, len(body)) + body)
    return [(deed.action, deed.digest) for deed in deeds]


def test_the_end_is_written_down(served: Served) -> None:
    told = TUS_PART | {"Upload-Offset": "0"}

    assert deeds_of(served, "PATCH", served.begun(), told, CONTENT) == [("stored", DIGEST.hex)]


def test_a_part_is_not(served: Served) -> None:
    told = TUS_PART | {"Upload-Offset": "0"}

    assert deeds_of(served, "PATCH", served.begun(), told, CONTENT[:9]) == []


def test_the_beginning_is(served: Served) -> None:
    told = TUS | {"Upload-Length": "9"}

    assert deeds_of(served, "POST", "/uploads/", told, b"") == [("begun", "")]


def test_to_give_an_upload_up_is_no_deletion(served: Served) -> None:
    assert deeds_of(served, "DELETE", served.begun(), TUS, b"") == [("given up", "")]


def unnotable(served: Served, monkeypatch: pytest.MonkeyPatch) -> str:
    """Begin an upload whose end cannot be noted, and send it; return its URL."""
    url = served.begun()

    def refuse(*_what: object) -> None:
        raise StoreFailure("keep what is known of an upload", OSError(5, "Input/output error"))

    with monkeypatch.context() as patch:
        patch.setattr(served.store.uploads, "keep", refuse)
        assert served.sent(url)["content-location"] == f"/{DIGEST}"
    return url


def test_an_end_that_cannot_be_noted_is_an_end(
    served: Served, monkeypatch: pytest.MonkeyPatch, logged_failures: Any
) -> None:
    unnotable(served, monkeypatch)
    logged_failures.flush()

    assert served.has()


def test_who_asks_again_finds_it(
    served: Served, monkeypatch: pytest.MonkeyPatch, logged_failures: Any
) -> None:
    url = unnotable(served, monkeypatch)
    logged_failures.flush()

    assert served.ask("HEAD", url, TUS)["content-location"] == f"/{DIGEST}"
