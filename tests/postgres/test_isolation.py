"""The fence and the claim against a concurrent change of the same row, held until the statement waits for it."""

import threading
import uuid
from typing import Any

import psycopg
import pytest

from fang_core import Runnable
from fang_core.backends.claims import ClaimRequest
from fang_core.backends.pools import PoolRecord
from fang_core.lifecycle import Outcome
from fang_core.record import TaskState
from fang_postgres.pool.store import PostgresStore
from fang_threaded import Queue
from tests.driven import Driven
from tests.patience import PATIENT
from tests.postgres.blocking import wait_for_rows, while_changed

POOL, OTHER = uuid.uuid4(), uuid.uuid4()


class Held(Runnable):
    n: int = 0

    def run(self, queue: Any) -> None: ...


def register(store: PostgresStore, pool_id: uuid.UUID) -> None:
    store.register(PoolRecord(pool_id, "threaded", "host", 1, ("common",), ("Held",), 1))


def claim(store: PostgresStore, pool_id: uuid.UUID = POOL, limit: int = 10_000) -> list[Any]:
    return store.claim(ClaimRequest(pool_id, ("common",), ("Held",), limit)).tasks


@pytest.fixture
def store(url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    wait_for_rows(monkeypatch)
    with Queue(url) as queue:
        # Thousands of rows: a table of three is read by a sequential scan, which hides faults.
        queue.insert_tasks([Held(n=n) for n in range(3_000)])
        store = Driven(queue.store())
        register(store, POOL)
        register(store, OTHER)
        yield store
        store.close()


OUTCOMES = {
    "remove": lambda task: Outcome(task.id, task.attempt, None),
    "finish": lambda task: Outcome(task.id, task.attempt, TaskState.FINISHED),
    "settle": lambda task: Outcome(task.id, task.attempt, TaskState.FAILED, error_message="x", error_entry="{}"),
}
CHANGES = {
    "rescued": "UPDATE fang.fang_tasks SET state = 'retried', pool_id = NULL, claimed_at = NULL WHERE id = %(id)s",
    "claimed anew by the same pool": "UPDATE fang.fang_tasks SET attempt = attempt + 1 WHERE id = %(id)s",
    "claimed by another": "UPDATE fang.fang_tasks SET attempt = attempt + 1, pool_id = %(other)s WHERE id = %(id)s",
    "edited by hand": "UPDATE fang.fang_tasks SET state = 'cancelled' WHERE id = %(id)s",
    "removed": "DELETE FROM fang.fang_tasks WHERE id = %(id)s",
}


@pytest.mark.parametrize("write", OUTCOMES)
@pytest.mark.parametrize("change", CHANGES)
def test_a_stale_outcome_changes_no_row(url: str, store: PostgresStore, write: str, change: str) -> None:
    tasks = claim(store)
    stale = tasks[1_500]
    outcomes = [OUTCOMES[write](task) for task in tasks[1_000:2_000]]
    params = {"id": stale.id, "other": OTHER}
    written = while_changed(url, CHANGES[change], params, lambda: store.complete(POOL, outcomes))
    assert written == {outcome.id for outcome in outcomes} - {stale.id}
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT state::text FROM fang.fang_tasks WHERE id = %s", [stale.id]).fetchone()
    assert (row[0] if row else None) == {
        "rescued": "retried",
        "edited by hand": "cancelled",
        "removed": None,
    }.get(change, "in_progress")


@pytest.mark.parametrize("write", OUTCOMES)
def test_a_harmless_touch_costs_nothing(url: str, store: PostgresStore, write: str) -> None:
    tasks = claim(store)
    outcomes = [OUTCOMES[write](task) for task in tasks[:1_000]]
    touch = "UPDATE fang.fang_tasks SET updated_at = now() WHERE id = %(id)s"
    written = while_changed(url, touch, {"id": tasks[500].id}, lambda: store.complete(POOL, outcomes))
    assert len(written) == 1_000


def test_outcomes_of_another_pool_or_attempt_change_nothing(store: PostgresStore) -> None:
    tasks = claim(store, limit=100)
    right = [Outcome(task.id, task.attempt, None) for task in tasks]
    assert store.complete(OTHER, right) == set()
    assert store.complete(POOL, [outcome._replace(attempt=7) for outcome in right]) == set()
    assert len(store.complete(POOL, right)) == 100
    assert store.complete(POOL, right) == set()


def test_a_claim_passes_locked_rows_and_sees_what_was_released(url: str, store: PostgresStore) -> None:
    with psycopg.connect(url) as locker:
        locker.execute("SELECT id FROM fang.fang_tasks ORDER BY scheduled_at, id LIMIT 1000 FOR UPDATE")
        assert len(claim(store)) == 2_000
        locker.rollback()
    assert len(claim(store)) == 1_000


def test_an_unregistered_pool_claims_nothing(store: PostgresStore) -> None:
    stranger = store.claim(ClaimRequest(uuid.uuid4(), ("common",), ("Held",), 10))
    assert (stranger.tasks, stranger.registered) == ([], False)


@pytest.mark.parametrize(
    ("claimers", "tasks"), [(16, 1_500), pytest.param(64, 5_000, marks=pytest.mark.long)], ids="{}".format
)
def test_many_claimers_race_for_tasks_and_each_runs_once(url: str, claimers: int, tasks: int) -> None:
    with Queue(url, max_pool_size=claimers) as queue:
        ids = [task.id for task in queue.insert_tasks([Held(n=n) for n in range(tasks)])]
        store = Driven(queue.store())
        register(store, POOL)
        taken: list[list[Any]] = [[] for _ in range(claimers)]
        gate = threading.Barrier(claimers)

        def race(mine: list[Any]) -> None:
            # A store of its own over the larger pool, so that claims really meet.
            own: Any = Driven(PostgresStore(queue._operations, store._writes, store._writes, store._connections))
            gate.wait()
            while claimed := claim(own, limit=7):
                mine.extend(task.id for task in claimed)

        threads = [threading.Thread(target=race, args=(mine,)) for mine in taken]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENT)
        store.close()
        assert sorted(task_id for mine in taken for task_id in mine) == sorted(ids)
