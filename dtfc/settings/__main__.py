"""Prints the reference of all settings, or writes it into a document."""

from __future__ import annotations

import sys

from dtfc.settings.reference import markdown, sample, spliced

_USAGE = "usage: python -m dtfc.settings --markdown | --toml | --update FILE\n"


def main(arguments: list[str]) -> int:
    """Do what the arguments ask for; 2 if they make no sense."""
    match arguments:
        case ["--markdown"]:
            sys.stdout.write(markdown())
        case ["--toml"]:
            sys.stdout.write(sample())
        case ["--update", path]:
            with open(path, encoding="utf-8") as file:
                document = spliced(file.read())
            with open(path, "w", encoding="utf-8") as file:
                file.write(document)
        case _:
            sys.stderr.write(_USAGE)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
