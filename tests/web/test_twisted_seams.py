"""The names of Twisted's that are leaned on without being promised: loud when they move."""

from __future__ import annotations

import inspect

import pytest
from twisted.internet import tcp, unix
from twisted.internet.abstract import FileDescriptor
from twisted.web import http, server


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (http.HTTPChannel, "writeHeaders"),
        (http.HTTPChannel, "registerProducer"),
        (http.HTTPChannel, "unregisterProducer"),
        (http.HTTPChannel, "isSecure"),
        (http.HTTPChannel, "_requestProducer"),
        (http.HTTPChannel, "_waitingForTransport"),
        (http.Request, "_disconnected"),
        (server.Request, "processingFailed"),
        (FileDescriptor, "dataBuffer"),
        (FileDescriptor, "offset"),
        (FileDescriptor, "doWrite"),
        (FileDescriptor, "_writeDisconnecting"),
        (tcp.Port, "transport"),
        (tcp.Port, "_shouldShutdown"),
        (unix.Port, "transport"),
        (tcp.Connection, "TLS"),
        (tcp.Connection, "writeSomeData"),
    ],
)
def test_the_name_is_still_there(owner: type, name: str) -> None:
    assert hasattr(owner, name)


def test_the_buffers_of_a_connection() -> None:
    assert "_tempDataLen" in inspect.getsource(FileDescriptor.__init__)
    assert "_tempDataBuffer" in inspect.getsource(FileDescriptor.doWrite)


def test_a_channel_keeps_its_requests_and_says_whether_it_handles_one() -> None:
    channel = http.HTTPChannel()

    assert channel.requests == []
    assert channel._handlingRequest is False


def test_the_request_of_a_site_takes_a_channel() -> None:
    assert list(inspect.signature(http.Request.__init__).parameters)[1] == "channel"


def test_a_finished_request_tells_its_channel() -> None:
    assert "requestDone" in inspect.getsource(http.Request._cleanup)
