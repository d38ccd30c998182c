"""Faults inside the database: many rows (F30, F31), and counters at their ends (F32)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from tests.faults.registry import BOUND, SHORT, SUSPECTED, fault
from tests.faults.trial import MODES, Trial

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
