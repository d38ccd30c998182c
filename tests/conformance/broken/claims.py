"""Stores with a defect in plain claims."""

from uuid import UUID

from fang_core.backends.claims import Claim, ClaimRequest, LaneClaim, LaneRequest
from fang_core.backends.pools import PoolRecord
from fang_core.claims.suspects import NO_SUSPECTS
from fang_core.conformance import ClaimSuite, FlowSuite, LeaseSuite
from fang_core.record import ClaimedTask
from tests.conformance.broken.base import Broken

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
