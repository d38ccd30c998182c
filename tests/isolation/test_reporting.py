"""What a pool tells of runs in child processes while they go on: their progress, where they hang, and how many run."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest

from fang_core import ClaimedTask, Events, Progress
from tests.isolation.conftest import START, Bench
from tests.modes import eventually

SOON: Final = timedelta(milliseconds=300)
TEXT: Final = "caf\N{LATIN SMALL LETTER E WITH ACUTE}\N{SYMBOL FOR NULL}" + 195 * "x"


class Told(Events):
    """Keeps where runs hang."""

    def __init__(self) -> None:
        self.hung: dict[UUID, str | None] = {}

    def run_hung(self, pool_id: UUID, task: ClaimedTask, seconds: float, place: str | None) -> None:
        self.hung[task.id] = place


def go(path: Path) -> None:
    Path(f"{path}.go").touch()


# Progress -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["memory", "postgres"])
def test_the_progress_of_a_run_is_found_with_its_task(bench: Bench, url: str, backend: str) -> None:
    if backend == "postgres":
        bench.queue = bench.harness.queue(url)
    bench.pool(number_of_workers=1)
    progress, runs = progress_in(bench), lambda: bench.harness.call(bench.queue.pools)[0].runs
    path = bench.path()
    task = bench.insert("report", path=path)
    bench.told(path)
    eventually(lambda: progress(task.id) == Progress(1, 3, TEXT), START)
    assert runs()[str(task.id)]["progress"] == {"done": 1, "total": 3, "text": TEXT}
    go(path)
    eventually(lambda: progress(task.id) == Progress(2.5), START)
    go(Path(f"{path}.2"))
    eventually(lambda: runs() == {}, START)


def progress_in(bench: Bench) -> Callable[[UUID], Progress | None]:
    def progress(task_id: UUID) -> Progress | None:
        found = bench.harness.call(bench.queue.find_task_by_id, task_id)
        return None if found is None else found.progress

    return progress


def test_a_run_that_reports_nothing_does_not_have_the_progress_of_the_last_one_in_its_child(bench: Bench) -> None:
    pool = bench.pool(number_of_workers=1)
    path = bench.path()
    former = bench.insert("report", path=path)
    child = bench.told(path)["pid"]
    go(path)
    go(Path(f"{path}.2"))
    bench.ended(former)
    path = bench.path()
    task = bench.insert("wait_for_go", path=path)
    assert bench.told(path)["pid"] == child
    run = pool._lifetime.in_flight._runs[task.id]
    run.child.look(run)
    assert run.reported is None
    go(path)
    bench.ended(task)


def test_a_progress_is_read_whole_however_fast_it_changes(bench: Bench) -> None:
    pool = bench.pool(number_of_workers=1)
    path = bench.path()
    task = bench.insert("report_on_and_on", path=path)
    bench.told(path)
    shared = pool._lifetime.in_flight._runs[task.id].child.process.shared
    read: set[Progress] = set()

    def has_read_thousands() -> bool:
        read.update(progress for progress in (shared.reported for _ in range(1_000)) if progress is not None)
        return len(read) > 1_000

    eventually(has_read_thousands, START)
    go(path)
    bench.ended(task)
    assert {told for told in read if told != Progress(told.done, told.done, 200 * str(told.done % 10))} == set()


# Hung runs, and counts ------------------------------------------------------------------------------------------------


def test_a_hung_run_is_told_of_with_its_child_process(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    pool = bench.pool(number_of_workers=1, warn_after=SOON, events=[told])
    bench.ran("tell")  # so that the child has started
    path = bench.path()
    task = bench.insert("wait_for_go", path=path)
    place = f"child process, pid {bench.told(path)['pid']}"
    eventually(lambda: task.id in told.hung)
    assert told.hung[task.id] == place
    (line,) = [record.getMessage() for record in caplog.records if str(task.id) in record.getMessage()]
    expected = rf"task {task.id} \({task.kind}\): run 1 has been going on for \d+\.\d s, in its {place}"
    assert re.fullmatch(expected, line)
    eventually(lambda: bench.state.pools[pool.id].runs.get(str(task.id), {}).get("hung") == place)
    go(path)
    bench.ended(task)


def test_a_child_that_is_still_starting_is_told_of_as_such(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FANG_TEST_IMPORT_SECONDS", "2")
    told = Told()
    bench.pool(number_of_workers=1, warn_after=SOON, events=[told])
    path = bench.path()
    task = bench.insert("tell", name="Slow", path=path)
    bench.ended(task)
    assert told.hung[task.id] == f"child process, pid {bench.told(path)['pid']}, which is still starting"


def test_a_run_within_its_timeout_does_not_hang_however_long_its_child_took_to_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FANG_TEST_IMPORT_SECONDS", "3")
    told = Told()
    bench.pool(number_of_workers=1, warn_after=SOON, events=[told])
    bench.ended(bench.insert("tell", name="Slow", timeout=timedelta(seconds=2.5)))
    assert told.hung == {}


def test_isolated_runs_are_counted_by_kind(bench: Bench) -> None:
    pool = bench.pool(number_of_workers=2)
    paths = [bench.path() for _ in range(2)]
    tasks = [bench.insert("wait_for_go", path=path) for path in paths]
    for path in paths:
        bench.told(path)
    stats = pool.stats()
    assert (stats.running, stats.waiting, dict(stats.by_kind)) == (2, 0, {tasks[0].kind: (2, 0)})
    for path in paths:
        go(path)
    for task in tasks:
        bench.ended(task)
    eventually(lambda: (pool.stats().running, pool.stats().ended, pool.stats().unwritten) == (0, 2, 0))
