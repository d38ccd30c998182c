"""What the store does of its own accord: it looks before it locks, and makes no commit wait for the disk in vain."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from fang_core.backends.claims import Claim, ClaimRequest
from fang_core.backends.pools import PoolRecord, PruneRequest
from fang_core.backends.scheduling import stored_tick
from fang_core.backends.ticking import tick_of
from fang_core.conformance.tasks import ThreadedNote
from fang_core.driving import drive
from fang_core.lifecycle import Outcome
from fang_core.record import TaskState
from fang_core.schedules.stored import Verdict
from fang_sqlite import SqliteQueue
from fang_sqlite.connections import access
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.store import SqliteStore
from fang_sqlite.tasks import claiming, pruning

KIND = ThreadedNote.__fang_options__.kind


@pytest.fixture
def queue(sqlite_path: Path) -> Iterator[SqliteQueue]:
    with SqliteQueue(sqlite_path) as queue:
        yield queue


@pytest.fixture
def store(queue: SqliteQueue) -> Iterator[SqliteStore]:
    store = queue.store()
    yield store
    drive(store.close())


def registered(store: SqliteStore) -> UUID:
    pool = PoolRecord(uuid4(), "threaded", "host", 1, ("common",), (KIND,), 1)
    drive(store.register(pool))
    return pool.id


def claim(store: SqliteStore, pool_id: UUID, limit: int = 10) -> Claim:
    return drive(store.claim(ClaimRequest(pool_id, ("common",), (KIND,), limit)))


def test_a_claim_that_finds_nothing_waits_for_no_writer(queue: SqliteQueue, store: SqliteStore) -> None:
    pool_id = registered(store)
    queue.insert_task(ThreadedNote(), delay=timedelta(hours=1))
    queue.insert_task(ThreadedNote(), task_type="other")
    with closing(sqlite3.connect(queue.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert claim(store, pool_id).tasks == []
        assert drive(store.next_due(("common",), (KIND,))) == pytest.approx(3600, abs=600)


def test_a_pool_that_is_not_registered_waits_for_no_writer_either(queue: SqliteQueue, store: SqliteStore) -> None:
    queue.insert_task(ThreadedNote())
    with closing(sqlite3.connect(queue.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert not claim(store, uuid4()).registered


def test_a_claim_takes_what_another_one_has_left(queue: SqliteQueue, store: SqliteStore) -> None:
    """Even if that one has taken, in between, the task that it has found."""
    first, second = registered(store), registered(store)
    tasks = queue.insert_tasks([ThreadedNote(n=n) for n in range(3)])
    request = ClaimRequest(first, ("common",), (KIND,), 10)
    _, starts = access.read(queue._file, claiming.look, request)
    assert [task.id for task in claim(store, second, 1).tasks] == [tasks[0].id]
    found = access.written(queue._file, claiming.claim, request, starts)
    assert [task.id for task in found.tasks] == [task.id for task in tasks[1:]]


def test_tasks_come_in_order_whatever_the_engine_returns_first(queue: SqliteQueue, store: SqliteStore) -> None:
    pool_id = registered(store)
    wanted = queue.insert_tasks([ThreadedNote(n=n) for n in range(50)])
    assert [task.id for task in claim(store, pool_id, 100).tasks] == [task.id for task in wanted]


def test_only_what_has_to_last_waits_for_the_disk(sqlite_path: Path) -> None:
    with SqliteQueue(sqlite_path, synchronous="full") as queue:
        for durable, synchronous in ((True, 2), (False, 1), (True, 2)):
            with queue._file.writing(durable=durable) as tx:
                assert tx.row("PRAGMA synchronous") == (synchronous,)
    with SqliteQueue(sqlite_path, synchronous="normal") as queue, queue._file.writing() as tx:
        assert tx.row("PRAGMA synchronous") == (1,)


def test_upkeep_gives_back_what_is_free_but_for_a_rest(queue: SqliteQueue, store: SqliteStore) -> None:
    def pages() -> int:
        with queue._file.reading() as tx:
            return int(tx.row("PRAGMA page_count")[0])

    queue.insert_tasks([ThreadedNote(text="x" * 30_000) for _ in range(500)])
    grown = pages()
    nothing_old = PruneRequest(("common",), None, None, 100)
    drive(store.prune(nothing_old))
    assert pages() == grown  # what is in use stays
    queue.remove_all_tasks()
    drive(store.prune(nothing_old))
    assert 1_000 < pages() < 1_100 < grown


def test_upkeep_lets_others_write_between_the_pages_that_it_gives_back(
    queue: SqliteQueue, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.insert_tasks([ThreadedNote(text="x" * 30_000) for _ in range(500)])
    queue.remove_all_tasks()
    steps = []
    with closing(sqlite3.connect(queue.path, isolation_level=None)) as other:

        def give_back(tx: Transaction) -> None:
            steps.append(tx.now)
            if len(steps) > 1:
                assert other.execute("PRAGMA user_version").fetchone() == (len(steps) - 1,)

        def has_much_free(tx: Transaction) -> bool:
            other.execute(f"PRAGMA user_version = {len(steps)}")  # it would be refused while the store writes
            return len(steps) < 3

        monkeypatch.setattr(pruning, "give_back", give_back)
        monkeypatch.setattr(pruning, "has_much_free", has_much_free)
        drive(store.prune(PruneRequest(("common",), None, None, 100)))
    assert len(steps) == 3


def test_a_tick_that_another_pool_has_made_waits_for_no_writer(queue: SqliteQueue, store: SqliteStore) -> None:
    at = datetime.now(UTC) - timedelta(minutes=1)
    of_class = tick_of(ThreadedNote(), at, queue.rules)
    queue.schedules.put("often", ThreadedNote(), every=timedelta(seconds=30))
    info = queue.schedules.list()[0]
    stored = stored_tick(info, info.last_tick)  # it counts as made: the schedule began then
    assert drive(store.tick(of_class)) is True
    with closing(sqlite3.connect(queue.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert drive(store.tick(of_class)) is False
        assert drive(store.tick_stored(stored)) is Verdict.DONE


def test_of_many_removals_those_are_told_that_were_held(queue: SqliteQueue, store: SqliteStore) -> None:
    pool_id = registered(store)
    queue.insert_tasks([ThreadedNote(n=n) for n in range(20)])
    tasks = claim(store, pool_id, 20).tasks
    queue.remove_task(tasks[3].id)
    queue.update_task_state(queue.find_task_by_id(tasks[5].id), TaskState.NEW)  # type: ignore[arg-type]
    outcomes = [Outcome(task.id, task.attempt, None) for task in tasks]
    written = drive(store.complete(pool_id, outcomes))
    assert written == {task.id for number, task in enumerate(tasks) if number not in (3, 5)}
    assert [task.id for task in queue.tasks_of_kinds([KIND])] == [tasks[5].id]
