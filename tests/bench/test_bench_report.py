from __future__ import annotations

import json

from bench import report
from bench.compare import Row, Target

ROWS = [
    Row("1", "GET", "MiB/s", "nginx", [1000.0, 1200.0], [2000.0, 1000.0], Target(">=", 1.0)),
    Row("9", "peak RSS", "MiB", ours=[99.5], target=Target("<=", 150, of="value"), note="a note"),
    Row("14", "PUT", "", note="not measured: no weed"),
]


def test_the_table_has_a_line_a_row_with_the_verdict() -> None:
    lines = report.table(ROWS).splitlines()
    assert len(lines) == 2 + len(ROWS)
    assert lines[2].split()[:3] == ["1", "GET", "1,100"]
    assert ">= 1 of the peer" in lines[2]
    assert lines[2].endswith("MISSED")
    assert lines[3].endswith("met")


def test_the_figures_survive_json() -> None:
    said = json.loads(report.as_json(ROWS, {"cpu": "fast"}, "quick"))
    assert said["machine"] == {"cpu": "fast"}
    assert said["rows"][0]["ours"] == [1000.0, 1200.0]
    assert said["rows"][0]["ratio"] == 0.85
    assert said["rows"][0]["met"] is False
    assert said["rows"][1]["met"] is True


def test_the_page_has_machine_table_and_notes() -> None:
    page = report.markdown(ROWS, {"cpu": "fast"}, "quick")
    assert "- cpu: fast\n- run: quick\n" in page
    assert "| 9 | peak RSS | 99.5 |" in page
    assert "- 9: a note\n- 14: not measured: no weed\n" in page
