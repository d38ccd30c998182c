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
from fang_cli.status import read_status
from fang_core import AsyncRunnable, RetentionMode, Runnable, TaskConfig, glance
from fang_core.errors import AccessRefused, UsageError
from fang_core.glance import Life
from fang_core.lifecycle import Outcome
from fang_core.liveness import Pulse
from fang_core.record import TaskState
from fang_core.store import ClaimRequest, PoolRecord, PruneRequest
from fang_postgres import migrate
from fang_postgres.grants import PRIVILEGES, Purpose, grants
from fang_postgres.reports import Reports
from fang_threaded.runner import run_on
from tests.modes import Side, eventually, ran

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


def of_web(side: Side, url: str) -> None:
    """What a web application does."""
    queue = side.queue(url)
    side.call(queue.open)
    task = side.call(queue.insert_task, side.note(n=1))
    side.call(queue.insert_task, side.note(n=2), uniq=True)
    assert side.call(queue.insert_task, side.note(n=2), uniq=True).conflict
    side.call(queue.insert_task, side.note(n=3), delay=DAY)
    side.call(queue.insert_tasks, [side.note(n=n) for n in range(4, 8)])
    side.call(queue.insert_tasks, [side.note(n=n) for n in range(4, 8)], uniq=True)
    side.call(queue.schedule_task, (Nightly if side.mode == "threaded" else AsyncNightly)())
    assert side.call(queue.find_task_by_id, task.id) == task
    side.call(queue.close)


def of_worker(side: Side, url: str) -> None:
    """What the services of a pool do, one after the other; and a change and a removal by hand."""
    queue = side.queue(url)
    store = side.call(queue.store)
    pool = PoolRecord(uuid4(), side.mode, "host", 1, ("common",), (side.note.__fang_options__.kind,), 1)
    heart = store.heart(True)
    try:
        side.call(store.register, pool)
        side.call(store.announce, pool.id, True)
        assert side.call(heart.beat, pool.id, False).registered
        side.call(queue.insert_tasks, [side.note(n=n) for n in range(3)])
        tasks = side.call(store.claim, ClaimRequest(pool.id, ("common",), pool.kinds, 3)).tasks
        ended = zip(tasks, (None, TaskState.FINISHED, TaskState.FAILED), strict=True)
        outcomes = [Outcome(task.id, task.attempt, state, error_message="no") for task, state in ended]
        assert len(side.call(store.complete, pool.id, outcomes)) == 3
        side.call(store.reconcile, pool.id, ())
        assert side.call(store.prune, PruneRequest(("common",), timedelta(0), timedelta(0), 10)) == 2
        side.call(store.sight, ["a schedule"])
        side.call(heart.rescue, [Pulse(pool.id, 1, True, False, DAY)])
        side.call(heart.rescue_orphans, 3)
        side.call(store.unregister, pool.id)
        task = side.call(queue.insert_task, side.note())
        side.call(queue.remove_task, side.call(queue.update_task_state, task, TaskState.CANCELLED).id)
        of_web(side, url)
    finally:
        side.call(heart.close)
        side.call(store.close)
        side.call(queue.close)


def of_status(side: Side, url: str) -> None:
    read_status(url, "fang")
    migrate.check(url)


WORK: Final[dict[Purpose, Callable[[Side, str], None]]] = {"web": of_web, "worker": of_worker, "status": of_status}


@pytest.mark.parametrize("purpose", WORK)
def test_the_rights_are_enough_and_none_is_too_much(side: Side, owner: Owner, purpose: Purpose) -> None:
    owner.grant(purpose)
    WORK[purpose](side, owner.url)
    for table, privileges in PRIVILEGES[purpose].items():
        for privilege in privileges:
            owner.run(f"REVOKE {privilege} ON fang.{table} FROM {{}}")
            with pytest.raises(AccessRefused, match="grant the role its rights on schema fang"):
                WORK[purpose](side, owner.url)
            owner.run(f"GRANT {privilege} ON fang.{table} TO {{}}")
    owner.run("REVOKE USAGE ON SCHEMA fang FROM {}")
    with pytest.raises(AccessRefused):
        WORK[purpose](side, owner.url)


def test_status_watches_the_beats_of_pools_whose_sessions_its_role_may_not_see(
    side: Side, owner: Owner, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "LONGEST", 20.0)  # on a loaded machine a beat may come late
    owner.grant("status")
    pool = side.pool(side.queue(url))
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


def test_status_needs_no_rights_on_the_view_of_sessions(side: Side, owner: Owner) -> None:
    owner.grant("status")
    owner.connection.execute("REVOKE SELECT ON pg_stat_activity FROM PUBLIC")  # in this database only
    assert read_status(owner.url, "fang").lives == {}


def test_a_web_application_wakes_a_pool_and_each_has_its_role(side: Side, owner: Owner) -> None:
    owner.grant("worker")
    queue = side.queue(owner.url)
    pool = side.pool(queue, number_of_workers=2, retention_mode=RetentionMode.KEEP_ALL)
    waits = "SELECT FROM fang.fang_pools WHERE waiting"
    eventually(lambda: owner.connection.execute(waits).fetchone() is not None)
    owner.run("CREATE ROLE t_web LOGIN")
    try:
        owner.connection.execute(grants("t_web", "web").encode())
        web = side.queue(make_url(owner.url).set(username="t_web").render_as_string(hide_password=False))
        side.call(web.insert_task, side.note(n=5))
        assert ran() == [5]  # it polls once an hour
        side.call(web.close)
        side.stop(pool)
    finally:
        owner.run("DROP OWNED BY t_web")
        owner.run("DROP ROLE t_web")


def test_the_command_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*arguments: str) -> str:
        assert not fang.main(["migrate", *arguments], standalone_mode=False)
        return capsys.readouterr().out

    assert printed("--grants", "app", "--for", "status", "--schema", "jobs") == (
        "-- for a role that only looks: fang status, fang migrate --check (--for status)\n"
        'GRANT USAGE ON SCHEMA "jobs" TO "app";\n'
        'GRANT SELECT ON "jobs".fang_alembic_version TO "app";\n'
        'GRANT SELECT ON "jobs".fang_tasks TO "app";\n'
        'GRANT SELECT ON "jobs".fang_pools TO "app";\n'
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
    with pytest.raises(UsageError, match=f"{name} is the name of no role"):
        grants(name)
