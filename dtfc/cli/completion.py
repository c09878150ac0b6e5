"""``dtfc completion``: what a shell needs to complete the command's words.

Rules of this file: pure text, made from the parser; nothing is asked of a node
while somebody presses Tab.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from dtfc.cli.grammar import Command, Option, grammar

_PLACES = {
    "bash": "~/.local/share/bash-completion/completions/dtfc",
    "zsh": "a folder of $fpath, as _dtfc",
    "fish": "~/.config/fish/completions/dtfc.fish",
}


def add_completion_command(commands: Any) -> None:
    """Add ``completion`` to the command's parser."""
    completion = commands.add_parser(
        "completion",
        help="print what a shell completes the command's words by",
        description="It goes into "
        + "; ".join(f"{place} ({shell})" for shell, place in _PLACES.items())
        + ".",
    )
    completion.add_argument("shell", choices=sorted(_PLACES), help="which shell")


def print_completion(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print the file of a shell; return the exit code."""
    sys.stdout.write(SHELLS[given.shell](grammar(parser)))
    return 0


# -- bash -----------------------------------------------------------------------


def bash(command: Command) -> str:
    """Return the file for bash."""
    name = command.words[0]
    every = list(command.all())
    enters = [
        f'        "{_path(each)} {sub.words[-1]}") path="$path {sub.words[-1]}" ;;'
        for each in every
        for sub in each.commands
    ]
    valued = sorted({n for each in every for o in each.options if o.value for n in o.names})
    words = [
        f'        "{_path(each)}")'
        f' words="{" ".join(_words(each))}" flags="{" ".join(_flags(each))}" ;;'
        for each in every
    ]
    chosen = [
        f'        "{_path(each)} {flag}") words="{" ".join(option.choices)}" flags="" ;;'
        for each in every
        for option in each.options
        if option.choices
        for flag in option.names
    ]
    lines = [
        f"# bash completion for {name}, made by: {name} completion bash",
        f"_{name}() {{",
        '    local cur="${COMP_WORDS[COMP_CWORD]}" prev="" path="" words="" flags="" skip=""',
        "    local i word",
        "    for ((i = 1; i < COMP_CWORD; i++)); do",
        '        word="${COMP_WORDS[i]}"',
        '        if [[ -n $skip ]]; then skip=""; continue; fi',
        '        case "$word" in',
        f'        {"|".join(valued)}) skip=yes; prev="$word"; continue ;;',
        "        esac",
        '        case "$path $word" in',
        *enters,
        "        esac",
        "    done",
        "    COMPREPLY=()",
        "    if [[ -n $skip ]]; then",
        '        case "$path $prev" in',
        *chosen,
        "        *) return ;;  # files",
        "        esac",
        "    else",
        '        case "$path" in',
        *words,
        "        esac",
        '        if [[ $cur == -* ]]; then words="$flags"; fi',
        "    fi",
        '    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")',
        "}",
        f"complete -o bashdefault -o default -F _{name} {name}",
    ]
    return "\n".join(lines) + "\n"


def _path(command: Command) -> str:
    return "".join(f" {word}" for word in command.words[1:])


def _words(command: Command) -> list[str]:
    words = [each.words[-1] for each in command.commands]
    return words + [choice for each in command.operands for choice in each.choices]


def _flags(command: Command) -> list[str]:
    return [name for option in command.options for name in option.names]


# -- zsh ------------------------------------------------------------------------


def zsh(command: Command) -> str:
    """Return the file for zsh."""
    name = command.words[0]
    lines = [f"#compdef {name}", f"# made by: {name} completion zsh", ""]
    for each in command.all():
        lines += [*_zsh_function(each), ""]
    lines.append(f'_{name} "$@"')
    return "\n".join(lines) + "\n"


def _zsh_function(command: Command) -> Iterator[str]:
    yield f"_{'_'.join(command.words)}() {{"
    specs = [_zsh_option(each) for each in command.options]
    if command.commands:
        yield "    local curcontext=$curcontext state line"
        specs += ["'1: :->command'", "'*:: :->rest'"]
        yield "    _arguments -C \\\n        " + " \\\n        ".join(specs)
        yield "    case $state in"
        yield "    command)"
        yield "        local -a commands=("
        for each in command.commands:
            yield f"            {_quoted(each.words[-1] + ':' + _plain(each.help))}"
        yield "        )"
        yield "        _describe command commands ;;"
        yield "    rest)"
        yield "        case $line[1] in"
        for each in command.commands:
            yield f"        {each.words[-1]}) _{'_'.join(each.words)} ;;"
        yield "        esac ;;"
        yield "    esac"
    else:
        for number, operand in enumerate(command.operands, 1):
            place = "*" if operand.several else f"{number}"
            action = f"({' '.join(operand.choices)})" if operand.choices else "_files"
            specs.append(_quoted(f"{place}:{operand.name.lower()}:{action}"))
        yield "    _arguments \\\n        " + " \\\n        ".join(specs)
    yield "}"


def _zsh_option(option: Option) -> str:
    value = ""
    if option.value:
        action = f"({' '.join(option.choices)})" if option.choices else ""
        action = "_files" if option.takes_file else action
        value = f":{option.value.lower()}:{action}"
    about = f"[{_plain(option.help)}]{value}"
    if len(option.names) == 1:
        return _quoted(f"{option.names[0]}{about}")
    return f"'({' '.join(option.names)})'{{{','.join(option.names)}}}{_quoted(about)}"


# -- fish -----------------------------------------------------------------------


def fish(command: Command) -> str:
    """Return the file for fish."""
    name = command.words[0]
    lines = [f"# made by: {name} completion fish", f"complete -c {name} -f"]
    for each in command.all():
        here = _fish_condition(each)
        if not each.commands and not any(operand.choices for operand in each.operands):
            lines.append(f"complete -c {name} -n {here} -F")
        lines += [
            f"complete -c {name} -n {here} -a {sub.words[-1]} -d {_quoted(_plain(sub.help))}"
            for sub in each.commands
        ]
        lines += [
            f"complete -c {name} -n {here} -a {_quoted(' '.join(operand.choices))}"
            for operand in each.operands
            if operand.choices
        ]
        lines += [f"complete -c {name} -n {here}{_fish_option(option)}" for option in each.options]
    return "\n".join(lines) + "\n"


def _fish_condition(command: Command) -> str:
    seen = [f"__fish_seen_subcommand_from {word}" for word in command.words[1:]]
    below = " ".join(each.words[-1] for each in command.commands)
    if below:
        seen.append(f"not __fish_seen_subcommand_from {below}")
    return _quoted("; and ".join(seen))


def _fish_option(option: Option) -> str:
    names = "".join(
        f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}" for name in option.names
    )
    value = ""
    if option.value:
        value = f" -x -a {_quoted(' '.join(option.choices))}" if option.choices else " -x"
        value = " -r -F" if option.takes_file else value
    return f"{names}{value} -d {_quoted(_plain(option.help))}"


def _plain(text: str) -> str:
    """Return a line of help without what shells take for their own."""
    plain = re.sub(r"[\[\]:\"`$\\]", "", " ".join(text.split()))
    return plain.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")


def _quoted(text: str) -> str:
    return f"'{text}'"


SHELLS: dict[str, Callable[[Command], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
"""Makes the file of each shell."""
