"""What a pool's claimer knows of itself: that it is registered, and whether it has said that it waits."""

import logging
import threading
from datetime import timedelta
from typing import Any

import psycopg
import pytest

import fang_core.claims.policy
import fang_core.claims.prefetch
from fang_core import BackendUnavailable, Events, Runnable
from fang_core.backends.memory.state import MemoryState
from fang_threaded import Queue
from tests.modes import GATES, RAN, Database, Harness, IdlePools, eventually, ran
from tests.patience import PATIENT

SOON = timedelta(milliseconds=100)


class Loses:
    """The reply of the first call, after it has done its work."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *_: Any) -> None:
        self.calls += 1
        if self.calls == 1:
            raise BackendUnavailable("the reply was lost")


def test_an_announcement_whose_reply_was_lost_is_repeated(
    harness: Harness, url: str, database: Database, idle_pools: IdlePools, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = harness.queue(url)
    pool = harness.pool(queue)
    idle_pools.wait()
    harness.wrap(monkeypatch, pool._lifetime.store, "set_waiting", after=Loses())
    harness.call(queue.insert_task, harness.note(n=1))  # that it does not wait any more: done, but not known to be
    assert ran() == [1]
    idle_pools.wait()
    assert database.waiting == [True]
    harness.call(queue.insert_task, harness.note(n=2))
    assert ran() == [2]


def test_a_pool_goes_on_waiting_beside_a_lone_task_and_not_beside_many(
    harness: Harness, url: str, database: Database, idle_pools: IdlePools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fang_core.claims.prefetch, "PATIENCE", 30.0)  # none goes back on a busy machine
    queue = harness.queue(url)
    pool = harness.pool(queue, number_of_workers=2)
    idle_pools.wait()
    said: list[bool] = []
    harness.wrap(monkeypatch, pool._lifetime.store, "set_waiting", before=lambda _, waiting: said.append(waiting))
    for n in range(3):
        harness.call(queue.insert_task, harness.note(n=n))
        assert ran() == [n]
        idle_pools.wait()
        eventually(lambda: not pool._lifetime.in_flight)  # else the next one would not be alone
    assert said == []

    harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(500)])
    assert ran(500) == list(range(500))
    eventually(lambda: said and said[-1] is True)
    assert said[::2] == [False] * (len(said) // 2) != []
    assert said[1::2] == [True] * (len(said) // 2)


def test_a_pool_without_a_free_worker_does_not_wait(
    harness: Harness, url: str, database: Database, idle_pools: IdlePools
) -> None:
    queue = harness.queue(url)
    harness.pool(queue, number_of_workers=1)
    idle_pools.wait()
    GATES["gate"] = threading.Event()
    harness.call(queue.insert_task, harness.note(waits=True))
    eventually(lambda: database.waiting == [False])
    GATES["gate"].set()
    eventually(lambda: database.waiting == [True])


def test_a_worker_that_becomes_free_while_the_pool_says_that_it_is_busy_is_not_forgotten(
    harness: Harness, idle_pools: IdlePools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fang_core.claims.policy, "LONGEST_WAIT", 30.0)
    ended = threading.Event()

    class Tells(Events):
        def run_ended(self, *_: Any) -> None:
            ended.set()

    queue = harness.memory_queue(MemoryState())
    pool = harness.pool(queue, events=[Tells()])
    idle_pools.wait()

    def end_the_run(_: Any, waiting: bool) -> None:
        if not waiting:
            GATES["gate"].set()
            assert ended.wait(PATIENT)

    harness.wrap(monkeypatch, pool._lifetime.store, "set_waiting", before=end_the_run)
    harness.call(queue.insert_tasks, [harness.note(n=1, waits=True), harness.note(n=2)])
    assert ran(2) == [1, 2]


def test_what_cannot_be_said_does_not_keep_a_pool_from_working(
    harness: Harness, idle_pools: IdlePools, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    queue = harness.memory_queue(MemoryState())
    pool = harness.pool(queue)
    idle_pools.wait()

    def refuse(_: Any, waiting: bool) -> None:
        if not waiting:
            raise BackendUnavailable("not now")

    harness.wrap(monkeypatch, pool._lifetime.store, "set_waiting", before=refuse)
    harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(20)])
    assert ran(20) == list(range(20))
    assert "not now" not in caplog.text


def test_a_kind_that_is_imported_late_wakes_an_idle_pool(harness: Harness, url: str, idle_pools: IdlePools) -> None:
    queue = harness.queue(url)
    harness.pool(queue)
    idle_pools.wait()
    late = _late(harness, "Late")
    harness.call(queue.insert_task, late(n=1))
    assert ran() == [1]


def test_what_was_inserted_before_the_pool_was_known_to_know_its_kind_is_found_by_looking_again(
    harness: Harness, url: str, database: Database, idle_pools: IdlePools
) -> None:
    queue = harness.queue(url)
    harness.pool(queue, number_of_workers=2)
    idle_pools.wait()
    late = _late(harness, "Later")
    # Another pool knows the kind, so nobody is told who does not.
    database.execute(
        "INSERT INTO fang.fang_pools (id, mode, host, pid, task_types, kinds, workers, beats)"
        " SELECT gen_random_uuid(), mode, 'h', 1, task_types, ARRAY[%s], 1, 0 FROM fang.fang_pools",
        late.__name__,
    )
    with psycopg.connect(url) as producer:
        Queue(url).insert_task(late(n=2), connection=producer)
        harness.call(queue.insert_task, harness.note(n=1))  # wakes the pool, which learns the kind
        assert ran() == [1]
        producer.execute("SELECT pg_sleep(0.5)")
        assert RAN.empty()
        producer.commit()
        assert ran(within=3) == [2]


def _late(harness: Harness, name: str, **fields: str) -> Any:
    """A class of a new kind, which a pool that runs does not know yet."""
    known = type(harness.note())
    name = f"{name}{harness.mode}"
    return type(
        name,
        (known.__mro__[1],),
        {
            "__module__": __name__,
            "run": known.run,
            "__qualname__": name,
            "__annotations__": {"n": int, "waits": bool, **fields},
            "waits": False,
        },
    )


def test_a_class_that_names_a_type_that_is_not_there_yet_holds_up_no_other_and_is_taken_up_later(
    harness: Harness, url: str, idle_pools: IdlePools, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    queue = harness.queue(url)
    harness.pool(queue)
    idle_pools.wait()
    early = _late(harness, "Early", address=f"Address{harness.mode} | None")
    try:
        late = _late(harness, "Latest")
        harness.call(queue.insert_task, late(n=1))
        assert ran() == [1]
        assert caplog.text.count("it is left out until it can be") == 1
    finally:
        monkeypatch.setitem(globals(), f"Address{harness.mode}", int)
        early.model_rebuild()  # for the other tests' pools as well
    harness.call(queue.insert_task, early(n=2, address=None))
    assert ran() == [2]
    assert "could not claim" not in caplog.text


def test_a_pool_whose_row_is_gone_registers_and_announces_again(
    harness: Harness, url: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    queue = harness.queue(url)
    harness.pool(queue, poll=SOON)
    eventually(lambda: database.waiting == [True])
    with caplog.at_level(logging.WARNING):
        database.execute("DELETE FROM fang.fang_pools")
        eventually(lambda: database.waiting == [True])
    assert "was taken for dead" in caplog.text
    harness.call(queue.insert_task, harness.note(n=1))
    assert ran() == [1]


def test_a_drain_is_not_over_because_the_pools_row_is_gone(
    harness: Harness, url: str, database: Database, idle_pools: IdlePools
) -> None:
    queue = harness.queue(url)
    pool = harness.pool(queue)
    idle_pools.wait()
    database.execute("DELETE FROM fang.fang_pools")
    harness.call(queue.insert_task, harness.note(n=1))
    assert harness.call(pool.drain) == 1


def test_kinds_that_were_learned_while_the_backend_was_away_are_registered_later(
    harness: Harness, idle_pools: IdlePools, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = MemoryState()
    queue = harness.memory_queue(state)
    pool = harness.pool(queue)
    idle_pools.wait()
    unavailable = Loses()
    harness.wrap(monkeypatch, pool._lifetime.store, "update_kinds", before=unavailable)

    learned = _late(harness, "Learned")
    harness.call(queue.insert_task, harness.note(n=1))
    assert ran() == [1]
    eventually(lambda: [pool for pool in state.pools.values() if learned.__name__ in pool.record.kinds])
    assert unavailable.calls == 2


def test_a_class_of_the_other_mode_is_not_the_pools(harness: Harness) -> None:
    state = MemoryState()
    harness.pool(harness.memory_queue(state))
    (pool,) = state.pools.values()
    assert ("tests.ThreadedNote" in pool.record.kinds) is issubclass(harness.note, Runnable)
