"""Stores and queues with a defect in claims of managed task types."""

from collections.abc import Mapping, Sequence
from typing import Any

from fang_core.backends.claims import QUANTUM, Claim, ClaimRequest, LaneClaim, LaneRequest
from fang_core.backends.pools import Declaration
from fang_core.conformance import FlowSuite
from tests.conformance.broken.base import Broken, InsertsOtherwise, OtherMethods

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


class ExpectsManyTasksOfEachKey(ClaimsLanes):
    caught_by = (FlowSuite.test_keys_with_few_tasks_are_told_and_a_claim_that_expects_that_is_full,)

    def asked(self, request: LaneRequest) -> LaneRequest:
        return request._replace(quantum=QUANTUM)


class SaysOfFullKeysThatTheyAreShort(ClaimsLanes):
    caught_by = (FlowSuite.test_a_claim_from_full_keys_is_not_told_to_be_short,)

    def answer(self, claim: LaneClaim) -> LaneClaim:
        return claim._replace(is_short=True)


class LooksAtOneKeyAlways(ClaimsLanes):
    caught_by = (FlowSuite.test_keys_take_turns_however_many_tasks_they_have,)

    def asked(self, request: LaneRequest) -> LaneRequest:
        return request._replace(after_lane="", most_lanes=1)


class TakesALimitOf0ForAFullType(ClaimsLanes):
    caught_by = (FlowSuite.test_a_drain_leaves_what_a_limit_of_0_holds_back,)

    def answer(self, claim: LaneClaim) -> LaneClaim:
        return claim._replace(room=claim.room or 0)


class TellsOfNoKeysThatItHasNotReached(ClaimsLanes):
    caught_by = (FlowSuite.test_a_claim_tells_how_far_it_looked_at_keys_of_a_higher_priority,)

    def answer(self, claim: LaneClaim) -> LaneClaim:
        return claim._replace(cut_at=None)


class PassesOverKeysOfOtherPriorities(ClaimsLanes):
    caught_by = (
        FlowSuite.test_claims_that_look_at_few_keys_pass_over_none_of_a_high_priority,
        FlowSuite.test_claims_that_look_at_few_keys_pass_over_none_of_a_low_priority,
    )

    def answer(self, claim: LaneClaim) -> LaneClaim:
        return claim if claim.tasks or claim.after_lane is None else claim._replace(after_lane="8")


class InsertsIntoOtherTypes(InsertsOtherwise):
    caught_by = (FlowSuite.test_a_pool_runs_all_tasks_of_its_classes_with_limits,)

    @classmethod
    def other(cls, options: dict[str, Any]) -> dict[str, Any]:
        return options | {"task_type": "nobody's"}


class AdoptsNothing(Broken):
    caught_by = (FlowSuite.test_what_waited_when_a_pool_declared_limits_is_adopted_batch_by_batch,)
    in_database = True

    async def adopt(self, task_types: Sequence[str], limit: int) -> bool:
        return True


class EndsWithTheFirstBatch(Broken):
    caught_by = (FlowSuite.test_what_waited_when_a_pool_declared_limits_is_adopted_batch_by_batch,)
    in_database = True

    async def adopt(self, task_types: Sequence[str], limit: int) -> bool:
        await self.whole.adopt(task_types, limit)
        return True


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
