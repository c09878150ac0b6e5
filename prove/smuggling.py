"""Proof: through a proxy, a node sees exactly the requests that the proxy saw.

Where two programs draw the line between two requests in two places, a client puts
one into the mouth of another client (request smuggling). Each proxy is told to use a
connection for one request, so each connection that it opens is one request that it
saw; what the node answers on it is counted. Then the same with connections that are
kept: after each payload others ask, and must get their own answers.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from prove.figures import Row
from prove.house import House
from prove.slow import store
from prove.zygote import Zygote, free_port, wait_until_open
from tests.http.framing_table import TABLE

#: Payloads that are made, beside those that are written down.
MADE = 150

_QUIET = 0.35  # seconds without a byte after which a payload is over
_AT_ONCE = 12
_PATIENCE = 3.0


@dataclass
class Wire:
    """What went over one connection between proxy and node."""

    asked: bytearray = field(default_factory=bytearray)
    answered: bytearray = field(default_factory=bytearray)

    @property
    def answers(self) -> int:
        """How many final answers the node gave on it."""
        return final_answers(bytes(self.answered))


def final_answers(data: bytes) -> int:
    """Count the final answers in what a node sent; its framing is its own and simple."""
    count = 0
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            return count
        if head.startswith(b"HTTP/1.1 1"):
            data = rest
            continue
        count += 1
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        status = head[9:12]
        # What answered a HEAD has none of the bytes that it announces.
        if rest[:5] == b"HTTP/" or status in (b"204", b"304"):
            length = 0
        data = rest[length:]
    return count


class Tap:
    """Passes bytes on between a proxy and a node, and keeps them.

    Args:
        node: port of the node.
    """

    def __init__(self, node: int) -> None:
        self._node = node
        self.wires: list[Wire] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire()
        self.wires.append(wire)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._node)
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            _pass_on(reader, far_writer, wire.asked), _pass_on(far_reader, writer, wire.answered)
        )


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray
) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            kept += data
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()


def nginx(folder: str, listen: int, backend: int, *, keep: bool) -> list[str]:
    """Write a configuration of nginx; return how it is started."""
    kept = "keepalive 8;" if keep else ""
    with open(f"{folder}/nginx.conf", "w", encoding="ascii") as file:
        file.write(
            f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error;\n"
            "events { worker_connections 512; }\n"
            f"http {{ access_log off; client_body_temp_path {folder}/a;\n"
            f" proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;\n"
            f" uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;\n"
            f" upstream node {{ server 127.0.0.1:{backend}; {kept} }}\n"
            f" server {{ listen 127.0.0.1:{listen}; client_max_body_size 0;\n"
            "  location / { proxy_pass http://node; proxy_http_version 1.1;\n"
            f'   proxy_set_header Connection "{"" if keep else "close"}";\n'
            "   proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;\n"
            "   proxy_next_upstream off; proxy_request_buffering off; proxy_buffering off; } } }\n"
        )
    return ["nginx", "-p", folder, "-e", f"{folder}/error", "-c", f"{folder}/nginx.conf"]


def haproxy(folder: str, listen: int, backend: int, *, keep: bool) -> list[str]:
    """Write a configuration of HAProxy; return how it is started."""
    with open(f"{folder}/haproxy.cfg", "w", encoding="ascii") as file:
        file.write(
            "defaults\n mode http\n timeout connect 5s\n timeout client 10s\n timeout server 10s\n"
            f" {'http-reuse always' if keep else 'option http-server-close'}\n"
            f" {'option http-keep-alive' if keep else 'http-reuse never'}\n option forwardfor\n"
            f"listen a\n bind 127.0.0.1:{listen}\n server node 127.0.0.1:{backend}\n"
        )
    return ["haproxy", "-db", "-f", f"{folder}/haproxy.cfg"]


def apache(folder: str, listen: int, backend: int, *, keep: bool) -> list[str]:
    """Write a configuration of Apache's httpd; return how it is started."""
    modules = "/usr/lib/apache2/modules"
    loaded = "".join(
        f"LoadModule {name}_module {modules}/mod_{name}.so\n"
        for name in ("mpm_event", "authz_core", "proxy", "proxy_http", "env", "setenvif")
    )
    user = "User nobody\nGroup nogroup\n" if os.geteuid() == 0 else ""
    unix = f"LoadModule unixd_module {modules}/mod_unixd.so\n"
    if not os.path.exists(f"{modules}/mod_unixd.so"):
        unix = ""
    with open(f"{folder}/apache.conf", "w", encoding="ascii") as file:
        file.write(
            f"ServerRoot {folder}\nServerName localhost\nListen 127.0.0.1:{listen}\n"
            f"PidFile {folder}/apache.pid\nErrorLog {folder}/error\nDefaultRuntimeDir {folder}\n"
            f"{loaded}{unix}{user}Mutex pthread\nAllowEncodedSlashes NoDecode\n"
            f"{'' if keep else 'SetEnv proxy-nokeepalive 1'}\nProxyPreserveHost On\n"
            f"ProxyPass / http://127.0.0.1:{backend}/ nocanon\n"
        )
    return ["apache2", "-X", "-f", f"{folder}/apache.conf"]


PROXIES: dict[str, Callable[..., list[str]]] = {
    "nginx": nginx,
    "haproxy": haproxy,
    "apache2": apache,
}


_CODINGS = (
    *(b"chunked", b" chunked", b"Chunked", b"xchunked", b"chunked, identity", b"identity"),
    *(b"chunked\t", b"\x0bchunked", b'"chunked"', b"gzip, chunked", b"chunked\x00", b"chunk"),
    *(b"chunked;q=1", b"\nchunked"),
)
_NAMES = (
    *(b"Transfer-Encoding", b"transfer-encoding", b"Transfer-Encoding ", b" Transfer-Encoding"),
    *(b"Transfer_Encoding", b"Transfer\xadEncoding", b"X: y\nTransfer-Encoding", b"TE"),
    *(b"Transfer-Encoding\r\n", b"X\r\n Transfer-Encoding"),
)
_OTHERS = (
    *(b"Connection: Content-Length", b"Connection: close, Transfer-Encoding", b"Upgrade: h2c"),
    *(b"Expect: 100-continue", b"Connection: keep-alive", b"Host: b", b"X: a\r\n folded"),
    b"Expect: x",
)


def made(chance: Random) -> bytes:
    """Return a payload: two requests, whose boundary is said in two ways."""
    inner = b"GET /livez?inner HTTP/1.1\r\nHost: a\r\n\r\n"
    ends = (b"0\r\n\r\n" + inner, b"0\r\n\r\n", b"1\r\nZ\r\nQ\r\n\r\n", b"0;a\r\n\r\n" + inner)
    body = chance.choice((b"", b"hello", inner, b"5\r\nhello\r\n0\r\n\r\n", *ends))
    length = chance.choice((len(body), 0, 4, len(body) + 6, max(0, len(body) - len(inner))))
    numbers = (b"%d", b"+%d", b" %d", b"0%d", b"%d ", b"%d, %d", b"0x%d", b"%d.0", b"\t%d", b"-%d")
    number = chance.choice(numbers)
    said = number % ((length, length) if number.count(b"%") == 2 else length)
    coding, field_name = chance.choice(_CODINGS), chance.choice(_NAMES)
    fields = [b"Host: a"]
    if chance.random() < 0.8:
        fields.append(b"Content-Length: " + said)
    if chance.random() < 0.25:
        fields.append(b"Content-Length: %d" % chance.choice((0, len(body), 3)))
    if chance.random() < 0.7:
        fields.append(field_name + b": " + coding)
    if chance.random() < 0.2:
        fields.append(chance.choice(_OTHERS))
    chance.shuffle(fields)
    method, target = chance.choice((b"PUT", b"POST", b"GET", b"HEAD", b"OPTIONS")), b"/smuggled"
    end = chance.choice((b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\r\n"))
    version = chance.choice((b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"))
    return end.join([method + b" " + target + b" " + version, *fields, b"", b""]) + body + inner


def payloads(chance: Random, count: int) -> list[tuple[str, bytes]]:
    """Return what is sent: what is written down, and so many that are made."""
    written = [(each.name, each.raw) for each in TABLE]
    return written + [(f"made {number}", made(chance)) for number in range(count)]


async def _send(port: int, raw: bytes) -> None:
    """Send a payload, and read until nothing comes any more."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return
    with suppress(OSError, TimeoutError):
        writer.write(raw)
        while await asyncio.wait_for(reader.read(65536), _QUIET):
            pass
    writer.close()


async def _canary(port: int, digest: str, body: bytes) -> str:
    """Ask for what must be answered so and not otherwise; return what is wrong."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /{digest} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), _PATIENCE)
        writer.close()
    except (OSError, TimeoutError) as error:
        return repr(error)
    if answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(body):
        return ""
    return repr(answer[:80])


async def _counted(
    port: int, tap: Tap, every: list[tuple[str, bytes]]
) -> tuple[int, int, list[str]]:
    """Send each payload; return requests that the proxy and the node saw, and disagreements."""
    wrong: list[str] = []
    seen = answered = 0
    for start in range(0, len(every), _AT_ONCE):
        batch = every[start : start + _AT_ONCE]
        tap.wires.clear()
        await asyncio.gather(*(_send(port, raw) for _, raw in batch))
        await asyncio.sleep(0.05)
        wires = [wire for wire in tap.wires if wire.asked]
        seen += len(wires)
        answered += sum(wire.answers for wire in wires)
        wrong += [
            f"{wire.answers} answers to one request, in {[name for name, _ in batch]}: "
            f"{bytes(wire.asked)[:300]!r}"
            for wire in wires
            if wire.answers > 1
        ]
    return seen, answered, wrong


async def _kept(port: int, every: list[tuple[str, bytes]], digest: str, body: bytes) -> list[str]:
    """Send each payload over connections that are kept, and let others ask meanwhile."""
    wrong = []
    for name, raw in every:
        sending = asyncio.create_task(_send(port, raw))
        found = await asyncio.gather(*(_canary(port, digest, body) for _ in range(3)))
        await sending
        found.append(await _canary(port, digest, body))
        wrong += [f"after {name}: another client got {each}" for each in found if each]
    return wrong


def through(proxy: str, seed: int, count: int, share: float) -> Row:
    """Send payloads to a node through one proxy."""
    name = f"smuggling through {proxy}: a request that one of both did not see"
    program = shutil.which(proxy, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        return Row(name, "", 0, 0, seed, skipped=f"it needs {proxy}")
    began = time.monotonic()
    chance = Random(f"{seed} smuggling")
    every = payloads(chance, count)
    if share < 1:
        every = chance.sample(every, max(30, int(len(every) * share)))
    body = b"the canary's own"
    with tempfile.TemporaryDirectory() as folder, Zygote() as zygote:
        os.chmod(folder, 0o755)  # noqa: S103 - httpd sheds its privileges
        house = House(zygote, f"{folder}/house")
        house.start("--trusted-proxies", "127.0.0.1", "--allow-anonymous", "put")
        digest = store(house.port, "canary", body)

        async def both() -> tuple[int, int, list[str]]:
            tap = Tap(house.port)
            await tap.open()
            with _Running(proxy, program, folder, tap.port, keep=False) as port:
                seen, answered, wrong = await _counted(port, tap, every)
            await tap.close()
            with _Running(proxy, program, folder, house.port, keep=True) as port:
                wrong += await _kept(port, every, digest, body)
            return seen, answered, wrong

        seen, answered, wrong = asyncio.run(both())
        with open(f"{house.folder}/output", encoding="utf-8", errors="replace") as log:
            wrong += [line.strip() for line in log if "Traceback" in line][:3]
        house.end()
    if not seen:
        wrong.append("the proxy passed nothing on at all")
    cases = (
        f"{len(every)} payloads; passed on {seen}, answered {answered}, none twice; "
        f"{4 * len(every)} requests of others over kept connections"
    )
    return Row(name, cases, len(wrong), time.monotonic() - began, seed, wrong[:20])


class _Running:
    """A proxy that runs for a while."""

    def __init__(self, proxy: str, program: str, folder: str, backend: int, *, keep: bool) -> None:
        self._folder = f"{folder}/{proxy}-{keep}"
        os.makedirs(self._folder)
        self.port = free_port()
        command = PROXIES[proxy](self._folder, self.port, backend, keep=keep)
        self._command = [program, *command[1:]]

    def __enter__(self) -> int:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self._folder
        )
        wait_until_open(self.port)
        return self.port

    def __exit__(self, *_exc: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        self._process.kill()
        self._process.wait()


def prove(seed: int, share: float) -> list[Row]:
    """Send the share of all payloads through each proxy."""
    return [through(proxy, seed, MADE, share) for proxy in PROXIES]
