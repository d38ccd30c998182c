"""Unique tasks where many clients meet: one wins, nobody waits without need, nothing deadlocks."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import psycopg
import pytest

from fang_async import AsyncQueue
from fang_core import Runnable, TaskConfig
from fang_core.lifecycle import Outcome
from fang_core.record import Task, TaskState
from fang_core.store import ClaimRequest, PoolRecord
from fang_threaded import Queue
from fang_threaded.store import PostgresStore
from tests.postgres.blocking import await_waiting, while_changed

HALF = 32
POOL = uuid4()


class Once(Runnable):
    task_config = TaskConfig(kind="unique.Once", uniq=True)
    n: int = 0

    def run(self, queue: Any) -> None: ...


@pytest.fixture
def queue(url: str) -> Iterator[Queue]:
    with Queue(url, max_pool_size=HALF) as queue:
        yield queue


@pytest.fixture
def watcher(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def store(queue: Queue) -> PostgresStore:
    store = queue.store()
    store.register(PoolRecord(POOL, "threaded", "host", 1, ("common",), ("unique.Once",), 1))
    return store


def claim(store: PostgresStore) -> Any:
    (task,) = store.claim(ClaimRequest(POOL, ("common",), ("unique.Once",), 10)).tasks
    return task


async def from_asyncio(url: str) -> list[Task]:
    async with AsyncQueue(url, max_pool_size=HALF) as queue:
        return await asyncio.gather(*(queue.insert_task(Once()) for _ in range(HALF)))


# One task, many clients -----------------------------------------------------------------------------------------------


def commit(holder: psycopg.Connection[Any], watcher: psycopg.Connection[Any]) -> None:
    holder.commit()


def roll_back(holder: psycopg.Connection[Any], watcher: psycopg.Connection[Any]) -> None:
    holder.rollback()


def kill(holder: psycopg.Connection[Any], watcher: psycopg.Connection[Any]) -> None:
    watcher.execute("SELECT pg_terminate_backend(%s)", [holder.info.backend_pid])


@pytest.mark.parametrize("end", [commit, roll_back, kill])
def test_of_64_clients_that_insert_one_task_at_once_one_wins(
    url: str, queue: Queue, watcher: psycopg.Connection[Any], end: Callable[..., None]
) -> None:
    """All of them wait for a first one, which then ends in every way."""
    holder = psycopg.connect(url)
    with ThreadPoolExecutor(HALF + 1) as executor:
        first = queue.insert_task(Once(), connection=holder)
        threads = [executor.submit(queue.insert_task, Once()) for _ in range(HALF)]
        loop = executor.submit(asyncio.run, from_asyncio(url))
        await_waiting(watcher, 2 * HALF)
        end(holder, watcher)
        results = [future.result(20) for future in threads] + loop.result(20)
    with suppress(psycopg.Error):
        holder.close()

    assert len(results) == 2 * HALF
    winners = [task for task in results if not task.conflict]
    assert len(winners) == (0 if end is commit else 1)
    assert not first.conflict
    (winner,) = winners or [first]
    assert {task.id for task in results} == {winner.id}
    rows = watcher.execute("SELECT id FROM fang.fang_tasks").fetchall()
    assert rows == [(winner.id,)]


# A loser and the running twin -----------------------------------------------------------------------------------------


def test_an_open_transaction_of_a_loser_never_blocks_the_running_twin(
    url: str, queue: Queue, store: PostgresStore
) -> None:
    queue.insert_task(Once())
    held = claim(store)
    with psycopg.connect(url) as loser, ThreadPoolExecutor(1) as executor:
        assert queue.insert_task(Once(), connection=loser).conflict
        assert queue.insert_tasks([Once(), Once()], connection=loser)[1].conflict
        complete = executor.submit(store.complete, POOL, [Outcome(held.id, held.attempt, TaskState.FINISHED)])
        assert complete.result(5) == {held.id}
        assert not queue.insert_task(Once(), connection=loser).conflict  # now, in the same transaction, it is welcome
        loser.commit()


async def test_the_same_in_asyncio(url: str, queue: Queue, store: PostgresStore) -> None:
    queue.insert_task(Once())
    held = claim(store)
    loser = await asyncpg.connect(url)
    async with AsyncQueue(url) as asynchronous, loser.transaction():
        assert (await asynchronous.insert_task(Once(), connection=loser)).conflict
        assert (await asynchronous.insert_tasks([Once(), Once()], connection=loser))[1].conflict
        async with asyncio.timeout(5):
            complete = asyncio.to_thread(store.complete, POOL, [Outcome(held.id, held.attempt, None)])
            assert await complete == {held.id}
        assert not (await asynchronous.insert_task(Once(), connection=loser)).conflict
    await loser.close()


def test_a_retry_never_collides_with_its_twin(url: str, queue: Queue, store: PostgresStore) -> None:
    first = queue.insert_task(Once())
    for number in range(1, 4):
        held = claim(store)
        assert queue.insert_task(Once()).id == first.id
        # An insert that comes between the outcome and its commit waits for it, and finds the same task.
        outcome = "UPDATE fang.fang_tasks SET state = 'retried', pool_id = NULL, retries = %(n)s"
        found = while_changed(url, outcome, {"n": number}, lambda: queue.insert_task(Once()), end="ROLLBACK")
        assert (found.id, found.state, found.conflict) == (first.id, TaskState.IN_PROGRESS, True)
        assert store.complete(POOL, [Outcome(held.id, held.attempt, TaskState.RETRIED, charge=1)]) == {first.id}
        found = queue.insert_task(Once())
        assert (found.id, found.state, found.retries, found.attempt) == (first.id, TaskState.RETRIED, number, number)


@pytest.mark.parametrize("state", ["finished", "failed", "cancelled"])
def test_an_insert_that_waits_for_the_end_of_its_twin_is_made(url: str, queue: Queue, state: str) -> None:
    first = queue.insert_task(Once())
    end = f"UPDATE fang.fang_tasks SET state = '{state}'"
    for insert in (queue.insert_task, lambda task: queue.insert_tasks([task])[0]):
        second = while_changed(url, end, {}, lambda insert=insert: insert(Once()))
        assert not second.conflict
        assert second.id != first.id


def test_an_insert_waits_for_nobody_who_only_holds_the_twin(url: str, queue: Queue) -> None:
    first = queue.insert_task(Once())
    with psycopg.connect(url) as holder:
        holder.execute("SELECT FROM fang.fang_tasks FOR UPDATE")
        assert queue.insert_task(Once()) == first._replace(conflict=True)


# Bulks ----------------------------------------------------------------------------------------------------------------

ROUNDS = 12


def tasks_of_round(number: int, step: int) -> list[Once]:
    return [Once(n=n) for n in range(number * 100, number * 100 + 100)][::step]


def bulks_in_a_thread(queue: Queue, step: int, connect: Callable[[], Any] | None) -> Iterator[list[Task]]:
    for number in range(ROUNDS):
        if connect is None:
            yield queue.insert_tasks(tasks_of_round(number, step))
        else:
            with connect() as connection:
                yield queue.insert_tasks(tasks_of_round(number, step), connection=connection)


async def bulks_in_asyncio(url: str, step: int, own: bool) -> list[list[Task]]:
    results = []
    async with AsyncQueue(url) as queue:
        connection = await asyncpg.connect(url)
        for number in range(ROUNDS):
            if own:
                results.append(await queue.insert_tasks(tasks_of_round(number, step)))
            else:
                async with connection.transaction():
                    results.append(await queue.insert_tasks(tasks_of_round(number, step), connection=connection))
        await connection.close()
    return results


@pytest.mark.parametrize("own", [True, False], ids=["own", "connection="])
def test_bulks_of_the_same_tasks_in_opposite_orders_never_deadlock(
    url: str, queue: Queue, watcher: psycopg.Connection[Any], own: bool
) -> None:
    """Two of each mode. On connections of our own a deadlock would be repeated, unseen: the server counts them."""
    connect = None if own else (lambda: psycopg.connect(url))
    with ThreadPoolExecutor(4) as executor:
        started: list[Future[list[list[Task]]]] = [
            executor.submit(lambda step=step: list(bulks_in_a_thread(queue, step, connect))) for step in (1, -1)
        ]
        started += [executor.submit(asyncio.run, bulks_in_asyncio(url, step, own)) for step in (1, -1)]
        results = [future.result(40) for future in started]
    for number in range(ROUNDS):
        rows = [row for rounds in results for row in rounds[number]]
        assert len(rows) == 400
        assert sum(not row.conflict for row in rows) == 100
        assert len({row.id for row in rows}) == 100
    for step, rounds in zip((1, -1, 1, -1), results, strict=True):
        assert [row.metadata["n"] for row in rounds[0]] == [task.n for task in tasks_of_round(0, step)]
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert watcher.execute(deadlocks).fetchone() == (0,)


def test_bulks_that_wait_for_each_other_do_so_in_one_direction(
    url: str, queue: Queue, watcher: psycopg.Connection[Any]
) -> None:
    """The second one waits at the first task in the order of hashes, holding none that the first could want."""
    with psycopg.connect(url) as first, ThreadPoolExecutor(1) as executor:
        queue.insert_tasks([Once(n=n) for n in range(50)], connection=first)
        second = executor.submit(queue.insert_tasks, [Once(n=n) for n in reversed(range(100))])
        await_waiting(watcher, 1)
        queue.insert_tasks([Once(n=n) for n in range(50, 100)], connection=first)
        first.rollback()
        assert [row.conflict for row in second.result(20)] == [False] * 100


def test_a_bulk_of_several_statements_is_due_at_one_time(queue: Queue) -> None:
    """It is written in the order of hashes, and is to run in the order given: that of the ids."""
    queue.insert_task(Once(n=-1))
    rows = queue.insert_tasks([Once(n=n) for n in range(-1, 5_500)])
    assert [row.metadata["n"] for row in rows] == list(range(-1, 5_500))
    assert [row.conflict for row in rows] == [True] + [False] * 5_500
    assert len({row.scheduled_at for row in rows[1:]}) == 1
    assert [row.id for row in rows] == sorted(row.id for row in rows)


# Moves by hand against a concurrent change ----------------------------------------------------------------------------

CHANGES = {
    "moved": "UPDATE fang.fang_tasks SET state = 'failed', updated_at = clock_timestamp() WHERE id = %(id)s",
    "claimed": "UPDATE fang.fang_tasks SET state = 'in_progress', attempt = attempt + 1 WHERE id = %(id)s",
    "moved and back": "UPDATE fang.fang_tasks SET updated_at = clock_timestamp() WHERE id = %(id)s",
    "removed": "DELETE FROM fang.fang_tasks WHERE id = %(id)s",
}


def moved(queue: Queue, task: Task, state: TaskState) -> Task | str:
    """The new row, or the name of the error."""
    try:
        return queue.update_task_state(task, state)
    except Exception as error:  # noqa: BLE001 - it is compared
        return type(error).__name__


@pytest.mark.parametrize("change", CHANGES)
def test_a_move_by_hand_that_waits_for_a_change_finds_the_row_stale(url: str, queue: Queue, change: str) -> None:
    task = queue.insert_tasks([Once(n=n) for n in range(300)])[150]
    result = while_changed(url, CHANGES[change], {"id": task.id}, lambda: moved(queue, task, TaskState.CANCELLED))
    assert result == "StaleTask"
    row = queue.find_task_by_id(task.id)
    assert row is None if change == "removed" else row is not None and row.state is not TaskState.CANCELLED


@pytest.mark.parametrize("change", CHANGES)
def test_a_move_by_hand_that_waits_for_what_is_rolled_back_is_made(url: str, queue: Queue, change: str) -> None:
    task = queue.insert_task(Once())
    result = while_changed(
        url, CHANGES[change], {"id": task.id}, lambda: moved(queue, task, TaskState.CANCELLED), end="ROLLBACK"
    )
    assert result == queue.find_task_by_id(task.id)
    assert result.state is TaskState.CANCELLED


def test_a_move_by_hand_keeps_what_was_edited_beside_it(url: str, queue: Queue) -> None:
    task = queue.insert_task(Once())
    edit = "UPDATE fang.fang_tasks SET priority = -2 WHERE id = %(id)s"
    result = while_changed(url, edit, {"id": task.id}, lambda: moved(queue, task, TaskState.CANCELLED))
    assert (result.state, result.priority) == (TaskState.CANCELLED, -2)


def test_a_revival_forgets_crashes_and_no_other_move_does(queue: Queue, watcher: psycopg.Connection[Any]) -> None:
    task = queue.insert_task(Once())
    watcher.execute("UPDATE fang.fang_tasks SET crashes = 2, retries = 1")
    ended = queue.update_task_state(task, TaskState.FINISHED)
    assert (ended.crashes, ended.retries) == (2, 1)
    revived = queue.update_task_state(ended, TaskState.NEW)
    assert (revived.crashes, revived.retries) == (0, 0)


@pytest.mark.parametrize(("end", "result"), [("COMMIT", "TwinExists"), ("ROLLBACK", TaskState.NEW)])
def test_of_two_revivals_of_twins_at_once_one_wins(url: str, queue: Queue, end: str, result: str) -> None:
    one, two = (queue.update_task_state(queue.insert_task(Once()), TaskState.FAILED) for _ in range(2))
    revive = "UPDATE fang.fang_tasks SET state = 'new' WHERE id = %(id)s"
    outcome = while_changed(url, revive, {"id": one.id}, lambda: moved(queue, two, TaskState.NEW), end=end)
    assert result == (outcome if isinstance(outcome, str) else outcome.state)
    assert queue.find_task_by_id(two.id) == (two if end == "COMMIT" else outcome)


def test_twins_that_many_revive_at_once(queue: Queue, watcher: psycopg.Connection[Any]) -> None:
    ended = [queue.update_task_state(queue.insert_task(Once()), TaskState.FINISHED) for _ in range(16)]
    with ThreadPoolExecutor(16) as executor:
        results = list(executor.map(lambda task: moved(queue, task, TaskState.NEW), ended))
    assert results.count("TwinExists") == 15
    live: list[tuple[UUID]] = watcher.execute("SELECT id FROM fang.fang_tasks WHERE state = 'new'").fetchall()
    assert live == [(task.id,) for task in results if isinstance(task, Task)]
