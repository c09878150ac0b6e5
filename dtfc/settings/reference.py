"""The table of settings as people read it: documentation and the sample configuration.

Rules of this file: pure text; ``docs/running.md`` and ``etc/dtfc.toml`` are made
here, and tests compare the files with what is made.
"""

from __future__ import annotations

import textwrap
from itertools import groupby

from dtfc.settings.declaring import Setting
from dtfc.settings.table import TABLE


def markdown() -> str:
    """Return the tables of ``docs/running.md``, one a group."""
    lines: list[str] = []
    for group, settings in groupby(TABLE, key=lambda each: each.group):
        lines += [f"### {group}", "", "| setting | default | reload | what it does |"]
        lines += ["|---|---|---|---|"]
        lines += [_row(each) for each in settings]
        lines += [""]
    return "\n".join(lines).rstrip("\n") + "\n"


BEGIN = "<!-- settings: made by make docs -->"
END = "<!-- settings: end -->"


def spliced(document: str) -> str:
    """Return a document with what stands between :data:`BEGIN` and :data:`END` made anew.

    Raises:
        ValueError: the document does not have both lines.
    """
    return replaced(document, BEGIN, END, markdown())


def replaced(document: str, begin: str, end: str, made: str) -> str:
    """Return a document with what stands between two lines replaced.

    Raises:
        ValueError: the document does not have both lines.
    """
    before, first, rest = document.partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise ValueError(f"there are no lines {begin} and {end}")
    return f"{before}{begin}\n\n{made}\n{end}{after}"


def sample() -> str:
    """Return the sample configuration: every setting, commented out, with its default."""
    lines = [
        "# dtfc's configuration: every setting, with its default.",
        "#",
        "#     twistd -n dtfc --config /etc/dtfc/dtfc.toml",
        "#     twistd -n dtfc --config /etc/dtfc/dtfc.toml --check-config",
        "#",
        "# The names are those of the flags; a flag goes before what stands here. Relative",
        "# paths are relative to this file's folder. SIGHUP reads it again, all or nothing;",
        "# what is marked (restart) then keeps its old value until the next start.",
        "# Sizes: 4096, 512KiB, 64MiB, 1.5G. Times: 500ms, 30s, 5m, 1h30m, 7d.",
    ]
    for group, settings in groupby(TABLE, key=lambda each: each.group):
        lines += ["", f"# --- {group}"]
        for each in settings:
            if each.in_file:
                lines += ["", *_commented(each)]
    return "\n".join(lines) + "\n"


def _row(setting: Setting) -> str:
    metavar = f" {setting.metavar}" if setting.metavar else ""
    short = f", `-{setting.short}`" if setting.short else ""
    default = f"`{_written_default(setting)}`" if _has_plain_default(setting) else _note(setting)
    reload = "yes" if setting.reloadable else "no"
    return f"| `--{setting.name}{metavar}`{short} | {default} | {reload} | {setting.help} |"


def _commented(setting: Setting) -> list[str]:
    restart = "" if setting.reloadable else " (restart)"
    note = "" if _has_plain_default(setting) else f" Default: {_note(setting)}."
    about = textwrap.wrap(f"{setting.help}{note}{restart}", width=86)
    return [*(f"# {line}" for line in about), f"#{setting.name} = {_toml_value(setting)}"]


def _has_plain_default(setting: Setting) -> bool:
    return setting.default is not None and not setting.many and not setting.default_note


def _written_default(setting: Setting) -> str:
    return "off" if setting.is_switch else setting.shown_default


def _note(setting: Setting) -> str:
    return setting.default_note or "none"


def _toml_value(setting: Setting) -> str:
    if setting.many:
        return "[]"
    if setting.default is None:
        return '""'
    if setting.is_switch or setting.default.isdecimal():
        return setting.default
    return f'"{setting.default}"'
