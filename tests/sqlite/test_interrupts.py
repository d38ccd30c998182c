"""A run that is interrupted while it calls the queue leaves neither the file locked nor a transaction open."""

import time
from datetime import timedelta
from pathlib import Path

from fang_sqlite import SqliteQueue
from fang_threaded import Queueable, Runnable, TaskConfig, WorkerPool


class Chatter(Runnable):
    """Does nothing but call the queue, so that it is nearly always met in there."""

    task_config = TaskConfig(timeout=timedelta(milliseconds=50), max_retries=0)
    n: int

    def run(self, queue: Queueable) -> None:
        over = time.monotonic() + 60
        while time.monotonic() < over:
            task = queue.insert_task(Quiet(), delay=timedelta(hours=1))
            queue.remove_task(task.id)


class Quiet(Runnable):
    def run(self, queue: Queueable) -> None: ...


def test_runs_that_are_interrupted_in_the_queue_leave_it_as_it_was(sqlite_path: Path) -> None:
    with SqliteQueue(sqlite_path, synchronous="normal") as queue:
        queue.insert_tasks([Chatter(n=n) for n in range(60)])
        assert WorkerPool(queue, number_of_workers=3).drain() == 60
        kinds = queue.count_by_kind()
        assert kinds["Chatter"] == 60
        assert kinds.get("Quiet", 0) <= 60  # each run may have been struck between its two calls
        with queue._file.writing(1.0) as tx:
            assert tx.row("SELECT count(*) FROM fang_pools") == (0,)
