"""A row holds all of a task: what is written is what is read."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from fang_core.errors import UnreadablePayload
from fang_core.record import ClaimedTask, Task, TaskState
from fang_sqlite import SqliteQueue, rows
from fang_sqlite.records import CLAIMED, COLUMNS, claimed_of, micros, moment, row_of, task_of

NOT_STORED = {"conflict", "progress"}
"""What the row does not hold."""

TASK = Task(
    id=UUID(int=1),
    metadata={"type": "Kind", "text": "é\u2028\U0001f600", "parts": [1, 2.5, None, {"a": True}]},
    kind="Kind",
    task_type="heavy",
    state=TaskState.IN_PROGRESS,
    priority=-1,
    retries=2,
    max_retries=0,
    crashes=1,
    attempt=4,
    scheduled_at=datetime(1, 1, 3, 1, 2, 3, 4, UTC),
    created_at=datetime(2024, 2, 29, 12, 0, 0, 999_999, UTC),
    updated_at=datetime(9999, 12, 28, tzinfo=UTC),
    error_message="no",
    errors=({"number": 1, "error": "no", "traceback": None},),
    pool_id=UUID(int=2**128 - 1),
    claimed_at=datetime(2024, 3, 1, tzinfo=UTC),
    uniq_hash="ab",
    headers={"trace": "1"},
    timeout=timedelta(days=2, microseconds=1),
    expires_at=datetime(2025, 1, 1, tzinfo=UTC),
    cancel_request={"by": "me", "at": "now", "reason": ""},
    group_limit=3,
    lane="key",
)


def test_every_field_of_a_task_has_its_column(sqlite_path: Path) -> None:
    assert set(COLUMNS) == set(Task._fields) - NOT_STORED
    assert set(CLAIMED) == {{"payload": "metadata"}.get(name, name) for name in ClaimedTask._fields}
    with SqliteQueue(sqlite_path) as queue, queue._file.reading() as tx:
        columns = {row[1] for row in tx.rows("PRAGMA table_info(fang_tasks)")}
    assert columns == {*COLUMNS, "uniq_waiting"}


@pytest.mark.parametrize("task", [TASK, TASK._replace(**Task._field_defaults)])
def test_what_is_written_is_what_is_read(task: Task, sqlite_path: Path) -> None:
    assert task_of(row_of(task)) == task
    with SqliteQueue(sqlite_path) as queue:
        with queue._file.writing() as tx:
            names, marks = ", ".join(COLUMNS), ", ".join("?" * len(COLUMNS))
            tx.run(f"INSERT INTO fang_tasks ({names}) VALUES ({marks})", row_of(task._replace(retries=0)))
            rows.write(tx, [task])
        assert queue.find_task_by_id(task.id) == task


def test_times_are_exact() -> None:
    for time in (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        assert moment(micros(time)) == time


@pytest.mark.parametrize("metadata", ['{"type":"K","n":1}', '{"n":1,"type":"K"}', '{ "type" : "K", "n": 1}'])
def test_the_payload_of_a_claim_is_all_but_the_type(metadata: str) -> None:
    row = (UUID(int=1).bytes, "K", metadata, 1, 0, None, 0, "common", 0, 0, None, None, None, None, None)
    assert claimed_of(row).payload.replace(" ", "") == '{"n":1}'


def test_a_row_that_cannot_be_read_names_its_task_and_not_its_payload() -> None:
    values = dict(zip(COLUMNS, row_of(TASK), strict=True))
    with pytest.raises(UnreadablePayload, match="00000000-0000-0000-0000-000000000001") as raised:
        task_of(tuple((values | {"metadata": '{"secret'}).values()))
    assert "secret" not in str(raised.value)
