"""Makes what ``queue.stats()`` returns of sums of rows. It is pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from fang_core.errors import UsageError
from fang_core.monitoring.buckets import Histogram
from fang_core.monitoring.history import HOUR, MINUTE, NOTHING, POOL, Pair, StatsRow, hour_of, minute_of
from fang_core.monitoring.stats import HeatPoint, KindStats, Stats, StatsPoint, TypeStats, times
from fang_core.words.texts import is_storable

MINUTES_UP_TO: Final = timedelta(hours=2)
"""The longest range that is read from minutes: all histograms of a day of minutes took 768 ms, of hours 49."""

_LONGEST: Final = timedelta(days=36_525)
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Range:
    """Says which rows are asked for: those of the last ``lasts``, of these task types and kinds; None for all."""

    lasts: timedelta
    task_types: tuple[str, ...] | None = None
    kinds: tuple[str, ...] | None = None

    @property
    def span(self) -> int:
        """The seconds of a point: those of a minute, or of an hour if the range is long."""
        return HOUR if self.lasts > MINUTES_UP_TO else MINUTE

    def since(self, now: datetime) -> datetime:
        """Returns the start of the range."""
        begins = now - min(self.lasts, now - _FIRST)
        return hour_of(begins) if self.span == HOUR else minute_of(begins)

    def has(self, pair: Pair) -> bool:
        """Returns whether a row is asked for."""
        task_type, kind = pair
        return (
            pair != POOL
            and (self.task_types is None or task_type in self.task_types)
            and (self.kinds is None or kind in self.kinds)
        )


def checked_range(
    lasts: timedelta, task_types: str | Sequence[str] | None = None, kinds: str | Sequence[str] | None = None
) -> Range:
    """Returns the range. Raises ``UsageError`` for arguments that cannot be used."""
    if not isinstance(lasts, timedelta):
        raise UsageError(f"since must be a timedelta, not {type(lasts).__name__}")
    if not timedelta(0) < lasts <= _LONGEST:
        raise UsageError("since must be more than zero, and a hundred years at most")
    return Range(lasts, _names("task_types", task_types), _names("kinds", kinds))


def _names(name: str, value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else (value,)
    if not all(isinstance(each, str) and is_storable(each) for each in names):
        raise UsageError(f"{name}: give a name without NUL and lone surrogates, or several")
    return names


class Moment(NamedTuple):
    """Holds the sums of one minute or hour: of the rows asked for, and of the pools' own."""

    wanted: StatsRow = NOTHING
    pools: StatsRow = NOTHING


class Sums(NamedTuple):
    """Holds what was read of a range.

    Attributes:
        by_pair: the sums of each kind, including those that were not asked for.
        by_time: the sums of each minute or hour, and its seconds.
    """

    since: datetime
    until: datetime
    by_pair: Mapping[Pair, StatsRow]
    by_time: Mapping[tuple[datetime, int], Moment]
    types: Iterable[TypeStats]


def stats_of(asked: Range, sums: Sums) -> Stats:
    """Returns the stats of what was read."""
    pools = sums.by_pair.get(POOL, NOTHING)
    busy = sum(row.run_s for pair, row in sums.by_pair.items() if pair != POOL)
    kinds = [_kind(pair, row, busy) for pair, row in sums.by_pair.items() if asked.has(pair) and _says_something(row)]
    return Stats(
        since=sums.since,
        until=sums.until,
        kinds=tuple(sorted(kinds, key=lambda each: (-each.run_seconds, -each.started, each.task_type, each.kind))),
        types=tuple(sorted(sums.types, key=lambda each: each.task_type)),
        points=tuple(_point(*at, moment) for at, moment in sorted(sums.by_time.items())),
        utilisation=min(1.0, pools.run_s / pools.worker_s) if pools.worker_s else None,
    )


def _says_something(row: StatsRow) -> bool:
    return any(row[:8]) or row.run_s > 0


def _kind(pair: Pair, row: StatsRow, busy: float) -> KindStats:
    task_type, kind = pair
    return KindStats(
        task_type=task_type,
        kind=kind,
        **dict(zip(StatsRow._fields[:8], row[:8], strict=True)),
        queue=times(row.queue_s, row.queue),
        run=times(row.run_s, row.run),
        run_seconds=row.run_s,
        cpu_seconds=row.cpu_s,
        share=row.run_s / busy if busy else 0.0,
    )


def _point(at: datetime, seconds: int, moment: Moment) -> StatsPoint:
    counted = moment.wanted
    return StatsPoint(
        at=at,
        seconds=float(seconds),
        started=counted.started,
        finished=counted.finished,
        retried=counted.retried,
        failed=counted.failed,
        cancelled=counted.cancelled,
        run_seconds=counted.run_s,
        busy_seconds=moment.pools.run_s,
        worker_seconds=moment.pools.worker_s,
    )


def heat_of(found: Mapping[tuple[datetime, Pair], tuple[Histogram, Histogram]]) -> tuple[HeatPoint, ...]:
    """Returns the points of a heat map, in order, from the histograms of time in queue and of run."""
    return tuple(
        HeatPoint(at=at, kind=kind, task_type=task_type, queue=queue, run=run)
        for (at, (task_type, kind)), (queue, run) in sorted(found.items())
        if queue or run
    )
