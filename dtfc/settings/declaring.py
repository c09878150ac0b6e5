"""How a setting is declared: a dataclass field that carries what is known about it.

Rules of this file: each function returns, for the type checker, the type that
the field will have, and at run time a ``dataclasses.field`` with the
:class:`Setting` in its metadata. So a setting's name, type, parser, default and
help stand in one place, and mypy knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, cast

T = TypeVar("T")

_KEY = "setting"


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known about one setting.

    Args:
        name: as in ``--fan-out`` and in the configuration file.
        group: the heading it stands under.
        parse: makes the value of the texts that were given.
        default: the default as a user would write it; ``None`` where there is
            no such text (``default_note`` then says what happens).
        help: one or two sentences.
        metavar: what stands for the value in help; empty for a switch.
        many: may be given several times (a list in the file).
        reloadable: a new value takes effect on SIGHUP.
        path: a path: made absolute before it is parsed.
        words: that may stand in a path's place.
        in_file: may stand in the configuration file.
        short: one letter, or empty.
        default_note: says what the default is where no text can.
    """

    name: str
    group: str
    parse: Callable[[Sequence[str]], Any]
    default: str | None
    help: str
    metavar: str
    many: bool = False
    reloadable: bool = False
    path: bool = False
    words: tuple[str, ...] = ()
    in_file: bool = True
    short: str = ""
    default_note: str = ""

    @property
    def attribute(self) -> str:
        """The name of the field in :class:`Settings`."""
        return self.name.replace("-", "_")

    @property
    def is_switch(self) -> bool:
        """Whether it is a flag that takes no value (true or false in the file)."""
        return not self.metavar

    @property
    def shown_default(self) -> str:
        """The default in words, for help and documentation."""
        return self.default_note or ("none" if self.default is None else self.default)


def _one(parse: Callable[[str], T]) -> Callable[[Sequence[str]], T]:
    return lambda texts: parse(texts[-1])


def _field(group: str, parse: Callable[[Sequence[str]], Any], **facts: Any) -> Any:
    """Make a dataclass field that carries its :class:`Setting` (its name comes later)."""
    metadata = {_KEY: {"group": group, "parse": parse, **facts}}
    if facts["default"] is None:
        return field(default=None, metadata=metadata)
    return field(default=parse([facts["default"]]), metadata=metadata)


def setting(
    group: str,
    metavar: str,
    parse: Callable[[str], T],
    default: str,
    help: str,  # noqa: A002 - the word that usage, argparse and this table all use
    **more: Any,
) -> T:
    """Declare a setting that has one value."""
    return cast(
        "T", _field(group, _one(parse), metavar=metavar, default=default, help=help, **more)
    )


def derived(
    group: str,
    metavar: str,
    parse: Callable[[str], T],
    help: str,  # noqa: A002 - the word that usage, argparse and this table all use
    **more: Any,
) -> T:
    """Declare a setting whose default the environment decides, so that it always has a value."""
    facts = {"group": group, "parse": _one(parse), "metavar": metavar, "default": None}
    return cast("T", field(metadata={_KEY: facts | {"help": help} | more}))


def optional(
    group: str,
    metavar: str,
    parse: Callable[[str], T],
    help: str,  # noqa: A002 - the word that usage, argparse and this table all use
    **more: Any,
) -> T | None:
    """Declare a setting that is ``None`` unless it is given."""
    return cast(
        "T | None", _field(group, _one(parse), metavar=metavar, default=None, help=help, **more)
    )


def several(
    group: str,
    metavar: str,
    parse: Callable[[str], Iterable[T]],
    help: str,  # noqa: A002 - the word that usage, argparse and this table all use
    **more: Any,
) -> tuple[T, ...]:
    """Declare a setting that may be given several times; nothing is its default."""

    def parse_all(texts: Sequence[str]) -> tuple[T, ...]:
        found = [value for each in texts if each for value in parse(each)]
        return tuple(dict.fromkeys(found))

    return cast(
        "tuple[T, ...]",
        _field(group, parse_all, metavar=metavar, default="", help=help, many=True, **more),
    )


def switch(group: str, help: str, **more: Any) -> bool:  # noqa: A002 - as above
    """Declare a setting that is off unless it is given."""

    def parse(given: str) -> bool:
        if given not in {"true", "false"}:
            raise ValueError(f"{given!r} is neither true nor false")
        return given == "true"

    return cast("bool", _field(group, _one(parse), metavar="", default="false", help=help, **more))


def declared(settings: type[Any]) -> tuple[Setting, ...]:
    """Return the settings that a dataclass declares, in order."""
    return tuple(
        Setting(name=each.name.replace("_", "-"), **each.metadata[_KEY])
        for each in fields(settings)
    )
