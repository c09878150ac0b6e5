"""Proof: nothing outside of the store is opened, whatever is asked for and whatever lies in it.

Crafted paths in every way that a client can say one: in the URL, as a name of a PUT,
in a form, in a query. And things planted where the store has its own: links to a
file and a folder outside, hard links, pipes, sockets, devices. strace follows the
daemon; what it opens while it serves is compared with where it may.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

from prove.figures import Row
from prove.house import House
from prove.slow import store
from prove.volley import Shot, Volley
from prove.zygote import Zygote

PATHS = 5000
PLANTED = 50

_OPENS = re.compile(
    r'(?:openat2?|open)\((?:(?:AT_FDCWD|\d+)(?:<([^>]*)>)?, )?"((?:[^"\\]|\\.)*)".*= (-?\d+)'
)
_SECRET = b"outside the store"

#: What Python and the system read while a daemon runs, besides the store.
_USUAL = (
    *("/usr/", "/lib/", "/lib64/", "/proc/self/", "/proc/sys/", "/sys/fs/", "/dev/null"),
    *("/dev/urandom", "/etc/localtime", "/etc/ld.so"),
)


_WORDS = r"""
.. . ... %2e%2e %2E. .%2e %252e%252e ..%2f ..%5c ..\ %c0%ae%c0%ae %e0%80%ae %uff0e ..; ..;/ %00
..%00 %2f %5c %252f // ~ ~root etc passwd etc%2fpasswd proc self environ root C: CON NUL aux.txt
.dtfc .dtfc%2fsecret data filename 404 403 tmp catalog é e%CC%81 %ff %EF%BC%8E%EF%BC%8E %E2%80%AE
%0a %09 %20 * ? $HOME `id` |id file: -rf con. name. .hidden
"""
_PIECES = (
    *_WORDS.split(),
    *("", " ", "\u2024\u2024", "%0d%0aX: y", "a" * 255, "a" * 256, "%61" * 100),
)


def pieces(chance: Random) -> str:
    """Return a part of a path that leads, or seems to lead, elsewhere."""
    return chance.choice(_PIECES)


def path(chance: Random, digest: str) -> str:
    """Return a crafted path."""
    parts = [pieces(chance) for _ in range(chance.randrange(1, 6))]
    where = chance.randrange(6)
    if where == 0:
        return "/" + "/".join([*[".."] * 9, "etc", "passwd"])
    if where == 1:
        return f"/{digest}/" + "/".join(parts)
    if where == 2:
        return "/" + "/".join(re.findall("..", digest)) + "/" + pieces(chance)
    if where == 3:
        return "http://a/" + "/".join(parts)
    if where == 4:
        return f"/files.json?prefix={'/'.join(parts)}&name={pieces(chance)}"
    return "/" + "/".join(parts)


def crafted(chance: Random, digest: str) -> Iterator[Shot]:
    """Yield requests with crafted paths, without end."""
    while True:
        target = path(chance, digest).encode("utf-8", "surrogateescape")
        method = chance.choice((b"GET", b"HEAD", b"PUT", b"PUT", b"DELETE", b"POST"))
        body = b"x"
        fields = b"Host: localhost\r\nConnection: close\r\n"
        if method == b"POST":
            name = pieces(chance).replace('"', "").encode("utf-8", "replace")
            body = (
                b'--b\r\nContent-Disposition: form-data; name="f"; filename="' + name
                + b'"\r\n\r\nx\r\n--b--\r\n'
            )  # fmt: skip
            target = b"/"
            fields += b"Content-Type: multipart/form-data; boundary=b\r\n"
        if method in (b"PUT", b"POST"):
            fields += b"Content-Length: %d\r\n" % len(body)
        else:
            body = b""
        yield Shot(
            target.decode("latin-1"), b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, target, fields, body)
        )


def plant(folder: Path, root: Path, chance: Random, count: int) -> list[tuple[str, str]]:
    """Put things where blobs have theirs; return each one's digest, and what it is."""
    outside = folder / "outside"
    outside.mkdir()
    secret = outside / "data"
    secret.write_bytes(_SECRET)
    (outside / "filename").write_text("secret.txt\n")
    (outside / "404").touch()
    planted = []
    for number in range(count):
        # Each below a folder of its own, or one link would lead the next ones outside.
        chosen = hashlib.sha512(b"%d %d" % (number, chance.randrange(1 << 60))).hexdigest()
        digest = f"{number:02x}{chosen[2:]}"
        if (root / digest[:2]).exists():
            continue
        # As --fan-out 2 has it: two folders of two characters, and the rest.
        shelf = root / digest[:2] / digest[2:4]
        kind = number % 10
        what = _plant(kind, root, shelf, digest, outside)
        planted.append((digest, what))
    return planted


def _plant(kind: int, root: Path, shelf: Path, digest: str, outside: Path) -> str:
    own = shelf / digest[4:]
    if kind == 0 and not (root / digest[:2]).exists():
        (root / digest[:2]).symlink_to(outside)
        return "a link in place of the first folder"
    (root / digest[:2]).mkdir(exist_ok=True)
    if kind == 1 and not shelf.exists():
        shelf.symlink_to(outside)
        return "a link in place of the second folder"
    with suppress(FileExistsError, NotADirectoryError):
        shelf.mkdir()
    if kind == 2:
        own.symlink_to(outside)
        return "a link in place of a blob's folder"
    with suppress(FileExistsError, NotADirectoryError):
        own.mkdir()
    data = own / "data"
    with suppress(OSError):
        if kind == 3:
            data.symlink_to(outside / "data")
        elif kind == 4:
            data.symlink_to("/etc/passwd")
        elif kind == 5:
            os.mkfifo(data)
        elif kind == 6:
            _bind(data)
        elif kind == 7 and os.geteuid() == 0:
            os.mknod(data, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        elif kind == 8:
            data.symlink_to("nowhere")
        else:
            data.mkdir()
    with suppress(OSError):
        (own / "filename").symlink_to(outside / "filename")
    return f"kind {kind} in place of the bytes"


def _bind(place: Path) -> None:
    here = os.getcwd()
    os.chdir(place.parent)  # the names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(place.name)
    finally:
        os.chdir(here)


def _ask_for(port: int, planted: list[tuple[str, str]], wrong: list[str]) -> Counter[int]:
    statuses: Counter[int] = Counter()
    for digest, what in planted:
        for method, tail in (("GET", ""), ("HEAD", ""), ("GET", "/info"), ("GET", "/chunks"),
                             ("GET", "/ffmetadata"), ("DELETE", "")):  # fmt: skip
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request(method, f"/{digest}{tail}")
                answer = connection.getresponse()
                said = answer.read()
            except OSError as error:
                wrong.append(f"{method} {tail} of {what}: {error!r}")
                continue
            finally:
                connection.close()
            statuses[answer.status] += 1
            if _SECRET in said or b"root:" in said or b"secret.txt" in said:
                wrong.append(f"{method} {tail} of {what} told what lies outside")
            if answer.status < 300 and method != "DELETE":
                wrong.append(f"{method} {tail} of {what}: {answer.status}")
    return statuses


def look(seed: int, count: int, things: int) -> list[Row]:
    """Ask a daemon for so many crafted paths and planted things."""
    strace = shutil.which("strace")
    names = (
        "crafted paths: an open outside of the store",
        "planted things: an open or a byte outside",
    )
    if strace is None:
        return [Row(name, "", 0, 0, seed, skipped="it needs strace") for name in names]
    chance = Random(f"{seed} paths")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Zygote() as zygote:
        house = House(zygote, f"{folder}/house")
        house.start("--ffprobe", "none")
        digest = store(house.port, "photo.jpg", b"photo")
        trace = f"{folder}/trace"
        command = [
            strace,
            "-f",
            "-y",
            "-qq",
            "-s",
            "512",
            "-e",
            "trace=open,openat,openat2",
            "-o",
            trace,
        ]
        tracer = subprocess.Popen([*command, "-p", str(house.pid)], stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        statuses: Counter[int] = Counter()

        def told(shot: Shot) -> None:
            statuses[shot.status] += 1

        volley = Volley(house.port, told)
        volley.fire(shot for shot, _ in zip(crafted(chance, digest), range(count), strict=False))
        crafted_wrong = [*volley.hung, *_outside(trace, house.store)]
        took = time.monotonic() - began
        cases = f"{volley.count}: {_counted(statuses)}"
        rows = [Row(names[0], cases, len(crafted_wrong), took, seed, crafted_wrong[:20])]
        began = time.monotonic()
        open(trace, "w", encoding="ascii").close()
        wrong: list[str] = []
        planted = plant(Path(folder), Path(house.store), chance, things)
        statuses = _ask_for(house.port, planted, wrong)
        wrong += _outside(trace, house.store)
        tracer.send_signal(signal.SIGINT)
        tracer.wait(timeout=20)
        if (Path(folder) / "outside" / "data").read_bytes() != _SECRET:
            wrong.append("what lies outside was changed")
        if sorted(os.listdir(f"{folder}/outside")) != ["404", "data", "filename"]:
            wrong.append(f"outside there is now {sorted(os.listdir(f'{folder}/outside'))}")
        with open(f"{house.folder}/output", encoding="utf-8", errors="replace") as log:
            wrong += [line.strip() for line in log if "Traceback" in line][:3]
        house.end()
    cases = f"{len(planted)} things, each asked for in six ways: {_counted(statuses)}"
    rows.append(Row(names[1], cases, len(wrong), time.monotonic() - began, seed, wrong[:20]))
    return rows


def _counted(statuses: Counter[int]) -> str:
    return ", ".join(f"{count} of {status}" for status, count in sorted(statuses.items()))


def _outside(trace: str, root: str) -> list[str]:
    """Return what was opened, and does not lie in the store; nothing may be half-read by now."""
    time.sleep(0.3)
    with open(trace, encoding="utf-8", errors="replace") as lines:
        return outside(lines, root)


def outside(lines: Iterator[str], root: str) -> list[str]:
    """Return the lines of a trace in which something outside of a folder was opened."""
    found = []
    for line in lines:
        match = _OPENS.search(line)
        if match is None or int(match[3]) < 0:
            continue
        beneath, name, _ = match.groups()
        whole = os.path.normpath(name if name.startswith("/") else f"{beneath}/{name}")
        # -y also tells where the descriptor leads that came of it.
        led = re.search(r"= \d+<([^>]*)>", line)
        real = led[1] if led is not None else whole
        if not real.startswith((root, *_USUAL)) and not real.startswith(tuple(_python())):
            found.append(f"opened {real}: {line.strip()[:160]}")
    return found


def _python() -> list[str]:
    return [each for each in sys.path if each] + [sys.prefix, sys.base_prefix]


def prove(seed: int, share: float) -> list[Row]:
    """Ask for the share of all."""
    return look(seed, max(300, int(PATHS * share)), max(20, int(PLANTED * share)))
