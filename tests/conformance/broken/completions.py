"""Stores with a defect in writing outcomes, or in giving back what a pool does not know."""

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar
from uuid import UUID

from fang_core.conformance import CompletionSuite, ReconcileSuite
from fang_core.errors import RowsLocked
from fang_core.lifecycle import Outcome
from tests.conformance.broken.base import Broken

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
