"""Queues behind PgBouncer in transaction mode, with two sessions for all clients; it comes, goes and stands still."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any, Final

import psycopg
import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, make_url, text

import fang_async.connection
import fang_threaded.connection
from fang_cli.commands import fang
from fang_core.errors import AccessRefused, BackendError, NotConnected, OutcomeUnknown, StatementRefused
from fang_postgres.connections.connecting import GUARD, SETTINGS
from fang_postgres.planner_guard import AlwaysOn
from fang_postgres.statement import Operation, Statement
from fang_threaded import Queue, WorkerPool
from tests.faults.pgproxy import ReplyDropper
from tests.modes import GATES, Database, Harness, IdlePools, ThreadedNote, eventually, harness_of, ran
from tests.patience import PATIENT
from tests.pgbouncer import PgBouncer, pgbouncer

SETTINGS_THERE: Final = Operation(
    Statement("settings", text("SELECT name, setting FROM pg_settings WHERE name <> 'application_name'")), {}, dict
)
OURS: Final = {
    "transaction_isolation": "read committed",
    "transaction_read_only": "off",
    "client_encoding": "UTF8",
    "statement_timeout": "60000",
    "lock_timeout": "10000",
    "idle_in_transaction_session_timeout": "60000",
    "DateStyle": "ISO, DMY",
    "IntervalStyle": "postgres",
    "array_nulls": "on",
    "TimeZone": "UTC",
    "jit": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
}


@contextmanager
def both_sessions(bouncer: PgBouncer) -> Iterator[list["psycopg.Connection[Any]"]]:
    """Each in a transaction of another client's, so that no two are the same."""
    with ExitStack() as stack:
        clients = [psycopg.connect(bouncer.url, prepare_threshold=None) for _ in range(2)]
        yield [stack.enter_context(client) for client in clients]


def left_in(session: "psycopg.Connection[Any]") -> dict[str, Any]:
    """What clients can leave behind."""
    row = session.execute(
        "SELECT pg_backend_pid(), (SELECT jsonb_object_agg(name, setting) FROM pg_settings"
        "   WHERE name NOT IN ('application_name', 'client_encoding')),"
        " (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_listening_channels()),"
        " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
    ).fetchone()
    assert row is not None
    pid, settings, *counts = row
    return {"pid": pid, "settings": settings, "counts": counts}


def notes(harness: Harness, count: int) -> list[Any]:
    return [harness.note(n=n) for n in range(count)]


# What works -----------------------------------------------------------------------------------------------------------


def test_many_clients_share_few_sessions_and_leave_nothing_in_them(
    bouncer: PgBouncer, harness: Harness, database: Database
) -> None:
    """More clients than sessions work at once: applications that insert, one by one and many at once, and two pools."""
    with both_sessions(bouncer) as sessions:
        before = {each["pid"]: each for each in map(left_in, sessions)}
    queues = [harness.queue(bouncer.url, behind_pooler=True, max_pool_size=4) for _ in range(2)]
    pools = [harness.pool(queue, number_of_workers=8) for queue in queues]
    inserts = [harness.begin(queue.insert_tasks, notes(harness, 1_500)) for queue in queues]
    singles = [harness.begin(queues[n % 2].insert_task, harness.note(n=n)) for n in range(100)]
    uniques = [harness.begin(queues[n % 2].insert_task, harness.note(n=-1), uniq=True) for n in range(20)]
    for insert in [*inserts, *singles, *uniques]:
        insert.result(PATIENT)
    for pool in pools:
        harness.call(pool.drain)
    winners = [each.result().id for each in uniques if not each.result().conflict]
    numbers = ran(3_100 + len(winners))
    assert sorted(numbers) == sorted([*range(1_500), *range(1_500), *range(100), *([-1] * len(winners))])
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(0,)]
    with both_sessions(bouncer) as sessions:
        after = {each["pid"]: each for each in map(left_in, sessions)}
    assert after == before  # also: no other session was ever needed
    assert all(each["counts"] == [0, 0, 0] for each in after.values())


def test_an_operation_has_our_settings_whatever_the_session_has(
    bouncer: PgBouncer, harness: Harness, database: Database
) -> None:
    name = make_url(bouncer.url).database
    for setting in ("isolation = 'serializable'", "read_only = on"):
        database.execute(f"ALTER DATABASE {name} SET default_transaction_{setting}")
    for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        database.execute(f"ALTER DATABASE {name} SET {setting} = '1h'")
    for setting in ("DateStyle = 'German'", "IntervalStyle = 'sql_standard'", "array_nulls = off", "jit = on"):
        database.execute(f"ALTER DATABASE {name} SET {setting}")
    queue = harness.queue(bouncer.url, behind_pooler=True)
    harness.call(queue.open)
    store = harness.call(queue.store)
    for lent in (store._claims, store._writes):
        found = harness.call(lent.run, SETTINGS_THERE)
        assert {name: found[name] for name in OURS} == OURS
        guarded = harness.call(lent.run, SETTINGS_THERE, AlwaysOn())
        assert {name: guarded[name] for name in OURS | GUARD} == OURS | GUARD
        assert harness.call(lent.run, SETTINGS_THERE) == found
    harness.call(store.close)
    task = harness.call(queue.insert_task, harness.note())
    assert harness.call(queue.remove_task, task.id) == 1


def test_ours_are_all_there_are() -> None:
    """What is pinned for a session is pinned for a transaction, too, but for what ends idle sessions, which are the
    pooler's."""
    assert {name.replace("default_", "") for name in SETTINGS} - {"idle_session_timeout"} == set(OURS)


def test_a_transaction_of_the_callers_commits_or_rolls_back_with_the_insert(bouncer: PgBouncer) -> None:
    """One of the application's own, on its own engine behind the pooler; here with a pool on that engine as well."""
    engine = create_engine(
        make_url(bouncer.url).set(drivername="postgresql+psycopg"), connect_args={"prepare_threshold": None}
    )
    with Queue(engine, behind_pooler=True) as queue:
        with engine.begin() as connection:
            kept = queue.insert_task(ThreadedNote(n=1), connection=connection)
        with engine.connect() as connection:
            queue.insert_task(ThreadedNote(n=2), connection=connection)
            connection.rollback()
        assert queue.find_task_by_id(kept.id) is not None
        assert WorkerPool(queue).drain() == 1
        assert queue.fetch_and_touch_task() is None
    engine.dispose()
    with both_sessions(bouncer) as sessions:
        assert [left_in(session)["counts"] for session in sessions] == [[0, 0, 0]] * 2


def test_what_is_fetched_by_hand_is_held_without_a_lock(
    bouncer: PgBouncer, harness: Harness, database: Database
) -> None:
    queue = harness.queue(bouncer.url, behind_pooler=True)
    harness.call(queue.insert_task, harness.note())
    held = harness.call(queue.fetch_and_touch_task)
    assert database.rows("SELECT id FROM fang.fang_tasks WHERE state = 'in_progress'") == [(held.id,)]
    eventually(lambda: database.rows("SELECT beats > 1, locks FROM fang.fang_pools") == [(True, False)])
    harness.call(queue.remove_task, held.id)


def test_a_pool_polls_and_holds_no_lock_though_it_was_not_told(
    bouncer: PgBouncer, harness: Harness, database: Database
) -> None:
    pool = harness.pool(harness.queue(bouncer.url, behind_pooler=True))
    assert not pool.options.listen
    eventually(lambda: database.rows("SELECT beats > 1, locks, waiting FROM fang.fang_pools") == [(True, False, False)])
    assert database.listeners == []


def test_an_insert_through_it_wakes_who_listens_at_the_server(
    bouncer: PgBouncer, harness: Harness, url: str, idle_pools: IdlePools
) -> None:
    harness.pool(harness.queue(url))  # which would poll in an hour
    idle_pools.wait()
    harness.call(harness.queue(bouncer.url, behind_pooler=True).insert_task, harness.note(n=7))
    assert ran() == [7]


def test_the_command_goes_through_it(database_url: str) -> None:
    with pgbouncer(database_url) as bouncer:
        for words in (["migrate"], ["migrate", "--check"], ["status"]):
            result = CliRunner().invoke(fang, [*words, "--database-url", bouncer.url])
            assert result.exit_code == 0, result.output


def test_a_bulk_that_is_refused_leaves_nothing(bouncer: PgBouncer, harness: Harness, database: Database) -> None:
    """Its rows are pipelined; the connection is good for the next one."""
    database.execute("ALTER TABLE fang.fang_tasks ADD CONSTRAINT unlucky CHECK (metadata ->> 'n' <> '2500')")
    queue = harness.queue(bouncer.url, behind_pooler=True, max_pool_size=1)
    with pytest.raises(StatementRefused):
        harness.call(queue.insert_tasks, notes(harness, 4_000))
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(0,)]
    assert len(harness.call(queue.insert_tasks, notes(harness, 2_400))) == 2_400


# Who forgets the option -----------------------------------------------------------------------------------------------


def test_who_forgets_the_option_is_told(bouncer: PgBouncer, harness: Harness) -> None:
    queue = harness.queue(bouncer.url)
    with pytest.raises(AccessRefused, match=r"unsupported startup parameter.*behind_pooler=True") as refused:
        harness.call(queue.open)
    assert "\n" not in str(refused.value)


def test_who_forgets_it_where_settings_are_ignored_is_told(url: str, harness: Harness) -> None:
    """A common setting of PgBouncer lets connections of ours through: what they prepare is lost."""
    ignored = ",".join(["options", *(name for name in SETTINGS if name != "client_encoding")])
    with pgbouncer(url, ignore_startup_parameters=ignored) as bouncer:
        queue = harness.queue(bouncer.url, max_pool_size=1)
        for _ in range(10):
            harness.call(queue.insert_task, harness.note())
        with psycopg.connect(bouncer.url) as other:
            other.execute("SELECT")  # in a transaction, on the only session so far
            with pytest.raises(BackendError, match=r"does not exist.*behind_pooler=True"):
                harness.call(queue.insert_task, harness.note())
        harness.end()


# Trouble --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["pause", "reconnect", "restart"])
def test_workers_outlive_it(trouble: str, bouncer: PgBouncer, harness: Harness, url: str, database: Database) -> None:
    queue = harness.queue(bouncer.url, behind_pooler=True)
    harness.pool(queue, poll=timedelta(milliseconds=100), number_of_workers=4)
    harness.call(queue.insert_tasks, [harness.note(n=n, waits=True) for n in range(4)])
    eventually(lambda: database.rows("SELECT count(*) FROM fang.fang_tasks WHERE state = 'in_progress'") == [(4,)])
    match trouble:
        case "pause":
            bouncer.tell("PAUSE")
        case "reconnect":
            bouncer.tell("RECONNECT")
        case "restart":
            bouncer.stop()
    GATES["gate"].set()  # they end, and what came of them is to be written
    with Queue(url) as direct:
        direct.insert_tasks([harness.note(n=n) for n in range(4, 104)])
    match trouble:
        case "pause":
            bouncer.tell("RESUME")
        case "restart":
            bouncer.start()
    assert ran(104) == list(range(104))
    eventually(lambda: database.rows("SELECT count(*) FROM fang.fang_tasks") == [(0,)])
    assert database.rows("SELECT count(*) FROM fang.fang_pools") == [(1,)]


def test_what_waits_in_vain_for_a_session_was_not_written(url: str, harness: Harness) -> None:
    """No outcome is unknown while no COMMIT was sent."""
    with pgbouncer(url, query_wait_timeout=1) as bouncer:
        queue = harness.queue(bouncer.url, behind_pooler=True)
        harness.call(queue.open)
        bouncer.tell("PAUSE")
        for insert in (
            harness.begin(queue.insert_task, harness.note()),
            harness.begin(queue.insert_tasks, notes(harness, 2_000)),
        ):
            with pytest.raises(NotConnected, match="query_wait_timeout"):
                insert.result(PATIENT)
        bouncer.tell("RESUME")
        assert not harness.call(queue.insert_task, harness.note()).conflict
        harness.end()


def test_a_pause_is_given_up(bouncer: PgBouncer, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = harness.queue(bouncer.url, behind_pooler=True)
    harness.call(queue.open)
    bouncer.tell("PAUSE")
    with monkeypatch.context() as patch:
        for module in (fang_threaded.connection, fang_async.connection):
            patch.setattr(module, "ANSWER_WITHIN", 0.5)
        with pytest.raises(NotConnected, match="the connection is given up"):
            harness.call(queue.insert_task, harness.note())
    bouncer.tell("RESUME")
    assert harness.call(queue.insert_task, harness.note()) is not None


def test_what_is_cut_before_its_commit_was_not_written(
    bouncer: PgBouncer, harness: Harness, database: Database
) -> None:
    queue = harness.queue(bouncer.url, behind_pooler=True)
    harness.call(queue.open)
    with database.connection.transaction():
        database.execute("LOCK TABLE fang.fang_tasks IN ACCESS EXCLUSIVE MODE")
        insert = harness.begin(queue.insert_task, harness.note())
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        eventually(lambda: database.rows(waits) == [(1,)])
        bouncer.stop()
        with pytest.raises(NotConnected):
            insert.result(PATIENT)
    bouncer.start()
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(0,)]


def test_a_lost_reply_to_the_commit_is_an_unknown_outcome(
    bouncer: PgBouncer, harness: Harness, database: Database
) -> None:
    with ReplyDropper(bouncer.url) as dropper:
        queue = harness.queue(dropper.url, behind_pooler=True)
        harness.call(queue.open)
        dropper.drop(b"INSERT INTO fang.fang_tasks", 1)
        with pytest.raises(OutcomeUnknown) as unknown:
            harness.call(queue.insert_task, harness.note())
        assert [(id,) for id in unknown.value.ids] == database.rows("SELECT id FROM fang.fang_tasks")
        harness.end()


def test_a_pooler_that_is_full_or_gone_is_no_connection(url: str, harness: Harness) -> None:
    with pgbouncer(url, max_client_conn=2) as bouncer:
        clients = [psycopg.connect(bouncer.url) for _ in range(2)]
        queue = harness.queue(bouncer.url, behind_pooler=True)
        with pytest.raises(NotConnected, match="no more connections allowed"):
            harness.call(queue.open)
        for client in clients:
            client.close()
        harness.call(queue.open)
        bouncer.stop()
        for _ in range(2):
            with pytest.raises(NotConnected):
                harness.call(queue.insert_task, harness.note())
        harness.end()


def test_a_database_that_is_gone_behind_it_is_no_connection(server_url: str, harness: Harness) -> None:
    missing = make_url(server_url).set(database="missing").render_as_string(hide_password=False)
    with pgbouncer(missing, server_login_retry=1) as bouncer:
        queue = harness.queue(bouncer.url, behind_pooler=True)
        with pytest.raises(BackendError) as refused:
            harness.call(queue.open)
        assert re.search("missing|login|connect", str(refused.value))
        harness.end()


def test_a_cancelled_call_leaves_the_session_as_it_is(url: str, database: Database) -> None:
    """Its transaction is rolled back; asyncpg's own way would reset the session, which is another's as well."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 23"
    with pgbouncer(url, default_pool_size=1) as bouncer, harness_of("async") as harness:
        with psycopg.connect(bouncer.url, autocommit=True) as other:
            other.execute("SELECT pg_advisory_lock(23)")
        queue = harness.queue(bouncer.url, behind_pooler=True, max_pool_size=1)
        harness.call(queue.open)
        with database.connection.transaction():
            database.execute("LOCK TABLE fang.fang_tasks IN ACCESS EXCLUSIVE MODE")
            insert = harness.begin(queue.insert_task, harness.note())
            eventually(lambda: database.rows(waits) == [(1,)])
            insert.cancel()
            eventually(lambda: database.rows(waits) == [(0,)])
        harness.call(queue.insert_task, harness.note())
        assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(1,)]
        assert database.rows(locks) == [(1,)]
        harness.end()
