"""Says what is wrong now: pure rules over what the queue tells."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from fang_core.flow.info import TypeInfo
from fang_core.monitoring.stats import KindStats, Stats, TypeStats
from fang_core.record import PoolInfo
from fang_core.schedules.stored import ScheduleInfo
from fang_core.words.spans import span
from fang_web.rendering import number, percent

Grade: TypeAlias = Literal["bad", "warn"]

SILENT_AFTER: Final = timedelta(seconds=30)
"""A pool tells what it does every ten seconds at least; one that has not for so long is dead, or cut off."""
TOO_OLD: Final = 300.0
"""Seconds for which a task may be due before that counts as wrong."""
FAILING: Final = 0.1
"""The part of a kind's runs that end in an error from which on that counts as wrong."""
ENOUGH_RUNS: Final = 5
"""Fewer errors of a kind say nothing of it."""
FULL: Final = 0.95
"""The part of their time in which workers are busy, from which on more are needed."""


class Problem(NamedTuple):
    """One thing that is wrong, in a sentence.

    Attributes:
        grade: whether work stands still or is lost, or may soon.
        text: what is wrong, and what to do.
        target: the segments of the page that shows more.
        query: the parameters of that page.
    """

    grade: Grade
    text: str
    target: tuple[str, ...]
    query: Mapping[str, str] = {}


def problems(
    stats: Stats | None, pools: Sequence[PoolInfo], types: Sequence[TypeInfo], schedules: Sequence[ScheduleInfo]
) -> list[Problem]:
    """Returns what is wrong now, the worst first."""
    found: list[Problem] = []
    found += _of_pools(pools, None if stats is None else stats.until)
    if stats is not None:
        found += _of_types(stats.types)
        found += _of_kinds(stats.kinds)
        if stats.utilisation is not None and stats.utilisation >= FULL and any(each.due for each in stats.types):
            found.append(
                Problem("warn", f"workers are busy {percent(stats.utilisation)} of their time: add some", ("pools",))
            )
    found += _of_pauses(types, schedules)
    return sorted(found, key=lambda problem: problem.grade != "bad")


def _of_pools(pools: Sequence[PoolInfo], now: datetime | None) -> Iterator[Problem]:
    for pool in pools:
        where = f"pool {pool.host}:{pool.pid}"
        if now is not None and pool.seen_at is not None and now - pool.seen_at > SILENT_AFTER:
            silent = span(now - pool.seen_at)
            yield Problem("bad", f"{where} has been silent for {silent}: its process may be dead", ("pools",))
        for run in hung_runs(pool):
            place = f", at {run.place}" if run.place else ""
            yield Problem("bad", f"a run of {run.kind} hangs in {where}{place}", ("tasks", run.task_id))


def _of_types(types: Iterable[TypeStats]) -> Iterator[Problem]:
    for each in types:
        due = number(each.due) + ("" if each.due_is_exact else " or more")
        query = {"task_type": each.task_type}
        if each.due and not each.workers and not each.paused:
            yield Problem("bad", f"no pool serves task type {each.task_type}: {due} due", ("tasks",), query)
        elif each.oldest_due > TOO_OLD and not each.paused:
            waited = span(each.oldest_due)
            yield Problem("warn", f"task type {each.task_type}: a task has been due for {waited}", ("tasks",), query)


def _of_kinds(kinds: Iterable[KindStats]) -> Iterator[Problem]:
    for each in kinds:
        errors = each.retried + each.failed
        query = {"kind": each.kind, "state": "failed" if each.failed else "retried"}
        if errors >= ENOUGH_RUNS and each.error_rate >= FAILING:
            grade: Grade = "bad" if each.failed else "warn"
            lost = f", {number(each.failed)} for good" if each.failed else ""
            text = f"{percent(each.error_rate)} of the runs of {each.kind} end in an error{lost}"
            yield Problem(grade, text, ("kinds", each.kind))
        elif each.failed:
            yield Problem("warn", f"{number(each.failed)} tasks of {each.kind} failed for good", ("tasks",), query)


def _of_pauses(types: Iterable[TypeInfo], schedules: Iterable[ScheduleInfo]) -> Iterator[Problem]:
    for info in types:
        if info.is_paused:
            said = _said(info.paused_by, info.pause_reason)
            yield Problem("warn", f"task type {info.task_type} is paused{said}", ("queues",))
    for schedule in schedules:
        if schedule.paused:
            said = _said(schedule.paused_by, schedule.pause_reason)
            yield Problem("warn", f"schedule {schedule.name} is paused{said}", ("schedules",))


def _said(by: str | None, reason: str | None) -> str:
    return (f" by {by}" if by else "") + (f": {reason}" if reason else "")


class HungRun(NamedTuple):
    """A run that goes on far longer than it should, as its pool has told."""

    task_id: str
    kind: str
    place: str


def hung_runs(pool: PoolInfo) -> list[HungRun]:
    """Returns the runs that hang in a pool. What another version wrote may be left out."""
    found = []
    for task_id, told in pool.runs.items():
        run: Any = told
        if isinstance(run, Mapping) and "hung" in run:
            place = run["hung"] if isinstance(run["hung"], str) else ""
            found.append(HungRun(str(task_id), str(run.get("kind", "")), place))
    return found
