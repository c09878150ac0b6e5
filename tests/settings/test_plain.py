"""Settings that go to another process are the same there."""

from __future__ import annotations

import json

import pytest

from dtfc.settings import Settings, load
from dtfc.settings.plain import from_plain, to_plain


def settings(**flags: object) -> Settings:
    return load(flags, {"HOME": "/home/x"}, "/here").settings


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"port": "0", "workers": "4", "max-body": "1G", "me": "http://a:1/"},
        {"listen": ["tcp:1", "unix:/x"], "allow-anonymous": ["put,delete"]},
        {"trusted-proxies": ["10.0.0.0/8,::1"], "finish-load": "0.25", "absent-ttl": "1ms"},
        {"max-connections-per-address": "none", "allow-root": True, "deny": "/d/"},
    ],
)
def test_what_comes_back_is_what_went(flags: dict[str, object]) -> None:
    went = settings(**flags)
    assert from_plain(json.loads(json.dumps(to_plain(went)))) == went


@pytest.mark.parametrize("missing", ["port", "trusted_proxies"])
def test_settings_of_another_version(missing: str) -> None:
    plain = to_plain(settings())
    del plain[missing]
    with pytest.raises(ValueError, match="not the settings of this version"):
        from_plain(plain)
    with pytest.raises(ValueError, match="not the settings of this version"):
        from_plain({**to_plain(settings()), "colour": "red"})
