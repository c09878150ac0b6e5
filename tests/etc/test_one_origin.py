"""CouchDB and a node under one origin: the recipe for nginx, with curl and with a browser."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from prove.chromium import Chromium, Page
from tests.live.test_couchdb_live import Pouch, basic, pouch
from tests.support.live import CHECKOUT, LiveNode, free_port, sha512_of
from tests.support.looking import Looking
from tests.support.programs import require_program
from tests.support.waiting import until

__all__ = ["pouch"]

HOST = "photos.example"
ROOT = basic("root", "relax")
WIDTH, HEIGHT = 37, 23
PAGE = """<!DOCTYPE html><title>album</title><img id="photo">
<script>
const json = {"Content-Type": "application/json"};
const login = () => fetch("/_session", {
    method: "POST", headers: json, body: JSON.stringify({name: "ada", password: "x"})
}).then(answer => answer.status);
const logout = () => fetch("/_session", {method: "DELETE"}).then(answer => answer.status);
const document_ = () => fetch("/album/holiday").then(answer => answer.json());
const width = source => new Promise(done => {
    const photo = document.getElementById("photo");
    photo.onload = photo.onerror = () => done(photo.naturalWidth);
    photo.src = source;
});
const store = () => fetch("/files/note.txt", {method: "PUT", body: "a note"})
    .then(answer => answer.status + " " + answer.headers.get("Location"));
</script>"""


def png(width: int, height: int) -> bytes:
    """Return a grey picture (https://www.w3.org/TR/png/)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    lines = b"".join(b"\0" + bytes(range(width)) for _ in range(height))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


@dataclass(frozen=True)
class Answer:
    """What curl was told."""

    status: int
    fields: str
    body: bytes

    def field(self, name: str) -> str:
        found = re.search(rf"^{name}: (.*?)\r?$", self.fields, re.MULTILINE | re.IGNORECASE)
        return found[1] if found is not None else ""


@dataclass(frozen=True)
class Origin:
    """CouchDB and a node behind nginx, and a blob that a document refers to."""

    folder: Path
    port: int
    node: LiveNode
    digest: str

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    def curl(self, path: str, *more: str) -> Answer:
        fields, body = self.folder / "fields", self.folder / "body"
        body.write_bytes(b"")
        done = subprocess.run(
            [
                *(require_program("curl"), "-sS", "--max-time", "30", "--path-as-is"),
                *("--cacert", str(self.folder / "cert.pem")),
                *("--connect-to", f"{HOST}:{self.port}:127.0.0.1:{self.port}"),
                *("-D", str(fields), "-o", str(body), "-w", "%{http_code}", *more),
                self.url + path,
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return Answer(int(done.stdout), fields.read_text(), body.read_bytes())

    def login(self) -> tuple[str, ...]:
        """Log in at CouchDB; return what has curl send the cookie, and nothing else."""
        jar = str(self.folder / "jar")
        answer = self.curl(
            *("/_session", "-H", "Content-Type: application/json", "-c", jar),
            *("-d", json.dumps({"name": "ada", "password": "x"})),
        )
        assert answer.status == 200, answer
        return ("-b", jar)


def configure(folder: Path, couchdb: str, node: str, secure: int) -> Path:
    """Write the recipe down with this machine's ports, certificate and folders, and a page."""
    ours = (CHECKOUT / "etc/nginx-couchdb.conf").read_text()
    ours = ours.replace(f"/etc/ssl/certs/{HOST}.pem", str(folder / "cert.pem"))
    ours = ours.replace(f"/etc/ssl/private/{HOST}.key", str(folder / "key.pem"))
    # IPv4 alone: a container may have nothing else.
    ours = re.sub(r"\n +listen \[::\].*", "", ours)
    ours = ours.replace("listen 80;", f"listen {free_port()};")
    ours = ours.replace("listen 443 ", f"listen {secure} ")
    ours = ours.replace("server 127.0.0.1:5984;", f"server {couchdb.removeprefix('http://')};")
    ours = ours.replace("server 127.0.0.1:8080;", f"server {node.removeprefix('http://')};")
    page = f"location /app/ {{ root {folder}; types {{ text/html html; }} }}\n    location /files/"
    ours = ours.replace("location /files/", page)
    (folder / "ours.conf").write_text(ours)
    (folder / "app").mkdir()
    (folder / "app/index.html").write_text(PAGE)
    # The folder is root's alone where root runs this, and nginx's workers would be somebody else.
    user = "user root; " if os.geteuid() == 0 else ""
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = folder / "nginx.conf"
    main.write_text(
        f"{user}daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary} include {folder}/ours.conf; }}\n"
    )
    return main


def certify(folder: Path) -> None:
    subprocess.run(
        [
            *(require_program("openssl"), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={HOST}"),
            *("-addext", f"subjectAltName=DNS:{HOST}"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        capture_output=True,
        timeout=60,
        check=True,
    )


def fill(pouch: Pouch, digest: str, content: bytes) -> None:
    """Make users, a database, and a document that refers to a blob."""
    pouch.ask("PUT", "/_config/admins/root", "relax")
    ada = {"name": "ada", "password": "x", "roles": ["editors"], "type": "user"}
    assert pouch.ask("PUT", "/_users/org.couchdb.user:ada", ada, ROOT)[0] == 201
    assert pouch.ask("PUT", "/album", user=ROOT)[0] == 201
    security: Any = {"members": {"names": ["ada"], "roles": []}, "admins": {}}
    assert pouch.ask("PUT", "/album/_security", security, ROOT)[0] == 200
    entry = {"sha512": digest, "length": len(content), "content_type": "image/png", "stub": True}
    assert pouch.ask("PUT", "/album/holiday", {"dtfc": {"photo.png": entry}}, ROOT)[0] == 201


@pytest.fixture(scope="module")
def origin(pouch: Pouch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    folder = tmp_path_factory.mktemp("origin")
    node = LiveNode(
        folder / "node",
        [
            *("--interface", "127.0.0.1", "--trusted-proxies", "127.0.0.1", "--private"),
            *("--couchdb", pouch.url, "--couchdb-grant", "editors=get,put"),
        ],
    ).start()
    content = png(WIDTH, HEIGHT)
    digest = node.put("photo.png", content)
    fill(pouch, digest, content)
    with served(folder, pouch.url, node.url) as port:
        found = Origin(folder, port, node, digest)
        try:
            until(lambda: _answers(found), (folder / "nginx.log").read_text)
            yield found
        finally:
            node.end(signal.SIGKILL)
    assert "Traceback" not in node.log()


@contextmanager
def served(folder: Path, couchdb: str, node: str) -> Iterator[int]:
    """Run nginx as the recipe has it; yield its port."""
    certify(folder)
    port = free_port()
    main = configure(folder, couchdb, node, port)
    with (folder / "nginx.log").open("wb") as log:
        nginx = subprocess.Popen(
            [require_program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(main)],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield port
    finally:
        nginx.send_signal(signal.SIGTERM)
        nginx.wait(timeout=10)


def _answers(origin: Origin) -> bool:
    try:
        return origin.curl("/files/readyz").status == 200
    except AssertionError:
        return False


def test_one_login_is_good_for_both(origin: Origin) -> None:
    cookie = origin.login()
    document = json.loads(origin.curl("/album/holiday", *cookie).body)
    got = origin.curl(f"/files/{document['dtfc']['photo.png']['sha512']}", *cookie)
    assert (got.status, got.body) == (200, png(WIDTH, HEIGHT))


def test_without_it_there_is_nothing(origin: Origin) -> None:
    assert origin.curl("/album/holiday").status == 401
    assert origin.curl(f"/files/{origin.digest}").status == 401
    # Nobody is this machine just because the proxy is, or because he says so.
    forged = ("-H", "X-Forwarded-For: 127.0.0.1", "-H", "Forwarded: for=127.0.0.1")
    assert origin.curl(f"/files/{origin.digest}", *forged).status == 401


class Hears(BaseHTTPRequestHandler):
    """A server that says what it was told."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({**self.headers}).encode())

    def log_message(self, *_said: object) -> None:
        return


def test_nobody_gets_to_say_himself_who_he_is(tmp_path: Path) -> None:
    # What CouchDB may take from a proxy, without a secret if it is told so.
    says = [f"X-Auth-CouchDB-{name}: root" for name in ("UserName", "Roles", "Token")]
    with ThreadingHTTPServer(("127.0.0.1", 0), Hears) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}"
        with served(tmp_path, here, here) as port:
            origin = Origin(tmp_path, port, LiveNode(tmp_path / "node", []), "")
            until(lambda: _answers(origin), (tmp_path / "nginx.log").read_text)
            more = [part for each in says for part in ("-H", each)]
            heard = [json.loads(origin.curl(path, *more).body) for path in ("/a", "/files/a")]
        server.shutdown()
    assert [[name for name in each if "x-auth" in name.lower()] for each in heard] == [[], []]
    assert [each["X-Forwarded-Proto"] for each in heard] == ["https", "https"]


def test_after_the_logout_there_is_nothing_either(origin: Origin) -> None:
    cookie = origin.login()
    jar = cookie[1]
    assert origin.curl("/_session", "-X", "DELETE", *cookie, "-c", jar).status == 200
    assert origin.curl(f"/files/{origin.digest}", *cookie).status == 401


def test_a_put_tells_where_the_file_is(origin: Origin) -> None:
    cookie = origin.login()
    name = "/files/caf%C3%A9%20%231.txt"
    assert origin.curl(name, "-X", "PUT", "-d", "x").status == 401
    stored = origin.curl(name, "-X", "PUT", "-d", "x", *cookie)
    told = json.loads(stored.body)
    assert (stored.status, told["filename"]) == (201, "café #1.txt")
    assert stored.field("Location") == f"/files/{told['sha512']}"
    assert origin.curl(stored.field("Location"), *cookie).body == b"x"


def test_a_part_is_a_part(origin: Origin) -> None:
    part = origin.curl(f"/files/{origin.digest}", "-r", "10-19", *origin.login())
    assert (part.status, part.body) == (206, png(WIDTH, HEIGHT)[10:20])


def test_what_pages_may_not_do_with_a_blob_comes_through(origin: Origin) -> None:
    got = origin.curl(f"/files/{origin.digest}", *origin.login())
    # Else a blob with a script in it would be a page of CouchDB's own origin.
    assert got.field("Content-Security-Policy") == "sandbox; default-src 'none'"
    assert got.field("X-Content-Type-Options") == "nosniff"
    assert got.field("Cross-Origin-Resource-Policy") == "same-origin"
    assert got.field("Cache-Control").startswith("private")


def test_the_cookie_is_for_tls_and_this_site_alone(origin: Origin) -> None:
    answer = origin.curl(
        *("/_session", "-H", "Content-Type: application/json"),
        *("-d", json.dumps({"name": "ada", "password": "x"})),
    )
    said = {each.strip().lower() for each in answer.field("Set-Cookie").split(";")[1:]}
    assert {"path=/", "secure", "httponly", "samesite=lax"} <= said


def test_the_name_of_a_database_comes_through_as_it_is(origin: Origin) -> None:
    user = ("-u", "root:relax")
    assert origin.curl("/a%2Fb", "-X", "PUT", *user).status == 201
    # Decoded on the way it would be the document b of the database a.
    assert "db_name" in json.loads(origin.curl("/a%2Fb", *user).body)


def test_a_feed_is_told_at_once(origin: Origin) -> None:
    """A longpoll that waits is answered by the change that it waits for."""
    user = ("-u", "root:relax")
    assert origin.curl("/feed", "-X", "PUT", *user).status in (201, 412)
    waiting = subprocess.Popen(
        [
            *(require_program("curl"), "-sS", "-N", "--max-time", "30", *user),
            *("--cacert", str(origin.folder / "cert.pem")),
            *("--connect-to", f"{HOST}:{origin.port}:127.0.0.1:{origin.port}"),
            f"{origin.url}/feed/_changes?feed=continuous&heartbeat=1000",
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert waiting.stdout is not None
        # A heartbeat: an empty line, which a proxy that gathers would keep.
        assert waiting.stdout.readline() == b"\n"
        assert origin.curl("/feed/a", "-X", "PUT", "-d", "{}", *user).status == 201
        told = next(line for line in waiting.stdout if line.strip())
        assert json.loads(told)["id"] == "a"
    finally:
        waiting.kill()
        waiting.communicate()


@pytest.fixture
def page(origin: Origin, tmp_path: Path) -> Iterator[Page]:
    """A page in Chromium that knows this certificate, at the site's own address."""
    require_program("chromium")
    with Chromium(str(tmp_path / "profile"), [HOST, "other.example"]) as browser:
        opened = browser.page()
        browser.call("Security.setIgnoreCertificateErrors", opened.session, ignore=True)
        assert opened.go(f"{origin.url}/app/index.html", 30)
        yield opened


def test_a_page_shows_a_photo_once_its_reader_is_logged_in(page: Page, origin: Origin) -> None:
    source = f"/files/{origin.digest}"
    found = [page.run(f"width('{source}?a')")]
    assert page.run("login()") == 200
    digest = page.run("document_().then(found => found.dtfc['photo.png'].sha512)")
    found.append(page.run(f"width('/files/{digest}?b')"))
    assert page.run("logout()") == 200
    found.append(page.run(f"width('{source}?c')"))
    assert found == [0, WIDTH, 0]


def test_a_page_stores_a_file_with_its_readers_cookie(page: Page) -> None:
    before = page.run("store()")
    assert page.run("login()") == 200
    after = page.run("store()")
    assert before == "401 null"
    assert re.fullmatch(r"20[01] /files/[0-9a-f]{128}", after)


def test_a_page_of_another_site_shows_nothing(page: Page, origin: Origin) -> None:
    assert page.run("login()") == 200
    assert page.run(f"width('/files/{origin.digest}?mine')") == WIDTH
    other = f"https://other.example:{origin.port}/index.html"
    page.put_in_place(other, PAGE)
    assert page.go(other, 30)
    assert page.run("location.host") == f"other.example:{origin.port}"
    assert page.run(f"width('{origin.url}/files/{origin.digest}?theirs')") == 0


def test_the_page_works_behind_a_prefix(page: Page, origin: Origin, tmp_path: Path) -> None:
    assert page.run("login()") == 200
    look = Looking(page.browser, page, tmp_path)
    look.go(f"{origin.url}/files/")
    look.until("document.getElementById('state-words').textContent === 'Serving'")
    large = tmp_path / "film.mkv"
    large.write_bytes(bytes(range(256)) * 40_000)
    look.choose("#files", large)
    look.until("document.querySelector('#uploads [data-state=done]')")
    assert origin.curl(f"/files/{sha512_of(large)}", *origin.login()).body == large.read_bytes()
    assert look.elsewhere(f"{origin.url}/files") == []


def test_the_form_works_behind_a_prefix(page: Page, origin: Origin) -> None:
    assert page.run("login()") == 200
    assert page.go(f"{origin.url}/files/", 30)
    address = page.run("document.getElementById('store-form').action")
    assert address == f"{origin.url}/files/"
