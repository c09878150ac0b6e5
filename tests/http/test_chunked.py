"""Chunked bodies: any cut gives the same bytes, and what passes through is not copied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.http.chunked import BadChunk, ChunkedDecoder, ChunkLimits

END = b"0\r\n\r\n"


def outcome(
    raw: bytes, step: int, limits: ChunkLimits | None = None
) -> tuple[int, str] | tuple[bytes, bool, bytes]:
    decoder = ChunkedDecoder(limits)
    body = b""
    try:
        for at in range(0, len(raw), step):
            body += b"".join(decoder.feed(raw[at : at + step]))
    except BadChunk as failure:
        return failure.status, failure.detail
    return body, decoder.done, decoder.rest


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A body as a sender may write it, and the bytes in it."""
    wire = data = b""
    extension = st.sampled_from([b"", b"", b";a", b" ; a = b", b';a="b\\"\xff;"', b";a;b=c"])
    for piece in draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6)):
        size = draw(st.sampled_from([b"%x", b"%X", b"%04x"])) % len(piece)
        wire += size + draw(extension) + b"\r\n" + piece + b"\r\n"
        data += piece
    wire += draw(st.sampled_from([b"0", b"000"])) + draw(extension) + b"\r\n"
    wire += draw(st.sampled_from([b"", b"X: y\r\n", b"X:\r\nContent-Length: 7\r\n"])) + b"\r\n"
    return wire, data


@given(body=bodies(), rest=st.binary(max_size=20), step=st.integers(1, 60))
def test_the_bytes_come_out_whatever_the_cut(
    body: tuple[bytes, bytes], rest: bytes, step: int
) -> None:
    wire, data = body
    assert outcome(wire + rest, step) == (data, True, rest)


@given(body=bodies(), step=st.integers(1, 60))
def test_a_body_cut_short_is_never_done(body: tuple[bytes, bytes], step: int) -> None:
    wire, _ = body
    _, done, _ = outcome(wire[:-1], step)  # type: ignore[misc] # a prefix of a good body is never refused
    assert not done


SMALL = ChunkLimits(line_bytes=12, spare_bytes=30, trailer_bytes=20, trailer_fields=2)


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    raw = bytearray(draw(bodies())[0])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 2))] = draw(
            st.binary(max_size=2)
            | st.sampled_from([b"\r\n", b"\r", b"\n", b"\0", b" ", b";", b"\r\r"])
        )
    return bytes(raw)


@given(raw=mangled() | st.binary(max_size=40), small=st.booleans(), step=st.integers(1, 50))
def test_how_it_is_cut_makes_no_difference(raw: bytes, small: bool, step: int) -> None:  # noqa: FBT001 - both are drawn
    limits = SMALL if small else None
    assert outcome(raw, step, limits) == outcome(raw, len(raw) + 1, limits)


def test_a_piece_of_a_big_chunk_is_handed_on_as_it_is() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"100000\r\n")
    data = b"x" * 65536
    (piece,) = decoder.feed(data)
    assert piece is data


def test_big_pieces_stay_apart() -> None:
    decoder = ChunkedDecoder()
    big = b"x" * 0x4000
    assert decoder.feed((b"4000\r\n" + big + b"\r\n") * 3) == [big] * 3


def test_crumbs_are_joined() -> None:
    decoder = ChunkedDecoder()
    big = b"x" * 0x4000
    crumbs = b"2\r\nab\r\n" * 100
    assert decoder.feed(crumbs + b"4000\r\n" + big + b"\r\n" + crumbs) == [
        b"ab" * 100,
        big,
        b"ab" * 100,
    ]


def test_what_is_fed_after_the_end_is_the_rest() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(END + b"GET")
    assert decoder.feed(b" /") == []
    assert (decoder.done, decoder.rest) == (True, b"GET /")


def test_a_refusal_is_final() -> None:
    decoder = ChunkedDecoder()
    with pytest.raises(BadChunk) as first:
        decoder.feed(b"x\r\n")
    with pytest.raises(BadChunk) as second:
        decoder.feed(END)
    assert first.value is second.value
    assert not decoder.done


@pytest.mark.parametrize(
    ("raw", "limits", "status"),
    [
        (b"5;ab=c\r\nhello\r\n" + END, ChunkLimits(line_bytes=6), None),
        (b"5;ab=c\r\nhello\r\n" + END, ChunkLimits(line_bytes=5), 400),
        (b"0\r\nX: y\r\n\r\n", ChunkLimits(trailer_bytes=8), None),
        (b"0\r\nX: y\r\n\r\n", ChunkLimits(trailer_bytes=7), 431),
        (b"0\r\nX: y\r\n\r\n", ChunkLimits(trailer_fields=1), None),
        (b"0\r\nX: y\r\n\r\n", ChunkLimits(trailer_fields=0), 431),
        # 5 bytes of framing for the first chunk and 3 for the last, of which
        # the data before allows 1.
        (b"1\r\na\r\n" + END, ChunkLimits(spare_bytes=7), None),
        (b"1\r\na\r\n" + END, ChunkLimits(spare_bytes=6), 400),
    ],
)
@pytest.mark.parametrize("step", [1, 100])
def test_limits_to_the_byte(raw: bytes, limits: ChunkLimits, status: int | None, step: int) -> None:
    result = outcome(raw, step, limits)
    assert (result[0] if len(result) == 2 else None) == status


def test_chunks_of_five_bytes_pass_for_ever() -> None:
    decoder = ChunkedDecoder()
    for _ in range(50):
        decoder.feed(b"5\r\nhello\r\n" * 1000)
    decoder.feed(END)
    assert decoder.done


def test_data_not_sent_yet_pays_for_nothing() -> None:
    """Announcing a huge chunk must not buy room for extensions."""
    decoder = ChunkedDecoder(ChunkLimits(spare_bytes=20))
    with pytest.raises(BadChunk):
        decoder.feed(b"ffffffffffffffff;" + b"a" * 100 + b"\r\n")


@pytest.mark.parametrize("size", [b"ffffffffffffffff", b"FFFFFFFFFFFFFFFF"])
def test_the_largest_size_overflows_nothing(size: bytes) -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(size + b"\r\nabc") == [b"abc"]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"5;\r\n", "1 to 16 hexadecimal digits"),
        (b"5\n", "lines end with CR LF"),
        (b"1\r\nab\r\n", "longer than its size"),
        (b"5;" + b"a" * 2000, "over 1024 bytes"),
        (b"0\r\nX : y\r\n", "blank between the name and the colon"),
    ],
)
def test_the_detail_says_what_is_wrong(raw: bytes, words: str) -> None:
    with pytest.raises(BadChunk, match=words):
        ChunkedDecoder().feed(raw)


@pytest.mark.parametrize("raw", [b"5\rx", b"\n", b"5\n", b"1\r\nab", b"1\r\na\rb", b"0\r\n\n"])
def test_refused_at_the_first_byte_that_proves_it(raw: bytes) -> None:
    decoder = ChunkedDecoder()
    decoder.feed(raw[:-1])
    with pytest.raises(BadChunk):
        decoder.feed(raw[-1:])


def test_a_partial_line_is_bounded() -> None:
    decoder = ChunkedDecoder()
    with pytest.raises(BadChunk):
        decoder.feed(b"5;a=" + b"b" * 10_000_000)
    assert len(decoder._line) == 0
