"""Queues on a file: how they are opened, what they do on each other's, and what they leave when they close."""

import asyncio
import gc
import os
import pickle
import re
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from fang_core.backends.verbs import Verbs
from fang_core.conformance.tasks import AsyncNote, ThreadedNote
from fang_core.driving import drive
from fang_core.errors import NotCopyable, SchemaError, UsageError
from fang_core.record import TaskState
from fang_sqlite import AsyncSqliteQueue, SqliteQueue
from fang_sqlite.schema import VERSION
from fang_sqlite.verbs import VERBS
from fang_threaded import WorkerPool

Make = Callable[[Any], SqliteQueue | AsyncSqliteQueue]

# Where it is ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [SqliteQueue, AsyncSqliteQueue])
@pytest.mark.parametrize("given", [":memory:", "sqlite://", "sqlite:///:memory:", "sqlite:///", ""])
def test_a_database_in_memory_is_refused(make: Make, given: str) -> None:
    with pytest.raises(UsageError, match="use MemoryQueue") as raised:
        make(given)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("given", ["sqlite:tasks.db", "sqlite:/tasks.db", "sqlite://host/tasks.db", "sqlite:///a?b=c"])
def test_a_url_that_names_no_file_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="the URL of a file"):
        SqliteQueue(given)


@pytest.mark.parametrize(
    "given", ["file:tasks.db?mode=rwc", "postgresql://me:secret@h/app", "Redis+Socket:///run/r.sock"]
)
def test_the_url_of_another_database_is_refused_without_its_password(given: str) -> None:
    scheme = re.escape(given.partition(":")[0])
    with pytest.raises(UsageError, match=f"not a URL that begins with {scheme}:[/]*$"):
        SqliteQueue(given)


@pytest.mark.parametrize("given", [None, 3, b"tasks.db", "tasks\0.db"])
def test_what_is_no_path_is_refused(given: Any) -> None:
    with pytest.raises(UsageError):
        SqliteQueue(given)


def test_a_link_leads_to_the_file_and_to_the_locks_beside_it(tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    for name, target in (("links/first.db", "../tasks.db"), ("second.db", "links/first.db")):
        (tmp_path / name).symlink_to(target)
    with SqliteQueue(tmp_path / "second.db") as queue:
        queue.insert_task(ThreadedNote(text="through a link"))
        assert queue.path == tmp_path / "tasks.db"
    assert sorted(path.name for path in tmp_path.glob("**/*-fang")) == ["tasks.db-fang"]


def test_a_path_and_a_url_are_taken_relative_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for given in (
        "tasks.db",
        " sqlite:///tasks.db\r\n",
        Path("tasks.db"),
        tmp_path / "tasks.db",
        "sqlite:///tasks.db",
        f"sqlite:///{tmp_path}/tasks.db",
        "sqlite+pysqlite:///tasks.db",
        "SQLite+aiosqlite:///tasks.db",
    ):
        assert SqliteQueue(given).path == tmp_path / "tasks.db"


def test_a_path_stays_when_the_working_directory_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    queue = SqliteQueue("tasks.db")
    monkeypatch.chdir("/")
    with queue:
        assert (tmp_path / "tasks.db").exists()


def test_a_synchronous_that_is_none_is_refused(sqlite_path: Path) -> None:
    with pytest.raises(UsageError, match="synchronous is 'full' or 'normal'"):
        SqliteQueue(sqlite_path, synchronous="off")  # type: ignore[arg-type]


# Opening and closing --------------------------------------------------------------------------------------------------


def test_a_call_opens_the_queue_and_it_can_be_opened_again(sqlite_path: Path) -> None:
    queue = SqliteQueue(sqlite_path)
    assert not queue.is_open
    task = queue.insert_task(ThreadedNote())
    assert queue.is_open
    queue.close()
    queue.close()
    assert not queue.is_open
    assert queue.find_task_by_id(task.id) == task
    queue.close()


def test_a_queue_that_is_closed_is_open_until_its_last_pool_has_ended(sqlite_path: Path) -> None:
    queue = SqliteQueue(sqlite_path)
    with queue:
        first, last = queue.store(), queue.store()
    drive(first.close())
    drive(first.close())
    assert queue.is_open
    assert drive(last.next_due(("common",), ("Note",))) is None
    drive(last.close())
    assert not queue.is_open


def test_a_queue_closes_no_file_descriptor_but_its_own_and_all_of_these(sqlite_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    gc.collect()  # what earlier tests have left would be closed in between
    before = descriptors()
    for _ in range(3):
        with SqliteQueue(sqlite_path) as queue:
            queue.insert_task(ThreadedNote())
            WorkerPool(queue).drain()
            assert queue.fetch_and_touch_task() is None
    assert descriptors() == before


def test_the_modes_run_each_others_inserts(sqlite_path: Path) -> None:
    async def insert() -> None:
        async with AsyncSqliteQueue(sqlite_path) as queue:
            await queue.insert_task(ThreadedNote())

    asyncio.run(insert())
    with SqliteQueue(sqlite_path) as queue:
        assert WorkerPool(queue).drain() == 1


def test_one_async_queue_serves_one_loop_after_the_other(sqlite_path: Path) -> None:
    queue = AsyncSqliteQueue(sqlite_path)
    for _ in range(3):
        asyncio.run(queue.insert_task(AsyncNote()))  # type: ignore[arg-type]
    assert asyncio.run(queue.count_tasks()).count == 3  # type: ignore[arg-type]
    asyncio.run(queue.close())


def test_the_threads_of_an_async_queue_end_with_it_or_with_its_last_pool(sqlite_path: Path) -> None:
    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("fang-sqlite")]

    async def use() -> None:
        queue = AsyncSqliteQueue(sqlite_path)
        async with queue:
            await queue.insert_task(AsyncNote())
            store = await queue.store()
            assert await queue.count_by_kind()
        assert await store.next_due(("common",), ()) is None
        assert threads()
        await store.close()

    asyncio.run(use())
    for thread in threads():
        thread.join(60)
        assert not thread.is_alive()


def test_a_queue_cannot_be_copied_and_has_a_recipe(sqlite_path: Path) -> None:
    queue = SqliteQueue(sqlite_path, duplicated_tasks=False)
    with pytest.raises(NotCopyable):
        pickle.dumps(queue)
    with pickle.loads(pickle.dumps(queue.recipe))() as same:
        assert (same.path, same.rules) == (queue.path, queue.rules)


# The tables -----------------------------------------------------------------------------------------------------------


def test_tables_of_a_later_version_are_refused(sqlite_path: Path) -> None:
    with SqliteQueue(sqlite_path):
        pass
    with closing(sqlite3.connect(sqlite_path)) as connection, connection:
        connection.execute("UPDATE fang_version SET version = ?", (VERSION + 1,))
    with pytest.raises(SchemaError, match="install a later one"):
        SqliteQueue(sqlite_path).open()


def test_the_tables_stand_beside_those_of_an_application(sqlite_path: Path) -> None:
    with closing(sqlite3.connect(sqlite_path)) as connection, connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        connection.execute("PRAGMA user_version = 7")
    with SqliteQueue(sqlite_path) as queue:
        queue.insert_task(ThreadedNote())
    with closing(sqlite3.connect(sqlite_path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (7,)
        (names,) = zip(*connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'"), strict=True)
    assert {name for name in names if not name.startswith(("fang_", "sqlite_"))} == {"orders"}


def test_a_file_that_is_new_can_give_pages_back(sqlite_path: Path) -> None:
    with SqliteQueue(sqlite_path), closing(sqlite3.connect(sqlite_path)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_every_verb_has_its_function() -> None:
    def public(of: object) -> set[str]:
        return {name for name in vars(of) if not name.startswith("_")}

    assert public(Verbs) == public(VERBS)
    for room in ("schedules", "audit"):
        protocol = Verbs.__dict__[room].fget.__annotations__["return"]
        assert all(callable(getattr(getattr(VERBS, room), name)) for name in public(protocol))


# Fetching by hand -----------------------------------------------------------------------------------------------------


def test_what_is_fetched_by_hand_is_given_back_with_the_record_and_its_files(sqlite_path: Path) -> None:
    with SqliteQueue(sqlite_path) as queue:
        queue.insert_task(ThreadedNote())
        held = queue.fetch_and_touch_task()
        assert held is not None
        assert [pool.mode for pool in queue.pools()] == ["manual"]
        assert [name for name in os.listdir(f"{sqlite_path}-fang") if name.endswith(".pulse")]
    with SqliteQueue(sqlite_path) as queue:
        (task,) = queue.tasks_of_kinds([held.kind])
        assert (task.state, task.pool_id, queue.pools()) == (TaskState.NEW, None, [])
    assert not [name for name in os.listdir(f"{sqlite_path}-fang") if name.endswith(".pulse")]


def test_a_queue_that_others_took_for_dead_fetches_again(sqlite_path: Path) -> None:
    with SqliteQueue(sqlite_path) as queue:
        queue.insert_tasks([ThreadedNote(n=n) for n in range(2)])
        assert queue.fetch_and_touch_task() is not None
        with closing(sqlite3.connect(sqlite_path)) as connection, connection:
            connection.execute("DELETE FROM fang_pools")
        assert queue.fetch_and_touch_task() is not None
        assert len(queue.pools()) == 1


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_an_open_transaction_in_a_file_without_tables_is_told_to_open_the_queue_first(
    sqlite_path: Path, journal: str
) -> None:
    queue = SqliteQueue(sqlite_path)
    with closing(sqlite3.connect(sqlite_path)) as own:
        own.execute(f"PRAGMA journal_mode = {journal}").fetchone()
        own.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        own.execute("INSERT INTO orders DEFAULT VALUES")
        with pytest.raises(UsageError, match=r"call the queue's open\(\) before it begins"):
            queue.insert_task(ThreadedNote(), connection=own)
        own.rollback()
        queue.insert_task(ThreadedNote(), connection=own)  # nothing is open: the tables are made
        own.commit()
        queue.close()
        own.execute("INSERT INTO orders DEFAULT VALUES")
        queue.insert_task(ThreadedNote(), connection=own)  # they are there, so that nobody is in the way
        own.commit()
    assert queue.count_by_kind() == {"conformance.ThreadedNote": 2}
    queue.close()


def test_an_open_transaction_in_asyncio_is_told_so_too(sqlite_path: Path) -> None:
    async def main() -> None:
        async with aiosqlite.connect(sqlite_path) as own:
            await own.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
            await own.execute("INSERT INTO orders DEFAULT VALUES")
            queue = AsyncSqliteQueue(sqlite_path)
            with pytest.raises(UsageError, match=r"call the queue's open\(\) before it begins"):
                await queue.insert_task(AsyncNote(), connection=own)
            await own.rollback()
            await queue.insert_task(AsyncNote(), connection=own)
            await own.commit()
            await queue.close()

    asyncio.run(main())
