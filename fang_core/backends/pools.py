"""Defines what a pool reports to its backend of itself and of its classes, and what it learns of dead pools."""

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from fang_core.config import DEFAULT_LEASE, DEFAULT_MAX_CRASHES
from fang_core.record import LiveRun, TaskState
from fang_core.tasks.registry import Mode


class PoolRecord(NamedTuple):
    """Describes a pool, as it registers itself. Each start makes a new ``id``, which is never used again.

    Other pools judge this pool and its tasks by its ``lease`` and ``max_crashes``, whatever their own are; and by
    ``isolated_kinds``, the kinds whose suspects it runs in child processes, where they cannot kill the pool.
    """

    id: UUID
    mode: Mode | Literal["manual"]
    host: str
    pid: int
    task_types: tuple[str, ...]
    kinds: tuple[str, ...]
    workers: int
    lease: timedelta = DEFAULT_LEASE
    max_crashes: int = DEFAULT_MAX_CRASHES
    isolated_kinds: tuple[str, ...] = ()


def manual_pool(pool_id: UUID) -> PoolRecord:
    """Returns the record that a queue registers to hold the tasks that are fetched by hand."""
    return PoolRecord(pool_id, "manual", platform.node(), os.getpid(), (), (), 0)


class Declaration(NamedTuple):
    """Says what the classes that a pool knows declare for one task type.

    Attributes:
        limits: by the kind of each class of the type: its limits, rates and fairness, as JSON values. A class without
            any has an empty list, which withdraws what an earlier release declared for its kind.
        is_repeated: whether only kinds count for which nothing is declared: the pool has declared this before.
    """

    task_type: str
    limits: Mapping[str, Sequence[Mapping[str, Any]]]
    is_repeated: bool = False


class Rescued(NamedTuple):
    """Describes a task that a dead pool held, and its new state: due again, or ``failed`` as crashed.

    Attributes:
        crashes: the crashes charged so far, with this one if it is charged.
        was_stopping: whether the pool had said that it stops. Then no task is at fault, and nothing is charged.
        charged: whether this death is charged. It is not if the pool was stopping; nor to a suspect that the pool held
            together with other tasks, since that had not begun, or that it ran in a child process.
    """

    id: UUID
    kind: str
    attempt: int
    crashes: int
    state: TaskState
    was_stopping: bool
    charged: bool
    task_type: str = ""


class PruneRequest(NamedTuple):
    """Gives the ages from which ended rows of these task types are deleted; None never deletes such rows.

    At most ``limit`` rows of each state are deleted at once.
    """

    task_types: tuple[str, ...]
    keep_finished: timedelta | None
    keep_failed: timedelta | None
    limit: int


class Live(NamedTuple):
    """Says what a pool does now, for observers; no pool acts on it.

    Attributes:
        busy: how many of its workers run a task.
        waiting: how many tasks it has claimed that wait for a worker.
        runs: its runs that have been going on for over a second, the longest first, ``MOST_LIVE`` at most.
    """

    busy: int = 0
    waiting: int = 0
    runs: tuple[LiveRun, ...] = ()


MOST_LIVE: Final = 100
"""How many of its runs a pool tells of: 1,000 would write 60 kB of WAL a second."""
