"""Stores with a defect in ticks of schedules."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from fang_core.backends.ticks import ScheduleState, Tick
from fang_core.backends.waking import SCHEDULES
from fang_core.conformance import TickSuite
from fang_core.schedules.stored import Verdict
from tests.conformance.broken.base import Broken

# Ticks of schedules in the database -----------------------------------------------------------------------------------


class SaysThatItTicked(Broken):
    """Whatever became of the tick."""

    caught_by = (
        TickSuite.test_a_tick_inserts_its_task_once,
        TickSuite.test_a_tick_of_a_schedule_that_has_changed_since_is_not_made,
        TickSuite.test_a_tick_ahead_is_not_made,
        TickSuite.test_a_tick_that_is_too_late_is_not_made,
        TickSuite.test_what_overlaps_is_skipped_until_the_last_task_has_ended,
        TickSuite.test_one_tick_waits_for_the_end_of_the_last_run,
        TickSuite.test_a_failure_of_the_last_task_pauses_the_schedule,
    )

    async def tick_stored(self, tick: Tick) -> Verdict:
        await self.whole.tick_stored(tick)
        return Verdict.TICKED


class NeverTicks(Broken):
    caught_by = (
        TickSuite.test_a_tick_inserts_its_task_once,
        TickSuite.test_jitter_moves_the_task_and_not_the_tick,
        TickSuite.test_the_last_task_is_cancelled_for_the_next_one,
        TickSuite.test_the_pool_of_the_task_to_cancel_is_told_at_once,
    )

    async def tick_stored(self, tick: Tick) -> Verdict:
        return Verdict.TICKED


class TicksFromAStaleTimetable(Broken):
    caught_by = (TickSuite.test_a_tick_of_a_schedule_that_has_changed_since_is_not_made,)

    async def tick_stored(self, tick: Tick) -> Verdict:
        state = await self.whole.read_schedules([], ["common"])
        changed_at = [info.changed_at for info in state.changed if info.name == tick.name]
        verdict: Verdict = await self.whole.tick_stored(tick._replace(changed_at=changed_at[0] if changed_at else None))
        return verdict


class TicksWithoutJitter(Broken):
    caught_by = (TickSuite.test_jitter_moves_the_task_and_not_the_tick,)

    async def tick_stored(self, tick: Tick) -> Verdict:
        verdict: Verdict = await self.whole.tick_stored(tick._replace(due=None))
        return verdict


class ReadsNoChange(Broken):
    caught_by = (TickSuite.test_pools_read_the_schedules_of_their_task_types_if_they_have_changed,)

    async def read_schedules(self, names: Sequence[str], task_types: Sequence[str], known: str) -> ScheduleState:
        state: ScheduleState = await self.whole.read_schedules(names, task_types, known)
        return state._replace(changed=None) if known else state


class ReadsAlways(ReadsNoChange):
    async def read_schedules(self, names: Sequence[str], task_types: Sequence[str], known: str) -> ScheduleState:
        state: ScheduleState = await self.whole.read_schedules(names, task_types, "")
        return state


class ReadsSchedulesOfAllTypes(ReadsNoChange):
    async def read_schedules(self, names: Sequence[str], task_types: Sequence[str], known: str) -> ScheduleState:
        state: ScheduleState = await self.whole.read_schedules(names, [*task_types, "elsewhere"], known)
        return state


class DeclaresNoSchedule(Broken):
    caught_by = (TickSuite.test_what_is_put_in_the_place_of_a_class_holds_until_it_is_removed,)

    async def declare_schedules(self, *_: Any) -> None:
        return None


class TicksClassesAsTheyAre(Broken):
    """Whatever a person has put in their place, and paused or not."""

    caught_by = (
        TickSuite.test_what_is_put_in_the_place_of_a_class_holds_until_it_is_removed,
        TickSuite.test_the_schedule_of_a_class_ticks_only_while_it_is_not_paused,
    )

    async def tick(self, tick: Tick) -> bool:
        await self.whole.tick(tick)
        return True


class TellsOfNoSchedule(Broken):
    caught_by = (TickSuite.test_pools_are_told_of_every_change,)

    async def listen(self, task_types: Sequence[str], on_wake: Any, on_told: Any, on_listen_lost: Any) -> None:
        def told(whom: UUID) -> None:
            if whom != SCHEDULES:
                on_told(whom)

        await self.whole.listen(task_types, on_wake, told, on_listen_lost)
