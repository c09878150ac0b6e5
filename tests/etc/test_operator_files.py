"""The files for operators are what the programs that read them take."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dtfc.peers.listing import first_entry, parse_roster
from dtfc.replicas.copyfilter import Described, parse_filter
from tests.support.programs import require_program

ETC = Path(__file__).resolve().parents[2] / "etc"
WORST_EXPOSURE = 1.5


@pytest.fixture(autouse=True)
def sbin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let programs be found that Debian keeps out of an ordinary user's way."""
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin:/sbin")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def with_real_paths(folder: Path, name: str) -> Path:
    """Copy a unit, with a program in it that exists here."""
    unit = (ETC / name).read_text().replace("/opt/dtfc/bin/twistd", shutil.which("true") or "")
    (folder / name).write_text(unit)
    return folder / name


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    systemd_analyze = require_program("systemd-analyze")
    units = [str(with_real_paths(tmp_path, name)) for name in ("dtfc.service", "dtfc.socket")]
    verified = run(systemd_analyze, "verify", *units)
    assert verified.returncode == 0, verified.stderr
    assert [line for line in verified.stderr.splitlines() if "dtfc." in line] == []


def test_the_service_is_exposed_to_little(tmp_path: Path) -> None:
    systemd_analyze = require_program("systemd-analyze")
    unit = with_real_paths(tmp_path, "dtfc.service")
    scored = run(systemd_analyze, "security", "--offline=true", str(unit))
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", scored.stdout)
    assert match is not None, scored.stderr
    assert float(match[1]) <= WORST_EXPOSURE


def test_systemd_waits_longer_than_the_drain() -> None:
    service = (ETC / "dtfc.service").read_text()
    match = re.search(r"^TimeoutStopSec=([0-9]+)s$", service, re.MULTILINE)
    assert match is not None
    assert int(match[1]) > 30


def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    nginx, openssl = require_program("nginx"), require_program("openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = run(
        *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-days", "2", "-subj", "/CN=files.example"),
        *("-keyout", str(key), "-out", str(certificate)),
    )
    assert made.returncode == 0, made.stderr
    ours = (ETC / "nginx.conf").read_text()
    ours = ours.replace("/etc/ssl/certs/files.example.pem", str(certificate))
    ours = ours.replace("/etc/ssl/private/files.example.key", str(key))
    (tmp_path / "ours.conf").write_text(ours)
    main = tmp_path / "nginx.conf"
    main.write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; include {tmp_path}/ours.conf; }}\n"
    )
    tested = run(nginx, "-t", "-q", "-p", str(tmp_path), "-c", str(main))
    assert tested.returncode == 0, tested.stderr


@pytest.mark.parametrize(
    "directive",
    [
        "proxy_request_buffering off;",
        "proxy_buffering off;",
        "client_max_body_size 0;",
        "proxy_http_version 1.1;",
    ],
)
def test_nginx_keeps_nothing_on_the_way(directive: str) -> None:
    assert directive in (ETC / "nginx.conf").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="nft asks the kernel even to check")
def test_nft_takes_its_rules() -> None:
    checked = run(require_program("nft"), "--check", "--file", str(ETC / "nftables.conf"))
    assert checked.returncode == 0, checked.stderr


def test_logrotate_takes_its_configuration(tmp_path: Path) -> None:
    logrotate = require_program("logrotate")
    (tmp_path / "log").mkdir(mode=0o755)
    (tmp_path / "log/dtfc.log").write_text("a line\n")
    ours = (ETC / "logrotate").read_text().replace("/var/log/dtfc/", f"{tmp_path}/log/")
    (tmp_path / "conf").write_text(ours)
    os.chmod(tmp_path / "conf", 0o644)
    state = str(tmp_path / "state")
    tried = run(logrotate, "--debug", "--force", "--state", state, str(tmp_path / "conf"))
    assert tried.returncode == 0, tried.stderr
    assert "error" not in tried.stderr.lower()


@pytest.mark.parametrize("path", ["etc/dtfc.rc", ".ci/make-venv"])
def test_a_shell_script_parses(path: str) -> None:
    checked = run("sh", "-n", str(ETC.parent / path))
    assert checked.returncode == 0, checked.stderr


def test_the_sample_peer_list() -> None:
    peers, bad = parse_roster((ETC / "peerlist").read_text())
    assert bad == []
    assert [each.url for each in peers] == [
        "http://files1.example:8080",
        "http://files2.example:8080",
        "http://files3.example:8080",
    ]


def test_the_sample_filter_of_copies() -> None:
    found, bad = parse_filter((ETC / "replica-filter").read_text())
    assert bad == []
    assert not found.wants(Described("half.part", "application/octet-stream", 1))
    assert found.wants(Described("a.jpg", "image/jpeg", 5 << 30))
    assert not found.wants(Described("a.mkv", "video/x-matroska", 5 << 30))


def test_the_sample_melist_names_a_node_of_the_sample_peer_list() -> None:
    me = first_entry((ETC / "melist").read_text())
    assert me is not None
    assert me in (ETC / "peerlist").read_text()
