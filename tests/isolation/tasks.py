"""Tasks that run in child processes. A child imports this module, and no test.

They have a task type of their own, so that the pools of other tests do not have to be able to isolate them.
"""

import asyncio
import ctypes
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from fang_core import AsyncRunnable, Cancel, Lease, RetryAfter, Runnable, Snooze, TaskConfig, current_run

MEBIBYTE: Final = 1024 * 1024


class Unpicklable(Exception):
    def __init__(self, one: int, *, two: int) -> None:
        super().__init__(f"{one} and {two}")
        self.lock = sys.stdout

    def __reduce__(self) -> Any:
        raise TypeError("this cannot be pickled")


def write(path: str, **facts: Any) -> None:
    """Tells the test: the file is there as a whole or not at all."""
    made = Path(f"{path}.{os.getpid()}")
    made.write_text(json.dumps({"pid": os.getpid(), **facts}))
    made.rename(path)


def block_with_the_gil() -> None:
    """Never returns, and never lets another thread of the process run, as C code may do."""
    ctypes.PyDLL(None).pause()  # a PyDLL keeps the lock; a signal whose handler returns ends one pause
    block_with_the_gil()


def tell(path: str) -> None:
    run = current_run()
    write(
        path,
        task=str(run.task.id),
        attempt=run.task.attempt,
        lease=run.lease,
        interrupt=run.interrupt,
        headers=dict(run.headers),
        state=run.state,
        group=os.getpgrp(),
    )


def tell_of_environment(path: str) -> None:
    write(path, pool=os.environ.get("FANG_TEST_POOL"))


def tell_of_mask(path: str) -> None:
    mask = os.umask(0o22)
    os.umask(mask)
    write(path, mask=mask)


def nothing(_: str) -> None: ...


def tell_of_sockets(path: str) -> None:
    write(path, sockets=sockets())


def sockets() -> list[int]:
    """The inodes of all sockets of this process."""
    found = []
    for number in range(1_000):
        with suppress(OSError):
            status = os.fstat(number)
            if stat.S_ISSOCK(status.st_mode):
                found.append(status.st_ino)
    return found


def fail(_: str) -> None:
    raise ValueError("it is the value")


def fail_unpicklably(_: str) -> None:
    raise Unpicklable(1, two=2)


def snooze(_: str) -> None:
    raise Snooze(timedelta(hours=1))


def retry_later(_: str) -> None:
    raise RetryAfter(timedelta(hours=2), "not yet")


def cancel(_: str) -> None:
    raise Cancel("not wanted")


def leave(_: str) -> None:
    sys.exit(3)


def end_with_0(_: str) -> None:
    os._exit(0)


def end_with_3(_: str) -> None:
    os._exit(3)


def violate(_: str) -> None:
    ctypes.string_at(0)


def kill_itself(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_its_parent(path: str) -> None:
    write(path, parent=os.getppid())
    os.kill(os.getppid(), signal.SIGKILL)
    wait_for_go(f"{path}.2")


def take_memory(path: str) -> None:
    write(path)
    bytearray(400 * MEBIBYTE)


def hang(path: str) -> None:
    """Until it is killed, whatever else it is asked."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    write(path)
    while True:
        time.sleep(0.01)


def hang_in_c(path: str) -> None:
    write(path)
    block_with_the_gil()


def hang_with_a_program(path: str) -> None:
    program = subprocess.Popen(["sleep", "600"])
    write(path, program=program.pid)
    program.wait()


def wait_for_go(path: str) -> None:
    write(path)
    while not Path(f"{path}.go").exists():
        time.sleep(0.01)
    write(f"{path}.done")


def fail_elsewhere(path: str) -> None:
    """Does what only the pool's own process can do."""
    if os.environ.get("FANG_TEST_POOL") != str(os.getpid()):
        raise LookupError("this process is not set up")
    write(path)


def report(path: str) -> None:
    """Reports its progress, and again when it may go on."""
    current_run().progress(1, 3, "caf\N{LATIN SMALL LETTER E WITH ACUTE}\0" + 300 * "x")
    wait_for_go(path)
    current_run().progress(2.5)
    wait_for_go(f"{path}.2")


def report_on_and_on(path: str) -> None:
    """Reports something else each time, which belongs together, as fast as it can."""
    write(path)
    done = 0
    while not Path(f"{path}.go").exists():
        for _ in range(1_000):
            done += 1
            current_run().progress(done, done, 200 * str(done % 10))


def wait_for_doubt(path: str) -> None:
    write(path)
    while current_run().lease is not Lease.DOUBTFUL:
        time.sleep(0.01)


ACTS: Final[dict[str, Callable[[str], None]]] = {
    act.__name__: act
    for act in (
        *(tell, tell_of_environment, tell_of_mask, tell_of_sockets, nothing, report, report_on_and_on, wait_for_doubt),
        *(fail_elsewhere, fail, fail_unpicklably, snooze, retry_later, cancel, leave),
        *(end_with_0, end_with_3, violate, kill_itself, kill_its_parent, take_memory),
        *(hang, hang_in_c, hang_with_a_program, wait_for_go),
    )
}


class ThreadedAct(Runnable):
    task_config = TaskConfig(kind="isolation.ThreadedAct", task_type="isolation", isolation="process")
    act: str
    path: str = ""

    def run(self, queue: Any) -> None:
        ACTS[self.act](self.path)


class AsyncAct(AsyncRunnable):
    task_config = TaskConfig(kind="isolation.AsyncAct", task_type="isolation", isolation="process")
    act: str
    path: str = ""

    async def run(self, queue: Any) -> None:
        await asyncio.sleep(0)
        ACTS[self.act](self.path)


class ThreadedLimited(ThreadedAct):
    task_config = TaskConfig(kind="isolation.ThreadedLimited", memory_limit=300 * MEBIBYTE)


class AsyncLimited(AsyncAct):
    task_config = TaskConfig(kind="isolation.AsyncLimited", memory_limit=300 * MEBIBYTE)


class ThreadedInsert(Runnable):
    """Inserts another task by the queue that it is given, and says whether that is a socket's business of its own."""

    task_config = TaskConfig(kind="isolation.ThreadedInsert", task_type="isolation", isolation="process")
    path: str

    def run(self, queue: Any) -> None:
        write(self.path, was_open=queue.is_open)
        queue.insert_task(ThreadedAct(act="tell", path=f"{self.path}.2"), task_type="other")


class AsyncInsert(AsyncRunnable):
    task_config = TaskConfig(kind="isolation.AsyncInsert", task_type="isolation", isolation="process")
    path: str

    async def run(self, queue: Any) -> None:
        write(self.path, was_open=queue.is_open)
        await queue.insert_task(AsyncAct(act="tell", path=f"{self.path}.2"), task_type="other")


class ThreadedComplete(Runnable):
    """Completes its task in a transaction, and then dies or fails."""

    task_config = TaskConfig(kind="isolation.ThreadedComplete", task_type="isolation", isolation="process")
    url: str
    act: str

    def run(self, queue: Any) -> None:
        import psycopg  # here: most children need none

        with psycopg.connect(self.url) as connection:
            queue.complete(connection=connection)
        ACTS[self.act]("")


class AsyncComplete(AsyncRunnable):
    task_config = TaskConfig(kind="isolation.AsyncComplete", task_type="isolation", isolation="process")
    url: str
    act: str

    async def run(self, queue: Any) -> None:
        import asyncpg

        connection = await asyncpg.connect(self.url)
        async with connection.transaction():
            await queue.complete(connection=connection)
        await connection.close()
        ACTS[self.act]("")


class AsyncLoop(AsyncRunnable):
    task_config = TaskConfig(kind="isolation.AsyncLoop", task_type="isolation", isolation="process")
    path: str

    async def run(self, queue: Any) -> None:
        write(self.path, loop=id(asyncio.get_running_loop()))


class ThreadedCommon(Runnable):
    """Does not ask for isolation; a suspect of it can have it."""

    task_config = TaskConfig(kind="isolation.ThreadedCommon", task_type="isolation")
    act: str
    path: str = ""

    def run(self, queue: Any) -> None:
        ACTS[self.act](self.path)


class AsyncCommon(AsyncRunnable):
    task_config = TaskConfig(kind="isolation.AsyncCommon", task_type="isolation")
    act: str
    path: str = ""

    async def run(self, queue: Any) -> None:
        await asyncio.to_thread(ACTS[self.act], self.path)


@contextmanager
def told(run: Any) -> Any:
    """A middleware."""
    with Path(os.environ["FANG_TEST_TOLD"]).open("a") as file:
        file.write(f"{os.getpid()} {run.task.kind}\n")
    yield
