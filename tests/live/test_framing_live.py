"""Every payload of the framing table over a real socket."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator

import pytest

from tests.http.framing_table import TABLE, Payload
from tests.support.live import LiveNode

ANSWER = re.compile(
    rb"HTTP/1\.1 (?P<status>\d{3}) [^\r\n]*\r\n(?P<fields>(?:[^\r\n]+\r\n)*)\r\n", re.DOTALL
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    node = LiveNode(tmp_path_factory.mktemp("framing") / "node", []).start()
    yield node
    node.end()
    assert "Traceback" not in node.log()


class Answer:
    def __init__(self, status: int, fields: dict[str, str], body: bytes) -> None:
        self.status = status
        self.fields = fields
        self.body = body


def answers_in(received: bytes, *, head_requests: bool) -> list[Answer]:
    """Cut what came into answers, by their own framing."""
    answers = []
    while received:
        match = ANSWER.match(received)
        assert match, f"not an answer: {received[:200]!r}"
        status = int(match["status"])
        lines = match["fields"].decode("latin-1").split("\r\n")[:-1]
        fields = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
        received = received[match.end() :]
        if status == 100:
            continue
        length = int(fields.get("content-length", 0))
        if head_requests and status < 400:
            length = 0
        answers.append(Answer(status, fields, received[:length]))
        received = received[length:]
    return answers


def talk(port: int, payload: bytes, expected: int, *, cut: bool) -> tuple[bytes, bool]:
    """Send a payload, whole or in pieces; return what came and whether the server closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if cut:
                middle = len(payload) // 2
                connection.sendall(payload[:middle])
                connection.sendall(payload[middle:])
            else:
                connection.sendall(payload)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all of it was sent: the answer says so
        received = b""
        deadline = time.monotonic() + 10
        connection.settimeout(0.04)
        while time.monotonic() < deadline:
            try:
                data = connection.recv(65536)
            except TimeoutError:
                heads = len(re.findall(rb"HTTP/1\.1 [2-5]\d\d ", received))
                if heads >= expected:
                    return received, False
                continue
            if not data:
                return received, True
            received += data
        return received, False


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
@pytest.mark.parametrize("payload", TABLE, ids=lambda each: each.name)
def test_each_payload(node: LiveNode, payload: Payload, cut: bool) -> None:  # noqa: FBT001 -- parametrised
    received, closed = talk(node.port, payload.raw, len(payload.expected), cut=cut)

    answers = answers_in(received, head_requests=payload.raw.startswith(b"HEAD"))
    assert len(answers) == len(payload.expected), received
    for answer, statuses in zip(answers, payload.expected, strict=True):
        assert answer.status in statuses
        if answer.status >= 400:
            assert answer.fields["content-type"] == "application/problem+json"
            assert json.loads(answer.body)["status"] == answer.status
    assert closed == payload.closes


def test_the_table_is_large_enough() -> None:
    assert len(TABLE) >= 150
