"""Queues with one defect each in lists, in calls for many tasks, or in changes of tasks."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from fang_core.conformance import BulkSuite, EditSuite, ListSuite
from fang_core.errors import UsageError
from fang_core.monitoring.listing import Count, TaskPage
from fang_core.record import Task
from fang_core.tasks.selecting.filter import TaskFilter
from tests.conformance.broken.base import OtherMethods, Whole

# Lists ----------------------------------------------------------------------------------------------------------------


class ListsOnePage(OtherMethods):
    caught_by = (
        ListSuite.test_a_list_and_a_count_have_the_tasks_that_match,
        ListSuite.test_pages_have_each_task_once_while_tasks_move,
    )

    async def list_tasks(self, which: TaskFilter, **options: Any) -> TaskPage:
        return replace(await self.whole.list_tasks(which, **options), cursor=None)


class ListsBackwards(OtherMethods):
    caught_by = (
        ListSuite.test_tasks_that_wait_are_listed_as_they_are_claimed,
        ListSuite.test_tasks_that_have_ended_are_listed_with_the_last_ones_first,
        ListSuite.test_tasks_of_any_state_are_listed_with_those_first_that_were_inserted_last,
    )

    async def list_tasks(self, which: TaskFilter, **options: Any) -> TaskPage:
        page: TaskPage = await self.whole.list_tasks(which, **options)
        return replace(page, tasks=page.tasks[::-1])


class ListsWholeErrors(OtherMethods):
    caught_by = (ListSuite.test_a_list_shows_tasks_as_they_are_but_for_the_history_of_errors,)

    async def list_tasks(self, which: TaskFilter, **options: Any) -> TaskPage:
        page: TaskPage = await self.whole.list_tasks(which, **options)
        return replace(page, tasks=tuple([await self.row(task.id) for task in page.tasks]))


class SaysNotHowFarItLooked(OtherMethods):
    caught_by = (ListSuite.test_a_page_says_how_far_it_has_looked,)

    async def list_tasks(self, which: TaskFilter, **options: Any) -> TaskPage:
        return replace(await self.whole.list_tasks(which, **options), looked_to=None)


class TakesAnyCursor(OtherMethods):
    caught_by = (ListSuite.test_a_cursor_belongs_to_its_filter,)

    async def list_tasks(self, which: TaskFilter, *, cursor: str | None = None, **options: Any) -> TaskPage:
        try:
            page: TaskPage = await self.whole.list_tasks(which, cursor=cursor, **options)
        except UsageError:
            page = await self.whole.list_tasks(which, **options)
        return page


class CountsAllTasks(OtherMethods):
    caught_by = (ListSuite.test_a_list_and_a_count_have_the_tasks_that_match,)

    async def count_tasks(self, which: TaskFilter, **options: Any) -> Count:
        count: Count = await self.whole.count_tasks(TaskFilter(), **options)
        return count


# Many tasks -----------------------------------------------------------------------------------------------------------


class RetriesNothing(OtherMethods):
    """Although it says that it does."""

    caught_by = (
        BulkSuite.test_a_task_is_retried_as_a_move_by_hand_revives_it,
        BulkSuite.test_a_retried_task_begins_its_life_again,
        BulkSuite.test_the_filter_says_which_are_retried,
        BulkSuite.test_of_equal_tasks_the_last_one_is_retried,
        BulkSuite.test_what_is_retried_wakes_a_pool_that_waits,
    )

    async def retry_tasks(self, which: TaskFilter, **options: Any) -> int:
        count: Count = await Whole(self.backend.queue).count_tasks(which)
        return count.count


class RetriesWhateverHasEnded(OtherMethods):
    caught_by = (
        BulkSuite.test_without_states_those_are_retried_that_have_failed,
        BulkSuite.test_the_filter_says_which_are_retried,
    )

    async def retry_tasks(self, which: TaskFilter, **options: Any) -> int:
        every = which if which.states is not None else TaskFilter(states=["finished", "failed", "cancelled"])  # type: ignore[list-item]
        count: int = await self.whole.retry_tasks(every, **options)
        return count


class CountsTwinsAsRetried(OtherMethods):
    caught_by = (BulkSuite.test_a_unique_task_is_not_retried_beside_its_twin,)

    async def retry_tasks(self, which: TaskFilter, **options: Any) -> int:
        count: Count = await Whole(self.backend.queue).count_tasks(which)
        await self.whole.retry_tasks(which, **options)
        return count.count


class RemovesNothing(OtherMethods):
    """Although it says that it does."""

    caught_by = (
        BulkSuite.test_the_filter_says_which_are_removed,
        BulkSuite.test_a_removed_unique_task_keeps_none_out,
    )

    async def remove_tasks(self, which: TaskFilter, **options: Any) -> int:
        count: Count = await Whole(self.backend.queue).count_tasks(which)
        return count.count


class TellsNobodyOfSlots(OtherMethods):
    caught_by = (BulkSuite.test_the_slot_of_a_removed_task_is_told,)

    async def remove_task(self, task_id: UUID, **options: Any) -> int:
        return int(self.backend.queue.state.tasks.pop(task_id, None) is not None)


class TellsNoProgress(OtherMethods):
    caught_by = (
        BulkSuite.test_progress_is_told_up_to_all_that_were_changed,
        BulkSuite.test_what_progress_raises_stops_them_and_says_how_many_are_done,
    )

    async def retry_tasks(self, which: TaskFilter, *, on_progress: Any = None, **options: Any) -> int:
        count: int = await self.whole.retry_tasks(which, **options)
        return count


class RetriesInTransactionsOfItsOwn(OtherMethods):
    caught_by = (BulkSuite.test_they_are_part_of_their_callers_transaction,)
    in_database = True

    async def retry_tasks(self, which: TaskFilter, *, connection: Any = None, **options: Any) -> int:
        count: int = await self.whole.retry_tasks(which, **options)
        return count


# Changes of tasks -----------------------------------------------------------------------------------------------------


class ChangesNothing(OtherMethods):
    caught_by = (
        EditSuite.test_a_task_that_waits_gets_the_new_fields_and_nothing_else_changes,
        EditSuite.test_the_new_fields_are_what_runs,
        EditSuite.test_a_unique_task_is_compared_by_its_new_fields,
        EditSuite.test_a_task_of_a_type_with_limits_is_counted_by_its_new_key,
        EditSuite.test_a_task_that_is_due_sooner_wakes_a_pool_that_waits,
    )

    async def update_task(self, task: Task, new_task: Any, **options: Any) -> Task:
        return await self.row(task.id)


class ForgetsGivenOptions(OtherMethods):
    caught_by = (EditSuite.test_options_change_only_if_they_are_given,)

    async def update_task(self, task: Task, new_task: Any, **options: Any) -> Task:
        row: Task = await self.whole.update_task(task, new_task)
        return row


class ChangesWhatHasChanged(OtherMethods):
    caught_by = (EditSuite.test_a_row_that_has_changed_since_it_was_read_is_left_alone,)

    async def update_task(self, task: Task, new_task: Any, **options: Any) -> Task:
        row: Task = await self.whole.update_task(await self.row(task.id), new_task, **options)
        return row


class IgnoresWhatCannotBeChanged(OtherMethods):
    caught_by = (EditSuite.test_only_a_task_that_waits_can_be_changed_and_only_to_one_of_its_kind,)

    async def update_task(self, task: Task, new_task: Any, **options: Any) -> Task:
        try:
            row: Task = await self.whole.update_task(task, new_task, **options)
        except UsageError:
            row = await self.row(task.id)
        return row


class ChangesInTransactionsOfItsOwn(OtherMethods):
    caught_by = (EditSuite.test_it_is_part_of_its_callers_transaction,)
    in_database = True

    async def update_task(self, task: Task, new_task: Any, *, connection: Any = None, **options: Any) -> Task:
        row: Task = await self.whole.update_task(task, new_task, **options)
        return row
