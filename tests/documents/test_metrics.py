"""docs/metrics.md has all metrics that a worker shows, with their types and labels, and no page names another one."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fang_cli.supervisor.answering import _UP, Asked, _with_up
from fang_core import Queueable, Runnable
from fang_postgres.names import channel
from fang_postgres.schema import tables
from fang_telemetry.__main__ import FILES
from fang_telemetry.exposition import joined
from fang_telemetry.prometheus import pages
from fang_threaded import MemoryQueue, WorkerPool

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = (*(ROOT / "docs").glob("*.md"), ROOT / "README.md")

SUFFIXES: Final[Mapping[str, Sequence[str]]] = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}

Metric = tuple[str, frozenset[str]]
"""A type, and labels."""


class Drained(Runnable):
    def run(self, queue: Queueable) -> None: ...


def documented() -> Iterator[tuple[str, Metric]]:
    """The metrics in the tables of the page, by the names that their series have."""
    kind = ""
    for line in (ROOT / "docs" / "metrics.md").read_text("utf-8").splitlines():
        if head := re.match(r"\| (gauge|counter|histogram)\b.* \| labels \|", line):
            kind = head[1]
        elif row := re.match(r"\| (`fang_.*?) \|(.*?)\|", line):
            labels = frozenset(re.findall(r"`(\w+)`", row[2]))
            yield from ((name, (kind, labels)) for name in re.findall(r"`(\w+)`", row[1]))
        elif not line.startswith("|"):
            kind = ""


def told(text: str) -> dict[str, Metric]:
    """The metrics of a page as Prometheus reads them."""
    found: dict[str, Metric] = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("fang_"):
            (labels,) = {frozenset(sample.labels) - {"le"} for sample in family.samples}
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = (family.type, labels)
    return found


@pytest.fixture
def pool() -> WorkerPool:
    """One that has run a task, and for which another one waits."""
    queue = MemoryQueue()
    queue.insert_task(Drained())
    pool = WorkerPool(queue)
    pool.drain()
    queue.insert_task(Drained())
    return pool


def of_worker(pool: WorkerPool) -> str:
    with pages({"app:pool": pool}) as served:
        return served["/metrics"]().body.decode()


def of_supervisor(pool: WorkerPool) -> str:
    """What a supervisor makes of the two pages of a process."""
    with pages({"app:pool": pool}, is_supervised=True) as served:
        metrics, database = (served[path]().body.decode() for path in ("/metrics", "/database"))
    return joined(_with_up({"1": metrics}, [Asked("1", 1, fills_place=True)]), [database])


def test_the_page_has_each_metric_with_its_type_and_labels_and_no_other(pool: WorkerPool) -> None:
    rows = dict(documented())
    assert len(list(documented())) == len(rows)
    of_process = {_UP: rows.pop(_UP)}
    assert told(of_worker(pool)) == rows
    with_process = {
        name: (kind, labels if _is_of_database(name, labels) else labels | {"process"})
        for name, (kind, labels) in rows.items()
    }
    assert told(of_supervisor(pool)) == with_process | of_process


def _is_of_database(name: str, labels: frozenset[str]) -> bool:
    return name.startswith("fang_database_") or labels == {"task_type"}


def test_no_page_of_the_docs_names_a_metric_that_is_not_there(pool: WorkerPool) -> None:
    shown = told(of_supervisor(pool))
    schema = tables("fang")
    named = {"fang_scaling", "fang_task_state", "fang_alembic_version", channel("fang")}
    for table in schema.metadata.tables.values():
        named |= {table.name, *(str(index.name) for index in table.indexes)}
    named |= {path.name for path in ROOT.iterdir() if path.is_dir()}
    named |= {path.stem for path in (ROOT / "benchmarks" / "peers").glob("*.py")}
    series = {name + suffix for name, (kind, _) in shown.items() for suffix in ("", *SUFFIXES.get(kind, ()))}
    for page in DOCS:
        words = set(re.findall(r"\bfang_[a-z_]+", page.read_text("utf-8")))
        assert words - named - series == set(), page.name


def test_rules_and_panels_group_by_labels_that_metrics_have() -> None:
    labels = {label for _, (_, labels) in documented() for label in labels}
    labels |= {"queue", "le"}  # of several databases, and of buckets
    labels |= {"instance", "job"}  # Prometheus' own
    for file in FILES:
        groups = re.findall(r"\b(?:by|on|without|ignoring) ?\(([^)]*)\)", file.read_text("utf-8"))
        assert groups
        assert {label.strip() for group in groups for label in group.split(",")} - labels == set(), file.name
