"""Who the process is, and what is ready for it."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from dtfc.daemon.cannot_start import CannotStart
from dtfc.daemon.privileges import (
    OPEN_MAX,
    Identity,
    choose_identity,
    prepare_file,
    prepare_folder,
    raise_descriptor_limit,
)
from dtfc.errors import BadSetting
from dtfc.settings import Loaded, load

NOBODY = pwd.getpwnam("nobody")
US = os.geteuid()


def flags(**given: object) -> Loaded:
    return load(
        {name.replace("_", "-"): value for name, value in given.items()}, {"HOME": "/"}, "/"
    )


def test_an_ordinary_user_stays() -> None:
    assert choose_identity(flags(), None, None, euid=1000) is None


def test_root_is_refused_and_told_the_flags() -> None:
    with pytest.raises(BadSetting, match=r"root.*--uid nobody.*--allow-root"):
        choose_identity(flags(), None, None, euid=0)


def test_root_that_asks_to_stay_root_is_refused_as_well() -> None:
    with pytest.raises(BadSetting, match="does not run as root"):
        choose_identity(flags(), 0, 0, euid=0)


def test_root_that_was_asked_for() -> None:
    assert choose_identity(flags(allow_root=1), None, None, euid=0) is None


def test_twistds_user_with_its_own_group() -> None:
    chosen = choose_identity(flags(), NOBODY.pw_uid, None, euid=0)
    assert chosen == Identity(NOBODY.pw_uid, NOBODY.pw_gid)


def test_our_user_by_name_and_group_by_number() -> None:
    chosen = choose_identity(flags(uid="nobody", gid="1"), None, None, euid=0)
    assert chosen == Identity(NOBODY.pw_uid, 1)


def test_the_same_user_said_twice() -> None:
    chosen = choose_identity(flags(uid="nobody"), NOBODY.pw_uid, None, euid=0)
    assert chosen == Identity(NOBODY.pw_uid, NOBODY.pw_gid)


def test_the_user_that_we_are_already() -> None:
    assert choose_identity(flags(uid="nobody"), None, None, euid=NOBODY.pw_uid) is None


@pytest.mark.parametrize(
    ("given", "twistd", "euid", "reason"),
    [
        ({"uid": "no-such-user"}, None, 0, "--uid: there is no user 'no-such-user'"),
        ({"uid": "4000000"}, None, 0, "--uid: there is no user 4000000"),
        ({"uid": "nobody", "gid": "no-such"}, None, 0, "--gid: there is no group 'no-such'"),
        ({"uid": "nobody"}, 1, 0, "twistd's --uid is 1"),
        ({"uid": "nobody"}, None, 1000, "only root can become user"),
    ],
)
def test_a_user_that_cannot_be(
    given: dict[str, object], twistd: int | None, euid: int, reason: str
) -> None:
    with pytest.raises(BadSetting, match=reason):
        choose_identity(flags(**given), twistd, None, euid)


def test_a_missing_folder_is_made_for_us_alone(tmp_path: Path) -> None:
    prepare_folder(str(tmp_path / "a/b/store"), None, "basedir")
    assert stat.S_IMODE((tmp_path / "a/b/store").stat().st_mode) == 0o700


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(CannotStart, match=r"--basedir .*: Not a directory"):
        prepare_folder(str(tmp_path / "store"), None, "basedir")


def test_a_missing_log_is_made_and_an_old_one_kept(tmp_path: Path) -> None:
    path = tmp_path / "log/dtfc.log"
    prepare_file(str(path), None, "log")
    path.write_text("old")
    prepare_file(str(path), None, "log")
    assert path.read_text() == "old"


def test_a_start_that_fails_is_no_traceback() -> None:
    error = CannotStart("why")
    assert isinstance(error, Exception)
    assert error.code == "dtfc: why"


def test_the_limit_of_open_files_is_raised() -> None:
    assert raise_descriptor_limit() >= 256


def test_where_no_end_is_said_and_refused_the_usual_most_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_to: list[tuple[int, int]] = []

    def setrlimit(_which: int, limits: tuple[int, int]) -> None:
        if limits[0] > OPEN_MAX:
            raise ValueError("not allowed to raise maximum limit")
        set_to.append(limits)

    unlimited = (1 << 63) - 1
    monkeypatch.setattr("resource.getrlimit", lambda _which: (256, unlimited))
    monkeypatch.setattr("resource.setrlimit", setrlimit)
    assert raise_descriptor_limit() == OPEN_MAX
    assert set_to == [(OPEN_MAX, unlimited)]


def test_where_nothing_can_be_raised_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def setrlimit(_which: int, _limits: tuple[int, int]) -> None:
        raise OSError("refused")

    monkeypatch.setattr("resource.getrlimit", lambda _which: (256, 512))
    monkeypatch.setattr("resource.setrlimit", setrlimit)
    assert raise_descriptor_limit() == 256


needs_root = pytest.mark.skipif(US != 0, reason="only root can give files away")


@pytest.fixture
def passable(tmp_path: Path) -> Path:
    """A folder that other users can pass."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        os.chmod(folder, 0o755)  # noqa: S103 - others must pass
    return tmp_path


@needs_root
def test_a_new_folder_belongs_to_the_user_and_can_be_reached(passable: Path) -> None:
    old = os.umask(0o077)
    try:
        prepare_folder(str(passable / "a/b"), Identity(NOBODY.pw_uid, NOBODY.pw_gid), "basedir")
    finally:
        os.umask(old)
    assert (passable / "a/b").stat().st_uid == NOBODY.pw_uid
    assert stat.S_IMODE((passable / "a").stat().st_mode) == 0o755


@needs_root
def test_an_empty_folder_of_root_is_given_to_the_user(passable: Path) -> None:
    (passable / "lost+found").mkdir()
    prepare_folder(str(passable), Identity(NOBODY.pw_uid, NOBODY.pw_gid), "basedir")
    assert passable.stat().st_uid == NOBODY.pw_uid


@needs_root
def test_a_folder_of_somebody_else_is_not_taken(passable: Path) -> None:
    (passable / "store/their").mkdir(parents=True)
    with pytest.raises(CannotStart, match="user nobody cannot write there"):
        prepare_folder(str(passable / "store"), Identity(NOBODY.pw_uid, NOBODY.pw_gid), "basedir")
    assert (passable / "store").stat().st_uid == 0


@needs_root
def test_a_folder_that_the_user_cannot_reach(passable: Path) -> None:
    (passable / "private").mkdir(mode=0o700)
    nobody = Identity(NOBODY.pw_uid, NOBODY.pw_gid)
    with pytest.raises(CannotStart, match="user nobody cannot write there"):
        prepare_folder(str(passable / "private/store"), nobody, "basedir")


@needs_root
def test_root_is_root_again_after_looking(passable: Path) -> None:
    groups = os.getgroups()
    prepare_folder(str(passable / "store"), Identity(NOBODY.pw_uid, NOBODY.pw_gid), "basedir")
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, groups)


@needs_root
def test_a_new_log_belongs_to_the_user(passable: Path) -> None:
    prepare_file(str(passable / "x/log"), Identity(NOBODY.pw_uid, NOBODY.pw_gid), "log")
    assert (passable / "x/log").stat().st_uid == NOBODY.pw_uid
    assert (passable / "x").stat().st_uid == NOBODY.pw_uid
