r"""Regular expressions that take time in proportion to the text, whatever it is (pure).

Rules of this file: no text takes longer than its length times the size of the
pattern, and each step is counted. What cannot be had on these terms is refused.

Discussion. Python's ``re`` backtracks: ``(a+)+$`` takes longer than anybody waits
on thirty characters, nothing can interrupt it, and it holds the interpreter's lock
meanwhile, so that a thread of its own would not help the loop. This here follows
all ways through the pattern at once (K. Thompson, 1968), in Python, which lets
others run in between.

The syntax is what CouchDB's (PCRE), JavaScript's and Python's have in common, with
``\d``, ``\w`` and ``\s`` for ASCII: characters, ``.``, classes, groups, ``|``, the
quantifiers ``* + ? {m,n}``, ``^ $ \b \B``, and ``(?i)`` and ``(?s)`` at the beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: Instructions of a pattern.
LARGEST_PATTERN = 1000

#: Groups within groups.
DEEPEST = 50

Takes = Callable[[str], bool]

_DIGITS = frozenset("0123456789")
_WORD = _DIGITS | frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_SPACE = frozenset(" \t\n\r\f\v")
_CLASSES = {"d": _DIGITS, "w": _WORD, "s": _SPACE}
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_QUANTIFIERS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_PLACES = {"b": "\\b", "B": "\\B", "A": "^", "z": "\\z", "Z": "$"}


@dataclass(slots=True)
class _Step:
    """An instruction: take a character, be at a place, or go on elsewhere."""

    takes: Takes | None = None
    place: str = ""
    ways: tuple[int, ...] = ()


class Pattern:
    """A regular expression.

    Args:
        text: of it.

    Raises:
        ValueError: it is none, or more than is known here; the message says what.
    """

    def __init__(self, text: str) -> None:
        self._steps = _Reader(text).program()
        self._end = len(self._steps)

    def found_in(self, text: str, spend: Callable[[int], None]) -> bool:
        """Tell whether it matches some part of a text.

        Args:
            text: to look at.
            spend: is told how many steps were made; may raise to end it.
        """
        now: list[int] = []
        for at in range(len(text) + 1):
            # From here on, too: any part of the text will do.
            here = self._reached([*now, 0], text, at)
            spend(1 + len(here))
            if self._end in here:
                return True
            if at == len(text):
                break
            now = []
            for step in here:
                takes = self._steps[step].takes
                if takes is not None and takes(text[at]):
                    now.append(step + 1)
        return False

    def _reached(self, begin: list[int], text: str, at: int) -> set[int]:
        """Return where it stands without taking a character."""
        seen: set[int] = set()
        waiting = begin
        while waiting:
            number = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            if number == self._end:
                continue
            step = self._steps[number]
            if step.ways:
                waiting.extend(step.ways)
            elif step.place and _is_at(step.place, text, at):
                waiting.append(number + 1)
        return seen


def _is_at(place: str, text: str, at: int) -> bool:
    if place == "^":
        return at == 0
    if place == "\\z":
        return at == len(text)
    if place == "$":
        return at == len(text) or (at == len(text) - 1 and text[at] == "\n")
    before = at > 0 and text[at - 1] in _WORD
    after = at < len(text) and text[at] in _WORD
    return (before != after) == (place == "\\b")


class _Reader:
    """Makes instructions of a pattern's text; each piece's ways count from its own beginning."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._any_case = False
        self._dot_takes_all = False

    def program(self) -> list[_Step]:
        """Return the instructions; to stand behind the last one is a match."""
        self._flags()
        steps = self._either()
        if self._at < len(self._text):
            raise ValueError("a ) that nothing opens")
        return _moved(steps, 0)

    def _flags(self) -> None:
        end = self._text.find(")")
        if self._text.startswith("(?") and end > 0 and set(self._text[2:end]) <= set("is"):
            self._any_case = "i" in self._text[2:end]
            self._dot_takes_all = "s" in self._text[2:end]
            self._at = end + 1

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        taken = self._next()
        if not taken:
            raise ValueError("it ends in the middle")
        self._at += 1
        return taken

    def _took(self, what: str) -> bool:
        if self._text.startswith(what, self._at):
            self._at += len(what)
            return True
        return False

    def _either(self) -> list[_Step]:
        steps = self._sequence()
        while self._took("|"):
            other = self._sequence()
            # Split before both; a jump over the other behind the first.
            over = len(steps) + 2 + len(other)
            jump = _Step(ways=(over - len(steps) - 1,))
            steps = [_Step(ways=(1, len(steps) + 2)), *steps, jump, *other]
            _bound(steps)
        return steps

    def _sequence(self) -> list[_Step]:
        steps: list[_Step] = []
        while self._next() and self._next() not in "|)":
            steps += self._repeated(*self._piece())
            _bound(steps)
        return steps

    def _piece(self) -> tuple[list[_Step], bool]:
        """Return a piece, and whether it may be repeated."""
        taken = self._take()
        if taken == "(":
            return self._group(), True
        if taken == "[":
            return [_Step(takes=self._class())], True
        if taken == ".":
            all_of_them = self._dot_takes_all
            return [_Step(takes=lambda each: all_of_them or each != "\n")], True
        if taken in "^$":
            return [_Step(place=taken)], False
        if taken == "\\":
            return self._escaped()
        if taken in "*+?":
            raise ValueError(f"a {taken} that repeats nothing")
        return [_Step(takes=self._one(taken))], True

    def _group(self) -> list[_Step]:
        if self._took("?") and not self._took(":"):
            raise ValueError(f"(?{self._next()} is not known here")
        self._depth += 1
        if self._depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} groups within groups")
        steps = self._either()
        self._depth -= 1
        if not self._took(")"):
            raise ValueError("a ( that nothing closes")
        return steps

    def _escaped(self) -> tuple[list[_Step], bool]:
        if self._next() in _PLACES and self._next():
            return [_Step(place=_PLACES[self._take()])], False
        return [_Step(takes=self._escape())], True

    def _escape(self) -> Takes:
        """Return what an escape takes, within a class and outside."""
        taken = self._take()
        if taken.lower() in _CLASSES:
            known, wanted = _CLASSES[taken.lower()], taken.islower()
            return lambda each: (each in known) == wanted
        if taken in "xu":
            return self._one(self._by_number(2 if taken == "x" else 4))
        if taken in _CONTROLS:
            return self._one(_CONTROLS[taken])
        if taken.isalnum():
            raise ValueError(f"\\{taken} is not known here")
        return self._one(taken)

    def _by_number(self, digits: int) -> str:
        number = self._text[self._at : self._at + digits]
        if len(number) < digits or not set(number) <= set("0123456789abcdefABCDEF"):
            raise ValueError(f"a number of {digits} hexadecimal digits is missing")
        self._at += digits
        return chr(int(number, 16))

    def _one(self, wanted: str) -> Takes:
        if self._any_case:
            return lambda each: each.lower() == wanted.lower()
        return lambda each: each == wanted

    def _class(self) -> Takes:
        wanted = not self._took("^")
        takes: list[Takes] = []
        first = True
        while first or self._next() != "]":
            first = False
            if self._took("[:"):
                raise ValueError("[: is not known here")
            taken = self._take()
            if taken == "\\" and self._next() not in "\\]-^[/.":
                takes.append(self._escape())
                continue
            low = self._take() if taken == "\\" else taken
            if self._next() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._take()
                takes.append(self._range(low, self._take()))
            else:
                takes.append(self._one(low))
        self._take()
        return lambda each: any(one(each) for one in takes) == wanted

    def _range(self, low: str, high: str) -> Takes:
        if high == "\\":
            high = self._take()
            if high.isalnum():
                raise ValueError(f"a range up to \\{high}")
        if high < low:
            raise ValueError(f"the range {low}-{high} is empty")
        if self._any_case:
            return lambda each: low <= each.lower() <= high or low <= each.upper() <= high
        return lambda each: low <= each <= high

    def _repeated(self, piece: list[_Step], may: bool) -> list[_Step]:  # noqa: FBT001
        bounds = self._quantifier()
        if bounds is None:
            return piece
        if not may:
            raise ValueError("what takes no character is repeated")
        # As few or as many as possible is the same to whoever asks whether it matches.
        if not self._took("?") and self._next() == "+":
            raise ValueError("possessive quantifiers are not known here")
        if self._quantifier() is not None:
            raise ValueError("what is repeated is repeated")
        least, most = bounds
        if (least + (most or 0) + 1) * (len(piece) + 2) > 4 * LARGEST_PATTERN:
            raise ValueError(f"it has more than {LARGEST_PATTERN} steps")
        steps = piece * least
        if most is None:
            return [*steps, _Step(ways=(1, len(piece) + 2)), *piece, _Step(ways=(-len(piece) - 1,))]
        for _ in range(most - least):
            # Each may be passed over, and then so are those behind it: that matches less
            # often than each by itself would, and as often in all.
            steps = [*steps, _Step(ways=(1, len(piece) + 1)), *piece]
        return steps

    def _quantifier(self) -> tuple[int, int | None] | None:
        if self._next() in _QUANTIFIERS:
            return _QUANTIFIERS[self._take()]
        end = self._text.find("}", self._at)
        if self._next() != "{" or end < 0:
            return None
        least, comma, most = self._text[self._at + 1 : end].partition(",")
        if not _is_count(least) or (most and not _is_count(most)):
            # PCRE and others take such braces for themselves.
            return None
        self._at = end + 1
        if not comma:
            return int(least), int(least)
        if most and int(most) < int(least):
            raise ValueError(f"{{{least},{most}}} is empty")
        return int(least), int(most) if most else None


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 5


def _bound(steps: list[_Step]) -> None:
    if len(steps) > LARGEST_PATTERN:
        raise ValueError(f"it has more than {LARGEST_PATTERN} steps")


def _moved(steps: list[_Step], by: int) -> list[_Step]:
    """Return instructions whose ways count from the beginning of the program."""
    return [
        _Step(step.takes, step.place, tuple(by + at + way for way in step.ways))
        for at, step in enumerate(steps)
    ]
