"""What a role's or a database's settings do to queues that connect by a URL: nothing. In both modes."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import bindparam, func, make_url, select

import fang_async.database
import fang_threaded.database
from fang_cli.watching.reading import Patience, database_for_reading
from fang_core import BackendError
from fang_postgres import migrate
from fang_postgres.connections.connecting import TRANSACTION_TIMEOUT_SINCE
from fang_postgres.statement import Operation, Statement
from tests.cli.invoking import fang
from tests.modes import Database, Harness, eventually, ran

HOSTILE = {
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "array_nulls": "off",
    "client_encoding": "LATIN1",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "idle_in_transaction_session_timeout": "1ms",
    "idle_session_timeout": "50ms",
    "jit": "on",
    "lock_timeout": "1ms",
    "search_path": "",
    "standard_conforming_strings": "off",
    "statement_timeout": "1ms",
    "transaction_timeout": "1s",  # a connect that stands still for longer is ended before it can say 0
}
OURS = {
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "array_nulls": "on",
    "statement_timeout": "1min",
    "jit": "off",
}


@pytest.fixture
def reset(server_url: str, url: str) -> Iterator[None]:
    """Has the database be like new after the test, so that another one gets it."""
    yield
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{make_url(url).database}" RESET ALL'.encode())


@pytest.fixture(params=HOSTILE)
def setting(request: pytest.FixtureRequest, url: str, reset: None) -> str:
    """The database has it, for all who connect later."""
    with psycopg.connect(url, autocommit=True) as connection:
        if request.param == "transaction_timeout" and not _has_transaction_timeout(connection):
            pytest.skip("this server has none")
        database, value = make_url(url).database, HOSTILE[request.param]
        connection.execute(f"ALTER DATABASE \"{database}\" SET {request.param} = '{value}'".encode())
    name: str = request.param
    return name


def _has_transaction_timeout(connection: psycopg.Connection[Any]) -> bool:
    return connection.info.server_version // 10_000 >= TRANSACTION_TIMEOUT_SINCE


def shown(name: str) -> Operation[str]:
    statement = Statement("shown", select(func.current_setting(bindparam("p_name"))))
    return Operation(statement, {"p_name": name}, lambda rows: rows[0][0])


async def _async_dedicated_shows(queue: Any, name: str) -> str:
    connection = await queue._connections.dedicated()
    try:
        return await fang_async.database.run_on(connection, shown(name))
    finally:
        await connection.close()


def _dedicated_shows(queue: Any, name: str) -> str:
    with queue._connections.dedicated() as connection:
        return fang_threaded.database.run_on(connection, shown(name))


def test_tasks_are_inserted_found_and_run(harness: Harness, setting: str, url: str) -> None:
    queue = harness.queue(url)
    task = harness.call(queue.insert_task, harness.note(n=1))
    assert harness.call(queue.find_task_by_id, task.id) == task
    harness.call(queue.insert_tasks, [harness.note(n=n) for n in (2, 3)])
    harness.call(queue.insert_tasks, [harness.note(n=n) for n in (4, 5)], uniq=True)
    harness.pool(queue)
    assert ran(5) == [1, 2, 3, 4, 5]
    late = harness.call(queue.insert_task, harness.note(n=6))
    assert ran() == [6]
    eventually(lambda: harness.call(queue.find_task_by_id, late.id) is None)


@pytest.mark.parametrize("name", OURS)
def test_a_connection_has_our_settings_and_keeps_them(
    harness: Harness, url: str, database: Database, name: str
) -> None:
    """Also where it was used again after a failure, for which some drivers reset it."""
    if name == "transaction_timeout" and not _has_transaction_timeout(database.connection):
        pytest.skip("this server has none")
    database.execute(f"ALTER DATABASE \"{make_url(url).database}\" SET {name} = '{HOSTILE[name]}'")
    queue = harness.queue(url, max_pool_size=1)
    store = harness.call(queue.store)
    assert harness.call(store._writes.run, shown(name)) == OURS[name]
    assert harness.call(store._claims.run, shown(name)) == OURS[name]
    dedicated_shows = _dedicated_shows if harness.mode == "threaded" else _async_dedicated_shows
    assert harness.call(dedicated_shows, queue, name) == OURS[name]
    database.execute("ALTER TABLE fang.fang_tasks ADD CHECK (priority < 2)")
    with pytest.raises(BackendError):
        harness.call(queue.insert_tasks, [harness.note(), harness.note()], priority=2)
    assert harness.call(store._writes.run, shown(name)) == OURS[name]
    harness.call(store.close)


def test_status_and_migrate_compile_no_plans(url: str, database: Database) -> None:
    database.execute(f'ALTER DATABASE "{make_url(url).database}" SET jit = on')
    with database_for_reading(url, "fang", Patience()) as opened:
        assert opened.run(shown("jit")) == "off"
    with migrate.transaction(url, "fang") as connection:
        assert connection.exec_driver_sql("SHOW jit").scalar_one() == "off"


def test_status_can_be_read(setting: str, url: str) -> None:
    if setting in {"statement_timeout", "idle_in_transaction_session_timeout"}:
        pytest.skip("one of a millisecond may end the transaction before it is set to another")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute('INSERT INTO fang.fang_tasks (metadata) VALUES (\'{"type": "Any"}\')')
    result = fang("status", "--json", "--database-url", url)
    assert (result.returncode, result.stderr) == (0, "")
    assert [each["count"] for each in json.loads(result.stdout)["tasks"]] == [1]
