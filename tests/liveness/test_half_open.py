"""Connections that something between drops without a word, most of them while the server is about to answer."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest

from fang_core import RetentionMode
from fang_core.errors import BackendUnavailable, NotConnected, OutcomeUnknown
from fang_core.events import Events
from fang_core.lifecycle import Outcome
from fang_core.pool.claimer import Claimer
from fang_postgres.connections.connecting import ANSWER_WITHIN, SETTINGS
from fang_postgres.operations import Operations
from fang_postgres.scripts import AHEAD
from fang_threaded import Queue
from tests.modes import GATES, RAN, Database, Harness, IdlePools, eventually, ran
from tests.patience import PATIENT
from tests.proxy import Mode, Proxy
from tests.silence import hurry

CLAIM: Final = "WITH due AS"
COMPLETION: Final = "UPDATE fang.fang_tasks AS t SET state='finished'"
INSERT: Final = "WITH moment AS"


class Told(Events):
    """What the pool's events tell."""

    def __init__(self) -> None:
        self.failed: SimpleQueue[BaseException] = SimpleQueue()
        self.lost: SimpleQueue[Outcome] = SimpleQueue()

    def backend_failed(self, pool_id: UUID, error: BaseException) -> None:
        self.failed.put(error)

    def task_lost(self, pool_id: UUID, outcome: Outcome) -> None:
        self.lost.put(outcome)


@pytest.fixture(autouse=True)
def time_passes(monkeypatch: pytest.MonkeyPatch, proxy: Proxy) -> threading.Event:
    monkeypatch.setitem(SETTINGS, "lock_timeout", "10min")  # what waits for the tasks is still there when it is cut off
    return hurry(monkeypatch, proxy)


@contextmanager
def locked(database: Database) -> Iterator[None]:
    """What comes to the tasks meanwhile waits on the server, which does it afterwards."""
    with database.connection.transaction():
        database.execute("LOCK TABLE fang.fang_tasks IN ACCESS EXCLUSIVE MODE")
        yield


def cut_off(proxy: Proxy, database: Database, statement: str) -> None:
    """Lets a connection fall silent once its statement is on the server and waits for the tasks."""
    found = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    def waits() -> bool:
        database.execute("SELECT pg_stat_clear_snapshot()")  # which stands still in a transaction
        return bool(database.rows(f"{found} AND starts_with(ltrim(query), %s)", statement))

    eventually(waits)
    assert proxy.set_where(Mode.BLACKHOLE, statement.encode()) == 1


def states(database: Database) -> list[Any]:
    return database.rows("SELECT state::text, attempt, crashes, retries FROM fang.fang_tasks ORDER BY id")


def given_up(told: Told) -> bool:
    """Whether the first failure that was told is of a connection that had no answer."""
    error = told.failed.get(timeout=PATIENT)
    return type(error) is BackendUnavailable and f"no answer to a statement for {ANSWER_WITHIN:.0f} s" in str(error)


# Pools ----------------------------------------------------------------------------------------------------------------


def test_a_claim_without_an_answer_is_made_again_and_what_it_took_runs_uncharged(
    harness: Harness,
    proxy: Proxy,
    url: str,
    database: Database,
    idle_pools: IdlePools,
    time_passes: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def as_it_is(claimer: Claimer, seconds: float, task_types: Any) -> float:
        return seconds

    # A pool that has looked by itself meanwhile would wait for the tasks in the question that follows, without a claim.
    monkeypatch.setattr(Claimer, "_until_due", as_it_is)
    told = Told()
    harness.pool(harness.queue(proxy.url), retention_mode=RetentionMode.KEEP_ALL, events=[told])
    idle_pools.wait()
    time_passes.clear()
    with psycopg.connect(url, autocommit=True) as other, locked(database):
        Queue(url).insert_task(harness.note(n=1), connection=database.connection)
        other.execute("SELECT pg_notify('fang_fang', 'common')")
        cut_off(proxy, database, CLAIM)
    # A server ends a statement earlier than a pool gives it up, so that the pool's next claim is never the faster one.
    eventually(lambda: states(database) == [("in_progress", 1, 0, 0)])
    time_passes.set()
    assert given_up(told)
    assert ran() == [1]
    eventually(lambda: states(database) == [("finished", 2, 0, 0)])
    assert RAN.empty()


def test_a_completion_without_an_answer_is_written_again(
    harness: Harness, proxy: Proxy, url: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    queue = harness.queue(proxy.url)
    harness.pool(queue, number_of_workers=2, retention_mode=RetentionMode.KEEP_ALL, events=[told])
    harness.call(queue.insert_task, harness.note(n=1, waits=True))
    assert ran() == [1]
    with locked(database):
        GATES["gate"].set()
        cut_off(proxy, database, COMPLETION)
    assert given_up(told)
    harness.call(queue.insert_task, harness.note(n=2))
    assert ran() == [2]
    eventually(lambda: states(database) == [("finished", 1, 0, 0)] * 2)
    assert told.lost.empty()
    assert RAN.empty()
    assert "1 outcomes wait to be written: the database does not answer: no answer to a statement" in caplog.text


# Queues ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "uniq"), [(1, False), (2, False), (2, True), (2_500, False)])
def test_an_insert_without_an_answer_is_of_unknown_outcome_unless_a_commit_was_still_to_come(
    harness: Harness, proxy: Proxy, database: Database, count: int, uniq: bool
) -> None:
    in_transaction = uniq or count > AHEAD
    queue = harness.queue(proxy.url)
    with locked(database):
        if count == 1:
            inserting = harness.begin(queue.insert_task, harness.note())
        else:
            inserting = harness.begin(queue.insert_tasks, [harness.note(n=n) for n in range(count)], uniq=uniq)
        cut_off(proxy, database, INSERT)
        error = NotConnected if in_transaction else OutcomeUnknown
        with pytest.raises(error, match=f"no answer to a statement for {ANSWER_WITHIN:.0f} s") as failure:
            inserting.result(PATIENT)
        if isinstance(failure.value, OutcomeUnknown):
            assert len(failure.value.ids) == count
    harness.call(queue.insert_task, harness.note())


@pytest.mark.parametrize("answers", [0, 1, 2])
def test_each_part_of_a_transaction_is_given_up(harness: Harness, proxy: Proxy, answers: int) -> None:
    """BEGIN, a statement, COMMIT."""
    queue = harness.queue(proxy.url)
    writes = harness.call(queue._connections.writes)

    def operations(cut_after: int) -> list[Any]:
        return [replace(Operations("fang").clock(), decode=cut(n == cut_after)) for n in range(1, 3)]

    def cut(cuts: bool) -> Callable[[Any], None]:
        return lambda _: cuts and proxy.set_where(Mode.BLACKHOLE, b"")

    harness.call(writes.run_all, operations(0))
    if answers == 0:
        assert proxy.set_where(Mode.BLACKHOLE, b"") == 1
    with pytest.raises(BackendUnavailable, match=f"no answer to a statement for {ANSWER_WITHIN:.0f} s") as unavailable:
        harness.call(writes.run_all, operations(answers))
    assert isinstance(unavailable.value, NotConnected) is (answers < 2)  # before its COMMIT nothing can stand
    harness.call(writes.run_all, operations(0))


def test_one_that_is_given_up_takes_the_idle_ones_along(harness: Harness, proxy: Proxy) -> None:
    queue = harness.queue(proxy.url)
    connection_pool = harness.call(queue._connections.writes).connection_pool

    async def give_back(connection: Any) -> None:
        connection_pool.give_back(connection)

    for connection in [harness.call(connection_pool.take) for _ in range(3)]:
        harness.call(connection_pool.give_back if harness.mode == "threaded" else give_back, connection)
    assert proxy.set_where(Mode.BLACKHOLE, b"") == 3
    with pytest.raises(OutcomeUnknown):
        harness.call(queue.insert_task, harness.note())
    harness.call(queue.insert_task, harness.note())
