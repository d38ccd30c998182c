"""A queue on an application's Engine, whatever that application has set up on its connections."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.adapt import PyFormat
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.orm import sessionmaker

from fang_core import SleepParams
from fang_core.backends.claims import ClaimRequest
from fang_core.backends.pools import PoolRecord
from fang_core.conformance import (
    Backend,
    ByHandSuite,
    ClaimSuite,
    CompletionSuite,
    HistorySuite,
    ManagingSuite,
    OutcomeSuite,
    OutlookSuite,
    PoolSuite,
    QueueSuite,
    ReconcileSuite,
    RemovalSuite,
    ScheduleSuite,
    StatsSuite,
    StoredScheduleSuite,
    UniquenessSuite,
    UniqueSuite,
)
from fang_core.liveness import BeatRequest, CancelRequest
from fang_postgres.once import builders_of
from fang_postgres.statements import Statements, statements
from fang_threaded import Queue, WorkerPool
from tests.backends import backdate_live_on, set_crashes_on, write_stats_on
from tests.driven import Driven
from tests.hostile import ARRAYS, ELSEWHERE, Nonsense, dumpers_of_nonsense, loaders_of_nonsense, settings_of
from tests.modes import Database, ThreadedNote, eventually, ran

HOUR, LEASE = timedelta(hours=1), timedelta(seconds=90)


def set_up_for_nonsense(connection: psycopg.Connection[Any], _: Any) -> None:
    """Everything but how a string is sent: SQLAlchemy itself sends some."""
    settings_of(connection.execute)
    connection.commit()
    strings = connection.adapters.get_dumper(str, PyFormat.AUTO)
    loaders_of_nonsense(connection)
    dumpers_of_nonsense(connection)
    connection.adapters.register_dumper(str, strings)
    for name in ARRAYS:
        connection.adapters.register_loader(psycopg.adapters.types[name.removesuffix("[]")].array_oid, Nonsense)


@pytest.fixture
def make_engine(url: str) -> Iterator[Callable[..., Engine]]:
    made: list[Engine] = []

    def make(**options: Any) -> Engine:
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), **options)
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.dispose()


NONSENSE: dict[str, Any] = {
    "json_serializer": lambda _: "nonsense",
    "json_deserializer": lambda _: "nonsense",
    "execution_options": ELSEWHERE,
}


def made_hostile(engine: Engine) -> Engine:
    engine.connect().close()  # SQLAlchemy itself asks for the version first
    engine.dispose()
    event.listen(engine, "connect", set_up_for_nonsense)
    return engine


@pytest.fixture
def hostile(make_engine: Callable[..., Engine]) -> Engine:
    return made_hostile(make_engine(**NONSENSE))


@pytest.fixture(scope="module")
def shared_hostile(shared_url: str) -> Iterator[Engine]:
    engine = made_hostile(create_engine(make_url(shared_url).set(drivername="postgresql+psycopg"), **NONSENSE))
    yield engine
    engine.dispose()


@pytest.fixture
def backend(shared_hostile: Engine, emptied_url: str) -> Iterator[Backend]:
    made = Backend(
        "threaded",
        queue=lambda **options: Queue(shared_hostile, **options),
        pool=WorkerPool,
        set_crashes=partial(set_crashes_on, emptied_url),
        write_stats=partial(write_stats_on, emptied_url),
        backdate_live=partial(backdate_live_on, emptied_url),
    )
    yield made
    made.close()


class TestOnAHostileEngine(
    QueueSuite,
    UniqueSuite,
    UniquenessSuite,
    ByHandSuite,
    ManagingSuite,
    RemovalSuite,
    ScheduleSuite,
    StoredScheduleSuite,
    ClaimSuite,
    CompletionSuite,
    ReconcileSuite,
    HistorySuite,
    StatsSuite,
    OutlookSuite,
    PoolSuite,
    OutcomeSuite,
):
    """The groups of the conformance suite that read and write rows."""


def test_postgres_takes_the_text_form_of_every_statement(database: Database) -> None:
    for name in builders_of(Statements):
        form = getattr(statements("fang"), name).text_form
        database.execute(f"PREPARE {name} AS {form.text}")


def test_a_pool_listens_and_beats_on_a_hostile_engine(hostile: Engine, database: Database) -> None:
    with Queue(sessionmaker(hostile)) as queue:
        pool = WorkerPool(queue, sleep_params=SleepParams(min_sleep_period=HOUR, max_sleep_period=HOUR))
        pool.start()
        eventually(lambda: database.listeners and database.waiting == [True])
        queue.insert_task(ThreadedNote(n=1))
        assert ran() == [1]
        eventually(lambda: database.rows("SELECT 1 FROM fang.fang_pools WHERE beats > 0"))
        pool.stop()


@pytest.mark.parametrize("locks", [True, False])
def test_a_heart_beats_and_rescues_on_a_hostile_engine(hostile: Engine, locks: bool) -> None:
    kind = ThreadedNote.__fang_options__.kind
    dead, watcher = uuid4(), uuid4()
    with Queue(hostile) as queue:
        store = Driven(queue.store())
        for pool_id in (dead, watcher):
            store.register(PoolRecord(pool_id, "threaded", "host", 1, ("common",), (kind,), 1, LEASE))
        task = queue.insert_task(ThreadedNote(n=1))
        assert [claimed.id for claimed in store.claim(ClaimRequest(dead, ("common",), (kind,), 1)).tasks] == [task.id]
        heart = store.heart(locks)
        beat = heart.beat(BeatRequest(watcher, False))
        assert beat.registered
        assert {pulse.pool_id: (pulse.beats, pulse.is_locked, pulse.lease) for pulse in beat.pulses} == {
            dead: (0, False, LEASE.total_seconds()),
            watcher: (0, locks, LEASE.total_seconds()),
        }
        found = next(pulse for pulse in beat.pulses if pulse.pool_id == dead)
        assert [rescued.id for rescued in heart.rescue([found])] == [task.id]
        assert heart.rescue_orphans(3) == []
        heart.close()
        store.close()


def test_a_heart_hears_of_its_tasks_on_a_hostile_engine(hostile: Engine) -> None:
    kind = ThreadedNote.__fang_options__.kind
    me, gone = uuid4(), uuid4()
    with Queue(hostile) as queue:
        store = Driven(queue.store())
        store.register(PoolRecord(me, "threaded", "host", 1, ("common", "NULL"), (kind,), 1, LEASE))
        assert [(pool.id, pool.task_types, pool.kinds) for pool in queue.pools()] == [(me, ("common", "NULL"), (kind,))]
        task = queue.insert_task(ThreadedNote(n=1))
        store.claim(ClaimRequest(me, ("common",), (kind,), 1))
        queue.cancel_task(task.id, reason='NULL, {and} "more"', by="a person")
        heart = store.heart(True)
        beat = heart.beat(BeatRequest(me, False, held=[(task.id, 1), (gone, 1)]))
        assert beat.cancels == [CancelRequest(task.id, 'NULL, {and} "more"', "a person")]
        assert list(beat.lost) == [gone]
        heart.close()
        store.close()


def test_a_fetch_by_hand_beats_on_a_hostile_engine(hostile: Engine, database: Database) -> None:
    with Queue(hostile) as queue:
        queue.insert_task(ThreadedNote(n=1))
        assert queue.fetch_and_touch_task() is not None
        eventually(lambda: database.rows("SELECT 1 FROM fang.fang_pools WHERE mode = 'manual' AND beats > 0"))
