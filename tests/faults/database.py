"""Faults inside the database: F24 to F32."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import make_url

from fang_core.errors import BackendError, NotConnected, RowsLocked
from fang_embedded import EmbeddedPostgres
from fang_postgres import migrate
from tests.faults.registry import BOUND, SHORT, SHORT_LEASE, SUSPECTED, fault
from tests.faults.trial import MODES, Trial

CONNECTIONS: Final = 3
"""By which a queue's own may have grown meanwhile."""

TICKING: Final = "kind LIKE 'faults.Ticking%'"


def _relay(trial: Trial) -> str:
    """The deed that inserts for the own mode, or across."""
    return "relay across" if trial.mix == "mixed" else "relay"


def _hold(trial: Trial, gate: str = "gate") -> list[UUID]:
    """Two gated tasks for each worker. All of them run when it returns."""
    held = trial.insert(2 * len(trial.fleet.alive), gate=trial.gate(gate))
    trial.until(lambda: all(trial.starts(task) for task in held))
    return held


def _until_said(trial: Trial, words: str) -> None:
    """By every worker, in its log: and that its events were told of a failure."""
    for worker in trial.fleet.alive:
        trial.until(lambda worker=worker: words in worker.said() and "event: backend_failed" in worker.said())


def _settle_but_for_ticks(trial: Trial, within: float = 30) -> None:
    waiting = f"state IN ('new', 'retried', 'in_progress') AND NOT {TICKING}"
    trial.until(lambda: not trial.count(waiting), within)


# F24: connections -----------------------------------------------------------------------------------------------------

_OURS: Final = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'fang'"


def _connections(trial: Trial) -> int:
    number: int = trial.rows(f"SELECT count(*) {_OURS}")[0][0]
    return number


def _take_all(trial: Trial, others: ExitStack) -> None:
    """Also those that are kept for a superuser, which this is."""
    with suppress(psycopg.OperationalError):
        while True:
            others.enter_context(closing(psycopg.connect(trial.url)))


@fault("F24", "all connections of the server taken, past the lease, then freed", also=("I8", "I9", "I10"), given=SHORT)
def connections_used_up(trial: Trial) -> None:
    """What ran meanwhile is written afterwards, and not run again; an insert is told that nothing was sent."""
    workers = trial.start(2)
    held = _hold(trial)
    before, connected = [worker.vitals() for worker in workers], _connections(trial)
    with ExitStack() as others:
        while _connections(trial):
            trial.rows(f"SELECT pg_terminate_backend(pid) {_OURS}")
            _take_all(trial, others)
        trial.open_gate()
        with pytest.raises(NotConnected):
            trial.insert()
        _until_said(trial, "too many clients")
        time.sleep(1.5 * SHORT_LEASE)
    freed = time.monotonic()
    trial.expect(trial.insert(len(workers)), freed, BOUND)
    trial.settle()
    assert trial.starts() == len(held) + len(workers), "a task ran again"
    assert _connections(trial) <= connected + CONNECTIONS * len(workers)
    for worker, vitals in zip(workers, before, strict=True):
        assert worker.exit_code is None
        assert worker.vitals().descriptors <= vitals.descriptors + CONNECTIONS, "descriptors were left open"
        trial.until(lambda worker=worker, vitals=vitals: worker.vitals().threads <= vitals.threads + 1)
    for worker in workers[len(MODES[trial.mix]) :]:
        worker.kill()
    for worker in workers[: len(MODES[trial.mix])]:
        trial.assert_slots(worker)


@fault(
    "F24 one connection",
    "a connection pool of one connection, and sixteen workers that insert in their runs",
    quick=True,
    also=("I8", "I9"),
    given={"workers": 16, "max_pool_size": 1},
)
def reserve_of_one(trial: Trial) -> None:
    workers = trial.start()
    trial.insert(200, deed=_relay(trial))
    trial.settle()
    assert trial.starts() == 400, "each relays to another, and none ran twice"
    assert _connections(trial) <= 4 * len(workers), "for claims, for writes, a heart, and a listener"
    for worker in workers:
        trial.assert_slots(worker, slots=16)


# F25: settings --------------------------------------------------------------------------------------------------------

HARMLESS: Final = {
    "default_transaction_isolation": "serializable",
    "search_path": "",
    "TimeZone": "Asia/Kathmandu",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "array_nulls": "on",
}
"""With these a pool works on an engine of the application's as well."""

HOSTILE: Final = {
    **HARMLESS,
    "statement_timeout": "1ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1ms",
    "idle_session_timeout": "100ms",
    "default_transaction_read_only": "on",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "array_nulls": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_indexscan": "off",
    "jit_above_cost": "0",
}


@contextmanager
def _role(trial: Trial, settings: dict[str, str], *, of_database: bool) -> Iterator[None]:
    """All who connect do so as a role that has these settings, or whose database has them."""
    name = f"app_{uuid4().hex[:12]}"
    trial.database.execute(f"CREATE ROLE {name} LOGIN SUPERUSER".encode())
    whose = f'DATABASE "{make_url(trial.url).database}"' if of_database else f"ROLE {name}"
    for setting, value in settings.items():
        trial.database.execute(f"ALTER {whose} SET {setting} = '{value}'".encode())
    plain, trial.url = trial.url, make_url(trial.url).set(username=name).render_as_string(hide_password=False)
    try:
        yield
    finally:
        trial.url = plain
        trial.fleet.close()
        trial.database.execute(f"ALTER {whose} RESET ALL".encode())
        trial.database.execute(f"DROP ROLE {name}".encode())


def _live_under(trial: Trial, settings: dict[str, str], *, of_database: bool = False) -> None:
    """All that a pool does: claims, failures, inserts of runs, ticks, unique tasks, a rescue, a stop."""
    with _role(trial, settings, of_database=of_database):
        doomed = trial.start(url=trial.url)
        _hold(trial)
        survivors = trial.start(url=trial.url)
        for worker in doomed:
            trial.strike(worker, worker.kill, BOUND)
        trial.insert(40, deed=_relay(trial))
        trial.insert(2 * len(doomed), deed="raise Exception")
        trial.insert(2 * len(doomed), deed="snooze once")
        trial.insert(len(doomed), uniq=True, name="unique")
        trial.insert(2_000)
        trial.open_gate()
        _settle_but_for_ticks(trial)
        ticked = f"SELECT count(*) FROM audit.tasks WHERE {TICKING} AND became IS NULL"
        trial.until(lambda: trial.rows(ticked)[0][0] >= 2)
        assert trial.fleet.stop() == [0] * len(survivors)


@fault("F25", "a role with hostile settings: timeouts, read only, styles", quick=True, given={**SHORT, "ticks": True})
def hostile_role(trial: Trial) -> None:
    _live_under(trial, HOSTILE)


@fault("F25 of the database", "the same settings of the whole database", given={**SHORT, "ticks": True})
def hostile_database(trial: Trial) -> None:
    _live_under(trial, HOSTILE, of_database=True)


@fault(
    "F25 on an Engine",
    "settings that a pool stands on an engine of the application's",
    modes=("threaded",),
    given={**SHORT, "ticks": True, "shared_engine": True},
)
def hostile_role_of_an_engine(trial: Trial) -> None:
    _live_under(trial, HARMLESS)


# F26: deadlocks and serialization errors ------------------------------------------------------------------------------

_BY_CHANCE: Final = """
    CREATE FUNCTION audit.by_chance() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF random() < TG_ARGV[0]::float8 AND current_setting('application_name') <> 'by hand' THEN
            RAISE EXCEPTION 'by chance'
                USING ERRCODE = (ARRAY['40001', '40P01', '55P03'])[1 + floor(3 * random())::int];
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER by_chance BEFORE INSERT OR UPDATE OR DELETE ON fang.fang_tasks
        FOR EACH STATEMENT EXECUTE FUNCTION audit.by_chance(0.5);
    CREATE TRIGGER by_chance BEFORE INSERT OR UPDATE OR DELETE ON fang.fang_pools
        FOR EACH STATEMENT EXECUTE FUNCTION audit.by_chance(0.2);
    CREATE TRIGGER by_chance BEFORE INSERT OR UPDATE OR DELETE ON fang.fang_schedules
        FOR EACH STATEMENT EXECUTE FUNCTION audit.by_chance(0.5);
    CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT OR UPDATE OR DELETE ON fang.fang_tasks
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit.by_chance(0.01);
"""


@fault(
    "F26",
    "deadlocks and serialization failures at random: on inserts, claims, completions, beats, ticks, at COMMIT",
    also=("I8", "I10"),
    given={"ticks": True},
)
def raise_by_chance(trial: Trial) -> None:
    """Tried again, or told that nothing was written: which is true."""
    name = make_url(trial.url).database
    trial.database.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'serializable'".encode())
    workers = trial.start()
    trial.database.execute(_BY_CHANCE.encode())
    for number in range(40):
        for options in ({"name": str(number), "uniq": number % 2 == 0}, {"deed": "raise Exception"}):
            with suppress(RowsLocked):
                trial.insert(len(MODES[trial.mix]), **options)
    # Two of three times that 33 outcomes are written at once, it fails; ten times in a row, in 30 s, once in 90 trials.
    _settle_but_for_ticks(trial, 120)
    _until_said(trial, "other transactions used the same rows")
    for trigger, table in (
        ("by_chance", "pools"),
        ("by_chance", "schedules"),
        ("by_chance", "tasks"),
        ("at_commit", "tasks"),
    ):
        trial.database.execute(f"DROP TRIGGER {trigger} ON fang.fang_{table}".encode())
    there = f"SELECT DISTINCT task_id FROM audit.tasks WHERE was IS NULL AND NOT {TICKING}"
    told = {acknowledged.task for acknowledged in trial.record().acknowledgements}
    assert {task for (task,) in trial.rows(there)} == told, "an insert stands that was said not to"
    ticks = f"SELECT count(*), count(DISTINCT (kind, due)) FROM audit.tasks WHERE was IS NULL AND {TICKING}"
    trial.until(lambda: trial.rows(ticks)[0][0] > len(workers))
    assert trial.rows("SELECT count(*) FROM audit.tasks WHERE new_crashes > 0") == [(0,)], "one was taken for dead"
    trial.fleet.stop()
    made, different = trial.rows(ticks)[0]
    assert made == different, "a tick was inserted twice"


# F27: no room ---------------------------------------------------------------------------------------------------------

_LONG: Final = os.urandom(900).hex()
"""Too long for many rows of a page, and too short to be put elsewhere."""

_TABLES: Final = ("fang_tasks", "fang_pools", "fang_schedules")


@contextmanager
def _mounted(room: str) -> Iterator[str]:
    """A small file system of its own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o711)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room},mode=711", "tmpfs", directory], check=True)
        try:
            yield directory
        finally:
            subprocess.run(["umount", "-l", directory], check=True)


@contextmanager
def _small_disk(trial: Trial) -> Iterator[Path]:
    """The tables lie on a file system with little room; what fills it."""
    owner = Path(trial.rows("SHOW data_directory")[0][0]).stat()
    with _mounted("24m") as directory:
        there = Path(directory, "tables")
        there.mkdir(mode=0o700)
        os.chown(there, owner.st_uid, owner.st_gid)
        name = f"small_{uuid4().hex[:12]}"
        trial.database.execute(f"CREATE TABLESPACE {name} LOCATION '{there}'".encode())
        _move(trial, name)
        yield Path(directory, "filler")
        _move(trial, "pg_default")
        trial.database.execute(f"DROP TABLESPACE {name}".encode())


def _move(trial: Trial, tablespace: str) -> None:
    for table in _TABLES:
        trial.database.execute(f"ALTER TABLE fang.{table} SET TABLESPACE {tablespace}".encode())
    indexes = trial.rows(
        "SELECT indexname FROM pg_indexes WHERE schemaname = 'fang' AND tablename = ANY(%s)", list(_TABLES)
    )
    for (index,) in indexes:
        trial.database.execute(f"ALTER INDEX fang.{index} SET TABLESPACE {tablespace}".encode())


def _fill(filler: Path) -> None:
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        for size in (1 << 20, 1 << 12):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


@fault("F27", "the disk of the tables is full, past the lease, then has room again", also=("I8", "I10"), given=SHORT)
def disk_full(trial: Trial) -> None:
    """Where this may not mount a small file system, a trigger says the same of every write to the tasks."""
    workers = trial.start()
    with ExitStack() as room:
        filler = room.enter_context(_small_disk(trial)) if os.geteuid() == 0 else None
        trial.insert(4 * len(workers), gate=trial.gate())
        trial.until(lambda: trial.starts() == 4 * len(workers))
        trial.insert(100, name=_LONG)  # their claims, which write them anew, need room
        if filler is not None:
            _fill(filler)
        else:
            trial.database.execute(_FULL.encode())
        trial.open_gate()
        refused = 0
        ended = time.monotonic() + 1.5 * SHORT_LEASE
        while time.monotonic() < ended or not refused:
            refused += _is_refused(trial)
        # Pages that are there already have some room, and more when rows go: perhaps that was enough for the claims.
        if trial.count("state IN ('new', 'retried')"):
            _until_said(trial, "53100")
        if filler is not None:
            filler.unlink()
        else:
            trial.database.execute(b"DROP TRIGGER no_room ON fang.fang_tasks")
        freed = time.monotonic()
        trial.expect(trial.insert(len(workers)), freed, BOUND)
        trial.settle()
    for worker in workers:
        trial.assert_slots(worker)


def _is_refused(trial: Trial) -> bool:
    try:
        trial.insert(20, name=_LONG)
    except BackendError as error:
        if "53100" not in str(error) or "nothing was written" not in str(error):
            raise
        return True
    return False


_FULL: Final = """
    CREATE FUNCTION audit.no_room() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;
    CREATE TRIGGER no_room BEFORE INSERT OR UPDATE OR DELETE ON fang.fang_tasks
        FOR EACH STATEMENT EXECUTE FUNCTION audit.no_room();
"""


@fault(
    "F27 of the WAL",
    "no room for the WAL: the server ends itself, until there is room again",
    also=("I8", "I10"),
    given=SHORT,
)
def no_room_for_wal(trial: Trial) -> None:
    """Where this may not mount a small file system, the server is killed instead."""
    filler = Path(trial.lasting.enter_context(_mounted("160m")), "filler") if os.geteuid() == 0 else None
    settings = {"search_path": "public", "max_wal_size": "48MB", "min_wal_size": "32MB"}
    there = None if filler is None else filler.with_name("cluster")
    server = trial.lasting.enter_context(EmbeddedPostgres(durable=False, directory=there, settings=settings))
    migrate.upgrade(server.url)
    trial.move(server.url)
    workers = trial.start()
    held = _hold(trial)
    if filler is not None:
        _fill(filler)
        with suppress(psycopg.OperationalError):
            while True:  # without a table, whose growth would be refused first
                trial.database.execute("SELECT pg_logical_emit_message(false, 'faults', repeat('x', 1000000))")
    else:
        os.kill(server.pid, signal.SIGQUIT)
    trial.open_gate()
    _until_said(trial, "the database does not answer")
    time.sleep(1.5 * SHORT_LEASE)
    if filler is not None:
        filler.unlink()
    server.restart("immediate")
    trial.look_again()
    up = time.monotonic()
    trial.expect(trial.insert(len(workers)), up, BOUND)
    trial.settle()
    assert all(trial.starts(task) == 1 for task in held), "a task ran again"
    for worker in workers:
        trial.assert_slots(worker)


# F28: locks and DDL ---------------------------------------------------------------------------------------------------


def _lock(trial: Trial, *tables: str) -> None:
    """For longer than a statement waits for a lock, in which the runs that are held end."""
    workers = trial.start(2)
    held = _hold(trial)
    with trial.database.transaction():
        _lock_now(trial, tables)
        trial.open_gate()
        _until_said(trial, "event: backend_failed")
        time.sleep(SHORT_LEASE)
    freed = time.monotonic()
    trial.expect(trial.insert(len(workers)), freed, BOUND)
    trial.settle()
    assert trial.starts() == len(held) + len(workers), "a task ran again"
    for worker in workers[len(MODES[trial.mix]) :]:
        worker.kill()
    for worker in workers[: len(MODES[trial.mix])]:
        trial.assert_slots(worker)


def _lock_now(trial: Trial, tables: Sequence[str]) -> None:
    """Takes one lock after the other, as a migration does; and again, where a statement of a pool had taken two of them
    the other way round, and the server chose this session to end the deadlock."""
    while True:
        try:
            with trial.database.transaction():
                for table in tables:
                    trial.database.execute(f"LOCK TABLE fang.{table} IN ACCESS EXCLUSIVE MODE".encode())
        except psycopg.errors.DeadlockDetected:
            continue
        return


@fault(
    "F28 tasks", "the table of tasks locked, past the lease and the wait for a lock", also=("I8", "I10"), given=SHORT
)
def tasks_locked(trial: Trial) -> None:
    _lock(trial, "fang_tasks")


@fault("F28 pools", "the table of pools locked, past the lease", also=("I8", "I10"), given=SHORT)
def pools_locked(trial: Trial) -> None:
    """No heart beats: and nobody is taken for dead for it."""
    _lock(trial, "fang_pools")


@fault("F28 all", "all tables locked, past the lease", also=("I8", "I10"), given=SHORT)
def all_locked(trial: Trial) -> None:
    _lock(trial, *_TABLES)


DDL: Final = (
    "ALTER TABLE fang.fang_tasks ADD COLUMN extra int DEFAULT 7",
    "VACUUM FULL fang.fang_tasks",
    "CREATE INDEX extra ON fang.fang_tasks (extra)",
    "REINDEX TABLE fang.fang_tasks",
    "REINDEX TABLE CONCURRENTLY fang.fang_tasks",
    "CLUSTER fang.fang_tasks USING fang_tasks_pkey",
    "ALTER TABLE fang.fang_tasks ALTER COLUMN retries TYPE bigint, ALTER COLUMN crashes TYPE int",
    "ALTER TABLE fang.fang_tasks ALTER COLUMN retries TYPE int, ALTER COLUMN crashes TYPE smallint",
    "ALTER TABLE fang.fang_tasks DROP COLUMN extra",
    "VACUUM FULL fang.fang_pools",
    "DISCARD ALL",
    "ANALYZE",
)


@fault("F28 DDL", "VACUUM FULL, ALTER TABLE, CREATE INDEX, REINDEX, CLUSTER while working", quick=True, also=("I8",))
def change_tables(trial: Trial) -> None:
    workers = trial.start(2)
    inserted = 0
    for statement in DDL:
        inserted += len(trial.insert(40, seconds=0.005))
        trial.database.execute(statement.encode())
        inserted += len(trial.insert(len(workers)))
    trial.settle()
    assert trial.starts() == inserted, "a task ran again"
    assert all(worker.exit_code is None for worker in workers)


# F29: migrations, and hands -------------------------------------------------------------------------------------------


@fault("F29 migrations", "fang migrate again and again, back by a revision and forth, while pools work", also=("I8",))
def migrate_while_working(trial: Trial) -> None:
    workers = trial.start(2)
    inserted = len(trial.insert(100, seconds=0.01))
    for _ in range(5):
        migrate.upgrade(trial.url)
        inserted += len(trial.insert(20, seconds=0.01))
    _downgrade(trial, "0001")
    _until_said(trial, "run `fang migrate`")  # who are of this version
    migrate.upgrade(trial.url)
    upgraded = time.monotonic()
    after = trial.insert(20, seconds=0.01)
    trial.expect(after, upgraded, BOUND)
    trial.settle()
    assert trial.starts() == inserted + len(after), "a task ran again"
    assert all(worker.exit_code is None for worker in workers)


def _downgrade(trial: Trial, revision: str) -> None:
    """It needs all tables to itself, and pools lock some in another order: a deadlock is said, and it is tried anew."""
    for _ in range(10):
        with suppress(RowsLocked):
            migrate.downgrade(trial.url, revision=revision)
            return
    raise AssertionError("ten downgrades met a deadlock")


def some(limit: int, *states: str) -> str:
    """So many random rows in one of these states, as the end of a statement."""
    names = ", ".join(f"'{state}'" for state in states)
    return f"WHERE id IN (SELECT id FROM fang.fang_tasks WHERE state IN ({names}) ORDER BY random() LIMIT {limit})"


_FREED: Final = "pool_id = NULL, claimed_at = NULL, updated_at = now()"
EDITS: Final = (
    f"UPDATE fang.fang_tasks SET state = 'new', {_FREED} {some(3, 'in_progress')}",
    f"UPDATE fang.fang_tasks SET state = 'retried', scheduled_at = now() + '1 s', {_FREED} {some(3, 'in_progress')}",
    f"UPDATE fang.fang_tasks SET state = 'finished', {_FREED} {some(1, 'in_progress')}",
    f"UPDATE fang.fang_tasks SET state = 'cancelled', {_FREED} {some(1, 'new')}",
    f"UPDATE fang.fang_tasks SET state = 'in_progress', attempt = attempt + 5 {some(1, 'in_progress')}",
    f"UPDATE fang.fang_tasks SET scheduled_at = '0001-01-03 00:00:00+00' {some(3, 'new', 'retried')}",
    f"UPDATE fang.fang_tasks SET scheduled_at = now() - interval '1 hour', priority = 2 {some(3, 'new', 'retried')}",
    f"UPDATE fang.fang_tasks SET scheduled_at = now() + interval '1 s', priority = -2 {some(3, 'new', 'retried')}",
    f"UPDATE fang.fang_tasks SET retries = 7, crashes = 1 {some(3, 'new', 'retried', 'in_progress')}",
    f"DELETE FROM fang.fang_tasks {some(1, 'new', 'retried')}",
    f"DELETE FROM fang.fang_tasks {some(1, 'in_progress')}",
)


@fault("F29 edits", "rows changed and removed by hand while working", also=("I8", "I10"), given=SHORT)
def edit_by_hand(trial: Trial) -> None:
    workers = trial.start()
    for _ in range(60):
        trial.insert(5, seconds=0.05)
        for edit in trial.chance.sample(EDITS, 2):
            trial.database.execute(edit.encode())
    trial.insert(20, seconds=0.05)
    trial.settle(within=60)
    for worker in workers:
        trial.until(lambda worker=worker: "no longer holds it" in worker.said())
        trial.assert_slots(worker)


_TRUNCATED: Final = """
    CREATE FUNCTION audit.of_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO audit.tasks (task_id, was, became, attempt, pool_id, retries, crashes, max_retries, kind, due)
        SELECT id, state, NULL, attempt, pool_id, retries, crashes, coalesce(max_retries, 20), kind, scheduled_at
        FROM fang.fang_tasks;
        RETURN NULL;
    END $$;
    CREATE TRIGGER audit_truncate BEFORE TRUNCATE ON fang.fang_tasks EXECUTE FUNCTION audit.of_truncate();
"""


@fault("F29 TRUNCATE", "the table of tasks emptied while working", quick=True, also=("I8", "I10"))
def truncate(trial: Trial) -> None:
    trial.database.execute(_TRUNCATED.encode())
    workers = trial.start()
    for number in range(3):
        _hold(trial, f"gate-{number}")
        trial.insert(50)
        trial.database.execute(b"TRUNCATE fang.fang_tasks")
        trial.open_gate(f"gate-{number}")
        after = time.monotonic()
        trial.expect(trial.insert(20), after, BOUND)
        trial.settle()
    for worker in workers:
        trial.until(lambda worker=worker: "no longer holds it" in worker.said())
        trial.assert_slots(worker)


# F30, F31: volume -----------------------------------------------------------------------------------------------------

_MANY: Final = """
    INSERT INTO fang.fang_tasks (metadata, scheduled_at)
    SELECT jsonb_build_object('type', CASE n %% 2 WHEN 0 THEN 'faults.Blocking' ELSE 'faults.Cooperative' END),
        now() + n * %s::interval
    FROM generate_series(1, %s) AS n
"""


@contextmanager
def _unseen(trial: Trial) -> Iterator[psycopg.Connection[Any]]:
    """A session in which no trigger fires: rows that never run need no audit."""
    with psycopg.connect(trial.url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        yield connection


def _keep_unanalyzed(trial: Trial) -> None:
    trial.database.execute(b"ALTER TABLE fang.fang_tasks SET (autovacuum_enabled = off)")


def _blocks(trial: Trial) -> int:
    """Of the table and its indexes, looked at so far by processes that have ended."""
    trial.rows("SELECT pg_stat_clear_snapshot()")
    looked = "heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit"
    number: int = trial.rows(f"SELECT {looked} FROM pg_statio_user_tables WHERE relname = 'fang_tasks'")[0][0]
    return number


def _bury(trial: Trial, dead: int, tasks: int) -> None:
    """Dead rows, due before all others, that nobody may clear away: the first claim of a pool passes them, and those
    that follow do not look at them again, but for the look-backs, which are bounded."""
    _keep_unanalyzed(trial)
    with psycopg.connect(trial.url) as snapshot:
        snapshot.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        snapshot.execute("SELECT 1")
        with _unseen(trial) as connection:
            connection.execute(_MANY, ("-1 ms", dead))
            connection.execute("DELETE FROM fang.fang_tasks")
        spent, inserted = [], 0
        gone = "SELECT count(*) FROM audit.tasks WHERE became IS NULL"
        for count in (1, tasks):
            before = _blocks(trial)
            trial.start()
            for _ in range(count):
                inserted += len(trial.insert(len(MODES[trial.mix])))
                trial.until(
                    lambda inserted=inserted: trial.rows(gone) == [(inserted,)]
                )  # to count tasks is to read all
            trial.fleet.stop()
            spent.append(_blocks(trial) - before)
        once, often = spent
        assert once > dead / 100, f"the first claim did not meet the dead: {once} blocks"
        print(f"    blocks for the first: {once}, for {tasks}: {often}", flush=True)
        # To pass the dead for each task, a third of the first claims' cost, would be far beyond this.
        assert often < 6 * once, f"{tasks} tasks cost {often} blocks, and the first one {once}"


@fault("F30", "a million dead rows under a pinned xmin: each claim but the first is cheap")
def dead_rows(trial: Trial) -> None:
    _bury(trial, 1_000_000, 200)


@fault("F30 in small", "50,000 dead rows under a pinned xmin")
def few_dead_rows(trial: Trial) -> None:
    _bury(trial, 50_000, 40)


def _pile_up(trial: Trial, future: int, due: int, bound: float) -> None:
    """Statistics know of no row."""
    _keep_unanalyzed(trial)
    with _unseen(trial) as connection:
        connection.execute(_MANY, ("1 s", future // 2))
        connection.execute("UPDATE fang.fang_tasks SET scheduled_at = scheduled_at + interval '1 hour'")
        tasks = trial.insert(due)
        connection.execute(_MANY, ("1 hour", future // 2))
    trial.start()
    since = time.monotonic()
    trial.expect(tasks, since, bound)
    more = trial.insert(len(MODES[trial.mix]))
    trial.expect(more, since, bound)
    waiting = "state IN ('retried', 'in_progress') OR state = 'new' AND scheduled_at < now()"
    trial.until(lambda: not trial.count(waiting), within=bound)
    assert trial.starts() == due + len(more), "a task ran twice, or too soon"


@fault("F31", "900,000 rows of backlog in the future, 20,000 due among them, never analyzed: these run")
def backlog(trial: Trial) -> None:
    _pile_up(trial, 900_000, 20_000, bound=90)


@fault("F31 in small", "50,000 rows of backlog, most of them in the future, never analyzed", quick=True)
def small_backlog(trial: Trial) -> None:
    _pile_up(trial, 48_000, 2_000, bound=20)


# F32: counters --------------------------------------------------------------------------------------------------------


@fault("F32", "retries, their limit, and crashes at the largest numbers, and a worker that dies", given=SHORT)
def counters_at_their_limits(trial: Trial) -> None:
    """They end, and what was held beside them too."""
    doomed = trial.start()
    held = trial.insert(4 * len(doomed), gate=trial.gate())
    limits = (
        "retries = 2147483647, max_retries = 2147483647, crashes = 1",
        "retries = 2147483646, max_retries = 2147483647",
        "retries = 0, max_retries = 0, crashes = 1",
    )
    trial.until(lambda: trial.starts() == len(held))
    for number, task in enumerate(held):
        if limit := (*limits, "")[number // len(MODES[trial.mix]) % 4]:
            trial.rows(f"UPDATE fang.fang_tasks SET {limit} WHERE id = %s RETURNING 1", task)
    trial.start()
    for worker in doomed:
        trial.strike(worker, worker.kill, BOUND + SUSPECTED)
    trial.open_gate()
    trial.settle()
