"""``python -m dtfc.settings --markdown`` or ``--toml``: print the reference."""

from __future__ import annotations

import sys

from dtfc.settings.reference import markdown, sample

_FORMS = {"--markdown": markdown, "--toml": sample}


def main(arguments: list[str]) -> int:
    """Print what one argument asks for; 2 if it makes no sense."""
    if len(arguments) != 1 or arguments[0] not in _FORMS:
        sys.stderr.write("usage: python -m dtfc.settings --markdown | --toml\n")
        return 2
    sys.stdout.write(_FORMS[arguments[0]]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
