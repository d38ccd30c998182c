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
