"""Stores and queues with a defect in what they tell of pools, or in explaining tasks."""

import dataclasses
from uuid import UUID

from fang_core.backends.pools import Live
from fang_core.conformance import Backend, ExplainSuite
from fang_core.monitoring.explanation import Cause, Explanation
from tests.conformance.broken.base import Broken, BrokenQueue, Whole

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
