"""A queue or a pool that meets several event loops: one after another, or at once in several threads."""

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

from fang_async import AsyncMemoryQueue, AsyncQueue, AsyncRunnable, AsyncWorkerPool, TaskState
from fang_core.errors import StaleTask, UsageError
from tests.modes import Database, eventually
from tests.patience import PATIENT

T = TypeVar("T")

SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'fang'"
RAN: list[int] = []


class OnLoop(AsyncRunnable):
    n: int = 0

    async def run(self, queue: Any) -> None:
        RAN.append(self.n)


class Endless(AsyncRunnable):
    async def run(self, queue: Any) -> None:
        RAN.append(-1)
        await asyncio.Event().wait()


@pytest.fixture
def queue(url: str) -> AsyncQueue:
    RAN.clear()
    return AsyncQueue(url)


def run_and_close_at_once(call: Awaitable[T]) -> T:
    """What a program does that makes a loop and knows of nothing that is to be called at its end."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(call)
    finally:
        loop.close()


def sockets() -> int:
    """Counts those that this process has open."""
    open_files = Path("/proc/self/fd")
    found = 0
    for file in open_files.iterdir():
        with suppress(FileNotFoundError):  # the directory itself, which is closed by now
            found += str(file.readlink()).startswith("socket:")
    return found


@contextmanager
def running_loop() -> Iterator[Callable[[Any], Any]]:
    """A loop that runs in a thread; calls what it is given there."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield lambda call: asyncio.run_coroutine_threadsafe(call, loop).result(PATIENT)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENT)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def rows(database: Database) -> list[int]:
    return [n for (n,) in database.rows("SELECT (metadata ->> 'n')::int FROM fang.fang_tasks ORDER BY 1")]


# One loop after another -----------------------------------------------------------------------------------------------


def test_a_loop_for_each_call_leaves_neither_connections_nor_sockets(queue: AsyncQueue, database: Database) -> None:
    asyncio.run(queue.insert_task(OnLoop(n=0)))
    before = sockets()
    for n in range(1, 20):
        asyncio.run(queue.insert_task(OnLoop(n=n)))
        assert not queue.is_open
    assert rows(database) == list(range(20))
    assert sockets() == before
    eventually(lambda: database.rows(SESSIONS) == [(0,)])


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_loops_that_are_only_closed_leave_one_connection_at_most(queue: AsyncQueue, database: Database) -> None:
    run_and_close_at_once(queue.insert_task(OnLoop(n=0)))
    before = sockets()
    for n in range(1, 20):
        run_and_close_at_once(queue.insert_task(OnLoop(n=n)))
    assert rows(database) == list(range(20))
    assert sockets() == before
    eventually(lambda: database.rows(SESSIONS) == [(1,)])
    asyncio.run(queue.close())  # which finds that the loop has ended
    eventually(lambda: database.rows(SESSIONS) == [(0,)])
    gc.collect()


def test_loops_that_stand_still_are_left_behind(queue: AsyncQueue, database: Database) -> None:
    """As where a test framework has a loop for a session of tests, and one for each of them."""
    loops = [asyncio.new_event_loop() for _ in range(3)]
    for n in range(9):
        loops[n % 3].run_until_complete(queue.insert_task(OnLoop(n=n)))
        eventually(lambda: database.rows(SESSIONS) == [(1,)])
    assert rows(database) == list(range(9))
    for loop in loops:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    eventually(lambda: database.rows(SESSIONS) == [(0,)])


def test_many_inserts_at_once_on_each_loop(queue: AsyncQueue, database: Database) -> None:
    async def many(base: int) -> None:
        await asyncio.gather(*(queue.insert_task(OnLoop(n=base + n)) for n in range(100)))

    for base in (0, 100, 200):
        asyncio.run(many(base))
    assert rows(database) == list(range(300))


def test_a_call_that_the_end_of_its_loop_has_cancelled_does_not_spoil_the_next_loop(
    queue: AsyncQueue, database: Database
) -> None:
    async def leave_some_under_way() -> None:
        for n in range(30):
            asyncio.ensure_future(queue.insert_task(OnLoop(n=n)))  # noqa: RUF006
        await asyncio.sleep(0)

    asyncio.run(leave_some_under_way())
    asyncio.run(queue.insert_task(OnLoop(n=100)))
    assert rows(database)[-1] == 100
    eventually(lambda: database.rows(SESSIONS) == [(0,)])


def test_a_queue_that_was_opened_and_closed_is_opened_again_on_another_loop(
    queue: AsyncQueue, database: Database
) -> None:
    async def open_twice() -> None:
        for n in range(2):
            async with queue:
                await queue.insert_task(OnLoop(n=n))

    asyncio.run(open_twice())
    asyncio.run(queue.open())  # and never closed
    asyncio.run(open_twice())
    asyncio.run(queue.close())
    assert rows(database) == [0, 0, 1, 1]


def test_what_was_fetched_by_hand_is_given_back_when_its_loop_ends(queue: AsyncQueue, database: Database) -> None:
    asyncio.run(queue.insert_task(OnLoop(n=1)))
    held = asyncio.run(queue.fetch_and_touch_task())
    assert held is not None
    row = "SELECT state::text, attempt, crashes, pool_id FROM fang.fang_tasks"
    assert database.rows(row) == [("new", 1, 0, None)]
    with pytest.raises(StaleTask):
        asyncio.run(queue.update_task_state(held, TaskState.FINISHED))

    async def fetch_and_finish() -> None:
        again = await queue.fetch_and_touch_task()
        assert again is not None
        await queue.update_task_state(again, TaskState.FINISHED)

    asyncio.run(fetch_and_finish())
    assert database.rows("SELECT state::text, attempt FROM fang.fang_tasks") == [("finished", 2)]
    assert database.rows("SELECT * FROM fang.fang_pools") == []


@pytest.mark.parametrize("kind", ["postgres", "memory"])
def test_a_pool_lives_on_one_loop_after_another(queue: AsyncQueue, kind: str) -> None:
    backend: Any = queue if kind == "postgres" else AsyncMemoryQueue()
    pool = AsyncWorkerPool(backend, number_of_workers=2)
    for n in range(2):
        asyncio.run(backend.insert_tasks([OnLoop(n=n), OnLoop(n=n)]))
        assert asyncio.run(pool.drain()) == 2

    async def start_and_stop() -> None:
        async with pool:
            await pool.drain()

    asyncio.run(backend.insert_task(OnLoop(n=2)))
    asyncio.run(start_and_stop())
    assert RAN == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("kind", ["postgres", "memory"])
def test_a_pool_that_nobody_stopped_before_its_loop_ended_starts_again(
    queue: AsyncQueue, kind: str, database: Database
) -> None:
    backend: Any = queue if kind == "postgres" else AsyncMemoryQueue()
    pool = AsyncWorkerPool(backend)

    async def start_and_go() -> None:
        await backend.insert_task(Endless())
        await pool.start()
        await asyncio.to_thread(eventually, lambda: RAN)

    asyncio.run(start_and_go())
    asyncio.run(backend.insert_task(OnLoop(n=7)))  # and nobody of the loop that has ended is woken
    assert asyncio.run(pool.drain()) >= 1
    assert RAN[:2] == [-1, 7]
    assert asyncio.run(pool.stop()) == 0
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("fang-")])
    eventually(lambda: database.rows(SESSIONS) == [(0,)])


def test_an_insert_in_memory_does_not_meet_a_pool_whose_loop_was_closed_under_it() -> None:
    queue = AsyncMemoryQueue()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(AsyncWorkerPool(queue).start())
    loop.run_until_complete(asyncio.sleep(0))  # its claimer waits to be woken
    tasks = asyncio.all_tasks(loop)
    loop.close()
    try:
        assert not asyncio.run(queue.insert_task(OnLoop(n=1))).conflict
    finally:
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            task.get_coro().close()


# Several at once ------------------------------------------------------------------------------------------------------


def test_a_queue_in_use_on_a_loop_that_runs_is_refused_to_others_before_anything_is_sent(
    queue: AsyncQueue, database: Database
) -> None:
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: queue.insert_task(OnLoop(n=2)),
        lambda: queue.insert_tasks([OnLoop(n=2)]),
        queue.remove_all_tasks,
        queue.fetch_and_touch_task,
        queue.open,
        queue.close,
        AsyncWorkerPool(queue).start,
    ]
    with running_loop() as elsewhere:
        elsewhere(queue.insert_task(OnLoop(n=1)))
        for call in calls:
            with pytest.raises(
                UsageError, match=r"in use on another event loop.*one AsyncQueue for each loop"
            ) as refused:
                asyncio.run(_awaited(call))
            assert "\n" not in str(refused.value)
        elsewhere(queue.insert_task(OnLoop(n=3)))  # which goes on as before
        assert rows(database) == [1, 3]
        elsewhere(queue.close())
        asyncio.run(queue.insert_task(OnLoop(n=4)))  # since it is closed there
        elsewhere(queue.insert_task(OnLoop(n=5)))
    assert rows(database) == [1, 3, 4, 5]


def test_a_callers_connection_is_used_on_whatever_loop(queue: AsyncQueue, url: str, database: Database) -> None:
    async def insert_on_another() -> None:
        connection = await asyncpg.connect(url)
        await queue.insert_task(OnLoop(n=2), connection=connection)
        await connection.close()

    with running_loop() as elsewhere:
        elsewhere(queue.insert_task(OnLoop(n=1)))
        asyncio.run(insert_on_another())
        elsewhere(queue.insert_task(OnLoop(n=3)))
    assert rows(database) == [1, 2, 3]


def test_a_pool_that_runs_is_refused_to_other_loops(queue: AsyncQueue) -> None:
    pool = AsyncWorkerPool(queue)
    with running_loop() as elsewhere:
        elsewhere(pool.start())
        for call in (pool.start, pool.stop, pool.drain, pool.run):
            with pytest.raises(UsageError, match="runs on another event loop: stop it there"):
                asyncio.run(call())
        with pytest.raises(UsageError, match="in use on another event loop"):
            asyncio.run(queue.insert_task(OnLoop()))
        elsewhere(queue.insert_task(OnLoop(n=1)))
        elsewhere(pool.drain())
        assert elsewhere(pool.stop()) == 0
        asyncio.run(pool.drain())
        elsewhere(pool.drain())
    assert RAN == [1]


def test_threads_that_each_run_a_loop_get_a_row_or_a_usage_error(queue: AsyncQueue, database: Database) -> None:
    ready = threading.Barrier(4)

    def insert(thread: int) -> list[int]:
        written = []
        ready.wait(PATIENT)
        for n in range(thread * 100, thread * 100 + 10):
            try:
                asyncio.run(queue.insert_task(OnLoop(n=n)))
            except UsageError:
                continue
            written.append(n)
        return written

    with ThreadPoolExecutor(4) as threads:
        written = sorted(n for numbers in threads.map(insert, range(4)) for n in numbers)
    assert written
    assert rows(database) == written
    eventually(lambda: database.rows(SESSIONS) == [(0,)])


async def _awaited(call: Callable[[], Awaitable[Any]]) -> Any:
    return await call()
