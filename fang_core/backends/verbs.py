"""Defines the verbs that the queue of a backend offers to applications; their arguments are checked already.

``Verbs`` says what each verb gets, does and returns. How a backend answers is its own affair, and its queue's ``_do``
brings it about: see ``fang_core.backends.queue``. A plain backend returns what is written here; one that sends
operations may write its verbs as generators of these, which return it.
"""

from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, Concatenate, Final, Generic, NamedTuple, ParamSpec, Protocol, TypeVar
from uuid import UUID

from fang_core.backends.conflicts import Period
from fang_core.backends.ticks import Tick
from fang_core.flow.info import TypeInfo
from fang_core.lifecycle import Change
from fang_core.monitoring.audit import AuditEntry, Beginning
from fang_core.monitoring.facts import Facts
from fang_core.monitoring.listing import Count, TaskPage
from fang_core.monitoring.reading import Range
from fang_core.monitoring.stats import HeatPoint, Stats
from fang_core.record import PoolInfo, Task
from fang_core.remarks import Remark
from fang_core.runs.run import Run
from fang_core.schedules.stored import Backfill, ScheduleInfo, Schedules, ScheduleSpec
from fang_core.tasks.cancelling import Cancellation
from fang_core.tasks.editing import Edit
from fang_core.tasks.insertion import Bulk, NewTask, Overrides, Rules
from fang_core.tasks.managing import LimitChange, Pause
from fang_core.tasks.selecting.filter import TaskFilter

T = TypeVar("T")
P = ParamSpec("P")

_named: Final = cache(attrgetter)


class Call(NamedTuple, Generic[T]):
    """Names a verb, such as ``insert`` or ``schedules.put``, with its arguments. It is a value: who gets it may make it
    on another thread, or more than once."""

    name: str
    args: tuple[Any, ...] = ()

    def on(self, verbs: Any, *before: Any) -> Any:
        """Calls the verb of this object, with these arguments before its own."""
        return _named(self.name)(verbs)(*before, *self.args)

    @property
    def reads(self) -> bool:
        """Returns whether the verb writes nothing, so that it needs no more than a snapshot."""
        return self.name in READS


def call(verb: Callable[Concatenate[Any, P], T], /, *args: P.args, **_: P.kwargs) -> Call[T]:
    """Returns the call of a verb of ``Verbs``, whose arguments are all positional."""
    return Call(verb.__name__, args)


class Batch(NamedTuple):
    """Answers a verb that deals with many tasks, one batch at a time.

    Attributes:
        dealt_with: how many tasks it has dealt with.
        place: any value by which the next call goes on from here; None if nothing is left.
    """

    dealt_with: int
    place: Any = None


class Fetched(NamedTuple):
    """Answers ``fetch``.

    Attributes:
        task: the task that is held now; None if none is due.
        registered: false if there is no record of the pool; no task is held then.
    """

    task: Task | None
    registered: bool = True


class Parcel(NamedTuple):
    """A task, with all that a backend keeps of it beyond its row.

    Attributes:
        uniq_waiting: the hash by which it keeps equal ones out until it is claimed, if it does.
        period_hash: the hash by which it keeps equal ones out for a time, if it does.
        period: that time.
    """

    task: Task
    uniq_waiting: str | None = None
    period_hash: str | None = None
    period: Period | None = None


class ScheduleVerbs(Protocol):
    """Deals with the schedules that live in the backend: ``Verbs.schedules``; see ``fang_core.backends.schedule_rows``.

    All but ``list_all`` and ``remove`` raise ``scheduling.unknown_schedule`` for an unknown name, except ``put``. When
    a row has changed, pools are notified of ``SCHEDULES``.
    """

    def put(self, spec: ScheduleSpec, row: NewTask, said: Remark, /) -> ScheduleInfo:
        """Stores a schedule and the task of its ticks; one that is the same already stays as it is."""
        ...

    def pause(self, name: str, pause: Pause, /) -> ScheduleInfo:
        """Pauses a schedule. Raises ``UsageError`` if the pause would end before it begins."""
        ...

    def resume(self, name: str, said: Remark, /) -> ScheduleInfo:
        """Ends a pause, if there is one."""
        ...

    def remove(self, name: str, /) -> bool:
        """Removes a schedule, or gives it back to the class that declares it; returns whether there was one."""
        ...

    def list_all(self) -> Schedules:
        """Returns the schedules of which there is something to say, in the order of their names."""
        ...

    def run_now(self, name: str, task_id: UUID, rules: Rules, /) -> Task:
        """Inserts a task of a schedule that is due now, and is of no tick. Raises ``IdInUse``, as an insert does."""
        ...

    def backfill(self, name: str, backfill: Backfill, rules: Rules, /) -> int:
        """Inserts the tasks of past ticks that are not there, all or none; returns how many."""
        ...


class AuditVerbs(Protocol):
    """Keeps a record of who changed what on the page: ``Verbs.audit``."""

    def list_audit(self, limit: int, before: int | None, /) -> list[AuditEntry]:
        """Returns entries, the latest first; only those before the entry of this id, if one is given."""
        ...

    def begin_audit(self, change: Beginning, /) -> int:
        """Adds an entry, and returns its id, which is greater than those before."""
        ...

    def end_audit(self, entry: int, result: str, /) -> bool:
        """Writes the result of a change; returns whether its entry was there without one."""
        ...


class MovingVerbs(Protocol):
    """Reads and writes whole tasks: ``Verbs.moving``. Each call is one transaction."""

    def read(self, ids: Sequence[UUID], /) -> list[Parcel]:
        """Returns those of these tasks that are there, in the order of their ids."""
        ...

    def exchange(self, pairs: Sequence[tuple[Task, Task]], /) -> set[UUID]:
        """Writes task type, due time and headers of the second task over each first one, if that is as it was read.

        It is if ``state``, ``attempt`` and ``updated_at`` are. Returns the ids of the tasks that were written. A task
        gets a lane if its new type is managed; pools are woken as by an insert.
        """
        ...

    def put(self, parcels: Sequence[Parcel], /) -> set[UUID]:
        """Inserts tasks as they are, with their history; returns the ids of those that were inserted.

        One is left out if its id is there already, or an equal unique task keeps it out.
        """
        ...


class Verbs(Protocol):
    """All that a queue asks of its backend. What is inserted or made due wakes the pools that wait for it."""

    @property
    def schedules(self) -> ScheduleVerbs:
        """The verbs on schedules."""
        ...

    @property
    def audit(self) -> AuditVerbs:
        """The verbs on the audit."""
        ...

    @property
    def moving(self) -> MovingVerbs:
        """The verbs on whole tasks."""
        ...

    # Inserting --------------------------------------------------------------------------------------------------------

    def insert(self, row: NewTask, overrides: Overrides, /) -> Task:
        """Inserts a row, due as the overrides say; returns its task, or with ``conflict`` the one that is there.

        Raises ``IdInUse`` or ``TwinExists``. See ``fang_core.backends.conflicts``.
        """
        ...

    def insert_many(self, bulk: Bulk, overrides: Overrides, /) -> list[Task]:
        """Inserts many rows, all or none; returns their tasks in the order given. All rows of the bulk are made.

        Raises what ``insert`` raises. ``refuse_equal`` names rows of one call that keep each other out.
        """
        ...

    def tick_by_hand(self, tick: Tick, /) -> Task | None:
        """Inserts the tick of a class ahead of its time; returns its task, or with ``conflict`` the one that is there.

        Returns None if the tick does not lie ahead any more, and was made before; see ``schedule_rows.is_to_tick``.
        """
        ...

    # One task ---------------------------------------------------------------------------------------------------------

    def find(self, task_id: UUID, /) -> Task | None:
        """Returns the row as it is now, with the ``progress`` that its pool has reported."""
        ...

    def fetch(self, task_type: str, pool_id: UUID, /) -> Fetched:
        """Claims the first task of a type that may start, of any kind, for this pool.

        Tasks that are to be cancelled, by ``cancelled_by_hand``, are cancelled and passed over.
        """
        ...

    def complete_run(self, run: Run, /) -> None:
        """Completes the task of a run, as its ``retention_mode`` has it, and sets ``run.completed``.

        Raises ``TaskLost`` if the run does not hold it any more.
        """
        ...

    def change(self, change: Change, /) -> Task:
        """Moves a task by hand. Raises ``StaleTask`` or ``TwinExists``."""
        ...

    def edit(self, edit: Edit, /) -> Task:
        """Changes payload and options of a waiting task. Raises ``StaleTask`` or ``TwinExists``."""
        ...

    def cancel(self, task_id: UUID, wanted: Cancellation, /) -> Task | None:
        """Cancels a task that waits, or asks the pool of one that runs; returns the row, changed or not."""
        ...

    def remove(self, task_id: UUID, /) -> int:
        """Removes a task, and ends its period, even that of one that is gone already; returns how many tasks."""
        ...

    def remove_twin(self, compared: str, /) -> int:
        """Removes the unique task with this hash that has not ended, and ends its period; returns how many tasks."""
        ...

    # Many tasks -------------------------------------------------------------------------------------------------------

    def cancel_batch(self, which: TaskFilter, wanted: Cancellation, limit: int, place: Any, /) -> Batch:
        """Cancels up to ``limit`` tasks that match, as ``cancel`` does; counts those that this has changed.

        ``place`` is None at first. The batches of one call deal with the tasks that were there when it began.
        """
        ...

    def retry_batch(self, which: TaskFilter, limit: int, place: Any, /) -> Batch:
        """Revives up to ``limit`` ended tasks that match, those that ended last first, unless they have twins; and has
        those due that wait for a retry."""
        ...

    def remove_batch(self, which: TaskFilter, limit: int, place: Any, /) -> Batch:
        """Removes up to ``limit`` tasks that match."""
        ...

    def remove_scheduled_batch(self, limit: int, place: Any, /) -> Batch:
        """Removes up to ``limit`` new tasks that never ran, and are not due."""
        ...

    # Pools ------------------------------------------------------------------------------------------------------------

    def list_pools(self) -> list[PoolInfo]:
        """Returns the registered pools, in the order in which they started."""
        ...

    def send(self, pool_id: UUID, kind: str, body: dict[str, Any], sender: str, /) -> bool:
        """Leaves a message for a pool, and wakes its heart; returns whether there is such a pool."""
        ...

    # Task types -------------------------------------------------------------------------------------------------------

    def list_types(self) -> list[TypeInfo]:
        """Returns the managed types, in the order of their names."""
        ...

    def set_limits(self, task_type: str, change: LimitChange, /) -> TypeInfo | None:
        """Sets the limits of a type, or removes those that were set; returns its state, once they hold. Raises what
        ``flow.settings.check_key`` raises.
        """
        ...

    def pause_type(self, task_type: str, pause: Pause, /) -> TypeInfo:
        """Has nothing of a type start: no claim that begins after this takes a task of it. Raises ``UsageError`` if the
        pause would end before it begins."""
        ...

    def resume_type(self, task_type: str, /) -> TypeInfo | None:
        """Ends the pause of a type; returns what is left to say of it."""
        ...

    # Reading ----------------------------------------------------------------------------------------------------------

    def list_tasks(self, which: TaskFilter, limit: int, cursor: str | None, /) -> TaskPage:
        """Returns a page of the tasks that match. Raises ``UsageError`` for a cursor of another filter."""
        ...

    def count_tasks(self, which: TaskFilter, up_to: int, /) -> Count:
        """Returns how many tasks match: exactly, if they are not more than ``up_to``."""
        ...

    def explain(self, task_id: UUID, /) -> Facts:
        """Returns the facts that decide why a task is not running, all of one moment."""
        ...

    def stats(self, asked: Range, /) -> Stats:
        """Returns what pools have counted in a range."""
        ...

    def heat_map(self, asked: Range, /) -> tuple[HeatPoint, ...]:
        """Returns the histograms of a range, by time."""
        ...

    # For tests --------------------------------------------------------------------------------------------------------

    def tasks_of_kinds(self, kinds: Sequence[str], /) -> list[Task]:
        """Returns the rows of these kinds, in the order of their insertion."""
        ...

    def count_by_kind(self) -> dict[str, int]:
        """Returns how many tasks of each kind there are."""
        ...


READS: Final = frozenset(
    (
        *("find", "list_pools", "list_types", "list_tasks", "count_tasks", "explain", "stats", "heat_map"),
        *("tasks_of_kinds", "count_by_kind", "schedules.list_all", "audit.list_audit", "moving.read"),
    )
)
"""The verbs that write nothing."""
