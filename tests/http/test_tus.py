"""The fields of tus 1.0."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.errors import BadInput, UnknownUpload
from dtfc.http.tus import (
    CHECKSUMS,
    LONGEST_METADATA,
    MOST_PARTS,
    Checksum,
    Concat,
    is_upload_id,
    parse_checksum,
    parse_concat,
    parse_count,
    parse_metadata,
)

ID = "XKLU2zo2GDH-ewAwSwvU9WRHvU4NnZYrk83kq2cxLJ0"
OTHER = "uHBhuuC_NUU-BQJ8s96PDXs_-ELv6Nrqg27DFioQ9Bk"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("values", "count"),
    [([], None), (["0"], 0), (["12"], 12), ([" 7 "], 7), (["999999999999999"], 10**15 - 1)],
)
def test_a_count(values: list[str], count: int | None) -> None:
    assert parse_count("Upload-Offset", values) == count


@pytest.mark.parametrize(
    "values", [["-1"], ["+1"], ["1_0"], ["0x1"], [""], ["1", "1"], ["1" * 16], ["\u0661"], ["1.0"]]
)
def test_no_count(values: list[str]) -> None:
    with pytest.raises(BadInput, match="Upload-Offset"):
        parse_count("Upload-Offset", values)


def test_metadata() -> None:
    told = f"filename {encoded('bäh.jpg')},is_confidential,type {encoded('image/jpeg')}"

    assert parse_metadata([told]) == {
        "filename": "bäh.jpg",
        "is_confidential": "",
        "type": "image/jpeg",
    }


def test_metadata_with_spaces_behind_commas() -> None:
    assert parse_metadata([f"a {encoded('1')}, b {encoded('2')}"]) == {"a": "1", "b": "2"}


def test_no_metadata() -> None:
    assert parse_metadata([]) == {}


def test_metadata_that_is_no_text_is_not_for_us() -> None:
    assert parse_metadata([f"a {base64.b64encode(bytes([255])).decode()}"]) == {}


@pytest.mark.parametrize(
    "told", ["a !!", "a YQ==,a YQ==", ",a YQ==", "a YQ==,", "ä YQ==", "a YQ=", "a ä"]
)
def test_malformed_metadata(told: str) -> None:
    with pytest.raises(BadInput, match="Upload-Metadata"):
        parse_metadata([told])


def test_metadata_that_is_too_long() -> None:
    with pytest.raises(BadInput, match="characters"):
        parse_metadata(["a " + "YWFh" * (LONGEST_METADATA // 4)])


@given(
    st.dictionaries(st.from_regex(r"[a-zA-Z0-9_.]{1,20}", fullmatch=True), st.text(), max_size=8)
)
def test_metadata_comes_back_as_it_went(facts: dict[str, str]) -> None:
    told = ",".join(f"{key} {encoded(value)}" for key, value in facts.items())

    if len(told) <= LONGEST_METADATA:
        assert parse_metadata([told]) == facts


@pytest.mark.parametrize("algorithm", CHECKSUMS)
def test_a_checksum(algorithm: str) -> None:
    digest = hashlib.new(algorithm, b"part").digest()

    told = f"{algorithm} {base64.b64encode(digest).decode()}"

    assert parse_checksum([told]) == Checksum(algorithm, digest)


def test_no_checksum() -> None:
    assert parse_checksum([]) is None


@pytest.mark.parametrize(
    "values",
    [
        ["md5 1B2M2Y8AsgTpgAmY7PhCfg=="],
        ["sha1 YQ=="],
        ["sha1"],
        ["sha1 ###"],
        ["SHA1 " + base64.b64encode(bytes(20)).decode()],
        ["sha1 " + base64.b64encode(bytes(20)).decode()] * 2,
        ["shake_128 YQ=="],
    ],
)
def test_a_checksum_that_cannot_be_used(values: list[str]) -> None:
    with pytest.raises(BadInput, match=r"Upload-Checksum|sha1"):
        parse_checksum(values)


def test_a_part() -> None:
    assert parse_concat(["partial"]) == Concat()


def test_parts_that_are_joined() -> None:
    concat = parse_concat([f"final;/uploads/{ID} http://a.example:8080/uploads/{OTHER}"])

    assert concat == Concat((ID, OTHER))


def test_nothing_is_joined() -> None:
    assert parse_concat([]) is None


@pytest.mark.parametrize(
    "values",
    [
        ["final"],
        ["final;"],
        [f"finally;/uploads/{ID}"],
        ["partial", "partial"],
        ["partial;x"],
        ["final;" + f" /uploads/{ID}" * (MOST_PARTS + 1)],
    ],
)
def test_a_concat_that_makes_no_sense(values: list[str]) -> None:
    with pytest.raises(BadInput, match="Upload-Concat"):
        parse_concat(values)


@pytest.mark.parametrize("url", ["/uploads/short", f"/uploads/{ID}/", "http://[", "/"])
def test_a_part_that_cannot_be_one(url: str) -> None:
    with pytest.raises(UnknownUpload):
        parse_concat([f"final;{url}"])


@pytest.mark.parametrize("text", ["", ID[:-1], ID + "a", ID[:-1] + ".", "../" + ID[3:], ID + "\n"])
def test_no_id(text: str) -> None:
    assert not is_upload_id(text)


@given(st.sampled_from([parse_metadata, parse_checksum, parse_concat]), st.text(max_size=60))
def test_garbage_is_refused_and_no_more(parse: Callable[[list[str]], object], text: str) -> None:
    with contextlib.suppress(BadInput, UnknownUpload):
        assert parse([text]) is not None  # what is there means something
