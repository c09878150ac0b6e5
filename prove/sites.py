"""What pages of other sites try with a node that takes writes from its own machine.

The browser runs on that machine, so whatever it sends comes from loopback. The pages
are at a name of their own, at another port of the node's host, and (DNS rebinding) at
the node's own port under a name that the attacker has made to lead there.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from prove.chromium import Chromium, Page
from prove.house import House, until
from prove.slow import store
from prove.zygote import Zygote, free_port

if TYPE_CHECKING:
    from prove.browser import Sink

_SECRET = b"the secret words"
_LINE = re.compile(r'"([A-Z]+) (\S+) HTTP/1\.[01]" (\d{3})')

#: The page: tries everything with T, and says what it could read of it.
_PAGE = """<!doctype html><title>x</title><body><script>
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const within = (what) => Promise.race([Promise.resolve(what).catch(() => 0), wait(1500)]);
function form(T, path, way, enctype, more) {
  const frame = document.createElement("iframe");
  frame.name = "f" + Math.random();
  const made = document.createElement("form");
  Object.assign(made, {method: "post", action: T + path + "?try=" + way, enctype,
                       target: frame.name});
  const file = Object.assign(document.createElement("input"), {type: "file", name: "file"});
  const held = new DataTransfer();
  held.items.add(new File(["planted by " + way], way + ".txt"));
  file.files = held.files;
  made.append(file, Object.assign(document.createElement("input"), {name: "a", value: "b"}));
  if (more) Object.assign(made, more);
  document.body.append(frame, made);
  made.submit();
}
function framed(html, sandbox) {
  const frame = document.createElement("iframe");
  if (sandbox) frame.sandbox = sandbox;
  frame.srcdoc = html;
  document.body.append(frame);
}
function xhr(T, method, way, path) {
  return new Promise((done) => {
    const x = new XMLHttpRequest();
    x.open(method, T + path + "?try=" + way);
    x.withCredentials = true;
    x.onloadend = () => done(x.responseText);
    x.send(method == "GET" ? null : "planted by " + way);
  });
}
async function attack(T, D, SITE) {
  const read = [], keep = (text) => { if (text) read.push(String(text)); };
  const send = (method, path, way, more) => fetch(T + path + "?try=" + way, {method, ...more});
  for (const path of ["/", "/refreshpeers.html"]) {
    const at = path == "/" ? "" : "-peers";
    form(T, path, "form-multipart" + at, "multipart/form-data");
    form(T, path, "form-urlencoded" + at, "application/x-www-form-urlencoded");
    form(T, path, "form-plain" + at, "text/plain");
    form(T, path, "form-noreferrer" + at, "multipart/form-data", {rel: "noreferrer noopener"});
    const body = new FormData();
    body.append("file", new Blob(["planted"]), "planted.txt");
    for (const [name, what] of [["data", body], ["text", "planted"],
         ["params", new URLSearchParams("a=b")], ["blob", new Blob(["planted"])]]) {
      for (const mode of ["no-cors", "cors"])
        await within(send("POST", path, `fetch-${mode}-${name}${at}`,
                          {body: what, mode, credentials: "include", keepalive: true}));
      navigator.sendBeacon(T + path + `?try=beacon-${name}${at}`, what);
    }
    keep(await within(xhr(T, "POST", "xhr-post" + at, path)));
    const link = Object.assign(document.createElement("a"),
        {href: "#x", ping: T + path + "?try=ping" + at});
    document.body.append(link);
    link.click();
    const sandboxed = `<form method=post enctype=multipart/form-data
        action="${T}${path}?try=sandboxed${at}"><input name=a></form>
        <script>document.forms[0].submit()<\\/script>`;
    framed(sandboxed, "allow-forms allow-scripts");
    framed(`<iframe src="data:text/html,${encodeURIComponent(
        sandboxed.replace("try=sandboxed", "try=data-url"))}">`);
    await within(fetch(SITE + "/to?" + encodeURIComponent(T + path + "?try=redirected" + at),
                       {method: "POST", body: "planted", mode: "no-cors"}));
    form(SITE, "/to?" + encodeURIComponent(T + path + "?try=form-redirected" + at) + "&", "",
         "multipart/form-data");
    new Image().src = T + path + "?try=image" + at;
  }
  framed(`<iframe src="${SITE}/policy?${encodeURIComponent(T + "/?try=report")}">`);
  for (const mode of ["no-cors", "cors"]) {
    await within((async () => send("PUT", "/planted.txt", "put-" + mode,
                                   {body: "planted", mode}))());
    await within((async () => send("PUT", "/refreshpeers.html", "put-peers-" + mode,
                                   {body: "", mode}))());
    await within((async () => send("DELETE", "/" + D, "delete-" + mode, {mode}))());
    await within((async () => send("DELETE", "/" + D + "/allpeers", "delete-all-" + mode,
                                   {mode}))());
  }
  await within(xhr(T, "PUT", "xhr-put", "/planted.txt"));
  await within(xhr(T, "DELETE", "xhr-delete", "/" + D));
  for (const path of ["/" + D, "/files.json", "/" + D + "/info", "/metrics"]) {
    for (const mode of ["cors", "no-cors", "same-origin"])
      keep(await within((async () => (await send("GET", path, "read-" + mode, {mode})).text())()));
    keep(await within(xhr(T, "GET", "xhr-get", path)));
    const frame = document.createElement("iframe");
    frame.src = T + path + "?name=a.txt&inline=1";
    document.body.append(frame);
    await within(new Promise((done) => { frame.onload = done; }));
    try { keep(frame.contentDocument.body.innerText); } catch (e) {}
  }
  try { new WebSocket(T.replace("http", "ws") + "/?try=socket"); } catch (e) {}
  try { new EventSource(T + "/?try=events"); } catch (e) {}
  await wait(300);
  return read;
}
</script>"""

#: What must have reached the nodes, or the page tried nothing.
MUST_ARRIVE = frozenset(
    {
        *("form-multipart", "form-urlencoded", "form-plain", "form-multipart-peers", "sandboxed"),
        *("fetch-no-cors-data", "fetch-no-cors-text-peers", "fetch-cors-text", "beacon-data"),
        *("xhr-post", "redirected", "form-redirected", "data-url", "report"),
        # From the page under the node's own port alone; elsewhere the browser itself says no.
        *("put-cors", "put-peers-cors", "delete-cors", "xhr-put", "xhr-delete"),
    }
)


def fields(path: str) -> list[tuple[str, str]]:
    """Return the fields of a page that has its violations reported to a node."""
    if not path.startswith("/policy?"):
        return []
    target = unquote(path.partition("?")[2])
    return [("Content-Security-Policy", f"img-src 'none'; report-uri {target}")]


def _site(path: str) -> tuple[str, bytes]:
    if path.startswith("/to?"):
        return unquote(path[4:]).partition("&")[0], b""
    if path.startswith("/policy?"):
        return "text/html", b"<img src=/x>"
    return "text/html; charset=utf-8", _PAGE.encode()


@dataclass
class Tried:
    """What was tried, and came of it."""

    arrived: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    read: int = 0
    pages: int = 0
    wrong: list[str] = field(default_factory=list)

    def cases(self) -> str:
        """Return it in words."""
        said = ", ".join(f"{count} of {status}" for status, count in sorted(self.statuses.items()))
        return (
            f"{self.pages} attacks in {len(self.arrived)} ways; {sum(self.statuses.values())} "
            f"writes reached a node: {said}; control: a PUT, a form, a DELETE, new peers"
        )


def _state(house: House) -> dict[str, bytes]:
    """Return all that is in a store, but what it keeps for itself."""
    found = {}
    for folder, inner, names in os.walk(house.store):
        if folder == house.store and ".dtfc" in inner:
            inner.remove(".dtfc")
        for name in names:
            with open(f"{folder}/{name}", "rb") as file:
                found[f"{folder}/{name}"] = file.read()
    return found


def _ask(
    house: House, method: str, path: str, body: bytes = b"", kind: str = ""
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=20)
    connection.request(method, path, body, {"Content-Type": kind} if kind else {})
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    return answer.status, said


def _peers(house: House) -> int:
    return int(json.loads(_ask(house, "GET", "/readyz?verbose")[1])["peers"])


def attack(browser: Chromium, zygote: Zygote, folder: str, sink: type[Sink]) -> Tried:
    """Let pages of other sites try everything with a node that all may read, and a private one."""
    tried = Tried()
    houses = [House(zygote, f"{folder}/{name}") for name in ("open", "private")]
    with sink(_site) as site:
        for house in houses:
            # A peer that nobody answers for: from the file that is changed below.
            house.peers = [House(zygote, f"{folder}/nobody")]
            private = ["--private"] if house is houses[1] else []
            house.start(
                "--ffprobe",
                "none",
                "--peerlist-poll",
                "1h",
                "--log",
                f"{house.folder}/log",
                *private,
            )
            digest = store(house.port, "secret.txt", _SECRET)
            with open(f"{house.folder}/peers", "a", encoding="ascii") as file:
                file.write(f"http://127.0.0.1:{free_port()}/\n")
            before, peers = _state(house), _peers(house)
            _all_pages(browser, house, site.port, digest, tried)
            if _state(house) != before:
                tried.wrong.append(f"the store of {house.folder} has changed")
            if _peers(house) != peers:
                tried.wrong.append("the peers have changed")
        for house in houses:
            _read_log(f"{house.folder}/log", tried)
        tried.wrong += [f"control: no {way} arrived" for way in MUST_ARRIVE - set(tried.arrived)]
        _control(browser, houses[0], tried)
    for house in houses:
        if house.tracebacks():
            tried.wrong.append("a traceback")
        house.end()
    return tried


def _all_pages(browser: Chromium, house: House, site: int, digest: str, tried: Tried) -> None:
    rebound = f"http://rebound.example:{house.port}"
    pairs = [
        (f"http://attacker.example:{site}", f"http://127.0.0.1:{house.port}"),
        (f"http://attacker.example:{site}", f"http://node.example:{house.port}"),
        (f"http://127.0.0.1:{site}", f"http://127.0.0.1:{house.port}"),
        (f"http://node.example:{site}", f"http://node.example:{house.port}"),
        (rebound, rebound),
    ]
    for mine, target in pairs:
        page = browser.page()
        if mine == rebound:
            page.put_in_place(f"{mine}/page.html", _PAGE)
        page.go(f"{mine}/page.html")
        base = json.dumps([target, digest, f"http://attacker.example:{site}"])
        read = page.run(f"attack(...{base})")
        page.close()
        tried.pages += 1
        if not isinstance(read, list):
            tried.wrong.append(f"control: the page {mine} did not come to its end: {read}")
            continue
        told = [text for text in read if _tells(text, digest)]
        # What everybody may read, a page may whose name leads to the node.
        if mine == rebound and not house.folder.endswith("private"):
            if not any(_SECRET.decode() in text for text in told):
                tried.wrong.append("control: the page under the node's port could not read")
        elif told:
            tried.wrong.append(f"{mine} could read of {target}: {told[0][:80]}")


def _tells(text: str, digest: str) -> bool:
    return _SECRET.decode() in text or digest in text or "dtfc_" in text


def _read_log(path: str, tried: Tried) -> None:
    time.sleep(0.4)  # its lines are written together
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            found = _LINE.search(line)
            if found is None or "try=" not in found[2]:
                continue
            way = found[2].partition("try=")[2].partition("&")[0]
            tried.arrived[way] += 1
            if found[1] in ("POST", "PUT", "DELETE"):
                tried.statuses[found[3]] += 1
                if found[3] not in ("403", "401"):
                    tried.wrong.append(f"{way}: {found[1]} was answered {found[3]}")


def _control(browser: Chromium, house: House, tried: Tried) -> None:
    """The same from this machine itself, and from the node's own page: all of it is done."""
    digest = json.loads(_ask(house, "PUT", "/mine.txt", b"mine")[1])["sha512"]
    if _ask(house, "GET", f"/{digest}")[1] != b"mine":
        tried.wrong.append("control: a PUT from this machine stored nothing")
    if _ask(house, "DELETE", f"/{digest}")[0] >= 300:
        tried.wrong.append("control: a DELETE from this machine did nothing")
    peers = _peers(house)
    _ask(house, "POST", "/refreshpeers.html")
    if not until(5, lambda: _peers(house) > peers):
        tried.wrong.append("control: the peers were not refreshed from this machine")
    before = len(_state(house))
    page: Page = browser.page()
    page.go(f"http://127.0.0.1:{house.port}/")
    page.run(
        "(() => {const held = new DataTransfer(); held.items.add(new File(['by a form'], 'a.txt'));"
        "document.querySelector('input[type=file]').files = held.files;"
        "document.getElementById('store-form').submit()})()"
    )
    browser.wait(lambda: len(_state(house)) > before, 0.1)
    browser.settle(1)
    if len(_state(house)) <= before:
        tried.wrong.append("control: the form of the node's own page stored nothing")
    page.close()
