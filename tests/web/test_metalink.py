"""Link fields and .meta4 over HTTP: what they say, to whom, and of what."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from twisted.internet.task import Clock

from dtfc.access.decisions import Policy
from dtfc.access.links import sign_link
from dtfc.access.signatures import Secrets
from dtfc.access.verbs import Verb
from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.errors import Absent, PeersUnreached
from dtfc.peers.failure import PeerFailure
from dtfc.peers.listing import Peer
from dtfc.peers.mirrors import Mirrors, Naming
from dtfc.peers.picker import Picker
from dtfc.store.chunkmap import CHUNK
from dtfc.web import torrents
from dtfc.web.edge import EdgeTerms
from dtfc.web.metalink import Links, MetalinkPages
from dtfc.web.routes import Routes
from dtfc.web.torrents import MOST_WAITING, TorrentPages
from tests.support.bencode import read_bencoded
from tests.web.test_blobs import DIGEST as HELLO_DIGEST
from tests.web.test_blobs import HELLO, Answer, Served

LARGE = os.urandom(2 * CHUNK + 77)
DIGEST = Digest.of(LARGE)
OTHER = "https://b.example:443"
INSIDE = "http://10.0.0.5:8080"
CLIENT = ip_network("192.168.1.1")
"""The address of Twisted's transport for tests."""
XML = "{urn:ietf:params:xml:ns:metalink}"


class Listing:
    me = None
    peers = (Peer(OTHER, zone="de"), Peer(INSIDE))

    def current(self) -> tuple[Peer, ...]:
        return self.peers


class Unreachable:
    """Peers of which none answers."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def ask(self, _method: str, peer: str, _digest: Digest, **_more: Any) -> None:
        self.asked.append(peer)
        raise PeerFailure("nobody is there")


class Mirrored(Served):
    """A node that knows others."""

    def __init__(self, folder: Path, new_wire: Callable[..., Any]) -> None:
        super().__init__(folder, new_wire)
        self.clock = Clock()
        self.clock.advance(1e9)
        self.picker = Picker(Listing(), lambda: 1.0)
        self.asking = Unreachable()
        asking: Any = self.asking
        self.mirrors = Mirrors(self.picker, asking, self.clock)
        self.blobs.links = Links(self.mirrors)
        upkeep = self.blobs._upkeep
        self.pages = MetalinkPages(self.blobs, self.store, InlineDisk(), upkeep, self.mirrors)
        self.torrents = TorrentPages(self.blobs, self.store, InlineDisk(), upkeep, self.pages)
        routes = Routes(self.blobs, self.status, metalinks=self.pages, torrents=self.torrents)
        self._resource = routes.app.resource()
        self.edge = EdgeTerms()

    def wire(self) -> Any:
        wire = super().wire()
        wire.site.edge.terms = self.edge
        return wire

    def has(self, *urls: str, digest: Digest = DIGEST) -> None:
        for url in urls:
            self.picker.has(url, digest, self.clock.seconds())

    def links(self, method: str, path: str, **fields: str) -> list[str]:
        """Return the values of all Link fields of an answer."""
        wire = self.wire()
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        wire.send("\r\n".join([*lines, "", ""]).encode())
        head = wire.got.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        return [line.partition(": ")[2] for line in head if line.startswith("Link: ")]


@pytest.fixture
def served(tmp_path: Path, new_wire: Callable[..., Any]) -> Iterator[Mirrored]:
    served = Mirrored(tmp_path, new_wire)
    for name, content in (("large.iso", LARGE), ("hello.txt", HELLO), ("empty", b"")):
        served.ask("PUT", f"/{name}", content)
    yield served
    served.store.close()


def file_in(answer: Answer) -> ET.Element:
    assert answer.status == 200
    assert answer.fields["content-length"] == str(len(answer.body))
    found = ET.fromstring(answer.body).find(f"{XML}file")  # noqa: S314 -- our own
    assert found is not None
    return found


def urls_in(answer: Answer) -> list[str | None]:
    return [each.text for each in file_in(answer).findall(f"{XML}url")]


BOTH = [
    f"<{OTHER}/{DIGEST}>; rel=duplicate; pri=1; geo=de",
    f'</{DIGEST}.meta4>; rel=describedby; type="application/metalink4+xml"',
]


class TestLinks:
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_they_name_who_has_it(self, served: Mirrored, method: str) -> None:
        served.has(OTHER)

        assert served.links(method, f"/{DIGEST}") == BOTH

    def test_a_part_has_them_too(self, served: Mirrored) -> None:
        served.has(OTHER)

        assert served.links("GET", f"/{DIGEST}", Range="bytes=0-9") == BOTH

    def test_where_nobody_is_known_the_metalink_is_named(self, served: Mirrored) -> None:
        assert served.links("GET", f"/{DIGEST}") == BOTH[1:]

    @pytest.mark.parametrize(
        ("path", "fields"),
        [
            (f"/{DIGEST}/nopeerload", {}),
            (f"/{HELLO_DIGEST}", {}),
            (f"/{DIGEST}", {"If_None_Match": "*"}),
            (f"/{DIGEST}", {"Range": "bytes=99999999-"}),
            (f"/{DIGEST}/info", {}),
        ],
        ids=["to a node", "one piece", "304", "416", "info"],
    )
    def test_what_has_none(self, served: Mirrored, path: str, fields: dict[str, str]) -> None:
        served.has(OTHER)
        served.has(OTHER, digest=HELLO_DIGEST)

        assert served.links("GET", path, **fields) == []

    def test_a_signed_url_has_none(self, served: Mirrored) -> None:
        served.has(OTHER)
        served.gate.policy = Policy(anonymous=frozenset())
        served.gate.url_secrets = Secrets((b"s" * 32,))
        path = sign_link(b"s" * 32, Verb.GET, f"/{DIGEST}", 10**11)

        assert served.ask("GET", path).status == 200
        assert served.links("GET", path) == []

    def test_off_has_none(self, served: Mirrored) -> None:
        served.has(OTHER)
        served.mirrors.naming = Naming.NOBODY

        assert served.links("GET", f"/{DIGEST}") == []

    def test_who_cannot_be_reached_from_everywhere_is_not_named(self, served: Mirrored) -> None:
        served.has(INSIDE)

        assert served.links("GET", f"/{DIGEST}") == BOTH[1:]

    def test_a_large_blob_of_which_nobody_is_known_is_asked_about(self, served: Mirrored) -> None:
        served.ask("GET", f"/{DIGEST}")

        assert served.asking.asked == [OTHER]

    @pytest.mark.parametrize("path", [f"/{DIGEST}/nopeerload", f"/{HELLO_DIGEST}"])
    def test_others_are_not(self, served: Mirrored, path: str) -> None:
        served.ask("GET", path)

        assert served.asking.asked == []

    def test_who_was_given_a_copy_is_named_at_once(self, served: Mirrored) -> None:
        async def given(_digest: Digest) -> list[str]:
            return [OTHER]

        served.mirrors.copies = given

        assert served.links("GET", f"/{DIGEST}") == BOTH


class TestMetalink:
    def test_its_head(self, served: Mirrored) -> None:
        answer = served.ask("GET", f"/{DIGEST}.meta4")

        assert answer.fields["content-type"] == "application/metalink4+xml"
        assert answer.fields["cache-control"] == "no-store"
        assert answer.fields["content-disposition"] == 'attachment; filename="large.iso.meta4"'

    def test_head_has_no_body(self, served: Mirrored) -> None:
        whole = served.ask("GET", f"/{DIGEST}.meta4")
        answer = served.ask("HEAD", f"/{DIGEST}.meta4")

        assert (answer.status, answer.body) == (200, b"")
        assert answer.fields["content-length"] == str(len(whole.body))

    def test_name_size_and_digest(self, served: Mirrored) -> None:
        file = file_in(served.ask("GET", f"/{DIGEST}.meta4"))

        assert file.get("name") == "large.iso"
        assert file.findtext(f"{XML}size") == str(len(LARGE))
        assert file.findtext(f"{XML}hash") == DIGEST.hex

    def test_its_pieces_are_the_blob_s(self, served: Mirrored) -> None:
        found = file_in(served.ask("GET", f"/{DIGEST}.meta4")).findall(f"{XML}pieces/{XML}hash")

        assert [each.text for each in found] == [
            hashlib.sha256(LARGE[at : at + CHUNK]).hexdigest() for at in range(0, len(LARGE), CHUNK)
        ]

    def test_a_blob_of_one_piece(self, served: Mirrored) -> None:
        found = file_in(served.ask("GET", f"/{HELLO_DIGEST}.meta4")).findall(
            f"{XML}pieces/{XML}hash"
        )

        assert [each.text for each in found] == [hashlib.sha256(HELLO).hexdigest()]

    def test_an_empty_blob_has_no_piece(self, served: Mirrored) -> None:
        file = file_in(served.ask("GET", f"/{Digest.of(b'')}.meta4"))

        assert (file.findtext(f"{XML}size"), file.find(f"{XML}pieces")) == ("0", None)

    def test_upper_case_is_the_same_blob(self, served: Mirrored) -> None:
        upper = served.ask("GET", f"/{DIGEST.hex.upper()}.meta4")

        assert upper.body == served.ask("GET", f"/{DIGEST}.meta4").body

    def test_this_node_comes_first(self, served: Mirrored) -> None:
        served.has(OTHER)

        assert urls_in(served.ask("GET", f"/{DIGEST}.meta4")) == [
            f"http://localhost/{DIGEST}",
            f"{OTHER}/{DIGEST}",
        ]

    def test_a_zone_that_is_a_country(self, served: Mirrored) -> None:
        served.has(OTHER)
        served.pages.zone = "NL"

        found = file_in(served.ask("GET", f"/{DIGEST}.meta4")).findall(f"{XML}url")
        assert [each.get("location") for each in found] == ["nl", "de"]

    def test_who_has_said_nothing_is_asked(self, served: Mirrored) -> None:
        served.ask("GET", f"/{DIGEST}.meta4")

        assert served.asking.asked == [OTHER]

    def test_another_name(self, served: Mirrored) -> None:
        file = file_in(served.ask("GET", f"/{DIGEST}.meta4?name=%26%22.iso"))

        assert file.get("name") == '&".iso'

    def test_a_name_that_is_none_is_400(self, served: Mirrored) -> None:
        assert served.ask("GET", f"/{DIGEST}.meta4?name=a/b").status == 400

    def test_a_blob_without_a_name_is_called_by_its_digest(self, served: Mirrored) -> None:
        content = b"nameless"
        digest = Digest.of(content)
        served.ask("PUT", f"/{digest}", content)

        assert file_in(served.ask("GET", f"/{digest}.meta4")).get("name") == digest.hex

    def test_off_is_404(self, served: Mirrored) -> None:
        served.mirrors.naming = Naming.NOBODY

        assert served.ask("GET", f"/{DIGEST}.meta4").status == 404

    def test_a_marker_denies_it(self, served: Mirrored) -> None:
        Path(served.store.layout.marker(DIGEST, 403)).touch()

        assert served.ask("GET", f"/{DIGEST}.meta4").status == 403

    def test_who_may_not_get_the_blob_may_not_get_it(self, served: Mirrored) -> None:
        served.gate.policy = Policy(anonymous=frozenset())

        blob, metalink = served.ask("GET", f"/{DIGEST}"), served.ask("GET", f"/{DIGEST}.meta4")
        assert metalink.status == blob.status == 403

    def test_it_may_be_signed_for(self, served: Mirrored) -> None:
        served.gate.policy = Policy(anonymous=frozenset())
        served.gate.url_secrets = Secrets((b"s" * 32,))
        path = sign_link(b"s" * 32, Verb.GET, f"/{DIGEST}.meta4", 10**11)

        assert served.ask("GET", path).status == 200

    def test_wrong_bytes_have_none(self, served: Mirrored) -> None:
        path = Path(served.store.layout.data(DIGEST))
        path.chmod(0o644)
        with path.open("r+b") as file:
            file.write(b"?")
        (path.parent / "chunks").unlink()

        assert served.ask("GET", f"/{DIGEST}.meta4").status == 503

    def test_a_put_of_that_name_stores_a_file(self, served: Mirrored) -> None:
        answer = served.ask("PUT", f"/{DIGEST}.meta4", b"a file")

        assert answer.json["filename"] == f"{DIGEST}.meta4"

    def test_other_methods_are_405(self, served: Mirrored) -> None:
        answer = served.ask("DELETE", f"/{DIGEST}.meta4")

        assert (answer.status, answer.fields["allow"]) == (405, "GET, HEAD, OPTIONS, PUT")


class TestAbsent:
    ELSEWHERE = b"elsewhere"
    DIGEST = Digest.of(ELSEWHERE)

    def test_who_has_it_comes_first(self, served: Mirrored) -> None:
        served.loader.remote[self.DIGEST] = self.ELSEWHERE
        served.has(OTHER, digest=self.DIGEST)

        assert urls_in(served.ask("GET", f"/{self.DIGEST}.meta4")) == [
            f"{OTHER}/{self.DIGEST}",
            f"http://localhost/{self.DIGEST}",
        ]

    def test_what_a_peer_says_of_it(self, served: Mirrored) -> None:
        served.loader.remote[self.DIGEST] = self.ELSEWHERE

        file = file_in(served.ask("GET", f"/{self.DIGEST}.meta4"))

        assert (file.get("name"), file.findtext(f"{XML}size")) == ("remote.txt", "9")
        assert file.find(f"{XML}pieces") is None

    def test_nothing_is_loaded(self, served: Mirrored) -> None:
        served.loader.remote[self.DIGEST] = self.ELSEWHERE
        served.ask("GET", f"/{self.DIGEST}.meta4")

        assert not served.store.holds(self.DIGEST)

    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (Absent(DIGEST.hex, everywhere=True), 404),
            (PeersUnreached(DIGEST.hex, {OTHER: "gone"}, 10), 503),
        ],
    )
    def test_as_the_blob_itself(self, served: Mirrored, error: Exception, status: int) -> None:
        served.loader.error = error

        assert served.ask("GET", f"/{self.DIGEST}.meta4").status == status

    def test_a_deleted_blob_is_404_and_nobody_is_asked(self, served: Mirrored) -> None:
        served.ask("DELETE", f"/{DIGEST}")

        assert served.ask("GET", f"/{DIGEST}.meta4").status == 404
        assert served.loader.asked == []


class TestTorrent:
    def torrent(self, served: Mirrored, path: str = f"/{DIGEST}.torrent") -> Any:
        answer = served.ask("GET", path)
        assert answer.status == 200
        return read_bencoded(answer.body)

    def test_its_head(self, served: Mirrored) -> None:
        answer = served.ask("GET", f"/{DIGEST}.torrent")

        assert answer.fields["content-type"] == "application/x-bittorrent"
        assert answer.fields["cache-control"] == "no-store"
        assert answer.fields["content-disposition"] == 'attachment; filename="large.iso.torrent"'

    def test_its_pieces_are_the_blob_s(self, served: Mirrored) -> None:
        info = self.torrent(served)[b"info"]

        assert (info[b"name"], info[b"length"]) == (b"large.iso", len(LARGE))
        assert info[b"pieces"] == b"".join(
            hashlib.sha1(LARGE[at : at + CHUNK], usedforsecurity=False).digest()
            for at in range(0, len(LARGE), CHUNK)
        )

    def test_its_seeds_are_the_nodes_that_have_it(self, served: Mirrored) -> None:
        served.has(OTHER)

        assert self.torrent(served)[b"url-list"] == [
            f"http://localhost/{DIGEST}".encode(),
            f"{OTHER}/{DIGEST}".encode(),
        ]

    def test_a_piece_of_more_than_a_chunk(
        self, served: Mirrored, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torrents, "piece_of", lambda _length: 2 * CHUNK)

        found = self.torrent(served)[b"info"][b"pieces"]

        assert found == b"".join(
            hashlib.sha1(LARGE[at : at + 2 * CHUNK], usedforsecurity=False).digest()
            for at in range(0, len(LARGE), 2 * CHUNK)
        )

    def test_it_is_hashed_once(self, served: Mirrored, monkeypatch: pytest.MonkeyPatch) -> None:
        first = self.torrent(served)
        monkeypatch.setattr(TorrentPages, "_hash", None)

        assert self.torrent(served) == first

    def test_what_is_remembered_is_bounded(
        self, served: Mirrored, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torrents, "MOST_REMEMBERED", 50)
        for digest in (DIGEST, HELLO_DIGEST):
            self.torrent(served, f"/{digest}.torrent")

        assert list(served.torrents._known) == [HELLO_DIGEST]

    def test_too_many_are_told_to_come_again(self, served: Mirrored) -> None:
        turn = served.torrents._turn
        turn.acquire()
        for _ in range(MOST_WAITING):
            turn.acquire()

        answer = served.ask("GET", f"/{DIGEST}.torrent")

        assert (answer.status, answer.fields["retry-after"]) == (503, "10")

    def test_wrong_bytes_have_none(self, served: Mirrored) -> None:
        path = Path(served.store.layout.data(DIGEST))
        path.chmod(0o644)
        with path.open("r+b") as file:
            file.seek(CHUNK)
            file.write(b"?!")

        assert served.ask("GET", f"/{DIGEST}.torrent").status == 503

    def test_absent_is_404_and_nobody_is_asked(self, served: Mirrored) -> None:
        answer = served.ask("GET", f"/{TestAbsent.DIGEST}.torrent")

        assert (answer.status, served.loader.asked, served.asking.asked) == (404, [], [])

    def test_off_is_404(self, served: Mirrored) -> None:
        served.mirrors.naming = Naming.NOBODY

        assert served.ask("GET", f"/{DIGEST}.torrent").status == 404

    def test_who_may_not_get_the_blob_may_not_get_it(self, served: Mirrored) -> None:
        served.gate.policy = Policy(anonymous=frozenset())

        assert served.ask("GET", f"/{DIGEST}.torrent").status == 403


class TestUnderWhichName:
    def own(self, served: Mirrored, **fields: str) -> str:
        url = urls_in(served.ask("GET", f"/{DIGEST}.meta4", None, **fields))[0]
        return str(url).removesuffix(f"/{DIGEST}")

    def test_what_the_client_says_of_proxies_is_not_believed(self, served: Mirrored) -> None:
        own = self.own(served, X_Forwarded_Host="evil.example", X_Forwarded_Proto="https")

        assert own == "http://localhost"

    def test_a_trusted_proxy_says_it(self, served: Mirrored) -> None:
        served.edge = EdgeTerms(trusted_proxies=(CLIENT,))

        own = self.own(served, X_Forwarded_Host="x, files.example:8443", X_Forwarded_Proto="https")
        assert own == "https://files.example:8443"

    def test_a_trusted_proxy_that_says_nonsense_is_not_repeated(self, served: Mirrored) -> None:
        served.edge = EdgeTerms(trusted_proxies=(CLIENT,))

        assert self.own(served, X_Forwarded_Host='a"><b') == "http://localhost"

    def test_require_https_says_it(self, served: Mirrored) -> None:
        served.edge = EdgeTerms(https="https://files.example", trusted_proxies=(CLIENT,))

        assert self.own(served, X_Forwarded_Proto="https") == "https://files.example"
