"""A database is lent again only if it is as it was but for rows; and then it has none."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import make_url

from fang_core import Queueable, Runnable
from fang_threaded import Queue
from tests.databases import COUNTS_AT_ONCE, Databases


class LentRow(Runnable):
    def run(self, queue: Queueable) -> None: ...


@pytest.fixture
def lender(server_url: str, template: str) -> Iterator[Databases]:
    made = Databases(server_url, template)
    with psycopg.connect(server_url) as connection:
        if connection.info.server_version < COUNTS_AT_ONCE:
            pytest.skip("each database is lent once")
    yield made
    made.close()


def do(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


ENTRY = "INSERT INTO fang.fang_audit (who, action, target) VALUES ('ada', 'cancel', 'a task') RETURNING id"


def test_rows_go_and_identities_begin_again(lender: Databases) -> None:
    url = lender.lend()
    numbers = []
    for _ in range(2):
        with Queue(url) as queue:
            assert queue.count_tasks().count == 0
            queue.insert_task(LentRow())
        with psycopg.connect(url) as connection:
            numbers.append(connection.execute(ENTRY).fetchall())
        lender.take_back(url)
        assert lender.lend() == url
    assert numbers == [[(1,)], [(1,)]]


CHANGES = {
    "a table": "CREATE TABLE more (); DROP TABLE more",
    "a column": "ALTER TABLE fang.fang_tasks ALTER COLUMN id SET STATISTICS 5",
    "a function": "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "a right": "GRANT SELECT ON fang.fang_tasks TO public",
    "a right on what will be": "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO public",
    "statistics": "ANALYZE fang.fang_types",
    "the migration": "UPDATE fang.fang_alembic_version SET version_num = version_num",
    "a setting": "ALTER DATABASE {name} SET work_mem = '1MB'",
    "a limit": "ALTER DATABASE {name} CONNECTION LIMIT 7",
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_that_was_changed_is_lent_no_more(lender: Databases, change: str) -> None:
    url = lender.lend()
    name = make_url(url).database or ""
    do(url, *CHANGES[change].format(name=name).split("; "))
    lender.take_back(url)
    assert lender.lend() != url


def test_one_that_is_used_is_lent_no_more(lender: Databases) -> None:
    url = lender.lend()
    with psycopg.connect(url):
        lender.take_back(url)
    assert lender.lend() != url


def test_after_a_crash_of_the_server_none_is_lent_again(lender: Databases) -> None:
    """Its statistics begin anew, and would tell of no rows."""
    url, free = lender.lend(), lender.lend()
    lender.take_back(free)
    pid = lender._outside.info.backend_pid
    do(url, f"SELECT pg_terminate_backend({pid})")  # as a crash ends all sessions
    lender.take_back(url)
    assert lender.lend() not in {url, free}
