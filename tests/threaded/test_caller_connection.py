"""``connection=`` takes what an application has, however that is set up."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import django
import django.conf
import django.db
import flask
import flask_sqlalchemy
import psycopg
import psycopg2
import psycopg2.extras
import pytest
from django.db import transaction
from sqlalchemy import Column, Integer, create_engine, event, make_url
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, declarative_base, scoped_session, sessionmaker

from fang_core import InsertOptions, Runnable, Task, TaskConfig, TaskState, TwinExists, UsageError
from fang_core.driving import drive
from fang_threaded import Queue
from fang_threaded.caller_connection import adapt
from tests.hostile import (
    ELSEWHERE,
    LONG_AGO,
    SOON,
    STRANGE,
    TERMS,
    dumpers_of_nonsense,
    loaders_of_nonsense,
    settings_of,
    type_casters_of_nonsense,
)

Connect = Callable[[], Any]


class Noted(Runnable):
    task_config = TaskConfig(task_type=f"hand, \"ed\\' {STRANGE}")
    n: int = 0
    text: str = STRANGE

    def run(self, queue: Any) -> None: ...


class Yearly(Runnable):
    task_config = TaskConfig(cron="@yearly")

    def run(self, queue: Any) -> None: ...


TYPE = Noted.__fang_options__.task_type


@pytest.fixture
def queue(url: str) -> Iterator[Queue]:
    with Queue(url) as queue:
        yield queue


def on_terms(queue: Queue, connection: Any) -> None:
    """A unique task on each of its terms, which it leaves nothing of."""
    for number, uniq in enumerate(TERMS):
        notes = [Noted(n=30 + 3 * number + n) for n in (0, 1, 2)]
        options: InsertOptions = {"uniq": uniq, "expires": timedelta(days=9), "timeout": timedelta(seconds=7)}
        first = queue.insert_tasks(
            notes, task_type="terms", headers={STRANGE: STRANGE}, connection=connection, **options
        )
        assert [task.conflict for task in first] == [False] * 3
        again = queue.insert_task(
            notes[1], task_type="terms", connection=connection, delay=timedelta(minutes=1), **options
        )
        assert (again.id, again.conflict) == (first[1].id, True)
        assert queue.find_task_by_id(again.id, connection=connection) == again._replace(conflict=False)
        assert (again.headers is None) == (uniq.on_conflict == "replace")
        raising = dataclasses.replace(uniq, on_conflict="raise")
        with pytest.raises(TwinExists):
            queue.insert_tasks([notes[2], Noted(n=99)], uniq=raising, task_type="terms", connection=connection)
    assert queue.remove_tasks_type("terms", connection=connection) == 3 * len(TERMS)


def every_verb(queue: Queue, connection: Any) -> None:
    """What each returns is what a connection of our own reads."""

    def stands(task: Task | None) -> Task:
        assert task is not None
        assert queue.find_task_by_id(task.id, connection=connection) == task._replace(conflict=False)
        return task

    one = stands(queue.insert_task(Noted(n=1), connection=connection))
    assert stands(queue.insert_task(Noted(n=2), scheduled_at=SOON, connection=connection)).scheduled_at == SOON
    late = stands(queue.insert_task(Noted(n=3), delay=timedelta(days=1, seconds=7), connection=connection))
    assert timedelta(days=1) < late.scheduled_at - late.created_at < timedelta(days=1, minutes=1)
    due = stands(queue.insert_task(Noted(n=5), scheduled_at=LONG_AGO, connection=connection))
    first = stands(queue.insert_task(Noted(n=4), uniq=True, connection=connection))
    assert stands(queue.insert_task(Noted(n=4), uniq=True, connection=connection)).id == first.id
    many = queue.insert_tasks([Noted(n=n) for n in range(10, 13)], connection=connection)
    unique = queue.insert_tasks([Noted(n=n) for n in (20, 4, 20)], uniq=True, connection=connection)
    assert [stands(task).conflict for task in many + unique] == [False] * 4 + [True, True]
    on_terms(queue, connection)
    stands(queue.schedule_task(Yearly(), connection=connection))
    failed = stands(queue.fail_task(one, STRANGE, connection=connection))
    assert (failed.state, failed.error_message) == (TaskState.FAILED, STRANGE)
    stands(queue.update_task_state(failed, TaskState.NEW, connection=connection))
    fetched = stands(queue.fetch_and_touch_task(TYPE, connection=connection))
    assert (fetched.id, fetched.state) == (due.id, TaskState.IN_PROGRESS)
    stands(queue.schedule_retry(fetched, timedelta(hours=1), "Ж", connection=connection))
    assert queue.remove_task(fetched.id, connection=connection) == 1
    assert queue.remove_task_by_metadata(Noted(n=20), connection=connection) == 1
    assert queue.remove_all_scheduled_tasks(connection=connection) == 3
    assert queue.remove_tasks_type(TYPE, connection=connection) == 5
    assert queue.remove_all_tasks(connection=connection) == 0


def raw(url: str, encoding: str = "LATIN1", **options: Any) -> psycopg.Connection[Any]:
    connection = psycopg.connect(url, **options)
    settings_of(connection.execute, client_encoding=encoding)
    return connection


def of_nonsense(url: str) -> psycopg.Connection[Any]:
    connection = raw(url)
    loaders_of_nonsense(connection)
    dumpers_of_nonsense(connection)
    return connection


@contextmanager
def in_pipeline(url: str) -> Iterator[Any]:
    with of_nonsense(url) as connection, connection.pipeline():
        yield connection


@contextmanager
def on_engine(url: str, driver: str, wrap: Callable[[Any], Any]) -> Iterator[Any]:
    engine = create_engine(make_url(url).set(drivername=f"postgresql+{driver}"))
    engine.connect().close()  # SQLAlchemy itself asks for the version first
    engine.dispose()
    nonsense = loaders_of_nonsense if driver == "psycopg" else type_casters_of_nonsense

    def prepare(connection: Any, _: Any) -> None:
        settings_of(connection.cursor().execute)
        connection.commit()
        nonsense(connection)

    event.listen(engine, "connect", prepare)
    connection = wrap(engine)
    yield connection
    connection.close()
    engine.dispose()


def on_psycopg2(url: str, encoding: str = "LATIN1", **options: Any) -> Any:
    connection = psycopg2.connect(url, **options)
    settings_of(connection.cursor().execute, client_encoding=encoding)
    type_casters_of_nonsense(connection)
    return closing(connection)


KINDS: dict[str, Callable[[str], Any]] = {
    "psycopg": of_nonsense,
    "psycopg, autocommit": lambda url: raw(url, autocommit=True),
    "psycopg, raw cursor": lambda url: raw(url, cursor_factory=psycopg.RawCursor),
    "psycopg, client cursor": lambda url: raw(url, cursor_factory=psycopg.ClientCursor),
    "psycopg, pipeline": in_pipeline,
    "psycopg, UTF8": lambda url: raw(url, "UTF8"),
    "psycopg, SQL_ASCII": lambda url: raw(url, "SQL_ASCII"),
    "psycopg2": on_psycopg2,
    "psycopg2, UTF8": lambda url: on_psycopg2(url, "UTF8"),
    "psycopg2, SQL_ASCII": lambda url: on_psycopg2(url, "SQL_ASCII"),
    "psycopg2, dicts": lambda url: on_psycopg2(url, cursor_factory=psycopg2.extras.RealDictCursor),
    "Session on psycopg": lambda url: on_engine(url, "psycopg", Session),
    "Session on psycopg2": lambda url: on_engine(url, "psycopg2", Session),
    "Connection on psycopg": lambda url: on_engine(url, "psycopg", lambda engine: engine.connect()),
    "Session that streams": lambda url: on_engine(
        url, "psycopg", lambda engine: Session(engine.execution_options(stream_results=True))
    ),
    "Session of a tenant": lambda url: on_engine(
        url, "psycopg", lambda engine: Session(engine.execution_options(**ELSEWHERE))
    ),
    "Connection of a tenant": lambda url: on_engine(
        url, "psycopg2", lambda engine: engine.connect().execution_options(**ELSEWHERE)
    ),
    "Connection that yields": lambda url: on_engine(
        url, "psycopg2", lambda engine: engine.connect().execution_options(yield_per=1)
    ),
    "raw_connection on psycopg": lambda url: on_engine(url, "psycopg", lambda engine: engine.raw_connection()),
    "raw_connection on psycopg2": lambda url: on_engine(url, "psycopg2", lambda engine: engine.raw_connection()),
    "scoped_session": lambda url: on_engine(url, "psycopg", lambda engine: scoped_session(sessionmaker(engine))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_verb_on_every_connection(queue: Queue, url: str, kind: str) -> None:
    with KINDS[kind](url) as connection:
        every_verb(queue, connection)


def test_flask_sqlalchemys_session(queue: Queue, url: str) -> None:
    app = flask.Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = make_url(url).set(drivername="postgresql+psycopg")
    db = flask_sqlalchemy.SQLAlchemy(app)
    with app.app_context():
        every_verb(queue, db.session)
        task = queue.insert_task(Noted(), connection=db.session)
        db.session.rollback()
        assert queue.find_task_by_id(task.id) is None
        task = queue.insert_task(Noted(), connection=db.session)
        db.session.commit()
        assert queue.find_task_by_id(task.id) == task
        db.engine.dispose()


@pytest.fixture
def djangos(url: str) -> Iterator[Any]:
    place = make_url(url)
    settings = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": place.database,
        "USER": place.username,
        "PASSWORD": place.password,
        "HOST": place.host or place.query.get("host", ""),
        "PORT": place.port or "",
    }
    memory = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    if not django.conf.settings.configured:
        django.conf.settings.configure(DATABASES={}, USE_TZ=True)
        django.setup()
    connections = django.db.connections
    connections.settings = connections.configure_settings({"default": settings, "memory": memory})
    yield connections
    connections.close_all()
    for alias in connections.settings:
        if hasattr(connections._connections, alias):
            del connections[alias]


def test_djangos_connection(queue: Queue, djangos: Any) -> None:
    for connection in (django.db.connection, djangos["default"]):
        with transaction.atomic():
            every_verb(queue, connection)
            drive(adapt(connection).refuse_autocommit())
        with pytest.raises(UsageError, match="needs a transaction"):
            drive(adapt(connection).refuse_autocommit())
        with transaction.atomic():
            undone = queue.insert_task(Noted(), connection=connection)
            transaction.set_rollback(True)
        with transaction.atomic():
            kept = queue.insert_task(Noted(), connection=connection)
        at_once = queue.insert_task(Noted(), connection=connection)
        assert queue.find_task_by_id(undone.id) is None
        assert queue.find_task_by_id(kept.id) == kept
        assert queue.find_task_by_id(at_once.id) == at_once
        assert queue.remove_all_tasks(connection=connection) == 2
    with pytest.raises(UsageError, match="must be on Postgres, not sqlite"):
        queue.insert_task(Noted(), connection=djangos["memory"])


def test_a_session_of_single_mappers_is_refused_with_what_to_do(queue: Queue, url: str) -> None:
    base = declarative_base()
    order = type("Order", (base,), {"__tablename__": "orders", "id": Column(Integer, primary_key=True)})
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with Session(binds={order: engine}) as session:
        with pytest.raises(UsageError, match=r"session\.connection\(bind_arguments="):
            queue.insert_task(Noted(), connection=session)
        queue.insert_task(Noted(), connection=session.connection(bind_arguments={"mapper": order}))
    engine.dispose()


def test_what_is_no_connection_is_refused_before_anything_is_sent(queue: Queue, url: str) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    given_back = engine.raw_connection()
    given_back.close()
    asynchronous = psycopg2.connect(url, async_=True)
    psycopg2.extras.wait_select(asynchronous)
    sessions = (sessionmaker(engine), AsyncSession(), Session())
    for other in (given_back, asynchronous, engine, *sessions, django.db.connections, url):
        with pytest.raises(UsageError, match="connection="):
            queue.insert_task(Noted(), connection=other)
    with pytest.raises(UsageError, match=r"takes a SQLAlchemy Session or Connection, .* not asyncpg\.Connection"):
        queue.insert_task(Noted(), connection=type("Connection", (), {"__module__": "asyncpg.connection"})())
    asynchronous.close()
    engine.dispose()
    assert queue.remove_all_tasks() == 0
