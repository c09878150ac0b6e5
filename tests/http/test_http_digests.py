"""Digest fields: RFC 9530 and RFC 3230, on the structured fields of RFC 9651."""

from __future__ import annotations

import base64
import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.errors import BadInput
from dtfc.http.digests import (
    legacy_digest,
    parse_digest_field,
    parse_legacy_digest,
    parse_legacy_want_digest,
    parse_want_digest_field,
    repr_digest,
)

BYTES = b'{"hello": "world"}\n'
DIGEST = Digest.of(BYTES)
SHA256 = hashlib.sha256(BYTES).digest()
B512 = base64.b64encode(DIGEST.raw).decode()
B256 = base64.b64encode(SHA256).decode()
BOTH = {"sha-512": DIGEST.raw, "sha-256": SHA256}

# RFC 9530 appendix B.1 and D: the same content, these values.
RFC_SHA_256 = "RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg="
RFC_SHA_512 = (
    "YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg=="
)


def test_the_examples_of_rfc_9530_are_read() -> None:
    assert parse_digest_field([f"sha-256=:{RFC_SHA_256}:", f"sha-512=:{RFC_SHA_512}:"]) == BOTH


def test_repr_digest_is_written() -> None:
    assert repr_digest(DIGEST) == f"sha-512=:{B512}:"


def test_repr_digest_is_written_with_both() -> None:
    assert repr_digest(DIGEST, SHA256) == f"sha-512=:{B512}:, sha-256=:{B256}:"


def test_legacy_digest_is_written() -> None:
    assert legacy_digest(DIGEST) == f"SHA-512={B512}"


def test_legacy_digest_is_written_with_both() -> None:
    assert legacy_digest(DIGEST, SHA256) == f"SHA-512={B512},SHA-256={B256}"


@pytest.mark.parametrize(
    "values",
    [
        [f"sha-512=:{B512}:, sha-256=:{B256}:"],
        [f"sha-512=:{B512}:", f"sha-256=:{B256}:"],
        [f"sha-256=:{B256}:\t,  sha-512=:{B512}:"],
        [f"  sha-256=:{B256}:,sha-512=:{B512}:  "],
        [f'sha-256=:{B256}:;a;b=1;c="x, y", sha-512=:{B512}:; d=?0'],  # parameters
        [f"md5=:AAAA:, unixsum=7, x, y=(1 2), sha-256=:{B256}:, sha-512=:{B512}:"],
        [f"sha-256=:{B256.rstrip('=')}:, sha-512=:{B512.rstrip('=')}:"],  # 4.2.7: padding
        [f"sha-512=:AAAA:, sha-256=:{B256}:, sha-512=:{B512}:"],  # 4.2.2: the last counts
    ],
)
def test_digest_fields_are_read(values: list[str]) -> None:
    assert parse_digest_field(values) == BOTH


@pytest.mark.parametrize(
    "values", [[], [""], ["  "], ["md5=:AAAA:"], ["x;y=1"], ["sha=:AAAA:, crc32c=1.5"]]
)
def test_a_field_without_what_counts_is_empty(values: list[str]) -> None:
    assert parse_digest_field(values) == {}


@pytest.mark.parametrize(
    "value",
    [
        f"sha-512={B512}",  # no colons: the legacy form
        f"SHA-512=:{B512}:",  # keys are lower case
        f"sha-512=:{B512}",
        f"sha-512:{B512}:",
        f"sha-512 = :{B512}:",
        f"sha-512=:{B512}: x",
        f"sha-512=:{B512}:,",
        f",sha-512=:{B512}:",
        f"sha-512=:{B512}:,,sha-256=:{B256}:",
        f"sha-512=:{B512}:;",
        f"sha-512=:{B512}:;A",
        f'sha-512="{B512}"',
        "sha-512",
        "sha-512=?1",
        "sha-512=1",
        "sha-512=token",
        f"sha-512=(:{B512}:)",
        "sha-512=::",
        "sha-512=:AAAA:",
        f"sha-512=:{B256}:",  # the wrong length
        f"sha-256=:{B512}:",
        f"sha-512=:{B512[:-1]}:",
        f"sha-512=:=={B512[:-2]}:",
        f"sha-512=:{B512[:40]}={B512[40:]}:",
        f"sha-512=:{B512[:40]} {B512[40:]}:",
        f"sha-512=:{B512[:40]}\n{B512[40:]}:",
        f"sha-512=:{B512.replace('/', '_').replace('+', '-')}:",  # base64url
        f'sha-512=:{B512}:, x="open',
        f"sha-512=:{B512}:, x=(1 2",
        f"sha-512=:{B512}:, x=1.",
        f"sha-512=:{B512}:, x=1234567890123456",
        f"sha-512=:{B512}:, x=\xe9",
        "\xe9",
    ],
)
def test_a_promise_that_cannot_be_read_is_bad_input(value: str) -> None:
    with pytest.raises(BadInput):
        parse_digest_field([value])


@pytest.mark.parametrize(
    "values",
    [
        [f"SHA-512={B512},SHA-256={B256}"],
        [f"SHA-512={B512}", f"SHA-256={B256}"],
        [f"sha-512={B512} , Sha-256={B256},"],
        [f"md5=HUXZLQLMuI/KZ5KDcJPcOA==,sha-256={B256},SHA-512={B512},unixsum=30637"],
        [f"SHA-512={B512},SHA-256={B256},SHA-512={B512}"],
    ],
)
def test_legacy_digests_are_read(values: list[str]) -> None:
    assert parse_legacy_digest(values) == BOTH


@pytest.mark.parametrize("values", [[], [""], ["MD5=HUXZLQLMuI/KZ5KDcJPcOA=="]])
def test_a_legacy_field_without_what_counts_is_empty(values: list[str]) -> None:
    assert parse_legacy_digest(values) == {}


@pytest.mark.parametrize(
    "value",
    [
        "SHA-512",
        "SHA-512=",
        f"SHA-512 = {B512}",
        f"SHA-512=:{B512}:",
        f"SHA-512={B256}",
        f"SHA-512={DIGEST.hex}",
        f"SHA-512={B512};q=1",
        f"SHA-512={B512} SHA-256={B256}",
        f"={B512}",
        f"SHA-256={B256}, SHA-256={base64.b64encode(bytes(32)).decode()}",
    ],
)
def test_a_legacy_promise_that_cannot_be_read_is_bad_input(value: str) -> None:
    with pytest.raises(BadInput):
        parse_legacy_digest([value])


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["sha-256=1"], {"sha-256": 1}),
        (["sha-512=3, sha-256=10, unixsum=0"], {"sha-512": 3, "sha-256": 10}),  # appendix B.2
        (["sha-512=3", "sha-256=10"], {"sha-512": 3, "sha-256": 10}),
        (["sha-512=0, sha-256=1"], {"sha-256": 1}),  # 0: not acceptable
        (["sha-512=11, sha-256=-1"], {}),
        (["sha-512=1.0, sha-256=9"], {"sha-256": 9}),
        (["sha-512"], {}),
        (["sha-512=(5)"], {}),
        (["sha-512=5 sha-256=5"], {}),
        ([], {}),
    ],
)
def test_wishes_are_read(values: list[str], wanted: dict[str, int]) -> None:
    assert parse_want_digest_field(values) == wanted


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        # what aria2 sends
        (["SHA-512;q=1, SHA-256;q=1, SHA;q=0.1"], {"sha-512": 1.0, "sha-256": 1.0}),
        (["sha-512"], {"sha-512": 1.0}),
        (["MD5;q=0.3, sha-256 ; Q=0.75"], {"sha-256": 0.75}),
        (["SHA-512;q=0, sha-256;q=0.001"], {"sha-256": 0.001}),
        (["SHA-512;q=2"], {}),
        (["SHA-512;q=high"], {}),
        (["SHA-512;q=1 SHA-256"], {}),
        ([], {}),
    ],
)
def test_legacy_wishes_are_read(values: list[str], wanted: dict[str, float]) -> None:
    assert parse_legacy_want_digest(values) == wanted


@given(st.binary(max_size=200), st.booleans())
def test_what_is_written_is_read_back(data: bytes, both: bool) -> None:  # noqa: FBT001 -- drawn
    digest = Digest.of(data)
    sha256 = hashlib.sha256(data).digest() if both else None
    expected = {"sha-512": digest.raw} | ({"sha-256": sha256} if sha256 else {})
    assert parse_digest_field([repr_digest(digest, sha256)]) == expected
    assert parse_legacy_digest([legacy_digest(digest, sha256)]) == expected


@given(st.text(max_size=80) | st.text(alphabet='sha-512=:A,;("?@%) \t*', max_size=80))
def test_any_text_is_read_or_bad_input(text: str) -> None:
    for parse in (parse_digest_field, parse_legacy_digest):
        try:
            found = parse([text])
        except BadInput:
            continue
        assert set(found) <= {"sha-512", "sha-256"}
    assert set(parse_want_digest_field([text])) <= {"sha-512", "sha-256"}
    assert set(parse_legacy_want_digest([text])) <= {"sha-512", "sha-256"}


@pytest.mark.parametrize(
    "text",
    [
        'a="' + "\\\\" * 8000,
        "a=(" + "1 " * 8000,
        "a" + ";b" * 8000 + "!",
        "a=" + "1" * 16000,
        "a=:" + "A" * 16000,
        'a=%"' + "%aa" * 5000,
        "a," * 8000,
        "a" * 16000 + "!",
        "a" + " " * 16000 + "!",
        "a;q=" + "0" * 16000,
    ],
)
def test_no_field_costs_time(text: str) -> None:
    start = time.perf_counter()
    parse_want_digest_field([text])
    parse_legacy_want_digest([text])
    assert time.perf_counter() - start < 0.5
