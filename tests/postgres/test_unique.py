"""Unique tasks where many clients meet: one wins, nobody waits without need, nothing deadlocks."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import psycopg
import pytest

from fang_async import AsyncQueue
from fang_core import BackendError, Runnable, TaskConfig, Unique
from fang_core.backends.claims import ClaimRequest
from fang_core.backends.pools import PoolRecord
from fang_core.lifecycle import Outcome
from fang_core.record import Task, TaskState
from fang_postgres.pool.store import PostgresStore
from fang_threaded import Queue
from tests.driven import Driven
from tests.patience import PATIENT
from tests.postgres.blocking import await_waiting, while_changed

MOST = 32
by_threads_and_coroutines = pytest.mark.parametrize("half", [8, pytest.param(MOST, marks=pytest.mark.long)])
POOL = uuid4()


class Once(Runnable):
    task_config = TaskConfig(kind="unique.Once", uniq=True)
    n: int = 0

    def run(self, queue: Any) -> None: ...


class OnceADay(Once):
    """For a day, whatever becomes of the task: rows of ``fang_uniques`` alone keep others out."""

    task_config = TaskConfig(kind="unique.OnceADay", uniq=Unique(while_="always", within=timedelta(days=1)))


@pytest.fixture
def queue(url: str) -> Iterator[Queue]:
    with Queue(url, max_pool_size=MOST) as queue:
        yield queue


@pytest.fixture
def watcher(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def store(queue: Queue) -> Iterator[PostgresStore]:
    store = Driven(queue.store())
    store.register(PoolRecord(POOL, "threaded", "host", 1, ("common",), ("unique.Once",), 1))
    yield store
    store.close()


def claim(store: PostgresStore) -> Any:
    (task,) = store.claim(ClaimRequest(POOL, ("common",), ("unique.Once",), 10)).tasks
    return task


async def from_asyncio(url: str, kind: type[Once], count: int) -> list[Task]:
    async with AsyncQueue(url, max_pool_size=MOST) as queue:
        return await asyncio.gather(*(queue.insert_task(kind()) for _ in range(count)))


# One task, many clients -----------------------------------------------------------------------------------------------


def commit(holder: psycopg.Connection[Any], watcher: psycopg.Connection[Any]) -> None:
    holder.commit()


def roll_back(holder: psycopg.Connection[Any], watcher: psycopg.Connection[Any]) -> None:
    holder.rollback()


def kill(holder: psycopg.Connection[Any], watcher: psycopg.Connection[Any]) -> None:
    watcher.execute("SELECT pg_terminate_backend(%s)", [holder.info.backend_pid])


@by_threads_and_coroutines
@pytest.mark.parametrize(
    ("kind", "end"),
    [
        *((Once, end) for end in (commit, roll_back, kill)),
        (OnceADay, commit),
        *(pytest.param(OnceADay, end, marks=pytest.mark.long) for end in (roll_back, kill)),  # see test_uniqueness
    ],
)
def test_of_many_clients_that_insert_one_task_at_once_one_wins(
    url: str, queue: Queue, watcher: psycopg.Connection[Any], end: Callable[..., None], kind: type[Once], half: int
) -> None:
    """All of them wait for a first one, which then ends in every way."""
    holder = psycopg.connect(url)
    with ThreadPoolExecutor(half + 1) as executor:
        first = queue.insert_task(kind(), connection=holder)
        threads = [executor.submit(queue.insert_task, kind()) for _ in range(half)]
        loop = executor.submit(asyncio.run, from_asyncio(url, kind, half))
        await_waiting(watcher, 2 * half)
        end(holder, watcher)
        results = [future.result(PATIENT) for future in threads] + loop.result(PATIENT)
    with suppress(psycopg.Error):
        holder.close()

    assert len(results) == 2 * half
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
        assert complete.result(PATIENT) == {held.id}
        assert not queue.insert_task(Once(), connection=loser).conflict  # now, in the same transaction, it is welcome
        loser.commit()


async def test_the_same_in_asyncio(url: str, queue: Queue, store: PostgresStore) -> None:
    queue.insert_task(Once())
    held = claim(store)
    loser = await asyncpg.connect(url)
    async with AsyncQueue(url) as asynchronous, loser.transaction():
        assert (await asynchronous.insert_task(Once(), connection=loser)).conflict
        assert (await asynchronous.insert_tasks([Once(), Once()], connection=loser))[1].conflict
        async with asyncio.timeout(PATIENT):
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
        results = [future.result(PATIENT) for future in started]
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
        assert [row.conflict for row in second.result(PATIENT)] == [False] * 100


def test_a_bulk_of_several_statements_is_due_at_one_time(queue: Queue) -> None:
    """It is written in the order of hashes, and is to run in the order given: that of the ids."""
    queue.insert_task(Once(n=-1))
    rows = queue.insert_tasks([Once(n=n) for n in range(-1, 5_500)])
    assert [row.metadata["n"] for row in rows] == list(range(-1, 5_500))
    assert [row.conflict for row in rows] == [True] + [False] * 5_500
    assert len({row.scheduled_at for row in rows[1:]}) == 1
    assert [row.id for row in rows] == sorted(row.id for row in rows)


def test_a_row_that_a_trigger_leaves_out_is_not_taken_for_a_unique_one(url: str, queue: Queue) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("""
            CREATE FUNCTION fang.leave_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
            CREATE TRIGGER leaves_out BEFORE INSERT ON fang.fang_tasks FOR EACH ROW EXECUTE FUNCTION fang.leave_out()
        """)
        try:
            for insert in (
                lambda: queue.insert_task(Once(), uniq=False),
                lambda: queue.insert_tasks([Once(), Once(n=1)], uniq=False),
            ):
                with pytest.raises(BackendError, match=r"the insert and written 0 of [12] rows: see whether a trigger"):
                    insert()
        finally:
            connection.execute("DROP FUNCTION fang.leave_out CASCADE")
