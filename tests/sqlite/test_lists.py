"""Lists, counts and calls for many tasks end in time, however many tasks there are, and go on where they have ended."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from fang_core.backends.verbs import Batch
from fang_core.errors import UsageError
from fang_core.monitoring.listing import Count, TaskPage
from fang_core.record import Task, TaskState
from fang_core.tasks.cancelling import Cancellation
from fang_core.tasks.selecting.filter import TaskFilter
from fang_sqlite import SqliteQueue, rows
from fang_sqlite.connections.file import File
from fang_sqlite.reading import audit, listing, walking
from fang_sqlite.tasks import bulk
from tests.sqlite.files import opened

NOW: Final = datetime.now(UTC)
HOUR: Final = timedelta(hours=1)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    made = opened(tmp_path / "tasks.db")
    yield made
    made.close()


def fill(file: File, count: int, **columns: Any) -> list[UUID]:
    """Writes tasks that are all alike, but for what is given for each; returns their ids, the least one first."""
    ids = sorted(uuid4() for _ in range(count))
    with file.writing() as tx:
        for n, task_id in enumerate(ids):
            of_row = {
                "metadata": f'{{"type":"note","n":{n}}}',
                "kind": "note",
                "task_type": "common",
                "scheduled_at": n,
                "created_at": n,
                "updated_at": n,
                **{name: value(n) if callable(value) else value for name, value in columns.items()},
            }
            names = ", ".join(of_row)
            tx.run(
                f"INSERT INTO fang_tasks (id, {names}) VALUES (?{', ?' * len(of_row)})",
                (task_id.bytes, *of_row.values()),
            )
    return ids


def pages(file: File, limit: int = 50, **conditions: Any) -> list[TaskPage]:
    """Returns all pages of a list."""
    which, cursor = TaskFilter(**conditions), None
    found: list[TaskPage] = []
    while not found or cursor is not None:
        with file.reading() as tx:
            found.append(listing.list_tasks(tx, which, limit, cursor))
        cursor = found[-1].cursor
    return found


def listed(found: list[TaskPage]) -> list[UUID]:
    """Returns the ids on these pages, in order."""
    return [task.id for page in found for task in page.tasks]


# Lists ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets no page look further than at as many tasks as it looks at between two looks at the clock."""
    monkeypatch.setattr(listing, "PAGE_SECONDS", 0.0)
    monkeypatch.setattr(listing, "COUNT_SECONDS", 0.0)


@pytest.mark.usefixtures("no_time")
@pytest.mark.parametrize(
    "which",
    [
        {},
        {"states": "new"},
        {"states": ["finished", "failed"]},
        {"states": "in_progress"},
        {"states": ["new", "finished"], "inserted_after": datetime(2020, 1, 1, tzinfo=UTC)},
    ],
)
def test_a_page_without_time_says_how_far_it_came_and_the_next_goes_on(file: File, which: dict[str, Any]) -> None:
    at = int(NOW.timestamp() * 1e6)
    for state in ("new", "finished", "failed", "in_progress"):
        pool_id = uuid4().bytes if state == "in_progress" else None
        fill(file, 150, state=state, pool_id=pool_id, created_at=at, task_type=lambda n: f"type{n % 7}")
    found = pages(file, payload={"n": 149}, **which)
    assert len(found) > 2
    assert all(page.stopped and page.cursor for page in found[:-1])
    assert all(page.looked_at < 2 * 64 for page in found)
    states = which.get("states", ["new", "finished", "failed", "in_progress"])
    assert len(listed(found)) == (1 if isinstance(states, str) else len(states))


@pytest.mark.usefixtures("no_time")
def test_a_count_without_time_says_how_many_there_are_at_least(file: File) -> None:
    fill(file, 300)
    with file.reading() as tx:
        assert listing.count_tasks(tx, TaskFilter(payload={"type": "note"}), 1_000) == Count(63, False)
        count = listing.count_tasks(tx, TaskFilter(states="new"), 1_000)
    # What the engine counts without one look at the clock is counted all the same.
    assert count in {Count(300, True), Count(63, False)}


def test_ended_tasks_of_very_many_types_are_listed_by_their_ids(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = fill(file, 30, state="finished", task_type=lambda n: f"type{n}", updated_at=lambda n: -n)
    in_order_of_time = listed(pages(file, 7, states="finished"))
    assert in_order_of_time == ids
    cursor = pages(file, 7, states="finished")[0].cursor
    monkeypatch.setattr(walking, "MOST_MERGED", 20)
    assert listed(pages(file, 7, states="finished")) == ids[::-1]
    with file.reading() as tx, pytest.raises(UsageError, match="cursor is too old"):
        listing.list_tasks(tx, TaskFilter(states="finished"), 7, cursor)


def test_ids_of_others_are_found_whatever_the_time_of_insertion(file: File) -> None:
    """Ids that are made in another way do not begin with their time."""
    at = int((NOW - HOUR / 2).timestamp() * 1e6)
    ids = fill(file, 20, created_at=at)
    for conditions in ({"inserted_after": NOW - HOUR}, {"inserted_before": NOW}):
        assert sorted(listed(pages(file, 3, **conditions))) == ids
        with file.reading() as tx:
            assert listing.count_tasks(tx, TaskFilter(**conditions), 100) == Count(20, True)
    assert listed(pages(file, inserted_after=NOW)) == []


# Many tasks at once ---------------------------------------------------------------------------------------------------


def batches(file: File, verb: Any, *arguments: Any, limit: int = 1_000) -> list[Batch]:
    """Calls a verb until it has dealt with all."""
    found: list[Batch] = []
    while not found or found[-1].place is not None:
        with file.writing() as tx:
            found.append(verb(tx, *arguments, limit, found[-1].place if found else None))
    return found


def all_of(file: File) -> list[Task]:
    with file.reading() as tx:
        return rows.select(tx, "ORDER BY id")


def test_a_batch_takes_no_more_tasks_than_some_milliseconds_allow(file: File) -> None:
    fill(file, bulk.MOST + 50)
    found = batches(file, bulk.remove_batch, TaskFilter(task_types="common"))
    assert sum(batch.dealt_with for batch in found) == bulk.MOST + 50
    assert max(batch.dealt_with for batch in found) <= bulk.MOST
    assert all_of(file) == []


def test_a_batch_looks_no_further_than_its_time_allows(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "LOOK_SECONDS", 0.0)
    fill(file, 300)
    found = batches(file, bulk.cancel_batch, TaskFilter(payload={"n": 299}), Cancellation("no", "me"))
    assert len(found) > 4
    assert [batch.dealt_with for batch in found if batch.dealt_with] == [1]


def test_what_comes_while_a_call_goes_on_is_left_alone(file: File) -> None:
    fill(file, 30)
    with file.writing() as tx:
        first = bulk.remove_batch(tx, TaskFilter(all_tasks=True), 10, None)
    later = int((NOW + HOUR).timestamp() * 1e6)
    fill(file, 5, created_at=later, scheduled_at=later)
    with file.writing() as tx:
        second = bulk.remove_batch(tx, TaskFilter(all_tasks=True), 100, first.place)
    assert (first.dealt_with, second.dealt_with, len(all_of(file))) == (10, 20, 5)


def test_tasks_are_removed_in_whatever_state_they_come_to_meanwhile(file: File) -> None:
    ids = fill(file, 20)
    with file.writing() as tx:
        first = bulk.remove_batch(tx, TaskFilter(all_tasks=True), 10, None)
        tx.run("UPDATE fang_tasks SET state = 'finished' WHERE rowid % 2")
    batches_left = [first]
    while batches_left[-1].place is not None:
        with file.writing() as tx:
            batches_left.append(bulk.remove_batch(tx, TaskFilter(all_tasks=True), 3, batches_left[-1].place))
    assert sum(batch.dealt_with for batch in batches_left) == len(ids)


def test_a_task_that_ends_again_meanwhile_is_not_retried_twice(file: File) -> None:
    which = TaskFilter(states=TaskState.FAILED, ids=fill(file, 10, state="failed"))
    with file.writing() as tx:
        first = bulk.retry_batch(tx, which, 4, None)
        tx.run("UPDATE fang_tasks SET state = 'failed', updated_at = ?", (tx.micros + 1,))
    with file.writing() as tx:
        second = bulk.retry_batch(tx, which, 100, first.place)
    assert (first.dealt_with, second.dealt_with, second.place) == (4, 0, None)


def test_the_audit_keeps_its_last_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "KEPT", 3)
    with SqliteQueue(tmp_path / "tasks.db") as queue:
        entries = [queue.audit.begin("ada", "pause", f"type {number}") for number in range(5)]
        assert [entry.id for entry in queue.audit.list()] == entries[:1:-1]
        assert not queue.audit.end(entries[0], "done")
        assert queue.audit.end(entries[-1], "done")
