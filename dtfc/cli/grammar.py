"""What can be said to the command, read from its parser: for manual pages and completion.

Rules of this file: argparse keeps what it knows under private names; they are
read here, and nowhere else.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Option:
    """A flag.

    Args:
        names: as it may be written: ``-c``, ``--config``.
        value: what stands for its value; empty if it takes none.
        help: a sentence.
        choices: the only values that it takes; empty for any.
    """

    names: tuple[str, ...]
    value: str
    help: str
    choices: tuple[str, ...] = ()

    @property
    def takes_file(self) -> bool:
        """Whether its value is the path of a file or folder."""
        return self.value.lower() in ("file", "folder", "dir") or self.names[-1] in (
            "--basedir",
            "--config",
            "--secret-file",
        )


@dataclass(frozen=True, slots=True)
class Operand:
    """An argument that is no flag.

    Args:
        name: what stands for it.
        help: a sentence; may be empty.
        needed: whether it has to be given.
        several: whether it may be given more than once.
        choices: the only values that it takes; empty for any.
    """

    name: str
    help: str
    needed: bool
    several: bool
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """A command, or one of its subcommands.

    Args:
        words: that call it: ``("dtfc", "token", "new")``.
        help: a line.
        about: more sentences; may be empty.
        options: its own.
        operands: in order.
        commands: its subcommands.
    """

    words: tuple[str, ...]
    help: str
    about: str
    options: tuple[Option, ...] = ()
    operands: tuple[Operand, ...] = ()
    commands: tuple[Command, ...] = field(default=())

    def all(self) -> Iterator[Command]:
        """Yield this one and all below it."""
        yield self
        for each in self.commands:
            yield from each.all()


def grammar(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = (), brief: str = ""
) -> Command:
    """Return what a parser accepts.

    Args:
        parser: of the command.
        words: that call it; by default its ``prog``.
        brief: its line of help.
    """
    words = words or (parser.prog,)
    options: list[Option] = []
    operands: list[Operand] = []
    commands: list[Command] = []
    for action in parser._actions:  # noqa: SLF001 - argparse tells it in no other way
        if action.help == argparse.SUPPRESS:
            continue
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - the same
            briefs = {each.dest: each.help or "" for each in action._choices_actions}  # noqa: SLF001
            commands += [
                grammar(each, (*words, name), briefs.get(name, ""))
                for name, each in action.choices.items()
            ]
        elif action.option_strings:
            options.append(
                Option(
                    tuple(action.option_strings),
                    _value(action),
                    _help(action),
                    _choices(action),
                )
            )
        else:
            operands.append(
                Operand(
                    _name(action.metavar) or action.dest.upper(),
                    _help(action),
                    action.nargs not in ("*", "?"),
                    action.nargs in ("*", "+"),
                    _choices(action),
                )
            )
    about = parser.description or ""
    return Command(words, brief, about, tuple(options), tuple(operands), tuple(commands))


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    return _name(action.metavar) or action.dest.upper().replace("_", "-")


def _name(metavar: str | tuple[str, ...] | None) -> str:
    return " ".join(metavar) if isinstance(metavar, tuple) else metavar or ""


def _choices(action: argparse.Action) -> tuple[str, ...]:
    return tuple(str(each) for each in action.choices or ())


def _help(action: argparse.Action) -> str:
    # Some have %(default)s in them.
    given = action.help or ""
    return given % {**vars(action), "prog": ""} if "%(" in given else given.replace("%%", "%")
