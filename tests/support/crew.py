"""A daemon with workers, watched from outside: who is who, and who has which connection."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from pathlib import Path

from tests.support.twistd import PATIENCE, Foreground, get, wait_for


def workers(daemon: Foreground) -> dict[int, int]:
    """The process in each place, as the daemon said last."""
    told = re.findall(r"worker ([0-9]+) serves \(process ([0-9]+)\)", daemon.said)
    return {int(index): int(pid) for index, pid in told}


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def holder(daemon: Foreground, client: socket.socket) -> int:
    """The index of the worker that has accepted a connection."""
    found: list[int] = []

    def look() -> bool:
        inode = _inode_of_other_end(client)
        found[:] = [index for index, pid in workers(daemon).items() if inode in _sockets(pid)]
        return len(found) == 1

    wait_for(look, "a worker to accept")
    return found[0]


def _inode_of_other_end(client: socket.socket) -> str:
    ours, theirs = client.getsockname()[1], client.getpeername()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(each.rsplit(":", 1)[1], 16) for each in fields[1:3])
        if (local, remote) == (theirs, ours):
            return f"socket:[{fields[9]}]"
    return ""


def _sockets(pid: int) -> set[str]:
    folder = Path(f"/proc/{pid}/fd")
    found = set()
    for each in os.listdir(folder) if folder.exists() else ():
        try:
            found.add(os.readlink(folder / each))
        except OSError:
            continue
    return found


def connection_to(daemon: Foreground, port: int, index: int) -> socket.socket:
    """A connection that a given worker has accepted."""
    others = []
    try:
        for _ in range(200):
            client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            if holder(daemon, client) == index:
                return client
            others.append(client)
    finally:
        for each in others:
            each.close()
    raise AssertionError(f"worker {index} accepts nothing")


def ask(client: socket.socket, request: str, body: bytes = b"") -> tuple[int, bytes]:
    """Make a request on a connection that stays open; return status and body."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    client.sendall(f"{request} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n".encode() + body)
    return answer(client)


def answer(client: socket.socket) -> tuple[int, bytes]:
    """Read one answer."""
    said = b""
    while b"\r\n\r\n" not in said:
        said += received(client)
    head, _, rest = said.partition(b"\r\n\r\n")
    found = re.search(rb"(?i)content-length: *([0-9]+)", head)
    wanted = int(found[1]) if found else 0
    while len(rest) < wanted:
        rest += received(client)
    return int(head.split()[1]), rest


def received(client: socket.socket) -> bytes:
    """Read something; the end of the connection is a failure."""
    piece = client.recv(1 << 20)
    if not piece:
        raise ConnectionError("the connection has ended")
    return piece


def digest_of_rest(client: socket.socket, begin: bytes, wanted: int) -> str:
    """Hash a body that has begun to come."""
    hashed = hashlib.sha512(begin)
    count = len(begin)
    while count < wanted:
        piece = received(client)
        hashed.update(piece)
        count += len(piece)
    return hashed.hexdigest()


def metrics(port: int) -> dict[str, float]:
    """What /metrics says."""
    status, text = get(port, "/metrics")
    assert status == 200, text
    lines = [line for line in text.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def settled(daemon: Foreground, starts: int) -> None:
    """Wait until so many workers have been ready in all."""
    wait_for(lambda: daemon.said.count(" serves (process ") >= starts, f"start {starts}")
