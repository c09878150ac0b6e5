from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dtfc.digest import Digest
from dtfc.store import capabilities, power, syscalls
from dtfc.store.blobs import open_store
from dtfc.store.power import Running


def looks(path: Path) -> tuple[Running, bool]:
    lost: list[bool] = []
    running = Running(str(path), lambda: lost.append(True))
    return running, bool(lost)


@pytest.fixture
def sign(tmp_path: Path) -> Path:
    return tmp_path / "running"


def test_first_opening_is_no_loss(sign: Path) -> None:
    running, lost = looks(sign)
    assert not lost
    assert sign.read_bytes() == power.boot_id()
    running.close()


def test_sign_goes_with_a_clean_close(sign: Path) -> None:
    looks(sign)[0].close()
    assert os.listdir(sign.parent) == []


def test_killed_process_is_no_loss_of_power(sign: Path) -> None:
    sign.write_bytes(power.boot_id() or b"")
    running, lost = looks(sign)
    assert not lost
    running.close()


@pytest.mark.parametrize("content", [b"", b"another boot\n"])
def test_sign_of_another_boot_is_a_loss_of_power(sign: Path, content: bytes) -> None:
    sign.write_bytes(content)
    running, lost = looks(sign)
    assert lost
    running.close()


def test_loss_is_told_once(sign: Path) -> None:
    sign.write_bytes(b"another boot\n")
    first, _ = looks(sign)
    second, lost = looks(sign)
    assert not lost
    first.close()
    second.close()


def test_sign_stays_while_another_process_is_there(sign: Path) -> None:
    first, _ = looks(sign)
    second, _ = looks(sign)
    first.close()
    assert sign.exists()
    second.close()
    assert not sign.exists()


def test_system_without_a_boot_id_excludes_nothing(
    sign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capabilities, "_here", set())
    running, lost = looks(sign)
    assert not lost
    os.close(running._fd)
    running, lost = looks(sign)
    assert lost
    running.close()


def sysctl(**answers: bytes) -> Callable[[bytes], bytes | None]:
    return lambda name: answers.get(name.decode().removeprefix("kern."))


@pytest.mark.parametrize("name", ["boot_id", "bootsessionuuid"])
def test_boot_id_of_another_system_is_heeded(
    sign: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(capabilities, "_here", set())
    seen = []
    for boot in (b"\0one\n", b"\0one\n", b"\0two\n"):
        monkeypatch.setattr(syscalls, "sysctl", sysctl(**{name: boot}, boottime=os.urandom(16)))
        running, lost = looks(sign)
        seen.append(lost)
        os.close(running._fd)  # as when it is killed
    assert seen == [False, False, True]


def test_time_of_boot_serves_where_there_is_no_id(
    sign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capabilities, "_here", set())
    seen = []
    for seconds, microseconds in ((1000, 5), (1000, 9), (2000, 9)):
        booted = struct.pack("ll", seconds, microseconds)
        monkeypatch.setattr(syscalls, "sysctl", sysctl(boottime=booted))
        running, lost = looks(sign)
        seen.append(lost)
        os.close(running._fd)
    assert seen == [False, False, True]


def test_sysctl_is_asked_as_bsd_wants_to_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    @ctypes.CFUNCTYPE(
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.POINTER(ctypes.c_char),
        ctypes.POINTER(ctypes.c_size_t),
        ctypes.c_void_p,
        ctypes.c_size_t,
    )
    def sysctlbyname(name: bytes, old: Any, size: Any, new: int | None, length: int) -> int:
        if name != b"kern.boot_id" or new or length or size[0] < 4:
            return -1
        for at, byte in enumerate(b"\0a\0b"):
            old[at] = byte
        size[0] = 4
        return 0

    monkeypatch.setattr(syscalls, "libc", lambda: SimpleNamespace(sysctlbyname=sysctlbyname))
    assert syscalls.sysctl(b"kern.boot_id") == b"\0a\0b"
    assert syscalls.sysctl(b"kern.bootsessionuuid") is None


def test_linux_knows_no_sysctl() -> None:
    assert syscalls.sysctl(b"kern.boottime") is None


def test_store_that_lost_power_wants_a_reindex_until_it_has_one(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), fan_out=2, reserve=0)
    intake = store.intake(None)
    intake.commit("a")
    store.close()
    (tmp_path / ".dtfc" / "running").write_bytes(b"another boot\n")
    open_store(str(tmp_path), reserve=0).close()
    store = open_store(str(tmp_path), reserve=0)
    wanted = [store.needs_reindex]
    store.reindex()
    wanted.append(store.needs_reindex)
    assert wanted == [True, False]
    assert store.catalog.digests() == [Digest.of(b"")]
    store.close()
