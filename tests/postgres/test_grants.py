"""The least rights of a web application and of a worker: all is done under them, and with one less something is not."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final, get_args
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from fang_cli.commands import fang
from fang_cli.watching.status import read_status
from fang_core import AsyncRunnable, Cause, Rate, RetentionMode, Runnable, Stop, TaskConfig, TaskFilter, Unique
from fang_core.backends.claims import ClaimRequest, LaneRequest
from fang_core.backends.pools import Declaration, Live, PoolRecord, PruneRequest
from fang_core.errors import AccessRefused, UnknownPool, UsageError
from fang_core.lifecycle import Outcome
from fang_core.liveness import BeatRequest, Pulse
from fang_core.monitoring.history import Flush, StatsRow
from fang_core.monitoring.life import Life
from fang_core.pool.telling import glance
from fang_core.record import TaskState
from fang_postgres import migrate
from fang_postgres.connections.diagnosis import diagnose
from fang_postgres.grants import FUNCTIONS, PRIVILEGES, Purpose, grants
from fang_postgres.reports.reports import Reports
from fang_threaded.database import run_on
from tests.modes import Harness, eventually, ran

ROLE: Final = 't "quoted" Role'
DAY: Final = timedelta(days=1)


class Nightly(Runnable):
    task_config = TaskConfig(kind="tests.Nightly", cron="0 3 * * *")

    def run(self, queue: Any) -> None: ...


class AsyncNightly(AsyncRunnable):
    task_config = TaskConfig(kind="tests.AsyncNightly", cron="0 3 * * *")

    async def run(self, queue: Any) -> None: ...


class Owner:
    """The owner of the tables, who grants and revokes."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self.url = make_url(url).set(username=ROLE).render_as_string(hide_password=False)
        """By which the role connects."""
        self.run("CREATE ROLE {} LOGIN")

    def run(self, statement: str) -> None:
        self.connection.execute(sql.SQL(statement).format(sql.Identifier(ROLE)))  # type: ignore[arg-type]

    def grant(self, purpose: Purpose) -> None:
        self.connection.execute(grants(ROLE, purpose).encode())

    def close(self) -> None:
        self.run("DROP OWNED BY {}")
        self.run("DROP ROLE {}")
        self.connection.close()


@pytest.fixture
def owner(url: str) -> Iterator[Owner]:
    owner = Owner(url)
    yield owner
    owner.close()


def of_web(harness: Harness, url: str) -> None:
    """What a web application does."""
    queue = harness.queue(url)
    harness.call(queue.open)
    task = harness.call(queue.insert_task, harness.note(n=1))
    harness.call(queue.insert_task, harness.note(n=2), uniq=True)
    assert harness.call(queue.insert_task, harness.note(n=2), uniq=True).conflict
    harness.call(queue.insert_task, harness.note(n=3), delay=DAY)
    harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(4, 8)])
    harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(4, 8)], uniq=True)
    of_uniques(harness, queue)
    harness.call(queue.schedule_task, (Nightly if harness.mode == "threaded" else AsyncNightly)())
    assert harness.call(queue.find_task_by_id, task.id) == task
    harness.call(queue.pools)
    harness.call(queue.close)


def of_uniques(harness: Harness, queue: Any) -> None:
    for uniq in (Unique(by="n", within=DAY), Unique(while_="waiting"), Unique(while_="always")):
        harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(8, 12)], uniq=uniq)
        assert harness.call(queue.insert_task, harness.note(n=8), uniq=uniq).conflict


def of_worker(harness: Harness, url: str) -> None:
    """What the services of a pool do, one after the other; and a change and a removal by hand."""
    do(
        url,
    )
    queue = harness.queue(url)
    store = harness.call(queue.store)
    pool = PoolRecord(uuid4(), harness.mode, "host", 1, ("common",), (harness.note.__fang_options__.kind,), 1)
    heart = store.heart(True)
    try:
        harness.call(store.register, pool)
        harness.call(store.set_waiting, pool.id, True)
        harness.call(store.tell_live, pool.id, Live(1, 0))
        assert (pool.id, 1) in [(info.id, info.busy) for info in harness.call(queue.pools)]
        harness.call(queue.control, pool.id, Stop())
        beat = harness.call(heart.beat, BeatRequest(pool.id))
        assert harness.call(heart.beat, BeatRequest(pool.id, handled=[beat.messages[0].id])).registered
        harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(3)])
        tasks = harness.call(store.claim, ClaimRequest(pool.id, ("common",), pool.kinds, 3)).tasks
        ended = zip(tasks, (None, TaskState.FINISHED, TaskState.FAILED), strict=True)
        outcomes = [Outcome(task.id, task.attempt, state, error_message="no") for task, state in ended]
        assert len(harness.call(store.complete, pool.id, outcomes)) == 3
        harness.call(store.reconcile, pool.id, ())
        assert harness.call(store.prune, PruneRequest(("common",), timedelta(0), timedelta(0), 10)) == 2
        flush = Flush(harness.call(store.tell_time), {("common", "A"): StatsRow(finished=1)})
        assert harness.call(store.flush_stats, pool.id, flush).is_written
        harness.call(store.fold_stats, DAY, 10)
        harness.call(queue.stats)
        harness.call(store.read_schedules, ["a schedule"])
        harness.call(heart.rescue, [Pulse(pool.id, 2, True, False, DAY)])
        harness.call(heart.rescue_orphans, 3)
        harness.call(store.unregister, pool.id)
        harness.call(queue.schedules.put, "nightly", harness.note(), cron="@daily")
        assert harness.call(queue.schedules.remove, "nightly")
        harness.call(queue.pause, "exports")
        harness.call(queue.limits.set, "exports", [Rate(10)])
        assert harness.call(queue.resume, "exports") == harness.call(queue.limits.list)[0]
        assert harness.call(queue.limits.remove, "exports") is None
        of_limited_type(harness, queue, store, pool)
        task = harness.call(queue.insert_task, harness.note())
        harness.call(queue.remove_task, harness.call(queue.update_task_state, task, TaskState.CANCELLED).id)
        of_web(harness, url)
    finally:
        harness.call(heart.close)
        harness.call(store.close)
        harness.call(queue.close)


def of_limited_type(harness: Harness, queue: Any, store: Any, pool: PoolRecord) -> None:
    """What a pool does with a type that has a rate for all of its tasks and one for each key."""
    rates = [{"rate": 1_000, "per": 1}, {"rate": 1_000, "per": 1, "by": "n"}]
    harness.call(store.register, pool._replace(id=(pool_id := uuid4())))
    harness.call(store.declare, [Declaration("limited", {pool.kinds[0]: rates})])
    harness.call(queue.insert_task, harness.note(), task_type="limited")
    assert len(harness.call(store.claim_lanes, LaneRequest(pool_id, "limited", pool.kinds, 1)).tasks) == 1
    harness.call(queue.fetch_and_touch_task, "limited")
    harness.call(store.prune, PruneRequest(("limited",), None, None, 10))
    harness.call(store.reconcile, pool_id, ())
    harness.call(store.unregister, pool_id)
    harness.call(store.declare, [Declaration("limited", {pool.kinds[0]: []})])
    harness.call(queue.remove_tasks_type, "limited")


def of_status(harness: Harness, url: str) -> None:
    read_status(url, "fang")
    migrate.check(url)
    do(url, "SELECT FROM fang.fang_scaling")
    queue = harness.queue(url)
    assert harness.call(queue.explain, uuid4()).cause is Cause.GONE
    harness.call(queue.list_tasks, TaskFilter(states=TaskState.FAILED))
    harness.call(queue.count_tasks)
    harness.call(queue.close)


def of_page(harness: Harness, url: str) -> None:
    """What the page does: all that people do by hand, and an audit row for each of it."""
    of_status(harness, url)
    do(
        url,
        "INSERT INTO fang.fang_audit (who, action, target) VALUES ('me', 'pause', 'exports')",
        "UPDATE fang.fang_audit SET result = 'done' WHERE who = 'me'",
    )
    queue = harness.queue(url)
    try:
        of_uniques(harness, queue)
        task = harness.call(queue.insert_task, harness.note())
        task = harness.call(queue.update_task, task, harness.note(n=1))
        every = TaskFilter(ids=[task.id])
        for call in (queue.cancel_tasks, queue.retry_tasks):
            assert harness.call(call, every) == 1
        task = harness.call(queue.find_task_by_id, task.id)
        harness.call(queue.remove_tasks, TaskFilter(states=TaskState.FINISHED))
        harness.call(queue.remove_task, harness.call(queue.update_task_state, task, TaskState.CANCELLED).id)
        harness.call(queue.schedules.put, "nightly", harness.note(), cron="@daily")
        harness.call(queue.schedules.remove, "nightly")
        with pytest.raises(UnknownPool):  # the server asks for rights before it looks for the pool
            harness.call(queue.control, uuid4(), Stop())
        harness.call(queue.pause, "exports")
        harness.call(queue.limits.set, "exports", [Rate(10)])
        harness.call(queue.limits.set, "exports", [Rate(20)])
        harness.call(queue.limits.remove, "exports")
        harness.call(queue.resume, "exports")
    finally:
        harness.call(queue.close)


def of_scaling(harness: Harness, url: str) -> None:
    do(url, "SELECT due FROM fang.fang_scaling")
    with pytest.raises(AccessRefused):
        do(url, "SELECT metadata FROM fang.fang_tasks")


def do(url: str, *statements: str) -> None:
    parts = make_url(url)
    where: dict[str, Any] = {**parts.translate_connect_args(username="user", database="dbname"), **parts.query}
    with psycopg.connect(**where) as connection:
        try:
            for statement in statements:
                connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege as error:
            raise diagnose(error.sqlstate, str(error), schema="fang") from None


WORK: Final[dict[Purpose, Callable[[Harness, str], None]]] = {
    "web": of_web,
    "worker": of_worker,
    "status": of_status,
    "page": of_page,
    "scaling": of_scaling,
}


@pytest.mark.parametrize("purpose", WORK)
def test_the_rights_are_enough_and_none_is_too_much(
    harness: Harness, owner: Owner, purpose: Purpose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fang_postgres.managing._UNSEEN", 0.0)  # it sees no sessions of others, and would wait for each
    owner.grant(purpose)
    WORK[purpose](harness, owner.url)
    for table, privileges in PRIVILEGES[purpose].items():
        for privilege in privileges:
            owner.run(f"REVOKE {privilege} ON fang.{table} FROM {{}}")
            with pytest.raises(AccessRefused, match="grant the role its rights on schema fang"):
                WORK[purpose](harness, owner.url)
            owner.run(f"GRANT {privilege} ON fang.{table} TO {{}}")
    for function in FUNCTIONS[purpose]:
        owner.run(f"REVOKE EXECUTE ON FUNCTION fang.{function} FROM {{}}")
        with pytest.raises(AccessRefused):
            WORK[purpose](harness, owner.url)
        owner.run(f"GRANT EXECUTE ON FUNCTION fang.{function} TO {{}}")
    owner.run("REVOKE USAGE ON SCHEMA fang FROM {}")
    with pytest.raises(AccessRefused):
        WORK[purpose](harness, owner.url)


def test_status_watches_the_beats_of_pools_whose_sessions_its_role_may_not_see(
    harness: Harness, owner: Owner, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "LONGEST", 20.0)  # on a loaded machine a beat may come late
    owner.grant("status")
    pool = harness.pool(harness.queue(url))
    eventually(lambda: owner.connection.execute("SELECT FROM fang.fang_pools WHERE locks").fetchone() is not None)
    with psycopg.connect(url, user=ROLE) as reader:
        look = run_on(reader, Reports("fang").look())
        assert look.beat.pulses[0].is_locked
        assert look.quiet == {}
        reader.rollback()
        owner.run("GRANT pg_read_all_stats TO {}")
        assert set(run_on(reader, Reports("fang").look()).quiet) == {pool.id}
        owner.run("REVOKE pg_read_all_stats FROM {}")
    assert read_status(owner.url, "fang").lives == {pool.id: Life.ALIVE}


def test_status_needs_no_rights_on_the_view_of_sessions(harness: Harness, owner: Owner) -> None:
    owner.grant("status")
    owner.connection.execute("REVOKE SELECT ON pg_stat_activity FROM PUBLIC")  # in this database only
    assert read_status(owner.url, "fang").lives == {}


def test_a_web_application_wakes_a_pool_and_each_has_its_role(harness: Harness, owner: Owner) -> None:
    owner.grant("worker")
    queue = harness.queue(owner.url)
    pool = harness.pool(queue, number_of_workers=2, retention_mode=RetentionMode.KEEP_ALL)
    waits = "SELECT FROM fang.fang_pools WHERE waiting"
    eventually(lambda: owner.connection.execute(waits).fetchone() is not None)
    owner.run("CREATE ROLE t_web LOGIN")
    try:
        owner.connection.execute(grants("t_web", "web").encode())
        web = harness.queue(make_url(owner.url).set(username="t_web").render_as_string(hide_password=False))
        harness.call(web.insert_task, harness.note(n=5))
        assert ran() == [5]  # it polls once an hour
        harness.call(web.close)
        harness.stop(pool)
    finally:
        owner.run("DROP OWNED BY t_web")
        owner.run("DROP ROLE t_web")


def test_the_command_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*arguments: str) -> str:
        assert not fang.main(["migrate", *arguments], standalone_mode=False)
        return capsys.readouterr().out

    assert printed("--grants", "app", "--for", "status", "--schema", "jobs") == (
        "-- for a role that only looks: fang status, fang why, fang pools, fang migrate --check (--for status)\n"
        'GRANT USAGE ON SCHEMA "jobs" TO "app";\n'
        'GRANT SELECT ON "jobs".fang_alembic_version TO "app";\n'
        'GRANT SELECT ON "jobs".fang_tasks TO "app";\n'
        'GRANT SELECT ON "jobs".fang_pools TO "app";\n'
        'GRANT SELECT ON "jobs".fang_schedules TO "app";\n'
        'GRANT SELECT ON "jobs".fang_types TO "app";\n'
        'GRANT SELECT ON "jobs".fang_turns TO "app";\n'
        'GRANT SELECT ON "jobs".fang_lanes TO "app";\n'
        'GRANT SELECT ON "jobs".fang_stats TO "app";\n'
        'GRANT SELECT ON "jobs".fang_live TO "app";\n'
        'GRANT SELECT ON "jobs".fang_scaling TO "app";\n'
    )
    assert printed("--grants", "app") == grants("app", "web") + "\n" + grants("app", "worker")
    assert set(get_args(Purpose)) == set(PRIVILEGES) == set(WORK)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--grants", ""),
        ("--grants", "a\nb"),
        ("--grants", "a", "--sql"),
        ("--grants", "a", "--check"),
        ("--for", "web"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(arguments: tuple[str, ...]) -> None:
    assert fang.main(["migrate", *arguments], standalone_mode=False) == 2


def test_a_role_needs_a_name() -> None:
    with pytest.raises(UsageError, match="needs a name"):
        grants("")


@pytest.mark.parametrize("name", ["public", "none"])
def test_no_role_has_a_name_that_postgres_keeps_for_itself(name: str) -> None:
    with pytest.raises(UsageError, match=f"no role can have the name {name}"):
        grants(name)
