"""A span lasts as long as it says, even if the zone of the session moves its clocks meanwhile. In both modes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import psycopg
import pytest
from sqlalchemy import create_engine, make_url

from fang_core import Unique
from fang_postgres.urls.urls import address
from tests.modes import Database, Harness

SPAN = timedelta(days=30)
OPTIONS: dict[str, Any] = {"uniq": Unique(by="n", within=SPAN), "delay": SPAN, "expires": SPAN}


@pytest.fixture
def moving(database: Database, url: str) -> str:
    """The zone of all sessions of the database: its clocks move by an hour halfway through the span."""
    begins, ends = (_day_of_year(datetime.now(UTC) + timedelta(days=days)) for days in (15, 120))
    zone = f"STD0DST,J{begins},J{ends}"
    database.execute(f"ALTER DATABASE \"{make_url(url).database}\" SET TimeZone = '{zone}'")
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT extract(epoch FROM (now() + interval '30 days') - now())").fetchone()
    assert found is not None
    assert abs(SPAN.total_seconds() - float(found[0])) == 3_600
    return zone


def _day_of_year(moment: datetime) -> int:
    """Returns a day from 1 to 365, as Postgres counts them: without the 29th of February."""
    return moment.replace(year=2025, day=min(moment.day, 28)).timetuple().tm_yday


def check(database: Database, inserted: Any) -> None:
    """Checks how long a task waits, how long it may wait after that, and for how long it is the only one."""
    until = database.rows("SELECT until FROM fang.fang_uniques")[0][0]
    spans = (
        inserted.scheduled_at - inserted.created_at,
        inserted.expires_at - inserted.scheduled_at,
        until - inserted.created_at,
    )
    assert all(abs(span - SPAN) < timedelta(minutes=10) for span in spans), spans


def test_on_own_connections(harness: Harness, moving: str, url: str, database: Database) -> None:
    check(database, harness.call(harness.queue(url).insert_task, harness.note(n=1), **OPTIONS))


def test_on_own_connections_whose_zone_the_environment_sets(
    harness: Harness, moving: str, url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTZ", moving)
    check(database, harness.call(harness.queue(url).insert_task, harness.note(n=1), **OPTIONS))


def test_on_connections_of_an_application(harness: Harness, moving: str, url: str, database: Database) -> None:
    queue = harness.queue(url)

    async def on_asyncpg() -> Any:
        connection = await asyncpg.connect(url)
        try:
            return await queue.insert_task(harness.note(n=1), connection=connection, **OPTIONS)
        finally:
            await connection.close()

    def on_psycopg() -> Any:
        with psycopg.connect(url) as connection:
            return queue.insert_task(harness.note(n=1), connection=connection, **OPTIONS)

    check(database, harness.call(on_psycopg if harness.mode == "threaded" else on_asyncpg))


def test_on_an_engine(moving: str, url: str, database: Database) -> None:
    harness = Harness("threaded")
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    check(database, harness.call(harness.queue(engine).insert_task, harness.note(n=1), **OPTIONS))
    harness.close()
    engine.dispose()


def test_a_url_may_name_a_zone() -> None:
    assert address("postgresql://localhost/app?options=-c%20TimeZone=Asia/Kathmandu").options.endswith("/Kathmandu")
