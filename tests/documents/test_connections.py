"""docs/deploying.md says how many connections a process takes: counted while each of them is in use."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, make_url

from fang_threaded import Queue
from tests.modes import Database, Harness, eventually
from tests.patience import PATIENT

SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'fang' AND backend_type = 'client backend'
"""
MOST = 2  # max_pool_size
CALLERS = 6


def count(database: Database) -> int:
    return int(database.rows(SESSIONS)[0][0])


def inserts_that_wait(harness: Harness, queue: Any) -> list[Any]:
    return [harness.begin(queue.insert_task, harness.note(), delay=timedelta(days=1)) for _ in range(CALLERS)]


@pytest.mark.parametrize("pools", [0, 1, 2])
def test_a_queue_takes_as_many_as_the_page_says_and_no_more(
    harness: Harness, url: str, database: Database, pools: int
) -> None:
    queue = harness.queue(url, max_pool_size=MOST)
    assert count(database) == 0
    for _ in range(pools):
        harness.pool(queue, poll=timedelta(milliseconds=20))
    own = 2 + pools if pools else 0  # for claims and LISTEN, and one for each heart
    with psycopg.connect(url) as other:
        eventually(lambda: count(database) >= own)
        other.execute("LOCK TABLE fang.fang_tasks IN ACCESS EXCLUSIVE MODE")
        calls = inserts_that_wait(harness, queue)
        eventually(lambda: count(database) == MOST + own)
        assert not any(call.done() for call in calls)
    for call in calls:
        call.result(PATIENT)
    assert count(database) <= MOST + own


def test_a_queue_on_an_engine_takes_two_beside_it(url: str, database: Database) -> None:
    with_name = make_url(url).set(drivername="postgresql+psycopg").update_query_dict({"application_name": "fang"})
    engine = create_engine(with_name, pool_size=1, max_overflow=2)
    harness = Harness("threaded")
    try:
        queue = Queue(engine)
        harness.pool(queue, poll=timedelta(milliseconds=20))
        with psycopg.connect(url) as other:
            eventually(lambda: count(database) >= 3)
            other.execute("LOCK TABLE fang.fang_tasks IN ACCESS EXCLUSIVE MODE")
            calls = inserts_that_wait(harness, queue)
            eventually(lambda: count(database) == 1 + 2 + 2)
        for call in calls:
            call.result(PATIENT)
    finally:
        harness.close()
        engine.dispose()
