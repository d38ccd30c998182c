"""Stores and hearts with one defect each, around whole ones: the suite must tell each of them from a backend.

Their verbs are coroutines in both modes, whatever those of the store around which they stand are.
"""

import dataclasses
import inspect
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar, cast
from uuid import UUID, uuid4

from fang_core.backends.store import (
    SCHEDULES,
    Claim,
    ClaimRequest,
    Declaration,
    LaneClaim,
    LaneRequest,
    Live,
    PoolRecord,
    PruneRequest,
    Rescued,
    ScheduleState,
    Tick,
)
from fang_core.claims.suspects import NO_SUSPECTS
from fang_core.conformance import (
    AuditSuite,
    Backend,
    CancelSuite,
    ClaimSuite,
    CompletionSuite,
    ControlSuite,
    ExplainSuite,
    FlowSuite,
    HistorySuite,
    LeaseSuite,
    ManagingSuite,
    OptionSuite,
    OutlookSuite,
    ReconcileSuite,
    StatsSuite,
    StoredScheduleSuite,
    TickSuite,
    UniquenessSuite,
    WakeSuite,
)
from fang_core.errors import RowsLocked, UnknownSchedule, UsageError
from fang_core.flow.info import TypeInfo
from fang_core.lifecycle import TERMINAL_STATES, Outcome
from fang_core.liveness import Beat, BeatRequest, Pulse
from fang_core.monitoring.audit import AuditCall, beginning
from fang_core.monitoring.explanation import Cause, Explanation
from fang_core.monitoring.history import Flush, Flushed, StatsRow
from fang_core.monitoring.stats import KindStats, Stats, TypeStats, times
from fang_core.record import ClaimedTask, Task, TaskState
from fang_core.remarks import Remark, remark
from fang_core.schedules.schedule import Cron
from fang_core.schedules.stored import Backfill, Overlap, Schedules, ScheduleSpec, Verdict, declaration
from fang_core.tasks.managing import LimitChange, Pause
from fang_core.tasks.scheduling import ScheduleCall
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.tasks.uniqueness import Unique

HOUR = timedelta(hours=1)

Check = Callable[..., None]
"""A test of the suite."""


class Whole:
    """A store or a heart as it is."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            result = verb(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        return call


class Broken:
    """A store with a defect; what a class below does not define is as it should be.

    Attributes:
        caught_by: the tests of the suite each of which must fail.
        in_database: whether memory cannot show it, which has neither hearts nor transactions.
    """

    caught_by: ClassVar[tuple[Check, ...]]
    in_database: ClassVar[bool] = False

    def __init__(self, whole: Whole, backend: Backend) -> None:
        self.whole = whole
        self.backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    async def row(self, task_id: UUID) -> Task | None:
        """Reads a row, past the store."""
        row: Task | None = await Whole(self.backend.queue).find_task_by_id(task_id)
        return row


class BrokenHeart(Broken):
    """A heart with a defect."""

    in_database = True


# Queues ---------------------------------------------------------------------------------------------------------------


class BrokenQueue(Broken):
    """A queue with a defect; its stores are whole."""

    @classmethod
    def wrap(cls, backend: Backend) -> None:
        """Replaces methods of the queue."""
        raise NotImplementedError


class InsertsOtherwise(BrokenQueue):
    """Inserts with other options than it was told."""

    @classmethod
    def wrap(cls, backend: Backend) -> None:
        one, many = backend.queue.insert_task, backend.queue.insert_tasks
        backend.queue.insert_task = lambda task, **options: one(task, **cls.other(options))
        backend.queue.insert_tasks = lambda tasks, **options: many(tasks, **cls.other(options))

    @classmethod
    def other(cls, options: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


def without(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names}


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


# Claims ---------------------------------------------------------------------------------------------------------------


class IgnoresTheLimit(Broken):
    caught_by = (ClaimSuite.test_a_claim_takes_the_first_tasks_in_order_up_to_its_limit,)

    async def claim(self, request: ClaimRequest) -> Claim:
        return await self.whole.claim(request._replace(limit=request.limit + 1))  # type: ignore[no-any-return]


class ReturnsTheLastTaskFirst(Broken):
    caught_by = (
        ClaimSuite.test_a_claim_takes_the_first_tasks_in_order_up_to_its_limit,
        ClaimSuite.test_of_pools_that_claim_at_the_same_time_each_task_has_one,
    )

    async def claim(self, request: ClaimRequest) -> Claim:
        claim: Claim = await self.whole.claim(request)
        return claim._replace(tasks=claim.tasks[::-1])


class TakesTaskTypesByName(Broken):
    caught_by = (ClaimSuite.test_the_order_of_task_types_is_that_of_the_claim,)

    async def claim(self, request: ClaimRequest) -> Claim:
        claim: Claim = await self.whole.claim(request._replace(task_types=tuple(sorted(request.task_types))))
        return claim


class PutsRetriesInLine(Broken):
    caught_by = (ClaimSuite.test_retries_come_first_within_their_priority_if_that_is_asked_for,)

    async def claim(self, request: ClaimRequest) -> Claim:
        claim: Claim = await self.whole.claim(request._replace(retries_first=False))
        return claim


class ForgetsMaxRetries(Broken):
    caught_by = (ClaimSuite.test_what_a_claim_returns_is_what_the_row_says,)

    async def claim(self, request: ClaimRequest) -> Claim:
        claim: Claim = await self.whole.claim(request)
        return claim._replace(tasks=[task._replace(max_retries=20) for task in claim.tasks])


class CountsNoAttempts(Broken):
    caught_by = (ClaimSuite.test_each_claim_of_a_task_is_another_attempt,)

    async def claim(self, request: ClaimRequest) -> Claim:
        claim: Claim = await self.whole.claim(request)
        return claim._replace(tasks=[task._replace(attempt=1) for task in claim.tasks])


class ClaimsAnyKind(Broken):
    caught_by = (ClaimSuite.test_only_what_is_asked_for_is_claimed,)

    async def claim(self, request: ClaimRequest) -> Claim:
        every = (self.backend.note.__fang_options__.kind, self.backend.foreign_note.__fang_options__.kind)
        claim: Claim = await self.whole.claim(request._replace(kinds=every))
        return claim


class ClaimsSuspectsUnasked(Broken):
    caught_by = (ClaimSuite.test_suspects_are_claimed_only_when_asked_for,)

    async def claim(self, request: ClaimRequest) -> Claim:
        claim: Claim = await self.whole.claim(request._replace(group_size=1))
        return claim


class IgnoresLimitsOfGroups(Broken):
    """Claims suspects for groups of any size."""

    caught_by = (LeaseSuite.test_a_suspect_is_claimed_for_groups_up_to_its_limit,)
    in_database = True

    async def claim(self, request: ClaimRequest) -> Claim:
        size = request.group_size
        claim: Claim = await self.whole.claim(request._replace(group_size=size if size == NO_SUSPECTS else 1))
        return claim


class IgnoresIsolatedKinds(Broken):
    caught_by = (ClaimSuite.test_suspects_that_run_in_child_processes_are_claimed_always,)

    async def claim(self, request: ClaimRequest) -> Claim:
        claim: Claim = await self.whole.claim(request._replace(isolated_kinds=()))
        return claim


class IgnoresLimitsOfIsolatedKinds(Broken):
    """Claims suspects that must run alone for groups of any size, if their kind is isolated."""

    caught_by = (
        LeaseSuite.test_a_suspect_that_dies_in_children_with_one_pool_after_the_other_runs_alone_at_last,
        FlowSuite.test_suspects_that_must_run_alone_are_left_out_though_their_kind_runs_in_child_processes,
    )
    in_database = True

    async def claim(self, request: ClaimRequest) -> Claim:
        claim: Claim = await self.whole.claim(request._replace(group_size=1) if request.isolated_kinds else request)
        return claim

    async def claim_lanes(self, request: LaneRequest) -> LaneClaim:
        asked = request._replace(group_size=1) if request.isolated_kinds else request
        claim: LaneClaim = await self.whole.claim_lanes(asked)
        return claim


class NeverClaimsSuspects(Broken):
    caught_by = (ClaimSuite.test_suspects_are_claimed_only_when_asked_for,)

    async def claim(self, request: ClaimRequest) -> Claim:
        claim: Claim = await self.whole.claim(request._replace(group_size=NO_SUSPECTS))
        return claim


class ClaimsForAStranger(Broken):
    """For a pool that is not registered."""

    caught_by = (ClaimSuite.test_a_pool_that_is_not_registered_claims_nothing,)

    async def claim(self, request: ClaimRequest) -> Claim:
        record = PoolRecord(request.pool_id, self.backend.mode, "host", 1, request.task_types, request.kinds, 1)
        await self.whole.register(record)
        claim: Claim = await self.whole.claim(request)
        return claim


class KeepsTheRecord(Broken):
    """Of a pool that has signed off."""

    caught_by = (ClaimSuite.test_a_pool_that_is_not_registered_claims_nothing,)

    async def unregister(self, pool_id: UUID) -> None:
        return None


class LosesWhatLiesBehindItsPlace(Broken):
    caught_by = (ClaimSuite.test_a_claim_reaches_what_lies_behind_its_place,)

    async def claim(self, request: ClaimRequest) -> Claim:
        limit = 0 if request.after else request.limit
        claim: Claim = await self.whole.claim(request._replace(limit=limit))
        return claim


class ClaimsTwice(Broken):
    """Two claims at the same time get the same task."""

    caught_by = (ClaimSuite.test_of_pools_that_claim_at_the_same_time_each_task_has_one,)

    async def claim(self, request: ClaimRequest) -> Claim:
        claim: Claim = await self.whole.claim(request)
        last: list[ClaimedTask] = vars(self.backend).setdefault("last", [])  # of any of its stores
        tasks, last[:] = last + claim.tasks, claim.tasks[-1:]
        return claim._replace(tasks=tasks)


# Outcomes -------------------------------------------------------------------------------------------------------------


class WritesNothingWithoutWaiting(Broken):
    caught_by = (CompletionSuite.test_an_outcome_frees_the_row_and_writes_what_it_says_and_nothing_else,)

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], *, waits: bool = True) -> set[UUID]:
        written: set[UUID] = await self.whole.complete(pool_id, outcomes if waits else [])
        return written


class WritesOtherOutcomes(Broken):
    def other(self, outcome: Outcome) -> Outcome:
        raise NotImplementedError

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], *, waits: bool = True) -> set[UUID]:
        written: set[UUID] = await self.whole.complete(pool_id, [self.other(each) for each in outcomes], waits=waits)
        return written


class KeepsNoHistory(WritesOtherOutcomes):
    caught_by = (CompletionSuite.test_a_failure_is_written_down_and_says_when_it_is_tried_again,)

    def other(self, outcome: Outcome) -> Outcome:
        return outcome._replace(error_entry=None)


class TriesAgainAtOnce(WritesOtherOutcomes):
    caught_by = (CompletionSuite.test_a_failure_is_written_down_and_says_when_it_is_tried_again,)

    def other(self, outcome: Outcome) -> Outcome:
        return outcome._replace(delay=None)


class MovesTheDueTime(WritesOtherOutcomes):
    """Of a task whose outcome names none."""

    caught_by = (
        CompletionSuite.test_an_outcome_frees_the_row_and_writes_what_it_says_and_nothing_else,
        CompletionSuite.test_what_an_outcome_does_not_name_stays,
    )

    def other(self, outcome: Outcome) -> Outcome:
        return outcome._replace(delay=outcome.delay or timedelta(0))


class KeepsCrashesOfASnooze(WritesOtherOutcomes):
    caught_by = (CompletionSuite.test_crashes_are_forgotten_when_the_outcome_says_so_and_only_then,)

    def other(self, outcome: Outcome) -> Outcome:
        return outcome._replace(forgets_crashes=False)


class ForgetsCrashesAlways(WritesOtherOutcomes):
    caught_by = (CompletionSuite.test_crashes_are_forgotten_when_the_outcome_says_so_and_only_then,)

    def other(self, outcome: Outcome) -> Outcome:
        return outcome._replace(forgets_crashes=True)


class ChargesNoCrash(WritesOtherOutcomes):
    caught_by = (CompletionSuite.test_a_crash_is_charged_when_the_outcome_says_so_and_only_then,)

    def other(self, outcome: Outcome) -> Outcome:
        return outcome._replace(charges_crash=False)


class FenceWithoutThePool(Broken):
    """Another pool's outcome is written if its attempt is the right one."""

    caught_by = (
        CompletionSuite.test_only_the_holder_of_the_attempt_writes,
        CompletionSuite.test_of_a_batch_those_are_written_that_are_held_and_these_are_told,
    )

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], *, waits: bool = True) -> set[UUID]:
        written: set[UUID] = set()
        for outcome in outcomes:
            row = await self.row(outcome.id)
            holder = row.pool_id if row is not None and row.pool_id is not None else pool_id
            written |= await self.whole.complete(holder, [outcome], waits=waits)
        return written


class FenceWithoutTheAttempt(Broken):
    """A late outcome is written if the pool holds the task again."""

    caught_by = (CompletionSuite.test_only_the_holder_of_the_attempt_writes,)
    of_removals: ClassVar = False

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], *, waits: bool = True) -> set[UUID]:
        written: set[UUID] = set()
        for outcome in outcomes:
            row = await self.row(outcome.id)
            is_meant = row is not None and (outcome.state is None) == self.of_removals
            attempt = row.attempt if row is not None and is_meant else outcome.attempt
            written |= await self.whole.complete(pool_id, [outcome._replace(attempt=attempt)], waits=waits)
        return written


class RemovalsWithoutTheAttempt(FenceWithoutTheAttempt):
    of_removals = True


class SaysThatAllWasWritten(Broken):
    caught_by = (
        CompletionSuite.test_only_the_holder_of_the_attempt_writes,
        CompletionSuite.test_of_a_batch_those_are_written_that_are_held_and_these_are_told,
    )

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], *, waits: bool = True) -> set[UUID]:
        await self.whole.complete(pool_id, outcomes, waits=waits)
        return {outcome.id for outcome in outcomes}


class KeepsQuietAboutLockedRows(Broken):
    caught_by = (CompletionSuite.test_a_task_in_a_callers_transaction_holds_up_no_other_outcome,)
    in_database = True

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], *, waits: bool = True) -> set[UUID]:
        try:
            written: set[UUID] = await self.whole.complete(pool_id, outcomes, waits=waits)
        except RowsLocked as error:
            written = set(error.written)
        return written


# Reconciling ----------------------------------------------------------------------------------------------------------


class ReconcilesNothing(Broken):
    caught_by = (
        ReconcileSuite.test_what_a_pool_holds_without_knowing_it_goes_back_as_it_was,
        ReconcileSuite.test_a_task_that_has_crashed_goes_back_as_retried,
    )

    async def reconcile(self, pool_id: UUID, known: Sequence[UUID]) -> int:
        return 0


class ReconcilesWhatIsKnown(Broken):
    caught_by = (ReconcileSuite.test_what_a_pool_holds_without_knowing_it_goes_back_as_it_was,)

    async def reconcile(self, pool_id: UUID, known: Sequence[UUID]) -> int:
        count: int = await self.whole.reconcile(pool_id, [])
        return count


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


# Cancelling -----------------------------------------------------------------------------------------------------------


class OtherMethods(BrokenQueue):
    """One whose own methods stand in for those of the queue."""

    @classmethod
    def wrap(cls, backend: Backend) -> None:
        names = [name for name, method in vars(cls).items() if inspect.iscoroutinefunction(method)]
        broken = cls(Whole(SimpleNamespace(**{name: getattr(backend.queue, name) for name in names})), backend)
        for name in names:
            setattr(backend.queue, name, getattr(broken, name))


class LeavesTasksThatWait(OtherMethods):
    caught_by = (
        CancelSuite.test_a_task_that_waits_is_cancelled_at_once,
        CancelSuite.test_a_cancelled_unique_task_is_no_twin,
    )

    async def cancel_task(self, task_id: UUID, reason: str = "", **options: Any) -> Task | None:
        return await self.row(task_id)


class AsksNobody(OtherMethods):
    """Of a task in progress, although it says that it does."""

    caught_by = (
        CancelSuite.test_of_a_task_in_progress_the_row_says_that_it_is_to_be_cancelled,
        CancelSuite.test_a_task_that_comes_back_with_a_request_is_cancelled_without_a_run,
    )

    async def cancel_task(self, task_id: UUID, reason: str = "", **options: Any) -> Task | None:
        row = await self.row(task_id)
        assert row is not None
        return row._replace(cancel_request={"reason": reason, "by": options["by"], "at": "now"})


class CancelsRunsAtOnce(OtherMethods):
    """They are lost, and cannot say anything."""

    caught_by = (CancelSuite.test_of_a_task_in_progress_the_row_says_that_it_is_to_be_cancelled,)

    async def cancel_task(self, task_id: UUID, reason: str = "", **options: Any) -> Task | None:
        row: Task = await self.whole.cancel_task(task_id, reason, **options)
        if row.state is TaskState.IN_PROGRESS:
            row = await Whole(self.backend.queue).update_task_state(row, TaskState.CANCELLED)
        return row


class CancelsWhatHasEnded(OtherMethods):
    caught_by = (CancelSuite.test_what_has_ended_stays_as_it_is_and_what_is_gone_is_none,)

    async def cancel_task(self, task_id: UUID, reason: str = "", **options: Any) -> Task | None:
        row = await self.row(task_id)
        if row is not None and row.state in TERMINAL_STATES:
            await Whole(self.backend.queue).update_task_state(row, TaskState.NEW)
        cancelled: Task | None = await self.whole.cancel_task(task_id, reason, **options)
        return cancelled


class CutsReasonsShort(OtherMethods):
    caught_by = (CancelSuite.test_texts_that_no_database_holds_are_kept_as_well_as_can_be,)

    async def cancel_task(self, task_id: UUID, reason: str = "", **options: Any) -> Task | None:
        row: Task | None = await self.whole.cancel_task(task_id, reason[:100], **options)
        return row


class ForgetsRequestsWithEachOutcome(Broken):
    caught_by = (
        CancelSuite.test_a_request_that_no_run_has_answered_stays_with_the_task,
        CancelSuite.test_a_waiting_task_that_was_asked_before_is_cancelled_for_the_first_reason,
    )

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], **options: Any) -> set[UUID]:
        answers = [outcome._replace(answers_cancel=True) for outcome in outcomes]
        written: set[UUID] = await self.whole.complete(pool_id, answers, **options)
        return written


class ForgetsNoRequest(Broken):
    caught_by = (CancelSuite.test_a_request_that_a_run_has_answered_is_done,)

    async def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], **options: Any) -> set[UUID]:
        answers = [outcome._replace(answers_cancel=False) for outcome in outcomes]
        written: set[UUID] = await self.whole.complete(pool_id, answers, **options)
        return written


class ClaimsWithoutRequests(Broken):
    caught_by = (CancelSuite.test_a_request_that_no_run_has_answered_stays_with_the_task,)

    async def claim(self, request: ClaimRequest) -> Claim:
        claim: Claim = await self.whole.claim(request)
        return claim._replace(tasks=[task._replace(cancel_request=None) for task in claim.tasks])


class ForgetsRequestsOfTheDead(BrokenHeart):
    caught_by = (CancelSuite.test_a_rescue_keeps_the_request,)

    async def rescue(self, dead: Sequence[Pulse]) -> list[Rescued]:
        rescued: list[Rescued] = await self.whole.rescue(dead)
        queue = Whole(self.backend.queue)
        for task in rescued:
            row = await queue.cancel_task(task.id)
            await queue.update_task_state(row, TaskState.NEW)
        return rescued


class FetchesWhatIsToBeCancelled(OtherMethods):
    caught_by = (CancelSuite.test_nobody_fetches_such_a_task_by_hand,)

    async def fetch_and_touch_task(self, *args: Any, **options: Any) -> Task | None:
        for row in await Whole(self.backend.queue).tasks_of_kinds([self.backend.note.__fang_options__.kind]):
            if row.cancel_request is not None:
                return row  # type: ignore[no-any-return]
        return None


class KeepsRequestsOfFormerLives(OtherMethods):
    caught_by = (CancelSuite.test_a_new_life_begins_without_a_request,)

    async def update_task_state(self, task: Task, state: TaskState, **options: Any) -> Task:
        row: Task = await self.whole.update_task_state(task, state, **options)
        return row._replace(cancel_request=task.cancel_request)


class IgnoresConditions(OtherMethods):
    caught_by = (
        CancelSuite.test_the_filter_says_which_are_cancelled,
        CancelSuite.test_the_filter_can_name_tasks_and_when_they_were_inserted,
    )

    async def cancel_tasks(self, which: TaskFilter, reason: str = "", **options: Any) -> int:
        count: int = await self.whole.cancel_tasks(TaskFilter(all_tasks=True), reason, **options)
        return count


class TellsNoProgressOfCancelling(OtherMethods):
    caught_by = (
        CancelSuite.test_progress_is_told_up_to_all_that_were_cancelled,
        CancelSuite.test_what_progress_raises_stops_a_cancelling_and_says_how_many_are_cancelled,
    )

    async def cancel_tasks(
        self, which: TaskFilter, reason: str = "", *, on_progress: Any = None, **options: Any
    ) -> int:
        count: int = await self.whole.cancel_tasks(which, reason, **options)
        return count


class CancelsInTransactionsOfItsOwn(OtherMethods):
    caught_by = (CancelSuite.test_requests_are_part_of_their_callers_transaction,)
    in_database = True

    async def cancel_task(self, task_id: UUID, reason: str = "", *, connection: Any = None, **options: Any) -> Any:
        return await self.whole.cancel_task(task_id, reason, **options)


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

    caught_by = (StoredScheduleSuite.test_a_class_that_no_pool_has_declared_has_no_schedule_to_run,)

    async def read_schedules(self, names: Sequence[str], task_types: Sequence[str], known: str) -> ScheduleState:
        kind = self.backend.yearly_note.__fang_options__.kind
        await self.whole.declare_schedules(dict.fromkeys(names, declaration(kind, "common", Cron("@yearly"))), ())
        return cast(ScheduleState, await self.whole.read_schedules(names, task_types, known))


# The audit ------------------------------------------------------------------------------------------------------------


class ForgetsDetails(OtherMethods):
    caught_by = (AuditSuite.test_a_change_is_written_before_it_is_made_and_its_result_after,)

    async def _do_audit(self, call: AuditCall[Any]) -> Any:
        if call.verb == "begin_audit":
            call = call._replace(args=(call.args[0]._replace(details=None),))
        return await self.whole._do_audit(call)


class WritesResultsAgain(OtherMethods):
    caught_by = (AuditSuite.test_a_result_is_written_once,)

    async def _do_audit(self, call: AuditCall[Any]) -> Any:
        done = await self.whole._do_audit(call)
        return True if call.verb == "end_audit" else done


class ListsTheFirstPageAlways(OtherMethods):
    caught_by = (AuditSuite.test_the_latest_come_first_page_by_page,)

    async def _do_audit(self, call: AuditCall[Any]) -> Any:
        if call.verb == "list_audit":
            call = call._replace(args=(call.args[0], None))
        return await self.whole._do_audit(call)


class CutsResults(OtherMethods):
    caught_by = (AuditSuite.test_texts_that_no_database_holds_are_cleaned_and_cut,)

    async def _do_audit(self, call: AuditCall[Any]) -> Any:
        if call.verb == "end_audit":
            call = call._replace(args=(call.args[0], call.args[1][:100]))
        return await self.whole._do_audit(call)


class WritesWhatWasRefused(OtherMethods):
    caught_by = (AuditSuite.test_arguments_that_cannot_be_used_are_refused,)

    async def _do_audit(self, call: AuditCall[Any]) -> Any:
        if call.verb == "list_audit":
            await self.whole._do_audit(beginning("ada", "pause", "exports", None))
        return await self.whole._do_audit(call)


# Task types -----------------------------------------------------------------------------------------------------------


class ForgetsWhyItPaused(OtherMethods):
    caught_by = (ManagingSuite.test_a_pause_says_since_when_until_when_by_whom_and_why,)

    async def pause(self, task_type: str, **options: Any) -> TypeInfo:
        info: TypeInfo = await self.whole.pause(task_type, **without(options, "reason"))
        return info


class NeverResumes(OtherMethods):
    caught_by = (ManagingSuite.test_a_pause_without_arguments_lasts_until_somebody_resumes,)

    async def resume(self, task_type: str, **options: Any) -> None: ...


class ClaimsWhatIsPaused(Broken):
    caught_by = (ManagingSuite.test_nothing_of_a_paused_type_is_claimed_nor_fetched,)

    async def claim(self, request: ClaimRequest) -> Claim:
        await Whole(self.backend.queue).resume("exports")
        claim: Claim = await self.whole.claim(request)
        return claim


class KeepsTheFirstPause(OtherMethods):
    caught_by = (ManagingSuite.test_a_second_pause_replaces_the_first,)

    async def pause(self, task_type: str, **options: Any) -> TypeInfo:
        for info in await Whole(self.backend.queue)._list_types():
            if info.is_paused:
                return info  # type: ignore[no-any-return]
        return await self.whole.pause(task_type, **options)  # type: ignore[no-any-return]


class PausesForEver(OtherMethods):
    caught_by = (
        ManagingSuite.test_a_pause_ends_by_itself,
        ManagingSuite.test_what_waited_is_claimed_when_a_pause_has_ended_by_itself,
    )

    async def pause(self, task_type: str, **options: Any) -> TypeInfo:
        info: TypeInfo = await self.whole.pause(task_type, **without(options, "until"))
        return info


class PausesWhateverItIsTold(OtherMethods):
    caught_by = (ManagingSuite.test_what_a_pause_cannot_take_is_refused,)

    async def pause(self, task_type: str, **options: Any) -> Any:
        try:
            return await self.whole.pause(task_type, **options)
        except UsageError:
            return None


class PausesInTransactionsOfItsOwn(OtherMethods):
    caught_by = (ManagingSuite.test_a_pause_is_part_of_its_callers_transaction,)
    in_database = True

    async def pause(self, task_type: str, *, connection: Any = None, **options: Any) -> Any:
        return await self.whole.pause(task_type, **options)


class ForgetsWhoSetLimits(OtherMethods):
    caught_by = (ManagingSuite.test_limits_that_were_set_are_shown_with_who_and_why,)

    async def _set_limits(self, task_type: str, change: LimitChange) -> Any:
        return await self.whole._set_limits(task_type, change._replace(remark=remark(None, None)))


class EndsPausesWithLimits(OtherMethods):
    caught_by = (ManagingSuite.test_limits_and_a_pause_do_not_touch_each_other,)

    async def _set_limits(self, task_type: str, change: LimitChange) -> Any:
        await Whole(self.backend.queue).resume(task_type)
        return await self.whole._set_limits(task_type, change)


class TakesAnyKey(OtherMethods):
    caught_by = (
        ManagingSuite.test_limits_that_cannot_hold_are_refused,
        ManagingSuite.test_limits_by_key_can_be_set_if_a_class_makes_that_key,
    )

    async def _set_limits(self, task_type: str, change: LimitChange) -> Any:
        try:
            return await self.whole._set_limits(task_type, change)
        except UsageError:
            return None


class CountsWhatWaitsAlone(OtherMethods):
    caught_by = (ManagingSuite.test_what_runs_and_waits_is_counted,)

    async def _list_types(self) -> list[TypeInfo]:
        return [info._replace(running=0) for info in await self.whole._list_types()]


class TakesNoLimitsForNothing(OtherMethods):
    caught_by = (ManagingSuite.test_an_empty_list_of_limits_wins_over_the_code,)

    async def _set_limits(self, task_type: str, change: LimitChange) -> Any:
        return await self.whole._set_limits(task_type, change._replace(rules=change.rules or None))


class DeclaresNothing(Broken):
    caught_by = (ManagingSuite.test_what_pools_declare_holds_and_is_shown_by_kind,)

    async def declare(self, declarations: Sequence[Declaration]) -> None: ...


class HasTheLastDeclarationHold(Broken):
    caught_by = (ManagingSuite.test_the_strictest_of_what_is_declared_holds,)

    async def declare(self, declarations: Sequence[Declaration]) -> None:
        for task_type, limits in declarations:
            await self.whole.declare([Declaration(task_type, {"a": [], "b": [], **limits})])


class HasTheCodeWin(Broken):
    caught_by = (ManagingSuite.test_what_was_set_wins_until_it_is_removed,)

    async def declare(self, declarations: Sequence[Declaration]) -> None:
        await self.whole.declare(declarations)
        for task_type, _ in declarations:
            await Whole(self.backend.queue)._set_limits(task_type, LimitChange(None, remark(None, None)))


class WithdrawsNothing(Broken):
    caught_by = (ManagingSuite.test_a_release_withdraws_what_it_no_longer_declares,)

    async def declare(self, declarations: Sequence[Declaration]) -> None:
        for task_type, limits in declarations:
            await self.whole.declare([Declaration(task_type, {kind: each for kind, each in limits.items() if each})])


class StaysKnown(Broken):
    """A pool that has ended."""

    caught_by = (ManagingSuite.test_what_is_declared_for_a_kind_that_no_pool_knows_is_dropped,)

    async def unregister(self, pool_id: UUID) -> None: ...


# What pools are told --------------------------------------------------------------------------------------------------


class HeartInMemory(BrokenHeart):
    """One whose defect memory shows as well."""

    in_database = False

    def asked(self, request: BeatRequest) -> BeatRequest:
        return request

    def told(self, beat: Beat, request: BeatRequest) -> Beat:
        return beat

    async def beat(self, request: BeatRequest) -> Beat:
        return self.told(await self.whole.beat(self.asked(request)), request)


class TellsNoMessages(HeartInMemory):
    caught_by = (
        ControlSuite.test_a_message_comes_with_each_beat_until_it_is_handled,
        ControlSuite.test_a_pool_handles_only_messages_of_its_own,
    )

    def told(self, beat: Beat, request: BeatRequest) -> Beat:
        return beat._replace(messages=[])


class TellsEachMessageOnce(HeartInMemory):
    """The reply may have been lost."""

    caught_by = (ControlSuite.test_a_message_comes_with_each_beat_until_it_is_handled,)

    async def beat(self, request: BeatRequest) -> Beat:
        beat: Beat = await self.whole.beat(request)
        if beat.messages:
            await self.whole.beat(request._replace(handled=[message.id for message in beat.messages]))
        return beat


class KeepsHandledMessages(HeartInMemory):
    caught_by = TellsEachMessageOnce.caught_by

    def asked(self, request: BeatRequest) -> BeatRequest:
        return request._replace(handled=[])


class TellsTheLastMessageFirst(HeartInMemory):
    caught_by = TellsEachMessageOnce.caught_by

    def told(self, beat: Beat, request: BeatRequest) -> Beat:
        return beat._replace(messages=beat.messages[::-1])


class HandlesForOthers(HeartInMemory):
    caught_by = (ControlSuite.test_a_pool_handles_only_messages_of_its_own,)

    async def beat(self, request: BeatRequest) -> Beat:
        for pool in await Whole(self.backend.queue).pools():
            await self.whole.beat(BeatRequest(pool.id, handled=request.handled))
        beat: Beat = await self.whole.beat(request)
        return beat


class TellsOfNoLostTask(HeartInMemory):
    caught_by = (ControlSuite.test_of_the_tasks_that_a_pool_names_it_hears_which_it_has_lost,)

    def told(self, beat: Beat, request: BeatRequest) -> Beat:
        return beat._replace(lost=[])


class TakesEachTaskForLost(HeartInMemory):
    caught_by = TellsOfNoLostTask.caught_by

    def told(self, beat: Beat, request: BeatRequest) -> Beat:
        return beat._replace(lost=[task_id for task_id, _ in request.held])


class OverlooksTheAttempt(HeartInMemory):
    """A run whose task the pool has claimed again does not hear that it is lost."""

    caught_by = TellsOfNoLostTask.caught_by

    async def beat(self, request: BeatRequest) -> Beat:
        rows = [await self.row(task_id) for task_id, _ in request.held]
        beat: Beat = await self.whole.beat(request._replace(held=[(row.id, row.attempt) for row in rows if row]))
        gone = [task_id for (task_id, _), row in zip(request.held, rows, strict=True) if row is None]
        return beat._replace(lost=[*beat.lost, *gone])


class TellsOfNoRequest(HeartInMemory):
    caught_by = (CancelSuite.test_of_a_task_in_progress_the_row_says_that_it_is_to_be_cancelled,)

    def told(self, beat: Beat, request: BeatRequest) -> Beat:
        return beat._replace(cancels=[])


class ForgetsWhatRunsAreDoing(HeartInMemory):
    caught_by = (ControlSuite.test_the_registered_pools_are_listed_with_what_they_have_said,)

    def asked(self, request: BeatRequest) -> BeatRequest:
        return request._replace(runs=None)


class KeepsItsFirstSize(HeartInMemory):
    caught_by = (ControlSuite.test_a_beat_says_how_many_tasks_the_pool_runs_at_once,)

    def asked(self, request: BeatRequest) -> BeatRequest:
        return request._replace(workers=None)


class FindsNoProgress(OtherMethods):
    caught_by = (ControlSuite.test_a_task_is_found_with_what_its_pool_tells_of_this_attempt,)

    async def find_task_by_id(self, task_id: UUID, **options: Any) -> Task | None:
        row: Task | None = await self.whole.find_task_by_id(task_id, **options)
        return row if row is None else row._replace(progress=None)


class FindsProgressOfAnotherAttempt(HeartInMemory):
    caught_by = FindsNoProgress.caught_by

    async def beat(self, request: BeatRequest) -> Beat:
        runs = json.loads(request.runs or "{}")
        for task_id, run in runs.items():
            row = await self.row(UUID(task_id))
            run["attempt"] = row and row.attempt
        beat: Beat = await self.whole.beat(request._replace(runs=request.runs and json.dumps(runs)))
        return beat


class EmptiesWhatRunsAreDoing(HeartInMemory):
    caught_by = ForgetsWhatRunsAreDoing.caught_by

    def asked(self, request: BeatRequest) -> BeatRequest:
        return request._replace(runs=request.runs or "{}")


class TellsNobody(Broken):
    caught_by = (
        ControlSuite.test_what_is_told_makes_a_pool_listen_up_that_listens,
        CancelSuite.test_a_pool_that_listens_hears_of_a_request,
    )

    async def listen(self, task_types: Sequence[str], on_wake: Any, on_told: Any, on_listen_lost: Any) -> None:
        await self.whole.listen(task_types, on_wake, lambda _: None, on_listen_lost)


class KeepsMessagesOfPoolsThatEnd(Broken):
    caught_by = (ControlSuite.test_messages_end_with_their_pool,)

    async def unregister(self, pool_id: UUID) -> None:
        return None


# Waking ---------------------------------------------------------------------------------------------------------------


class WakesNobody(Broken):
    caught_by = (WakeSuite.test_whatever_makes_a_task_due_wakes_a_pool_that_waits,)

    async def listen(self, *_: object) -> None:
        return None


class WakesAfterItsEnd(Broken):
    caught_by = (WakeSuite.test_a_listener_hears_until_it_is_closed,)

    async def close(self) -> None:
        return None


# What is asked once in a while ----------------------------------------------------------------------------------------


class PrunesNothing(Broken):
    caught_by = (OutlookSuite.test_only_ended_rows_of_the_task_types_that_are_named_are_pruned,)

    async def prune(self, request: PruneRequest) -> int:
        return 0


class PrunesOtherwise(Broken):
    caught_by = PrunesNothing.caught_by

    def other(self, request: PruneRequest) -> PruneRequest:
        raise NotImplementedError

    async def prune(self, request: PruneRequest) -> int:
        count: int = await self.whole.prune(self.other(request))
        return count


class PrunesAtAnyAge(PrunesOtherwise):
    def other(self, request: PruneRequest) -> PruneRequest:
        none = timedelta(0)
        finished = None if request.keep_finished is None else none
        return request._replace(keep_finished=finished, keep_failed=None if request.keep_failed is None else none)


class PrunesWhatIsKept(PrunesOtherwise):
    def other(self, request: PruneRequest) -> PruneRequest:
        return request._replace(keep_failed=request.keep_failed or timedelta(0))


class PrunesOtherTaskTypes(PrunesOtherwise):
    def other(self, request: PruneRequest) -> PruneRequest:
        return request._replace(task_types=("common", "mail", "billing"))


class PrunesWithoutALimit(PrunesOtherwise):
    def other(self, request: PruneRequest) -> PruneRequest:
        return request._replace(limit=1_000)


class ForeseesNothing(Broken):
    caught_by = (OutlookSuite.test_the_next_task_that_is_not_yet_due_is_foreseen,)

    async def next_due(self, task_types: Sequence[str], kinds: Sequence[str]) -> float | None:
        return None


class ForeseesForeignKinds(Broken):
    caught_by = ForeseesNothing.caught_by

    async def next_due(self, task_types: Sequence[str], kinds: Sequence[str]) -> float | None:
        kinds = (*kinds, self.backend.foreign_note.__fang_options__.kind)
        seconds: float | None = await self.whole.next_due(task_types, kinds)
        return seconds


class NamesNoUnknownKinds(Broken):
    caught_by = (OutlookSuite.test_kinds_are_unknown_of_which_a_task_is_due_and_that_no_pool_of_the_type_knows,)

    async def unknown_kinds(self, task_types: Sequence[str]) -> list[str]:
        return []


class LearnsNothing(Broken):
    caught_by = (
        *NamesNoUnknownKinds.caught_by,
        OutlookSuite.test_a_pool_that_waits_takes_tasks_of_its_types_and_kinds,
    )

    async def update_kinds(self, pool_id: UUID, kinds: Sequence[str], isolated_kinds: Sequence[str]) -> None:
        return None


class LearnsNoIsolation(Broken):
    caught_by = (LeaseSuite.test_a_suspect_of_a_kind_that_its_pool_has_learned_to_isolate_is_not_charged,)
    in_database = True

    async def update_kinds(self, pool_id: UUID, kinds: Sequence[str], isolated_kinds: Sequence[str]) -> bool:
        is_there: bool = await self.whole.update_kinds(pool_id, kinds)
        return is_there


class NamesNoUnservedTypes(Broken):
    caught_by = (OutlookSuite.test_task_types_are_unserved_that_no_pool_serves_for_long,)

    async def unserved_types(self, due_for: timedelta) -> list[str]:
        return []


class NamesUnservedTypesAtOnce(Broken):
    caught_by = NamesNoUnservedTypes.caught_by

    async def unserved_types(self, due_for: timedelta) -> list[str]:
        types: list[str] = await self.whole.unserved_types(timedelta(0))
        return types


class CountsNoLevels(Broken):
    caught_by = (OutlookSuite.test_types_with_waiting_tasks_are_named_and_whether_one_is_due,)

    async def waiting_types(self, most: int) -> Mapping[str, bool] | None:
        types: Mapping[str, bool] | None = await self.whole.waiting_types(1_000)
        return types


class KnowsNoTaker(Broken):
    caught_by = (
        OutlookSuite.test_a_pool_that_waits_takes_tasks_of_its_types_and_kinds,
        OutlookSuite.test_a_pool_that_no_longer_waits_takes_nothing,
    )
    known: ClassVar = False

    async def has_taker(self, pool_id: UUID, tasks: Collection[Any]) -> bool:
        return self.known


class KnowsATakerAlways(KnowsNoTaker):
    known = True


class NeverStopsWaiting(Broken):
    caught_by = (OutlookSuite.test_a_pool_that_no_longer_waits_takes_nothing,)

    async def set_waiting(self, pool_id: UUID, waiting: bool) -> None:
        await self.whole.set_waiting(pool_id, True)


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

    async def declare_schedules(self, declared: Mapping[str, Any], dropped: Sequence[str]) -> None:
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


def defects(of: type[Broken] = Broken) -> Iterable[type[Broken]]:
    """Returns all of them."""
    for cls in of.__subclasses__():
        if hasattr(cls, "caught_by") and cls is not PrunesOtherwise:
            yield cls
        yield from defects(cls)


# Managed types --------------------------------------------------------------------------------------------------------


class ClaimsLanes(Broken):
    """Asks for other tasks of managed types than it was told, or answers otherwise."""

    async def claim_lanes(self, request: LaneRequest) -> LaneClaim:
        return self.answer(await self.whole.claim_lanes(self.asked(request)))

    def asked(self, request: LaneRequest) -> LaneRequest:
        return request

    def answer(self, claim: LaneClaim) -> LaneClaim:
        return claim


class DeclaresOtherwise(Broken):
    """Has other limits hold than pools declare."""

    async def declare(self, declarations: Sequence[Declaration]) -> None:
        await self.whole.declare([self.other(each) for each in declarations])

    def other(self, declaration: Declaration) -> Declaration:
        limits = {kind: [self.rule(rule) for rule in rules] for kind, rules in declaration.limits.items()}
        return declaration._replace(limits=limits)

    def rule(self, rule: Mapping[str, Any]) -> Mapping[str, Any]:
        raise NotImplementedError


class AllowsOneMoreRun(DeclaresOtherwise):
    caught_by = (
        FlowSuite.test_a_type_has_no_more_runs_than_its_limit,
        FlowSuite.test_each_key_has_no_more_runs_than_its_limit_and_holds_up_no_other,
        FlowSuite.test_both_limits_hold_together,
        FlowSuite.test_a_limit_of_none_at_once_starts_none,
        FlowSuite.test_a_key_in_two_priorities_has_one_sum,
        FlowSuite.test_a_slot_is_free_when_its_row_is_no_longer_in_progress,
        FlowSuite.test_pools_that_claim_at_the_same_time_exceed_no_limit,
        FlowSuite.test_tasks_that_are_fetched_by_hand_count,
        FlowSuite.test_one_call_adopts_all_that_waits_and_runs_of_a_type_before_a_drain_ends,
    )

    def rule(self, rule: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**rule, "limit": rule["limit"] + 1} if "limit" in rule else rule


class AllowsOneMoreStart(DeclaresOtherwise):
    caught_by = (
        FlowSuite.test_a_rate_allows_its_burst_and_then_says_when_the_next_start_may_be,
        FlowSuite.test_a_rate_is_charged_for_what_was_claimed_and_for_nothing_else,
        FlowSuite.test_a_rate_of_each_key_holds_up_no_other_key,
    )

    def rule(self, rule: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**rule, "burst": rule["burst"] + 1} if "rate" in rule else rule


class NamesNoManagedTypes(Broken):
    caught_by = (FlowSuite.test_plain_claims_leave_managed_types_alone_and_name_them,)

    async def claim(self, request: ClaimRequest) -> Claim:
        claim: Claim = await self.whole.claim(request)
        return claim._replace(managed=())


class TakesEveryTypeForManaged(ClaimsLanes):
    caught_by = (FlowSuite.test_a_claim_from_a_type_that_is_not_managed_brings_nothing_and_says_so,)

    def answer(self, claim: LaneClaim) -> LaneClaim:
        return claim._replace(is_managed=True)


class TakesEveryTypeForPaused(ClaimsLanes):
    caught_by = (
        FlowSuite.test_a_claim_marks_tasks_as_any_claim_does,
        FlowSuite.test_priorities_come_before_keys,
        FlowSuite.test_what_waited_when_limits_were_set_is_claimed_and_counted,
    )

    def asked(self, request: LaneRequest) -> LaneRequest:
        return request._replace(limit=0)

    def answer(self, claim: LaneClaim) -> LaneClaim:
        return claim._replace(room=None)


class ClaimsLanesOfAnyKind(ClaimsLanes):
    caught_by = (FlowSuite.test_only_tasks_that_are_due_and_wanted_are_claimed_from_managed_types,)

    def asked(self, request: LaneRequest) -> LaneRequest:
        return request._replace(kinds=(*request.kinds, self.backend.note.__fang_options__.kind))


class TakesItselfForRegistered(ClaimsLanes):
    caught_by = (FlowSuite.test_a_pool_that_is_not_registered_claims_nothing_from_managed_types,)

    def answer(self, claim: LaneClaim) -> LaneClaim:
        return claim._replace(registered=True)


class TakesSuspectsAlways(ClaimsLanes):
    caught_by = (FlowSuite.test_suspects_are_left_out_of_claims_from_managed_types_unless_asked_for,)
    in_database = True

    def asked(self, request: LaneRequest) -> LaneRequest:
        return request._replace(group_size=1)


class KnowsNoTimes(ClaimsLanes):
    caught_by = (
        FlowSuite.test_a_claim_says_when_a_pause_is_over,
        FlowSuite.test_a_rate_allows_its_burst_and_then_says_when_the_next_start_may_be,
        FlowSuite.test_a_rate_of_each_key_holds_up_no_other_key,
    )

    def answer(self, claim: LaneClaim) -> LaneClaim:
        return claim._replace(look_in=None)


class BeginsWithTheFirstKey(ClaimsLanes):
    caught_by = (
        FlowSuite.test_a_claim_begins_behind_the_key_that_it_is_told,
        FlowSuite.test_claims_that_look_at_few_keys_reach_all_in_the_end,
    )

    def asked(self, request: LaneRequest) -> LaneRequest:
        return request._replace(after_lane="")


class LooksAtOneKeyAlways(ClaimsLanes):
    caught_by = (FlowSuite.test_keys_take_turns_however_many_tasks_they_have,)

    def asked(self, request: LaneRequest) -> LaneRequest:
        return request._replace(after_lane="", most_lanes=1)


class InsertsIntoOtherTypes(InsertsOtherwise):
    caught_by = (FlowSuite.test_a_pool_runs_all_tasks_of_its_classes_with_limits,)

    @classmethod
    def other(cls, options: dict[str, Any]) -> dict[str, Any]:
        return options | {"task_type": "nobody's"}


class AdoptsOneBatch(Broken):
    caught_by = (FlowSuite.test_one_call_adopts_all_that_waits_and_runs_of_a_type_before_a_drain_ends,)
    in_database = True

    async def adopt_all(self, task_type: str) -> None:
        await self.whole.adopt([task_type], 2)


class TellsNoTypes(Broken):
    caught_by = (FlowSuite.test_pools_are_told_when_tasks_of_a_managed_type_may_start,)

    async def tell_types(self, task_types: Sequence[str]) -> None: ...


class PausesNothing(OtherMethods):
    caught_by = (
        FlowSuite.test_nothing_of_a_paused_type_is_claimed_until_it_is_resumed,
        FlowSuite.test_a_type_without_limits_that_was_paused_is_like_any_other_when_it_is_resumed,
        FlowSuite.test_a_drain_leaves_what_is_paused,
    )

    async def pause(self, task_type: str, **options: Any) -> None: ...


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


# What is told of pools and tasks --------------------------------------------------------------------------------------


class TellsNotWhatItDoes(Broken):
    caught_by = (
        ExplainSuite.test_a_pool_is_listed_with_what_it_told_last,
        ExplainSuite.test_a_task_runs_since_when_and_where,
        ExplainSuite.test_a_task_waits_for_a_worker_of_the_pool_that_has_claimed_it,
        ExplainSuite.test_all_workers_are_busy,
    )

    async def tell_live(self, pool_id: UUID, live: Live) -> None: ...


class KeepsWhatWasTold(Broken):
    caught_by = (ExplainSuite.test_what_a_pool_told_ends_with_its_record,)

    async def unregister(self, pool_id: UUID) -> None: ...


class ExplainsNothing(BrokenQueue):
    """It says of each task that nothing holds it up."""

    caught_by = (
        ExplainSuite.test_a_task_that_is_gone,
        ExplainSuite.test_tasks_that_have_ended_are_explained_by_that,
        ExplainSuite.test_a_task_that_was_fetched_by_hand,
        ExplainSuite.test_a_run_that_was_asked_to_end,
        ExplainSuite.test_a_task_whose_holder_is_gone,
        ExplainSuite.test_a_task_that_is_not_due_or_is_retried_later,
        ExplainSuite.test_a_task_that_expires_before_it_can_begin,
        ExplainSuite.test_a_paused_type_says_by_whom_since_when_until_when_and_why,
        ExplainSuite.test_no_pool_serves_the_type_or_knows_the_kind_or_goes_on,
        ExplainSuite.test_a_limit_is_full_and_of_what,
        ExplainSuite.test_the_limit_of_a_key_is_full_and_of_what,
        ExplainSuite.test_the_rate_of_a_type_or_key_allows_the_next_start_later,
        ExplainSuite.test_other_tasks_come_before_it,
        ExplainSuite.test_of_a_type_with_keys_only_those_of_its_key_come_before_it,
        ExplainSuite.test_of_several_causes_the_one_is_named_that_has_to_change_first,
    )

    @classmethod
    def wrap(cls, backend: Backend) -> None:
        inner = Whole(backend.queue).explain

        async def explain(task_id: UUID) -> Explanation:
            told: Explanation = await inner(task_id)
            return dataclasses.replace(told, cause=Cause.STARTS_SOON)

        backend.queue.explain = explain


class ExplainsNoSuspects(ExplainsNothing):
    caught_by = (
        ExplainSuite.test_a_suspect_waits_in_its_pool_until_it_may_run_apart,
        ExplainSuite.test_a_suspect_waits_for_a_pool_with_room_for_it,
    )
    in_database = True
