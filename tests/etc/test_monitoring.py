"""What Prometheus and Grafana are given: its own tools judge it, and a live node has the names."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from dtfc.web.__main__ import alerts, main, page
from dtfc.web.metricnames import TABLE
from tests.support.live import CHECKOUT
from tests.support.programs import require_program

ETC = CHECKOUT / "etc"
ALERTS = ETC / "prometheus-alerts.yml"
TESTS = [ETC / "prometheus-alerts-test.yml", ETC / "prometheus-alerts-test-days.yml"]
DASHBOARD = ETC / "grafana-dashboard.json"

_NAME = re.compile(r"\b(?:dtfc|process)_[a-z_]+\b")


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [require_program("promtool"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def told_names() -> set[str]:
    """Every name that Prometheus gets of a node."""
    names = {each.exposed for each in TABLE if each.kind != "histogram"}
    for each in TABLE:
        if each.kind == "histogram":
            names |= {f"{each.name}_{suffix}" for suffix in ("bucket", "sum", "count")}
    return names


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", ALERTS),
        *(("test", "rules", each) for each in TESTS),
        ("check", "config", ETC / "prometheus.yml"),
    ],
    ids=["rules", "tests", "tests of days", "config"],
)
def test_prometheus_own_tool_has_nothing_to_say(arguments: tuple[str | Path, ...]) -> None:
    ran = promtool(*arguments)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_each_alert_is_seen_to_fire_and_not_to_fire() -> None:
    names = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    tests = "".join(each.read_text() for each in TESTS)
    wanted = {f"{name} {how}" for name in names for how in ("fires", "does not fire")}
    assert set(re.findall(r"- name: (\w+ (?:fires|does not fire))", tests)) == wanted


def test_alerts_speak_of_what_a_node_tells() -> None:
    assert set(_NAME.findall(ALERTS.read_text())) - told_names() == set()


def test_the_dashboard_speaks_of_what_a_node_tells() -> None:
    expressions = re.findall(r'"(?:expr|query)": "((?:[^"\\]|\\.)*)"', DASHBOARD.read_text())
    used = {name for each in expressions for name in _NAME.findall(each)}
    assert used - told_names() == set()


def test_every_expression_of_the_dashboard_can_be_read(tmp_path: Path) -> None:
    """As a rule of its own each: promtool reads nothing else."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    expressions = [each["expr"] for panel in panels for each in panel.get("targets", [])]
    rules = [
        {
            "record": f"x:{number}",
            "expr": each.replace("$__rate_interval", "5m").replace("$instance", ".*"),
        }
        for number, each in enumerate(expressions)
    ]
    file = tmp_path / "rules.yml"
    # JSON is YAML, too.
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    ran = promtool("check", "rules", file)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_no_panel_lies_on_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_page_of_metrics_is_up_to_date() -> None:
    document = (CHECKOUT / "docs/metrics.md").read_text()
    assert document == page(document, ALERTS.read_text()), "make docs"


def test_every_alert_has_a_row() -> None:
    assert alerts(ALERTS.read_text()).count("\n| Dtfc") == ALERTS.read_text().count("- alert: ")


def test_a_page_without_places_for_the_tables_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("# something else\n")
    with pytest.raises(ValueError, match="there are no lines"):
        main([str(tmp_path / "page"), str(ALERTS)])


def test_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().err
