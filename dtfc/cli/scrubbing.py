"""``dtfc verify`` and ``dtfc scrub``: is what lies here what it should be?"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

from dtfc.digest import Digest
from dtfc.errors import Absent
from dtfc.integrity.progress import Ledger
from dtfc.integrity.residency import best
from dtfc.integrity.scrubbing import BAD, MEANING, Finding, Reader, Scrub
from dtfc.store.blobs import Store

_REDRAW = 0.2  # seconds

# Blobs whose verification is entered into the catalog at once.
_NOTED_TOGETHER = 500


@dataclass(slots=True)
class Screen:
    """Where progress is shown, if somebody looks.

    Args:
        stream: standard error.
        total: bytes that will be read.
        began: in seconds of the monotonic clock.
    """

    stream: TextIO
    total: int
    began: float
    drawn: float = 0.0

    def draw(self, done: int, *, over: bool = False) -> None:
        """Show how far it is, now and then."""
        now = time.monotonic()
        if not self.stream.isatty() or (now - self.drawn < _REDRAW and not over):
            return
        self.drawn = now
        rate = done / max(now - self.began, 0.001)
        share = min(1.0, done / self.total) if self.total else 1.0
        bar = ("#" * round(30 * share)).ljust(30)
        self.stream.write(f"\r[{bar}] {share:4.0%}  {_size(done)}  {_size(rate)}/s\x1b[K")
        if over:
            self.stream.write("\n")
        self.stream.flush()


def verify(store: Store, wanted: Sequence[str], *, as_json: bool) -> int:
    """Read blobs and compare them with their digests; change nothing.

    Args:
        store: where they lie.
        wanted: digests in hexadecimal; none for all blobs.
        as_json: print one JSON object instead of lines.

    Returns:
        The exit code: 1 if anything is damaged or missing.

    Raises:
        DtfcError: the store cannot be read, or one of them is no digest.
    """
    digests = [Digest.from_hex(each) for each in wanted]
    scrub = Scrub(store, Reader(best()), mend=False)
    absent: list[Digest] = []

    def steps() -> Iterator[int]:
        if not digests:
            yield from scrub.steps()
        for digest in digests:
            blobs = scrub.tally.blobs
            with suppress(Absent):
                yield from scrub.one(digest)
            if scrub.tally.blobs == blobs:
                absent.append(digest)

    total = store.catalog.totals().bytes if not digests else 0
    for _ in _shown(steps(), scrub, total, as_json=as_json):
        scrub.right.clear()
    findings = [*scrub.findings, *(Finding("missing", each.hex, each) for each in absent)]
    return _report(scrub, findings, as_json=as_json)


def scrub_now(store: Store, *, as_json: bool) -> int:
    """Read everything now; put damaged blobs into quarantine.

    A running node brings back from its peers what lies there.

    Returns:
        The exit code: 1 if anything is damaged or missing.

    Raises:
        DtfcError: the store cannot be read.
    """
    scrub = Scrub(store, Reader(best()))
    treated = 0

    def treat() -> None:
        nonlocal treated
        for finding in scrub.findings[treated:]:
            if finding.kind == "corrupt" and finding.digest is not None:
                store.repair.quarantine(finding.digest, finding.inode)
        treated = len(scrub.findings)

    def note() -> None:
        store.catalog.note_verified(scrub.right, time.time())
        scrub.right.clear()

    total = store.catalog.totals().bytes
    for _ in _shown(scrub.steps(), scrub, total, as_json=as_json):
        # At once: a node may heal it, or a client put it, before all is read.
        treat()
        if len(scrub.right) >= _NOTED_TOGETHER:
            note()
    treat()
    note()
    return _report(scrub, scrub.findings, as_json=as_json)


def show_progress(store: Store, *, as_json: bool) -> int:
    """Say how far the scrub of the running node is."""
    progress = Ledger(store.layout.own("scrub")).read()
    total = store.catalog.totals()
    quarantine = len(store.repair.quarantined())
    if as_json:
        facts = {
            "under_way": progress.under_way,
            "began": progress.began or None,
            "ended": progress.ended or None,
            "blobs": progress.blobs,
            "bytes": progress.bytes,
            "of_blobs": total.blobs,
            "of_bytes": total.bytes,
            "damaged": progress.corrupt,
            "quarantine": quarantine,
        }
        sys.stdout.write(json.dumps(facts) + "\n")
        return 0
    if progress.under_way:
        sys.stdout.write(
            f"scrubbing since {_date(progress.began)}: {progress.blobs} of {total.blobs} blobs, "
            f"{_size(progress.bytes)} of {_size(total.bytes)}; damaged: {progress.corrupt}\n"
        )
    if progress.ended:
        sys.stdout.write(f"the last pass ended {_date(progress.ended)}\n")
    elif not progress.under_way:
        sys.stdout.write("no pass has begun\n")
    sys.stdout.write(f"in quarantine: {quarantine}\n")
    return 0


def _shown(steps: Iterator[int], scrub: Scrub, total: int, *, as_json: bool) -> Iterator[None]:
    """Take the steps, and show how far they are and what they find."""
    screen = Screen(sys.stderr, total, time.monotonic())
    told = 0
    for _ in steps:
        screen.draw(scrub.tally.bytes)
        while told < len(scrub.findings) and not as_json:
            _tell(scrub.findings[told])
            told += 1
        yield
    screen.draw(scrub.tally.bytes, over=True)


def _tell(finding: Finding) -> None:
    with suppress(BrokenPipeError):
        sys.stdout.write(f"{finding.kind}: {finding.where}: {MEANING[finding.kind]}\n")
        sys.stdout.flush()


def _report(scrub: Scrub, findings: Sequence[Finding], *, as_json: bool) -> int:
    bad = [each for each in findings if each.kind in BAD]
    if as_json:
        facts = {
            "blobs": scrub.tally.blobs,
            "bytes": scrub.tally.bytes,
            "findings": [{"kind": each.kind, "where": each.where} for each in findings],
        }
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        for each in findings[len(scrub.findings) :]:
            _tell(each)
        sys.stdout.write(
            f"{scrub.tally.blobs} blobs, {_size(scrub.tally.bytes)} read; "
            f"damaged or missing: {len(bad)}; other findings: {len(findings) - len(bad)}\n"
        )
    return 1 if bad else 0


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
