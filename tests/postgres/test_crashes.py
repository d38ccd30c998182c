"""Every row of the table of crashes, as the real rescues of both modes and of the memory backend write it."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import count, product
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from fang_core import MemoryQueue, Runnable, TaskConfig
from fang_core.backends.memory.state import MemoryState
from fang_core.backends.pools import Rescued, manual_pool
from fang_core.crashes import MOST_CRASHES, MOST_DOUBLINGS, MOST_GROUP, after_crash
from fang_core.liveness import Pulse
from fang_core.record import Task, TaskState, waiting_state
from fang_core.tasks.registry import Mode
from tests.modes import Database, Harness

DUE = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
MOST = (1, 2, 3, 5)
ALIVE = UUID(int=99)


class Crashing(Runnable):
    task_config = TaskConfig(kind="tests.Crashing")

    def run(self, queue: Any) -> None: ...


class Dead(NamedTuple):
    """A dead pool and what it held."""

    id: UUID
    has_record: bool
    was_stopping: bool
    max_crashes: int
    workers: int
    tasks: Sequence[Task]
    isolated_kinds: Sequence[str] = ()


class Written(NamedTuple):
    """What a rescue has made of all tasks, what it told of them, and the backend's clock before and after it."""

    rows: Sequence[Task]
    told: Sequence[Rescued]
    before: datetime
    after: datetime


def dead_pools() -> Iterator[Dead]:
    """Yields each combination of record, stop and ``max_crashes``: with each task alone, and with all of them at once.

    Some pools hold two tasks: two suspects, or a suspect beside an innocent one. Some suspects have limits of groups.
    """
    numbers = count(1)
    for (has_record, was_stopping), most in product([(True, False), (True, True), (False, False)], MOST):
        crashes = {*range(most + 2), MOST_DOUBLINGS - 1, MOST_DOUBLINGS, MOST_CRASHES}
        each: list[tuple[int, ...]] = [(times, 0) for times in sorted(crashes)]
        each += [(0, 1), (0, 2**31 - 1), *((2, 0, limit) for limit in (1, 2, 3, 7, MOST_GROUP))]
        for group in (*([one] for one in each), each, [(2, 0), (2, 0)], [(2, 0), (0, 0)]):
            for workers in (0, 1, 6, 1_000) if len(group) > 2 else (6,):
                pool_id = UUID(int=(next(numbers) << 64) + 7)
                tasks = [held(next(numbers), pool_id, *charged) for charged in group]
                yield Dead(pool_id, has_record, was_stopping, most, workers, tasks)
    for crashes, kinds in product(range(4), (["tests.Crashing"], ["tests.Other", "tests.Crashing"], ["tests.Other"])):
        for others, limit in product((0, 3), (None, 1, 2, 5)):
            pool_id = UUID(int=(next(numbers) << 64) + 7)
            tasks = [held(next(numbers), pool_id, times, 0, limit) for times in (crashes, *[0] * others)]
            yield Dead(pool_id, True, False, 3, 6, tasks, kinds)


def held(number: int, pool_id: UUID, crashes: int, retries: int, group_limit: int | None = None) -> Task:
    return Task(
        id=UUID(int=number),
        metadata={"type": "tests.Crashing"},
        kind="tests.Crashing",
        task_type="common",
        state=TaskState.IN_PROGRESS,
        priority=0,
        retries=retries,
        max_retries=None,
        crashes=crashes,
        attempt=number,
        scheduled_at=DUE,
        created_at=DUE,
        updated_at=DUE,
        error_message="of an earlier run",
        errors=({"number": 1},),
        group_limit=group_limit,
        pool_id=pool_id,
        claimed_at=DUE,
    )


class OnPostgres:
    """The statements of a mode, on the real server."""

    def __init__(self, mode: Mode, url: str) -> None:
        self._harness = Harness(mode)
        self._queue = self._harness.queue(url)
        self._database = Database(url)

    def fill(self, pools: Sequence[Dead]) -> None:
        for pool in pools:
            if pool.has_record:
                self._database.execute(
                    "INSERT INTO fang.fang_pools"
                    " (id, mode, host, pid, task_types, kinds, workers, stopping, max_crashes, isolated_kinds)"
                    " VALUES (%s, 'threaded', 'host', 1, '{}', '{}', %s, %s, %s, %s)",
                    pool.id,
                    pool.workers,
                    pool.was_stopping,
                    pool.max_crashes,
                    list(pool.isolated_kinds),
                )
        tasks = [task for pool in pools for task in pool.tasks]
        columns = list(
            zip(*((t.id, t.crashes, t.retries, t.attempt, t.pool_id, t.group_limit) for t in tasks), strict=True)
        )
        self._database.execute(
            "INSERT INTO fang.fang_tasks (id, crashes, retries, attempt, pool_id, group_limit, metadata, state,"
            " scheduled_at, created_at, updated_at, claimed_at, error_message, errors)"
            """ SELECT *, '{"type": "tests.Crashing"}', 'in_progress', %s, %s, %s, %s, 'of an earlier run',"""
            """ '[{"number": 1}]' FROM unnest(%s::uuid[], %s::int[], %s::int[], %s::bigint[], %s::uuid[], %s::int[])""",
            *[DUE] * 4,
            *map(list, columns),
        )

    def rescue(self, pools: Sequence[Dead], max_crashes: int) -> Written:
        before = self._now()
        store = self._harness.call(self._queue.store)
        heart = store.heart(True)
        pulses = [Pulse(pool.id, 0, False, False, 60.0) for pool in pools if pool.has_record]
        told = self._harness.call(heart.rescue, pulses) + self._harness.call(heart.rescue_orphans, max_crashes)
        self._harness.call(heart.close)
        self._harness.call(store.close)
        return Written(self._harness.call(self._queue.tasks_of_kinds, ["tests.Crashing"]), told, before, self._now())

    def reconcile(self, pool_id: UUID) -> Sequence[Task]:
        store = self._harness.call(self._queue.store)
        self._harness.call(store.reconcile, pool_id, ())
        self._harness.call(store.close)
        rows: Sequence[Task] = self._harness.call(self._queue.tasks_of_kinds, ["tests.Crashing"])
        return rows

    def _now(self) -> datetime:
        ((now,),) = self._database.rows("SELECT clock_timestamp()")
        assert isinstance(now, datetime)
        return now

    def close(self) -> None:
        self._database.close()
        self._harness.close()


class InMemory:
    """The memory backend, whose pools cannot die: the test plays it."""

    def __init__(self) -> None:
        self._state = MemoryState()

    def fill(self, pools: Sequence[Dead]) -> None:
        for pool in pools:
            if pool.has_record:
                isolated_kinds = tuple(pool.isolated_kinds)
                record = manual_pool(pool.id)._replace(workers=pool.workers, isolated_kinds=isolated_kinds)
                self._state.registry.register(record)
            self._state.tasks.update((task.id, task) for task in pool.tasks)

    def rescue(self, pools: Sequence[Dead], max_crashes: int) -> Written:
        before = self._state.clock()
        told = [
            rescued
            for pool in pools
            for rescued in self._state.rescue(
                pool.id,
                was_stopping=pool.was_stopping,
                max_crashes=pool.max_crashes if pool.has_record else max_crashes,
            )
        ]
        return Written(MemoryQueue(state=self._state).tasks, told, before, self._state.clock())

    def reconcile(self, pool_id: UUID) -> Sequence[Task]:
        self._state.reconcile(pool_id, ())
        return list(self._state.tasks.values())

    def close(self) -> None: ...


Backend = OnPostgres | InMemory


@pytest.fixture(params=["threaded", "async", "memory"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    mode = request.param
    made = InMemory() if mode == "memory" else OnPostgres(mode, request.getfixturevalue("url"))
    yield made
    made.close()


def test_a_rescue_writes_the_table(backend: Backend) -> None:
    for most in MOST:  # those without a record are parked by the number of who finds them, so by one for each rescue
        pools = [pool for pool in dead_pools() if pool.max_crashes == most]
        backend.fill(pools)
        written = backend.rescue(pools, most)
        rows = {task.id: task for task in written.rows}
        told = {rescued.id: rescued for rescued in written.told}
        assert len(told) == len(written.told) == sum(len(pool.tasks) for pool in pools)
        for pool in pools:
            for task in pool.tasks:
                expect(pool, task, rows[task.id], told[task.id], written)


def expect(pool: Dead, task: Task, row: Task, told: Rescued, written: Written) -> None:
    after = after_crash(
        task,
        was_stopping=pool.was_stopping,
        held=len(pool.tasks),
        workers=pool.workers if pool.has_record else None,
        max_crashes=pool.max_crashes,
        is_isolated=task.kind in pool.isolated_kinds,
    )
    case = f"{task.crashes} crashes, {task.retries} retries, {len(pool.tasks)} held, {pool[1:5]}"
    assert (row.state, row.crashes, row.retries) == (after.state, after.crashes, task.retries), case
    assert row.group_limit == after.group_limit, case
    assert row.error_message == (after.error_message or task.error_message), case
    assert [without_time(entry) for entry in row.errors] == [
        {"number": 1},
        *([json.loads(after.error_entry)] if after.error_entry else []),
    ], case
    if after.delay is None:
        assert row.scheduled_at == task.scheduled_at, case
    else:
        assert written.before <= row.scheduled_at - after.delay <= written.after, case
    assert (row.pool_id, row.claimed_at, row.attempt) == (None, None, task.attempt), case
    assert told == Rescued(
        task.id,
        task.kind,
        task.attempt,
        after.crashes,
        after.state,
        pool.was_stopping,
        after.is_charged,
        task.task_type,
    ), case


def without_time(entry: Any) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "time"}


def test_a_reconcile_gives_back_as_new_or_retried(backend: Backend) -> None:
    charged = list(product([0, 1, MOST_CRASHES], [0, 1, 2**31 - 1]))
    tasks = [held(number, ALIVE, *counts) for number, counts in enumerate(charged)]
    backend.fill([Dead(ALIVE, True, False, 3, 6, tasks)])
    rows = {task.id: task for task in backend.reconcile(ALIVE)}
    assert [rows[task.id].state for task in tasks] == [waiting_state(task.retries, task.crashes) for task in tasks]
    assert {rows[task.id].pool_id for task in tasks} == {None}
