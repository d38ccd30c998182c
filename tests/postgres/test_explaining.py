"""`queue.explain` names what only a database can have: locks, sessions, dead pools, history."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.engine import make_url

from fang_core.backends.pools import Live, PoolRecord
from fang_core.liveness import BeatRequest
from fang_core.monitoring.explanation import Cause, Explanation
from fang_core.record import Task
from fang_postgres.grants import grants
from tests.modes import Harness, eventually

DAY = timedelta(days=1)


class World:
    """A database with one pool in it, as a mode's queue sees it."""

    def __init__(self, harness: Harness, url: str) -> None:
        self.harness = harness
        self.url = url
        self.queue = harness.queue(url)
        self.store = harness.call(self.queue.store)
        self.record = PoolRecord(
            uuid4(), harness.mode, "host", 7, ("common", "exports"), (harness.note.__fang_options__.kind,), 2
        )
        harness.call(self.store.register, self.record)

    def insert(self, **options: Any) -> Task:
        task: Task = self.harness.call(self.queue.insert_task, self.harness.note(), **options)
        return task

    def explain(self, task: Task) -> Explanation:
        told: Explanation = self.harness.call(self.queue.explain, task.id)
        return told

    def sql(self, statement: str, *params: Any) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(statement.encode(), params)

    @contextmanager
    def session(self, *statements: str) -> Iterator[psycopg.Connection[Any]]:
        """A transaction of another session, which has done these."""
        with psycopg.connect(self.url, application_name="psql of grace") as connection:
            for statement in statements:
                connection.execute(statement.encode())
            yield connection
            connection.rollback()


@pytest.fixture
def world(harness: Harness, url: str) -> Iterator[World]:
    world = World(harness, url)
    yield world
    harness.call(world.store.close)
    harness.call(world.queue.close)


def test_a_task_whose_row_another_session_has_locked(world: World) -> None:
    task = world.insert()
    with world.session(f"SELECT FROM fang.fang_tasks WHERE id = '{task.id}' FOR UPDATE") as other:
        told = world.explain(task)
        assert (told.cause, told.details["pid"]) == (Cause.LOCKED, other.info.backend_pid)
        assert "psql of grace" in told.text
        assert str(other.info.backend_pid) in told.remedy
        assert told.since is not None
        world.harness.call(world.queue.pause, "common")
        assert world.explain(task).cause is Cause.PAUSED  # which comes first
        world.harness.call(world.queue.resume, "common")
    assert world.explain(task).cause is Cause.STARTS_SOON


def test_a_session_that_has_locked_the_whole_table(world: World) -> None:
    tasks = [world.insert() for _ in range(2)]
    with world.session("LOCK TABLE fang.fang_tasks IN SHARE MODE") as other:
        for task in tasks:
            told = world.explain(task)
            assert (told.cause, told.details["pid"]) == (Cause.TABLE_LOCKED, other.info.backend_pid)
    assert world.explain(tasks[0]).cause is Cause.STARTS_SOON


def test_a_transaction_that_has_written_and_stays_open_is_named_once_it_is_old(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = world.insert()
    with world.session("CREATE TEMPORARY TABLE written AS SELECT 1") as other:
        assert world.explain(task).cause is Cause.STARTS_SOON
        monkeypatch.setattr("fang_core.monitoring.waiting._OPEN_FOR", timedelta(0))
        told = world.explain(task)
        assert (told.cause, told.details["pid"]) == (Cause.OLDER_TRANSACTION, other.info.backend_pid)


def test_pools_that_give_no_sign_of_life(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fang_core.monitoring.silence.SILENT_AFTER", DAY)  # a loaded machine may stand still for long
    harness, pool_id = world.harness, world.record.id
    heart = world.store.heart(True)
    held = world.insert()
    world.sql("UPDATE fang.fang_tasks SET state = 'in_progress', pool_id = %s, claimed_at = now()", pool_id)
    task = world.insert()
    try:
        assert harness.call(heart.beat, BeatRequest(pool_id)).registered
        assert [world.explain(each).cause for each in (held, task)] == [Cause.RUNNING, Cause.STARTS_SOON]
    finally:
        harness.call(heart.close)  # as the end of its process does, soon after
    eventually(lambda: world.explain(held).cause is Cause.HOLDER_SILENT)
    assert [world.explain(each).cause for each in (held, task)] == [Cause.HOLDER_SILENT, Cause.POOLS_SILENT]
    assert "fang worker" in world.explain(task).remedy
    # One that holds no lock has only what it tells.
    world.sql("UPDATE fang.fang_pools SET locks = false")
    harness.call(world.store.tell_live, pool_id, Live(0, 0))
    assert [world.explain(each).cause for each in (held, task)] == [Cause.RUNNING, Cause.STARTS_SOON]
    world.sql("UPDATE fang.fang_live SET at = now() - interval '2 days'")
    assert [world.explain(each).cause for each in (held, task)] == [Cause.HOLDER_SILENT, Cause.POOLS_SILENT]
    world.sql("UPDATE fang.fang_pools SET locks = false, beats = -1")
    world.sql("DELETE FROM fang.fang_live")
    assert [world.explain(each).cause for each in (held, task)] == [Cause.HOLDER_SILENT, Cause.POOLS_SILENT]


def test_a_type_whose_limits_are_being_changed(world: World) -> None:
    task = world.insert()
    world.sql("INSERT INTO fang.fang_types (task_type, settling_until) VALUES ('common', now() + interval '10 s')")
    told = world.explain(task)
    assert told.cause is Cause.SETTLING
    assert told.until is not None
    world.sql("UPDATE fang.fang_types SET settling_until = '-infinity', paused_until = 'infinity'")
    assert world.explain(task).cause is Cause.STARTS_SOON


def test_a_task_without_a_lane_in_a_type_with_limits(world: World) -> None:
    task = world.insert()
    world.sql("INSERT INTO fang.fang_types (task_type, max_running, changed) VALUES ('common', 5, '[]')")
    assert world.explain(task).cause is Cause.WITHOUT_LANE
    world.harness.call(world.store.adopt_all, "common")  # as the maintenance of a pool does
    assert world.explain(task).cause is Cause.STARTS_SOON


def test_when_such_a_task_was_run_last_if_no_pool_could_run_it_now(world: World) -> None:
    kind = world.record.kinds[0]
    unknown, unserved = world.insert(task_type="exports"), world.insert(task_type="mail")
    world.sql("UPDATE fang.fang_pools SET kinds = '{another}'")
    for task, cause in ((unknown, Cause.UNKNOWN_KIND), (unserved, Cause.UNSERVED_TYPE)):
        told = world.explain(task)
        assert (told.cause, told.details["served_at"]) == (cause, None)
    zeros = ", ".join(["0"] * 11)
    for span, age in ((60, "5 min"), (3_600, "3 hours")):
        for task_type in ("exports", "mail"):
            world.sql(
                f"INSERT INTO fang.fang_stats SELECT {span}, date_trunc('minute', now()) - interval '{age}',"
                f" gen_random_uuid(), '{task_type}', '{kind}', 1, {zeros}, '{{}}', '{{}}'"
            )
        for task in (unknown, unserved):
            told = world.explain(task)
            served = told.details["served_at"]
            assert timedelta(minutes=5) <= told.at - served < timedelta(minutes=10)
            assert "was run last at" in told.text


def test_what_somebody_has_written_into_the_tables_breaks_nothing(world: World) -> None:
    hostile = "\x1b[2J<script>\n" + "x" * 1_000
    task = world.insert(task_type="exports")
    running = world.insert()
    world.sql(
        "UPDATE fang.fang_tasks SET state = 'in_progress', pool_id = %s, claimed_at = now() WHERE id = %s",
        world.record.id,
        running.id,
    )
    runs = f'{{"{running.id}": {{"attempt": 0, "since": "never", "hung": 5, "progress": [1]}}}}'
    world.sql("UPDATE fang.fang_pools SET host = %s, runs = %s", hostile, runs)
    world.sql(
        "INSERT INTO fang.fang_live VALUES (%s, now(), 1, 0, %s)",
        world.record.id,
        f'[1, null, ["{running.id}", null, "x", 1], {{"a": 1}}]',
    )
    world.sql(
        "INSERT INTO fang.fang_types (task_type, paused, paused_by, pause_reason, paused_at, paused_until)"
        " VALUES ('exports', true, %s, %s, '-infinity', 'infinity')",
        hostile,
        hostile,
    )
    for told in (world.explain(task), world.explain(running)):
        assert told.text.isprintable()
        assert len(told.text) < 1_000


def test_a_role_that_may_not_see_other_sessions_hears_of_their_locks(world: World) -> None:
    task, role = world.insert(), f"explain_{uuid4().hex}"
    world.sql(f"CREATE ROLE {role} LOGIN")
    try:
        world.sql(grants(role, "status"))
        reader = world.harness.queue(make_url(world.url).set(username=role).render_as_string(hide_password=False))
        with world.session(f"SELECT FROM fang.fang_tasks WHERE id = '{task.id}' FOR UPDATE") as other:
            told = world.harness.call(reader.explain, task.id)
            assert (told.cause, told.details["pid"], told.since) == (Cause.LOCKED, other.info.backend_pid, None)
        world.harness.call(reader.close)
    finally:
        world.sql(f"DROP OWNED BY {role}")
        world.sql(f"DROP ROLE {role}")
