"""Implements the ``Verbs`` of ``fang_core.backends.verbs`` for the queues on Postgres, as plans. Pure.

A plan says how a verb is carried out, on a connection of the queue's or on one of the caller's. What it calls returns a
value in threads, and an awaitable in asyncio: each queue hands over what it gets.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

from fang_core.backends.ticks import Tick
from fang_core.backends.verbs import Call, Parcel
from fang_core.errors import TaskLost, UsageError
from fang_core.lifecycle import Change, spelled
from fang_core.monitoring import audit
from fang_core.monitoring.audit import Beginning
from fang_core.monitoring.reading import Range
from fang_core.record import Task
from fang_core.remarks import Remark
from fang_core.runs.run import Run
from fang_core.schedules.stored import Backfill, ScheduleSpec
from fang_core.tasks.cancelling import Cancellation
from fang_core.tasks.editing import Edit
from fang_core.tasks.insertion import Bulk, NewTask, Overrides, Rules
from fang_core.tasks.managing import LimitChange, Pause
from fang_core.tasks.selecting.batches import Batches
from fang_core.tasks.selecting.filter import TaskFilter
from fang_postgres import scheduling, scripts
from fang_postgres.bulk import remove_many, retry_many
from fang_postgres.cancelling import cancel, cancel_many
from fang_postgres.managing import list_types, pause_type, resume_type, set_limits
from fang_postgres.monitoring.listing import counts, lists
from fang_postgres.monitoring.reading import read_heat, read_stats
from fang_postgres.operations import Operations
from fang_postgres.operations.by_hand import Removing
from fang_postgres.planner_guard import AlwaysOn, PlanGuard, Reading, Summing
from fang_postgres.shapes import STALE_RUN
from fang_postgres.statement import Operation, Script

T = TypeVar("T")

_GUARD_OF_BATCHES: Final = AlwaysOn()
_READING: Final = Reading()
_SUMMING: Final = Summing()


class Sent(NamedTuple):
    """Sends one operation."""

    operation: Operation[Any]
    guard: PlanGuard | None = None

    def on(self, database: Any) -> Any:
        """Carries it out on a ``Database`` of the queue's."""
        return database.run(self.operation, self.guard)

    def on_callers(self, callers: Any) -> Any:
        """Carries it out on a caller's connection, a ``ConnectionAdapter``."""
        return callers.run(self.operation)


class Scripted(NamedTuple):
    """Runs a script, in one transaction if needed. ``begin`` gets ``notify``: whether it may notify."""

    begin: Callable[..., Script[Any]]
    guard: PlanGuard | None = None
    is_transaction: bool = False

    def on(self, database: Any) -> Any:
        """See ``Sent.on``."""
        if self.is_transaction:
            return database.in_transaction(partial(self.begin, notify=True))
        return database.run_script(self.begin(notify=True), self.guard)

    def on_callers(self, callers: Any) -> Any:
        """See ``Sent.on_callers``."""
        return callers.run_script(self.begin)


class Read(NamedTuple):
    """Runs a script that writes nothing, on a connection of the queue's."""

    begin: Callable[[], Script[Any]]
    guard: PlanGuard

    def on(self, database: Any) -> Any:
        """See ``Sent.on``."""
        return database.run_script(self.begin(), self.guard)


class Completing(NamedTuple):
    """Completes the task of a run, on a caller's connection."""

    operations: Operations
    run: Run

    def on(self, _: Any) -> Any:
        """Raises ``UsageError``: there is nothing that it could be committed with."""
        raise UsageError("complete() takes the connection= with whose transaction the task is to end")

    async def on_callers(self, callers: Any) -> None:
        """See ``Sent.on_callers``."""
        await callers.refuse_autocommit()
        self.run.completed = True
        try:
            await callers.run(self.operations.complete_one(self.run))
        except Exception as error:
            if STALE_RUN in str(error):
                raise TaskLost(f"the run no longer holds task {self.run.task.id}: roll back") from error
            raise


Plan = Sent | Scripted | Read | Completing


class PostgresVerbs:
    """See ``fang_core.backends.verbs.Verbs``: each verb returns the plan of it.

    Verbs that deal with many tasks get the ``Batches`` of the call instead of a place, and are one script each: of
    operations that are committed one by one, or on a caller's connection with the rest of the transaction.
    """

    def __init__(self, operations: Operations) -> None:
        self.audit: Final = _AuditVerbs(operations)
        self.moving: Final = _MovingVerbs(operations)
        self.schedules: Final = _ScheduleVerbs(operations)
        self._operations = operations

    # Inserting --------------------------------------------------------------------------------------------------------

    def insert(self, row: NewTask, overrides: Overrides, /) -> Plan:
        may_be_taken_back = row.terms is not None and row.terms.period is not None
        return Scripted(partial(scripts.insert, self._operations, row, overrides), None, may_be_taken_back)

    def insert_many(self, bulk: Bulk, overrides: Overrides, /) -> Plan:
        """The plan on a caller's connection; a queue has ways of its own to send many rows at once."""
        return Scripted(partial(scripts.insert_many, self._operations, bulk, overrides, is_callers=True))

    def tick_by_hand(self, tick: Tick, /) -> Plan:
        return Scripted(partial(scripts.tick_by_hand, self._operations, tick))

    # One task ---------------------------------------------------------------------------------------------------------

    def find(self, task_id: UUID, /) -> Plan:
        return Sent(self._operations.find(task_id))

    def fetch(self, task_type: str, pool_id: UUID, /) -> Plan:
        return Scripted(partial(scripts.fetch, self._operations, task_type, pool_id))

    def complete_run(self, run: Run, /) -> Plan:
        return Completing(self._operations, run)

    def change(self, change: Change, /) -> Plan:
        return Scripted(partial(scripts.change, self._operations, change))

    def edit(self, edit: Edit, /) -> Plan:
        return Scripted(partial(scripts.edit, self._operations, edit))

    def cancel(self, task_id: UUID, wanted: Cancellation, /) -> Plan:
        return Scripted(partial(cancel, self._operations, task_id, wanted))

    def remove(self, task_id: UUID, /) -> Plan:
        return Scripted(partial(scripts.remove_one, self._operations, task_id))

    def remove_twin(self, compared: str, /) -> Plan:
        return Scripted(partial(scripts.remove_twin, self._operations, compared))

    # Many tasks -------------------------------------------------------------------------------------------------------

    def cancel_batch(self, which: TaskFilter, wanted: Cancellation, batches: Batches, /) -> Plan:
        return Scripted(partial(cancel_many, self._operations, which, batches, wanted), _GUARD_OF_BATCHES)

    def retry_batch(self, which: TaskFilter, batches: Batches, /) -> Plan:
        return Scripted(partial(retry_many, self._operations, which, batches), _GUARD_OF_BATCHES)

    def remove_batch(self, which: TaskFilter, batches: Batches, /) -> Plan:
        return Scripted(partial(remove_many, self._operations, which, batches), _GUARD_OF_BATCHES)

    def remove_type_batch(self, task_type: str, batches: Batches, /) -> Plan:
        return self._remove(self._operations.remove_type(task_type), batches)

    def remove_any_batch(self, batches: Batches, /) -> Plan:
        return self._remove(self._operations.remove_all(), batches)

    def remove_scheduled_batch(self, batches: Batches, /) -> Plan:
        return self._remove(self._operations.remove_scheduled(), batches)

    def _remove(self, batch: Removing, batches: Batches) -> Plan:
        return Scripted(partial(scripts.remove, self._operations, batch, batches), _GUARD_OF_BATCHES)

    # Pools ------------------------------------------------------------------------------------------------------------

    def list_pools(self) -> Plan:
        return Sent(self._operations.list_pools())

    def send(self, pool_id: UUID, kind: str, body: dict[str, Any], sender: str, /) -> Plan:
        return Sent(self._operations.send(pool_id, kind, body, sender))

    # Task types -------------------------------------------------------------------------------------------------------

    def list_types(self) -> Plan:
        return Scripted(partial(list_types, self._operations))

    def set_limits(self, task_type: str, change: LimitChange, /) -> Plan:
        return Scripted(partial(set_limits, self._operations, task_type, change), _GUARD_OF_BATCHES)

    def pause_type(self, task_type: str, pause: Pause, /) -> Plan:
        return Scripted(partial(pause_type, self._operations, task_type, pause))

    def resume_type(self, task_type: str, /) -> Plan:
        return Scripted(partial(resume_type, self._operations, task_type))

    # Reading ----------------------------------------------------------------------------------------------------------

    def list_tasks(self, which: TaskFilter, limit: int, cursor: str | None, /) -> Plan:
        return Read(lists(self._operations, which, limit, cursor), _READING)

    def count_tasks(self, which: TaskFilter, up_to: int, /) -> Plan:
        return Read(counts(self._operations, which, up_to), _READING)

    def explain(self, task_id: UUID, /) -> Plan:
        return Sent(self._operations.explain(task_id), _READING)

    def stats(self, asked: Range, /) -> Plan:
        return Read(partial(read_stats, self._operations, asked), _SUMMING)

    def heat_map(self, asked: Range, /) -> Plan:
        return Read(partial(read_heat, self._operations, asked), _SUMMING)

    # For tests --------------------------------------------------------------------------------------------------------

    def tasks_of_kinds(self, kinds: Sequence[str], /) -> Plan:
        return Sent(self._operations.of_kinds(kinds))

    def count_by_kind(self) -> Plan:
        return Sent(self._operations.kinds())


class _ScheduleVerbs:
    """See ``fang_core.backends.verbs.ScheduleVerbs``."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def put(self, spec: ScheduleSpec, row: NewTask, said: Remark, /) -> Plan:
        return Scripted(partial(scheduling.put, self._operations, spec, row, said))

    def pause(self, name: str, pause: Pause, /) -> Plan:
        return Scripted(partial(scheduling.pause, self._operations, name, pause))

    def resume(self, name: str, said: Remark, /) -> Plan:
        return Scripted(partial(scheduling.resume, self._operations, name, said))

    def remove(self, name: str, /) -> Plan:
        return Scripted(partial(scheduling.remove, self._operations, name))

    def list_all(self) -> Plan:
        return Scripted(partial(scheduling.list_all, self._operations))

    def run_now(self, name: str, task_id: UUID, rules: Rules, /) -> Plan:
        return Scripted(partial(scheduling.run_now, self._operations, name, task_id, rules))

    def backfill(self, name: str, backfill: Backfill, rules: Rules, /) -> Plan:
        return Scripted(partial(scheduling.backfill, self._operations, name, backfill, rules), is_transaction=True)


class _AuditVerbs:
    """See ``fang_core.backends.verbs.AuditVerbs``."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def list_audit(self, limit: int, before: int | None, /) -> Plan:
        return Sent(self._operations.list_audit(limit, before))

    def begin_audit(self, change: Beginning, /) -> Plan:
        return Sent(self._operations.begin_audit(change))

    def end_audit(self, entry: int, result: str, /) -> Plan:
        return Sent(self._operations.end_audit(entry, result))


class _MovingVerbs:
    """See ``fang_core.backends.verbs.MovingVerbs``."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def read(self, ids: Sequence[UUID], /) -> Plan:
        return Sent(self._operations.read_whole(ids))

    def exchange(self, pairs: Sequence[tuple[Task, Task]], /) -> Plan:
        return Sent(self._operations.exchange(pairs))

    def put(self, parcels: Sequence[Parcel], /) -> Plan:
        return Scripted(partial(self._operations.put, parcels), None, is_transaction=True)


def in_ascii(call: Call[T]) -> Call[T] | None:
    """Returns the call in ASCII, for a database that lacks one of its characters; None if there is no such text."""
    spelled_out = audit.in_ascii if call.name.startswith("audit.") else _spelled
    args = tuple(map(spelled_out, call.args))
    return None if args == call.args else call._replace(args=args)


def _spelled(arg: Any) -> Any:
    if isinstance(arg, Change):
        return spelled(arg)
    return arg.in_ascii() if isinstance(arg, Cancellation | LimitChange | Pause | Remark) else arg
