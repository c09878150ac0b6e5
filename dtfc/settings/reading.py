"""From flags, file and environment to one :class:`Settings`.

Rules of this file: defaults are overridden by the configuration file, and the
file by flags. Every problem is collected, each with the flag or the line it
stands in, so that an operator mends them all in one go. Only :func:`load`
touches the system (it reads the configuration file); all the rest is pure.
"""

from __future__ import annotations

import difflib
import posixpath
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dtfc.errors import BadSetting, BadSettings
from dtfc.settings.declaring import Setting
from dtfc.settings.table import BY_NAME, TABLE, Settings


@dataclass(frozen=True, slots=True)
class Given:
    """A setting as somebody wrote it.

    Args:
        texts: what was written; several where the setting allows it.
        where: the flag, or the file and line.
        folder: what relative paths are relative to.
    """

    texts: tuple[str, ...]
    where: str
    folder: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each of them that is no default was given."""

    settings: Settings
    where: Mapping[str, str]

    def problem(self, name: str, reason: str) -> BadSetting:
        """Make the error for a value that proved unusable later on."""
        return BadSetting(self.where.get(name, f"--{name} (default)"), reason)


def load(flags: Mapping[str, object], environment: Mapping[str, str], folder: str) -> Loaded:
    """Read the configuration file, if there is one, and resolve everything.

    Args:
        flags: what the command line gave, by setting name; ``None`` (or false,
            for a switch) where it gave nothing.
        environment: the process's environment variables.
        folder: the current folder, absolute.

    Raises:
        BadSettings: with every problem that was found.
    """
    problems: list[BadSetting] = []
    by_flag = given_by_flags(flags, folder)
    by_file: dict[str, Given] = {}
    if "config" in by_flag:
        path = _absolute(by_flag["config"].texts[-1], folder, environment)
        try:
            with open(path, "rb") as file:
                content = file.read().decode("utf-8")
        except OSError as error:
            problems.append(BadSetting("--config", f"{path}: {error.strerror}"))
        except UnicodeDecodeError as error:
            problems.append(BadSetting(path, f"is not UTF-8: {error.reason}"))
        else:
            by_file, problems = given_by_file(content, path)
    return resolve(by_flag, by_file, environment, problems)


def given_by_flags(flags: Mapping[str, object], folder: str) -> dict[str, Given]:
    """Take out what the command line really gave."""
    given: dict[str, Given] = {}
    for name, value in flags.items():
        if name not in BY_NAME or value in (None, False, []):
            continue
        texts = [str(each) for each in value] if isinstance(value, list) else [str(value)]
        if BY_NAME[name].is_switch:
            texts = ["true"]
        given[name] = Given(tuple(texts), f"--{name}", folder)
    return given


def given_by_file(content: str, path: str) -> tuple[dict[str, Given], list[BadSetting]]:
    """Parse the text of a configuration file.

    Args:
        content: the file's text.
        path: its absolute path: problems name it, and relative paths in the
            file are relative to its folder.
    """
    try:
        parsed = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"\(at line ([0-9]+), column [0-9]+\)", str(error))
        line = match[1] if match else str(content.count("\n") + 1)
        reason = re.sub(r" \(at .*\)\Z", "", str(error))
        return {}, [BadSetting(f"{path}:{line}", f"is not TOML: {reason}")]
    given: dict[str, Given] = {}
    problems: list[BadSetting] = []
    for name, value in parsed.items():
        where = f"{path}:{_line_of(name, content)}"
        setting = BY_NAME.get(name)
        if setting is None:
            problems.append(BadSetting(where, unknown(name)))
        elif not setting.in_file:
            problems.append(BadSetting(where, f"{name} can only be given as a flag"))
        else:
            try:
                texts = _texts(setting, value)
            except ValueError as error:
                problems.append(BadSetting(where, f"{name}: {error}"))
            else:
                # In the sample "" stands for "no value": leave it at the default.
                if any(texts) or setting.default is not None:
                    given[name] = Given(texts, where, posixpath.dirname(path))
    return given, problems


def unknown(name: str) -> str:
    """Say that there is no such setting, and which one may have been meant."""
    close = difflib.get_close_matches(name.replace("_", "-"), BY_NAME, n=1, cutoff=0.6)
    hint = f"; is {close[0]} meant?" if close else ""
    return f"there is no setting {name!r}{hint}"


def resolve(
    flags: Mapping[str, Given],
    file: Mapping[str, Given],
    environment: Mapping[str, str],
    problems: Iterable[BadSetting] = (),
) -> Loaded:
    """Parse what was given, flags before file before defaults.

    Args:
        flags: from the command line.
        file: from the configuration file.
        environment: for the default of ``basedir``, and for ``~/`` in paths.
        problems: what has already been found wrong.

    Raises:
        BadSettings: with ``problems`` and every further one.
    """
    wrong = list(problems)
    given = {**file, **flags}
    found: dict[str, Any] = {}
    for setting in TABLE:
        each = given.get(setting.name)
        if each is None:
            continue
        texts = each.texts
        try:
            # "-" is standard output, where that makes sense.
            if setting.path and texts[-1].strip() not in {"", "-", *setting.words}:
                texts = (_absolute(texts[-1], each.folder, environment),)
            found[setting.attribute] = setting.parse(texts)
        except ValueError as error:
            name = "" if each.where.startswith("--") else f"{setting.name}: "
            wrong.append(BadSetting(each.where, f"{name}{error}"))
    if "basedir" not in given:
        try:
            found["basedir"] = _default_basedir(environment)
        except ValueError as error:
            wrong.append(BadSetting("--basedir", str(error)))
    if found.get("listen") and "port" not in given:
        found["port"] = None
    if not wrong:
        settings = Settings(**found)
        wrong.extend(_contradictions(settings, given))
    if wrong:
        raise BadSettings(wrong)
    return Loaded(settings, {name: each.where for name, each in given.items()})


def _beside_couchdb(settings: Settings, given: Mapping[str, Given]) -> Iterator[BadSetting]:
    if settings.couchdb_db and settings.couchdb is None:
        yield BadSetting(
            given["couchdb-db"].where, "couchdb-db names a database, and couchdb no server"
        )
    if settings.purge_untracked is not None and not settings.couchdb_db:
        yield BadSetting(
            given["purge-untracked"].where,
            "purge-untracked collects what no database refers to, and no couchdb-db is named",
        )
    if settings.purge_dry_run and settings.purge_untracked is None:
        yield BadSetting(
            given["purge-dry-run"].where, "purge-dry-run is for purge-untracked, which is not given"
        )
    if settings.couchdb_catalog and settings.couchdb is None:
        yield BadSetting(
            given["couchdb-catalog"].where,
            "couchdb-catalog names a database, and couchdb no server",
        )
    if settings.couchdb_catalog in settings.couchdb_db:
        yield BadSetting(
            given["couchdb-catalog"].where,
            "the database of couchdb-catalog cannot be one of couchdb-db: what it names would all "
            "be in use",
        )
    if settings.couchdb_prefetch != "none" and not settings.couchdb_db:
        yield BadSetting(
            given["couchdb-prefetch"].where, "couchdb-prefetch, and couchdb-db names no database"
        )
    jobs = settings.couchdb_prefetch_jobs
    if settings.couchdb_prefetch != "none" and jobs >= settings.max_loads:
        where = given.get("couchdb-prefetch-jobs") or given["max-loads"]
        yield BadSetting(
            where.where,
            f"of max-loads ({settings.max_loads}) couchdb-prefetch-jobs ({jobs}) leaves none for "
            "clients",
        )


def _contradictions(settings: Settings, given: Mapping[str, Given]) -> Iterator[BadSetting]:
    if settings.port is None and settings.interface is not None:
        yield BadSetting(
            given["interface"].where, "interface is for --port, and only --listen is given"
        )
    if settings.gid is not None and settings.uid is None:
        yield BadSetting(given["gid"].where, "gid without uid; give both, or uid alone")
    if settings.write_quorum > settings.replicas:
        where = given.get("write-quorum") or given["replicas"]
        yield BadSetting(
            where.where,
            f"write-quorum ({settings.write_quorum}) is more than replicas ({settings.replicas})",
        )
    yield from _beside_couchdb(settings, given)
    if settings.max_request_line > settings.max_head:
        where = given.get("max-request-line") or given["max-head"]
        yield BadSetting(
            where.where,
            f"max-request-line ({settings.max_request_line} bytes) "
            f"is more than max-head ({settings.max_head} bytes)",
        )


def _default_basedir(environment: Mapping[str, str]) -> str:
    # systemd lists several state folders with colons between them.
    state = environment.get("STATE_DIRECTORY", "").split(":")[0]
    if state:
        return _checked_absolute(state, "STATE_DIRECTORY")
    data = environment.get("XDG_DATA_HOME", "")
    # The XDG specification has relative paths ignored.
    if posixpath.isabs(data):
        return posixpath.join(data, "dtfc")
    home = environment.get("HOME", "")
    if home:
        return posixpath.join(_checked_absolute(home, "HOME"), ".local", "share", "dtfc")
    raise ValueError("must be given, as none of STATE_DIRECTORY, XDG_DATA_HOME and HOME is set")


def _checked_absolute(path: str, variable: str) -> str:
    if not posixpath.isabs(path):
        raise ValueError(f"must be given, as {variable} is {path!r}, which is not absolute")
    return posixpath.normpath(path)


def _absolute(path: str, folder: str, environment: Mapping[str, str]) -> str:
    home = environment.get("HOME")
    if path.startswith("~/") and home:
        path = posixpath.join(home, path[2:])
    joined = posixpath.join(folder, path)
    # A prefix (--deny /etc/dtfc/deny/) means something else without its last slash.
    last = "/" if joined.endswith("/") and joined.strip("/") else ""
    return posixpath.normpath(joined) + last


def _texts(setting: Setting, value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        if not setting.many:
            raise ValueError("takes one value, not a list")
        return tuple(_text(each) for each in value)
    if setting.is_switch != isinstance(value, bool):
        wanted = "true or false" if setting.is_switch else "a value, not true or false"
        raise ValueError(f"takes {wanted}")
    return (_text(value),)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError("takes text or a number, not a table, date or list in a list")


def _line_of(name: str, content: str) -> int:
    """Find the line in which a key of the top level, or its table, begins.

    A line that only looks like it, inside a multi-line string, is told apart by
    what stands before it: that is then no TOML by itself.
    """
    key = re.escape(name)
    begins = re.compile(rf"\s*\[{{0,2}}\s*(?:{key}|\"{key}\"|'{key}')\s*[=.\]]")
    lines = content.splitlines()
    for number, line in enumerate(lines):
        if begins.match(line):
            try:
                tomllib.loads("\n".join(lines[:number]))
            except tomllib.TOMLDecodeError:
                continue
            return number + 1
    return 1


def changed(old: Settings, new: Settings) -> tuple[list[str], list[str]]:
    """Compare settings: names whose new value takes effect now, and names that need a restart."""
    names = [each for each in TABLE if getattr(old, each.attribute) != getattr(new, each.attribute)]
    now = [each.name for each in names if each.reloadable]
    later = [each.name for each in names if not each.reloadable]
    return now, later


def reloaded(old: Settings, new: Settings) -> Settings:
    """Return ``new``, but with the old values of what only a restart can change."""
    fixed = [each.attribute for each in TABLE if not each.reloadable]
    values = {each.attribute: getattr(new, each.attribute) for each in TABLE}
    return Settings(**{**values, **{name: getattr(old, name) for name in fixed}})
