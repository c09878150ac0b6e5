"""Every command of the documentation is typed, in its order, and writes what is said there."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.test_couchdb_live import Pouch, basic
from tests.support.documents import Command, blocks
from tests.support.live import CHECKOUT
from tests.support.programs import require_program
from tests.support.reader import Reader

PAGES = [
    *(CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((CHECKOUT / "docs").glob("*.md")),
]

#: How many blocks of each page are not run; each has its reason before it.
NOT_RUN = {
    "CONTRIBUTING.md": 1,
    "README.md": 1,
    "architecture.md": 1,
    "couchdb.md": 1,
    "mirror.md": 4,
    "proof.md": 2,
    "protocol.md": 13,
    "running.md": 16,
}


def runnable(page: Path) -> bool:
    return any(each.commands and not each.not_run for each in blocks(page))


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Somebody with a photo and a few other files."""
    require_program("ffmpeg")
    noise = "nullsrc=s=2016x1512,geq=random(1)*255:128:128"
    subprocess.run(
        [
            *("ffmpeg", "-v", "error", "-f", "lavfi", "-i", noise, "-frames:v", "1"),
            *("-q:v", "2", str(tmp_path / "photo.jpg")),
        ],
        check=True,
        timeout=60,
    )
    for name in ("tmp", "etc/dtfc", "var/lib/dtfc", "var/tmp"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "notes.txt").write_text("notes\n".ljust(129))
    server = Pouch(tmp_path / "pouch")
    server.ask("PUT", "/_config/admins/root", "relax")
    server.ask("PUT", "/photos", None, basic("root", "relax"))
    user = tmp_path / "etc/dtfc/couchdb-admin"
    user.write_text("root:relax\n")
    user.chmod(0o600)
    found = Reader(tmp_path, {"5984": int(server.url.rpartition(":")[2])})
    yield found
    found.closes()
    server.stop()


@pytest.mark.parametrize(
    "page", [page for page in PAGES if runnable(page)], ids=lambda page: page.name
)
def test_what_is_typed_does_what_is_said(page: Path, reader: Reader) -> None:
    wrong = []
    for block in blocks(page):
        for command in block.before + (block.commands if not block.not_run else []):
            found = reader.tries(command)
            if found:
                wrong.append(f"{page.name}:{block.line}: {found}")
    assert wrong == [], "\n\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_commands_is_run_or_says_why_not(page: Path) -> None:
    silent = [
        f"{page.name}:{each.line}: {each.lines[0]}"
        for each in blocks(page)
        if each.looks_like_commands and not each.commands and not each.not_run
    ]
    assert silent == []


def test_as_many_are_not_run_as_is_known() -> None:
    found = Counter(page.name for page in PAGES for each in blocks(page) if each.not_run)
    assert found == NOT_RUN


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("false", ""),
        ("printf 404", "200"),
        ("echo '{\"a\": 1}'", '{"a": 2}'),
        ("echo 1234…", "12345 and more"),
        ("printf '%s\\n' abcdef0123456789abcdef ffffff0123456789abcdef", "abcdef…1\nabcdef…1"),
    ],
)
def test_what_is_not_as_it_is_said_is_found(command: str, output: str, tmp_path: Path) -> None:
    somebody = Reader(tmp_path)
    try:
        assert somebody.tries(Command(command, output))
    finally:
        somebody.closes()


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("true", ""),
        ("printf 200", "200"),
        ("printf 'length: 48213 at 1795395218.93'", "length: 3158073 at 1.5"),
        (
            "printf '%s  a\\n%s  b' $(printf 'ab%.0s' {1..64}) $(printf 'ab%.0s' {1..64})",
            "aeffa5…9f70  a\naeffa5…9f70  b",
        ),
    ],
)
def test_what_differs_each_time_may_differ(command: str, output: str, tmp_path: Path) -> None:
    somebody = Reader(tmp_path)
    try:
        assert somebody.tries(Command(command, output)) == ""
    finally:
        somebody.closes()
