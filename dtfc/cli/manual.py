"""The parts of the manual pages that follow from the program: its commands, flags and settings.

    python -m dtfc.cli.manual man

makes them anew in the pages of a folder, between two lines of comment; the rest
of a page is written by hand. Pages are in mdoc(7).
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from dtfc.cli.grammar import Command, Operand, Option, grammar
from dtfc.cli.main import make_parser
from dtfc.settings.declaring import Setting
from dtfc.settings.table import TABLE

BEGIN = '.\\" made by make docs: begin'
END = '.\\" made by make docs: end'

_SENTENCE = re.compile(r"(?<=[.;:!?]) +(?=[A-Z(`])|(?<=[.!?]\)) +")


def commands_page() -> str:
    """Return what stands in dtfc(1): every subcommand, and what it takes."""
    lines: list[str] = []
    for each in grammar(make_parser()).all():
        if each.commands or len(each.words) == 1:
            continue
        lines += [".Ss " + _text(" ".join(each.words[1:])), *_synopsis(each), ".Pp"]
        lines += _sentences(_capital(each.help))
        lines += _sentences(each.about)
        items = [_operand(operand) for operand in each.operands if operand.help]
        items += [_option(o) for o in each.options if "--help" not in o.names]
        if items:
            lines += [".Bl -tag -width Ds"]
            lines += [line for item in items for line in item]
            lines += [".El"]
    return _joined(lines)


def flags_page() -> str:
    """Return what stands in dtfc(8): every flag of the daemon."""
    lines: list[str] = []
    for group, settings in groupby(TABLE, key=lambda each: each.group):
        lines += [f".Ss {_text(group)}", ".Bl -tag -width Ds"]
        for each in settings:
            short = f"Fl {each.short} , " if each.short else ""
            metavar = f" Ar {_text(each.metavar)}" if each.metavar else ""
            lines += [f".It {short}Fl -{each.name}{metavar}", *_sentences(each.help)]
        lines += [".El"]
    return _joined(lines)


def settings_page() -> str:
    """Return what stands in dtfc.conf(5): every setting, with its default."""
    lines: list[str] = []
    for group, settings in groupby(TABLE, key=lambda each: each.group):
        inside = [each for each in settings if each.in_file]
        if not inside:
            continue
        lines += [f".Ss {_text(group)}", ".Bl -tag -width Ds"]
        for each in inside:
            lines += [f".It Cm {each.name} No = Ar {_text(_kind(each))}", *_sentences(each.help)]
            lines += _sentences(f"Default: {_default(each)}.")
            if not each.reloadable:
                lines += ["Only a restart changes it."]
        lines += [".El"]
    return _joined(lines)


PAGES: dict[str, Callable[[], str]] = {
    "dtfc.1": commands_page,
    "dtfc.8": flags_page,
    "dtfc.conf.5": settings_page,
}
"""What is made of each page."""


def spliced(page: str, made: str) -> str:
    """Return a page with what stands between :data:`BEGIN` and :data:`END` made anew.

    Raises:
        ValueError: the page does not have both lines.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there are no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{made}{END}{after}"


def _kind(setting: Setting) -> str:
    if setting.is_switch:
        return "true|false"
    return f"[{setting.metavar},...]" if setting.many else setting.metavar


def _default(setting: Setting) -> str:
    if setting.is_switch:
        return "false"
    return setting.shown_default or "none"


def _synopsis(command: Command) -> Iterator[str]:
    yield ".Nm dtfc"
    for word in command.words[1:]:
        yield f".Cm {_text(word)}"
    for option in command.options:
        if "--help" not in option.names:
            value = f" Ar {_text(option.value)}" if option.value else ""
            yield f".Op {_flag(option.names[-1])}{value}"
    for operand in command.operands:
        dots = " ..." if operand.several else ""
        name = _text("|".join(operand.choices) or operand.name)
        yield f".Ar {name}{dots}" if operand.needed else f".Op Ar {name}{dots}"


def _option(option: Option) -> list[str]:
    names = " , ".join(_flag(name) for name in option.names)
    value = f" Ar {_text(option.value)}" if option.value else ""
    return [f".It {names}{value}", *_sentences(_capital(option.help))]


def _operand(operand: Operand) -> list[str]:
    return [f".It Ar {_text(operand.name)}", *_sentences(_capital(operand.help))]


def _flag(name: str) -> str:
    return f"Fl {name[1:]}"


def _capital(text: str) -> str:
    """Return a line of help as a sentence."""
    text = text.strip()
    if not text:
        return ""
    # What begins with an address or a flag stays as it is.
    first = text[0].upper() + text[1:] if re.match(r"[a-z]+[ ,;]", text) else text
    return first if first[-1] in ".!?" else f"{first}."


def _sentences(text: str) -> Iterator[str]:
    """Yield lines of text: mdoc wants each sentence to begin a line, and none to be long."""
    for sentence in _SENTENCE.split(" ".join(text.split())):
        for line in textwrap.wrap(sentence, 74, break_long_words=False, break_on_hyphens=False):
            yield _text(line)


def _text(text: str) -> str:
    """Return text that roff takes for nothing else."""
    escaped = text.replace("\\", "\\e").replace("'", "\\(aq") if text else ""
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def main(arguments: list[str]) -> int:
    """Make the pages of a folder anew; 2 if the arguments make no sense."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m dtfc.cli.manual FOLDER\n")
        return 2
    for name, make in PAGES.items():
        path = f"{arguments[0]}/{name}"
        with open(path, encoding="utf-8") as file:
            page = spliced(file.read(), make())
        with open(path, "w", encoding="utf-8") as file:
            file.write(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
