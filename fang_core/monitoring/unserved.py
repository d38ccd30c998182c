"""Finds the due tasks that wait for a missing pool. Pure."""

from collections import Counter
from collections.abc import Sequence

from fang_core.monitoring.figures import TaskCount, UnknownKind, UnservedType
from fang_core.record import PoolInfo


def unserved_types(counts: Sequence[TaskCount], pools: Sequence[PoolInfo]) -> list[UnservedType]:
    """Returns the task types with due tasks that none of the pools serves, most tasks first."""
    served = {task_type for pool in pools for task_type in pool.task_types}
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
