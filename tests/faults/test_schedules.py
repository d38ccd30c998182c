"""Schedules whose processes are killed: one task for each tick, and none is missed while one pool lives."""

import textwrap
import time
from datetime import timedelta

import psycopg

from tests.forking import Forked

THREADED = """
    from fang_threaded import Queue, RetentionMode, Runnable, TaskConfig, WorkerPool
    from fang_core.schedule import Cron
    class Beat(Runnable):
        task_config = TaskConfig(task_type="beats", cron=Cron("*/2 * * * * *"))
        def run(self, queue): ...
    with WorkerPool(Queue({url!r}), task_type="beats", retention_mode=RetentionMode.KEEP_ALL):
        print("started", flush=True)
        input()
"""
ASYNC = """
    import asyncio
    from fang_async import AsyncQueue, AsyncRunnable, AsyncWorkerPool, RetentionMode, TaskConfig
    from fang_core.schedule import Cron
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
KILL_EVERY = 0.7


class Process:
    def __init__(self, program: str, url: str) -> None:
        code = textwrap.dedent(program.format(url=url))
        self._popen = Forked("-c", code)

    def wait_until_started(self) -> None:
        assert self._popen.stdout.readline() == "started\n"

    def kill(self) -> None:
        self._popen.close()


def test_each_tick_makes_one_task_though_pools_of_either_mode_are_killed(url: str) -> None:
    programs = [THREADED, ASYNC]
    lives = [Process(program, url) for program in programs]
    try:
        for process in lives:
            process.wait_until_started()
        end = time.monotonic() + 6
        victim = 0
        while time.monotonic() < end:
            killed_at = time.monotonic()
            lives[victim].kill()
            lives[victim] = Process(programs[victim], url)
            lives[victim].wait_until_started()  # the other one lives meanwhile
            victim = 1 - victim
            time.sleep(max(0.0, killed_at + KILL_EVERY - time.monotonic()))
    finally:
        for process in lives:
            process.kill()
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT scheduled_at FROM fang.fang_tasks ORDER BY 1").fetchall()
        (last,) = connection.execute("SELECT last_tick FROM fang.fang_schedules").fetchone() or (None,)
    ticks = [at for (at,) in rows]
    assert len(ticks) >= 3
    assert ticks == [ticks[0] + n * PERIOD for n in range(len(ticks))]
    assert last == ticks[-1]
