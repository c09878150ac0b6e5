"""Proof: hostile media files are described or refused, in time, and open nothing else.

Playlists, scripts and manifests that point at local files and at a server here;
sound, films and pictures cut off in many places, and with bytes changed at
random. strace follows the daemon into every cell: what a cell opens, and whether
it makes a socket, is read off its own system calls.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from prove.figures import Row
from prove.house import House
from prove.zygote import Zygote

#: Files in a whole run.
FILES = 300

#: Seconds that each may take, with the answer.
LONGEST = 6.0

#: Status of each answer that is none of a bug.
FINE = (200, 404, 503)

_LIBRARIES = ("/usr/", "/lib/", "/lib64/", "/etc/ld.so", "/proc/self/fd/0", "/dev/null")
_CALL = re.compile(r'^(\d+) +(\w+)\((?:AT_FDCWD, )?(?:"((?:[^"\\]|\\.)*)")?.*?= (-?\d+)')


def playlists(port: int) -> dict[str, bytes]:
    """Return files that point elsewhere: at ``/etc/passwd``, and at a port here."""
    found: dict[str, bytes] = {}
    targets = {
        "file": "/etc/passwd",
        "file url": "file:///etc/passwd",
        "http": f"http://127.0.0.1:{port}/x.ts",
        "tcp": f"tcp://127.0.0.1:{port}",
        "concat": f"concat:/etc/passwd|http://127.0.0.1:{port}/x",
        "subfile": "subfile,,start,0,end,9,,:/etc/passwd",
        "crypto": f"crypto:http://127.0.0.1:{port}/x",
        "data": "data:text/plain,hello",
        "cache": f"cache:http://127.0.0.1:{port}/x",
    }
    for name, target in targets.items():
        hls = f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10.0,\n{target}\n#EXT-X-ENDLIST\n"
        found[f"hls {name}"] = hls.encode()
        key = f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF:1,\n{target}\n'
        found[f"hls key {name}"] = key.encode()
        found[f"ffconcat {name}"] = f"ffconcat version 1.0\nfile '{target}'\n".encode()
        found[f"dash {name}"] = _dash(target)
        found[f"imf {name}"] = (
            f"<CompositionPlaylist><Id>{target}</Id></CompositionPlaylist>".encode()
        )
        found[f"smil {name}"] = f'<smil><body><video src="{target}"/></body></smil>'.encode()
        found[f"pls {name}"] = f"[playlist]\nFile1={target}\nNumberOfEntries=1\n".encode()
        found[f"avi subtitles {name}"] = _avi_with_subtitles(hls.encode())
    found["sdp"] = (
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\n".encode()
    )
    found["svg"] = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>'
    found["ffmetadata"] = b";FFMETADATA1\ntitle=/etc/passwd\n"
    found["redirect"] = f"[Reference]\r\nRef1=http://127.0.0.1:{port}/x\r\n".encode()
    return found


def _dash(target: str) -> bytes:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT10S"><Period><AdaptationSet mimeType="video/mp4">'
        f'<Representation id="1" bandwidth="1"><BaseURL>{target}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    ).encode()


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _list(name: bytes, *parts: bytes) -> bytes:
    return _chunk(b"LIST", name + b"".join(parts))


def _avi_with_subtitles(playlist: bytes) -> bytes:
    """Return an AVI file whose subtitles (GAB2) are a playlist: a way in of 2017."""
    avih = struct.pack("<14I", 40000, 0, 0, 0x10, 1, 0, 1, 0, 16, 16, 0, 0, 0, 0)
    strh = struct.pack(
        "<4s4sIHHIIIIIIII4H", b"txts", b"\0\0\0\0", 0, 0, 0, 0, 1, 25, 0, 1, 0, 0, 0, 0, 0, 0, 0
    )
    header = _list(
        b"hdrl", _chunk(b"avih", avih), _list(b"strl", _chunk(b"strh", strh), _chunk(b"strf", b""))
    )
    gab2 = (
        b"GAB2\0"
        + struct.pack("<HI", 2, 2)
        + b"x\0"
        + struct.pack("<HI", 4, len(playlist))
        + playlist
    )
    return _chunk(b"RIFF", b"AVI " + header + _list(b"movi", _chunk(b"00tx", gab2)))


def films(folder: str, ffmpeg: str) -> dict[str, bytes]:
    """Return sound, films and pictures that are as they should be."""
    found = {}
    video = ("-f", "lavfi", "-i", "testsrc=size=160x120:rate=5:duration=1")
    sound = ("-f", "lavfi", "-i", "sine=duration=1")
    for name, sources in {
        "a.mp4": (*video, *sound),
        "a.mkv": (*video, *sound),
        "a.avi": video,
        "a.ts": (*video, *sound),
        "a.mp3": sound,
        "a.ogg": sound,
        "a.flac": sound,
        "a.wav": sound,
        "a.gif": video,
        "a.png": (*video, "-frames:v", "1"),
        "a.jpg": (*video, "-frames:v", "1"),
    }.items():
        path = f"{folder}/{name}"
        subprocess.run([ffmpeg, "-loglevel", "error", "-y", *sources, path], check=True, timeout=60)
        with open(path, "rb") as file:
            found[name] = file.read()
    return found


def hostile(sound: dict[str, bytes], port: int, chance: Random) -> Iterator[tuple[str, bytes]]:
    """Yield hostile files, without end."""
    yield from playlists(port).items()
    for name, body in sound.items():
        for place in range(10):
            yield f"{name} cut off at {place}/10", body[: len(body) * place // 10]
    yield from mutants(sound, chance)


def mutants(sound: dict[str, bytes], chance: Random) -> Iterator[tuple[str, bytes]]:
    """Yield files with bytes changed, without end."""
    while True:
        name = chance.choice(sorted(sound))
        body = bytearray(sound[name])
        for _ in range(chance.choice((1, 3, 10, 100))):
            at = chance.randrange(min(len(body), chance.choice((64, 4096, len(body)))))
            body[at] = chance.choice((0, 0xFF, chance.randrange(256)))
        if chance.random() < 0.2:
            start = chance.randrange(len(body))
            body[start:start] = body[: chance.randrange(len(body))]
        yield f"{name} with bytes changed", bytes(body)


@dataclass
class Seen:
    """What was seen."""

    files: int = 0
    told: int = 0
    longest: float = 0.0
    wrong: list[str] = field(default_factory=list)
    small: list[float] = field(default_factory=list)


def look(seed: int, files: int) -> Row:
    """Ask a daemon about so many hostile files."""
    ffmpeg, strace = shutil.which("ffmpeg"), shutil.which("strace")
    name = "hostile media: an open, a connection or an answer that should not be"
    if ffmpeg is None or strace is None or shutil.which("ffprobe") is None:
        return Row(name, "", 0, 0, seed, skipped="it needs ffmpeg, ffprobe and strace")
    began = time.monotonic()
    seen = Seen()
    with tempfile.TemporaryDirectory() as folder, Zygote() as zygote:
        house = House(zygote, f"{folder}/house")
        house.start()
        trace = f"{folder}/trace"
        tracer = subprocess.Popen(
            [
                strace,
                "-f",
                "-qq",
                "-s",
                "256",
                "-e",
                "trace=execve,open,openat,socket,connect",
                "-o",
                trace,
                "-p",
                str(house.pid),
            ],
            stderr=subprocess.DEVNULL,
        )
        time.sleep(0.5)
        server = socket.create_server(("127.0.0.1", 0))
        server.settimeout(0.05)
        stop = threading.Event()
        reader = threading.Thread(target=_read_beside, args=(house.port, stop, seen.small))
        reader.start()
        try:
            chance = Random(f"{seed} media")
            port = server.getsockname()[1]
            every = hostile(films(folder, ffmpeg), port, chance)
            whole = [each for each, _ in zip(every, range(max(files, FILES)), strict=False)]
            for title, content in chance.sample(whole, files):
                _ask(house.port, title, content, seen)
            with suppress(TimeoutError):
                server.accept()
                seen.wrong.append("somebody connected to where a file pointed")
        finally:
            stop.set()
            reader.join()
            server.close()
            tracer.send_signal(signal.SIGINT)
            tracer.wait(timeout=20)
            house.end()
        with open(trace, encoding="utf-8", errors="replace") as lines:
            cells = read_trace(lines, seen.wrong)
    if not cells:
        seen.wrong.append("no cell was seen at all")
    p99 = statistics.quantiles(seen.small, n=100)[98] if len(seen.small) > 99 else 0.0
    cases = (
        f"{seen.files} files, {seen.told} described; {cells} cells; longest {seen.longest:.1f} s; "
        f"a small GET beside it: p99 {p99 * 1000:.0f} ms"
    )
    return Row(name, cases, len(seen.wrong), time.monotonic() - began, seed, seen.wrong[:20])


def _read_beside(port: int, stop: threading.Event, took: list[float]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("PUT", "/small", body=b"small")
    digest = json.loads(connection.getresponse().read())["sha512"]
    while not stop.is_set():
        began = time.monotonic()
        connection.request("GET", f"/{digest}")
        connection.getresponse().read()
        took.append(time.monotonic() - began)
        time.sleep(0.02)
    connection.close()


def _ask(port: int, title: str, body: bytes, seen: Seen) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("PUT", "/hostile", body=body)
        digest = json.loads(connection.getresponse().read())["sha512"]
        began = time.monotonic()
        connection.request("GET", f"/{digest}/ffmetadata")
        answer = connection.getresponse()
        said = answer.read()
    except (OSError, http.client.HTTPException, KeyError, ValueError) as error:
        seen.wrong.append(f"{title}: {error!r}")
        return
    finally:
        connection.close()
    took = time.monotonic() - began
    seen.files += 1
    seen.told += answer.status == 200
    seen.longest = max(seen.longest, took)
    if answer.status not in FINE:
        seen.wrong.append(f"{title}: {answer.status}")
    if took > LONGEST:
        seen.wrong.append(f"{title}: {took:.1f} s")
    if b"root:" in said:
        seen.wrong.append(f"{title}: the answer holds another file")


def read_trace(lines: Iterator[str], wrong: list[str]) -> int:
    """Look at what each ffprobe did; return how many there were."""
    inside: set[str] = set()
    count = 0
    for line in lines:
        found = _CALL.match(line)
        if found is None:
            continue
        pid, call, path, result = found.groups()
        if call == "execve" and (path or "").endswith("/ffprobe") and result == "0":
            inside.add(pid)
            count += 1
        elif pid not in inside or int(result) < 0:
            continue
        elif call in ("socket", "connect") or not (path or "").startswith(_LIBRARIES):
            wrong.append(f"ffprobe did: {line.strip()[:200]}")
    return count


def prove(seed: int, share: float) -> list[Row]:
    """Look at the share of all files."""
    return [look(seed, max(20, int(FILES * share)))]
