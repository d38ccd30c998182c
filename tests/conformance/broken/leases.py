"""Hearts with a defect in judging, rescuing or telling of pools."""

from collections.abc import Sequence
from typing import ClassVar
from uuid import uuid4

from fang_core.backends.pools import Rescued
from fang_core.conformance import ControlSuite, LeaseSuite, WakeSuite
from fang_core.liveness import Beat, BeatRequest, Pulse
from tests.conformance.broken.base import BrokenHeart

# Hearts ---------------------------------------------------------------------------------------------------------------


class CountsNoBeats(BrokenHeart):
    caught_by = (LeaseSuite.test_a_beat_counts_and_is_seen_by_the_others,)

    async def beat(self, request: BeatRequest) -> Beat:
        beat: Beat = await self.whole.beat(request)
        return beat._replace(pulses=[pulse._replace(beats=1) for pulse in beat.pulses])


class GivesEachPoolOneLease(BrokenHeart):
    caught_by = (LeaseSuite.test_a_beat_counts_and_is_seen_by_the_others,)

    async def beat(self, request: BeatRequest) -> Beat:
        beat: Beat = await self.whole.beat(request)
        return beat._replace(pulses=[pulse._replace(lease=60.0) for pulse in beat.pulses])


class TellsNoPoolThatItIsGone(BrokenHeart):
    caught_by = (
        LeaseSuite.test_a_pool_without_a_record_is_told_so_and_seen_by_no_other,
        LeaseSuite.test_what_a_dead_pool_held_is_taken_back_and_its_record_goes,
        LeaseSuite.test_a_dead_pools_record_stays_until_the_last_of_its_tasks_can_be_taken_back,
    )

    async def beat(self, request: BeatRequest) -> Beat:
        beat: Beat = await self.whole.beat(request)
        return beat._replace(registered=True)


class NeverSaysThatItStops(BrokenHeart):
    caught_by = (LeaseSuite.test_each_row_of_the_crash_table_is_kept,)

    async def beat(self, request: BeatRequest) -> Beat:
        beat: Beat = await self.whole.beat(request._replace(stopping=False))
        return beat


class SeesNoFreeLock(BrokenHeart):
    caught_by = (
        LeaseSuite.test_the_end_of_a_process_shows_although_its_record_stays,
        LeaseSuite.test_a_watch_takes_a_pool_for_dead_that_is_and_no_other,
    )
    locked: ClassVar = True

    async def beat(self, request: BeatRequest) -> Beat:
        beat: Beat = await self.whole.beat(request)
        return beat._replace(pulses=[pulse._replace(is_locked=self.locked) for pulse in beat.pulses])


class SeesNoHeldLock(SeesNoFreeLock):
    locked = False


class RescuesNothing(BrokenHeart):
    caught_by = (
        LeaseSuite.test_what_a_dead_pool_held_is_taken_back_and_its_record_goes,
        LeaseSuite.test_each_row_of_the_crash_table_is_kept,
        ControlSuite.test_messages_to_a_dead_pool_end_with_it,
        WakeSuite.test_a_rescue_wakes_a_pool_that_waits,
    )

    async def rescue(self, dead: Sequence[Pulse]) -> list[Rescued]:
        return []


class RescuesFromTheLiving(BrokenHeart):
    """Although their counters have moved."""

    caught_by = (LeaseSuite.test_a_pool_whose_counter_has_moved_is_not_dead,)

    async def rescue(self, dead: Sequence[Pulse]) -> list[Rescued]:
        now: Beat = await self.whole.beat(BeatRequest(uuid4(), False))
        ids = {pulse.pool_id for pulse in dead}
        rescued: list[Rescued] = await self.whole.rescue([pulse for pulse in now.pulses if pulse.pool_id in ids])
        return rescued


class RescuesTwice(BrokenHeart):
    caught_by = (LeaseSuite.test_of_rescuers_at_the_same_time_each_task_has_one,)

    async def rescue(self, dead: Sequence[Pulse]) -> list[Rescued]:
        return 2 * await self.whole.rescue(dead)  # type: ignore[no-any-return]


class FindsNoOrphans(BrokenHeart):
    caught_by = (LeaseSuite.test_orphans_are_taken_back,)

    async def rescue_orphans(self, max_crashes: int) -> list[Rescued]:
        return []


class AllowsOrphansMoreCrashes(BrokenHeart):
    caught_by = (LeaseSuite.test_orphans_are_taken_back,)

    async def rescue_orphans(self, max_crashes: int) -> list[Rescued]:
        rescued: list[Rescued] = await self.whole.rescue_orphans(max_crashes + 1)
        return rescued
