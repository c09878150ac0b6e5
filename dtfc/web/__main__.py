"""Writes what is said of metrics into ``docs/metrics.md``, for ``make docs``."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from dtfc.settings.reference import replaced
from dtfc.web.metricnames import reference

_USAGE = "usage: python -m dtfc.web PAGE ALERTS\n"

_ALERT = re.compile(
    r"- alert: (?P<name>\w+)\n"
    r" *expr: (?P<expr>(?:.|\n)*?)"
    r"(?: *for: (?P<wait>\w+)\n)?"
    r" *labels: \{severity: (?P<severity>\w+)\}\n"
    r" *annotations:\n"
    r' *summary: ".*"\n'
    r' *description: "(?P<description>.*)"'
)


def alerts(rules: str) -> str:
    """Return the table of the alerts that a file of rules has (``etc/prometheus-alerts.yml``)."""
    lines = ["| alert | fires when | means |", "|---|---|---|"]
    for found in _ALERT.finditer(rules):
        expression = " ".join(found["expr"].removeprefix(">-").split()).replace("|", "\\|")
        wait = f", for {found['wait']}" if found["wait"] else ""
        lines.append(
            f"| {found['name']} ({found['severity']}) | `{expression}`{wait} "
            f"| {found['description']} |"
        )
    return "\n".join(lines) + "\n"


def page(document: str, rules: str) -> str:
    """Return the page with both tables made anew.

    Raises:
        ValueError: it has no place for them.
    """
    begin = "<!-- {}: made by make docs -->"
    for name, made in (("alerts", alerts(rules)), ("metrics", reference())):
        document = replaced(document, begin.format(name), f"<!-- {name}: end -->", made)
    return document


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments ask for; 2 if they make no sense."""
    if len(arguments) != 2:
        sys.stderr.write(_USAGE)
        return 2
    with (
        open(arguments[0], encoding="utf-8") as file,
        open(arguments[1], encoding="utf-8") as rules,
    ):
        document = page(file.read(), rules.read())
    with open(arguments[0], "w", encoding="utf-8") as file:
        file.write(document)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
