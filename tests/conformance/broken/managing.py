"""Queues and stores with a defect in pausing types, in their limits, or in what classes declare."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from fang_core.backends.claims import Claim, ClaimRequest
from fang_core.backends.pools import Declaration
from fang_core.conformance import EveryMethodSuite, ManagingSuite
from fang_core.errors import UsageError
from fang_core.flow.info import TypeInfo
from fang_core.remarks import remark
from fang_core.tasks.managing import LimitChange
from tests.conformance.broken.base import Broken, OtherMethods, Whole, without

# Task types -----------------------------------------------------------------------------------------------------------


class CannotResume(OtherMethods):
    caught_by = (EveryMethodSuite.test_each_method_works,)

    async def resume(self, task_type: str, **options: Any) -> TypeInfo | None:
        raise NotImplementedError


class PausesAtOnce(OtherMethods):
    caught_by = (EveryMethodSuite.test_each_method_in_a_transaction_is_rolled_back_with_it,)
    in_database = True

    async def pause(self, task_type: str, **options: Any) -> TypeInfo:
        info: TypeInfo = await self.whole.pause(task_type, **without(options, "connection"))
        return info


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


class PausesUntilATimeThatHasPassed(OtherMethods):
    """It takes the word of the caller that this time lies ahead."""

    caught_by = (ManagingSuite.test_a_pause_of_a_type_until_a_time_that_has_passed_is_refused,)

    async def pause(self, task_type: str, *, until: Any = None, **options: Any) -> Any:
        try:
            return await self.whole.pause(task_type, until=until, **options)
        except UsageError:
            await self.whole.pause(task_type, until=timedelta(milliseconds=1), **options)


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
        for each in declarations:
            await self.whole.declare([each._replace(limits={"a": [], "b": [], **each.limits})])


class HasTheCodeWin(Broken):
    caught_by = (ManagingSuite.test_what_was_set_wins_until_it_is_removed,)

    async def declare(self, declarations: Sequence[Declaration]) -> None:
        await self.whole.declare(declarations)
        for each in declarations:
            await Whole(self.backend.queue)._set_limits(each.task_type, LimitChange(None, remark(None, None)))


class WithdrawsNothing(Broken):
    caught_by = (ManagingSuite.test_a_release_withdraws_what_it_no_longer_declares,)

    async def declare(self, declarations: Sequence[Declaration]) -> None:
        for each in declarations:
            limits = {kind: rules for kind, rules in each.limits.items() if rules}
            await self.whole.declare([each._replace(limits=limits)])


class RepeatsAsIfItWereNews(Broken):
    caught_by = (ManagingSuite.test_what_is_declared_again_holds_only_where_nothing_else_does,)

    async def declare(self, declarations: Sequence[Declaration]) -> None:
        await self.whole.declare([each._replace(is_repeated=False) for each in declarations])


class StaysKnown(Broken):
    """A pool that has ended."""

    caught_by = (ManagingSuite.test_what_is_declared_for_a_kind_that_no_pool_knows_is_dropped,)

    async def unregister(self, pool_id: UUID) -> None: ...
