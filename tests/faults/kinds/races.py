"""Many at once: F33 to F37."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg
import psycopg

from fang_async import AsyncQueue
from fang_core import TwinExists, Unique
from fang_threaded import Queue
from tests.faults.registry import fault
from tests.faults.tasks import Blocking, Cooperative
from tests.faults.trial import MODES, Trial

CLIENTS: Final = 64


def _kinds(trial: Trial) -> list[Any]:
    """The class of each mode of the mix."""
    return [Blocking if mode == "threaded" else Cooperative for mode in MODES[trial.mix]]


# A unique task --------------------------------------------------------------------------------------------------------


DAY: Final = timedelta(days=1)

TERMS: Final = {
    "until it is claimed": Unique(by="name", while_="waiting"),
    "for a day": Unique(by="name", within=DAY),
    "for ever": Unique(by="name", while_="always"),
    "raise": Unique(by="name", within=DAY, on_conflict="raise"),
    "replace": Unique(by="name", while_="waiting", on_conflict="replace"),
    "postpone": Unique(by="name", on_conflict="postpone"),
}


@fault("F33", "64 clients insert one unique task; the winner rolls back, or dies, or a loser stays open", quick=True)
def unique(trial: Trial) -> None:
    """A transaction wins and keeps all others waiting, then it is gone: exactly one of them has the row, and all of
    them the same task. The losers' transactions then stay open while the twin runs: they hold nobody up."""
    for end_of_winner in ("ROLLBACK", "its backend dies"):
        for kind in _kinds(trial):
            _one_wins(trial, kind(name=end_of_winner), True, end_of_winner)
    _losers_hold_nobody_up(trial, {"its backend dies": True})


@fault("F33 terms", "the same for each of the terms of a Unique")
def unique_on_terms(trial: Trial) -> None:
    """Who has replaced or postponed the twin has written its row, which no pool claims until that transaction ends: of
    the losers those stay open that have written nothing."""
    for number, (name, uniq) in enumerate(TERMS.items()):
        for kind in _kinds(trial):
            _one_wins(trial, kind(name=name), uniq, ("ROLLBACK", "its backend dies")[number % 2])
    writing_nothing = {name: uniq for name, uniq in TERMS.items() if uniq.on_conflict in {"return", "raise"}}
    _losers_hold_nobody_up(trial, writing_nothing)


def _one_wins(trial: Trial, task: Any, uniq: bool | Unique, end_of_winner: str) -> None:
    race = _race_of_threads if isinstance(task, Blocking) else _race_of_coroutines
    with Queue(trial.url) as queue, closing(psycopg.connect(trial.url)) as winner:
        won = queue.insert_task(task, uniq=uniq, connection=winner)
        told = race(trial, task, uniq, partial(_end, trial, winner, end_of_winner))
    is_raised = isinstance(uniq, Unique) and uniq.on_conflict == "raise"
    assert len(told) == (1 if is_raised else CLIENTS)
    assert len({each.id for each in told}) == 1, "clients were told of different twins"
    assert [each.conflict for each in told].count(False) == 1
    assert told[0].id != won.id
    assert trial.count("id = %s", won.id) == 0
    assert trial.rows("SELECT count(*) FROM fang.fang_uniques WHERE task_id = %s", won.id) == [(0,)]
    trial.acknowledge(told[0].id)


def _end(trial: Trial, winner: Any, how: str) -> None:
    """Once some wait for it."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid'"
    trial.until(lambda: trial.rows(waiting)[0][0] >= CLIENTS // 2)
    if how == "ROLLBACK":
        winner.rollback()
    else:
        trial.rows("SELECT pg_terminate_backend(%s)", winner.info.backend_pid)


def _race_of_threads(trial: Trial, task: Any, uniq: bool | Unique, end: Callable[[], None]) -> list[Any]:
    """What those clients were told whose insert did not raise."""
    told: list[Any] = []
    ended: list[None] = []
    queue = Queue(trial.url)

    def insert() -> None:
        with psycopg.connect(trial.url) as connection, suppress(TwinExists):
            told.append(queue.insert_task(task, uniq=uniq, connection=connection))
        ended.append(None)

    clients = [threading.Thread(target=insert) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    end()
    for client in clients:
        client.join(20)
    assert len(ended) == CLIENTS
    return told


def _race_of_coroutines(trial: Trial, task: Any, uniq: bool | Unique, end: Callable[[], None]) -> list[Any]:
    queue = AsyncQueue(trial.url)

    async def insert() -> Any:
        connection = await asyncpg.connect(trial.url)
        try:
            async with connection.transaction():
                return await queue.insert_task(task, uniq=uniq, connection=connection)
        except TwinExists:
            return None
        finally:
            await connection.close()

    async def race() -> list[Any]:
        clients = [asyncio.create_task(insert()) for _ in range(CLIENTS)]
        await asyncio.to_thread(end)
        return await asyncio.gather(*clients)

    return [task for task in asyncio.run(race()) if task is not None]


def _losers_hold_nobody_up(trial: Trial, terms: Mapping[str, bool | Unique]) -> None:
    """``terms`` are by the names of the tasks."""
    with Queue(trial.url) as queue, psycopg.connect(trial.url) as loser:
        for name, uniq in terms.items():
            for kind in _kinds(trial):
                with suppress(TwinExists):
                    assert queue.insert_task(kind(name=name), uniq=uniq, connection=loser).conflict
        trial.start()
        trial.settle(within=10)  # while the loser's transaction is open


@fault("F34", "bulk inserts of the same unique tasks in different orders")
def unique_in_bulk(trial: Trial) -> None:
    """No deadlock reaches a caller, and every task is there once."""
    _each_is_there_once(trial, 300, True, "")
    trial.start()
    trial.settle()
    assert trial.starts() == 300


@fault("F34 terms", "the same for each of the terms of a Unique")
def unique_in_bulk_on_terms(trial: Trial) -> None:
    for name, uniq in TERMS.items():
        _each_is_there_once(trial, 100, uniq, name)
    assert trial.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]
    trial.start()
    trial.settle()
    assert trial.starts() == 100 * len(TERMS)


def _each_is_there_once(trial: Trial, count: int, uniq: bool | Unique, name: str) -> None:
    kinds = _kinds(trial)
    tasks = [kinds[each % len(kinds)](name=f"{name} {each}") for each in range(count)]

    def insert(order: int) -> list[Any]:
        mine = list(tasks)
        trial.chance.shuffle(mine)
        with suppress(TwinExists):
            if kinds[order % len(kinds)] is Blocking:
                with Queue(trial.url) as queue:
                    return queue.insert_tasks(mine, uniq=uniq)
            return asyncio.run(_insert_async(trial.url, mine, uniq))
        return []

    told = [each for each in _at_once(insert, range(16)) if not each.conflict]
    assert len(told) == len(tasks), "a task was inserted twice, or never"
    for each in told:
        trial.acknowledge(each.id)


async def _insert_async(url: str, tasks: list[Any], uniq: bool | Unique) -> list[Any]:
    async with AsyncQueue(url) as queue:
        return await queue.insert_tasks(tasks, uniq=uniq)


def _at_once(call: Callable[[int], list[Any]], numbers: Iterable[int]) -> list[Any]:
    """All the results, of calls in threads of their own."""
    results: list[Any] = []
    threads = [threading.Thread(target=lambda number=number: results.extend(call(number))) for number in numbers]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    return results


# Rows and workers -----------------------------------------------------------------------------------------------------

LONGEST_POLL: Final = 5.5
"""Seconds after which an idle pool with default settings has looked again."""


@fault("F35", "rows that become visible late, behind rows that were claimed meanwhile")
def late_rows(trial: Trial) -> None:
    """Under load and idle; with a transaction that is longer than an idle pool waits for such, too."""
    trial.start()
    for held_for in (0.3, 3.0):
        for load in (0, 100):
            with Queue(trial.url) as queue, psycopg.connect(trial.url) as late:
                tasks = [queue.insert_task(kind(), connection=late).id for kind in _kinds(trial)]
                trial.insert(load + 1, seconds=0.01)
                time.sleep(held_for)
                committed = time.monotonic()
                late.commit()
            for task in tasks:
                trial.acknowledge(task)
            trial.expect(tasks, committed, LONGEST_POLL)
            trial.settle(within=LONGEST_POLL + 5)


@fault("F36", "200 idle workers and one task; a burst of 10,000; many commits that notify", given={"workers": 50})
def bursts(trial: Trial) -> None:
    trial.start(4 // len(MODES[trial.mix]))
    trial.until(lambda: trial.rows("SELECT count(*) FROM fang.fang_pools WHERE waiting") == [(4,)])
    for _ in range(5):
        inserted = time.monotonic()
        trial.expect(trial.insert(), inserted, bound=2)
        trial.settle()
    trial.insert(10_000)
    trial.settle(within=60)

    def insert_one_by_one(number: int) -> list[UUID]:
        with Queue(trial.url) as queue:
            kind = _kinds(trial)[number % len(MODES[trial.mix])]
            return [queue.insert_task(kind()).id for _ in range(100)]

    for task in _at_once(insert_one_by_one, range(8)):
        trial.acknowledge(task)
    trial.settle()
    assert trial.starts() == 5 + 10_000 + 800, "a task ran twice"


@fault("F37", "64 workers race for 5,000 tasks", given={"workers": 16})
def race_for_tasks(trial: Trial) -> None:
    trial.start(4 // len(MODES[trial.mix]))
    trial.insert(5_000)
    trial.settle(within=60)
    assert trial.starts() == 5_000, "a task ran twice"
