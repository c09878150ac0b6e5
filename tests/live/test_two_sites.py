"""Two sites: a CouchDB and a node at each, and CouchDB's own replication between them."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_collector_live import SOON
from tests.live.test_couchdb_live import Pouch, basic
from tests.live.test_following_live import Live
from tests.support.live import LiveNode
from tests.support.waiting import until

ROOT = basic("root", "relax")
PHOTO = b"a photo " * 1000
DIGEST = hashlib.sha512(PHOTO).hexdigest()


class Site:
    """A CouchDB and a node beside it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.pouch = Pouch(folder / "data")
        assert self.pouch.ask("PUT", "/_config/admins/root", "relax")[0] == 200
        for name in ("photos", "names"):
            assert self.pouch.ask("PUT", f"/{name}", user=ROOT)[0] == 201
        self.node: LiveNode

    def begin(self, live: Live, *flags: str) -> None:
        user = self.folder / "user"
        user.write_text("root:relax\n")
        user.chmod(0o600)
        self.node = live(
            *("--couchdb", self.pouch.url, "--couchdb-user-file", str(user)),
            *("--couchdb-db", "photos", "--couchdb-catalog", "names", "--absent-ttl", "0"),
            *("--peerlist", str(self.folder / "peers"), *flags),
        )

    def database(self, name: str) -> str:
        return f"{self.pouch.url.replace('//', '//root:relax@')}/{name}"

    def replicates_to(self, other: Site, name: str) -> None:
        job = {"source": self.database(name), "target": other.database(name), "continuous": True}
        assert self.pouch.ask("POST", "/_replicate", job, ROOT)[0] in {200, 202}

    def document(self, path: str) -> dict[str, Any]:
        """Return a document; nothing while it is not there."""
        request = urllib.request.Request(  # noqa: S310 -- it is http
            self.pouch.url + path, headers={"Authorization": ROOT}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                found: dict[str, Any] = json.load(answer)
        except OSError:
            return {}
        return found

    def named(self, name: str) -> list[str]:
        status, _, body = self.node.request("GET", f"/files.json?name={name}")
        assert status == 200, body
        return [each["sha512"] for each in json.loads(body)["files"]]

    @property
    def collected(self) -> set[str]:
        body = self.node.request("GET", "/couchdb/garbage")[2]
        return {each["sha512"] for each in json.loads(body)["collected"]}


@pytest.fixture
def sites(live: Live, tmp_path: Path) -> Iterator[Callable[..., tuple[Site, Site]]]:
    made: list[Site] = []

    def begin(*flags: str) -> tuple[Site, Site]:
        made.extend(Site(tmp_path / name) for name in ("north", "south"))
        north, south = made
        for site in made:
            (site.folder / "peers").write_text("")
            site.begin(live, *flags)
        for one, other in ((north, south), (south, north)):
            (one.folder / "peers").write_text(f"{other.node.url}\n")
            assert one.node.request("PUT", "/refreshpeers.html")[0] == 200
            for name in ("photos", "names"):
                one.replicates_to(other, name)
        return north, south

    yield begin
    for site in made:
        site.pouch.stop()


def put(site: Site) -> None:
    status, _, body = site.node.request(
        "PUT", "/photo.jpg?db=photos&doc=holiday", PHOTO, Authorization=ROOT
    )
    assert status == 201, body
    assert json.loads(body)["document"]["id"] == "holiday"


def test_what_is_put_at_one_is_read_at_the_other_by_its_name(
    sites: Callable[..., tuple[Site, Site]],
) -> None:
    north, south = sites()
    put(north)
    # By the name in the document, which CouchDB replicates.
    until(lambda: "dtfc" in south.document("/photos/holiday"), south.node.log)
    digest = south.document("/photos/holiday")["dtfc"]["photo.jpg"]["sha512"]
    assert south.node.request("GET", f"/{digest}")[2] == PHOTO
    # And by the name in the catalog, which it replicates as well.
    until(lambda: south.named("photo.jpg") == [DIGEST], south.node.log)


def test_a_document_that_goes_takes_the_blob_along_at_both(
    sites: Callable[..., tuple[Site, Site]],
) -> None:
    north, south = sites("--couchdb-prefetch", "all", *SOON)
    put(north)
    until(lambda: south.node.request("GET", f"/{DIGEST}/nopeerload")[0] == 200, south.node.log)
    revision = south.document("/photos/holiday")["_rev"]
    assert south.pouch.ask("DELETE", f"/photos/holiday?rev={revision}", user=ROOT)[0] == 200
    until(lambda: DIGEST in north.collected & south.collected, north.node.log)
    assert north.node.request("GET", f"/{DIGEST}")[0] == 404
    assert south.node.request("GET", f"/{DIGEST}")[0] == 404
