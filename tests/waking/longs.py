"""Processes that share tasks of a millisecond, of which one in a hundred takes seconds: how long do claimed ones wait?

``python -m tests.waking.longs MODE [TASKS [SECONDS [WORKERS]]]`` makes a trial of its own and prints what was seen.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import psycopg

from fang_async import AsyncQueue, AsyncRunnable, AsyncWorkerPool
from fang_core import ClaimedTask, Events, Runnable, SleepParams, TaskConfig
from fang_core.tasks.registry import Mode
from fang_embedded import EmbeddedPostgres
from fang_postgres import migrate
from fang_threaded import Queue, WorkerPool
from tests.forking import Forked

PROCESSES: Final = 4

# Each claim and each give-back, by the same clock as the starts of runs: all are on one machine.
LEDGER: Final = """
    DROP TABLE IF EXISTS ledger;
    DROP FUNCTION IF EXISTS note CASCADE;
    CREATE TABLE ledger (id uuid, attempt bigint, pool_id uuid, claimed_at timestamptz, back_at timestamptz);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.state = 'in_progress' THEN
            INSERT INTO ledger VALUES (NEW.id, NEW.attempt, NEW.pool_id, NEW.claimed_at);
        ELSIF OLD.state = 'in_progress' THEN
            INSERT INTO ledger VALUES (NEW.id, OLD.attempt, OLD.pool_id, OLD.claimed_at, clock_timestamp());
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER note AFTER UPDATE ON fang.fang_tasks FOR EACH ROW EXECUTE FUNCTION note();
"""


class ThreadedNap(Runnable):
    task_config = TaskConfig(kind="tests.ThreadedNap")
    seconds: float

    def run(self, queue: Any) -> None:
        time.sleep(self.seconds)


class AsyncNap(AsyncRunnable):
    task_config = TaskConfig(kind="tests.AsyncNap")
    seconds: float

    async def run(self, queue: Any) -> None:
        await asyncio.sleep(self.seconds)


class Starts(Events):
    """When each run started."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, float]] = []

    def run_started(self, task: ClaimedTask) -> None:
        self.seen.append((str(task.id), task.attempt, time.time()))


def waits(mode: Mode, url: str, directory: Path, *, tasks: int, long: float, workers: int) -> list[float]:
    """How long each claimed task waited in a pool, until it was started or given back, in seconds; in order."""
    with psycopg.connect(url) as connection:
        connection.execute(LEDGER.encode())
    nap = ThreadedNap if mode == "threaded" else AsyncNap
    with Queue(url) as queue:
        queue.insert_tasks([nap(seconds=0.001 if n % 100 else long) for n in range(tasks)])
    files = [directory / f"{number}.json" for number in range(PROCESSES)]
    command = ["-m", "tests.waking.longs", "--process", mode, url, str(workers)]
    processes = [Forked(*command, str(file)) for file in files]
    for process in processes:
        _, errors = process.communicate(120)
        assert process.returncode == 0, errors
    started = {(id_, attempt): at for file in files for id_, attempt, at in json.loads(file.read_text())}
    assert len({id_ for id_, _ in started}) == len(started) == tasks  # each one ran once
    return sorted(_waits(url, started))


def _waits(url: str, started: dict[tuple[str, int], float]) -> Iterator[float]:
    of_each = """SELECT id::text, attempt, extract(epoch FROM min(claimed_at))::float,
        extract(epoch FROM min(back_at))::float FROM ledger GROUP BY id, attempt"""
    with psycopg.connect(url) as connection:
        for id_, attempt, claimed_at, back_at in connection.execute(of_each):
            yield (back_at or started[id_, attempt]) - claimed_at


def process(mode: Mode, url: str, workers: int, file: Path) -> None:
    """Works until no due task is left."""
    starts = Starts()
    poll = timedelta(seconds=5)
    options: dict[str, Any] = {
        "number_of_workers": workers,
        "sleep_params": SleepParams(min_sleep_period=poll, max_sleep_period=poll),
        "events": [starts],
    }
    if mode == "threaded":
        WorkerPool(Queue(url), **options).drain()
    else:
        asyncio.run(AsyncWorkerPool(AsyncQueue(url), **options).drain())
    file.write_text(json.dumps(starts.seen))


def main(mode: Mode, tasks: int = 20_000, long: float = 3, workers: int = 10) -> None:
    with EmbeddedPostgres() as server, tempfile.TemporaryDirectory() as directory:
        migrate.upgrade(server.url)
        began = time.monotonic()
        seen = waits(mode, server.url, Path(directory), tasks=tasks, long=long, workers=workers)
        took = time.monotonic() - began
    at = {share: f"{seen[int(share * (len(seen) - 1))] * 1000:.0f}" for share in (0.5, 0.99, 0.999, 1)}
    late = sum(wait > 0.2 for wait in seen)
    print(f"{mode}: {tasks} tasks in {took:.1f} s, {len(seen)} claimed; waits in ms {at}; {late} above 200 ms")


if __name__ == "__main__":
    if sys.argv[1] == "--process":
        process(sys.argv[2], sys.argv[3], int(sys.argv[4]), Path(sys.argv[5]))  # type: ignore[arg-type]
    else:
        main(sys.argv[1], *(int(number) for number in sys.argv[2:]))  # type: ignore[arg-type]
