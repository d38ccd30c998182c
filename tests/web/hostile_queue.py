"""A queue that tells hostile texts wherever it can tell a text."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from fang_core.flow.limits import Limit
from fang_core.monitoring.explanation import Cause, Explanation
from fang_core.monitoring.listing import Count, TaskPage
from fang_core.record import Progress, Task, TaskState
from fang_core.tasks.selecting.filter import ANY_TASK, TaskFilter
from tests.web.tasks_of_tests import Free
from tests.web.telling import TellingQueue, kind_stats, live_run, pool, stats, type_stats
from tests.web.texts import hostile_texts

TEXTS = hostile_texts()
NOW = datetime.now(UTC)


def task_id(number: int) -> UUID:
    return UUID(int=(7 << 76) + (2 << 62) + number)


def task_of(number: int) -> Task:
    """Returns a task that has another hostile text in each column that holds texts."""
    a, b, c, d, e = (TEXTS[(number + shift) % len(TEXTS)] for shift in (0, 1, 2, 3, 4))
    state = list(TaskState)[number % len(TaskState)]
    return Task(
        id=task_id(number),
        metadata={"type": a, b: c, "list": [d, {e: a}]},
        kind=a,
        task_type=b,
        state=state,
        priority=0,
        retries=1,
        max_retries=20,
        crashes=0,
        attempt=2,
        scheduled_at=NOW,
        created_at=NOW - timedelta(hours=1),
        updated_at=NOW,
        error_message=c if number % 2 else None,
        errors=[{"number": 1, "time": NOW.isoformat(), "error": d, "traceback": e}],
        pool_id=UUID(int=7) if state == TaskState.IN_PROGRESS else None,
        claimed_at=NOW if state == TaskState.IN_PROGRESS else None,
        headers={a: b},
        cancel_request={"by": c, "at": d, "reason": e},
        progress=Progress(1, 2, a),
        lane=b,
    )


WITH_ALL = 1_000
"""The number of the task that has all texts in each of its columns that hold several."""


def task_with_all() -> Task:
    return task_of(0)._replace(
        id=task_id(WITH_ALL),
        metadata={"type": "x", **{text: text for text in TEXTS}},
        headers={text: text for text in TEXTS},
        errors=[{"number": text, "time": text, "error": text, "traceback": text} for text in TEXTS],
        error_message="\n".join(TEXTS),
        cancel_request={"by": "".join(TEXTS), "at": "", "reason": "".join(TEXTS)},
    )


EDITABLE = 2_000
"""The number of a task that has a form, with hostile texts in all of its fields."""


def editable_task() -> Task:
    metadata = {"type": "web-list", "names": TEXTS[:40], TEXTS[0]: TEXTS[1]}
    return task_of(0)._replace(id=task_id(EDITABLE), kind="web-list", state=TaskState.NEW, metadata=metadata)


TASKS = [*(task_of(number) for number in range(len(TEXTS))), task_with_all(), editable_task()]


class HostileQueue(TellingQueue):
    """Tells of kinds, types, pools, schedules, tasks and changes whose names and texts are all hostile."""

    def __init__(self) -> None:
        kinds = [kind_stats(text, text, failed=9) for text in TEXTS]
        live = [_live(text) for text in TEXTS[:50]]
        pools = [
            pool(
                *live,
                host=text,
                task_types=(text,),
                kinds=tuple(TEXTS),
                runs={text: {"hung": text, "kind": text, "attempt": 1, "since": NOW.isoformat()}},
            )
            for text in TEXTS[:20]
        ]
        pools = [each._replace(id=UUID(int=number), seen_at=None) for number, each in enumerate(pools)]
        super().__init__(stats(*kinds, types=[type_stats(text, workers=0) for text in TEXTS]), pools)

    async def prepare(self) -> None:
        """Pauses, limits and plans under each name, and writes of each in the audit."""
        for text in TEXTS:
            await self.pause(text, reason=text, by=text)
            await self.limits.set(text, [Limit(1)], reason=text, by=text)
            entry = await self.audit.begin(text, text, text, {text: text})
            await self.audit.end(entry, text)
        for text in TEXTS[:40]:
            name = text.replace("\u2028", "").replace("\x0b", "")
            await self.schedules.put(name, Free(value=text), every=timedelta(hours=1), reason=text, by=text)
            await self.schedules.pause(name, reason=text, by=text)

    async def list_tasks(
        self, which: TaskFilter = ANY_TASK, /, *, limit: int = 50, cursor: str | None = None
    ) -> TaskPage:
        start = int(cursor or 0)
        shown = tuple(TASKS[start : start + limit])
        more = str(start + limit) if start + limit < len(TASKS) else None
        return TaskPage(tasks=shown, cursor=more, looked_at=7_500, stopped=more is not None, looked_to=NOW)

    async def count_tasks(self, which: TaskFilter = ANY_TASK, /, *, up_to: int = 10_000) -> Count:
        return Count(len(TASKS), is_exact=False)

    async def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> Task | None:
        return next((task for task in TASKS if task.id == task_id), None)

    async def explain(self, task_id: UUID, /) -> Explanation:
        text = TEXTS[task_id.int % len(TEXTS)]
        return Explanation(task_id=task_id, task=None, cause=Cause.FAILED, text=text, remedy=text, at=NOW)


def _live(text: str) -> Any:
    return live_run(text, done=1, total=2, text=text)
