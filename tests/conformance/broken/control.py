"""Hearts and stores with a defect in what pools are told, and tell."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from fang_core.conformance import CancelSuite, ControlSuite
from fang_core.liveness import Beat, BeatRequest
from fang_core.record import Task
from tests.conformance.broken.base import Broken, BrokenHeart, OtherMethods, Whole

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
