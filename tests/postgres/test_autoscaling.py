"""The query of docs/autoscaling.md, asked by a role with the rights that the page gives it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fang_postgres.grants import grants
from fang_threaded import Queue, Queueable, Runnable

PAGE = Path(__file__).parents[2] / "docs" / "autoscaling.md"
ROLE = "keda_of_docs"


class ScaledLetter(Runnable):
    secret: str = "payload"

    def run(self, queue: Queueable) -> None: ...


@pytest.fixture
def keda(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A session of the role."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {ROLE}")
        try:
            connection.execute(grants(ROLE, "scaling").encode())
            connection.execute(f"SET ROLE {ROLE}")
            yield connection
        finally:
            connection.execute("RESET ROLE")
            connection.execute(f"DROP OWNED BY {ROLE}")
            connection.execute(f"DROP ROLE {ROLE}")


def wanted(connection: psycopg.Connection[Any]) -> int:
    query = re.search(r"query: >-\n(.*?)\n +targetQueryValue", PAGE.read_text("utf-8"), re.DOTALL)
    assert query is not None
    row = connection.execute(" ".join(query[1].split()).encode()).fetchone()
    assert row is not None
    (number,) = row
    return int(number)


def test_the_query_of_the_page_counts_what_is_due_and_runs_and_its_role_sees_no_payload(
    url: str, keda: psycopg.Connection[Any]
) -> None:
    assert wanted(keda) == 0  # no type is known yet
    with Queue(url) as queue:
        queue.insert_tasks([ScaledLetter() for _ in range(3)], task_type="mail")
        queue.insert_tasks([ScaledLetter() for _ in range(120)], task_type="reports")
        queue.insert_task(ScaledLetter(), task_type="others")
        assert wanted(keda) == 3 + 100
        assert queue.fetch_and_touch_task("mail") is not None
        assert wanted(keda) == 3 + 100  # one of them runs
        queue.pause("reports")
        assert wanted(keda) == 3
        for table in ("fang_tasks", "fang_pools", "fang_stats"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                keda.execute(f"SELECT FROM fang.{table}".encode())


def test_workers_of_a_pool_of_which_nothing_is_heard_do_not_count(url: str) -> None:
    """Nobody removes the record of the last pool if it is killed: its type would look served for ever."""
    workers = "SELECT workers FROM fang.fang_scaling WHERE task_type = 'mail'"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO fang.fang_pools (id, mode, host, pid, task_types, kinds, workers)"
            " SELECT lpad(n::text, 32, '0')::uuid, 'threaded', 'h', n, '{mail}', '{}', 10 ^ n"
            " FROM generate_series(0, 2) n"
        )
        assert connection.execute(workers).fetchone() == (111,)  # they tell nothing, as those of older releases
        connection.execute(
            "INSERT INTO fang.fang_live (pool_id, at)"
            " SELECT id, now() - pid * interval '20 seconds' FROM fang.fang_pools"
        )
        assert connection.execute(workers).fetchone() == (11,)
        connection.execute("UPDATE fang.fang_live SET at = now() - interval '1 hour'")
        assert connection.execute(workers).fetchone() == (0,)
