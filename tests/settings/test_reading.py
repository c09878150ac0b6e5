"""From flags, file and environment to settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.errors import BadSettings
from dtfc.settings import BY_NAME, TABLE, Loaded, Settings, changed, load, reloaded
from dtfc.settings.reading import given_by_file

HOME = {"HOME": "/home/me"}


def loaded(tmp_path: Path, content: str = "", **flags: object) -> Loaded:
    """Load with a configuration file; flags with underscores for hyphens."""
    file = tmp_path / "dtfc.toml"
    file.write_text(content)
    given = {name.replace("_", "-"): value for name, value in flags.items()}
    return load({"config": str(file), **given}, HOME, "/here")


def problems(tmp_path: Path, content: str = "", **flags: object) -> list[str]:
    """Load what is wrong, and return what is said of it, with FILE for the file's path."""
    with pytest.raises(BadSettings) as caught:
        loaded(tmp_path, content, **flags)
    path = str(tmp_path / "dtfc.toml")
    return [str(each).replace(path, "FILE") for each in caught.value.problems]


def test_nothing_given_is_every_default() -> None:
    assert load({}, HOME, "/here").settings == Settings(basedir="/home/me/.local/share/dtfc")


def test_a_flag_goes_before_the_file(tmp_path: Path) -> None:
    assert loaded(tmp_path, "port = 1\nreserve = 3", port="2").settings.port == 2


def test_the_file_goes_before_the_default(tmp_path: Path) -> None:
    assert loaded(tmp_path, "port = 1").settings.port == 1


def test_a_reloaded_file_names_where_each_value_stands(tmp_path: Path) -> None:
    where = loaded(tmp_path, "\nport = 1", reserve="1M").where
    assert where["port"] == f"{tmp_path}/dtfc.toml:2"
    assert where["reserve"] == "--reserve"


@pytest.mark.parametrize(
    ("environment", "basedir"),
    [
        ({"STATE_DIRECTORY": "/var/lib/dtfc", "HOME": "/h"}, "/var/lib/dtfc"),
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a"),
        ({"XDG_DATA_HOME": "/data", "HOME": "/h"}, "/data/dtfc"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/h"}, "/h/.local/share/dtfc"),
        ({"HOME": "/h"}, "/h/.local/share/dtfc"),
    ],
)
def test_the_basedir_that_the_environment_gives(environment: dict[str, str], basedir: str) -> None:
    assert load({}, environment, "/here").settings.basedir == basedir


@pytest.mark.parametrize("environment", [{}, {"HOME": "relative"}, {"STATE_DIRECTORY": "x"}])
def test_an_environment_that_gives_no_basedir(environment: dict[str, str]) -> None:
    with pytest.raises(BadSettings, match="--basedir: must be given"):
        load({}, environment, "/here")


def test_a_path_in_a_flag_is_relative_to_the_current_folder() -> None:
    assert load({"basedir": "store"}, HOME, "/here").settings.basedir == "/here/store"


def test_a_path_in_the_file_is_relative_to_the_file(tmp_path: Path) -> None:
    assert loaded(tmp_path, 'basedir = "store"').settings.basedir == f"{tmp_path}/store"


def test_a_tilde_is_home(tmp_path: Path) -> None:
    assert loaded(tmp_path, 'basedir = "~/store"').settings.basedir == "/home/me/store"


def test_a_prefix_keeps_its_last_slash() -> None:
    assert load({"deny": "deny/"}, HOME, "/here").settings.deny == "/here/deny/"


def test_standard_output_is_no_path() -> None:
    assert load({"log": "-"}, HOME, "/here").settings.log == "-"


def test_listening_elsewhere_leaves_the_port_out() -> None:
    assert load({"listen": ["unix:/run/x"]}, HOME, "/here").settings.port is None


def test_listening_elsewhere_and_on_a_port_that_is_given() -> None:
    settings = load({"listen": ["unix:/run/x"], "port": "80"}, HOME, "/here").settings
    assert (settings.port, settings.listen) == (80, ("unix:/run/x",))


def test_a_list_in_the_file(tmp_path: Path) -> None:
    content = 'listen = ["tcp:1", "tcp:2"]\nallow-anonymous = "put,delete"'
    settings = loaded(tmp_path, content).settings
    assert settings.listen == ("tcp:1", "tcp:2")
    assert settings.allow_anonymous == ("put", "delete")


def test_every_problem_is_told_with_its_place(tmp_path: Path) -> None:
    content = 'port = 99999\nfan_out = 2\n\nreserve = "much"\n[limits]\nmax-body = 1\n'
    assert problems(tmp_path, content, max_body="1x", provider="s3") == [
        "FILE:2: there is no setting 'fan_out'; is fan-out meant?",
        "FILE:5: there is no setting 'limits'",
        "FILE:1: port: 99999 is not between 0 and 65535",
        "--provider: 's3' is not built into this version; fs (a folder) is",
        "FILE:4: reserve: 'much' is not a size such as 4096, 512KiB, 64MiB or 1.5G",
        "--max-body: '1x' is not a size such as 4096, 512KiB, 64MiB or 1.5G",
    ]


def test_a_file_that_is_no_toml_is_told_with_its_line(tmp_path: Path) -> None:
    assert problems(tmp_path, 'port = 1\nreserve = "\n') == [
        "FILE:2: is not TOML: Illegal character '\\n'"
    ]


def test_a_file_that_is_missing() -> None:
    with pytest.raises(BadSettings, match="--config: /nowhere/x: No such file or directory"):
        load({"config": "/nowhere/x"}, HOME, "/here")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff")
    with pytest.raises(BadSettings, match="is not UTF-8"):
        load({"config": str(tmp_path / "x")}, HOME, "/here")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("port = true", "port: takes a value, not true or false"),
        ("port = [1]", "port: takes one value, not a list"),
        ("port = 1979-05-27", "port: takes text or a number, not a table, date or list in a list"),
        ("allow-root = 1", "allow-root: takes true or false"),
        ("listen = [[1]]", "listen: takes text or a number, not a table, date or list in a list"),
        ('config = "x"', "config can only be given as a flag"),
        ("check-config = true", "check-config can only be given as a flag"),
    ],
)
def test_a_value_of_the_wrong_kind(tmp_path: Path, line: str, reason: str) -> None:
    assert problems(tmp_path, line) == [f"FILE:1: {reason}"]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"interface": "::1", "listen": ["tcp:1"]}, "interface is for --port"),
        ({"gid": "1"}, "gid without uid"),
        ({"max-request-line": "20K"}, "is more than max-head"),
        ({"couchdb-catalog": "names"}, "couchdb no server"),
        (
            {"couchdb": "http://c:1", "couchdb-db": ["names"], "couchdb-catalog": "names"},
            "cannot be one of couchdb-db",
        ),
        ({"couchdb-prefetch": "all"}, "couchdb-db names no database"),
        (
            {"couchdb": "http://c:1", "couchdb-db": ["a"], "couchdb-prefetch": "all"}
            | {"max-loads": "2"},
            "leaves none for clients",
        ),
    ],
)
def test_settings_that_contradict_each_other(flags: dict[str, object], reason: str) -> None:
    with pytest.raises(BadSettings, match=reason):
        load(flags, HOME, "/here")


def test_a_line_inside_a_text_is_not_taken_for_a_setting() -> None:
    content = 'basedir = """\nprot = 1\n"""\nprot = 2\n'
    _, wrong = given_by_file(content, "/x")
    assert [each.where for each in wrong] == ["/x:4"]


@given(st.text())
def test_any_file_is_read_or_refused_with_a_place(content: str) -> None:
    _, wrong = given_by_file(content, "/x")
    assert all(each.where.startswith("/x:") for each in wrong)


def test_what_a_reload_changes_and_what_it_does_not() -> None:
    old = Settings(basedir="/a", port=1, max_body=1)
    new = Settings(basedir="/b", port=1, max_body=2)
    assert changed(old, new) == (["max-body"], ["basedir"])
    assert reloaded(old, new) == Settings(basedir="/a", port=1, max_body=2)


def test_each_setting_is_a_field_and_each_field_a_setting() -> None:
    assert [each.attribute for each in TABLE] == [
        each.name for each in dataclasses.fields(Settings)
    ]
    assert len(BY_NAME) == len(TABLE)


def test_each_limit_says_what_it_is() -> None:
    assert [each.name for each in TABLE if not each.help.endswith(".")] == []
