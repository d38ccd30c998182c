"""What pools with options of their own delete beside each other."""

from datetime import timedelta
from typing import Any

from fang_core import RetentionMode
from tests.modes import Database, Harness, eventually, ran


def kept(database: Database) -> list[str]:
    return [
        task_type for (task_type,) in database.rows("SELECT task_type FROM fang.fang_tasks WHERE state = 'finished'")
    ]


def test_a_pool_prunes_by_its_options_what_it_serves_and_nothing_else(
    harness: Harness, url: str, database: Database
) -> None:
    queue = harness.queue(url)

    def pool(task_type: str | tuple[str, ...], keep: timedelta | None) -> Any:
        return harness.pool(queue, task_type=task_type, retention_mode=RetentionMode.KEEP_ALL, keep_finished=keep)

    billing, others = pool("billing", None), pool(("common", "mail"), timedelta(0))
    for n, task_type in enumerate(("billing", "common", "mail")):
        harness.call(queue.insert_task, harness.note(n=n), task_type=task_type)
    assert ran(3) == [0, 1, 2]
    eventually(lambda: len(kept(database)) == 3)
    assert harness.call(billing._lifetime.maintenance.prune) == 0
    assert harness.call(others._lifetime.maintenance.prune) == 2
    assert kept(database) == ["billing"]


def test_what_a_pool_said_of_its_runs_goes_with_its_record_or_is_pruned(
    harness: Harness, url: str, database: Database
) -> None:
    pool = harness.pool(harness.queue(url))
    database.rows("INSERT INTO fang.fang_live (pool_id) VALUES (gen_random_uuid()) RETURNING 1")
    eventually(lambda: len(database.rows("SELECT FROM fang.fang_live")) == 2)  # the pool has said what it does
    harness.call(pool._lifetime.maintenance.prune)
    assert database.rows("SELECT pool_id FROM fang.fang_live") == [(pool.id,)]
    harness.stop(pool)
    assert database.rows("SELECT FROM fang.fang_live") == []
