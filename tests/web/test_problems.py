"""What counts as wrong now: rules without a queue."""

from datetime import timedelta
from typing import Any

import pytest

from fang_core import AsyncMemoryQueue, Limit
from fang_core.monitoring import checks
from fang_core.monitoring.figures import UnservedType
from fang_core.monitoring.notable import notable_runs
from fang_core.monitoring.problems import Problem, problems
from fang_core.schedules.stored import ScheduleInfo
from tests.web.telling import NOW, TASK_ID, kind_stats, pool, stats, type_stats

WELL = pool(seen_at=NOW)
HUNG = {"kind": "Mail", "attempt": 1, "since": (NOW - timedelta(hours=1)).isoformat(), "hung": "/app/tasks.py:12"}


def found(told: Any = None, *, pools: Any = (WELL,), schedules: Any = ()) -> list[Problem]:
    return problems(stats() if told is None else told, list(pools), [], list(schedules))


@pytest.mark.parametrize(
    "told",
    [
        stats(kind_stats(), types=[type_stats()]),
        stats(kind_stats(retried=4, finished=10)),  # too few to say anything
        stats(kind_stats(retried=9)),  # not often enough
        stats(types=[type_stats(due=0, workers=0)]),  # nothing to do
        stats(types=[type_stats(oldest_due=10_000, paused=True)]),  # on purpose
        stats(utilisation=1.0, types=[type_stats(due=0)]),  # busy, and nothing waits
        stats(utilisation=None, points=()),
    ],
)
def test_what_is_well_is_not_told(told: Any) -> None:
    assert found(told) == []


@pytest.mark.parametrize(
    ("told", "grade", "text"),
    [
        (stats(types=[type_stats(workers=0)]), "bad", "no pool serves task type mails: 3 due"),
        (stats(types=[type_stats(oldest_due=301.0)]), "warn", "task type mails: a task has been due for 5 min 1 s"),
        (stats(kind_stats(failed=1)), "warn", "1 task of Mail failed for good"),
        (stats(kind_stats(retried=12)), "warn", "11 % of the runs of Mail end in an error"),
        (stats(kind_stats(failed=12)), "bad", "11 % of the runs of Mail end in an error, 12 for good"),
        (stats(types=[type_stats()], utilisation=0.96), "warn", "workers are busy 96 % of their time: add some"),
    ],
)
def test_what_history_and_types_tell(told: Any, grade: str, text: str) -> None:
    assert [(each.grade, each.text) for each in found(told)] == [(grade, text)]


def test_a_pool_that_has_told_nothing_for_long_and_a_run_that_hangs() -> None:
    silent = pool(seen_at=NOW - timedelta(seconds=31))
    never = pool(seen_at=None)  # of an older release
    hangs = pool(seen_at=NOW, runs={str(TASK_ID): HUNG | {"hung": None}, "x": "?", "y": {"progress": {}}})
    assert [each.text for each in found(pools=[silent, never, hangs])] == [
        "pool host:1 has been silent for 31 s: its process may be dead",
        f"Mail {TASK_ID} hangs, 1 h after it began",
    ]


def test_the_worst_comes_first() -> None:
    paused = ScheduleInfo("nightly", NOW, paused=True, paused_by="grace")
    told = stats(types=[type_stats("a", oldest_due=900.0), type_stats("b", workers=0)])
    assert [each.grade for each in found(told, schedules=[paused])] == ["bad", "warn", "warn"]
    assert found(told, schedules=[paused])[-1].text == "schedule nightly is paused by grace"


def test_schedules_that_make_no_ticks_are_told_for_each_task_type() -> None:
    def put(name: str, **columns: Any) -> ScheduleInfo:
        stored = {"kind": "A", "task_type": "exports", "metadata": "{}", "every": timedelta(days=1), "anchor": NOW}
        return ScheduleInfo(name, NOW, **stored | columns)

    told = "schedule nightly makes no ticks: no pool serves its task type exports"
    declared = {"kind": "A", "task_type": "exports", "cron": "@daily"}
    silent = pool(seen_at=NOW - timedelta(minutes=1), task_types=("exports",))
    assert found(schedules=[put("nightly")])[0] == Problem("warn", told, ("schedules",))
    assert [each.text for each in found(schedules=[ScheduleInfo("nightly", NOW, declared=declared)])] == [told]
    assert found(pools=[silent], schedules=[put("nightly")])[-1].text == told
    several = [put("nightly"), put("hourly"), put("other", task_type="other")]
    assert [each.text for each in found(schedules=several)] == [
        "2 schedules make no ticks: no pool serves their task type exports",
        "schedule other makes no ticks: no pool serves its task type other",
    ]
    of_class = ScheduleInfo("nightly", NOW, declared=declared | {"task_type": WELL.task_types[0], "kind": "B"})
    assert [each.text for each in found(schedules=[of_class])] == [
        "schedule nightly makes no ticks: no pool of its task type mails has its class B"
    ]
    late = {"every": None, "at": NOW, "missed": "skip", "missed_within": timedelta(minutes=1)}
    rest = [
        put("served", task_type=WELL.task_types[0]),
        ScheduleInfo("known", NOW, declared=declared | {"task_type": "mails", "kind": "Mail"}),
        put("over", until=NOW),
        put("done", every=None, at=NOW),
        put("spoilt", every=None),
        put("spoilt, too", every=None, cron="?"),
        ScheduleInfo("only its tick is known", NOW),
        ScheduleInfo("spoilt", NOW, declared={"task_type": 5}),
        put("late", **late)._replace(last_tick=NOW - timedelta(days=2), at=NOW - timedelta(days=1)),
    ]
    assert found(schedules=rest) == []
    assert len(found(schedules=[put("made up for", every=None, at=NOW)._replace(last_tick=NOW - timedelta(1))])) == 1


async def test_a_limit_of_zero_is_told_as_a_pause_is() -> None:
    queue = AsyncMemoryQueue()
    await queue.limits.set("mails", [Limit(1)])
    await queue.limits.set("exports", [Limit(0)], reason="audit", by="grace")
    told = "nothing of task type exports starts: its limit is 0, set by grace: audit"
    types = await queue.limits.list()
    assert problems(stats(), [WELL], types, []) == [Problem("warn", told, ("queues", "exports"))]
    none = [info._replace(changed_by=None, change_reason=None) for info in types]
    assert problems(stats(), [WELL], none, [])[0].text == "nothing of task type exports starts: its limit is 0"


def test_without_history_pools_and_pauses_are_told() -> None:
    hangs = pool(runs={str(TASK_ID): HUNG})
    [problem] = problems(None, [hangs], [], [])
    assert problem.text.startswith(f"Mail {TASK_ID} hangs at /app/tasks.py:12, ")


def test_the_page_and_the_doctor_tell_the_same_of_the_same() -> None:
    hangs = pool(seen_at=NOW, runs={str(TASK_ID): HUNG})
    told = [each.text for each in found(stats(types=[type_stats(workers=0)]), pools=[hangs])]
    runs = checks.runs(notable_runs([(hangs.id, NOW, hangs.runs)]))
    served = checks.served([UnservedType("mails", 3)], [])
    assert sorted(told) == sorted([runs.text, served.text])
