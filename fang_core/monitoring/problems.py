"""Says what is wrong now, for the page, ``fang status`` and ``fang doctor``: rules, and a sentence for each finding.
Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple, TypeAlias

from fang_core.flow.info import TypeInfo
from fang_core.monitoring.figures import NotableRun, PausedSchedule, UnservedSchedule
from fang_core.monitoring.notable import notable_runs
from fang_core.monitoring.silence import is_silent
from fang_core.monitoring.stats import KindStats, Stats, TypeStats
from fang_core.monitoring.unserved import unserved_schedules
from fang_core.record import PoolInfo
from fang_core.schedules.stored import ScheduleInfo
from fang_core.words.spans import span
from fang_core.words.texts import counted, percent

Grade: TypeAlias = Literal["bad", "warn"]

TOO_OLD: Final = 300.0
"""Seconds for which a task may be due before that counts as wrong."""
FAILING: Final = 0.1
"""The part of a kind's runs that end in an error from which on that counts as wrong."""
ENOUGH_RUNS: Final = 5
"""Fewer errors of a kind say nothing of it."""
FULL: Final = 0.95
"""The part of their time in which workers are busy, from which on more are needed."""


class Problem(NamedTuple):
    """Describes one thing that is wrong, in a sentence.

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
    now = datetime.now(UTC) if stats is None else stats.until
    found += _of_pools(pools, now)
    if stats is not None:
        found += _of_types(stats.types)
        found += _of_kinds(stats.kinds)
        if stats.utilisation is not None and stats.utilisation >= FULL and any(each.due for each in stats.types):
            found.append(
                Problem("warn", f"workers are busy {percent(stats.utilisation)} of their time: add some", ("pools",))
            )
    working = [pool for pool in pools if silence(pool, now) is None]
    found += [Problem("warn", text, ("schedules",)) for text in no_ticks(unserved_schedules(schedules, working, now))]
    found += _of_pauses(types, schedules)
    return sorted(found, key=lambda problem: problem.grade != "bad")


def silence(pool: PoolInfo, now: datetime) -> timedelta | None:
    """Returns for how long a pool has reported nothing, if that is too long."""
    quiet = told_ago(pool, now)
    return quiet if is_silent(quiet) else None


def told_ago(pool: PoolInfo, now: datetime) -> timedelta | None:
    """Returns how long ago a pool reported what it does; None if it never has."""
    return None if pool.seen_at is None else now - pool.seen_at


def pool_is_silent(pool: PoolInfo, quiet: timedelta) -> str:
    """Says that nothing was heard of a pool for so long."""
    return f"pool {pool.host}:{pool.pid} has been silent for {span(quiet)}: its process may be dead"


def hung_runs(notable: Iterable[NotableRun]) -> list[NotableRun]:
    """Returns those of the runs that hang."""
    return [run for run in notable if run.is_hung]


def run_hangs(run: NotableRun) -> str:
    """Says that a run hangs, where, and for how long it has been going on."""
    place = f" at {run.place}" if run.place else ""
    return f"{run.kind} {run.task_id} hangs{place}, {span(run.age)} after it began"


def no_pool_serves(task_type: str, due: str) -> str:
    """Says how many due tasks of a type wait for a pool."""
    return f"no pool serves task type {task_type}: {due} due"


def no_pool_knows(task_type: str, kind: str, due: str) -> str:
    """Says how many due tasks of a kind wait for a pool that has their class."""
    return f"no pool of task type {task_type} knows kind {kind}: {due} due"


def no_ticks(unserved: Sequence[UnservedSchedule]) -> list[str]:
    """Says which schedules make no ticks, and what pools lack; schedules of one task type are told together."""
    names: dict[tuple[str, str | None], list[str]] = {}
    for each in unserved:
        names.setdefault((each.task_type, each.kind), []).append(each.name)
    return [
        f"{len(each):,} schedules make no ticks: {no_pool_makes(*lacking, 'their')}"
        if len(each) > 1
        else f"schedule {each[0]} makes no ticks: {no_pool_makes(*lacking, 'its')}"
        for lacking, each in names.items()
    ]


def no_pool_makes(task_type: str, kind: str | None, whose: str) -> str:
    """Says what pools lack to make the ticks of a schedule."""
    if kind is None:
        return f"no pool serves {whose} task type {task_type}"
    return f"no pool of {whose} task type {task_type} has {whose} class {kind}"


def _of_pools(pools: Sequence[PoolInfo], now: datetime) -> Iterator[Problem]:
    for pool in pools:
        quiet = silence(pool, now)
        if quiet is not None:
            yield Problem("bad", pool_is_silent(pool, quiet), ("pools",))
    for run in hung_runs(notable_runs((pool.id, now, pool.runs) for pool in pools)):
        yield Problem("bad", run_hangs(run), ("tasks", run.task_id))


def _of_types(types: Iterable[TypeStats]) -> Iterator[Problem]:
    for each in types:
        due = f"{each.due:,}" + ("" if each.due_is_exact else " or more")
        query = {"task_type": each.task_type}
        if each.due and not each.workers and not each.paused:
            yield Problem("bad", no_pool_serves(each.task_type, due), ("tasks",), query)
        elif each.oldest_due > TOO_OLD and not each.paused:
            waited = span(each.oldest_due)
            yield Problem("warn", f"task type {each.task_type}: a task has been due for {waited}", ("tasks",), query)


def _of_kinds(kinds: Iterable[KindStats]) -> Iterator[Problem]:
    for each in kinds:
        errors = each.retried + each.failed
        query = {"kind": each.kind, "state": "failed" if each.failed else "retried"}
        if errors >= ENOUGH_RUNS and each.error_rate >= FAILING:
            grade: Grade = "bad" if each.failed else "warn"
            lost = f", {each.failed:,} for good" if each.failed else ""
            text = f"{percent(each.error_rate)} of the runs of {each.kind} end in an error{lost}"
            yield Problem(grade, text, ("kinds", each.kind))
        elif each.failed:
            yield Problem("warn", f"{counted(each.failed, 'task')} of {each.kind} failed for good", ("tasks",), query)


def nothing_starts(info: TypeInfo) -> str | None:
    """Says that a person lets no task of a type start; None if tasks may start."""
    if info.is_paused:
        return f"task type {info.task_type} is paused{_said(info.paused_by, info.pause_reason)}"
    if info.settings.max_running == 0:
        said = _said(info.changed_by, info.change_reason)
        return f"nothing of task type {info.task_type} starts: its limit is 0{', set' if said else ''}{said}"
    return None


def schedule_is_paused(paused: ScheduleInfo | PausedSchedule) -> str:
    """Says that a schedule is paused, by whom and why."""
    return f"schedule {paused.name} is paused{_said(paused.paused_by, paused.pause_reason)}"


def _of_pauses(types: Iterable[TypeInfo], schedules: Iterable[ScheduleInfo]) -> Iterator[Problem]:
    for info in types:
        text = nothing_starts(info)
        if text is not None:
            yield Problem("warn", text, ("queues",) if info.is_paused else ("queues", info.task_type))
    for schedule in schedules:
        if schedule.paused:
            yield Problem("warn", schedule_is_paused(schedule), ("schedules",))


def _said(by: str | None, reason: str | None) -> str:
    return (f" by {by}" if by else "") + (f": {reason}" if reason else "")
