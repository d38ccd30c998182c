"""Schedules whose processes are killed: one task for each tick, and none is missed while one pool lives.

One schedule is that of a class, the others are in the database. Of the class's ticks only the latest is made up for: it
may leave out one for whose whole period no pool came to the end of a turn. The pools tell of each turn of theirs.
"""

import textwrap
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from fang_core import Every, Runnable, TaskConfig
from fang_core.backends.scheduling import tick_id
from fang_threaded import Queue
from tests.forking import Forked
from tests.patience import PATIENT

TURNS = """
    from fang_core.backends.ticking import Timetable
    from fang_core.pool.ticker import Ticker
    due, turn = Timetable.due, Ticker._turn
    def noted(self, mono):
        self.judged_at = self._backend_time(mono)
        return due(self, mono)
    async def told(self):
        seconds = await turn(self)
        timetable = self._timetable
        if "Beat" in timetable._last and "Beat" not in timetable._held_until:
            print("turned", timetable.judged_at.isoformat(), flush=True)
        return seconds
    Timetable.due, Ticker._turn = noted, told
"""
THREADED = """
    from fang_threaded import Queue, RetentionMode, Runnable, TaskConfig, WorkerPool
    from fang_core.schedules.schedule import Cron
    class Beat(Runnable):
        task_config = TaskConfig(task_type="beats", cron=Cron("*/2 * * * * *"))
        def run(self, queue): ...
    class Stored(Runnable):
        task_config = TaskConfig(kind="Stored", task_type="beats")
        name: str
        def run(self, queue): ...
    with WorkerPool(Queue({url!r}), task_type="beats", retention_mode=RetentionMode.KEEP_ALL):
        print("started", flush=True)
        input()
"""
ASYNC = """
    import asyncio
    from fang_async import AsyncQueue, AsyncRunnable, AsyncWorkerPool, RetentionMode, TaskConfig
    from fang_core.schedules.schedule import Cron
    class Beat(AsyncRunnable):
        task_config = TaskConfig(task_type="beats", cron=Cron("*/2 * * * * *"))
        async def run(self, queue): ...
    async def main():
        async with AsyncWorkerPool(AsyncQueue({url!r}), task_type="beats", retention_mode=RetentionMode.KEEP_ALL):
            print("started", flush=True)
            await asyncio.to_thread(input)
    asyncio.run(main())
"""
PERIOD = timedelta(seconds=2)


class Stored(Runnable):
    task_config = TaskConfig(kind="Stored", task_type="beats")
    name: str

    def run(self, queue: Any) -> None: ...


SCHEDULES: dict[str, dict[str, Any]] = {
    "interval": {"every": Every(PERIOD, datetime(2026, 1, 1, tzinfo=UTC))},
    "pattern": {"cron": "*/2 * * * * *"},
    "jitter": {"cron": "*/2 * * * * *", "jitter": timedelta(seconds=1)},
    "one": {"cron": "*/2 * * * * *", "overlap": "skip"},
}
KILL_EVERY = 0.7
KILLS = 6
"""At least; as many more as it takes until schedules have ticked often enough on a slow machine."""


class Process:
    """A pool.

    Attributes:
        turns: the times by the database's clock at which it looked what was due, of its turns that came to their end.
    """

    def __init__(self, program: str, url: str) -> None:
        code = textwrap.dedent(TURNS) + textwrap.dedent(program.format(url=url))
        self._popen = Forked("-c", code)
        self.turns: list[datetime] = []

    def wait_until_started(self) -> None:
        while (line := self._popen.stdout.readline()) != "started\n":
            assert line, self._popen.stderr.read()
            self._hear(line)

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait(PATIENT)
        for line in self._popen.stdout:
            self._hear(line)
        self._popen.close()

    def _hear(self, line: str) -> None:
        if line.endswith("\n"):  # it may be killed in the middle of one
            self.turns.append(datetime.fromisoformat(line.split()[1]))


def made(url: str, name: str) -> int:
    with psycopg.connect(url) as connection:
        count = "SELECT count(*) FROM fang.fang_tasks WHERE coalesce(metadata ->> 'name', 'Beat') = %s"
        return int(connection.execute(count, [name]).fetchall()[0][0])


def test_each_tick_makes_one_task_though_pools_of_either_mode_are_killed(url: str) -> None:
    with Queue(url) as queue:
        for name, options in SCHEDULES.items():
            queue.schedules.put(name, Stored(name=name), missed="all", **options)
    programs = [THREADED, ASYNC]
    lives = [Process(program, url) for program in programs]
    turns: list[datetime] = []
    try:
        for process in lives:
            process.wait_until_started()
        victim = kills = 0
        while kills < KILLS or not all(made(url, name) >= (1 if name == "one" else 3) for name in ("Beat", *SCHEDULES)):
            kills += 1
            killed_at = time.monotonic()
            lives[victim].kill()
            turns += lives[victim].turns
            lives[victim] = Process(programs[victim], url)
            lives[victim].wait_until_started()  # the other one lives meanwhile
            victim = 1 - victim
            time.sleep(max(0.0, killed_at + KILL_EVERY - time.monotonic()))
    finally:
        for process in lives:
            process.kill()
            turns += process.turns
    with psycopg.connect(url) as connection:
        # Of one snapshot: the server may still be at work on the last statement of a process that was killed.
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        rows = connection.execute("SELECT coalesce(metadata ->> 'name', 'Beat'), id FROM fang.fang_tasks").fetchall()
        last_ticks = dict(connection.execute("SELECT name, last_tick FROM fang.fang_schedules").fetchall())
    assert last_ticks.keys() == {"Beat", *SCHEDULES}
    assert turns
    for name, last in last_ticks.items():
        tasks = {task_id for of, task_id in rows if of == name}
        made_back = [last - n * PERIOD for n in range(600)]
        ticks = [at for at in made_back if tick_id(name, at) in tasks]
        assert len(ticks) == len(tasks), f"a task of {name} is of no tick"
        missed = [at for at in made_back if at >= ticks[-1] and at not in ticks]
        if name == "Beat":
            missed = [at for at in missed if any(at <= turn < at + PERIOD for turn in turns)]
        assert name == "one" or not missed, f"ticks of {name} were missed: {missed}"
