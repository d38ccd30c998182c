"""Runs in child processes: what they know, what they may do, and what becomes of their results."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from fang_core import TaskState, UsageError
from fang_core.events import Events
from fang_core.lifecycle import Failure, Result
from fang_core.record import ClaimedTask
from fang_core.runs.run import Lease
from tests.isolation import tasks
from tests.isolation.conftest import Bench, children, is_there
from tests.modes import Database, eventually

HOUR = timedelta(hours=1)


def test_a_run_has_a_process_of_its_own_and_knows_itself(bench: Bench) -> None:
    bench.pool()
    task, told = bench.begun("tell", headers={"trace": "7"})
    assert told["headers"] == {"trace": "7"}
    assert told["pid"] not in (os.getpid(), os.getppid())
    assert told["group"] == told["pid"]  # which Ctrl-C in a terminal does not reach
    assert (told["task"], told["attempt"], told["lease"]) == (str(task.id), 1, Lease.HELD)
    assert (told["interrupt"], told["state"]) == (None, None)
    bench.ended(task)


def test_a_run_hears_that_its_lease_is_in_doubt(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = bench.pool()
    task, _ = bench.begun("wait_for_doubt")
    monkeypatch.setattr(pool._lifetime.in_flight._runs[task.id], "_is_cut_off", lambda: True)
    bench.ended(task)


def test_children_start_when_they_are_needed_and_serve_run_after_run(bench: Bench) -> None:
    bench.pool(number_of_workers=4)
    assert not children()
    pids = {bench.ran("tell")["pid"] for _ in range(5)}
    assert children() == list(pids)


def test_no_more_children_than_workers(bench: Bench) -> None:
    bench.pool(number_of_workers=2)
    paths = [bench.path() for _ in range(6)]
    for path in paths:
        bench.insert("wait_for_go", path=path)
    pids = set()
    for path in paths:
        pids.add(bench.told(path)["pid"])
        assert len(children()) <= 2
        Path(f"{path}.go").touch()
    assert len(pids) == 2


def test_a_child_inherits_no_socket(bench: Bench, url: str) -> None:
    bench.harness.pool(bench.harness.queue(url))
    bench.pool()
    _, told = bench.begun("tell_of_sockets")
    ours = set(tasks.sockets())
    assert ours
    assert ours.isdisjoint(told["sockets"])


@pytest.mark.parametrize(
    ("act", "message", "place"),
    [
        ("fail", "ValueError: it is the value", "in fail\n"),
        ("fail_unpicklably", "Unpicklable: 1 and 2", "in fail_unpicklably\n"),
        ("leave", "SystemExit: 3", "in leave\n"),
        ("no such act", "KeyError: 'no such act'", "in run\n"),
    ],
)
def test_a_failure_has_its_message_and_its_lines(bench: Bench, act: str, message: str, place: str) -> None:
    listener = Results()
    bench.pool(events=[listener])
    row = bench.ended(bench.insert(act, max_retries=0), TaskState.FAILED)
    assert row.error_message == message
    assert place in row.errors[0]["traceback"]
    (result,) = listener.results
    assert isinstance(result, Failure)
    assert result.exception is None
    assert "tests/isolation/tasks.py:" in str(result.error.place)


def test_a_failure_is_retried_by_the_backoff_of_the_class(bench: Bench) -> None:
    bench.pool()
    row = bench.ended(bench.insert("fail"), TaskState.RETRIED)
    assert (row.retries, row.crashes) == (1, 0)


def test_what_a_run_may_raise_means_what_it_always_does(bench: Bench) -> None:
    bench.pool()
    snoozed, later = bench.insert("snooze"), bench.insert("retry_later")
    assert bench.ended(bench.insert("cancel"), TaskState.CANCELLED).error_message == "not wanted"
    row = bench.ended(later, TaskState.RETRIED)
    assert row.scheduled_at - row.updated_at == 2 * HOUR
    assert row.error_message == "RetryAfter: not yet"
    eventually(lambda: bench.row(snoozed).scheduled_at - bench.row(snoozed).updated_at == HOUR)
    assert bench.row(snoozed).state is TaskState.NEW


def test_a_payload_that_cannot_be_read_is_a_failure(bench: Bench) -> None:
    task = bench.insert("tell", max_retries=0)
    bench.state.tasks[task.id] = task._replace(metadata={"type": task.kind, "act": 3})
    bench.pool()
    row = bench.ended(task, TaskState.FAILED)
    assert "UnreadablePayload" in str(row.error_message)


def test_memory_is_limited_for_the_run(bench: Bench) -> None:
    bench.pool(number_of_workers=1)
    for _ in range(2):
        path = bench.path()
        row = bench.ended(bench.insert("take_memory", name="Limited", path=path, max_retries=0), TaskState.FAILED)
        assert row.error_message == "MemoryError"
        assert row.crashes == 0
        pid = bench.told(path)["pid"]
        assert children() == [pid]  # it lives, and is not limited any more
        path = bench.path()
        bench.ended(bench.insert("take_memory", path=path))
        assert bench.told(path)["pid"] == pid


def test_a_child_is_replaced_after_so_many_tasks(bench: Bench) -> None:
    bench.pool(number_of_workers=1, max_tasks_per_child=2)
    pids = [bench.ran("tell")["pid"] for _ in range(5)]
    assert pids[0] == pids[1]
    assert pids[2] == pids[3]
    assert len(set(pids)) == 3
    eventually(lambda: not any(map(is_there, pids[:4])))


@pytest.mark.parametrize("harness", ["async"], indirect=True)  # threads have no loop
def test_one_loop_serves_all_async_runs_of_a_child(bench: Bench) -> None:
    bench.pool(number_of_workers=1)
    paths = [bench.path() for _ in range(2)]
    for path in paths:
        bench.ended(bench.harness.call(bench.queue.insert_task, tasks.AsyncLoop(path=str(path))))
    assert bench.told(paths[0]) == bench.told(paths[1])


def test_the_middleware_of_the_pool_goes_around_the_run_in_the_child(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = bench.path()
    monkeypatch.setenv("FANG_TEST_TOLD", str(log))
    bench.pool(middleware=[tasks.told])
    _, told = bench.begun("tell")
    assert log.read_text().split()[0] == str(told["pid"])


# The queue of a run ---------------------------------------------------------------------------------------------------


def test_a_run_can_use_the_queue_of_a_url(bench: Bench, url: str, database: Database) -> None:
    bench.harness.pool(bench.harness.queue(url, max_pool_size=2), task_type="isolation")
    path = bench.path()
    queue = bench.harness.queue(url)
    bench.harness.call(queue.insert_task, bench.task("Insert")(path=str(path)))
    assert bench.told(path)["was_open"] is False  # it connects when it is used
    eventually(lambda: database.rows("SELECT 1 FROM fang.fang_tasks WHERE task_type = 'other'"))
    eventually(lambda: not database.rows("SELECT 1 FROM fang.fang_tasks WHERE task_type = 'isolation'"))


@pytest.mark.parametrize("act", ["end_with_3", "fail", "nothing"])
def test_a_run_that_has_completed_its_task_is_done_however_it_ends(
    bench: Bench, url: str, database: Database, act: str
) -> None:
    lost = Losses()
    bench.harness.pool(bench.harness.queue(url), task_type="isolation", events=[lost])
    queue = bench.harness.queue(url)
    task = bench.task("Complete")(url=url, act=act)
    bench.harness.call(queue.insert_task, task)
    eventually(lambda: lost.written == 1)
    assert database.rows("SELECT state FROM fang.fang_tasks") == []
    assert lost.lost == 0


def test_a_queue_without_an_address_says_so_when_it_is_used(bench: Bench) -> None:
    bench.pool()
    path = bench.path()
    task = bench.harness.call(bench.queue.insert_task, bench.task("Insert")(path=str(path)), max_retries=0)
    message = bench.ended(task, TaskState.FAILED).error_message
    assert str(message).startswith("UsageError: the queue of this pool has no address")


def test_a_middleware_that_cannot_go_to_a_child_is_refused_at_the_start(bench: Bench) -> None:
    def local(run: object) -> object: ...

    with pytest.raises(UsageError, match=r"middleware cannot go to a child process \(\w+\): use functions that"):
        bench.pool(middleware=[local])


class Results(Events):
    def __init__(self) -> None:
        self.results: list[Result] = []

    def run_ended(self, task: ClaimedTask, result: Result, seconds: float) -> None:
        self.results.append(result)


class Losses(Events):
    written = 0
    lost = 0

    def outcomes_written(self, pool_id: object, count: int, seconds: float) -> None:
        self.written += count

    def task_lost(self, pool_id: object, outcome: object) -> None:
        self.lost += 1
