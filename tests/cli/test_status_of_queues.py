"""What `fang status` reads over the verbs of a queue; here its backend is the memory."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from fang_cli.watching import queue_status, status_json, status_tables
from fang_cli.watching.queue_status import status_of
from fang_core import MemoryQueue, Queueable, Runnable, TaskConfig, TaskFilter, TaskState
from fang_core.monitoring import checks
from fang_core.monitoring.figures import UnservedSchedule
from fang_core.monitoring.life import Life
from fang_core.monitoring.listing import Count
from fang_threaded import WorkerPool


class Mail(Runnable):
    task_config = TaskConfig(kind="status.Mail", task_type="mail", max_retries=1)
    to: str = "ada"

    def run(self, queue: Queueable) -> None: ...


class Report(Runnable):
    task_config = TaskConfig(kind="status.Report")

    def run(self, queue: Queueable) -> None: ...


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


def counts(status: Any) -> dict[tuple[str, str, str], tuple[int, int]]:
    return {(each.task_type, each.state, each.kind): (each.count, each.due) for each in status.counts}


def test_tasks_are_counted_by_type_kind_and_state(queue: MemoryQueue) -> None:
    queue.insert_tasks([Mail(), Mail(), Report()])
    queue.insert_task(Mail(), delay=timedelta(days=1))
    done = queue.fetch_and_touch_task("mail")
    assert done is not None
    queue.fail_task(done, "no such mailbox\nsecret")
    held = queue.fetch_and_touch_task("mail")
    assert held is not None

    status = status_of(queue)

    assert counts(status) == {
        ("mail", "new", "status.Mail"): (1, 0),
        ("mail", "in_progress", "status.Mail"): (1, 0),
        ("mail", "failed", "status.Mail"): (1, 0),
        ("common", "new", "status.Report"): (1, 1),
    }
    assert [(each.task_type, each.id) for each in status.oldest_due] == [
        ("common", queue.list_tasks(TaskFilter(kinds="status.Report")).tasks[0].id)
    ]
    assert [(each.id, each.error) for each in status.last_failures] == [(done.id, "no such mailbox")]
    assert [(each.kind, each.pool_id, each.count) for each in status.running] == [("status.Mail", held.pool_id, 1)]
    assert status.unread == ()


def test_kinds_that_run_again_say_why_and_when(queue: MemoryQueue) -> None:
    for backoff in (2, 1):
        queue.insert_task(Mail())
        task = queue.fetch_and_touch_task("mail")
        assert task is not None
        queue.schedule_retry(task, timedelta(hours=backoff), f"busy {backoff}")

    retried = status_of(queue).retried

    first = min(task.scheduled_at for task in queue.list_tasks(TaskFilter(states=TaskState.RETRIED)).tasks)
    assert [(each.kind, each.count, each.error, each.next_due) for each in retried] == [
        ("status.Mail", 2, "busy 1", first)
    ]


def test_what_is_too_much_to_look_at_is_counted_place_by_place(
    queue: MemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_status, "_LOOKED_AT", 4)
    monkeypatch.setattr(queue_status, "_PAGE", 2)
    queue.insert_task(Report(), delay=timedelta(days=1))
    queue.insert_tasks([Mail() for _ in range(20)])
    oldest = queue.list_tasks(TaskFilter(kinds="status.Mail"), limit=500).tasks[-1]

    status = status_of(queue)

    assert counts(status) == {("mail", "new", "status.Mail"): (20, 20), ("common", "new", "status.Report"): (1, 0)}
    assert [each.id for each in status.oldest_due] == [oldest.id]


def test_what_was_not_counted_to_its_end_is_shown_as_the_least(
    queue: MemoryQueue, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(queue_status, "_LOOKED_AT", 2)
    monkeypatch.setattr(queue_status, "_PAGE", 2)
    monkeypatch.setattr(
        queue, "count_tasks", lambda which: Count(5, False) if TaskState.NEW in which.states else Count(0, True)
    )
    queue.insert_tasks([Mail() for _ in range(20)])

    status = status_of(queue)

    assert [(each.count, each.is_estimate, each.is_least) for each in status.counts] == [(5, True, True)]
    assert checks.pools({}, status.counts).text == "no pool is running, and 5+ tasks are due"
    status_tables.show(status)
    shown = capsys.readouterr().out
    assert shown.count(" 5+ ") == 3  # by type, by kind, and as what no pool serves
    assert "~" not in shown
    told = json.loads(status_json.as_json(status))
    assert told["unserved_types"] == [{"task_type": "mail", "due": 5, "estimated": True, "at_least": True}]


def test_a_type_that_no_pool_serves_is_named_once(queue: MemoryQueue, capsys: pytest.CaptureFixture[str]) -> None:
    queue.insert_tasks([Mail(), Mail()])
    status_tables.show(status_of(queue))
    shown = capsys.readouterr().out
    assert "task types that no live pool serves\n┏" in shown
    assert "no kinds that no live pool of their task type knows" in shown


def test_what_no_pool_serves_or_knows_is_named_and_pools_live(queue: MemoryQueue) -> None:
    queue.insert_tasks([Mail(), Report()])
    queue.pause("common")
    with WorkerPool(queue, task_type="common", number_of_workers=1):
        status = status_of(queue)
    assert [each.task_type for each in status.unserved_types] == ["mail"]
    assert [each.kind for each in status.unknown_kinds] == ["status.Mail"]
    assert set(status.lives.values()) == {Life.ALIVE}
    assert [each.task_type for each in status.types] == ["common"]


def test_paused_schedules_are_shown(queue: MemoryQueue) -> None:
    queue.schedules.put("nightly", Report(), every=timedelta(days=1))
    queue.schedules.pause("nightly", reason="stocktaking", by=str(uuid4()))
    assert [(each.name, each.pause_reason) for each in status_of(queue).paused_schedules] == [
        ("nightly", "stocktaking")
    ]


def test_schedules_that_make_no_ticks_are_named(queue: MemoryQueue, capsys: pytest.CaptureFixture[str]) -> None:
    queue.schedules.put("nightly", Report(), every=timedelta(days=1))
    queue.schedules.put("mails", Mail(), every=timedelta(days=1))
    gone = {"kind": "status.Gone", "task_type": "common", "cron": "@daily", "tz": "UTC"}
    queue.state.schedules.declare({"status.Gone": gone}, ())
    with WorkerPool(queue, task_type="common", number_of_workers=1):
        status = status_of(queue)
    assert status.unserved_schedules == [
        UnservedSchedule("mails", "mail", None),
        UnservedSchedule("status.Gone", "common", "status.Gone"),
    ]
    assert json.loads(status_json.as_json(status))["unserved_schedules"] == [
        {"name": "mails", "task_type": "mail", "kind": None},
        {"name": "status.Gone", "task_type": "common", "kind": "status.Gone"},
    ]
    status_tables.show(status)
    assert "schedules of which no live pool makes ticks\n┏" in capsys.readouterr().out


def test_what_waits_and_runs_is_counted_alone_for_the_list_of_queues(queue: MemoryQueue) -> None:
    queue.insert_tasks([Mail(), Mail(), Mail()])
    failed = queue.fetch_and_touch_task("mail")
    assert failed is not None
    queue.fail_task(failed, "no such mailbox")
    queue.fetch_and_touch_task("mail")

    found, oldest, at = queue_status.count_alive(queue)

    assert {(each.state, each.count) for each in found} == {("new", 1), ("in_progress", 1)}
    assert [each.task_type for each in oldest] == ["mail"]
    assert at >= failed.scheduled_at
