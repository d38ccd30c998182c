"""A run that forks: what is the parent's stays the parent's. Real processes, in both modes."""

import os
import signal
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from fang_core.tasks.registry import Mode
from tests.forking import Forked
from tests.modes import Database, eventually
from tests.patience import PATIENT
from tests.processes import ends

TASKS = """
    import asyncio, os, signal, sys, time
    from fang_async import AsyncQueue, AsyncRunnable, AsyncWorkerPool
    from fang_threaded import Queue, Runnable, TaskConfig, WorkerPool

    def say(line):
        os.write(1, (str(line) + "\\n").encode())

    class FromChild(Runnable):
        task_config = TaskConfig(task_type="elsewhere")
        def run(self, queue): ...

    class Lives(Runnable):  # the child does, and uses the queue
        def run(self, queue):
            child = os.fork()
            if not child:
                pool.stop()
                queue.insert_task(FromChild())
                say(os.getpid())
                time.sleep(60)
                os._exit(0)
            time.sleep(60)

    class AsyncLives(AsyncRunnable):
        async def run(self, queue):
            child = os.fork()
            if not child:
                async def use():
                    await pool.stop()
                    await queue.insert_task(FromChild())
                asyncio.run(use())
                say(os.getpid())
                time.sleep(60)
                os._exit(0)
            await asyncio.sleep(60)

    class Returns(Runnable):  # the child does, as if it were the worker
        def run(self, queue):
            child = os.fork()
            if not child:
                sys.exit(5)
            say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    class AsyncReturns(AsyncRunnable):
        async def run(self, queue):
            child = os.fork()
            if not child:
                sys.exit(5)
            say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
MAIN = {
    "threaded": """
    pool = WorkerPool(Queue({url!r}))
    pool.run()
""",
    "async": """
    pool = AsyncWorkerPool(AsyncQueue({url!r}))
    asyncio.run(pool.run())
""",
}


class Parent:
    """Runs a pool for these tasks."""

    def __init__(self, mode: Mode, url: str) -> None:
        self.prefix = "Async" if mode == "async" else ""
        program = textwrap.dedent(TASKS) + textwrap.dedent(MAIN[mode]).format(url=url)
        self.popen = Forked("-c", program, start_new_session=True)

    def line(self) -> str:
        return self.popen.stdout.readline().strip()

    def child(self) -> int:
        """The one that lives, and has used the queue."""
        return int(self.line())

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.communicate()


@pytest.fixture(params=["threaded", "async"])
def parent(request: pytest.FixtureRequest, url: str) -> Iterator[Parent]:
    parent = Parent(request.param, url)
    yield parent
    parent.close()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


Insert = Callable[[str], None]


@pytest.fixture
def insert(parent: Parent, database: Database) -> Insert:
    def insert(kind: str) -> None:
        database.execute(
            "INSERT INTO fang.fang_tasks (metadata) VALUES (jsonb_build_object('type', %s::text))", parent.prefix + kind
        )

    return insert


HEARTS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory'"


def test_a_child_that_outlives_its_parent_keeps_no_connection_of_it(
    parent: Parent, insert: Insert, database: Database
) -> None:
    """Else the lock of the pool would be held for as long as the child lives."""
    insert("Lives")
    child = parent.child()
    assert len(database.rows(HEARTS)) == 1
    parent.popen.kill()
    assert ends(parent.popen.pid)
    eventually(lambda: not database.rows(HEARTS))
    assert not ends(child, 0)


def test_a_child_has_connections_of_its_own_and_leaves_the_parents_alone(
    parent: Parent, insert: Insert, database: Database
) -> None:
    insert("Lives")
    child = parent.child()
    beating = database.rows(HEARTS)
    assert database.rows("SELECT kind FROM fang.fang_tasks WHERE task_type = 'elsewhere'") == [("FromChild",)]
    os.kill(child, signal.SIGTERM)  # whose default action it is to end it
    assert ends(child)
    beats = database.rows("SELECT beats FROM fang.fang_pools")[0][0]
    eventually(lambda: database.rows("SELECT beats FROM fang.fang_pools")[0][0] > beats + 1)
    assert database.rows(HEARTS) == beating
    assert database.rows("SELECT state::text FROM fang.fang_tasks WHERE task_type = 'common'") == [("in_progress",)]


def test_a_child_that_comes_back_from_its_run_ends_and_works_for_nobody(parent: Parent, insert: Insert) -> None:
    for _ in range(3):
        insert("Returns")
        assert parent.line() == "5"
    parent.popen.send_signal(signal.SIGTERM)
    assert parent.popen.wait(PATIENT) == 0
