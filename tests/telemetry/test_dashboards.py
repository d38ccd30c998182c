"""The dashboard and the alert rules: Prometheus reads them, alerts fire when they should, and all metrics exist."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from fang_cli.supervisor.answering import _UP
from fang_telemetry.__main__ import FILES
from fang_telemetry.prometheus import PoolCollector, QueueCollector
from fang_threaded import MemoryQueue

DASHBOARD, RULES = FILES
ALARMS = Path(__file__).parents[2] / "docs" / "alarms.md"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool: apt-get install prometheus")


def queries_of_dashboard() -> list[str]:
    return [
        target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel.get("targets", ())
    ]


def alerts() -> dict[str, str]:
    """The text of each rule, by its name."""
    rules = re.split(r"^ +- alert: (\w+)$", RULES.read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(rules[::2], rules[1::2], strict=True))


def exposed() -> Iterator[str]:
    """The names of the series that are exposed."""
    yield _UP
    metrics: list[Metric] = [*PoolCollector().describe(), *QueueCollector(MemoryQueue()).describe()]
    for metric in metrics:
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(metric.type, [""])
        yield from (metric.name + suffix for suffix in suffixes)


def test_every_metric_that_is_asked_for_is_exposed_and_every_one_exposed_is_shown() -> None:
    named = set(re.findall(r"\bfang_\w+", " ".join([*queries_of_dashboard(), *alerts().values()])))
    assert named - set(exposed()) == set()
    parts = {name for name in exposed() if name.endswith(("_count", "_sum"))}  # of histograms
    assert set(exposed()) - named - parts == set()


def test_each_alert_has_a_severity_and_a_place_in_the_docs() -> None:
    page = ALARMS.read_text("utf-8")
    headings = {
        re.sub(r"[^\w -]", "", line[3:].lower()).replace(" ", "-") for line in re.findall(r"^## .*", page, re.M)
    }
    for name, rule in alerts().items():
        assert re.search(r"severity: (warning|critical)\b", rule), name
        runbook = re.search(r"^ +runbook: docs/alarms\.md#(\S+)$", rule, re.MULTILINE)
        assert runbook is not None, name
        assert runbook[1] in headings, name
        assert f"`{name}`" in page


def promtool(*arguments: str, cwd: Path) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    tests = Path(__file__).with_name("alerts_test.yml")
    for file in (RULES, tests):
        shutil.copy(file, tmp_path)
    promtool("check", "rules", RULES.name, cwd=tmp_path)
    promtool("test", "rules", tests.name, cwd=tmp_path)
    fires = set(re.findall(r"alertname: (\w+)\n +exp_alerts:", tests.read_text()))
    silent = set(re.findall(r"alertname: (\w+)}", tests.read_text()))
    assert fires == silent == set(alerts())


@needs_promtool
def test_prometheus_reads_every_query_of_the_dashboard(tmp_path: Path) -> None:
    queries = [re.sub(r"\$\w+", "x", query.replace("$__rate_interval", "5m")) for query in queries_of_dashboard()]
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "panels.yml", cwd=tmp_path)


def test_the_dashboards_panels_do_not_overlap_and_have_titles() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] for panel in panels)
