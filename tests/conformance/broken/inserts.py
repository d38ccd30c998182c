"""Queues whose inserts have a defect: in the options that they store, or in what they take for unique."""

import dataclasses
import inspect
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import uuid4

from fang_core.backends.claims import Claim, ClaimRequest
from fang_core.conformance import Backend, OptionSuite, UniquenessSuite
from fang_core.record import Task
from fang_core.tasks.uniqueness import Unique
from tests.conformance.broken.base import HOUR, Broken, BrokenQueue, InsertsOtherwise, without


class ForgetsHeaders(InsertsOtherwise):
    caught_by = (OptionSuite.test_what_an_insert_says_is_in_the_row_and_reaches_every_run,)

    @classmethod
    def other(cls, options: dict[str, Any]) -> dict[str, Any]:
        return without(options, "headers")


class ForgetsTimeout(InsertsOtherwise):
    caught_by = (OptionSuite.test_what_an_insert_says_is_in_the_row_and_reaches_every_run,)

    @classmethod
    def other(cls, options: dict[str, Any]) -> dict[str, Any]:
        return without(options, "timeout")


class ForgetsExpiry(InsertsOtherwise):
    caught_by = (
        OptionSuite.test_what_an_insert_says_is_in_the_row_and_reaches_every_run,
        OptionSuite.test_an_expired_task_is_cancelled_without_a_run,
    )

    @classmethod
    def other(cls, options: dict[str, Any]) -> dict[str, Any]:
        return without(options, "expires")


class CountsExpiryFromTheInsert(InsertsOtherwise):
    caught_by = (OptionSuite.test_a_task_expires_so_long_after_it_is_due_or_at_the_time_that_is_said,)

    @classmethod
    def other(cls, options: dict[str, Any]) -> dict[str, Any]:
        expires = options.get("expires")
        return options | {"expires": datetime.now(UTC) + expires} if isinstance(expires, timedelta) else options


class HasHeadersOfItsOwn(InsertsOtherwise):
    caught_by = (OptionSuite.test_without_them_a_task_has_none,)

    @classmethod
    def other(cls, options: dict[str, Any]) -> dict[str, Any]:
        return {"headers": {"host": "here"}} | options


class ComparesOptions(InsertsOtherwise):
    caught_by = (OptionSuite.test_a_task_is_the_same_with_other_headers,)

    @classmethod
    def other(cls, options: dict[str, Any]) -> dict[str, Any]:
        return without(options, "uniq", "id") if options.keys() & {"headers", "timeout", "expires"} else options


class IsUniqueOtherwise(InsertsOtherwise):
    """Inserts unique tasks on other terms than it was told."""

    @classmethod
    def other(cls, options: dict[str, Any]) -> dict[str, Any]:
        uniq = options.get("uniq")
        return options | {"uniq": cls.otherwise(uniq)} if isinstance(uniq, Unique) else options

    @classmethod
    def otherwise(cls, uniq: Unique) -> Unique:
        raise NotImplementedError


class ComparesAllFields(IsUniqueOtherwise):
    caught_by = (
        UniquenessSuite.test_only_the_named_fields_are_compared,
        UniquenessSuite.test_one_of_a_class_if_no_field_is_compared,
        UniquenessSuite.test_a_bulk_does_the_same_for_each,
    )

    @classmethod
    def otherwise(cls, uniq: Unique) -> Unique:
        return dataclasses.replace(uniq, by=None)


class CountsWhatWasClaimed(IsUniqueOtherwise):
    caught_by = (
        UniquenessSuite.test_a_waiting_one_counts_until_it_is_claimed,
        UniquenessSuite.test_a_waiting_one_that_was_claimed_waits_again_beside_others,
    )

    @classmethod
    def otherwise(cls, uniq: Unique) -> Unique:
        return dataclasses.replace(uniq, while_="unfinished") if uniq.while_ == "waiting" else uniq


class ForgetsPeriods(IsUniqueOtherwise):
    caught_by = (
        UniquenessSuite.test_a_period_outlasts_the_task_and_its_row,
        UniquenessSuite.test_tasks_with_and_without_terms_are_inserted_together,
        UniquenessSuite.test_an_insert_by_id_repeated_on_other_terms_leaves_the_period_of_its_task,
    )

    @classmethod
    def otherwise(cls, uniq: Unique) -> Unique:
        return Unique(by=uniq.by, on_conflict=uniq.on_conflict)


class HasNoPeriods(IsUniqueOtherwise):
    """Counts for ever what counts for a time."""

    caught_by = (
        UniquenessSuite.test_a_period_ends,
        UniquenessSuite.test_an_unfinished_one_counts_beyond_its_period,
    )

    @classmethod
    def otherwise(cls, uniq: Unique) -> Unique:
        return dataclasses.replace(uniq, within=None if uniq.while_ == "always" else HOUR) if uniq.within else uniq


class IsNeverUniqueForEver(IsUniqueOtherwise):
    caught_by = (UniquenessSuite.test_once_is_for_ever,)

    @classmethod
    def otherwise(cls, uniq: Unique) -> Unique:
        return dataclasses.replace(uniq, while_="unfinished") if uniq.while_ == "always" else uniq


class DoesNothingElseOnConflict(IsUniqueOtherwise):
    caught_by = (
        UniquenessSuite.test_an_insert_that_is_to_raise_raises_and_writes_nothing,
        UniquenessSuite.test_a_waiting_task_is_replaced,
        UniquenessSuite.test_a_waiting_task_is_postponed,
        UniquenessSuite.test_a_task_that_has_run_waits_for_its_next_run_at_least,
    )

    @classmethod
    def otherwise(cls, uniq: Unique) -> Unique:
        return dataclasses.replace(uniq, on_conflict="return")


class DoesNothingElseInTransactions(DoesNothingElseOnConflict):
    caught_by = (UniquenessSuite.test_an_insert_that_raises_leaves_the_transaction_usable,)
    in_database = True


class CountsOnlyWhatWaits(IsUniqueOtherwise):
    caught_by = (UniquenessSuite.test_a_task_that_runs_or_has_ended_is_left_alone,)

    @classmethod
    def otherwise(cls, uniq: Unique) -> Unique:
        return dataclasses.replace(uniq, while_="waiting")


class IsNotUnique(InsertsOtherwise):
    caught_by = (UniquenessSuite.test_a_waiting_twin_keeps_an_ended_one_from_being_revived,)

    @classmethod
    def other(cls, options: dict[str, Any]) -> dict[str, Any]:
        return without(options, "uniq")


class TakesItsPlaceAway(InsertsOtherwise):
    """An insert without a due time postpones a task that is due."""

    caught_by = (UniquenessSuite.test_a_task_that_is_due_keeps_its_place,)

    @classmethod
    def other(cls, options: dict[str, Any]) -> dict[str, Any]:
        return {"delay": timedelta(0)} | options


class ExpiresByWhenTheTwinWasDue(InsertsOtherwise):
    """An insert without a due time leaves a task that is due as expired as it was."""

    caught_by = (UniquenessSuite.test_a_task_that_is_due_expires_no_sooner_than_a_new_one,)

    @classmethod
    def other(cls, options: dict[str, Any]) -> dict[str, Any]:
        expires = options.get("expires")
        is_late = isinstance(expires, timedelta) and not options.keys() & {"scheduled_at", "delay"}
        return options | {"expires": datetime.now(UTC) - HOUR} if is_late else options


class IgnoresTheTransaction(InsertsOtherwise):
    caught_by = (UniquenessSuite.test_what_is_rolled_back_kept_nobody_out,)
    in_database = True

    @classmethod
    def other(cls, options: dict[str, Any]) -> dict[str, Any]:
        return without(options, "connection")


class InsertsByOtherIds(InsertsOtherwise):
    caught_by = (UniquenessSuite.test_an_insert_by_id_can_be_repeated_on_any_terms,)

    @classmethod
    def other(cls, options: dict[str, Any]) -> dict[str, Any]:
        return options | {"id": uuid4()} if "id" in options else options


class KeepsPeriodsOfRemovedTasks(BrokenQueue):
    caught_by = (UniquenessSuite.test_a_task_that_is_removed_by_hand_makes_way,)

    @classmethod
    def wrap(cls, backend: Backend) -> None:
        backend.queue.remove_task = lambda _: 0


class ReturnsOtherRows(BrokenQueue):
    """A method returns another row than there is."""

    method: ClassVar[str]

    @classmethod
    def wrap(cls, backend: Backend) -> None:
        inner = getattr(backend.queue, cls.method)

        async def call(*args: Any, **options: Any) -> Any:
            row = inner(*args, **options)
            return cls.other(await row if inspect.isawaitable(row) else row, args, options)

        setattr(backend.queue, cls.method, call)

    @classmethod
    def other(cls, row: Task, args: tuple[Any, ...], options: dict[str, Any]) -> Task:
        raise NotImplementedError


class KeepsTheHeadersOfItsCaller(ReturnsOtherRows):
    caught_by = (OptionSuite.test_what_the_caller_does_with_its_headers_later_changes_nothing,)
    method = "insert_task"

    @classmethod
    def other(cls, row: Task, args: tuple[Any, ...], options: dict[str, Any]) -> Task:
        return row._replace(headers=options["headers"])


class SchedulesWithoutExpiry(ReturnsOtherRows):
    caught_by = (OptionSuite.test_a_task_of_a_schedule_has_what_its_class_says,)
    method = "schedule_task"

    @classmethod
    def other(cls, row: Task, args: tuple[Any, ...], options: dict[str, Any]) -> Task:
        return row._replace(expires_at=None)


class RevivesExpiredOnes(ReturnsOtherRows):
    caught_by = (OptionSuite.test_a_revived_task_no_longer_expires,)
    method = "update_task_state"

    @classmethod
    def other(cls, row: Task, args: tuple[Any, ...], options: dict[str, Any]) -> Task:
        return row._replace(expires_at=args[0].expires_at)


class InjectsNothing(BrokenQueue):
    caught_by = (
        OptionSuite.test_a_queue_adds_to_the_headers_of_each_insert_once,
        OptionSuite.test_what_it_raises_while_it_adds_them_is_raised_by_the_insert,
    )

    @classmethod
    def wrap(cls, backend: Backend) -> None:
        make = backend._make_queue
        backend._make_queue = lambda **options: make(**without(options, "inject"))


class HasNoInsertMiddleware(BrokenQueue):
    caught_by = (OptionSuite.test_insert_middleware_goes_around_each_insert_and_changes_its_headers,)

    @classmethod
    def wrap(cls, backend: Backend) -> None:
        make = backend._make_queue
        backend._make_queue = lambda **options: make(**without(options, "insert_middleware"))


class ClaimsWithout(Broken):
    """Hands runs tasks without one of their options."""

    left_out: ClassVar[str]

    async def claim(self, request: ClaimRequest) -> Claim:
        claim: Claim = await self.whole.claim(request)
        tasks: list[Any] = claim.tasks
        return claim._replace(tasks=[task._replace(**{self.left_out: None}) for task in tasks])


class ClaimsWithoutHeaders(ClaimsWithout):
    caught_by = (OptionSuite.test_what_an_insert_says_is_in_the_row_and_reaches_every_run,)
    left_out = "headers"


class ClaimsWithoutTimeout(ClaimsWithout):
    caught_by = (OptionSuite.test_what_an_insert_says_is_in_the_row_and_reaches_every_run,)
    left_out = "timeout"


class ClaimsWithoutExpiry(ClaimsWithout):
    caught_by = (OptionSuite.test_what_an_insert_says_is_in_the_row_and_reaches_every_run,)
    left_out = "expires_at"
