"""Lists, and calls for many tasks, on what only a database has: other writers, foreign rows, an engine."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import create_engine, event, make_url

from fang_core import TaskFilter, TaskState
from fang_core.monitoring.listing import Count, TaskPage
from fang_core.record import Task
from fang_postgres import bulk
from fang_postgres.monitoring import listing
from fang_threaded import Queue
from tests.modes import Database, Harness
from tests.postgres.blocking import while_changed

HOUR: Final = timedelta(hours=1)
FAILED: Final = TaskFilter(states=TaskState.FAILED)
ENDED: Final = TaskFilter(states=[TaskState.FAILED, TaskState.FINISHED])
INSERT: Final = """
    INSERT INTO fang.fang_tasks (id, metadata, task_type, state, updated_at, created_at)
    SELECT unnest(%s::uuid[]), %s::jsonb, %s, %s::fang.fang_task_state, %s, %s"""


def insert(
    database: Database,
    ids: list[UUID],
    state: str = "failed",
    *,
    task_type: str = "common",
    metadata: str = '{"type": "X"}',
    at: datetime | None = None,
) -> None:
    at = at or datetime.now(UTC)
    database.execute(INSERT, ids, metadata, task_type, state, at, at)


def listed(harness: Harness, queue: Any, which: TaskFilter, limit: int = 50) -> list[Task]:
    """The tasks of all pages."""
    tasks: list[Task] = []
    cursor = None
    while True:
        page: TaskPage = harness.call(queue.list_tasks, which, limit=limit, cursor=cursor)
        tasks += page.tasks
        cursor = page.cursor
        if cursor is None:
            return tasks


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, no page and no count ends early."""
    for name in ("PAGE_SECONDS", "COUNT_SECONDS"):
        monkeypatch.setattr(listing, name, 3_600)


# Lists ----------------------------------------------------------------------------------------------------------------


def test_a_thousand_tasks_that_ended_at_the_same_moment_come_once(
    harness: Harness, url: str, database: Database
) -> None:
    ids = sorted((uuid4() for _ in range(1_000)), key=lambda each: each.bytes, reverse=True)
    insert(database, ids)
    queue = harness.queue(url)
    assert [task.id for task in listed(harness, queue, FAILED, 300)] == ids
    assert [task.id for task in listed(harness, queue, TaskFilter(states=TaskState.FAILED, kinds="X"), 300)] == ids


def test_tasks_in_progress_are_listed_by_how_long_they_are_held(harness: Harness, url: str, database: Database) -> None:
    """By whichever pool, and also those of which another client has not said since when."""
    ids = [uuid4() for _ in range(9)]
    insert(database, ids, "in_progress", at=datetime.now(UTC) - HOUR)
    for n, task_id in enumerate(ids[:8]):
        database.execute(
            "UPDATE fang.fang_tasks SET pool_id = %s, claimed_at = now() + %s * interval '1 s' WHERE id = %s",
            UUID(int=n % 3),
            n,
            task_id,
        )
    queue = harness.queue(url)
    for limit in (3, 50):
        found = listed(harness, queue, TaskFilter(states=TaskState.IN_PROGRESS), limit)
        assert [task.id for task in found] == [ids[8], *ids[:8]]
    found = listed(harness, queue, TaskFilter(pool_ids=[UUID(int=1)]), 2)
    assert [task.id for task in found] == [ids[1], ids[4], ids[7]]


def test_with_very_many_types_the_ended_tasks_are_listed_by_their_ids(
    harness: Harness, url: str, database: Database
) -> None:
    ids = [UUID(int=n) for n in range(1, 231)]
    database.execute(
        "INSERT INTO fang.fang_tasks (id, metadata, task_type, state) SELECT id, '{\"type\": \"X\"}', 'type' || n,"
        " 'failed' FROM unnest(%s::uuid[]) WITH ORDINALITY AS t(id, n)",
        ids,
    )
    queue = harness.queue(url)
    assert [task.id for task in listed(harness, queue, FAILED)] == ids[::-1]
    assert harness.call(queue.count_tasks, ENDED) == Count(230, True)
    some = TaskFilter(states=TaskState.FAILED, task_types=["type3", "type7"])
    assert {task.id for task in listed(harness, queue, some, 1)} == {ids[2], ids[6]}


def test_tasks_with_ids_of_others_are_found_by_the_time_of_their_insertion(
    harness: Harness, url: str, database: Database
) -> None:
    now = datetime.now(UTC)
    ids = [UUID(int=0), UUID(int=2**128 - 1), *(uuid4() for _ in range(40))]
    insert(database, ids[::2], at=now - 48 * HOUR)
    insert(database, ids[1::2], at=now)
    queue = harness.queue(url)
    ours = {harness.call(queue.insert_task, harness.note(n=n)).id for n in range(3)}
    for limit in (7, 500):
        assert {task.id for task in listed(harness, queue, TaskFilter(), limit)} == {*ids, *ours}
        recent = listed(harness, queue, TaskFilter(inserted_after=now - HOUR), limit)
        assert sorted(task.id for task in recent) == sorted({*ids[1::2], *ours})
        old = listed(harness, queue, TaskFilter(inserted_before=now - HOUR), limit)
        assert sorted(task.id for task in old) == sorted(ids[::2])


def test_a_range_of_time_saves_the_way_through_the_rest(harness: Harness, url: str) -> None:
    queue = harness.queue(url)
    harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(100)])
    for which in (
        TaskFilter(inserted_after=datetime.now(UTC) + 2 * HOUR),
        TaskFilter(inserted_before=datetime.now(UTC) - 2 * HOUR),
    ):
        page = harness.call(queue.list_tasks, which)
        assert (page.tasks, page.looked_at, page.stopped) == ((), 0, False)


def test_a_task_that_python_cannot_read_is_listed_by_its_type(harness: Harness, url: str, database: Database) -> None:
    long = '{"type": "X", "n": ' + "9" * 5_000 + "}"
    one, other = uuid4(), uuid4()
    insert(database, [one], metadata=long)
    insert(database, [other])
    found = {task.id: task.metadata for task in listed(harness, harness.queue(url), FAILED)}
    assert found == {one: {"type": "X"}, other: {"type": "X"}}


def test_rows_that_hold_odd_headers_are_compared(harness: Harness, url: str, database: Database) -> None:
    ids = [uuid4() for _ in range(4)]
    insert(database, ids)
    for task_id, headers in zip(ids, ("null", "[1]", '"a"', '{"a": 1}'), strict=True):
        database.execute("UPDATE fang.fang_tasks SET headers = %s::jsonb WHERE id = %s", headers, task_id)
    queue = harness.queue(url)
    assert listed(harness, queue, TaskFilter(headers={"a": "1"})) == []
    assert len(listed(harness, queue, FAILED)) == 4


def test_an_engine_of_the_application_lists_and_counts_without_its_settings(url: str, database: Database) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    insert(database, [uuid4() for _ in range(30)])
    database.execute("ANALYZE fang.fang_tasks")
    with Queue(engine) as queue:
        assert len(queue.list_tasks(FAILED, limit=7).tasks) == 7
        assert queue.count_tasks(FAILED) == Count(30, True)
        count, is_exact, estimate = queue.count_tasks(FAILED, up_to=7)
        assert 7 < count <= 30
        assert (is_exact, estimate) == (False, None if count == 30 else 30)  # as the planner expects
        at = [n for n, statement in enumerate(sent) if "fang_tasks AS t" in statement]
        assert len(at) >= 4
        for n in at:
            assert "set_config('jit', 'off', true)" in sent[n - 1]
            assert "set_config('statement_timeout'" in sent[n - 1]
        assert queue.retry_tasks(FAILED) == 30
        assert queue.remove_tasks(TaskFilter(states=TaskState.NEW)) == 30
    engine.dispose()


def test_an_estimate_goes_by_the_statistics_of_states_types_and_kinds(
    harness: Harness, url: str, database: Database
) -> None:
    for state, count in (("failed", 300), ("new", 60), ("retried", 60)):
        insert(database, [uuid4() for _ in range(count)], state)
    insert(database, [uuid4() for _ in range(600)], task_type="mail", metadata='{"type": "Y"}')
    database.execute("ANALYZE fang.fang_tasks")
    queue = harness.queue(url)
    for which, expected in (
        (TaskFilter(states=TaskState.FAILED), 900),
        (TaskFilter(states=[TaskState.NEW, TaskState.RETRIED]), 120),
        (TaskFilter(task_types="mail"), 600),
        (TaskFilter(kinds=["X", "Z"]), 420),
        (TaskFilter(), 1_020),
    ):
        count, is_exact, estimate = harness.call(queue.count_tasks, which, up_to=10)
        assert not is_exact
        assert 10 < count <= expected
        assert estimate == pytest.approx(expected, rel=0.3), which


def test_a_count_is_true_however_wrong_the_estimate_is(harness: Harness, url: str, database: Database) -> None:
    """All tasks of one kind have failed and all of the other have finished, for which the planner expects a half."""
    insert(database, [uuid4() for _ in range(1_000)], "finished", metadata='{"type": "CountA"}')
    insert(database, [uuid4() for _ in range(950)], metadata='{"type": "CountB"}')
    insert(database, [uuid4() for _ in range(50)], metadata='{"type": "CountA"}')
    database.execute("ANALYZE fang.fang_tasks")
    queue = harness.queue(url)
    too_many = harness.call(queue.count_tasks, TaskFilter(kinds="CountA", states=TaskState.FAILED), up_to=10)
    assert too_many.estimate > 4 * 50
    assert 10 < too_many.count <= 50
    too_few = TaskFilter(kinds="CountB", states=TaskState.FAILED)
    told = harness.call(queue.count_tasks, too_few, up_to=900)
    assert 900 < told.count <= 950
    assert (told.is_exact, told.estimate) == (False, None)
    assert harness.call(queue.count_tasks, too_few, up_to=100_000) == Count(950, True)


# Many tasks, beside others --------------------------------------------------------------------------------------------


def test_a_task_that_fails_again_meanwhile_is_not_retried_twice(
    harness: Harness, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MOST", 3)
    insert(database, [uuid4() for _ in range(20)])
    again = "UPDATE fang.fang_tasks SET state = 'failed', updated_at = clock_timestamp() WHERE state = 'new'"
    told: list[int] = []

    def fail_all_again(done: int) -> None:
        told.append(done)
        database.execute(again)

    assert harness.call(harness.queue(url).retry_tasks, FAILED, on_progress=fail_all_again) == 20
    assert all(later - former <= 3 for former, later in zip([0, *told], told, strict=False))


def test_what_is_inserted_meanwhile_is_not_removed(harness: Harness, url: str, database: Database) -> None:
    insert(database, [uuid4() for _ in range(20)], "new")
    late: list[UUID] = []

    def insert_more(_: int) -> None:
        late.append(uuid4())
        insert(database, late[-1:], "new", at=datetime.now(UTC) + HOUR)

    which = TaskFilter(kinds="X")
    assert harness.call(harness.queue(url).remove_tasks, which, on_progress=insert_more) == 20
    assert {row[0] for row in database.rows("SELECT id FROM fang.fang_tasks")} == set(late)


def retry(queue: Any) -> Callable[[], int]:
    return partial(queue.retry_tasks, FAILED)


def remove(queue: Any) -> Callable[[], int]:
    return partial(queue.remove_tasks, FAILED)


@pytest.mark.parametrize("call", [retry, remove])
def test_a_task_that_others_have_locked_is_left_alone(
    url: str, database: Database, call: Callable[[Any], Callable[[], int]]
) -> None:
    ids = [uuid4() for _ in range(5)]
    insert(database, ids)
    with Queue(url) as queue, psycopg.connect(url) as other:
        other.execute("SELECT FROM fang.fang_tasks WHERE id = %s FOR UPDATE", [ids[2]])
        assert call(queue)() == 4
        other.rollback()
        assert call(queue)() == 1


def test_a_twin_that_is_inserted_at_this_moment_keeps_only_its_own_from_being_retried(
    url: str, database: Database
) -> None:
    """The batch meets it in the index, is tried again by halves, and then sees it."""
    ids = [uuid4() for _ in range(12)]
    insert(database, ids)
    database.execute("UPDATE fang.fang_tasks SET uniq_hash = 'hash of ' || id")
    twin = "INSERT INTO fang.fang_tasks (metadata, uniq_hash) VALUES ('{\"type\": \"X\"}', 'hash of ' || %(id)s::text)"
    with Queue(url) as queue:
        assert while_changed(url, twin, {"id": ids[7]}, retry(queue)) == 11
        assert queue.find_task_by_id(ids[7]).state is TaskState.FAILED  # type: ignore[union-attr]
