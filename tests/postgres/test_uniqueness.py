"""Unique tasks on terms of their own, and many clients: one wins, nobody waits without need, nothing deadlocks."""

import asyncio
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import psycopg
import pytest

from fang_async import AsyncQueue
from fang_core import Runnable, TaskConfig, TwinExists, Unique
from fang_core.backends.claims import ClaimRequest
from fang_core.backends.pools import PoolRecord, PruneRequest
from fang_core.lifecycle import Outcome
from fang_core.record import Task, TaskState
from fang_postgres.pool.store import PostgresStore
from fang_threaded import Queue
from tests.driven import Driven
from tests.patience import PATIENT
from tests.postgres.blocking import await_waiting
from tests.postgres.test_unique import MOST, POOL, by_threads_and_coroutines, commit, kill, roll_back

DAY = timedelta(days=1)
WAITING = Unique(by="n", while_="waiting")
FOR_A_DAY = Unique(by="n", within=DAY)
ONCE = Unique(by="n", while_="always")
TERMS = {
    "waiting": WAITING,
    "period": FOR_A_DAY,
    "once": ONCE,
    "raise": Unique(by="n", within=DAY, on_conflict="raise"),
    "replace": Unique(by="n", while_="waiting", on_conflict="replace"),
    "postpone": Unique(by="n", on_conflict="postpone"),
}


def with_terms(name: str, values: Mapping[str, Any]) -> pytest.MarkDecorator:
    """Every value with all terms; those of a value are long but for its share of them, by turns."""
    return pytest.mark.parametrize(
        ("uniq", name),
        [
            pytest.param(
                uniq, value, id=f"{key}-{terms}", marks=[] if place % len(values) == turn else [pytest.mark.long]
            )
            for place, (terms, uniq) in enumerate(TERMS.items())
            for turn, (key, value) in enumerate(values.items())
        ],
    )


class Said(Runnable):
    task_config = TaskConfig(kind="uniqueness.Said")
    n: int = 0
    by: str = ""

    def run(self, queue: Any) -> None: ...


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
    store.register(PoolRecord(POOL, "threaded", "host", 1, ("common",), ("uniqueness.Said",), 1))
    yield store
    store.close()


def claim(store: PostgresStore) -> Any:
    (task,) = store.claim(ClaimRequest(POOL, ("common",), ("uniqueness.Said",), 10)).tasks
    return task


def inserted(queue: Queue, uniq: Unique, by: str = "thread") -> Task | None:
    """Returns the task of an insert; None if it raises."""
    try:
        return queue.insert_task(Said(by=by), uniq=uniq)
    except TwinExists:
        return None


async def from_asyncio(url: str, uniq: Unique, count: int) -> list[Task | None]:
    async with AsyncQueue(url, max_pool_size=MOST) as queue:

        async def insert() -> Task | None:
            try:
                return await queue.insert_task(Said(by="coroutine"), uniq=uniq)
            except TwinExists:
                return None

        return await asyncio.gather(*(insert() for _ in range(count)))


# One task, many clients -----------------------------------------------------------------------------------------------


@by_threads_and_coroutines
@with_terms("end", {"roll_back": roll_back, "commit": commit, "kill": kill})
def test_of_many_clients_that_insert_one_task_at_once_one_wins(
    url: str, queue: Queue, watcher: psycopg.Connection[Any], uniq: Unique, end: Callable[..., None], half: int
) -> None:
    """All of them wait for a first one, which then ends in every way."""
    holder = psycopg.connect(url)
    with ThreadPoolExecutor(half + 1) as executor:
        first = queue.insert_task(Said(by="first"), uniq=uniq, connection=holder)
        threads = [executor.submit(inserted, queue, uniq) for _ in range(half)]
        loop = executor.submit(asyncio.run, from_asyncio(url, uniq, half))
        await_waiting(watcher, 2 * half)
        end(holder, watcher)
        results = [future.result(PATIENT) for future in threads] + loop.result(PATIENT)
    with suppress(psycopg.Error):
        holder.close()

    assert len(results) == 2 * half
    told = [task for task in results if task is not None]
    winners = [task for task in told if not task.conflict]
    assert len(winners) == (0 if end is commit else 1)
    (winner,) = winners or [first]
    assert {task.id for task in told} <= {winner.id}
    if uniq.on_conflict == "raise":
        assert len(told) == len(winners)
    else:
        assert len(told) == 2 * half
    rows = watcher.execute("SELECT id, metadata ->> 'by' FROM fang.fang_tasks").fetchall()
    assert [row[0] for row in rows] == [winner.id]
    if uniq.on_conflict != "replace":
        assert rows[0][1] == winner.metadata["by"]
    elif end is commit:
        assert rows[0][1] in {"thread", "coroutine"}
    periods = watcher.execute("SELECT task_id FROM fang.fang_uniques").fetchall()
    assert periods == ([(winner.id,)] if uniq.within or uniq.while_ == "always" else [])


# The border of a period -----------------------------------------------------------------------------------------------


@by_threads_and_coroutines
@pytest.mark.parametrize("uniq", [FOR_A_DAY, ONCE], ids=["period", "once"])
def test_of_many_that_insert_when_a_period_is_over_one_wins(
    url: str, queue: Queue, watcher: psycopg.Connection[Any], uniq: Unique, half: int
) -> None:
    """All of them have seen the period that is over, and wait for whoever ends it."""
    old = queue.insert_task(Said(), uniq=uniq)
    queue.update_task_state(old, TaskState.FINISHED)
    watcher.execute("UPDATE fang.fang_uniques SET until = now() - interval '1 s'")
    with psycopg.connect(url) as holder, ThreadPoolExecutor(half + 1) as executor:
        holder.execute("SELECT FROM fang.fang_uniques FOR UPDATE")
        threads = [executor.submit(inserted, queue, uniq) for _ in range(half)]
        loop = executor.submit(asyncio.run, from_asyncio(url, uniq, half))
        await_waiting(watcher, 2 * half)
        holder.commit()
        results = [future.result(PATIENT) for future in threads] + loop.result(PATIENT)
    assert len({task.id for task in results if task} - {old.id}) == 1
    assert [task.conflict for task in results if task].count(False) == 1
    assert watcher.execute("SELECT count(*) FROM fang.fang_tasks").fetchone() == (2,)
    assert watcher.execute("SELECT count(*) FROM fang.fang_uniques").fetchone() == (1,)


def test_periods_of_one_hash_never_overlap(url: str, queue: Queue, watcher: psycopg.Connection[Any]) -> None:
    """Eight clients insert as fast as they can: a trigger notes each period, and each has exactly one task."""
    watcher.execute("""
        CREATE TABLE begun (at timestamptz, until timestamptz);
        CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.begun VALUES (new.inserted_at, new.until); RETURN new;
        END $$;
        CREATE TRIGGER noting AFTER INSERT ON fang.fang_uniques FOR EACH ROW EXECUTE FUNCTION noted()""")
    short = Unique(by="n", while_="always", within=timedelta(milliseconds=20))
    count = "SELECT count(*) FROM begun"

    def insert() -> int:
        won = 0
        while watcher.execute(count).fetchone()[0] < 20:  # type: ignore[index]
            won += not queue.insert_task(Said(), uniq=short).conflict
        return won

    with ThreadPoolExecutor(8) as executor:
        won = sum(future.result(PATIENT) for future in [executor.submit(insert) for _ in range(8)])
    overlaps = (
        "SELECT count(*) FROM (SELECT at < lag(until) OVER (ORDER BY at) AS is_early FROM begun) b WHERE is_early"
    )
    assert watcher.execute(overlaps).fetchone() == (0,)
    assert watcher.execute(count).fetchone() == (won,)
    assert watcher.execute("SELECT count(*) FROM fang.fang_tasks").fetchone() == (won,)


def test_a_period_outlasts_the_row_that_retention_removes(
    queue: Queue, store: PostgresStore, watcher: psycopg.Connection[Any]
) -> None:
    task = queue.insert_task(Said(), uniq=FOR_A_DAY)
    held = claim(store)
    store.complete(POOL, [Outcome(held.id, held.attempt, TaskState.FINISHED)])
    everything = PruneRequest(("common",), timedelta(0), timedelta(0), 100)
    assert store.prune(everything) == 1
    assert queue.find_task_by_id(task.id) is None
    again = queue.insert_task(Said(), uniq=FOR_A_DAY)
    assert (again.id, again.conflict, again.state) == (task.id, True, TaskState.FINISHED)
    queue.insert_task(Said(n=1), uniq=ONCE)
    watcher.execute("UPDATE fang.fang_uniques SET until = now() WHERE until < 'infinity'")
    assert store.prune(everything) == 1  # the period that is over, and not the endless one
    assert not queue.insert_task(Said(), uniq=FOR_A_DAY).conflict
    assert queue.insert_task(Said(n=1), uniq=ONCE).conflict


# A loser and others ---------------------------------------------------------------------------------------------------


def test_a_loser_whose_transaction_stays_open_holds_nobody_up(
    url: str, queue: Queue, store: PostgresStore, watcher: psycopg.Connection[Any]
) -> None:
    """Neither the run of the twin, nor the end of its period, nor the next one: also if the loser had to wait."""
    watcher.execute("SET lock_timeout = '5s'")
    for n, uniq in enumerate((FOR_A_DAY, ONCE, dataclasses.replace(FOR_A_DAY, on_conflict="raise"))):
        with psycopg.connect(url) as winner, psycopg.connect(url) as loser, ThreadPoolExecutor(1) as executor:
            queue.insert_task(Said(n=n), uniq=uniq, connection=winner)
            lost = executor.submit(lambda n=n, uniq=uniq: queue.insert_task(Said(n=n), uniq=uniq, connection=loser))
            await_waiting(watcher, 1)
            winner.commit()
            if uniq.on_conflict == "raise":
                assert isinstance(lost.exception(20), TwinExists)
            else:
                assert lost.result(PATIENT).conflict
            held = claim(store)
            assert store.complete(POOL, [Outcome(held.id, held.attempt, None)]) == {held.id}
            watcher.execute("UPDATE fang.fang_uniques SET until = now() - interval '1 s'")
            following = executor.submit(lambda n=n, uniq=uniq: queue.insert_task(Said(n=n), uniq=uniq))
            assert not following.result(PATIENT).conflict
            assert queue.remove_task(following.result().id) == 1


async def test_the_same_of_a_waiting_task_in_asyncio(url: str, queue: Queue, store: PostgresStore) -> None:
    queue.insert_task(Said(), uniq=WAITING)
    loser = await asyncpg.connect(url)
    async with AsyncQueue(url) as asynchronous, loser.transaction():
        assert (await asynchronous.insert_task(Said(), uniq=WAITING, connection=loser)).conflict
        assert (await asynchronous.insert_tasks([Said()], uniq=WAITING, connection=loser))[0].conflict
        async with asyncio.timeout(PATIENT):
            held = await asyncio.to_thread(claim, store)
            second = await asyncio.to_thread(lambda: queue.insert_task(Said(), uniq=WAITING))
            given_back = [Outcome(held.id, held.attempt, TaskState.NEW)]
            assert await asyncio.to_thread(store.complete, POOL, given_back) == {held.id}
        assert not second.conflict
        assert (await asynchronous.insert_task(Said(), uniq=WAITING, connection=loser)).id == second.id
    await loser.close()


def test_a_task_is_claimed_when_who_postponed_it_is_done(url: str, queue: Queue, store: PostgresStore) -> None:
    """Until then no claim finds its row, which is locked; and what was claimed before is not changed."""
    uniq = TERMS["replace"]
    first = queue.insert_task(Said(by="first"), uniq=uniq)
    with psycopg.connect(url) as changer:
        assert queue.insert_task(Said(by="second"), uniq=uniq, connection=changer).id == first.id
        assert store.claim(ClaimRequest(POOL, ("common",), ("uniqueness.Said",), 10)).tasks == []
        changer.commit()
    held = claim(store)
    assert held.id == first.id
    assert '"second"' in held.payload
    assert not queue.insert_task(Said(by="third"), uniq=uniq).conflict


def test_a_task_that_is_claimed_while_an_insert_waits_to_replace_it_is_left_alone(
    url: str, queue: Queue, watcher: psycopg.Connection[Any]
) -> None:
    for n, while_ in enumerate(("waiting", "unfinished")):
        uniq = Unique(by="n", while_=while_, on_conflict="replace")  # type: ignore[arg-type]
        first = queue.insert_task(Said(n=n, by="first"), uniq=uniq)
        with psycopg.connect(url) as claimer, ThreadPoolExecutor(1) as executor:
            claimer.execute("SELECT FROM fang.fang_tasks WHERE id = %s FOR UPDATE", [first.id])
            replacing = executor.submit(lambda n=n, uniq=uniq: queue.insert_task(Said(n=n, by="second"), uniq=uniq))
            await_waiting(watcher, 1)
            claimer.execute("UPDATE fang.fang_tasks SET state = 'in_progress', attempt = 1 WHERE id = %s", [first.id])
            claimer.commit()
            second = replacing.result(PATIENT)
        assert second.conflict == (while_ == "unfinished")
        assert (second.id == first.id) == second.conflict
        found = queue.find_task_by_id(first.id)
        assert found is not None
        assert (found.state, found.metadata["by"]) == (TaskState.IN_PROGRESS, "first")


# Bulks ----------------------------------------------------------------------------------------------------------------

ROUNDS = 6


def tasks_of_round(number: int, step: int) -> list[Said]:
    return [Said(n=n, by=str(step)) for n in range(number * 50, number * 50 + 100)][::step]  # half of them are there


def bulks_in_a_thread(queue: Queue, uniq: Unique, step: int, connect: Callable[[], Any] | None) -> list[list[Task]]:
    results = []
    for number in range(ROUNDS):
        with suppress(TwinExists):
            if connect is None:
                results.append(queue.insert_tasks(tasks_of_round(number, step), uniq=uniq))
            else:
                with connect() as connection:
                    results.append(queue.insert_tasks(tasks_of_round(number, step), uniq=uniq, connection=connection))
    return results


async def bulks_in_asyncio(url: str, uniq: Unique, step: int, own: bool) -> list[list[Task]]:
    results = []
    async with AsyncQueue(url) as queue:
        connection = await asyncpg.connect(url)
        for number in range(ROUNDS):
            tasks = tasks_of_round(number, step)
            with suppress(TwinExists):
                if own:
                    results.append(await queue.insert_tasks(tasks, uniq=uniq))
                else:
                    async with connection.transaction():
                        results.append(await queue.insert_tasks(tasks, uniq=uniq, connection=connection))
        await connection.close()
    return results


@with_terms("own", {"own": True, "connection=": False})
def test_bulks_of_the_same_tasks_in_opposite_orders_never_deadlock(
    url: str, queue: Queue, watcher: psycopg.Connection[Any], uniq: Unique, own: bool
) -> None:
    """Two of each mode. On connections of our own a deadlock would be repeated, unseen: the server counts them."""
    connect = None if own else (lambda: psycopg.connect(url))
    with ThreadPoolExecutor(4) as executor:
        started: list[Future[list[list[Task]]]] = [
            executor.submit(bulks_in_a_thread, queue, uniq, step, connect) for step in (1, -1)
        ]
        started += [executor.submit(asyncio.run, bulks_in_asyncio(url, uniq, step, own)) for step in (1, -1)]
        results = [future.result(PATIENT) for future in started]
    rows = [row for rounds in results for told in rounds for row in told]
    winners = [row for row in rows if not row.conflict]
    count, different = (
        "SELECT count(*) FROM fang.fang_tasks",
        "SELECT count(DISTINCT metadata -> 'n') FROM fang.fang_tasks",
    )
    number = watcher.execute(count).fetchone()
    assert number == watcher.execute(different).fetchone() == (len({row.id for row in winners}),)
    assert len(winners) == len({row.id for row in winners})
    if uniq.on_conflict == "raise":
        assert all(len(told) == 100 and not any(row.conflict for row in told) for rounds in results for told in rounds)
    else:
        assert number == (50 * ROUNDS + 50,)
        assert len(rows) == 4 * ROUNDS * 100
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert watcher.execute(deadlocks).fetchone() == (0,)


def test_tasks_that_a_bulk_replaces_are_locked_in_the_order_of_their_ids(
    url: str, queue: Queue, watcher: psycopg.Connection[Any]
) -> None:
    """Whatever the plan: here the one that is first in the table is the last by its id."""
    last, first = (queue.insert_task(Said(n=n), uniq=TERMS["replace"], id=UUID(int=0xFF00 - n)) for n in (1, 2))
    lock = "SELECT FROM fang.fang_tasks WHERE id = %s FOR UPDATE NOWAIT"
    with psycopg.connect(url) as holder, psycopg.connect(url) as bulk, ThreadPoolExecutor(1) as executor:
        holder.execute(lock, [first.id])
        for scan in ("indexscan", "bitmapscan", "indexonlyscan"):
            bulk.execute(f"SET enable_{scan} = off")
        tasks = [Said(n=1), Said(n=2)]
        waiting = executor.submit(lambda: queue.insert_tasks(tasks, uniq=TERMS["replace"], connection=bulk))
        try:
            await_waiting(watcher, 1)
            watcher.execute(lock, [last.id])
        finally:
            holder.rollback()
        assert {task.id for task in waiting.result(PATIENT)} == {first.id, last.id}


def test_a_bulk_that_raises_late_leaves_nothing_in_the_callers_transaction(
    url: str, queue: Queue, watcher: psycopg.Connection[Any]
) -> None:
    """The twin is not there when the insert looks first: it has to delete what it inserted."""
    uniq = TERMS["raise"]
    with psycopg.connect(url) as winner, psycopg.connect(url) as loser, ThreadPoolExecutor(1) as executor:
        queue.insert_task(Said(n=5), uniq=uniq, connection=winner)
        bulk = executor.submit(lambda: queue.insert_tasks([Said(n=n) for n in range(10)], uniq=uniq, connection=loser))
        await_waiting(watcher, 1)
        winner.commit()
        with pytest.raises(TwinExists):
            bulk.result(PATIENT)
        queue.insert_task(Said(n=100), connection=loser)
        loser.commit()
    assert watcher.execute("SELECT metadata -> 'n' FROM fang.fang_tasks ORDER BY 1").fetchall() == [(5,), (100,)]
    assert watcher.execute("SELECT count(*) FROM fang.fang_uniques").fetchone() == (1,)


def test_a_period_that_could_not_have_its_task_is_taken_back(
    url: str, queue: Queue, watcher: psycopg.Connection[Any]
) -> None:
    """A task without a period keeps it out, after the period has begun."""
    with psycopg.connect(url) as other, ThreadPoolExecutor(1) as executor:
        twin = queue.insert_task(Said(), uniq=Unique(by="n"), connection=other)
        kept_out = executor.submit(lambda: queue.insert_task(Said(), uniq=FOR_A_DAY))
        await_waiting(watcher, 1)
        other.commit()
        assert kept_out.result(PATIENT).id == twin.id
    assert watcher.execute("SELECT count(*) FROM fang.fang_uniques").fetchone() == (0,)


def test_a_period_that_is_taken_back_leaves_another_of_the_same_task(
    queue: Queue, watcher: psycopg.Connection[Any]
) -> None:
    task = queue.insert_task(Said(), uniq=FOR_A_DAY)
    periods = watcher.execute("SELECT * FROM fang.fang_uniques").fetchall()
    assert queue.insert_task(Said(), id=task.id, uniq=Unique(by=["n", "by"], within=DAY)).id == task.id
    assert watcher.execute("SELECT * FROM fang.fang_uniques").fetchall() == periods != []


def test_many_are_replaced_in_one_bulk(queue: Queue) -> None:
    uniq = TERMS["replace"]
    first = queue.insert_tasks([Said(n=n, by="first") for n in range(2_500)], uniq=uniq)
    second = queue.insert_tasks([Said(n=n, by=f"second {n}") for n in reversed(range(2_500))], uniq=uniq)
    assert [row.id for row in second] == [row.id for row in reversed(first)]
    assert [row.metadata["by"] for row in second] == [f"second {n}" for n in reversed(range(2_500))]
    assert all(row.conflict for row in second)
    assert [queue.find_task_by_id(row.id) == row._replace(conflict=False) for row in second[::500]] == [True] * 5
