"""Migrations while others migrate."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from fang_postgres import migrate
from fang_postgres.connections.connecting import TRANSACTION_TIMEOUT_SINCE
from fang_postgres.names import HEAD
from tests.forking import Forked
from tests.postgres.migrations.catalogs import DEADLINE, IMPORTS, engine_for, op_on


def test_many_threads_upgrade_at_once(database_url: str) -> None:
    start = threading.Barrier(8)

    def deploy(_: int) -> None:
        start.wait(DEADLINE)
        migrate.upgrade(database_url)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(deploy, range(8)))
    assert migrate.current(database_url) == HEAD


def test_many_processes_upgrade_at_once(database_url: str) -> None:
    program = "import sys; from fang_postgres import migrate; print(flush=True); input(); migrate.upgrade(sys.argv[1])"
    deploys = [Forked("-c", program, database_url, imports=IMPORTS) for _ in range(4)]
    for deploy in deploys:
        deploy.stdout.readline()  # it is ready
    for deploy in deploys:
        deploy.stdin.write("\n")
        deploy.stdin.flush()
    for deploy in deploys:
        deploy.communicate(timeout=DEADLINE)
    assert [deploy.returncode for deploy in deploys] == [0] * 4
    assert migrate.current(database_url) == HEAD


def server_version(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()) // 10_000


# Whatever the role's defaults: a snapshot from before the wait, or a timeout while waiting, would fail the second.
@pytest.mark.parametrize(
    ("settings", "longer_than"),
    [
        ("", "1 ms"),
        ("-c default_transaction_isolation=serializable -c default_transaction_read_only=on", "1 ms"),
        ("-c lock_timeout=2s -c statement_timeout=2s", "2.1 s"),  # time enough for what comes before the wait
        ("-c transaction_timeout=2s", "2.1 s"),
    ],
)
def test_an_upgrade_waits_for_one_under_way(engine: Engine, database_url: str, settings: str, longer_than: str) -> None:
    waiting = f"""SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
        WHERE datname = current_database() AND locktype = 'advisory'
        AND waitstart < clock_timestamp() - interval '{longer_than}'"""
    if "transaction_timeout" in settings and server_version(engine) < TRANSACTION_TIMEOUT_SINCE:
        pytest.skip("this server has none")
    second = engine_for(database_url, settings)
    with ThreadPoolExecutor(1) as threads:
        with engine.begin() as first:
            with op_on(first) as first_op:
                migrate.upgrade_within(first_op)
            waits = threads.submit(migrate.upgrade, second)
            deadline = time.monotonic() + DEADLINE
            while not first.scalar(text(waiting)):
                assert time.monotonic() < deadline
                assert not waits.done(), waits.exception()
                first.execute(text("SELECT pg_sleep(0.01)"))
        waits.result(DEADLINE)
    assert migrate.current(engine) == HEAD
    migrate.upgrade(second, schema="jobs")
    migrate.check(engine, schema="jobs")
