"""`fang top`, and the words and tables of what pools have counted."""

import json
import os
import pty
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from uuid import UUID

import pytest
from click.testing import CliRunner
from rich.console import Console

from fang_cli.commands import fang
from fang_cli.watching import top
from fang_core import Queueable, Runnable, TaskConfig
from fang_core.monitoring.stats import KindStats, Stats, StatsPoint, Times, TypeStats
from fang_core.record import LiveRun, PoolInfo, Progress
from fang_threaded import Queue, WorkerPool

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NO_TIMES = Times(0, 0.0, 0.0, 0.0, 0.0)


def kind(name: str, **given: object) -> KindStats:
    counts = dict.fromkeys(("started", "arrived", "finished", "retried", "failed", "cancelled", "lost", "rescued"), 0)
    others = {"task_type": "mail", "queue": NO_TIMES, "run": NO_TIMES, "run_seconds": 0.0, "cpu_seconds": 0.0}
    return KindStats(**{"kind": name, **counts, **others, "share": 0.0, **given})  # type: ignore[arg-type]


def task_type(name: str, **given: object) -> TypeStats:
    quiet = {"due": 0, "due_is_exact": True, "oldest_due": 0.0, "running": 0, "workers": 0, "paused": False}
    return TypeStats(**{"task_type": name, **quiet, **given})  # type: ignore[arg-type]


POINT = StatsPoint(
    at=NOW - timedelta(minutes=2),
    seconds=60.0,
    started=400,
    finished=390,
    retried=5,
    failed=5,
    cancelled=0,
    run_seconds=100.0,
    busy_seconds=110.0,
    worker_seconds=480.0,
)
STATS = Stats(
    since=NOW - timedelta(minutes=5),
    until=NOW,
    kinds=(
        kind("Import", started=600, finished=590, failed=10, share=0.75, run=Times(600, 0.02, 0.012, 3.1, 240.0)),
        kind("[red]\x1b[31m", started=3, finished=3, share=0.01),
    ),
    types=(
        task_type("mail", workers=4),
        task_type("heavy", due=100, due_is_exact=False, oldest_due=3700.0),
        task_type("slow", due=2, oldest_due=10.0, workers=1, paused=True),
    ),
    points=(POINT, POINT),
    utilisation=0.24,
)


def run(number: int, seconds: float, progress: Progress | None = None) -> LiveRun:
    return LiveRun(UUID(int=number), "Import", seconds, 2, progress)


POOL = PoolInfo(UUID(int=9), "async", "here", 7, ("a", "b"), ("Import",), 5, NOW, False, {}, busy=2, waiting=1)
POOLS = [
    POOL._replace(seen_at=NOW - timedelta(seconds=5), live=(run(1, 1.5), run(2, 1.0))),
    POOL._replace(seen_at=NOW + timedelta(seconds=5), live=(run(3, 4.0, Progress(2, 4, "[red]\x1b half")),)),
    POOL._replace(busy=None, waiting=None),
]


GLANCE = top.Glance(timedelta(minutes=5), STATS, POOLS)


def drawn(rows: int | None, trouble: str = "") -> str:
    console = Console(file=StringIO(), width=200, highlight=False)
    console.print(top.as_renderable(GLANCE, rows=rows, trouble=trouble))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_all_is_on_one_screen() -> None:
    lines = drawn(None).splitlines()
    assert lines[0].endswith("3 pools, 4 of 15 workers busy")
    assert lines[1] == (
        "in the last 5 min: 800 runs started, 2.7/s (780 finished, 10 retried, 10 failed)"
        "; workers were busy 24% of their time"
    )
    cells = [[each.strip() for each in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    assert cells[:3] == [
        ["heavy", "100+", "1 h 1 min", "0", "0", "not served"],  # what has waited longest comes first
        ["slow", "2", "10 s", "0", "1", "paused"],
        ["mail", "0", "", "0", "4", ""],
    ]
    assert cells[3] == ["Import", "mail", "75%", "600", "2.0/s", "12 ms", "3.1 s", "4 min", "", "", "1.7%"]
    assert cells[4] == ["[red]\N{REPLACEMENT CHARACTER}[31m", "mail", "1%", "3", "0.6/min", *[""] * 6]  # none was timed
    assert [row[1] for row in cells[5:]] == ["6.5 s", "6 s", "4 s"]  # as they are by now
    assert cells[7][3] == "2 of 4 [red]\N{REPLACEMENT CHARACTER} half"


def test_workers_of_a_silent_pool_do_not_count_and_its_runs_are_marked() -> None:
    silent = POOL._replace(id=UUID(int=10), pid=8, seen_at=NOW - timedelta(minutes=12), live=(run(5, 2.0),))
    glance = top.Glance(GLANCE.since, STATS, [*POOLS, silent])
    console = Console(file=StringIO(), width=160)
    console.print(top.as_renderable(glance, rows=None))
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[0].endswith("3 pools, 4 of 15 workers busy")
    assert "pool here:8 has been silent for 12 min: its process may be dead" in lines
    assert [line.split("│")[-2].strip() for line in lines if "12 min 2 s" in line] == ["here 8, silent"]
    found = top.as_object(glance)
    assert (found["workers"], found["busy"], found["silent"]) == (15, 4, [str(silent.id)])
    assert [each["silent"] for each in found["running"]] == [True, False, False, False]


def test_a_narrow_screen_still_says_what_each_row_is_about() -> None:
    console = Console(file=StringIO(), width=60)
    console.print(top.as_renderable(GLANCE, rows=None))
    assert isinstance(console.file, StringIO)
    rows = [line.split("│")[1].strip() for line in console.file.getvalue().splitlines() if line.startswith("│")]
    assert rows[:4] == ["heavy", "slow", "mail", "Import"]
    assert rows[5:] == ["Import"] * 3
    assert max(map(len, console.file.getvalue().splitlines())) <= 60


def test_a_small_screen_has_the_first_rows_of_each_table() -> None:
    shown = drawn(1)
    assert "heavy" in shown
    assert "slow" not in shown
    assert shown.count("and 2 more") == 2
    assert top.rows_of(24) == 3
    assert top.rows_of(60) == 14


def test_what_stands_in_the_way_of_an_update_is_told() -> None:
    assert "not up to date: the database does not answer\N{REPLACEMENT CHARACTER}" in drawn(
        3, "the database does not answer\x1b"
    )


def test_json_of_it_all() -> None:
    found = json.loads(json.dumps(top.as_object(GLANCE)))
    assert set(found) == {"throughput", "workers", "busy", "types", "kinds", "running", "silent"}
    assert found["throughput"]["started"] == 800
    assert (found["workers"], found["busy"]) == (15, 4)
    assert found["kinds"][0]["run"]["p95"] == 3.1
    assert found["kinds"][0]["error_rate"] == pytest.approx(10 / 600)
    assert [(each["seconds"], each["pool_id"]) for each in found["running"]] == [
        (6.5, str(POOL.id)),
        (6.0, str(POOL.id)),
        (4.0, str(POOL.id)),
    ]


# The command ----------------------------------------------------------------------------------------------------------


class Counted(Runnable):
    task_config = TaskConfig(kind="cli.Counted", task_type="counted")

    def run(self, queue: Queueable) -> None: ...


def test_top_and_status_tell_what_a_pool_has_counted(url: str) -> None:
    with Queue(url) as queue:
        queue.insert_tasks([Counted() for _ in range(7)])
        assert WorkerPool(queue, task_type="counted").drain() == 7
    result = CliRunner().invoke(fang, ["top", "--json", "--database-url", url], prog_name="fang")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert found["throughput"]["finished"] == 7
    assert [(each["kind"], each["started"]) for each in found["kinds"]] == [("cli.Counted", 7)]
    shown = CliRunner().invoke(fang, ["top", "--once", "--database-url", url], prog_name="fang").stdout
    assert "cli.Counted" in shown
    status = json.loads(CliRunner().invoke(fang, ["status", "--json", "--database-url", url], prog_name="fang").stdout)
    assert status["throughput"]["finished"] == 7
    assert [(each["kind"], each["started"], each["error_rate"]) for each in status["slowest_kinds"]] == [
        ("cli.Counted", 7, 0.0)
    ]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal as standard input; the descriptor of the one who types."""
    types, reads = pty.openpty()
    with os.fdopen(reads) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        yield types
    os.close(types)


def test_q_ends_it_at_once_and_other_keys_do_not(terminal: int) -> None:
    with top._Keys() as keys:
        os.write(terminal, b"xq")
        assert keys.end_within(50.0)
        os.write(terminal, b"x")
        assert not keys.end_within(0.01)
