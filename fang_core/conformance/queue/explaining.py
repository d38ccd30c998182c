"""Tests that ``queue.explain`` names the one true cause, and that ``queue.pools`` shows what pools do."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from fang_core.backends.pools import Live
from fang_core.conformance.backend import Backend
from fang_core.conformance.clients import Client
from fang_core.conformance.queue.managing import pause, remove_limits, set_limits
from fang_core.conformance.store.control import pools
from fang_core.conformance.store.flow import TYPE, insert, managing
from fang_core.flow.limits import FlowRule, Limit, Rate
from fang_core.monitoring.explanation import Cause, Explanation
from fang_core.record import ClaimedTask, LiveRun, Progress, Task, TaskState

HOUR: Final = timedelta(hours=1)


def explain(backend: Backend, task: Task | ClaimedTask | UUID) -> Explanation:
    """Calls ``queue.explain``."""
    task_id = task if isinstance(task, UUID) else task.id
    explanation: Explanation = backend.call(backend.queue.explain, task_id)
    assert explanation.task_id == task_id
    assert explanation.text.endswith(".")
    return explanation


def cause(backend: Backend, task: Task | ClaimedTask) -> Cause:
    """Returns the cause alone."""
    return explain(backend, task).cause


def full_of(backend: Backend, *rules: FlowRule) -> tuple[Task, Task]:
    """Returns a task that runs, of a type with these rules, and one of the same key that waits."""
    client = managing(backend, *rules)
    rows = insert(backend, [7, 7])
    (first,) = client.claim_lanes(1).tasks
    (waiting,) = (row for row in rows if row.id != first.id)
    return backend.row(first), waiting


def tell(client: Client, backend: Backend, *runs: ClaimedTask, busy: int = 0, waiting: int = 0, **run: Any) -> None:
    """Makes a pool report these runs."""
    told = (LiveRun(each.id, each.kind, **{"seconds": 90.0, "attempt": each.attempt, **run}) for each in runs)
    client.tell_live(Live(busy, waiting, tuple(told)))


class ExplainSuite:
    """Tests ``queue.explain``, and ``PoolStore.tell_live`` with what ``queue.pools`` makes of it."""

    # What pools tell --------------------------------------------------------------------------------------------------

    def test_a_pool_is_listed_with_what_it_told_last(self, backend: Backend) -> None:
        client = backend.client()
        (silent,) = pools(backend)
        assert (silent.busy, silent.waiting, silent.seen_at, silent.live) == (None, None, None, ())
        runs = (
            LiveRun(uuid4(), "é", 61.25, 3, Progress(2, 5, "half of it")),
            LiveRun(uuid4(), "b", 1.5, 1, Progress(2)),
            LiveRun(uuid4(), "c", 1.0, 1),
        )
        client.tell_live(Live(4, 2, runs))
        (told,) = pools(backend)
        assert (told.busy, told.waiting, told.live) == (4, 2, runs)
        assert told.seen_at is not None
        client.tell_live(Live())
        (again,) = pools(backend)
        assert (again.busy, again.waiting, again.live) == (0, 0, ())
        assert again.seen_at is not None
        assert again.seen_at >= told.seen_at

    def test_what_a_pool_told_ends_with_its_record(self, backend: Backend) -> None:
        client = backend.client()
        client.tell_live(Live(1, 0))
        client.unregister()
        client.tell_live(Live(1, 0))  # as if it had been on its way
        client.register()
        (pool,) = pools(backend)
        assert pool.busy is None

    # Tasks that are no more -------------------------------------------------------------------------------------------

    def test_a_task_that_is_gone(self, backend: Backend) -> None:
        nobody = uuid4()
        told = explain(backend, nobody)
        assert (told.cause, told.task) == (Cause.GONE, None)
        assert str(nobody) in told.text

    def test_tasks_that_have_ended_are_explained_by_that(self, backend: Backend) -> None:
        pause(backend, "common")  # which does not matter to them
        finished = backend.move(backend.insert(backend.note()), TaskState.FINISHED)
        failed = backend.insert(backend.note())
        backend.call(backend.queue.fail_task, failed, "no more paper\nline 2")
        cancelled = backend.insert(backend.note())
        backend.call(backend.queue.cancel_task, cancelled.id, "not wanted", by="grace")
        told = [explain(backend, task) for task in (finished, failed, cancelled)]
        assert [each.cause for each in told] == [Cause.FINISHED, Cause.FAILED, Cause.CANCELLED]
        assert [each.since for each in told] == [backend.row(task).updated_at for task in (finished, failed, cancelled)]
        assert "no more paper" in told[1].text
        assert "grace: not wanted" in told[2].text
        assert [each.task for each in told] == [backend.row(task) for task in (finished, failed, cancelled)]
        assert all(f"fang tasks retry {each.task_id}" in each.remedy for each in told[1:])

    # Tasks in progress ------------------------------------------------------------------------------------------------

    def test_a_task_runs_since_when_and_where(self, backend: Backend) -> None:
        client = backend.client()
        backend.insert(backend.note())
        (task,) = client.claim()
        assert cause(backend, task) is Cause.RUNNING  # as far as is known
        tell(client, backend, task, busy=1, progress=Progress(1, 3, "halfway"))
        told = explain(backend, task)
        assert told.cause is Cause.RUNNING
        assert told.since is not None
        assert timedelta(seconds=80) < told.at - told.since < timedelta(seconds=200)
        assert f"{client.record.host}:{client.record.pid}" in told.text
        assert "1 of 3 (halfway)" in told.text
        assert told.details["pool_id"] == client.id

    def test_a_task_waits_for_a_worker_of_the_pool_that_has_claimed_it(self, backend: Backend) -> None:
        client = backend.client()
        backend.insert_many([backend.note(), backend.note()])
        first, second = client.claim()
        tell(client, backend, first, busy=1, waiting=1)
        told = explain(backend, second)
        assert told.cause is Cause.WAITS_FOR_WORKER
        assert (told.details["busy"], told.details["waiting"]) == (1, 1)
        assert cause(backend, first) is Cause.RUNNING

    def test_a_suspect_waits_in_its_pool_until_it_may_run_apart(self, backend: Backend) -> None:
        suspect = backend.crashed(2)
        client = backend.client()
        (task,) = client.claim()
        other = backend.insert(backend.note())
        (running,) = client.claim()
        assert (task.id, running.id) == (suspect.id, other.id)
        tell(client, backend, running, busy=1, waiting=1)
        assert cause(backend, task) is Cause.SUSPECT

    def test_a_task_that_was_fetched_by_hand(self, backend: Backend) -> None:
        assert cause(backend, backend.held(backend.note())) is Cause.FETCHED_BY_HAND

    def test_a_run_that_was_asked_to_end(self, backend: Backend) -> None:
        client = backend.client()
        backend.insert(backend.note())
        (task,) = client.claim()
        backend.call(backend.queue.cancel_task, task.id, "too late", by="grace")
        told = explain(backend, task)
        assert told.cause is Cause.CANCEL_REQUESTED
        assert "grace asked" in told.text
        assert "too late" in told.text

    def test_a_task_whose_holder_is_gone(self, backend: Backend) -> None:
        client = backend.client()
        backend.insert(backend.note())
        (task,) = client.claim()
        client.unregister()
        told = explain(backend, task)
        assert told.cause is Cause.HOLDER_UNKNOWN
        assert told.details["pool_id"] == client.id
        assert "fang worker" in told.remedy  # as there is no pool that could take it back
        backend.client()
        told = explain(backend, task)
        assert (told.cause, told.remedy) == (Cause.HOLDER_UNKNOWN, "")

    # Tasks that wait --------------------------------------------------------------------------------------------------

    def test_a_task_that_is_not_due_or_is_retried_later(self, backend: Backend) -> None:
        later = backend.insert(backend.note(), delay=HOUR)
        told = explain(backend, later)
        assert (told.cause, told.until) == (Cause.DUE_LATER, later.scheduled_at)
        retried = backend.call(
            backend.queue.schedule_retry, backend.held(backend.note()), HOUR, "the printer is out of paper"
        )
        told = explain(backend, retried)
        assert (told.cause, told.until) == (Cause.RETRIED_LATER, retried.scheduled_at)
        assert "the printer is out of paper" in told.text
        assert str(retried.id) in told.remedy

    def test_a_task_that_expires_before_it_can_begin(self, backend: Backend) -> None:
        past, future = datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC) + HOUR
        expired = backend.insert(backend.note(), expires=past)
        told = explain(backend, expired)
        assert (told.cause, told.since) == (Cause.EXPIRED, past)
        assert cause(backend, backend.insert(backend.note(), delay=2 * HOUR, expires=future)) is Cause.EXPIRED
        backend.client()
        assert cause(backend, backend.insert(backend.note(), expires=future)) is not Cause.EXPIRED

    def test_a_paused_type_says_by_whom_since_when_until_when_and_why(self, backend: Backend) -> None:
        task = backend.insert(backend.note(), task_type="exports")
        info = pause(backend, until=HOUR, reason="the API is down", by="grace")
        told = explain(backend, task)
        assert (told.cause, told.since, told.until) == (Cause.PAUSED, info.paused_at, info.paused_until)
        assert "by grace" in told.text
        assert "the API is down" in told.text
        assert told.remedy == "fang queues resume exports"

    def test_no_pool_serves_the_type_or_knows_the_kind_or_goes_on(self, backend: Backend) -> None:
        task = backend.insert(backend.note(), task_type="exports")
        backend.client()  # of another type
        assert cause(backend, task) is Cause.UNSERVED_TYPE
        other = backend.client(task_types=("exports",), kinds=("another",))
        told = explain(backend, task)
        assert told.cause is Cause.UNKNOWN_KIND
        assert told.details["kind"] == task.kind
        assert task.kind in told.text
        assert [pool["pool_id"] for pool in told.details["pools"]] == [other.id]
        stopping = backend.client(task_types=("exports",))
        stopping.beat(stopping=True)
        assert cause(backend, task) is Cause.POOLS_STOPPING
        backend.client(task_types=("exports",))
        assert cause(backend, task) is Cause.STARTS_SOON

    def test_a_suspect_waits_for_a_pool_with_room_for_it(self, backend: Backend) -> None:
        suspect = backend.crashed(2)
        backend.client()
        told = explain(backend, suspect)
        assert told.cause is Cause.SUSPECT
        assert told.details["crashes"] == 2
        backend.client(isolated_kinds=(suspect.kind,))
        assert cause(backend, suspect) is not Cause.SUSPECT

    def test_a_limit_is_full_and_of_what(self, backend: Backend) -> None:
        runs, waits = full_of(backend, Limit(1))
        told = explain(backend, waits)
        assert told.cause is Cause.LIMIT_FULL
        assert (told.details["limit"], told.details["running"]) == (1, 1)
        (holder,) = told.details["held_by"]
        assert (holder["id"], holder["kind"], holder["pool_id"]) == (runs.id, runs.kind, runs.pool_id)
        assert holder["claimed_at"] == runs.claimed_at
        assert str(runs.id) in told.text
        set_limits(backend, Limit(2), task_type=TYPE)
        assert cause(backend, waits) is Cause.STARTS_SOON
        set_limits(backend, Limit(0), task_type=TYPE, reason="the disk is full", by="grace")
        told = explain(backend, waits)
        assert told.cause is Cause.LIMIT_FULL
        assert told.details["limit"] == 0
        assert "by grace" in told.text
        assert "the disk is full" in told.text

    def test_the_limit_of_a_key_is_full_and_of_what(self, backend: Backend) -> None:
        runs, waits = full_of(backend, Limit(1, by="n"))
        told = explain(backend, waits)
        assert told.cause is Cause.KEY_LIMIT_FULL
        assert told.details["key"] == "7"
        assert [holder["id"] for holder in told.details["held_by"]] == [runs.id]
        assert "--each n 2" in told.remedy
        (other,) = insert(backend, [8])
        assert cause(backend, other) is Cause.STARTS_SOON

    def test_the_rate_of_a_type_or_key_allows_the_next_start_later(self, backend: Backend) -> None:
        for rate, expected in ((Rate(1, per=HOUR), Cause.RATE), (Rate(1, per=HOUR, by="n"), Cause.KEY_RATE)):
            _, waits = full_of(backend, rate)
            told = explain(backend, waits)
            assert told.cause is expected
            assert told.until is not None
            assert timedelta(minutes=50) < told.until - told.at <= HOUR
            backend.call(backend.queue.remove_all_tasks)

    def test_other_tasks_come_before_it(self, backend: Backend) -> None:
        backend.client()
        first, second = backend.insert_many([backend.note(), backend.note()])
        urgent = backend.insert(backend.note(), priority=-1)
        backend.insert(backend.note(), priority=1)
        backend.insert(backend.note(), delay=HOUR, priority=-2)
        backend.insert(backend.note(), task_type="other")
        told = [explain(backend, task) for task in (urgent, first, second)]
        assert [each.cause for each in told] == [Cause.STARTS_SOON, Cause.BEHIND_OTHERS, Cause.BEHIND_OTHERS]
        assert [each.details["ahead"] for each in told[1:]] == [1, 2]

    def test_of_a_type_with_keys_only_those_of_its_key_come_before_it(self, backend: Backend) -> None:
        managing(backend, Limit(5, by="n"))
        _, _, last, other = insert(backend, [7, 7, 7, 8])
        told = explain(backend, last)
        assert told.cause is Cause.BEHIND_OTHERS
        assert told.details["ahead"] == 2
        assert cause(backend, other) is Cause.STARTS_SOON

    def test_all_workers_are_busy(self, backend: Backend) -> None:
        client = backend.client(workers=2)
        backend.insert_many([backend.note(), backend.note()])
        runs = client.claim()
        waits = backend.insert(backend.note())
        tell(client, backend, *runs, busy=2)
        assert cause(backend, waits) is Cause.NO_FREE_WORKER
        tell(client, backend, runs[0], busy=1)
        assert cause(backend, waits) is Cause.STARTS_SOON

    # Two causes at once -----------------------------------------------------------------------------------------------

    def test_of_several_causes_the_one_is_named_that_has_to_change_first(self, backend: Backend) -> None:
        later = backend.insert(backend.limited_note(n=7), delay=HOUR)
        _, waits = full_of(backend, Limit(1), Limit(1, by="n"), Rate(1, per=HOUR))
        pause(backend, TYPE)
        assert cause(backend, later) is Cause.DUE_LATER
        assert cause(backend, waits) is Cause.PAUSED
        backend.call(backend.queue.resume, TYPE)
        assert cause(backend, waits) is Cause.LIMIT_FULL
        set_limits(backend, Limit(5), Limit(1, by="n"), Rate(1, per=HOUR), task_type=TYPE)
        assert cause(backend, waits) is Cause.KEY_LIMIT_FULL
        set_limits(backend, Limit(5), Limit(2, by="n"), Rate(1, per=HOUR), task_type=TYPE)
        assert cause(backend, waits) is Cause.RATE
        remove_limits(backend, TYPE)
        unserved = backend.insert(backend.note(), task_type="exports", expires=datetime(2020, 1, 1, tzinfo=UTC))
        pause(backend)
        assert cause(backend, unserved) is Cause.EXPIRED
        unserved = backend.insert(backend.note(), task_type="exports")
        assert cause(backend, unserved) is Cause.PAUSED
        backend.call(backend.queue.resume, "exports")
        assert cause(backend, unserved) is Cause.UNSERVED_TYPE
