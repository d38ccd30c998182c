"""Shows pools and what runs in them; as JSON for programs, or as tables for people."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from fang_cli.json_text import plain
from fang_cli.tables import Number, print_table, seconds_of, stdout, time_of
from fang_cli.tasks.showing import progress_in_words
from fang_core.record import LiveRun, PoolInfo


class Running(NamedTuple):
    """A run that goes on, and for how long by now."""

    pool: PoolInfo
    run: LiveRun
    age: timedelta


def running(pools: Sequence[PoolInfo], now: datetime) -> list[Running]:
    """Returns the runs that pools have told of, the longest first."""
    found = [
        Running(pool, run, timedelta(seconds=run.seconds) + max(timedelta(0), now - (pool.seen_at or now)))
        for pool in pools
        for run in pool.live
    ]
    return sorted(found, key=lambda each: each.age, reverse=True)


def pool_as_object(pool: PoolInfo) -> dict[str, Any]:
    """Returns a pool for JSON."""
    kept_back = ("runs", "live")
    told = {name: plain(value) for name, value in pool._asdict().items() if name not in kept_back}
    return {**told, "live": [run_as_object(run) for run in pool.live]}


def run_as_object(run: LiveRun) -> dict[str, Any]:
    """Returns a run for JSON."""
    found: dict[str, Any] = plain(run)
    return found


def show_pools(pools: Sequence[PoolInfo], now: datetime) -> None:
    """Prints pools, and what runs in them now."""
    console = stdout()
    columns = ("id", "mode", "host", "pid", "task types", "workers", "busy", "waiting", "started", "told")
    rows = [
        (
            pool.id,
            f"{pool.mode}, stopping" if pool.stopping else pool.mode,
            pool.host,
            str(pool.pid),
            ", ".join(pool.task_types),
            Number(pool.workers, False),
            "" if pool.busy is None else f"{pool.busy:,}",
            "" if pool.waiting is None else f"{pool.waiting:,}",
            time_of(pool.started_at),
            "" if pool.seen_at is None else f"{seconds_of(max(timedelta(0), now - pool.seen_at))} ago",
        )
        for pool in pools
    ]
    print_table(console, "registered pools", columns, rows, most=None)
    print_table(console, "runs that go on for longer than a second", *of_running(running(pools, now)))


def of_running(runs: Sequence[Running]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Returns the columns and the rows of a table of runs."""
    columns = ("kind", "for", "attempt", "progress", "id", "pool")
    return columns, [
        (
            each.run.kind,
            seconds_of(each.age),
            Number(each.run.attempt, False),
            "" if each.run.progress is None else progress_in_words(each.run.progress),
            each.run.id,
            f"{each.pool.host} {each.pool.pid}",
        )
        for each in runs
    ]
