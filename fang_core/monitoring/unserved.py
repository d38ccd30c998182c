"""Finds the due tasks, and the schedules, that wait for a missing pool. Pure."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from fang_core.errors import UsageError
from fang_core.monitoring.figures import TaskCount, UnknownKind, UnservedSchedule, UnservedType
from fang_core.record import PoolInfo
from fang_core.schedules.stored import ScheduleInfo, ticks_between


def unserved_types(counts: Sequence[TaskCount], pools: Sequence[PoolInfo]) -> list[UnservedType]:
    """Returns the task types with due tasks that none of the pools serves, most tasks first."""
    served = types_of(pools)
    due, estimated, least = Counter[str](), set[str](), set[str]()
    for count in counts:
        if count.due and count.task_type not in served:
            due[count.task_type] += count.due
            estimated |= {count.task_type} if count.is_estimate else set()
            least |= {count.task_type} if count.is_least else set()
    unserved = (UnservedType(each, number, each in estimated, each in least) for each, number in due.items())
    return sorted(unserved, key=lambda each: (-each.due, each.task_type))


def unknown_kinds(counts: Sequence[TaskCount], pools: Sequence[PoolInfo]) -> list[UnknownKind]:
    """Returns the kinds with due tasks that none of the pools of their task type knows, most tasks first."""
    known = {(task_type, kind) for pool in pools for task_type in pool.task_types for kind in pool.kinds}
    due, estimated, least = Counter[tuple[str, str]](), set[tuple[str, str]](), set[tuple[str, str]]()
    for count in counts:
        place = (count.task_type, count.kind)
        if count.due and place not in known:
            due[place] += count.due
            estimated |= {place} if count.is_estimate else set()
            least |= {place} if count.is_least else set()
    unknown = (UnknownKind(*place, number, place in estimated, place in least) for place, number in due.items())
    return sorted(unknown, key=lambda each: (-each.due, each.kind, each.task_type))


def types_of(pools: Sequence[PoolInfo]) -> set[str]:
    """Returns the task types that these pools serve."""
    return {task_type for pool in pools for task_type in pool.task_types}


def unserved_schedules(
    infos: Sequence[ScheduleInfo], pools: Sequence[PoolInfo], now: datetime
) -> list[UnservedSchedule]:
    """Returns the schedules with ticks to make of which none of the pools makes any, in their order."""
    unserved = ((info, unserved_schedule(info, pools)) for info in infos)
    return [found for info, found in unserved if found is not None and _has_ticks(info, now)]


def unserved_schedule(info: ScheduleInfo, pools: Sequence[PoolInfo]) -> UnservedSchedule | None:
    """Returns what the pools lack to make ticks of a schedule; None if one of them makes them."""
    task_type = info.served_as
    if task_type is None:
        return None
    serving = [pool for pool in pools if task_type in pool.task_types]
    if not serving:
        return UnservedSchedule(info.name, task_type, None)
    kind = None if info.is_stored else str((info.declared or {}).get("kind", info.name))
    is_known = kind is None or any(kind in pool.kinds for pool in serving)
    return None if is_known else UnservedSchedule(info.name, task_type, kind)


def _has_ticks(info: ScheduleInfo, now: datetime) -> bool:
    """Returns whether a pool would make a tick of it, now or later."""
    if info.is_paused(now):
        return False
    after = info.last_tick if info.missed_within is None else max(info.last_tick, now - info.missed_within)
    try:
        return next(ticks_between(info.schedule, after, info.until), None) is not None
    except UsageError:  # its row cannot be read
        return False
