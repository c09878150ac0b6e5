"""The page for people, in a browser: what it shows, how it is used, and that it harms nobody.

``DTFC_PICTURES=FOLDER pytest tests/live/test_page_live.py`` leaves the pictures in a folder.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from prove.chromium import Chromium
from tests.etc.test_one_origin import HEIGHT, WIDTH, png
from tests.support.live import MIB, LiveNode, free_port, sha512_of
from tests.support.looking import DARK, DESK, PHONE, PHONE_DARK, Looking, View, looking
from tests.support.paced import PacedPeer
from tests.support.programs import require_program
from tests.support.waiting import until

VIEWS = (DESK, DARK, PHONE, PHONE_DARK)

SHOWN = "document.getElementById('fact-connections').textContent"
STATE = "document.getElementById('state-words').textContent"


@contextmanager
def node_in(folder: Path, *flags: str) -> Iterator[LiveNode]:
    """Run a node."""
    node = LiveNode(folder, ["--interface", "127.0.0.1", *flags]).start()
    try:
        yield node
    finally:
        node.end(signal.SIGKILL)
    assert "Traceback" not in node.log()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    require_program("chromium")
    with Chromium(str(tmp_path_factory.mktemp("profile")), ["files.example"]) as browser:
        yield browser


@pytest.fixture
def look(browser: Chromium, tmp_path: Path) -> Iterator[Looking]:
    with looking(browser, tmp_path) as page:
        yield page


def seen(look: Looking, view: View, name: str) -> None:
    """Look at the page in one way, and have axe look at it."""
    look.view(view)
    look.picture(f"{name}-{view.name}")
    assert look.violations() == [], view.name
    assert look.sideways() <= 0, view.name


def test_an_empty_node(look: Looking, tmp_path: Path) -> None:
    with node_in(tmp_path / "node") as node:
        look.go(node.url)
        look.until(SHOWN)
        look.until("document.getElementById('found-words').textContent")
        for view in VIEWS:
            seen(look, view, "empty")
        assert "No file has been stored here yet." in look.text()
        assert look.elsewhere(node.url) == []
        assert look.complaints() == []


def fill(node: LiveNode) -> None:
    """Store what there is to be found."""
    node.put("notes%20of%20the%20day.txt", b"What was seen today:\n\n  three herons\n" * 12)
    node.put("holiday.png", png(WIDTH, HEIGHT))
    node.put("interview%20with%20a%20very%20long%20name%20" + "x" * 90 + ".mp3", os.urandom(70_000))
    node.put("archive.zip", os.urandom(2 * MIB))
    # Whoever is allowed to store a file chooses its name.
    node.put("%3Cimg%20src=x%20onerror=document.title='broken'%3E.png", b"no picture")


@contextmanager
def slow_reader(node: LiveNode, digest: str) -> Iterator[None]:
    """Begin to fetch a blob, and take little of it."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
    try:
        connection.request("GET", f"/{digest}")
        answer = connection.getresponse()
        answer.read(100_000)
        yield
    finally:
        connection.close()


def test_a_busy_node_with_a_dead_peer(look: Looking, tmp_path: Path) -> None:
    wanted = tmp_path / "film.mkv"
    wanted.write_bytes(os.urandom(64 * MIB))
    paced = PacedPeer(wanted, free_port(), 1.5e6)
    peers = tmp_path / "peers"
    # One that is dead, and a line that makes no sense.
    peers.write_text(f"{paced.url} zone=attic\nhttp://127.0.0.1:{free_port()}\nnonsense\n")
    mine = tmp_path / "map of the world.tif"
    mine.write_bytes(os.urandom(24 * MIB))
    couchdb = f"http://127.0.0.1:{free_port()}"
    flags = ("--peerlist", str(peers), "--replicas", "2", "--couchdb", couchdb)
    with node_in(tmp_path / "node", *flags, "--couchdb-db", "photos") as node:
        fill(node)
        gone = node.put("gone.txt", b"gone")
        assert node.request("DELETE", f"/{gone}/allpeers")[0] == 202
        large = node.put("recording.flac", os.urandom(48 * MIB))
        # Whom it asks in vain, so that it knows.
        assert node.request("GET", f"/{'ab' * 64}")[0] in (404, 503)
        with slow_reader(node, large), slow_reader(node, sha512_of(wanted)):
            look.go(node.url)
            look.until(SHOWN)
            look.slowly(up=1.2e6)
            look.choose("#files", mine)
            look.until("document.querySelectorAll('#moving li').length >= 2")
            # Something is to be seen of the last seconds, and of the upload.
            look.until("document.querySelector('#chart-requests .line')?.getTotalLength() > 40")
            look.until("document.querySelector('#uploads progress').value > 0")
            for view in VIEWS:
                seen(look, view, "busy")
            told = look.text()
            assert look.complaints() == []
    paced.close()
    assert "not reached" in told
    assert "From peers (1)" in told
    assert "line 3: an address starts with" in told
    assert "photos" in told
    assert "map of the world.tif" in told
    assert look.run("document.title") != "broken"
    assert look.elsewhere(node.url) == []


BROUGHT = "correct-horse-battery-staple-0123456789"


@pytest.fixture
def tokens(tmp_path: Path) -> str:
    """A file with one token."""
    path = tmp_path / "tokens"
    path.write_text(f"desk {hashlib.sha256(BROUGHT.encode()).hexdigest()} get,head,put\n")
    return str(path)


def bring_token(look: Looking) -> None:
    look.run("document.getElementById('token').focus()")
    look.do("Input.insertText", text=BROUGHT)
    look.press("Enter", code=13)


def test_a_token_is_asked_for_where_only_storing_needs_it(
    look: Looking, tmp_path: Path, tokens: str, large: Path
) -> None:
    with node_in(tmp_path / "node", "--tokens", tokens) as node:
        # Under a name of somebody's nobody is this machine.
        look.go(f"http://files.example:{node.port}")
        look.until(f"{STATE} === 'Serving'")
        assert look.run("document.getElementById('gate').hidden") is True
        look.drop(large)
        look.until("!document.getElementById('gate').hidden")
        seen(look, DESK, "forbidden")
        bring_token(look)
        look.run(
            "[...document.querySelectorAll('#uploads button')]"
            ".find(each => each.textContent.startsWith('Try again')).click()"
        )
        look.until(DONE)
        assert stored_here(node, large)


def test_no_token_is_asked_for_where_none_would_help(
    look: Looking, tmp_path: Path, large: Path
) -> None:
    with node_in(tmp_path / "node") as node:
        look.go(f"http://files.example:{node.port}")
        look.until(f"{STATE} === 'Serving'")
        look.drop(large)
        look.until("!document.getElementById('gate').hidden")
        assert look.run("document.getElementById('token-form').hidden") is True
        assert "the operator lists further names with --host" in look.text()


def test_a_node_that_tells_only_whom_it_knows(look: Looking, tmp_path: Path, tokens: str) -> None:
    with node_in(tmp_path / "node", "--private", "--tokens", tokens) as node:
        fill(node)
        url = f"http://files.example:{node.port}"
        look.go(url)
        look.until(f"{STATE} === 'Not readable'")
        seen(look, DESK, "gate")
        assert "tells only whom it knows" in look.text()
        bring_token(look)
        look.until(f"{STATE} === 'Serving'")
        look.until("document.querySelectorAll('#found li').length === 5")
        assert look.run("sessionStorage.length") == 1
        assert (
            look.run("Object.values(localStorage).join() + document.cookie + location") == f"{url}/"
        )
        # A picture that only a token opens.
        look.run(
            "[...document.querySelectorAll('#found button')]"
            ".find(each => each.textContent === 'Preview: holiday.png').click()"
        )
        look.until(f"document.querySelector('#preview img')?.naturalWidth === {WIDTH}")
        look.press("Escape", code=27)
        seen(look, DESK, "token")
        assert look.elsewhere(url) == []


def test_a_file_is_found_and_looked_at(look: Looking, tmp_path: Path) -> None:
    with node_in(tmp_path / "node") as node:
        fill(node)
        look.go(node.url)
        look.until("document.querySelectorAll('#found li').length === 5")
        look.run("document.getElementById('prefix').focus()")
        look.do("Input.insertText", text="notes")
        look.press("Enter", code=13)
        look.until("document.querySelectorAll('#found li').length === 1")
        look.run("document.querySelectorAll('#found button')[1].focus()")
        look.press("Enter", code=13)
        look.until("document.querySelector('#preview pre')")
        seen(look, DESK, "preview")
        assert "three herons" in look.run("document.querySelector('#preview pre').textContent")
        look.press("Escape", code=27)
        look.until("!document.getElementById('preview').open")


def test_a_picture_is_looked_at(look: Looking, tmp_path: Path) -> None:
    with node_in(tmp_path / "node") as node:
        node.put("holiday.png", png(WIDTH, HEIGHT))
        look.go(node.url)
        look.until("document.querySelectorAll('#found button').length === 2")
        look.run("document.querySelectorAll('#found button')[1].click()")
        look.until(f"document.querySelector('#preview img')?.naturalWidth === {WIDTH}")
        seen(look, DARK, "picture")
        assert look.complaints() == []


def test_names_come_page_by_page(look: Looking, tmp_path: Path) -> None:
    with node_in(tmp_path / "node") as node:
        for number in range(25):
            node.put(f"{number:02}.txt", b"%d" % number)
        look.go(node.url)
        look.until("document.querySelectorAll('#found li').length === 10")
        for count in (20, 25):
            look.run("document.getElementById('more').click()")
            look.until(f"document.querySelectorAll('#found li').length === {count}")
        assert look.run("document.getElementById('more').hidden") is True


DONE = "document.querySelector('#uploads [data-state=done]')"
WORDS = "document.querySelector('#uploads .words').textContent"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of several parts."""
    path = tmp_path / "film of the holidays.mkv"
    path.write_bytes(os.urandom(30 * MIB))
    return path


def half_sent(look: Looking, path: Path) -> None:
    """Drop a file, and wait until some of it has arrived."""
    look.until(SHOWN)
    look.slowly(up=6e6)
    look.drop(path)
    look.until("Number((/^([0-9]+) %/.exec(" + WORDS + ") ?? [0, 0])[1]) >= 40")


def gone_on(look: Looking) -> float:
    """Return after how many MiB an upload that is done was gone on with."""
    found = re.search(r"gone on with at ([0-9.]+) MiB", look.run(WORDS))
    assert found is not None, look.run(WORDS)
    return float(found[1])


def test_an_upload_goes_on_when_the_node_was_killed(
    look: Looking, tmp_path: Path, large: Path
) -> None:
    with node_in(tmp_path / "node") as node:
        look.go(node.url)
        half_sent(look, large)
        node.end(signal.SIGKILL)
        look.until("document.querySelector('#uploads [data-state=resting]')")
        seen(look, PHONE, "interrupted")
        node.start()
        look.until(DONE)
        assert gone_on(look) >= 8
        assert stored_here(node, large)
        assert look.run("Object.keys(localStorage).length") == 0


def test_an_upload_goes_on_when_the_page_was_left(
    look: Looking, tmp_path: Path, large: Path
) -> None:
    with node_in(tmp_path / "node") as node:
        look.go(node.url)
        half_sent(look, large)
        look.go(node.url)
        look.until("document.querySelector('#uploads [data-unfinished]')")
        assert "Choose the same file again" in look.text()
        seen(look, DESK, "unfinished")
        look.choose("#files", large)
        look.until(DONE)
        assert gone_on(look) >= 8
        assert stored_here(node, large)


def test_an_upload_that_was_paused_goes_on(look: Looking, tmp_path: Path, large: Path) -> None:
    with node_in(tmp_path / "node") as node:
        look.go(node.url)
        half_sent(look, large)
        look.run("document.querySelector('#uploads button').click()")
        look.until("document.querySelector('#uploads [data-state=paused]')")
        look.run("document.activeElement.click()")
        look.until(DONE)
        assert stored_here(node, large)


def test_an_upload_that_was_given_up_leaves_nothing(
    look: Looking, tmp_path: Path, large: Path
) -> None:
    with node_in(tmp_path / "node") as node:
        look.go(node.url)
        half_sent(look, large)
        look.run(
            "[...document.querySelectorAll('#uploads button')]"
            ".find(each => each.textContent.startsWith('Cancel')).click()"
        )
        look.until("document.querySelector('#uploads [data-state=cancelled]')")
        assert look.run("Object.keys(localStorage).length") == 0
        until(lambda: not list((node.basedir / "uploads").glob("*")), look.text)


def test_what_the_node_refuses_is_said(look: Looking, tmp_path: Path, large: Path) -> None:
    with node_in(tmp_path / "node", "--max-body", "10M") as node:
        look.go(node.url)
        look.until(SHOWN)
        look.drop(large)
        look.until("document.querySelector('#uploads [data-state=failed]')")
        seen(look, DESK, "refused")
        assert "too large" in look.run(WORDS)


def stored_here(node: LiveNode, path: Path) -> bool:
    return node.request("HEAD", f"/{sha512_of(path)}/nopeerload")[0] == 200


def test_a_small_file_is_dropped(look: Looking, tmp_path: Path) -> None:
    small = tmp_path / "größe & #1?.txt"
    small.write_bytes(b"small")
    with node_in(tmp_path / "node") as node:
        look.go(node.url)
        look.until(SHOWN)
        look.drop(small)
        look.until("document.querySelector('#uploads [data-state=done]')")
        assert stored_here(node, small)
        look.until("document.querySelectorAll('#found li').length === 1")
        assert small.name in look.run("document.getElementById('found').innerText")


def test_without_scripts_there_is_a_form_and_the_facts(look: Looking, tmp_path: Path) -> None:
    with node_in(tmp_path / "node") as node:
        fill(node)
        look.view(DESK)
        look.do("Emulation.setScriptExecutionDisabled", value=True)
        look.go(node.url)
        look.picture("no-script-desk")
        look.do("Emulation.setScriptExecutionDisabled", value=False)
        told = look.text()
        assert "Without JavaScript" in told
        assert look.run("document.getElementById('fact-blobs').textContent") == "5"


def test_a_node_that_goes_away_and_comes_back(look: Looking, tmp_path: Path) -> None:
    with node_in(tmp_path / "node") as node:
        look.go(node.url)
        look.until(f"{STATE} === 'Serving'")
        node.end(signal.SIGKILL)
        look.until(f"{STATE} === 'No answer'")
        seen(look, PHONE, "gone")
        node.start()
        look.until(f"{STATE} === 'Serving'")


def test_it_is_used_by_keyboard(look: Looking, tmp_path: Path) -> None:
    with node_in(tmp_path / "node") as node:
        fill(node)
        look.go(node.url)
        look.until("document.querySelectorAll('#found li').length === 5")
        reached = []
        for _ in range(12):
            look.press("Tab", code=9)
            reached.append(
                look.run(
                    "(each => each.id || each.getAttribute('aria-label') || each.textContent)"
                    "(document.activeElement)"
                )
            )
        look.picture("keyboard-desk")
        assert reached[0] == "Skip to the content"
        assert {"pause", "files", "prefix"} <= set(reached)
        assert len(set(reached)) == len(reached)


def test_the_rates_are_of_all_workers(tmp_path: Path) -> None:
    with node_in(tmp_path / "node", "--workers", "2") as node:

        def told() -> Any:
            return json.loads(node.request("GET", "/status.json")[2])

        # What came before the first sample is in none.
        until(lambda: told()["rates"]["samples"], lambda: str(told()))
        # Each on a connection of its own, which any worker may get.
        for _ in range(40):
            assert node.request("GET", "/livez")[0] == 200

        def counted() -> float:
            return 2 * float(sum(each[1] for each in told()["rates"]["samples"]))

        until(lambda: counted() >= 35, lambda: str(counted()))
        assert told()["node"]["workers"] == 2


def test_what_the_fast_lane_sends_is_told_too(tmp_path: Path) -> None:
    with node_in(tmp_path / "node") as node:
        digest = node.put("recording.flac", os.urandom(48 * MIB))
        assert node.request("GET", f"/{digest}")[0] == 200

        def hot() -> bool:
            told = node.request("GET", "/metrics")[2].decode()
            return "dtfc_http_hot_hits_total 0.0" not in told

        def downloads() -> Any:
            return json.loads(node.request("GET", "/status.json")[2])["downloads"]

        until(lambda: node.request("GET", f"/{digest}")[0] == 200 and hot())
        with slow_reader(node, digest):
            until(lambda: downloads()["running"] == 1, downloads)
            told = downloads()["largest"][0]
        assert (told["sha512"], told["length"]) == (digest, 48 * MIB)
        assert 0 < told["done"] < 48 * MIB
        until(lambda: downloads()["running"] == 0, downloads)
