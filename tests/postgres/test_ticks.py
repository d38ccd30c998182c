"""A tick that several want to make at once, one of them in a transaction that stays open: it is made once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from fang_core import Runnable, TaskConfig
from fang_core.backends.ticking import tick_of
from fang_core.record import Task
from fang_threaded import Queue
from tests.driven import Driven
from tests.patience import PATIENT
from tests.postgres.blocking import await_waiting

CLIENTS = 16
LAST_TICK = "SELECT last_tick FROM fang.fang_schedules WHERE name = 'ticks.Yearly'"


class Yearly(Runnable):
    """No pool serves its task type."""

    task_config = TaskConfig(kind="ticks.Yearly", task_type="ticks.yearly", uniq=True, cron="@yearly")

    def run(self, queue: Any) -> None: ...


@pytest.fixture
def queue(url: str) -> Iterator[Queue]:
    with Queue(url, max_pool_size=2 * CLIENTS) as queue:
        yield queue


@pytest.fixture
def watcher(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("commits", [True, False])
def test_pools_and_callers_make_a_tick_ahead_once(
    url: str, queue: Queue, watcher: psycopg.Connection[Any], commits: bool
) -> None:
    """All of them wait for a first one, which then commits or rolls back."""
    store = Driven(queue.store())
    with psycopg.connect(url) as holder, ThreadPoolExecutor(2 * CLIENTS) as executor:
        first = queue.schedule_task(Yearly(), connection=holder)
        tick = tick_of(Yearly(), first.scheduled_at, queue.rules)
        callers = [executor.submit(queue.schedule_task, Yearly()) for _ in range(CLIENTS)]
        pools = [executor.submit(store.tick, tick) for _ in range(CLIENTS)]
        await_waiting(watcher, 2 * CLIENTS)
        if commits:
            holder.commit()
        else:
            holder.rollback()
        made: list[Task] = [caller.result(PATIENT) for caller in callers]
        raised = [pool.result(PATIENT) for pool in pools]
    store.close()
    assert {task.id for task in made} == {tick.row.id}
    assert sum(not task.conflict for task in made) + sum(raised) == (0 if commits else 1)
    assert watcher.execute("SELECT id FROM fang.fang_tasks").fetchall() == [(tick.row.id,)]
    assert watcher.execute(LAST_TICK).fetchall() == [(tick.at,)]


def test_a_caller_whom_a_twin_keeps_out_keeps_no_pool_waiting(
    url: str, queue: Queue, watcher: psycopg.Connection[Any]
) -> None:
    store = Driven(queue.store())
    twin = queue.insert_task(Yearly())
    last = store.read_schedules(["ticks.Yearly"]).last_ticks["ticks.Yearly"]
    with psycopg.connect(url) as holder:
        assert queue.schedule_task(Yearly(), connection=holder) == twin._replace(conflict=True)
        at = watcher.execute("SELECT clock_timestamp()").fetchall()[0][0]
        assert at > last
        with ThreadPoolExecutor(1) as executor:
            assert executor.submit(store.tick, tick_of(Yearly(), at, queue.rules)).result(PATIENT)
    store.close()
    assert watcher.execute(LAST_TICK).fetchall() == [(at,)]
