"""twistd's door."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import IServiceMaker, MultiService
from twisted.plugin import IPlugin, getPlugins
from twisted.python import usage

from dtfc import __version__
from dtfc.settings import TABLE
from dtfc.tap import Options

NOTHING_GIVEN = {
    "port": None,
    "interface": None,
    "basedir": None,
    "temp": None,
    "provider": None,
    "fan-out": None,
    "reserve": None,
    "partial-ttl": None,
    "verify": None,
    "scrub-rate": None,
    "scrub-period": None,
    "quarantine-retry": None,
    "disk-threads": None,
    "peerlist": None,
    "me": None,
    "melist": None,
    "zone": None,
    "peerlist-poll": None,
    "peer-timeout": None,
    "peer-stall": None,
    "peer-rate": None,
    "peer-secret-file": None,
    "peer-clock-skew": None,
    "finish-load": None,
    "absent-ttl": None,
    "absent-max": None,
    "max-loads": None,
    "load-requests": None,
    "load-requests-per-peer": None,
    "peer-requests": None,
    "peer-receivers": None,
    "peer-hedge": None,
    "loading-ranges": None,
    "metalink": None,
    "accept-deletions": None,
    "peer-deletions": None,
    "deletion-ttl": None,
    "reconcile-period": None,
    "replicas": None,
    "write-quorum": None,
    "quorum-timeout": None,
    "replica-filter": None,
    "replica-queue": None,
    "replica-patience": None,
    "replica-retry": None,
    "replica-rate": None,
    "replica-peer-rate": None,
    "replica-copies": None,
    "replica-peer-copies": None,
    "deny": None,
    "peer-ca": None,
    "peer-cert": None,
    "peer-key": None,
    "couchdb": None,
    "couchdb-user-file": None,
    "couchdb-user-auth": None,
    "couchdb-catalog": None,
    "couchdb-prefetch": None,
    "couchdb-prefetch-jobs": None,
    "couchdb-prefetch-max-size": None,
    "couchdb-read": None,
    "couchdb-cache": None,
    "couchdb-timeout": None,
    "couchdb-failures": None,
    "couchdb-max-document": None,
    "purge-untracked": None,
    "purge-dry-run": 0,
    "purge-period": None,
    "purge-verify": None,
    "undelete": None,
    "require-https": None,
    "requests-per-address": None,
    "requests-per-token": None,
    "request-burst": None,
    "rate-per-address": None,
    "rate-per-token": None,
    "uploads-per-principal": None,
    "upload-ttl": None,
    "max-open-uploads": None,
    "send-rate": None,
    "ffprobe": None,
    "ffprobe-processes": None,
    "ffprobe-queue": None,
    "ffprobe-timeout": None,
    "ffprobe-memory": None,
    "audit-log": None,
    "private": 0,
    "tokens": None,
    "url-secret-file": None,
    "max-body": None,
    "max-head": None,
    "max-request-line": None,
    "max-fields": None,
    "max-ranges": None,
    "max-connections": None,
    "max-connections-per-address": None,
    "header-timeout": None,
    "hot-blobs": None,
    "idle-timeout": None,
    "body-rate": None,
    "body-grace": None,
    "write-stall": None,
    "linger-timeout": None,
    "max-age": None,
    "config": None,
    "check-config": 0,
    "workers": None,
    "log": None,
    "log-format": None,
    "drain-notice": None,
    "drain-timeout": None,
    "drain-idle": None,
    "handover-timeout": None,
    "uid": None,
    "gid": None,
    "allow-root": 0,
}


def parsed(*arguments: str) -> dict[str, object]:
    options = Options()
    options.parseOptions(list(arguments))
    return dict(options)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        parsed(*arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_nothing_given() -> None:
    assert parsed() == NOTHING_GIVEN


def test_the_flags_of_2015() -> None:
    arguments = [
        *("--port", "9000", "--basedir", "/b", "--temp", "/t", "--log", "/l", "--provider", "fs"),
        *("--deny", "/d/", "--me", "http://a:1/", "--melist", "/m", "--peerlist", "/p"),
    ]
    assert parsed(*arguments) == {
        **NOTHING_GIVEN,
        "port": "9000",
        "basedir": "/b",
        "temp": "/t",
        "log": "/l",
        "provider": "fs",
        "deny": "/d/",
        "me": "http://a:1/",
        "melist": "/m",
        "peerlist": "/p",
    }


def test_what_may_be_given_several_times() -> None:
    arguments = ["--listen", "tcp:1", "--listen", "tcp:2", "--trusted-proxies", "::1"]
    assert parsed(*arguments) == {
        **NOTHING_GIVEN,
        "listen": ["tcp:1", "tcp:2"],
        "trusted-proxies": ["::1"],
    }


def test_every_setting_has_a_line_of_help() -> None:
    usage_text = Options().getUsage(width=200)
    assert [each.name for each in TABLE if f"--{each.name}" not in usage_text] == []


def test_a_flag_that_is_misspelt(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--prot", "1")
    assert said == "dtfc: --prot: there is no setting 'prot'; is port meant?\n"


def test_a_flag_without_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "--port") == "dtfc: --port: needs a value\n"


def test_a_word_that_is_no_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert "dtfc: command line: Wrong number of arguments" in refused(capsys, "8080")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--version")
    assert capsys.readouterr().out == f"dtfc {__version__}\n"


def test_a_configuration_that_is_fine(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed("--check-config")
    assert caught.value.code == 0
    assert capsys.readouterr().out == "configuration is fine\n"


def test_everything_that_is_wrong_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "dtfc.toml"
    file.write_text("\nreserve = -1\n")
    said = refused(capsys, "--check-config", "--config", str(file), "--port", "x")
    assert said.splitlines() == [
        "dtfc: --port: 'x' is not a whole number",
        f"dtfc: {file}:2: reserve: '-1' is not a size such as 4096, 512KiB, 64MiB or 1.5G",
    ]


def test_what_settings_name_is_looked_at(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    peers = tmp_path / "peers"
    peers.write_text("http://a:1/\nnonsense here\n")
    arguments = [
        *("--listen", "ssl:0:privateKey=/nowhere.pem", "--listen", "tcp:port=x"),
        *("--peerlist", str(peers), "--melist", "/nowhere", "--peer-secret-file", "/nowhere"),
        *("--tokens", "/nowhere/tokens"),
    ]
    said = refused(capsys, "--check-config", *arguments).splitlines()
    assert [line.split(": ")[1] for line in said] == [
        "--listen",
        "--listen",
        f"{peers}:2",
        "--melist",
        "--peer-secret-file",
        "--tokens",
    ]


def the_plugin() -> Any:
    [found] = [each for each in getPlugins(IServiceMaker) if each.tapname == "dtfc"]
    return found


def test_the_plugin_is_found_and_imports_nothing_of_dtfc() -> None:
    plugin = the_plugin()
    assert plugin.module == "dtfc.tap"
    assert IPlugin.providedBy(plugin)
    source = Path(sys.modules["twisted.plugins.dtfc_plugin"].__file__ or "").read_text()
    assert "import dtfc" not in source
    assert "from dtfc" not in source


def test_the_plugin_makes_these_options() -> None:
    assert isinstance(the_plugin().options(), Options)


class TwistdOptions(usage.Options):
    """What twistd's own options are to the service maker."""

    optParameters = [["uid", "u", None, ""], ["gid", "g", None, ""]]  # noqa: RUF012, N815 - Twisted's


def test_the_user_is_handed_to_twistd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    options = Options()
    options.parent = TwistdOptions()
    options.parseOptions(["--uid", "nobody", "--gid", "1", "--basedir", str(tmp_path / "store")])
    service = the_plugin().makeService(options)
    assert isinstance(service, MultiService)
    assert options.parent["uid"] == 65534
    assert options.parent["gid"] == 1
