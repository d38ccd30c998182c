"""Tests calls on a caller's own connection: the caller's commit or rollback decides about them."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiosqlite
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from fang_core.errors import RowsLocked, StatementRefused, TaskLost, UsageError
from fang_sqlite import AsyncSqliteQueue
from fang_sqlite.aio import callers as async_callers
from fang_sqlite.connections.callers import run_for_caller
from fang_sqlite.connections.file import LOCKED_FOR, File
from fang_sqlite.connections.transaction import Transaction
from tests.patience import PATIENT
from tests.sqlite.files import count, insert, insert_in, opened


class _Undone(Exception):
    """Leaves a transaction, so that it is rolled back."""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    made = opened(tmp_path / "tasks.db")
    with made.writing() as tx:
        tx.run("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    yield made
    made.close()


@pytest.fixture
def engine(file: File) -> Iterator[sqlalchemy.Engine]:
    made = sqlalchemy.create_engine(f"sqlite:///{file.path}")
    yield made
    made.dispose()


def insert_with(file: File, connection: Any, **options: bool) -> UUID:
    return run_for_caller(file, connection, insert_in, **{"reads": False, "completes": False, **options})


def count_with(file: File, connection: Any) -> int:
    def verb(tx: Transaction) -> int:
        number: int = tx.row("SELECT count(*) FROM fang_tasks")[0]
        return number

    return run_for_caller(file, connection, verb, reads=True, completes=False)


def lose(tx: Transaction) -> None:
    insert_in(tx)
    raise TaskLost("lost")


def orders(file: File) -> int:
    with file.reading() as tx:
        number: int = tx.row("SELECT count(*) FROM orders")[0]
        return number


# sqlite3 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation_level", ["", "DEFERRED", "IMMEDIATE", "EXCLUSIVE"])
def test_commit_and_rollback_of_a_connection_decide(file: File, isolation_level: Any) -> None:
    with closing(sqlite3.connect(file.path, isolation_level=isolation_level)) as connection:
        insert_with(file, connection)
        assert (count(file), count_with(file, connection)) == (0, 1)
        connection.rollback()
        assert count_with(file, connection) == 0
        insert_with(file, connection)
        connection.execute("INSERT INTO orders VALUES (1)")
        connection.commit()
        assert (count(file), orders(file)) == (1, 1)
        connection.execute("INSERT INTO orders VALUES (2)")
        insert_with(file, connection)
        connection.rollback()
        assert (count(file), orders(file)) == (1, 1)


def test_a_connection_in_autocommit_commits_at_once_unless_it_has_begun_a_transaction(file: File) -> None:
    told: list[Transaction] = []
    file._on_commit = told.append
    with closing(sqlite3.connect(file.path, isolation_level=None)) as connection:
        insert_with(file, connection)
        assert count(file) == 1
        assert [tx.woken for tx in told] == [{"common"}]
        connection.execute("BEGIN")
        insert_with(file, connection)
        connection.execute("ROLLBACK")
        assert count(file) == 1
        assert len(told) == 1
        with pytest.raises(UsageError, match="needs a transaction, and this connection is in autocommit"):
            insert_with(file, connection, completes=True)
        with pytest.raises(ZeroDivisionError):
            run_for_caller(file, connection, insert_and_fail, reads=False, completes=False)
        assert not connection.in_transaction
    assert count(file) == 1


def insert_and_fail(tx: Transaction) -> float:
    insert_in(tx)
    return 1 / 0


def test_a_call_that_fails_leaves_the_rest_of_the_transaction_as_it_was(file: File) -> None:
    with closing(sqlite3.connect(file.path)) as connection:
        connection.execute("INSERT INTO orders VALUES (1)")
        with pytest.raises(ZeroDivisionError):
            run_for_caller(file, connection, insert_and_fail, reads=False, completes=False)
        with pytest.raises(StatementRefused):
            run_for_caller(
                file, connection, lambda tx: tx.run("INSERT INTO orders VALUES (1)"), reads=False, completes=False
            )
        insert_with(file, connection)
        connection.commit()
    assert (count(file), orders(file)) == (1, 1)


def test_what_a_run_wrote_that_has_lost_its_task_cannot_be_committed(file: File) -> None:
    with closing(sqlite3.connect(file.path)) as connection:
        connection.execute("INSERT INTO orders VALUES (1)")
        with pytest.raises(TaskLost):
            run_for_caller(file, connection, lose, reads=False, completes=True)
        connection.commit()
    assert (count(file), orders(file)) == (0, 0)


def test_what_a_caller_has_set_up_on_a_connection_does_no_harm(file: File) -> None:
    class Cursor(sqlite3.Cursor):
        def execute(self, *args: Any) -> Any:
            raise AssertionError("the caller's own cursor was used")

    class Connection(sqlite3.Connection):
        def cursor(self, *args: Any) -> Any:
            return super().cursor(Cursor)

    with closing(sqlite3.connect(file.path, factory=Connection)) as connection:
        connection.row_factory = lambda *_: {"a": "row"}
        connection.text_factory = bytes
        insert_with(file, connection)

        def kinds(tx: Transaction) -> list[tuple[str]]:
            return tx.rows("SELECT kind FROM fang_tasks")

        assert run_for_caller(file, connection, kinds, reads=True, completes=False) == [("note",)]
        assert connection.text_factory is bytes


@pytest.mark.parametrize(
    ("declared", "converter"),
    [("blob", lambda _: 1 // 0), ("integer", lambda text: bool(int(text))), ("text", bytes), ("notes", bytes)],
    ids=["blob", "integer", "text", "notes"],
)
@pytest.mark.parametrize("isolation_level", ["", None])
def test_converters_of_columns_like_ours_are_refused_before_anything_is_written(
    file: File, monkeypatch: pytest.MonkeyPatch, declared: str, converter: Any, isolation_level: Any
) -> None:
    monkeypatch.setitem(getattr(sqlite3, "converters"), declared.upper(), converter)  # noqa: B009 - mypy knows none
    with closing(sqlite3.connect(file.path, isolation_level=isolation_level)) as connection:
        insert_with(file, connection)  # it converts nothing
        connection.rollback()
    before = count(file)
    typed = sqlite3.connect(file.path, detect_types=sqlite3.PARSE_DECLTYPES, isolation_level=isolation_level)
    with closing(typed) as connection:
        if declared == "notes":
            insert_with(file, connection)
            return
        for begun in (False, True):
            with pytest.raises(UsageError, match="has converters for columns of BLOB, INTEGER or TEXT"):
                insert_with(file, connection)
            assert connection.in_transaction == begun
            if not begun:
                connection.execute("BEGIN")
        connection.commit()
    assert count(file) == before


def test_a_callers_reads_go_on_though_there_are_converters(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(getattr(sqlite3, "converters"), "TEXT", bytes)  # noqa: B009 - mypy knows none
    with closing(sqlite3.connect(file.path)) as connection:
        connection.execute("CREATE TABLE lines (number)")
        connection.executemany("INSERT INTO lines VALUES (?)", [(number,) for number in range(100)])
        for _ in connection.execute("SELECT number FROM lines"):
            insert_with(file, connection)
        connection.commit()
        connection.execute("PRAGMA query_only = ON")
        assert count_with(file, connection) == 100


def test_a_read_begins_no_transaction(file: File) -> None:
    with closing(sqlite3.connect(file.path)) as connection:
        assert count_with(file, connection) == 0
        assert not connection.in_transaction


def test_a_transaction_that_has_read_before_others_committed_is_told_how_to_begin(file: File) -> None:
    with closing(sqlite3.connect(file.path)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM orders").fetchall()
        insert(file)
        with pytest.raises(RowsLocked, match="begin it with BEGIN IMMEDIATE") as refused:
            insert_with(file, connection)
        assert "\n" not in str(refused.value)
        connection.rollback()
        insert_with(file, connection)
        connection.commit()
    assert count(file) == 2


def test_a_caller_who_has_waited_for_another_writer_is_told_so(file: File) -> None:
    with closing(sqlite3.connect(file.path, timeout=0.01)) as connection, file.writing():
        with pytest.raises(RowsLocked, match="another transaction has been writing for too long"):
            insert_with(file, connection)
        assert not connection.in_transaction


def test_a_connection_of_another_thread_is_refused(file: File) -> None:
    refused: list[BaseException] = []
    with closing(sqlite3.connect(file.path)) as connection:

        def use() -> None:
            try:
                insert_with(file, connection)
            except UsageError as error:
                refused.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    assert "belongs to another thread" in str(refused[0])


# The same file --------------------------------------------------------------------------------------------------------


def test_the_same_file_by_another_path_will_do(file: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(file.path)
    os.link(file.path, tmp_path / "hard.db")
    monkeypatch.chdir(tmp_path)
    for path in (link, "tasks.db", f"file:{file.path}?mode=rw"):
        with closing(sqlite3.connect(path, uri="file:" in str(path))) as connection:
            insert_with(file, connection)
            connection.commit()
    assert count(file) == 3


def test_another_file_is_refused_with_both_names(file: File, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    for path, name in ((str(other), str(other)), (":memory:", "a database in memory")):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE t (x)")
            with pytest.raises(UsageError) as refused:
                insert_with(file, connection)
            assert name in str(refused.value)
            assert str(file.path) in str(refused.value)


@pytest.mark.parametrize("connection", [object(), "tasks.db", 1])
def test_what_is_no_connection_is_refused(file: File, connection: Any) -> None:
    with pytest.raises(UsageError, match=r"connection= takes a sqlite3.Connection, a SQLAlchemy Session"):
        insert_with(file, connection)


# SQLAlchemy -----------------------------------------------------------------------------------------------------------


def test_commit_and_rollback_of_a_sqlalchemy_connection_decide(file: File, engine: sqlalchemy.Engine) -> None:
    with engine.connect() as connection:
        insert_with(file, connection)
        connection.rollback()
        assert count(file) == 0
        insert_with(file, connection)
        connection.execute(sqlalchemy.text("INSERT INTO orders VALUES (1)"))
        connection.commit()
    assert (count(file), orders(file)) == (1, 1)
    with suppress(_Undone), engine.begin() as connection:
        connection.execute(sqlalchemy.text("INSERT INTO orders VALUES (2)"))
        insert_with(file, connection)
        raise _Undone
    with engine.connect() as connection:
        insert_with(file, connection)  # no commit
    assert (count(file), orders(file)) == (1, 1)


def test_savepoints_of_sqlalchemy_decide(file: File, engine: sqlalchemy.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("INSERT INTO orders VALUES (1)"))
        with connection.begin_nested() as savepoint:
            insert_with(file, connection)
            savepoint.rollback()
    assert (count(file), orders(file)) == (0, 1)


@pytest.mark.parametrize("make", [lambda factory: factory(), scoped_session])
def test_commit_and_rollback_of_a_session_decide(
    file: File, engine: sqlalchemy.Engine, make: Callable[[Any], Session]
) -> None:
    session = make(sessionmaker(engine))
    insert_with(file, session)
    session.rollback()
    assert count(file) == 0
    insert_with(file, session)
    session.execute(sqlalchemy.text("INSERT INTO orders VALUES (1)"))
    session.commit()
    assert (count(file), orders(file)) == (1, 1)
    session.close()


def test_a_sqlalchemy_connection_in_autocommit_commits_at_once(file: File, engine: sqlalchemy.Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        insert_with(file, connection)
        assert count(file) == 1
        with pytest.raises(UsageError, match="in autocommit"):
            insert_with(file, connection, completes=True)


def test_a_session_without_an_engine_is_refused(file: File) -> None:
    with Session() as session, pytest.raises(UsageError, match="session without an engine"):
        insert_with(file, session)


# asyncio --------------------------------------------------------------------------------------------------------------


async def insert_async(file: File, connection: Any, **options: bool) -> UUID:
    return await async_callers.run_for_caller(
        file, connection, insert_in, **{"reads": False, "completes": False, **options}
    )


async def decides(file: File, connection: Any) -> None:
    """Checks that commit and rollback decide."""
    await insert_async(file, connection)
    assert count(file) == 0
    await connection.rollback()
    await insert_async(file, connection)
    await connection.rollback()
    assert count(file) == 0
    await insert_async(file, connection)
    await connection.commit()
    assert count(file) == 1


async def test_commit_and_rollback_of_an_aiosqlite_connection_decide(file: File) -> None:
    async with aiosqlite.connect(file.path) as connection:
        await decides(file, connection)
    with pytest.raises(UsageError, match="has been closed"):
        await insert_async(file, connection)
    async with aiosqlite.connect(file.path, isolation_level=None) as connection:
        with pytest.raises(UsageError, match="in autocommit"):
            await insert_async(file, connection, completes=True)


@pytest.mark.parametrize("kind", [AsyncConnection, AsyncSession])
async def test_commit_and_rollback_of_sqlalchemys_async_connections_decide(file: File, kind: Any) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{file.path}")
    async with engine.connect() as connection:
        if kind is AsyncConnection:
            await decides(file, connection)
        else:
            async with AsyncSession(connection) as session:
                await decides(file, session)
    async with AsyncSession(engine) as session, session.begin():
        await insert_async(file, session)
    with suppress(_Undone):
        async with AsyncSession(engine) as session, session.begin():
            await insert_async(file, session)
            raise _Undone
    assert count(file) == 2
    await engine.dispose()


async def test_connections_of_threads_are_refused_in_asyncio(file: File) -> None:
    refused = pytest.raises(UsageError, match=r"takes an aiosqlite\.Connection, an AsyncSession")
    with closing(sqlite3.connect(file.path)) as connection, refused:
        await insert_async(file, connection)


async def test_a_call_that_is_cancelled_leaves_the_connection_usable(file: File) -> None:
    async with aiosqlite.connect(file.path) as connection:
        call = asyncio.ensure_future(insert_async(file, connection))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await connection.rollback()
        await decides(file, connection)


# While the queue waits ------------------------------------------------------------------------------------------------


def test_one_who_opens_a_file_that_is_open_does_not_wait_for_one_who_writes(file: File) -> None:
    """As the run does that completes its task in a transaction for which the pool's own writer waits."""
    with file.writing():
        opened_again = threading.Thread(target=file.open)
        opened_again.start()
        opened_again.join(PATIENT)
        assert not opened_again.is_alive()


async def test_a_caller_goes_on_while_the_queues_thread_waits_for_the_callers_transaction(file: File) -> None:
    async with AsyncSqliteQueue(file.path) as queue, aiosqlite.connect(file.path) as connection:
        await connection.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(queue.remove_all_tasks())
        await asyncio.sleep(0)  # it is in the thread's line now
        async with asyncio.timeout(LOCKED_FOR / 2):
            assert await queue.find_task_by_id(uuid4(), connection=connection) is None
        await connection.commit()
        await waiting
