"""Random requests against plain slices: what is sent must be the file's bytes.

The generator keeps what it meant beside the text it wrote, so the oracle below
judges by RFC 9110 from the meaning and never parses a field.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from dtfc.http.dates import http_date
from dtfc.http.ranges import MAX_RANGES, Plan, Representation, Span, plan

CASES = 120_000
BOUNDARY = "zK3-boundary_of-20-ch"
KIND = "image/jpeg"
ETAG = '"' + "ab" * 64 + '"'
OTHER = '"' + "cd" * 64 + '"'
MODIFIED = 1_700_000_000

Bounds = tuple[int, int]


@dataclass
class Asked:
    """A request as text, and what it means."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    # Range: the slices wanted, empty ones included; None: absent or to be ignored
    slices: list[Bounds] | None = None
    if_range: bool = True
    if_match: bool | None = None
    unmodified: bool | None = None
    none_match: bool | None = None
    modified: bool | None = None

    def get(self, name: str) -> list[str]:
        return self.fields.get(name, [])


def blanks(rng: random.Random) -> str:
    return rng.choice(["", "", "", " ", "\t", "  "])


def one_range(rng: random.Random, length: int) -> tuple[str, Bounds | None]:
    """Return a range's text and the slice it means; None: it makes the set malformed."""
    first = rng.randrange(length + 3)
    start = min(first, length)
    shape = rng.choices(
        ["closed", "open", "suffix", "past", "far", "empty", "bad"], [9, 3, 4, 1, 1, 1, 1]
    )[0]
    text, meant = "", (0, 0)
    if shape == "closed":
        last = first + rng.choice([0, 1, rng.randrange(40), rng.randrange(length + 9)])
        zeros = "0" * rng.choice([0, 0, 0, 2])
        text, meant = f"{zeros}{first}-{last}", (start, min(last + 1, length))
    elif shape == "open":
        text, meant = f"{first}-", (start, length)
    elif shape == "suffix":
        count = rng.choice([0, 1, rng.randrange(length + 5), 10 ** rng.randrange(1, 60)])
        text, meant = f"-{count}", (max(0, length - count), length)
    elif shape == "past":
        huge = 10 ** rng.randrange(18, 80)
        text, meant = f"{huge}-{huge + rng.randrange(3)}", (length, length)
    elif shape == "far":
        text, meant = f"{first}-{10 ** rng.randrange(18, 80)}", (start, length)
    elif shape == "bad":
        before = f"{first + 1}-{first}"
        bad = ["-", "a-b", "+1-2", "1_0-20", "1 -2", "1--2", "0x1-2", "\u0661-", before]
        return rng.choice(bad), None
    return text, meant


def add_range(rng: random.Random, asked: Asked, length: int) -> None:
    if length > 20_000 and rng.random() < 0.3:  # many far apart
        ranges: list[tuple[str, Bounds | None]]
        starts = [rng.randrange(length) for _ in range(rng.randrange(12, 30))]
        ranges = [(f"{start}-{start}", (start, start + 1)) for start in starts]
    else:
        count = rng.choice([1, 1, 1, 2, 2, 3, 5, 10, rng.randrange(1, 45)])
        ranges = [one_range(rng, length) for _ in range(count)]
    unit = rng.choice(["bytes", "bytes", "bytes", "Bytes", "BYTES"])
    wrong_unit = rng.random() < 0.02
    members = [f"{blanks(rng)}{text}{blanks(rng)}" for text, _ in ranges]
    text = f"{'lines' if wrong_unit else unit}={','.join(members)}"
    asked.fields["range"] = [text] * (2 if rng.random() < 0.01 else 1)
    meant = [bounds for text, bounds in ranges if text]
    if wrong_unit or not meant or len(text) > 1024 or len(asked.fields["range"]) > 1:
        return
    if all(bounds is not None for bounds in meant):
        asked.slices = [bounds for bounds in meant if bounds is not None]


def some_tags(rng: random.Random) -> tuple[list[str], bool | None, bool | None]:
    """Return field lines, and whether they match strongly and weakly (None: malformed)."""
    if rng.random() < 0.15:
        return ["*"], True, True
    tags = rng.choices([ETAG, f"W/{ETAG}", OTHER, '"a,b"', '""', 'W/"x"'], k=rng.randrange(1, 4))
    strongly, weakly = ETAG in tags, ETAG in tags or f"W/{ETAG}" in tags
    if rng.random() < 0.1:
        tags.insert(rng.randrange(len(tags) + 1), rng.choice(["abc", '"open', 'w/"x"', "*"]))
        return [f"{blanks(rng)},".join(tags)], None, None
    if rng.random() < 0.3:
        return tags, strongly, weakly
    return [f"{blanks(rng)},{blanks(rng)}".join(tags)], strongly, weakly


def some_date(rng: random.Random) -> tuple[str, int | None]:
    if rng.random() < 0.1:
        return rng.choice(["yesterday", "0", http_date(MODIFIED)[:-4]]), None
    at = MODIFIED + rng.choice([-86400, -1, 0, 1, 86400])
    return http_date(at), at


def add_conditions(rng: random.Random, asked: Asked) -> None:
    if rng.random() < 0.25:
        asked.fields["if-match"], strongly, _ = some_tags(rng)
        asked.if_match = bool(strongly)
    if rng.random() < 0.25:
        text, at = some_date(rng)
        asked.fields["if-unmodified-since"] = [text]
        asked.unmodified = None if at is None else at >= MODIFIED
    if rng.random() < 0.25:
        asked.fields["if-none-match"], _, weakly = some_tags(rng)
        asked.none_match = not weakly
    if rng.random() < 0.25:
        text, at = some_date(rng)
        asked.fields["if-modified-since"] = [text]
        asked.modified = None if at is None else at < MODIFIED
    if rng.random() < 0.4:
        if rng.random() < 0.5:
            text, at = some_date(rng)
            asked.if_range = at == MODIFIED
        else:
            text = rng.choice([ETAG, ETAG, f"W/{ETAG}", OTHER, "abc", f"{ETAG}, {ETAG}"])
            asked.if_range = text == ETAG
        asked.fields["if-range"] = [text]


def condition_outcome(asked: Asked) -> int | None:
    """RFC 9110 section 13.2.2, word by word, for GET and HEAD."""
    if asked.if_match is not None:  # step 1
        if not asked.if_match:
            return 412
    elif asked.unmodified is False:  # step 2
        return 412
    if "if-none-match" in asked.fields:  # step 3
        if not asked.none_match:
            return 304
    elif asked.modified is False:  # step 4
        return 304
    return None  # steps 5 and 6


def part_head(start: int, stop: int, length: int) -> bytes:
    return (
        f"\r\n--{BOUNDARY}\r\nContent-Type: {KIND}\r\n"
        f"Content-Range: bytes {start}-{stop - 1}/{length}\r\n\r\n"
    ).encode()


def multipart_of(groups: list[Bounds], data: bytes) -> bytes:
    parts = [part_head(*bounds, len(data)) + data[slice(*bounds)] for bounds in groups]
    return b"".join(parts) + f"\r\n--{BOUNDARY}--\r\n".encode()


def pieces(slices: list[Bounds], length: int) -> list[Bounds]:
    """Group by brute force, whatever lies closer than a part's header, in request order."""
    head = len(part_head(length - 1, length, length))
    groups: list[Bounds] = []
    for bounds in slices:
        low, high = bounds
        place = len(groups)
        near = True
        while near:
            near = False
            for index, (start, stop) in enumerate(groups):
                if low - stop < head and start - high < head:
                    low, high, place = min(start, low), max(stop, high), min(place, index)
                    del groups[index]
                    near = True
                    break
        groups.insert(place, (low, high))
    return groups


def body_of(planned: Plan, data: bytes) -> bytes:
    return b"".join(
        data[part.start : part.start + part.length] if isinstance(part, Span) else part
        for part in planned.parts
    )


def check(asked: Asked, method: str, data: bytes) -> str:
    """Compare one plan with the oracle; return which outcome it was."""
    rep = Representation(len(data), ETAG, MODIFIED)
    planned = plan(method, asked.get, rep, KIND, BOUNDARY)
    failed = condition_outcome(asked)
    if failed:
        assert planned in (Plan(304), Plan(412))
        assert planned.status == failed
        return str(failed)
    if method == "HEAD":
        assert planned == Plan(200, (), len(data))
        return "HEAD"
    body = body_of(planned, data)
    assert planned.length == len(body) <= len(data)
    slices = asked.slices if asked.if_range and data else None
    wanted = [bounds for bounds in slices or () if data[slice(*bounds)]]
    if slices is not None and not wanted:
        assert planned == Plan(416, fields=(("Content-Range", f"bytes */{len(data)}"),))
        return "416"
    groups = pieces(wanted, len(data))
    if not groups or len(groups) > MAX_RANGES:
        assert (planned.status, planned.fields, body) == (200, (), data)
        return "too many" if groups else "200"
    assert planned.status == 206
    start, stop = min(a for a, _ in groups), max(b for _, b in groups)
    multipart = multipart_of(groups, data)
    if len(groups) > 1 and len(multipart) < stop - start:
        assert body == multipart
        assert planned.fields == (("Content-Type", f"multipart/byteranges; boundary={BOUNDARY}"),)
        return "multipart"
    assert body == data[start:stop]
    assert planned.fields == (("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}"),)
    return "206" if len(groups) == 1 else "one stretch"


def test_120000_random_requests_send_what_plain_slices_hold() -> None:
    rng = random.Random(9110)
    files = [rng.randbytes(length) for length in (0, 1, 2, 10, 100, 300, 1000, 5000, 90_000)]
    outcomes: Counter[str] = Counter()
    for _ in range(CASES):
        data = rng.choice(files)
        asked = Asked()
        if rng.random() < 0.85:
            add_range(rng, asked, len(data))
        if rng.random() < 0.5:
            add_conditions(rng, asked)
        outcomes[check(asked, "GET" if rng.random() < 0.9 else "HEAD", data)] += 1
    assert sum(outcomes.values()) == CASES >= 100_000
    kinds = ["200", "206", "304", "412", "416", "HEAD", "multipart", "one stretch", "too many"]
    assert sorted(outcomes) == kinds
    assert min(outcomes.values()) > 200, outcomes
