"""Hashes hold every column of a task, and nothing changes on the way."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from fang_core.record import Task, TaskState
from fang_redis.records import FIELDS, entries_of, fields_of, payload_in, task_of

NOW = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
FAR = datetime(9999, 12, 29, 1, 2, 3, 456789, tzinfo=UTC)
PLAIN = Task(uuid4(), {"type": "k"}, "k", "common", TaskState.NEW, 0, 0, None, 0, 0, NOW, NOW, NOW)
FULL = Task(
    id=uuid4(),
    metadata={"type": "k:=\n", "text": 'é"\u2028', "n": 2**60},
    kind="k:=\n",
    task_type="a:b",
    state=TaskState.IN_PROGRESS,
    priority=-2,
    retries=3,
    max_retries=0,
    crashes=2,
    attempt=7,
    scheduled_at=FAR,
    created_at=datetime(1, 1, 3, tzinfo=UTC),
    updated_at=NOW,
    error_message="",
    errors=({"number": 1, "error": "x", "traceback": None, "time": NOW.isoformat()},),
    pool_id=uuid4(),
    claimed_at=NOW,
    uniq_hash="ab",
    headers={"a": "ü"},
    timeout=timedelta(microseconds=1),
    expires_at=FAR,
    cancel_request={"by": "me", "at": NOW.isoformat(), "reason": ""},
    group_limit=1,
    lane="",
)


def test_each_column_has_a_field_of_its_own() -> None:
    assert set(FIELDS) == set(Task._fields) - {"id", "errors", "conflict", "progress"}
    assert len(set(FIELDS.values())) == len(FIELDS)


def test_a_task_is_read_as_it_was_written() -> None:
    for task in (PLAIN, FULL):
        assert task_of(str(task.id), fields_of(task), entries_of(task)) == task


def test_what_is_null_takes_no_room() -> None:
    assert fields_of(PLAIN)[::2] == ["m", "k", "T", "s", "p", "d", "n", "u"]


def test_a_payload_is_the_metadata_without_the_kind_however_that_was_written() -> None:
    assert payload_in('{"type":"k","n":1}', "k") == '{"n":1}'
    assert payload_in('{"type":"k"}', "k") == "{}"
    assert payload_in('{"n": 1, "type": "k"}', "k") == '{"n":1}'
    assert payload_in('{"type":"former","n":1}', "k") == '{"n":1}'
