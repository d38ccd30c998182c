"""Queues, stores and hearts with a defect in cancelling tasks."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from fang_core.backends.claims import Claim, ClaimRequest
from fang_core.backends.pools import Rescued
from fang_core.conformance import CancelSuite
from fang_core.lifecycle import TERMINAL_STATES, Outcome
from fang_core.liveness import Pulse
from fang_core.record import Task, TaskState
from fang_core.tasks.selecting.filter import TaskFilter
from tests.conformance.broken.base import Broken, BrokenHeart, OtherMethods, Whole


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
