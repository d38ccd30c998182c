"""What is left of a pool or a queue whose work was cancelled, or interrupted by Ctrl-C, or whose heart cannot begin."""

import signal
import threading
from typing import Any
from uuid import UUID

import pytest

from fang_async.runtime import AsyncioRuntime
from fang_core.driving import drive
from fang_core.pool.heartbeat import Heartbeat
from fang_core.pool.lifetime import PoolLifetime
from fang_core.pool.threads import ThreadLock, ThreadRuntime
from fang_postgres.pool.listener import Listener
from fang_postgres.pool.store import PostgresStore
from tests.modes import Database, Harness, eventually


class Interrupted(BaseException):
    """Stands for a cancellation, or for Ctrl-C."""


def hearts() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fang-heartbeat"]


def test_a_start_that_is_interrupted_while_its_heart_starts_leaves_nothing(
    harness: Harness, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime: Any = ThreadRuntime if harness.mode == "threaded" else AsyncioRuntime
    spawn_thread = runtime.spawn_thread

    def interrupted(*args: Any, **options: Any) -> None:
        spawn_thread(*args, **options)
        raise Interrupted

    monkeypatch.setattr(runtime, "spawn_thread", interrupted)
    with pytest.raises(Interrupted):
        harness.pool(harness.queue(url))
    assert database.rows("SELECT id FROM fang.fang_pools") == []
    eventually(lambda: not hearts())


def test_a_start_that_is_interrupted_while_its_listener_starts_leaves_no_listener(
    harness: Harness, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime: Any = ThreadRuntime if harness.mode == "threaded" else AsyncioRuntime
    spawn = runtime.spawn

    def interrupted(self: Any, main: Any, name: str) -> Any:
        service = spawn(self, main, name)
        if name == "fang-listener":
            raise Interrupted
        return service

    monkeypatch.setattr(runtime, "spawn", interrupted)
    queue = harness.queue(url)
    with pytest.raises(Interrupted):
        harness.pool(queue)
    assert not queue.is_open  # and nothing is left to run: see Harness.close


def test_a_start_that_is_interrupted_when_all_has_started_leaves_nothing(
    harness: Harness, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = PoolLifetime.start

    async def interrupted(lifetime: PoolLifetime) -> None:
        await start(lifetime)
        raise Interrupted

    queue = harness.queue(url)
    with monkeypatch.context() as patch:
        patch.setattr(PoolLifetime, "start", interrupted)
        with pytest.raises(Interrupted):
            harness.pool(queue)
    assert database.rows("SELECT id FROM fang.fang_pools") == []
    assert not queue.is_open
    (pool,) = harness._pools
    harness.call(pool.start)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_pool_whose_heart_cannot_begin_does_not_start(
    harness: Harness, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_: object) -> None:
        raise OSError("too many open files")

    queue = harness.queue(url)
    with monkeypatch.context() as patch:
        patch.setattr(Heartbeat, "_main", failing)
        with pytest.raises(RuntimeError, match="ended before its first beat"):
            harness.pool(queue)
    assert database.rows("SELECT id FROM fang.fang_pools") == []
    assert not queue.is_open
    harness.pool(queue)


def test_a_stop_that_is_interrupted_at_its_end_leaves_no_connection_open(
    harness: Harness, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsubscribe = Listener.unsubscribe

    async def interrupted(listener: Listener, subscriber: object) -> None:
        await unsubscribe(listener, subscriber)
        raise Interrupted

    queue = harness.queue(url)
    pool = harness.pool(queue)
    with monkeypatch.context() as patch:
        patch.setattr(Listener, "unsubscribe", interrupted)
        with pytest.raises(Interrupted):
            harness.call(pool.stop)
    assert not queue.is_open
    ours = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    eventually(lambda: not database.rows(f"SELECT pid FROM pg_stat_activity WHERE {ours}"))


def test_a_stop_that_is_interrupted_while_the_pool_deregisters_goes_on_in_the_background(
    harness: Harness, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    unregister = PostgresStore.unregister
    interruptions = iter([Interrupted()])

    async def interrupted(store: PostgresStore, pool_id: UUID) -> None:
        for interruption in interruptions:
            raise interruption
        await unregister(store, pool_id)

    monkeypatch.setattr(PostgresStore, "unregister", interrupted)
    queue = harness.queue(url)
    pool = harness.pool(queue)
    with pytest.raises(Interrupted):
        harness.call(pool.stop)
    eventually(lambda: pool.is_clean)
    assert database.rows("SELECT id FROM fang.fang_pools") == []
    eventually(lambda: not queue.is_open and not hearts())


def test_a_close_that_is_interrupted_ends_the_heart_of_what_was_fetched_by_hand(
    harness: Harness, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*_: object) -> int:
        raise Interrupted

    queue = harness.queue(url)
    harness.call(queue.fetch_and_touch_task)
    assert hearts()
    with monkeypatch.context() as patch:
        patch.setattr(PostgresStore, "reconcile", interrupted)
        with pytest.raises(Interrupted):
            harness.call(queue.close)
    eventually(lambda: not hearts())


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_ctrl_c_leaves_no_lock_of_threads_held() -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    async def work() -> None:
        pass

    def use_until_interrupted(lock: ThreadLock) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0001)
        while True:
            drive(lock.hold(work))

    lock = ThreadLock()
    former = signal.signal(signal.SIGVTALRM, interrupt)
    try:
        for _ in range(30):  # one in four strikes while an ``async with`` takes a lock of threads, or lets it go
            with pytest.raises(Interrupted):
                use_until_interrupted(lock)
            assert not lock._lock.locked()
    finally:
        signal.signal(signal.SIGVTALRM, former)
