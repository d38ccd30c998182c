"""Keeps what pools have counted: a hash for each minute and each hour, with a row for each writer, task type and kind.

``stats_rows`` decides which of them are added up, read and removed. No pool writes to a minute that is old enough to be
added up, so that doing it twice writes the same.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from pydantic_core import from_json

from fang_core.backends.json_forms import stats_as_json, stats_from_json
from fang_core.backends.stats_rows import (
    MERGED,
    Key,
    added_up,
    counts_workers,
    heat_of_rows,
    hours_to_fold,
    minutes_to_fold,
    oldest_kept,
    sums_of,
    type_stats,
    wanted,
)
from fang_core.monitoring.history import HOUR, LATEST_WRITE, MINUTE, POOL, Flush, Flushed, StatsRow, hour_of
from fang_core.monitoring.reading import Range, stats_of
from fang_core.monitoring.stats import HeatPoint, Stats, TypeStats
from fang_redis.connections.sending import Sending
from fang_redis.operations import Argument, Operation, Verb
from fang_redis.records import (
    UNREADABLE,
    as_json,
    microseconds,
    moment_in,
    moment_or_none,
    pairs,
    record_in,
    time_of,
    workers_in,
)

_AT_ONCE: Final = 10
"""How many minutes or hours one script reads."""

_REMOVED_AT_ONCE: Final = 100


class Spans(NamedTuple):
    """The minutes and hours of which there is something; ``is_open`` are those minutes that pools may still write to,
    or have written to since they were added up."""

    now: datetime
    minutes: list[datetime]
    hours: list[datetime]
    is_open: set[datetime]

    def keys(self) -> list[Key]:
        """Returns a key of each, of whatever row: of a minute that is not open, one that was added up."""
        minutes = [Key(MINUTE, at, _SOMEBODY if at in self.is_open else MERGED, POOL) for at in self.minutes]
        return [*minutes, *(Key(HOUR, at, MERGED, POOL) for at in self.hours)]


_SOMEBODY: Final = UUID(int=1)


class History:
    """The verbs on history, of pools and of queues."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending

    # What pools do ----------------------------------------------------------------------------------------------------

    def tell_time(self) -> Verb[datetime]:
        """See ``HistoryStore.tell_time``."""
        return (yield from self._sending.read(())).now

    def flush_stats(self, writer: UUID, flush: Flush, /) -> Verb[Flushed]:
        """See ``HistoryStore.flush_stats``."""
        return (yield from self.flush(writer, flush, LATEST_WRITE))

    def flush(self, writer: UUID, flush: Flush, latest: timedelta) -> Operation[Flushed]:
        """Writes rows of a minute that is not longer ago than this."""
        rows = _fields({Key(MINUTE, flush.minute, writer, pair): row for pair, row in flush.rows.items()})
        args: list[Argument] = [_seconds(flush.minute), microseconds(latest), *rows]
        return self._sending.script("flush", *args, parse=lambda reply: Flushed(time_of(reply[0]), bool(reply[1])))

    def fold_stats(self, keep: timedelta | None, limit: int, /) -> Verb[int]:
        """See ``HistoryStore.fold_stats``."""
        spans = yield from self._spans()
        minutes = minutes_to_fold(spans.keys(), spans.now, limit)
        for at in minutes:
            rows, read = yield from self._read([(MINUTE, at)])
            yield from self._fold(MINUTE, at, rows, read)
        hours = hours_to_fold(spans.keys(), spans.now, minutes, limit - len(minutes))
        for hour in hours:
            of_hour = [(MINUTE, at) for at in spans.minutes if hour_of(at) == hour]
            rows = yield from self._rows(of_hour)
            yield from self._fold(HOUR, hour, rows)
        oldest = oldest_kept(spans.now, keep)
        for span, since in ((MINUTE, oldest.minute), (HOUR, oldest.hour)):
            if since is not None:
                yield from self._sending.script("outdate", span, _seconds_up(since), _REMOVED_AT_ONCE)
        return len(minutes) + len(hours)

    def _fold(self, span: int, at: datetime, rows: "_Rows", read: int | None = None) -> Operation[Any]:
        added = _fields(added_up(span, at, rows))
        return self._sending.script("fold", span, _seconds(at), "" if read is None else read, *added)

    # What applications read -------------------------------------------------------------------------------------------

    def stats(self, asked: Range, /) -> Verb[Stats]:
        """See ``Verbs.stats``."""
        now, rows = yield from self._wanted(asked)
        types = yield from self._standing(asked)
        return stats_of(asked, sums_of(rows, asked, now, types))

    def heat_map(self, asked: Range, /) -> Verb[tuple[HeatPoint, ...]]:
        """See ``Verbs.heat_map``."""
        _, rows = yield from self._wanted(asked)
        return heat_of_rows(rows, asked)

    def _wanted(self, asked: Range) -> Verb[tuple[datetime, "_Rows"]]:
        now = (yield from self._sending.read(())).now
        spans = yield from self._spans(asked.since(now))
        keys = wanted(spans.keys(), asked, now)
        return now, (yield from self._rows([(key.span, key.at) for key in keys]))

    def _standing(self, asked: Range) -> Operation[list[TypeStats]]:
        return self._sending.script("standing", parse=lambda reply: list(_types_of(reply, asked)))

    # Both -------------------------------------------------------------------------------------------------------------

    def _spans(self, since: datetime | None = None) -> Operation[Spans]:
        return self._sending.script("spans", "-inf" if since is None else _seconds(since), parse=_spans_of)

    def _rows(self, spans: Sequence[tuple[int, datetime]]) -> Verb["_Rows"]:
        """Reads the rows of minutes and hours, some at a time."""
        rows, _ = yield from self._read(spans)
        return rows

    def _read(self, spans: Sequence[tuple[int, datetime]]) -> Verb[tuple["_Rows", int]]:
        """Returns also how many there are, with those that another client has spoilt."""
        rows: list[tuple[Key, StatsRow]] = []
        read = 0
        for start in range(0, len(spans), _AT_ONCE):
            some = spans[start : start + _AT_ONCE]
            replies = yield from self._sending.script("rows", *(f"{span}:{_seconds(at)}" for span, at in some))
            for (span, at), reply in zip(some, replies, strict=True):
                found = [_row_of(span, at, *each) for each in zip(reply[::2], reply[1::2], strict=True)]
                rows += filter(None, found)
                read += len(found)
        return rows, read


_Rows = list[tuple[Key, StatsRow]]


# What is written ------------------------------------------------------------------------------------------------------


def _seconds(at: datetime) -> int:
    return microseconds(at) // 1_000_000


def _seconds_up(at: datetime) -> int:
    return -(-microseconds(at) // 1_000_000)


def _fields(rows: Mapping[Key, StatsRow]) -> list[str]:
    """Returns the fields and values of rows of one minute or hour."""
    return [text for key, row in rows.items() for text in (as_json([str(key.writer), *key.pair]), stats_as_json(row))]


def _row_of(span: int, at: datetime, field: str, text: str) -> tuple[Key, StatsRow] | None:
    """Returns a row; None if another client has spoilt it."""
    try:
        writer, task_type, kind = from_json(field)
        return Key(span, at, UUID(writer), (task_type, kind)), stats_from_json(text)
    except UNREADABLE:
        return None


def _spans_of(reply: Sequence[Any]) -> Spans:
    now, minutes, hours, is_open = reply
    return Spans(time_of(now), _times(minutes), _times(hours), set(_times(is_open)))


def _times(texts: Iterable[str]) -> list[datetime]:
    return [at for text in texts if (at := moment_or_none(f"{text}000000")) is not None]


def _types_of(reply: Sequence[Any], asked: Range) -> Iterator[TypeStats]:
    at, pools, stopping, resized, live, *rows = reply
    now, workers, told = time_of(at), pairs(resized), pairs(live)
    working = [
        (record["task_types"], workers_in(workers.get(pool), record["workers"]))
        for pool, record in zip(pools[::2], map(record_in, pools[1::2]), strict=True)
        if record is not None
        and counts_workers(
            record["mode"],
            stopping=pool in stopping,
            told_at=moment_or_none(told.get(pool)),
            now=now,
        )
    ]
    for task_type, due, oldest, running, paused in rows:
        if asked.task_types is None or task_type in asked.task_types:
            yield type_stats(
                task_type,
                due=due,
                oldest_due=moment_in(oldest) if oldest else None,
                running=running,
                workers=sum(number for served, number in working if task_type in served),
                paused=bool(paused),
                now=now,
            )
