"""The servers that are compared: started here, ended here, by their process ids."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Self

from bench.load import HOST, Wrong
from bench.tools import CHECKOUT, dies_with_us, from_pypi, on_cpu, program

_START_SECONDS = 60.0
_END_SECONDS = 20.0
_LOG_TAIL = 2000

_NGINX = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    sendfile on;
    keepalive_requests 1000000000;
    access_log {folder}/access.log combined;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {more}
    server {{
        listen 127.0.0.1:{port} {tls};
        root {root};
        default_type application/octet-stream;
    }}
}}
"""
_NGINX_TLS = "ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;"
# nginx is to be as fast as it can. Corked, it is faster with large bodies (1.7
# times) and with small ones; with 64 KiB it then waits 40 ms for an
# acknowledgement that the receiver delays, because such a body is a little more
# than one segment on loopback.
NGINX_PUSH = "tcp_nopush on;"
NGINX_NO_PUSH = "tcp_nopush off;"
#: What nginx can do that comes closest to a cache of open blobs.
NGINX_OPEN_FILES = "open_file_cache max=1000; open_file_cache_valid 1s;"


def free_port() -> int:
    """Return a port that nobody listens on now, and ten thousand above it neither."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind((HOST, 0))
            port: int = one.getsockname()[1]
            if port < 50_000:
                with contextlib.suppress(OSError):
                    other.bind((HOST, port + 10_000))
                    return port


class Server:
    """A process that serves.

    Args:
        name: in messages.
        folder: where its output goes.
        port: where it listens.
        command: what to run.
        cpu: the one it may use; None for any.
        answers: the path that says whether it serves.
        tls: whether it speaks TLS on the port.
    """

    def __init__(
        self,
        name: str,
        folder: str,
        port: int,
        command: Sequence[str],
        *,
        cpu: int | None = None,
        answers: str = "/",
        tls: bool = False,
    ) -> None:
        os.makedirs(folder, exist_ok=True)
        self.name = name
        self.folder = folder
        self.port = port
        self._answers = answers
        self._tls = tls
        self._output = os.path.join(folder, "output")
        before = (*dies_with_us(), *on_cpu(cpu))
        self.began = time.monotonic()
        with open(self._output, "ab") as output:
            self._process = subprocess.Popen(
                [*before, *command],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": CHECKOUT, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    def get(self, path: str, timeout: float = 5.0) -> tuple[int, bytes]:
        """Make one small request.

        Raises:
            OSError, http.client.HTTPException: it was not answered.
        """
        connection: http.client.HTTPConnection
        if self._tls:
            trusting = ssl.create_default_context()
            trusting.check_hostname = False
            trusting.verify_mode = ssl.CERT_NONE
            connection = http.client.HTTPSConnection(
                HOST, self.port, timeout=timeout, context=trusting
            )
        else:
            connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def ready(self) -> float:
        """Wait until it answers; return the seconds since it was started.

        Raises:
            Wrong: it ended, or does not answer.
        """
        while time.monotonic() < self.began + _START_SECONDS:
            if self._process.poll() is not None:
                raise Wrong(f"{self.name} ended with {self._process.returncode}: {self.said()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.get(self._answers)[0] < 500:
                    return time.monotonic() - self.began
            time.sleep(0.005)
        raise Wrong(f"{self.name} does not answer: {self.said()}")

    def said(self) -> str:
        """Return the end of its output."""
        with open(self._output, encoding="utf-8", errors="replace") as file:
            return file.read()[-_LOG_TAIL:].strip()

    def peak_rss(self) -> float:
        """Return the most memory that it ever had, in MiB."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            found = re.search(r"^VmHWM:\s+(\d+) kB$", file.read(), re.MULTILINE)
        if found is None:
            raise Wrong("the kernel does not tell VmHWM")
        return int(found[1]) / 1024

    def end(self) -> None:
        """End it: first politely."""
        if self._process.poll() is None:
            # Twice: the second ends a daemon's waiting for what is in flight.
            for _ in range(2):
                with contextlib.suppress(ProcessLookupError):
                    self._process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_END_SECONDS / 2)
                    return
            self._process.kill()
        self._process.wait(_END_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end()


def twistd(*arguments: str) -> list[str]:
    """Return the command line of twistd in the foreground."""
    run = "from twisted.scripts.twistd import run; run()"
    return [sys.executable, "-c", run, "--nodaemon", "--pidfile=", *arguments]


def dtfc(
    folder: str,
    basedir: str,
    *flags: str,
    cpu: int | None = None,
    certificate: tuple[str, str] | None = None,
    before: Sequence[str] = (),
) -> Server:
    """Start a node, its access log on.

    Args:
        folder: for its log.
        basedir: its store.
        flags: of dtfc.
        cpu: the one it may use.
        certificate: key and certificate, for a node that speaks TLS.
        before: flags of twistd's own.
    """
    port = free_port()
    where = ["--port", str(port), "--interface", HOST]
    if certificate:
        key, cert = certificate
        where = ["--listen", f"ssl:{port}:interface={HOST}:privateKey={key}:certKey={cert}"]
    root = ["--allow-root"] if os.geteuid() == 0 else []
    log = os.path.join(folder, "access.log")
    return Server(
        "dtfc",
        folder,
        port,
        twistd(*before, "dtfc", *where, *root, "--basedir", basedir, "--log", log, *flags),
        cpu=cpu,
        answers="/health.html",
        tls=certificate is not None,
    )


def nginx(
    folder: str,
    root: str,
    *,
    cpu: int | None = None,
    certificate: tuple[str, str] | None = None,
    more: str = "",
) -> Server:
    """Start nginx with one worker, sendfile and its access log on."""
    os.makedirs(folder, exist_ok=True)
    port = free_port()
    if certificate:
        key, cert = certificate
        more += _NGINX_TLS.format(key=key, cert=cert)
    path = os.path.join(folder, "nginx.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            _NGINX.format(
                user="user root;" if os.geteuid() == 0 else "",
                folder=folder,
                root=root,
                port=port,
                more=more,
                tls="ssl" if certificate else "",
            )
        )
    command = [program("nginx"), "-p", folder, "-c", path, "-e", os.path.join(folder, "error.log")]
    return Server("nginx", folder, port, command, cpu=cpu, tls=certificate is not None)


def static_file(folder: str, root: str, *, cpu: int | None = None) -> Server:
    """Start what plain Twisted offers: ``twistd web --path``, a ``static.File``."""
    port = free_port()
    log = ["--logfile", os.path.join(folder, "access.log")]
    web = ["web", "--listen", f"tcp:{port}:interface={HOST}", "--path", root]
    return Server("static.File", folder, port, twistd(*log, *web), cpu=cpu)


def seaweedfs(folder: str) -> Server:
    """Start SeaweedFS: master, volume server and filer in one process."""
    weed = from_pypi("weed")
    data = os.path.join(folder, "data")
    os.makedirs(data, exist_ok=True)
    ports = {name: free_port() for name in ("master", "volume", "filer")}
    listening = [f"-{name}.port={port}" for name, port in ports.items()]
    listening += [f"-{name}.port.grpc={port + 10_000}" for name, port in ports.items()]
    quiet = ["-master.telemetry=false", "-volume.max=100", "-master.volumeSizeLimitMB=4096"]
    where = [f"-ip={HOST}", f"-ip.bind={HOST}", f"-dir={data}"]
    # It looks for its configuration in HOME and beside itself; none is wanted.
    command = [weed, "-logtostderr=true", "server", "-filer", *where, *listening, *quiet]
    return Server("SeaweedFS", folder, ports["filer"], command)
