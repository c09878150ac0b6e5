"""Proof: no file of a node runs a script in Chromium, and no page of another site changes one.

Hostile files are opened in a window, and from a page of another site in a frame, as
an object, a picture, a style, a worker and so on, under names that change their type.
The same files on an ordinary server run their scripts: if they do not, nothing was
proved. Pages of other sites, and one whose host name has been made to lead to the
node (DNS rebinding), send forms and requests of all kinds. :mod:`prove.sites` has those.
"""

from __future__ import annotations

import http.server
import json
import mimetypes
import shutil
import socketserver
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Self

from prove import sites
from prove.chromium import Chromium, Page, Said
from prove.figures import Row
from prove.hostile import RAN, File, files
from prove.house import House
from prove.slow import store
from prove.zygote import Zygote

#: Names that lead to this machine: the node's, the attacker's, one that has been rebound.
HOSTS = ("node.example", "attacker.example", "rebound.example", "beacon.example")

#: Files that an ordinary server must make run, or the browser ran nothing at all.
MUST_RUN = frozenset({"page.html", "onload.svg", "script.svg", "page.xhtml"})

#: What is asked for of each file, besides its URL.
WAYS = (
    *("", "?inline=1", "?name=evil.html", "?name=evil.html&inline=1", "?name=evil.svg&inline=1"),
    *("?name=evil.xhtml&inline=1", "?name=evil.xml&inline=1", "?name=evil.pdf&inline=1"),
    *("?name=evil.txt&inline=1", "?name=evil.jpg&inline=1", "?name=evil.mhtml&inline=1"),
    *("?name=evil.js&inline=1", "?name=evil.css&inline=1", "/nopeerload?inline=1"),
)

_HTML = "text/html; charset=utf-8"

#: How a page of another site may show a file; each names U.
_EMBEDDED = """
<iframe src="U"></iframe><iframe sandbox="allow-scripts" src="U"></iframe>
<object data="U"></object><object type="text/html" data="U"></object>
<object type="image/svg+xml" data="U"></object><embed src="U"><embed type="text/html" src="U">
<embed type="image/svg+xml" src="U"><embed type="application/pdf" src="U">
<img src="U"><svg><image href="U"/><use href="U#a"/></svg><video src="U"><track default src="U">
</video><audio src="U"></audio><input type="image" src="U"><link rel="stylesheet" href="U">
<link rel="manifest" href="U"><link rel="icon" href="U"><link rel="preload" as="script" href="U">
<script src="U"></script><script type="module" src="U"></script>
<iframe srcdoc="<script src='U'></script>"></iframe><p style="background:url('U')">
"""

#: And how a script of that page may.
_OPENED = """
const worker = new Blob(["for(const u of URLS)try{importScripts(u)}catch(e){}".replace(
    "URLS", JSON.stringify(URLS))]);
try { new Worker(URL.createObjectURL(worker)) } catch (e) {}
for (const u of URLS) {
  try { new Worker(u) } catch (e) {}
  try { new SharedWorker(u) } catch (e) {}
  try { navigator.serviceWorker.register(u).catch(() => 0) } catch (e) {}
  import(u).catch(() => 0);
}
"""


class Sink:
    """A server that answers with what it is given, and notes what is asked of it.

    Args:
        answer: is called with a path; returns a type and a body.
    """

    def __init__(self, answer: Callable[[str], tuple[str, bytes]]) -> None:
        asked: list[str] = []

        class Answering(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                kind, body = answer(self.path)
                self.send_response(307 if kind.startswith("http:") else 200)
                self.send_header("Location" if kind.startswith("http:") else "Content-Type", kind)
                for name, value in sites.fields(self.path):
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 -- the library's name

            def log_message(self, *_words: object) -> None:
                """Say nothing."""

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True

            def handle_error(self, *_where: object) -> None:
                """Say nothing of a browser that has gone."""

        self.asked = asked
        self._server = Server(("127.0.0.1", 0), Answering)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass
class Seen:
    """What was seen of the files."""

    opened: int = 0
    shown: int = 0
    embedded: int = 0
    scripts: int = 0
    wrong: list[str] = field(default_factory=list)


def is_breach(said: Said, node: int, scripts: frozenset[str] = frozenset()) -> bool:
    """Whether a script ran that a node's answer should not have started.

    What a page of another site loads as a script, under a name that makes it one,
    runs as that page's own: a page can run what it likes. Nothing else may.

    Args:
        said: what it wrote.
        node: the node's port.
        scripts: digests of blobs that were stored under the name of a script.
    """
    if not said.text.startswith(RAN):
        return False
    where = said.text.split(" ", 2)[2]
    return f":{node}/" in where or not is_script(said.script, node, scripts)


def is_script(url: str, node: int, scripts: frozenset[str]) -> bool:
    """Whether a URL of the node is that of something it calls a script."""
    path = url.partition("#")[0]
    name = path.partition("?name=")[2].partition("&")[0]
    stored = not name and any(digest in path for digest in scripts)
    return f":{node}/" in url and (stored or name.endswith(".js"))


def _control(browser: Chromium, chosen: list[File], beacon: Sink, seen: Seen) -> int:
    """Open the files on an ordinary server; return how many ran."""
    bodies = {f"/{file.name}": file.body for file in chosen}

    def answer(path: str) -> tuple[str, bytes]:
        return mimetypes.guess_type(path)[0] or "text/plain", bodies.get(path, b"")

    with Sink(answer) as plain:
        page = browser.page()
        for file in chosen:
            page.go(f"http://localhost:{plain.port}/{file.name}", 5)
            browser.titles.add(str(page.run("document.title")))
        must = MUST_RUN & {file.name for file in chosen}
        browser.wait(lambda: all(f"/{name}" in beacon.asked for name in must), 5)
        page.close()
    told = {said.text.split(" ")[1] for said in browser.said if said.text.startswith(RAN)}
    titles = {title.split(" ")[1] for title in browser.titles if title.startswith(RAN)}
    for name in must:
        for what, names in (("console", told), ("beacon", {path[1:] for path in beacon.asked})):
            if name not in names:
                seen.wrong.append(f"control: {name} did not run on an ordinary server ({what})")
    if not titles & must:
        seen.wrong.append("control: no title was changed on an ordinary server")
    browser.settle(1.0)  # titles of pages that are closed by now may still come
    browser.said.clear()
    browser.titles.clear()
    beacon.asked.clear()
    return len(told)


def _open(page: Page, url: str, seen: Seen) -> None:
    seen.opened += 1
    shown = page.go(url, 5)
    seen.shown += shown
    if shown:
        page.browser.titles.add(str(page.run("document.title")))


def _embed(page: Page, site: Sink, pages: dict[str, str], urls: list[str], seen: Seen) -> None:
    path = f"/{len(pages)}.html"
    parts = "".join(_EMBEDDED.replace("U", url.replace("&", "&amp;")) for url in urls)
    opened = f"const URLS = {json.dumps(urls)};\n{_OPENED}"
    pages[path] = f"<!doctype html><title>x</title>{parts}<script>{opened}</script>"
    page.go(f"http://localhost:{site.port}{path}", 10)
    page.browser.settle(0.2)
    seen.embedded += len(urls)


def open_files(  # noqa: PLR0917 -- one scene
    browser: Chromium, house: House, chosen: list[File], beacon: Sink, chance: Random, ways: int
) -> tuple[Seen, int]:
    """Open files in every way; return what was seen, and how many ran on an ordinary server."""
    seen = Seen()
    ran = _control(browser, chosen, beacon, seen)
    digests = {file.name: store(house.port, file.name, file.body) for file in chosen}
    pages: dict[str, str] = {}
    with Sink(lambda path: (_HTML, pages.get(path, "").encode())) as site:
        page = browser.page()
        for file in chosen:
            host = chance.choice(("127.0.0.1", "localhost", "node.example"))
            start = f"http://{host}:{house.port}/{digests[file.name]}"
            for way in chance.sample(WAYS, ways):
                _open(page, start + way, seen)
            # A few of them at a time: each makes some thirty requests.
            some = ["", "?name=evil.js", *chance.sample(WAYS[1:], max(1, ways // 4))]
            _embed(page, site, pages, [start + way for way in some], seen)
        browser.settle(0.5)
        page.close()
    scripts = frozenset(digests[name] for name in digests if name.endswith((".js", ".mjs")))
    for said in set(browser.said):
        if said.text.startswith(RAN):
            seen.scripts += not is_breach(said, house.port, scripts)
            if is_breach(said, house.port, scripts):
                seen.wrong.append(f"{said.text[:200]} by {said.script[-60:]}")
    # A title or a request of a script that may run is from a file of which the console tells.
    may = {said.text.split(" ")[1] for said in browser.said if said.text.startswith(RAN)}
    titles = {title.split(" ")[1] for title in browser.titles if title.startswith(RAN)}
    for name in {path[1:] for path in beacon.asked} | titles:
        if name not in may and name in digests:
            seen.wrong.append(f"{name}: a title or a request without a word on the console")
    return seen, ran


def look(seed: int, count: int, ways: int = len(WAYS)) -> list[Row]:
    """Open so many files in so many ways, and let the pages of other sites try."""
    names = (
        "hostile files in Chromium: a script that ran",
        "pages of other sites in Chromium: something changed or read",
    )
    if shutil.which("chromium") is None:
        return [Row(name, "", 0, 0, seed, skipped="it needs chromium") for name in names]
    chance = Random(f"{seed} browser")
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        Zygote() as zygote,
        Sink(lambda _path: ("text/plain", b"")) as beacon,
        Chromium(f"{folder}/profile", HOSTS) as browser,
    ):
        house = House(zygote, f"{folder}/house")
        house.start("--ffprobe", "none")
        every = files(f"http://beacon.example:{beacon.port}")
        must = [file for file in every if file.name in MUST_RUN]
        others = [file for file in every if file.name not in MUST_RUN]
        chosen = must[: max(2, count)] if count < 6 else must
        chosen = chosen + chance.sample(others, min(len(others), max(0, count - len(chosen))))
        seen, ran = open_files(browser, house, chosen, beacon, chance, ways)
        house.end()
        cases = (
            f"{len(chosen)} files, of which {ran} run on an ordinary server; opened {seen.opened} "
            f"times in a window ({seen.shown} shown, the others saved), {seen.embedded} times in "
            f"23 elements of a page of another site; {seen.scripts} scripts of that page's own"
        )
        rows = [Row(names[0], cases, len(seen.wrong), time.monotonic() - began, seed, seen.wrong)]
        began = time.monotonic()
        tried = sites.attack(browser, zygote, folder, Sink)
        rows.append(
            Row(names[1], tried.cases(), len(tried.wrong), time.monotonic() - began, seed,
                tried.wrong[:20])
        )  # fmt: skip
    return rows


def prove(seed: int, share: float) -> list[Row]:
    """Open the share of all files."""
    return look(seed, max(5, int(len(files("")) * share)))
