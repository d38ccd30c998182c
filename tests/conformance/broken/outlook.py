"""Stores with a defect in waking pools, or in what these ask for once in a while."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from fang_core.backends.pools import PruneRequest
from fang_core.conformance import LeaseSuite, OutlookSuite, WakeSuite
from tests.conformance.broken.base import Broken

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
