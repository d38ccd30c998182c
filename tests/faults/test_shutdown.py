"""run() and signals, with real processes: graceful at the first, at once at the second, 75 where runs were left."""

import signal
import subprocess
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from fang_threaded import Queue, Runnable
from tests.forking import Forked
from tests.patience import PATIENT
from tests.proxy import Mode, Proxy
from tests.stalls import Stalls


class Slow(Runnable):
    """The workers' program below knows the same kind, in either mode."""

    seconds: float = 0

    def run(self, queue: Any) -> None: ...


THREADED = """
    import time
    from datetime import timedelta
    from fang_threaded import Queue, Runnable, WorkerPool, SleepParams
    class Slow(Runnable):
        seconds: float = 0
        def run(self, queue):
            print("run", flush=True)
            time.sleep(self.seconds)
            print("ran", flush=True)
    pool = WorkerPool(Queue({url!r}), grace_period=timedelta(seconds={grace}))
    pool.run()
    print("clean", flush=True)
"""
ASYNC = """
    import asyncio
    from datetime import timedelta
    from fang_async import AsyncQueue, AsyncRunnable, AsyncWorkerPool
    class Slow(AsyncRunnable):
        seconds: float = 0
        async def run(self, queue):
            print("run", flush=True)
            await asyncio.sleep(self.seconds)
            print("ran", flush=True)
    async def main():
        await AsyncWorkerPool(AsyncQueue({url!r}), grace_period=timedelta(seconds={grace})).run()
    asyncio.run(main())
    print("clean", flush=True)
"""


class Process:
    def __init__(self, program: str) -> None:
        code = textwrap.dedent(program)
        self.popen = Forked("-c", code)

    def line(self) -> str:
        return self.popen.stdout.readline().strip()

    def end(self) -> tuple[int, str]:
        out, err = self.popen.communicate(timeout=PATIENT)
        assert "Traceback" not in err, err
        return self.popen.returncode, out


@pytest.fixture(params=[THREADED, ASYNC], ids=["threaded", "async"])
def start(request: pytest.FixtureRequest, url: str) -> Iterator[Any]:
    started: list[Process] = []

    def start(grace: float = 20, through: str = url) -> Process:
        started.append(Process(request.param.format(url=through, grace=grace)))
        return started[-1]

    yield start
    for process in started:
        process.popen.close()


def rows(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        tasks = connection.execute("SELECT state::text, retries FROM fang.fang_tasks ORDER BY 1").fetchall()
        pools = connection.execute("SELECT count(*) FROM fang.fang_pools").fetchall()
    return [*tasks, *pools]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_graceful(start: Any, url: str, number: signal.Signals) -> None:
    with Queue(url) as queue:
        queue.insert_tasks([Slow(seconds=0.5), Slow(seconds=0.5)])
    process = start()
    assert process.line() == "run"
    process.popen.send_signal(number)
    assert process.end() == (0, "ran\nclean\n")
    assert rows(url) == [("new", 0), (0,)]  # the second one was given back, uncharged


def test_the_second_signal_ends_it_now(start: Any, url: str) -> None:
    with Queue(url) as queue:
        queue.insert_task(Slow(seconds=30))
    process = start()
    assert process.line() == "run"
    for _ in range(100):  # two signals at once may be delivered as one: repeat until it ends
        process.popen.send_signal(signal.SIGTERM)
        try:
            process.popen.wait(0.1)
            break
        except subprocess.TimeoutExpired:
            pass
    assert process.end() == (-signal.SIGTERM, "")


def test_it_ends_in_time_though_the_database_does_not_answer(start: Any, url: str) -> None:
    """Its heart waits for an answer for longer."""
    with Queue(url) as queue:
        queue.insert_task(Slow(seconds=30))
    with Proxy(url) as proxy:
        process = start(grace=1, through=proxy.url)
        assert process.line() == "run"
        proxy.set(Mode.BLACKHOLE)
        process.popen.send_signal(signal.SIGTERM)
        signalled = time.monotonic()
        with Stalls() as stalls:
            assert process.end() == (75, "")
        assert time.monotonic() - signalled < 3.5 + stalls.seconds  # 1 s of grace and 2 s; half of one to start and end


def test_what_has_ended_and_could_not_be_written_leaves_75(start: Any, url: str) -> None:
    """The database refuses connections from before the signal on."""
    with Queue(url) as queue:
        queue.insert_task(Slow(seconds=1))
    with Proxy(url) as proxy:
        process = start(grace=3, through=proxy.url)  # within which it is tried
        assert process.line() == "run"
        proxy.set(Mode.RESET)
        process.popen.send_signal(signal.SIGTERM)
        assert process.end() == (75, "ran\n")
    assert rows(url) == [("in_progress", 0), (1,)]


def test_an_idle_pool_that_could_not_sign_off_leaves_75(start: Any, url: str) -> None:
    """A claim may have been committed whose reply it did not get."""
    with Queue(url) as queue:
        queue.insert_task(Slow())
    with Proxy(url) as proxy:
        process = start(through=proxy.url)
        assert [process.line(), process.line()] == ["run", "ran"]
        while rows(url) != [(1,)]:  # it is written
            time.sleep(0.01)
        proxy.set(Mode.RESET)
        process.popen.send_signal(signal.SIGTERM)
        assert process.end() == (75, "")


def test_a_thread_that_does_not_end_in_time_leaves_75(url: str) -> None:
    with Queue(url) as queue:
        queue.insert_task(Slow(seconds=30))
    process = Process(THREADED.format(url=url, grace=0.2))
    assert process.line() == "run"
    process.popen.send_signal(signal.SIGTERM)
    assert process.end() == (75, "")
    assert rows(url) == [("in_progress", 0), (1,)]


def test_a_coroutine_that_does_not_end_in_time_is_cancelled_and_given_back(url: str) -> None:
    with Queue(url) as queue:
        queue.insert_task(Slow(seconds=30))
    process = Process(ASYNC.format(url=url, grace=0.2))
    assert process.line() == "run"
    process.popen.send_signal(signal.SIGTERM)
    assert process.end() == (0, "clean\n")
    assert rows(url) == [("new", 0), (0,)]


def test_a_pool_outlives_a_restart_of_its_database(start: Any, url: str) -> None:
    process = start()
    with Queue(url) as queue:
        queue.insert_task(Slow())
        assert process.line() == "run"
        assert process.line() == "ran"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        with psycopg.connect(url, autocommit=True) as connection:
            Queue(url).insert_task(Slow(), connection=connection)
        assert process.line() == "run"
        assert process.line() == "ran"
    process.popen.send_signal(signal.SIGTERM)
    assert process.end() == (0, "clean\n")
    assert rows(url) == [(0,)]
