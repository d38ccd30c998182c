"""Transactions that inserted before they could see that a pool waits, and so do not notify."""

from datetime import timedelta

import psycopg
import pytest
from psycopg import sql

from fang_threaded import Queue
from tests.modes import RAN, Database, Harness, IdlePools, eventually, ran


@pytest.mark.parametrize("hold", [0.0, 0.5])
def test_one_that_commits_soon_after_the_announcement_is_found_by_looking_again(
    harness: Harness, url: str, database: Database, hold: float
) -> None:
    queue = harness.queue(url)
    with psycopg.connect(url) as producer:
        Queue(url).insert_task(harness.note(n=1), connection=producer)
        harness.pool(queue)
        eventually(lambda: database.waiting == [True])
        producer.execute("SELECT pg_sleep(%s)", [hold])
        assert RAN.empty()
        producer.commit()
        assert ran(within=2) == [1]


def test_one_that_runs_for_long_is_left_to_the_poll(
    harness: Harness, url: str, database: Database, idle_pools: IdlePools
) -> None:
    queue = harness.queue(url)
    with psycopg.connect(url) as producer, psycopg.connect(url, autocommit=True) as ear:
        ear.execute(sql.SQL("LISTEN {}").format(sql.Identifier("fang_fang")))
        Queue(url).insert_task(harness.note(n=1), connection=producer)
        harness.pool(queue, poll=timedelta(seconds=1.5))
        idle_pools.wait()
        producer.commit()
        assert ran(within=4) == [1]
        assert list(ear.notifies(timeout=0)) == []


def test_who_reads_the_announcement_notifies_whenever_it_commits(
    harness: Harness, url: str, database: Database, idle_pools: IdlePools
) -> None:
    with psycopg.connect(url) as producer:
        producer.execute("SELECT 1")  # it began before
        harness.pool(harness.queue(url))
        idle_pools.wait()
        Queue(url).insert_task(harness.note(n=1), connection=producer)
        producer.commit()
        assert ran() == [1]
