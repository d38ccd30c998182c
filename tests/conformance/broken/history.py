"""Stores and queues with a defect in the history of what pools have counted."""

import dataclasses
from datetime import timedelta
from typing import Any, cast
from uuid import UUID, uuid4

from fang_core.conformance import Backend, HistorySuite, StatsSuite
from fang_core.monitoring.history import Flush, Flushed, StatsRow
from fang_core.monitoring.stats import KindStats, Stats, TypeStats, times
from tests.conformance.broken.base import Broken, BrokenQueue, Whole

# History --------------------------------------------------------------------------------------------------------------


class AddsWhatIsFlushedAgain(Broken):
    caught_by = (
        HistorySuite.test_a_repeated_flush_changes_nothing,
        HistorySuite.test_a_flush_overwrites_its_own_rows_and_no_others,
    )

    async def flush_stats(self, writer: UUID, flush: Flush) -> Flushed:
        return cast(Flushed, await self.whole.flush_stats(uuid4(), flush))


class WritesToMinutesThatMayBeAddedUp(Broken):
    caught_by = (HistorySuite.test_a_minute_that_may_have_been_added_up_is_not_written_to,)

    async def flush_stats(self, writer: UUID, flush: Flush) -> Flushed:
        reply: Flushed = await self.whole.flush_stats(writer, flush)
        return reply._replace(is_written=True)


class WritesNoHistory(Broken):
    caught_by = (
        HistorySuite.test_a_flush_tells_the_time_and_is_read_as_it_was_written,
        StatsSuite.test_the_kinds_that_take_most_time_come_first,
        StatsSuite.test_only_the_kinds_and_types_that_were_asked_for_are_shown_with_their_share_of_all,
        StatsSuite.test_a_heat_map_has_the_times_of_a_kind_by_minute,
    )

    async def flush_stats(self, writer: UUID, flush: Flush) -> Flushed:
        return Flushed(await self.whole.tell_time(), True)


class AddsUpNothing(Broken):
    caught_by = (
        HistorySuite.test_it_does_no_more_at_once_than_it_was_asked_to,
        HistorySuite.test_old_minutes_and_hours_are_removed,
        StatsSuite.test_a_long_range_is_in_hours_and_the_minutes_since,
    )

    async def fold_stats(self, keep: timedelta | None, limit: int) -> int:
        return 0


class DropsWhatIsFolded(Broken):
    caught_by = (
        HistorySuite.test_adding_up_changes_no_sum,
        HistorySuite.test_a_minute_that_came_late_is_in_its_hour_all_the_same,
    )

    async def fold_stats(self, keep: timedelta | None, limit: int) -> int:
        return cast(int, await self.whole.fold_stats(timedelta(0), limit))


class ShowsAllKinds(BrokenQueue):
    """Whatever was asked for, and task types that are not there."""

    caught_by = (
        StatsSuite.test_without_pools_and_tasks_there_is_nothing,
        StatsSuite.test_only_the_kinds_and_types_that_were_asked_for_are_shown_with_their_share_of_all,
        StatsSuite.test_a_type_stands_as_its_tasks_and_pools_do,
        StatsSuite.test_a_pool_without_stats_counts_nothing,
        StatsSuite.test_what_cannot_be_asked_for,
        StatsSuite.test_a_pool_counts_its_runs_by_kind,
        StatsSuite.test_what_becomes_of_runs_is_counted,
    )

    @classmethod
    def wrap(cls, backend: Backend) -> None:
        inner = Whole(backend.queue).stats

        async def stats(*_: Any, **__: Any) -> Stats:
            found: Stats = await inner()
            kind = KindStats(
                task_type="t", kind="k", **dict.fromkeys(StatsRow._fields[:8], 0),
                queue=times(0.0, {}), run=times(0.0, {}), run_seconds=0.0, cpu_seconds=0.0, share=0.0,
            )  # fmt: skip
            no_type = TypeStats(
                task_type="common", due=0, due_is_exact=True, oldest_due=0.0, running=0, workers=0, paused=True
            )
            return dataclasses.replace(found, kinds=(*found.kinds, kind), types=(no_type,))

        backend.queue.stats = stats


class CountsWorkersOfSilentPools(BrokenQueue):
    """As if all pools whose records are there were alive."""

    caught_by = (StatsSuite.test_workers_of_a_pool_that_is_silent_do_not_count,)

    @classmethod
    def wrap(cls, backend: Backend) -> None:
        whole = Whole(backend.queue)
        read, list_pools = whole.stats, whole.pools

        async def stats(*arguments: Any, **options: Any) -> Stats:
            found: Stats = await read(*arguments, **options)
            pools = await list_pools()
            counted = (
                dataclasses.replace(each, workers=sum(p.workers for p in pools if each.task_type in p.task_types))
                for each in found.types
            )
            return dataclasses.replace(found, types=tuple(counted))

        backend.queue.stats = stats
