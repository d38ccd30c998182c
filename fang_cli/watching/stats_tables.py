"""Shows what pools have counted: throughput, the kinds that take most of the workers' time, task types; and what runs
now. For ``fang top`` and ``fang status``.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from fang_cli.json_text import plain
from fang_cli.tables import Number
from fang_cli.tasks.showing import progress_in_words
from fang_core.monitoring.problems import silence
from fang_core.monitoring.stats import KindStats, Stats, Times, TypeStats
from fang_core.record import LiveRun, PoolInfo
from fang_core.words.spans import span
from fang_core.words.texts import counted

Table = tuple[tuple[str, ...], list[tuple[object, ...]]]
"""The columns and the rows of a table."""

_MINUTE: Final = 60.0

# Throughput -----------------------------------------------------------------------------------------------------------


class Throughput(NamedTuple):
    """Says what became of runs in a range of time, all kinds together.

    Attributes:
        seconds: how long the range is.
        started, finished, retried, failed, cancelled: how many runs.
        utilisation: the part of the workers' time in which they were busy, 0 to 1; None if that is not known.
    """

    seconds: float
    started: int
    finished: int
    retried: int
    failed: int
    cancelled: int
    utilisation: float | None


def throughput(stats: Stats) -> Throughput:
    """Returns the throughput of a range."""
    sums = {name: sum(getattr(point, name) for point in stats.points) for name in Throughput._fields[1:6]}
    return Throughput(seconds=(stats.until - stats.since).total_seconds(), utilisation=stats.utilisation, **sums)


def throughput_as_object(stats: Stats) -> dict[str, Any]:
    """Returns the throughput of a range for JSON."""
    return {"since": plain(stats.since), "until": plain(stats.until), **plain(throughput(stats))}


def throughput_in_words(stats: Stats, asked: str) -> str:
    """Returns a line that says what became of the runs in a range, which was asked for in these words."""
    told = throughput(stats)
    runs = ", ".join(f"{getattr(told, name):,} {name}" for name in Throughput._fields[2:6] if getattr(told, name))
    busy = "" if told.utilisation is None else f"; workers were busy {told.utilisation:.0%} of their time"
    speed = speed_of(told.started, told.seconds)
    return f"in the last {asked}: {counted(told.started, 'run')} started, {speed}{f' ({runs})' if runs else ''}{busy}"


def speed_of(count: int, seconds: float) -> str:
    """Returns how many that is in a second or, if they are few, in a minute."""
    each = count / seconds if seconds > 0 else 0.0
    return f"{each:,.1f}/s" if each >= 1 else f"{each * _MINUTE:.3g}/min"


# Kinds ----------------------------------------------------------------------------------------------------------------


def kind_as_object(each: KindStats) -> dict[str, Any]:
    """Returns what is known of a kind for JSON."""
    return {**plain(each), "error_rate": each.error_rate}


def of_kinds(kinds: Sequence[KindStats], seconds: float) -> Table:
    """Returns a table of kinds, those that took most of the workers' time first."""
    columns = (
        *("kind", "task type", "share", "runs", "speed"),
        *("run p50", "run p95", "run p99", "queue p50", "queue p95", "errors"),
    )
    return columns, [
        (
            each.kind,
            each.task_type,
            f"{each.share:.0%}",
            Number(each.started, False),
            speed_of(each.started, seconds),
            *_spans(each.run, "p50", "p95", "p99"),
            *_spans(each.queue, "p50", "p95"),
            f"{each.error_rate:.1%}" if each.retried or each.failed else "",
        )
        for each in kinds
    ]


def _spans(times: Times, *quantiles: str) -> list[str]:
    """Returns these quantiles as words; nothing of what was never timed, since zero would read as very fast."""
    return [span(getattr(times, quantile)) if times.count else "" for quantile in quantiles]


# Task types -----------------------------------------------------------------------------------------------------------


def of_types(types: Iterable[TypeStats]) -> Table:
    """Returns a table of task types, those with the longest wait first."""
    columns = ("task type", "due", "oldest due for", "running", "workers", "")
    return columns, [
        (
            each.task_type,
            f"{each.due}{'' if each.due_is_exact else '+'}",
            "" if not each.due else span(each.oldest_due),
            Number(each.running, False),
            Number(each.workers, False),
            "paused" if each.paused else "not served" if each.due and not each.workers else "",
        )
        for each in sorted(types, key=lambda each: -each.oldest_due)
    ]


# What runs now --------------------------------------------------------------------------------------------------------


class Running(NamedTuple):
    """A run that goes on, for how long by now, and whether nothing is heard of its pool, so that it may be dead."""

    pool: PoolInfo
    run: LiveRun
    age: timedelta
    is_silent: bool


def running(pools: Iterable[PoolInfo], now: datetime) -> list[Running]:
    """Returns the runs that pools have told of, the longest first; ``now`` is by the backend's clock."""
    found = [
        Running(
            pool,
            run,
            timedelta(seconds=run.seconds) + max(timedelta(0), now - (pool.seen_at or now)),
            is_silent=silence(pool, now) is not None,
        )
        for pool in pools
        for run in pool.live
    ]
    return sorted(found, key=lambda each: each.age, reverse=True)


def running_as_object(each: Running) -> dict[str, Any]:
    """Returns a run for JSON, with its pool and for how long it has been going on by now."""
    return {
        **plain(each.run),
        "seconds": each.age.total_seconds(),
        "pool_id": str(each.pool.id),
        "silent": each.is_silent,
    }


def of_running(runs: Iterable[Running]) -> Table:
    """Returns a table of runs."""
    columns = ("runs now", "for", "attempt", "progress", "id", "pool")
    return columns, [
        (
            each.run.kind,
            span(each.age),
            Number(each.run.attempt, False),
            "" if each.run.progress is None else progress_in_words(each.run.progress),
            each.run.id,
            f"{each.pool.host} {each.pool.pid}" + (", silent" if each.is_silent else ""),
        )
        for each in runs
    ]
