"""Queues with a defect in ``queue.schedules``."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, ClassVar, cast
from uuid import UUID, uuid4

from fang_core.backends.ticks import ScheduleState
from fang_core.conformance import Backend, StoredScheduleSuite, TickSuite
from fang_core.errors import UnknownSchedule, UsageError
from fang_core.remarks import Remark, remark
from fang_core.schedules.schedule import Cron
from fang_core.schedules.stored import Backfill, Overlap, Schedules, ScheduleSpec, declaration
from fang_core.tasks.managing import Pause
from fang_core.tasks.scheduling import ScheduleCall
from tests.conformance.broken.base import HOUR, Broken, BrokenQueue, Whole

# Schedules ------------------------------------------------------------------------------------------------------------


class OtherCalls(BrokenQueue):
    """Carries out the calls of ``queue.schedules`` otherwise."""

    verb: ClassVar[str]

    @classmethod
    def wrap(cls, backend: Backend) -> None:
        whole = backend.queue._do_schedule

        async def do_async(call: ScheduleCall[Any], connection: Any) -> Any:
            if call.verb != cls.verb:
                return await whole(call, connection)
            call, connection = cls.other(call, connection)
            return cls.result(call, await whole(call, connection))

        def do(call: ScheduleCall[Any], connection: Any) -> Any:
            if call.verb != cls.verb:
                return whole(call, connection)
            call, connection = cls.other(call, connection)
            return cls.result(call, whole(call, connection))

        backend.queue._do_schedule = do_async if backend.mode == "async" else do

    @classmethod
    def other(cls, call: ScheduleCall[Any], connection: Any) -> tuple[ScheduleCall[Any], Any]:
        return call, connection

    @classmethod
    def result(cls, call: ScheduleCall[Any], result: Any) -> Any:
        return result


class TicksAheadByTheClassAlone(OtherCalls):
    """Inserts ticks ahead of their time as if nothing had been put in the place of the class's schedule."""

    verb = "list_all"
    caught_by = (
        StoredScheduleSuite.test_a_tick_that_is_inserted_ahead_is_that_of_what_was_put_in_place_of_a_classs_schedule,
    )

    @classmethod
    def result(cls, call: ScheduleCall[Any], result: Any) -> Any:
        return result._replace(infos=[])


class OtherArguments(OtherCalls):
    """Carries them out with other arguments."""

    @classmethod
    def other(cls, call: ScheduleCall[Any], connection: Any) -> tuple[ScheduleCall[Any], Any]:
        return call._replace(args=tuple(cls.argument(each, call) for each in call.args)), connection

    @classmethod
    def argument(cls, each: Any, call: ScheduleCall[Any]) -> Any:
        raise NotImplementedError


class ForgetsWhoPut(OtherArguments):
    caught_by = (StoredScheduleSuite.test_what_is_put_is_listed_with_who_put_it_and_why,)
    verb = "put"

    @classmethod
    def argument(cls, each: Any, call: ScheduleCall[Any]) -> Any:
        return remark(None, None) if isinstance(each, Remark) else each


class ForgetsWhoPaused(OtherArguments):
    caught_by = (StoredScheduleSuite.test_a_pause_says_who_and_why_and_ends_by_hand_or_by_itself,)
    verb = "pause"

    @classmethod
    def argument(cls, each: Any, call: ScheduleCall[Any]) -> Any:
        return each._replace(remark=remark(None, None)) if isinstance(each, Pause) else each


class PausesSchedulesForEver(OtherArguments):
    caught_by = (StoredScheduleSuite.test_a_pause_says_who_and_why_and_ends_by_hand_or_by_itself,)
    verb = "pause"

    @classmethod
    def argument(cls, each: Any, call: ScheduleCall[Any]) -> Any:
        return each._replace(lasts=None) if isinstance(each, Pause) else each


class PausesForACenturyMore(OtherArguments):
    caught_by = (StoredScheduleSuite.test_a_pause_until_a_time_that_has_passed_is_refused,)
    verb = "pause"

    @classmethod
    def argument(cls, each: Any, call: ScheduleCall[Any]) -> Any:
        if not isinstance(each, Pause) or each.until is None:
            return each
        return each._replace(until=each.until.replace(year=each.until.year + 100))


class HasOneScheduleForEachClass(OtherArguments):
    caught_by = (StoredScheduleSuite.test_a_class_has_many_schedules_with_arguments,)
    verb = "put"

    @classmethod
    def argument(cls, each: Any, call: ScheduleCall[Any]) -> Any:
        return each._replace(name="the only one") if isinstance(each, ScheduleSpec) else each


class RemovesAnother(OtherArguments):
    caught_by = (StoredScheduleSuite.test_remove_forgets_a_schedule_and_leaves_its_tasks,)
    verb = "remove"

    @classmethod
    def argument(cls, each: Any, call: ScheduleCall[Any]) -> Any:
        return f"{each} of another"


class BackfillsTheLatestAlone(OtherArguments):
    caught_by = (StoredScheduleSuite.test_backfill_inserts_each_tick_of_a_time_once,)
    verb = "backfill"

    @classmethod
    def argument(cls, each: Any, call: ScheduleCall[Any]) -> Any:
        return each._replace(overlap=Overlap.SKIP) if isinstance(each, Backfill) else each


class BackfillsAll(OtherArguments):
    caught_by = (StoredScheduleSuite.test_backfill_without_overlap_inserts_the_latest_tick,)
    verb = "backfill"

    @classmethod
    def argument(cls, each: Any, call: ScheduleCall[Any]) -> Any:
        return each._replace(overlap=Overlap.ALLOW) if isinstance(each, Backfill) else each


class BackfillsBesideWhatGoesOn(OtherArguments):
    caught_by = (
        TickSuite.test_a_backfill_that_inserts_nothing_cancels_nothing,
        TickSuite.test_a_backfill_refuses_to_cancel_a_unique_task_that_would_keep_the_next_one_out,
    )
    verb = "backfill"

    @classmethod
    def argument(cls, each: Any, call: ScheduleCall[Any]) -> Any:
        return each._replace(overlap=Overlap.ALLOW) if isinstance(each, Backfill) else each


class BackfillsAnHour(OtherArguments):
    caught_by = (StoredScheduleSuite.test_backfill_leaves_out_what_lies_ahead_and_refuses_what_is_too_much,)
    verb = "backfill"

    @classmethod
    def argument(cls, each: Any, call: ScheduleCall[Any]) -> Any:
        return each._replace(end=each.start + timedelta(hours=1)) if isinstance(each, Backfill) else each


class PutsInTransactionsOfItsOwn(OtherCalls):
    caught_by = (StoredScheduleSuite.test_what_is_put_is_committed_or_rolled_back_with_the_callers_transaction,)
    verb = "put"
    in_database = True

    @classmethod
    def other(cls, call: ScheduleCall[Any], connection: Any) -> tuple[ScheduleCall[Any], Any]:
        return call, None


class OtherSchedules(OtherCalls):
    """Returns each schedule with other values."""

    @classmethod
    def result(cls, call: ScheduleCall[Any], result: Any) -> Any:
        if isinstance(result, Schedules):
            return result._replace(infos=[info._replace(**cls.values(info, call)) for info in result.infos])
        return result._replace(**cls.values(result, call))

    @classmethod
    def values(cls, info: Any, call: ScheduleCall[Any]) -> dict[str, Any]:
        raise NotImplementedError


class ShowsEveryTickInUtc(OtherSchedules):
    caught_by = (StoredScheduleSuite.test_the_next_five_ticks_are_shown_in_the_zone_with_what_daylight_saving_does,)
    verb = "list_all"

    @classmethod
    def values(cls, info: Any, call: ScheduleCall[Any]) -> dict[str, Any]:
        return {"tz": "UTC"}


class SaysThatItPutWhatIsThere(OtherSchedules):
    caught_by = (StoredScheduleSuite.test_putting_the_same_again_changes_nothing_and_something_else_does,)
    verb = "put"

    @classmethod
    def values(cls, info: Any, call: ScheduleCall[Any]) -> dict[str, Any]:
        return {"changed_by": call.args[-1].by}


class SaysThatItResumedWhatGoesOn(SaysThatItPutWhatIsThere):
    caught_by = (StoredScheduleSuite.test_resuming_what_is_not_paused_changes_nothing,)
    verb = "resume"


class ForgetsOptionsThatWerePut(OtherSchedules):
    caught_by = (StoredScheduleSuite.test_a_schedule_is_put_anew_with_the_task_that_it_has,)
    verb = "put"

    @classmethod
    def values(cls, info: Any, call: ScheduleCall[Any]) -> dict[str, Any]:
        return {"options": {}} if isinstance(call.args[0].schedule, Cron) else {}


class BeginsAnewWithEachPut(OtherSchedules):
    caught_by = (StoredScheduleSuite.test_another_zone_begins_a_pattern_anew_and_shows_other_schedules_in_it,)
    verb = "put"

    @classmethod
    def values(cls, info: Any, call: ScheduleCall[Any]) -> dict[str, Any]:
        return {"last_tick": info.changed_at}


class EndsPausesWithPuts(OtherSchedules):
    caught_by = (StoredScheduleSuite.test_a_put_leaves_a_pause_as_it_is,)
    verb = "put"

    @classmethod
    def values(cls, info: Any, call: ScheduleCall[Any]) -> dict[str, Any]:
        return {"paused": False, "pause_reason": None}


class HasTheClassWin(OtherSchedules):
    caught_by = (StoredScheduleSuite.test_what_is_put_in_place_of_a_classs_schedule_wins_until_it_is_removed,)
    verb = "list_all"

    @classmethod
    def values(cls, info: Any, call: ScheduleCall[Any]) -> dict[str, Any]:
        return {} if info.declared is None else {"kind": None}


class NeverPausesClasses(OtherSchedules):
    caught_by = (StoredScheduleSuite.test_the_schedule_of_a_class_is_paused_and_run_like_others,)
    verb = "list_all"

    @classmethod
    def values(cls, info: Any, call: ScheduleCall[Any]) -> dict[str, Any]:
        return {} if info.is_stored else {"paused": False, "pause_reason": None}


class RunsWithoutATimeout(OtherSchedules):
    caught_by = (StoredScheduleSuite.test_run_now_inserts_a_task_that_is_due_with_the_options_of_the_schedule,)
    verb = "run_now"

    @classmethod
    def values(cls, info: Any, call: ScheduleCall[Any]) -> dict[str, Any]:
        return {"timeout": None}


class TakesATwinForANewTask(OtherSchedules):
    caught_by = (StoredScheduleSuite.test_run_now_of_a_unique_task_returns_the_one_that_is_there,)
    verb = "run_now"

    @classmethod
    def values(cls, info: Any, call: ScheduleCall[Any]) -> dict[str, Any]:
        return {"conflict": False}


class RunsTwiceWithOneId(OtherArguments):
    caught_by = (StoredScheduleSuite.test_run_now_that_is_repeated_with_an_id_inserts_one_task,)
    verb = "run_now"

    @classmethod
    def argument(cls, each: Any, call: ScheduleCall[Any]) -> Any:
        return uuid4() if isinstance(each, UUID) else each


class OwesTimesThatHadPassed(OtherSchedules):
    """Has a schedule begin before its only time, although that had passed when it was put."""

    caught_by = (StoredScheduleSuite.test_a_schedule_whose_only_time_has_passed_is_kept_and_makes_no_task,)
    verb = "put"

    @classmethod
    def values(cls, info: Any, call: ScheduleCall[Any]) -> dict[str, Any]:
        return {} if info.at is None else {"last_tick": min(info.last_tick, info.at - HOUR)}


class HasASlowClock(OtherCalls):
    caught_by = (StoredScheduleSuite.test_schedules_are_listed_in_the_order_of_their_next_ticks,)
    verb = "list_all"

    @classmethod
    def result(cls, call: ScheduleCall[Any], result: Any) -> Any:
        infos = [info._replace(last_tick=info.last_tick - timedelta(hours=3)) for info in result.infos]
        return Schedules(result.now - timedelta(hours=3), infos)


class PutsWhateverItIsTold(BrokenQueue):
    caught_by = (
        StoredScheduleSuite.test_what_cannot_be_put_is_refused_before_anything_is_written,
        StoredScheduleSuite.test_a_payload_that_cannot_be_stored_is_refused,
    )
    error: ClassVar[type[Exception]] = UsageError

    @classmethod
    def wrap(cls, backend: Backend) -> None:
        queue = type(backend.queue)

        class Careless(Whole):
            def __getattr__(self, name: str) -> Any:
                method = super().__getattr__(name)

                async def call(*args: Any, **options: Any) -> Any:
                    with suppress(cls.error):
                        return await method(*args, **options)

                return call

        careless = property(lambda self: Careless(queue.schedules.fget(self)))
        backend.queue.__class__ = type(queue.__name__, (queue,), {"schedules": careless})


class TellsNobodyOfWrongNames(PutsWhateverItIsTold):
    caught_by = (StoredScheduleSuite.test_a_name_that_is_not_there_is_told_with_those_that_are_near,)
    error = UnknownSchedule


class TakesWhatWasReadForDeclared(Broken):
    """Has a schedule for each class whose last tick a pool has read."""

    caught_by = (StoredScheduleSuite.test_a_schedule_of_a_class_that_no_pool_has_declared_is_unknown,)

    async def read_schedules(self, names: Sequence[str], task_types: Sequence[str], known: str) -> ScheduleState:
        kind = self.backend.yearly_note.__fang_options__.kind
        await self.whole.declare_schedules(dict.fromkeys(names, declaration(kind, "common", Cron("@yearly"))), ())
        return cast(ScheduleState, await self.whole.read_schedules(names, task_types, known))


class RepeatsDeclarationsAsIfTheyWereNews(Broken):
    caught_by = (TickSuite.test_what_is_declared_again_is_written_only_where_nothing_is,)

    async def declare_schedules(
        self, declared: Mapping[str, Mapping[str, str]], dropped: Sequence[str], again: bool = False
    ) -> None:
        await self.whole.declare_schedules(declared, dropped)
