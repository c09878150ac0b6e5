"""Link fields as RFC 6249 has them, and Metalink files as RFC 5854 has them."""

from __future__ import annotations

import hashlib
import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metalink.metalink import Metalink4

from dtfc.digest import Digest
from dtfc.http.links import MetalinkFile, Mirror, country_of, link_values
from dtfc.names import name_in_xml

DIGEST = Digest.of(b"linked")
NAMESPACE = "{urn:ietf:params:xml:ns:metalink}"
MIB = 1 << 20

MIRRORS = [
    Mirror(f"https://b.example:443/{DIGEST}", "de"),
    Mirror(f"http://[2001:db8::1]:80/{DIGEST}"),
]

#: Any text at all: what an older store may hold under a blob.
TEXTS = st.text(st.characters(), max_size=80)
HASHES = st.integers(0, 2500).map(
    lambda count: b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(count))
)
URLS = st.text(st.sampled_from("abz09.:/&'\"[]-%~"), min_size=1, max_size=40)
PLACES = st.lists(st.builds(Mirror, URLS, st.sampled_from(["", "de", "nz"])), max_size=5)


def written(**changes: Any) -> bytes:
    """Write a Metalink, and see that its size is as it said."""
    given = {
        "name": "photo.jpg",
        "length": 5,
        "sha512": DIGEST.hex,
        "mirrors": MIRRORS,
        "piece": MIB,
        "hashes": bytes(32),
        "generator": "dtfc/1",
        **changes,
    }
    file = MetalinkFile(**given)
    content = b"".join(file.blocks())
    assert file.size == len(content)
    return content


def read(content: bytes) -> ET.Element:
    """Read it with Python's own parser; return its file."""
    root = ET.fromstring(content)  # noqa: S314 -- our own
    assert root.tag == f"{NAMESPACE}metalink"
    found = root.findall(f"{NAMESPACE}file")
    assert len(found) == 1
    return found[0]


def texts(file: ET.Element, path: str) -> list[str | None]:
    return [
        each.text for each in file.findall("/".join(NAMESPACE + part for part in path.split("/")))
    ]


@given(TEXTS)
def test_any_name_is_read_back_as_it_was_written(name: str) -> None:
    safe = name_in_xml(name, DIGEST.hex)

    assert read(written(name=safe)).get("name") == safe


@given(TEXTS)
def test_no_name_leads_anywhere_else(name: str) -> None:
    safe = name_in_xml(name, DIGEST.hex)

    assert safe not in ("", ".", "..")
    assert not re.search(r"[/\\\x00-\x1f]", safe)


@pytest.mark.parametrize("name", ["", ".", "..", "...", "/"])
def test_what_is_no_name_is_called_by_its_digest(name: str) -> None:
    assert name_in_xml(name, DIGEST.hex) in (DIGEST.hex, "_")


@given(HASHES)
def test_every_piece_is_read_back(hashes: bytes) -> None:
    file = read(written(hashes=hashes))

    found = texts(file, "pieces/hash")
    assert found == [hashes[at : at + 32].hex() for at in range(0, len(hashes), 32)]


def test_what_is_said_of_pieces() -> None:
    pieces = read(written()).find(f"{NAMESPACE}pieces")

    assert pieces is not None
    assert pieces.attrib == {"length": "1048576", "type": "sha-256"}


def test_without_hashes_there_are_no_pieces() -> None:
    assert read(written(hashes=b"")).find(f"{NAMESPACE}pieces") is None


@given(PLACES)
def test_every_place_is_read_back_in_its_order(mirrors: list[Mirror]) -> None:
    urls = read(written(mirrors=mirrors)).findall(f"{NAMESPACE}url")

    assert [(each.text, each.get("location", "")) for each in urls] == [
        (mirror.url, mirror.country) for mirror in mirrors
    ]
    assert [each.get("priority") for each in urls] == [str(n) for n in range(1, len(mirrors) + 1)]


def test_size_and_digest() -> None:
    file = read(written(length=1 << 40))

    assert texts(file, "size") == [str(1 << 40)]
    assert [(each.get("type"), each.text) for each in file.findall(f"{NAMESPACE}hash")] == [
        ("sha-512", DIGEST.hex)
    ]


def test_a_program_for_metalinks_reads_the_same() -> None:
    hashes = hashlib.sha256(b"1").digest() + hashlib.sha256(b"2").digest()
    metalink = Metalink4()

    metalink.parse(written(name="a & b.iso", length=MIB + 1, hashes=hashes).decode())

    (file,) = metalink.files
    assert (file.filename, file.size) == ("a & b.iso", MIB + 1)
    assert file.hashlist["sha-512"] == DIGEST.hex
    assert [(each.url, each.location, each.priority) for each in file.resources] == [
        (MIRRORS[0].url, "de", "1"),
        (MIRRORS[1].url, "", "2"),
    ]
    assert (int(file.piecelength), file.piecetype, file.pieces) == (
        MIB,
        "sha-256",
        [hashes[:32].hex(), hashes[32:].hex()],
    )


def test_link_fields() -> None:
    assert link_values(DIGEST, MIRRORS) == [
        f"<https://b.example:443/{DIGEST}>; rel=duplicate; pri=1; geo=de",
        f"<http://[2001:db8::1]:80/{DIGEST}>; rel=duplicate; pri=2",
        f'</{DIGEST}.meta4>; rel=describedby; type="application/metalink4+xml"',
    ]


def test_no_link_fields_where_none_are_wanted() -> None:
    assert link_values(DIGEST, None) == []


@pytest.mark.parametrize(
    ("zone", "country"),
    [("de", "de"), ("DE", "de"), ("", ""), ("attic", ""), ("dc", ""), ("uk", "")],
)
def test_a_zone_is_a_country_where_it_is_a_country_s_code(zone: str, country: str) -> None:
    assert country_of(zone) == country
