"""Defines the checks of ``fang doctor`` for every backend: their form, and the rules for pools and tasks. Pure."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from fang_core.aside import ASIDE
from fang_core.flow.info import TypeInfo
from fang_core.monitoring.figures import (
    NotableRun,
    PausedSchedule,
    TaskCount,
    UnknownKind,
    UnservedSchedule,
    UnservedType,
)
from fang_core.monitoring.life import Life
from fang_core.monitoring.problems import (
    hung_runs,
    no_pool_knows,
    no_pool_serves,
    no_ticks,
    nothing_starts,
    run_hangs,
    schedule_is_paused,
)

SHOWN: Final = 3
"""The most things of one sort that a line names."""


class Level(StrEnum):
    """Says how bad it is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    UNKNOWN = "unknown"
    """It could not be looked at."""


class Check(NamedTuple):
    """Holds the result of one rule, in one line.

    Attributes:
        remedy: what mends it, often a command; "" if nothing need be done.
    """

    name: str
    level: Level
    text: str
    remedy: str = ""


def unknown(name: str, why: str) -> Check:
    """Returns the check for facts that could not be read."""
    return Check(name, Level.UNKNOWN, f"not checked: {why}")


def some(texts: Sequence[str]) -> str:
    """Returns the first of these texts in one line, and how many more there are."""
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more


def number(value: int, *, is_estimate: bool, is_least: bool = False) -> str:
    """Returns a number of tasks as a person reads it: ``5``, ``~5`` if it was estimated, ``5+`` if it is the least."""
    return f"{value:,}+" if is_least else f"~{value:,}" if is_estimate else f"{value:,}"


def sum_of(counts: Sequence[TaskCount], value: Callable[[TaskCount], int]) -> str:
    """Returns the sum of a value of these counts, as a person reads it."""
    counted = [count for count in counts if value(count)]
    return number(
        sum(map(value, counted)),
        is_estimate=any(count.is_estimate for count in counted),
        is_least=any(count.is_least for count in counted),
    )


def pools(lives: Mapping[UUID, Life], counts: Sequence[TaskCount]) -> Check:
    """Judges whether pools live."""
    due = sum(count.due for count in counts)
    told = sum_of(counts, lambda count: count.due)
    by_life = {life: [pool_id for pool_id, each in lives.items() if each is life] for life in Life}
    alive, gone = len(by_life[Life.ALIVE]), by_life[Life.DEAD] + by_life[Life.SILENT]
    dead = f"{len(by_life[Life.DEAD])} dead, {len(by_life[Life.SILENT])} silent"
    if not gone:
        text = f"pools alive: {alive}; tasks due: {told}"
        if alive or not due:
            return Check("pools", Level.OK, text)
        wait = "task is" if due == 1 else "tasks are"
        return Check("pools", Level.ERROR, f"no pool is running, and {told} {wait} due", "fang worker MODULE:POOL")
    text = f"pools: {alive} alive, {dead}: {some([str(each) for each in gone])}"
    if alive:
        return Check("pools", Level.WARNING, f"{text}; the pools alive take over the tasks of dead ones", "fang pools")
    return Check("pools", Level.ERROR, text, "fang worker MODULE:POOL")


def _due(waiting: UnservedType | UnknownKind) -> str:
    return number(waiting.due, is_estimate=waiting.is_estimate, is_least=waiting.is_least)


def served(types: Sequence[UnservedType], kinds: Sequence[UnknownKind]) -> Check:
    """Judges whether some pool that lives runs each task that is due."""
    unserved = {each.task_type for each in types}
    unknown_kinds = [each for each in kinds if each.task_type not in unserved]
    told = [no_pool_serves(each.task_type, _due(each)) for each in types]
    told += [no_pool_knows(each.task_type, each.kind, _due(each)) for each in unknown_kinds]
    if not told:
        return Check("served", Level.OK, "every due task has a pool that serves its type and knows its kind")
    starts = ["start a pool that serves the type"] if types else []
    starts += ["deploy the kind's class to its workers"] if unknown_kinds else []
    return Check(
        "served", Level.WARNING, some(told), f"{', and '.join(starts)}; or cancel the tasks: fang tasks cancel"
    )


def schedules(unserved: Sequence[UnservedSchedule]) -> Check:
    """Judges whether some pool that lives makes the ticks of each schedule."""
    if not unserved:
        return Check("schedules", Level.OK, "every schedule with ticks to come has a pool that makes them")
    starts = ["start a pool that serves the type"] if any(each.kind is None for each in unserved) else []
    starts += ["deploy the class to its workers"] if any(each.kind is not None for each in unserved) else []
    remedy = f"{', and '.join(starts)}; or remove the schedule: fang schedules remove NAME"
    return Check("schedules", Level.WARNING, some(no_ticks(unserved)), remedy)


def paused(types: Sequence[TypeInfo], schedules: Sequence[PausedSchedule]) -> Check:
    """Names what people hold back, which they may have forgotten."""
    held = [(text, info.is_paused) for info in types if (text := nothing_starts(info)) is not None]
    if not held and not schedules:
        return Check("paused", Level.OK, "no task type and no schedule is paused")
    ends = ["fang queues resume TYPE"] if any(is_paused for _, is_paused in held) else []
    ends += ["fang limits set TYPE N"] if not all(is_paused for _, is_paused in held) else []
    ends += ["fang schedules resume NAME"] if schedules else []
    told = some([*(text for text, _ in held), *map(schedule_is_paused, schedules)])
    return Check("paused", Level.WARNING, told, f"if it is no longer needed: {'; '.join(ends)}")


def runs(notable: Sequence[NotableRun]) -> Check:
    """Judges runs that hang."""
    hung = hung_runs(notable)
    if not hung:
        return Check("runs", Level.OK, "no run hangs")
    return Check("runs", Level.WARNING, some([run_hangs(run) for run in hung]), f"fang why {hung[0].task_id}")


def aside(counts: Sequence[TaskCount]) -> Check | None:
    """Names tasks that a move has set aside; None if there are none, as nearly always."""
    waiting = [count for count in counts if count.task_type == ASIDE]
    if not waiting:
        return None
    told = sum_of(waiting, lambda count: count.count)
    text = f"tasks that a move to another queue has set aside, so that no pool runs them: {told}"
    remedy = f"if no fang move is running, run the same one again; to see the tasks: fang tasks list --type {ASIDE}"
    return Check("moving", Level.WARNING, text, remedy)
