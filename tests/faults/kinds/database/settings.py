"""Faults inside the database: its settings (F25), and the errors of those who meet in it (F26)."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final
from uuid import uuid4

from sqlalchemy import make_url

from fang_core.errors import RowsLocked
from tests.faults.kinds.database.shared import TICKING, hold, relay, settle_but_for_ticks, until_said
from tests.faults.registry import BOUND, SHORT, fault
from tests.faults.trial import MODES, Trial

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
        hold(trial)
        survivors = trial.start(url=trial.url)
        for worker in doomed:
            trial.strike(worker, worker.kill, BOUND)
        trial.insert(40, deed=relay(trial))
        trial.insert(2 * len(doomed), deed="raise Exception")
        trial.insert(2 * len(doomed), deed="snooze once")
        trial.insert(len(doomed), uniq=True, name="unique")
        trial.insert(2_000)
        trial.open_gate()
        settle_but_for_ticks(trial)
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
    settle_but_for_ticks(trial, 120)
    until_said(trial, "other transactions used the same rows")
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
