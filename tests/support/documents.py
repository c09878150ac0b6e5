"""Blocks of commands in the documentation, as a reader's shell would run them.

Convention: in a block, ``$ `` begins a command, ``> `` goes on with it, and every
other line is what is written. Blocks of commands that cannot be run in a test have
``<!-- not run: reason -->`` before them, and need no ``$``. ``<!-- before: command -->``
is something that a reader has done by then, though it is not said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

_NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
_BEFORE = re.compile(r"<!-- before: (.+) -->")

#: What a block of commands without ``$`` begins its lines with.
_PROGRAM = re.compile(
    r"(?:sudo |\()?(?:[./\w]*/)?"
    r"(?:twistd|dtfc|curl|make|systemctl|systemd-\w+|promtool|python3?|pip|openssl|install|rsync|restic|nginx|touch|aria2c|wget|apt-get|apt|useradd|npm|run|umask|"
    r"git|pouchdb-server|pytest|mkdocs|cat|echo|cp|mv|ln)(?: |$)"
)


@dataclass(frozen=True)
class Command:
    """One command, and what it is said to write."""

    text: str
    output: str


@dataclass
class Block:
    """An indented or fenced block."""

    line: int
    lines: list[str] = field(default_factory=list)
    not_run: str = ""
    before: list[Command] = field(default_factory=list)

    @property
    def commands(self) -> list[Command]:
        """The commands that ``$`` marks."""
        found: list[list[list[str]]] = []
        for line in self.lines:
            if line.startswith("$ "):
                found.append([[line[2:]], []])
            elif found and not found[-1][1] and line.startswith("> "):
                found[-1][0].append(line[2:])
            elif found:
                found[-1][1].append(line)
        return [Command("\n".join(text), "\n".join(out).strip()) for text, out in found]

    @property
    def looks_like_commands(self) -> bool:
        """Whether it has lines that a shell would take."""
        return any(_PROGRAM.match(line) for line in self.lines)


def blocks(path: Path) -> Iterator[Block]:  # noqa: C901 -- one look at each line
    """Yield the blocks of a page."""
    block: Block | None = None
    next_one = Block(0)
    fenced = False
    last = ""
    for number, line in enumerate([*path.read_text(encoding="utf-8").splitlines(), "end"], 1):
        if block is not None and not fenced and line and not line.startswith("    "):
            yield _stripped(block)
            block = None
        if line.strip().startswith("```"):
            fenced = not fenced
            if fenced:
                block, next_one = replace(next_one, line=number), Block(0)
            elif block is not None:
                yield block
                block = None
        elif block is not None:
            block.lines.append(line)
        elif line.startswith("    ") and not last.strip():
            block, next_one = replace(next_one, line=number, lines=[line]), Block(0)
        elif found := _NOT_RUN.search(line):
            next_one.not_run = found[1]
        elif found := _BEFORE.search(line):
            next_one.before.append(Command(found[1], ""))
        elif line.strip():
            next_one.not_run = ""
        last = line


def _stripped(block: Block) -> Block:
    lines = block.lines
    while lines and not lines[-1].strip():
        lines.pop()
    least = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return replace(block, lines=[line[least:] for line in lines])
