"""Claims that are sent while the last runs go on, since these have taken no time so far."""

from fang_core import Limit, TaskConfig
from tests.modes import GATES, Database, Harness, eventually, ran

WORKERS = 4
QUICK, LONG = range(100, 500), range(500, 540)


def test_no_task_waits_in_a_slot_for_a_worker_when_runs_take_long_at_once(
    harness: Harness, url: str, database: Database
) -> None:
    class Keyed(harness.note):  # type: ignore[misc, name-defined]
        task_config = TaskConfig(
            kind=f"tests.{harness.mode}.Keyed", task_type="overlapping.keyed", limits=[Limit(2, by="key")]
        )
        key: int

    queue = harness.queue(url)
    harness.call(queue.insert_tasks, [Keyed(n=n, key=n // 2, waits=n in LONG) for n in (*QUICK, *LONG)])
    pool = harness.pool(queue, number_of_workers=WORKERS, task_type="overlapping.keyed")
    began = []
    while len(set(began).intersection(LONG)) < WORKERS:
        began += ran()
    holds = "SELECT count(*) FROM fang.fang_tasks WHERE state = 'in_progress'"
    eventually(lambda: database.rows(holds) == [(WORKERS,)])
    assert pool.stats().waiting == 0
    GATES["gate"].set()
    assert sorted(began + ran(len(QUICK) + len(LONG) - len(began))) == [*QUICK, *LONG]
