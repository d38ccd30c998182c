"""Defines the counts of pools, as rows that can be added up, and makes a pool's own rows of a minute.

A pool never sends what has been added: it overwrites its own rows of a minute with that minute's totals. So a flush may
be repeated, after a reply that was lost, and changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from fang_core.monitoring.buckets import Histogram, merged

MINUTE: Final = 60
HOUR: Final = 3_600

LATEST_WRITE: Final = timedelta(minutes=4)
"""How old a minute may be, by the backend's clock, that a pool still writes to."""

MERGED_AFTER: Final = timedelta(minutes=5)
"""How old a minute is, at least, when the rows of all pools in it become one: no pool writes to it any more."""

KEPT_MINUTES: Final = timedelta(days=2)
"""How long minutes are kept; hours are kept for longer."""

Pair: TypeAlias = tuple[str, str]
"""A task type and a kind."""

POOL: Final[Pair] = ("", "")
"""The row of the pool itself, with the seconds that its workers were there and, as those of runs, busy."""


class StatsRow(NamedTuple):
    """Holds what was counted; ``KindStats`` says what the names mean.

    Attributes:
        queue_s, run_s, cpu_s, worker_s: sums of seconds.
        queue, run: histograms.
    """

    started: int = 0
    arrived: int = 0
    finished: int = 0
    retried: int = 0
    failed: int = 0
    cancelled: int = 0
    lost: int = 0
    rescued: int = 0
    queue_s: float = 0.0
    run_s: float = 0.0
    cpu_s: float = 0.0
    worker_s: float = 0.0
    queue: Histogram = MappingProxyType({})
    run: Histogram = MappingProxyType({})

    def plus(self, other: "StatsRow") -> "StatsRow":
        """Returns the sum of both."""
        sums: list[Any] = [mine + more for mine, more in zip(self[:12], other[:12], strict=True)]
        return StatsRow._make([*sums, merged((self.queue, other.queue)), merged((self.run, other.run))])

    def since(self, before: "StatsRow") -> "StatsRow":
        """Returns what has been added since; nothing of it is below zero.

        Counts that are read while runs end may be one too high, and are right the next time.
        """
        sums: list[Any] = [max(0, now - then) for now, then in zip(self[:12], before[:12], strict=True)]
        return StatsRow._make([*sums, _added(self.queue, before.queue), _added(self.run, before.run)])


NOTHING: Final = StatsRow()

Totals: TypeAlias = Mapping[Pair, StatsRow]


def _added(now: Histogram, then: Histogram) -> Histogram:
    if not then:
        return dict(now)
    return {index: count - then.get(index, 0) for index, count in now.items() if count > then.get(index, 0)}


class Flush(NamedTuple):
    """Has rows written under a minute, over those that the same writer has written there."""

    minute: datetime
    rows: Totals


class Flushed(NamedTuple):
    """Answers a flush.

    Attributes:
        now: the backend's clock.
        is_written: whether the rows were written; if not, their minute is too long ago.
    """

    now: datetime
    is_written: bool


class Minutes:
    """Decides what a pool writes under which minute. Pure: the totals since the pool began, and times, are arguments.

    The minute is that of the backend's clock, of which each reply tells; in between, the pool's monotonic clock goes
    on. It never goes back: if the backend's clock is set back, the pool stays on its minute until that has come.
    """

    def __init__(self) -> None:
        self._at: datetime | None = None
        self._told: tuple[datetime, float] | None = None
        self._closed: dict[Pair, StatsRow] = {}  # what the rows of former minutes hold
        self._written: dict[Pair, StatsRow] = {}  # what the rows of this minute hold, as far as is known
        self._sent: Flush | None = None  # while it is not known whether it was written

    @property
    def is_known(self) -> bool:
        """Returns whether the pool knows the backend's time."""
        return self._told is not None

    @property
    def is_unanswered(self) -> bool:
        """Returns whether it is not known of the last flush whether it was written: it must be repeated."""
        return self._sent is not None

    def heard(self, now: datetime, monotonic: float) -> None:
        """Notes the backend's clock."""
        self._told = (now, monotonic)

    def flush(self, totals: Totals, monotonic: float) -> Flush:
        """Returns what to write now; its rows are those that have changed since the last flush was written."""
        assert self._told is not None
        now = self._told[0] + timedelta(seconds=monotonic - self._told[1])
        minute = minute_of(now)
        if self._at is None:
            self._at = minute
        elif minute > self._at and self._sent is None:
            self._go_on_to(minute)
        rows = {pair: total.since(self._closed.get(pair, NOTHING)) for pair, total in totals.items()}
        changed = {pair: row for pair, row in rows.items() if row != self._written.get(pair, NOTHING)}
        if self._sent is not None:
            changed |= {pair: rows[pair] for pair in self._sent.rows}
        self._sent = Flush(self._at, changed)
        return self._sent

    def skipped(self) -> None:
        """Notes that the last flush was not sent."""
        self._sent = None

    def answered(self, reply: Flushed, monotonic: float) -> None:
        """Notes the reply to the last flush. If that was not written, its rows belong to the next minute."""
        assert self._sent is not None
        self.heard(reply.now, monotonic)
        if reply.is_written:
            self._written.update(self._sent.rows)
        else:
            self._go_on_to(minute_of(reply.now))
        self._sent = None

    def _go_on_to(self, minute: datetime) -> None:
        for pair, row in self._written.items():
            self._closed[pair] = self._closed.get(pair, NOTHING).plus(row)
        self._written = {}
        self._at = minute


def minute_of(time: datetime) -> datetime:
    """Returns the start of the minute, in UTC."""
    return time.astimezone(UTC).replace(second=0, microsecond=0)


def hour_of(time: datetime) -> datetime:
    """Returns the start of the hour, in UTC."""
    return minute_of(time).replace(minute=0)


def total(rows: Iterable[StatsRow]) -> StatsRow:
    """Returns the sum of rows."""
    found: Sequence[StatsRow] = list(rows)
    if not found:
        return NOTHING
    columns = list(zip(*found, strict=True))
    sums: list[Any] = [sum(column) for column in columns[:12]]
    return StatsRow._make([*sums, merged(columns[12]), merged(columns[13])])
