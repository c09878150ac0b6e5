"""What a request tells of where it comes from."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtfc.web.edge import EdgeTerms
from dtfc.web.gate import caller_of, may_exist

NewWire = Callable[..., Any]


def caller(new_wire: NewWire, *fields: str, host: str = "localhost") -> Any:
    wire = new_wire()
    wire.send("\r\n".join(["GET / HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode())
    return caller_of(wire.requests[0])


def test_a_program_on_this_machine(new_wire: NewWire) -> None:
    found = caller(new_wire)

    assert (found.forwarded, found.foreign, found.rebound) == ((), False, False)


@pytest.mark.parametrize(
    "field",
    ["Forwarded: for=x", "Via: 1.1 a", "X-Real-IP: 1.2.3.4", "X-Forwarded-Proto: https"],
)
def test_a_proxy_that_does_not_say_for_whom(new_wire: NewWire, field: str) -> None:
    assert caller(new_wire, field).forwarded == ("unknown",)


def test_a_proxy_that_says_for_whom(new_wire: NewWire) -> None:
    fields = ("X-Forwarded-For: 1.2.3.4", "X-Real-IP: 5.6.7.8")

    assert caller(new_wire, *fields).forwarded == ("1.2.3.4",)


@pytest.mark.parametrize(
    ("host", "rebound"),
    [
        ("localhost:8080", False),
        ("127.0.0.1:8080", False),
        ("[::1]:8080", False),
        ("evil.example", True),
        ("localhost.evil.example:80", True),
    ],
)
def test_a_browser_under_a_name_proves_nothing(
    new_wire: NewWire, host: str, *, rebound: bool
) -> None:
    assert caller(new_wire, f"Origin: http://{host}", host=host).rebound is rebound


def test_nor_does_whatever_looks_like_a_program(new_wire: NewWire) -> None:
    """Over http Chromium sends neither Origin nor Sec-Fetch-Site with a page's GET."""
    assert caller(new_wire, host="mirror.example").rebound


def test_a_name_of_this_machine_is_its_own(new_wire: NewWire) -> None:
    assert not caller(new_wire, host=f"{socket.gethostname()}:8080").rebound


def test_so_is_one_that_the_operator_lists(new_wire: NewWire) -> None:
    seen: list[bool] = []
    wire = new_wire(lambda request: seen.append(caller_of(request).rebound))
    wire.site.edge.terms = EdgeTerms(hosts=frozenset({"mirror.example"}))
    wire.send(b"GET / HTTP/1.1\r\nHost: mirror.example:80\r\n\r\n")
    assert seen == [False]


class TestDenyFiles:
    def test_none(self, tmp_path: Path) -> None:
        assert not may_exist(str(tmp_path / "x"))
        assert not may_exist(str(tmp_path / "no" / "folder"))

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "x").touch()

        assert may_exist(str(tmp_path / "x"))

    def test_a_dangling_link(self, tmp_path: Path) -> None:
        (tmp_path / "x").symlink_to("nowhere")

        assert may_exist(str(tmp_path / "x"))

    def test_what_cannot_be_looked_at(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_path: str) -> None:
            raise PermissionError

        monkeypatch.setattr(os, "lstat", refuse)

        assert may_exist(str(tmp_path / "x"))
