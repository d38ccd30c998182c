"""Operations: a statement with its parameters and the meaning of its rows. Each mode runs them its own way."""

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import product
from typing import Any, Final
from uuid import UUID

from pydantic_core import from_json

from fang_core.arguments import checked_id, checked_task_type
from fang_core.collector import uncollected
from fang_core.config import RetentionMode
from fang_core.errors import UnreadablePayload
from fang_core.insertion import NewTask, Overrides
from fang_core.lifecycle import Change, Outcome
from fang_core.liveness import Beat, Pulse, lock_key
from fang_core.record import PRIORITIES, ClaimedTask, Task, TaskState
from fang_core.run import Run
from fang_core.store import Claim, ClaimRequest, PoolRecord, PruneRequest, Rescued, Serves, Sighting, Tick
from fang_postgres.revisions import Revision, read_revision
from fang_postgres.statement import Operation, Rows, Statement
from fang_postgres.statements import Statements, statements

Removing = Callable[[UUID, UUID, int], Operation[tuple[int, UUID | None]]]
"""Makes one batch: between these two ids, of so many tasks at most. It returns how many were removed, and the id that
it has reached; None if nothing is left."""

_LOOKED_AT: Final = 200
"""Rows of a level among which unknown kinds, or the next due ones, are looked for."""

_MOST_TYPES: Final = 1_000
"""Task types with waiting rows among which unserved ones are looked for: a step of some microseconds each."""

LOCK_WAIT: Final = "30ms"
"""For which an outcome's statement waits for a row that others have locked; then it writes those that are not.

Short changes by hand end in that time. It is too short to be taken for the time of a wrong plan, see ``guard.SLOW``.
"""


class Operations:
    """Everything that can be asked of the tables under one schema name."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self._statements: Statements = statements(schema)

    # Inserts; ``notify`` is false where the transaction must not ------------------------------------------------------

    def insert(self, row: NewTask, overrides: Overrides, *, notify: bool) -> Operation[Task | None]:
        """One new row; None where its id or its unique hash is taken."""
        params = _row(row) | _due(overrides) | {"p_kind": row.kind, "p_notify": notify}
        return Operation(self._statements.insert, params, lambda rows: new_task(row, *rows[0][:2]) if rows else None)

    def insert_many(self, rows: list[NewTask], overrides: Overrides, *, notify: bool) -> Operation[list[Task]]:
        """Many new rows that cannot collide, in the order given."""
        params = _columns(rows) | _due(overrides) | {"p_notify": notify}
        return Operation(self._statements.insert_many, params, partial(_new_tasks, rows))

    def insert_unique(self, rows: list[NewTask], overrides: Overrides, *, notify: bool) -> Operation[dict[UUID, Task]]:
        """Rows in the order of their hashes; by id those that were inserted."""
        params = _columns(rows) | _due(overrides)
        params |= {"p_uniq_hashes": _as_lines(row.uniq_hash or "" for row in rows), "p_notify": notify}
        by_id = {row.id: row for row in rows}
        return Operation(
            self._statements.insert_unique,
            params,
            lambda told: {each[0]: new_task(by_id[each[0]], each[1], each[2]) for each in told},
        )

    def existing(self, row: NewTask) -> Operation[list[tuple[Task, bool]]]:
        """Who has the row's id, or its unique hash; and whether it is the same task."""
        params = {"p_id": row.id, "p_uniq_hash": row.uniq_hash, "p_metadata": row.metadata}
        return Operation(
            self._statements.existing, params, lambda rows: [(as_task(found), found[-1]) for found in rows]
        )

    def twins(self, hashes: list[str]) -> Operation[dict[str | None, Task]]:
        """The live unique tasks of these hashes."""
        return Operation(
            self._statements.twins,
            {"p_uniq_hashes": hashes},
            lambda rows: {task.uniq_hash: task for task in map(as_task, rows)},
        )

    # By hand ----------------------------------------------------------------------------------------------------------

    def find(self, task_id: UUID) -> Operation[Task | None]:
        """A row by its id."""
        return Operation(
            self._statements.find, {"p_id": checked_id(task_id)}, lambda rows: as_task(rows[0]) if rows else None
        )

    def of_kinds(self, kinds: Sequence[str]) -> Operation[list[Task]]:
        """All rows of these kinds, in the order of their insertion."""
        params = {"p_kinds": list(kinds)}
        return Operation(self._statements.of_kinds, params, lambda rows: [as_task(row) for row in rows])

    def kinds(self) -> Operation[dict[str, int]]:
        """How many rows of each kind there are."""
        return Operation(self._statements.kinds, {}, lambda rows: {row[0]: row[1] for row in rows})

    def change(self, change: Change, *, notify: bool) -> Operation[Task | None]:
        """A move by hand; None where the row is not as it was read, or has a live twin."""
        params = {
            "p_id": change.task.id,
            "p_read_state": str(change.task.state),
            "p_read_attempt": change.task.attempt,
            "p_read_updated_at": change.task.updated_at,
            "p_state": str(change.state),
            "p_revives": change.revives,
            "p_delay": change.delay,
            "p_charge": change.charge,
            "p_error_message": change.error_message,
            "p_error_entry": change.error_entry,
            "p_notify": notify,
        }
        return Operation(self._statements.change, params, lambda rows: as_task(rows[0]) if rows else None)

    def touch(self, task_type: str, pool_id: UUID) -> Operation[tuple[bool, Task | None]]:
        """Whether the queue's row is there, and the task that it now holds."""
        params = _levels((checked_task_type(task_type),)) | {"p_pool_id": pool_id, "p_limit": 1}
        return Operation(
            self._statements.touch,
            params,
            lambda rows: (rows[0][0], None if rows[0][1] is None else as_task(rows[0][1:])),
        )

    def remove_one(self, task_id: UUID) -> Operation[int]:
        """By id; how many."""
        return Operation(self._statements.remove_one, {"p_id": checked_id(task_id)}, _count)

    def remove_twin(self, uniq_hash: str) -> Operation[int]:
        """The live unique task of this hash; how many."""
        return Operation(self._statements.remove_twin, {"p_uniq_hash": uniq_hash}, _count)

    def last_id(self) -> Operation[UUID | None]:
        """The greatest id; None if there is no task."""
        return Operation(self._statements.last_id, {}, lambda rows: rows[0][0] if rows else None)

    def remove_type(self, task_type: str) -> Removing:
        """Batches of the removal of all tasks of a type."""
        return self._removing(self._statements.remove_type, {"p_task_type": checked_task_type(task_type)})

    def remove_all(self) -> Removing:
        """Batches of the removal of all tasks."""
        return self._removing(self._statements.remove_all, {})

    def remove_scheduled(self) -> Removing:
        """Batches of the removal of all tasks that wait for their first run at a later time."""
        return self._removing(self._statements.remove_scheduled, {})

    def _removing(self, statement: Statement, which: dict[str, Any]) -> Removing:
        def batch(first: UUID, last: UUID, limit: int) -> Operation[tuple[int, UUID | None]]:
            params = {"p_from": first, "p_until": last, "p_limit": limit} | which
            return Operation(statement, params, lambda rows: (rows[0][0], rows[0][1]))

        return batch

    # Schedules --------------------------------------------------------------------------------------------------------

    def clock(self) -> Operation[datetime]:
        """The database's clock."""
        return Operation(self._statements.clock, {}, lambda rows: rows[0][0])

    def sight(self, names: Sequence[str]) -> Operation[Sighting]:
        """The last ticks; a schedule that nobody has seen begins now."""
        return Operation(
            self._statements.sight,
            {"p_names": list(names)},
            lambda rows: Sighting(rows[0][0], {name: last for _, name, last in rows if name is not None}),
        )

    def tick(self, tick: Tick, *, notify: bool, by_hand: bool = False) -> Operation[tuple[bool, Task | None]]:
        """Whether the last tick was raised, and the task that was inserted."""
        params = _row(tick.row) | {"p_name": tick.name, "p_at": tick.at, "p_notify": notify, "p_by_hand": by_hand}
        return Operation(
            self._statements.tick,
            params,
            lambda rows: (rows[0][0], None if rows[0][1] is None else new_task(tick.row, *rows[0][1:3])),
        )

    # Pools ------------------------------------------------------------------------------------------------------------

    def version(self) -> Operation[Revision | None]:
        """The revision that the tables are at."""
        return read_version(self._statements.version)

    def register(self, pool: PoolRecord) -> Operation[None]:
        """A pool's own row; it claims nothing without."""
        params = {
            "p_pool_id": pool.id,
            "p_mode": pool.mode,
            "p_host": pool.host,
            "p_pid": pool.pid,
            "p_task_types": list(pool.task_types),
            "p_kinds": list(pool.kinds),
            "p_workers": pool.workers,
            "p_lease": pool.lease,
            "p_max_crashes": pool.max_crashes,
        }
        return Operation(self._statements.register, params, _nothing)

    def learn(self, pool_id: UUID, kinds: Sequence[str]) -> Operation[bool]:
        """Has a pool's row name these kinds; whether it is still there."""
        return Operation(self._statements.learn, {"p_pool_id": pool_id, "p_kinds": list(kinds)}, bool)

    def unregister(self, pool_id: UUID) -> Operation[None]:
        """Takes it away."""
        return Operation(self._statements.unregister, {"p_pool_id": pool_id}, _nothing)

    def announce(self, pool_id: UUID, waiting: bool) -> Operation[None]:
        """That a pool waits to be woken, or no longer does."""
        return Operation(self._statements.announce, {"p_pool_id": pool_id, "p_waiting": waiting}, _nothing)

    def has_taker(self, pool_id: UUID, tasks: Collection[Serves]) -> Operation[bool]:
        """Whether another pool may have a free worker for one of these."""
        params = {
            "p_pool_id": pool_id,
            "p_task_types": [task_type for task_type, _ in tasks],
            "p_kinds": [kind for _, kind in tasks],
        }
        return Operation(self._statements.has_taker, params, lambda rows: rows[0][0])

    def claim(self, request: ClaimRequest) -> Operation[Claim]:
        """Due tasks, now held by the pool, in the order in which they are to be run."""
        params = _levels(request.task_types) | _after(request)
        params |= {"p_pool_id": request.pool_id, "p_kinds": list(request.kinds), "p_limit": request.limit}
        params["p_suspects"] = request.suspects
        return Operation(self._statements.claim, params, partial(_as_claim, request.task_types))

    def beat(self, pool_id: UUID, *, locks: bool, stopping: bool) -> Operation[Beat]:
        """A pool's sign of life, and all others'."""
        params = {"p_pool_id": pool_id, "p_locks": locks, "p_stopping": stopping, "p_key": lock_key(pool_id)}
        return Operation(self._statements.beat, params, as_beat)

    def still_dead(self, dead: Sequence[Pulse]) -> Operation[list[tuple[UUID, bool, int]]]:
        """Those whose counters still stand, whether they were stopping, and their ``max_crashes``."""
        ordered = sorted(dead, key=lambda pulse: pulse.pool_id.bytes)
        params = {"p_ids": [pulse.pool_id for pulse in ordered], "p_beats": [pulse.beats for pulse in ordered]}
        return Operation(self._statements.still_dead, params, lambda rows: [(row[0], row[1], row[2]) for row in rows])

    def orphaned(self) -> Operation[list[UUID]]:
        """Pools that hold tasks and have no record."""
        return Operation(self._statements.orphaned, {}, lambda rows: [row[0] for row in rows])

    def rescue(self, pool_id: UUID, *, charged: bool, max_crashes: int) -> Operation[tuple[int, list[Rescued]]]:
        """How many tasks a dead pool held, and those that are taken back: all that nobody has locked."""
        params = {"p_pool_id": pool_id, "p_charged": charged, "p_max_crashes": max_crashes, "p_notify": True}
        return Operation(self._statements.rescue, params, partial(_as_rescued, was_stopping=not charged))

    def declare_dead(self, pool_id: UUID) -> Operation[None]:
        """Keeps the record of a dead pool, which can never beat or claim again."""
        return Operation(self._statements.declare_dead, {"p_pool_id": pool_id}, _nothing)

    def reconcile(self, pool_id: UUID, known: Sequence[UUID]) -> Operation[int]:
        """Gives back what the pool does not know that it holds; how many."""
        return Operation(
            self._statements.reconcile, {"p_pool_id": pool_id, "p_ids": list(known), "p_notify": True}, len
        )

    def complete(
        self, pool_id: UUID, outcomes: Sequence[Outcome], *, lock_wait: str = LOCK_WAIT
    ) -> list[Operation[set[UUID]]]:
        """What writes these outcomes: one statement for each way of writing; to be run in one transaction.

        ``lock_wait`` is how long each may wait for a row that others have locked, as Postgres writes it.
        """
        removed, finished, settled = [], [], []
        for outcome in sorted(outcomes, key=_by_id):
            if outcome.state is None:
                removed.append(outcome)
            elif outcome.state is TaskState.FINISHED:
                finished.append(outcome)
            else:
                settled.append(outcome)
        operations = []
        wait = {"p_lock_wait": lock_wait}
        if removed:
            operations.append(Operation(self._statements.remove, _fence(pool_id, removed) | wait, _ids))
        if finished:
            operations.append(Operation(self._statements.finish, _fence(pool_id, finished) | wait, _ids))
        if settled:
            params = _fence(pool_id, settled) | _values(settled) | wait
            operations.append(Operation(self._statements.settle, params, _ids))
        return operations

    def unlocked(self, pool_id: UUID, outcomes: Sequence[Outcome]) -> Operation[set[UUID]]:
        """Those that are still held, and locked by nobody."""
        return Operation(self._statements.unlocked, _fence(pool_id, sorted(outcomes, key=_by_id)), _ids)

    def held(self, pool_id: UUID, outcomes: Sequence[Outcome]) -> Operation[set[UUID]]:
        """Those that are still held, locked or not."""
        return Operation(self._statements.held, _fence(pool_id, sorted(outcomes, key=_by_id)), _ids)

    def complete_one(self, run: Run) -> Operation[None]:
        """What completes a run's task in the run's own transaction; fails where it is stale."""
        keep = run.retention_mode is RetentionMode.KEEP_ALL
        params = {"p_id": run.task.id, "p_attempt": run.task.attempt, "p_pool_id": run.pool_id}
        return Operation(
            self._statements.complete_and_keep if keep else self._statements.complete_and_remove, params, _nothing
        )

    def prune(self, request: PruneRequest) -> list[Operation[int]]:
        """What deletes old rows of some task types, a state each."""
        ages = (
            (self._statements.prune_finished, request.keep_finished),
            (self._statements.prune_cancelled, request.keep_finished),
            (self._statements.prune_failed, request.keep_failed),
        )
        return [
            Operation(
                statement, {"p_task_types": list(request.task_types), "p_keep": keep, "p_limit": request.limit}, len
            )
            for statement, keep in ages
            if keep is not None
        ]

    def waiting_types(self, most: int) -> Operation[dict[str, bool] | None]:
        """Task types with tasks that wait, and whether one is due; None where they have too many levels."""

        def decode(rows: Rows) -> dict[str, bool] | None:
            if len(rows) >= most:
                return None
            types: dict[str, bool] = {}
            for task_type, is_due in rows:
                types[task_type] = types.get(task_type, False) or is_due
            return types

        return Operation(self._statements.waiting_types, {"p_limit": most}, decode)

    def next_due(self, task_types: Sequence[str], kinds: Sequence[str]) -> Operation[float | None]:
        """Seconds until the next task is due that is not yet."""
        params = _levels(task_types) | {"p_kinds": list(kinds), "p_limit": _LOOKED_AT}
        return Operation(self._statements.next_due, params, lambda rows: rows[0][0])

    def unknown_kinds(self, task_types: Sequence[str]) -> Operation[list[str]]:
        """Kinds among the first due rows that no registered pool knows."""
        params = _levels(task_types) | {"p_limit": _LOOKED_AT}
        return Operation(self._statements.unknown_kinds, params, lambda rows: [row[0] for row in rows])

    def unserved_types(self, due_for: timedelta) -> Operation[list[str]]:
        """Task types with tasks that have been due for so long, and that no registered pool serves."""
        params = {"p_due_for": due_for, "p_limit": _MOST_TYPES}
        return Operation(self._statements.unserved_types, params, lambda rows: [row[0] for row in rows])


def as_task(row: Sequence[Any]) -> Task:
    """A whole row, as ``statements.task_columns`` reads it. Raises ``UnreadablePayload``."""
    return Task(
        id=row[0],
        metadata=_from_json(row[1], row[0]),
        kind=row[2],
        task_type=row[3],
        state=TaskState(row[4]),
        priority=row[5],
        retries=row[6],
        max_retries=row[7],
        crashes=row[8],
        attempt=row[9],
        scheduled_at=row[10],
        created_at=row[11],
        updated_at=row[12],
        error_message=row[13],
        errors=tuple(_from_json(row[14], row[0])),
        pool_id=row[15],
        claimed_at=row[16],
        uniq_hash=row[17],
    )


def _from_json(text: str, task_id: UUID) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # jsonb holds longer numbers and deeper nesting than Python reads
        raise UnreadablePayload(f"the row of task {task_id} cannot be read: its JSON is too deep or too long") from None


def new_task(row: NewTask, scheduled_at: datetime, created_at: datetime) -> Task:
    """The row that an insert has made."""
    # By position, in the order of Task's fields: by name it takes twice as long, and a bulk makes one for each row.
    return Task(
        row.id,
        from_json(row.metadata),
        row.kind,
        row.task_type,
        TaskState.NEW,
        row.priority,
        0,  # retries
        row.max_retries,
        0,  # crashes
        0,  # attempt
        scheduled_at,
        created_at,
        created_at,  # updated_at
        None,  # error_message
        (),  # errors
        None,  # pool_id
        None,  # claimed_at
        row.uniq_hash,
    )


def _new_tasks(rows: list[NewTask], told: Rows) -> list[Task]:
    scheduled_at, created_at = told[0][:2]
    return uncollected(lambda: [new_task(row, scheduled_at, created_at) for row in rows])


def _row(row: NewTask) -> dict[str, Any]:
    return {
        "p_id": row.id,
        "p_metadata": row.metadata,
        "p_task_type": row.task_type,
        "p_priority": row.priority,
        "p_max_retries": row.max_retries,
        "p_uniq_hash": row.uniq_hash,
    }


def _columns(rows: list[NewTask]) -> dict[str, Any]:
    return {
        "p_ids": _as_lines([row.id.hex for row in rows]),
        "p_metadata": _as_lines([row.metadata for row in rows]),
        "p_task_types": [row.task_type for row in rows],
        "p_priorities": _as_lines([str(row.priority) for row in rows]),
        "p_max_retries": _as_lines([str(row.max_retries) for row in rows]),
    }


def _as_lines(items: Iterable[str]) -> str:
    """A list in one text, as ``inserts._lines`` reads it: no line feed within an item; an empty one stands for null."""
    return "\n".join(items)


def _due(overrides: Overrides) -> dict[str, Any]:
    return {"p_scheduled_at": overrides.scheduled_at, "p_delay": overrides.delay}


def _levels(task_types: Sequence[str]) -> dict[str, Any]:
    levels = list(product(task_types, PRIORITIES))
    return {
        "p_task_types": [task_type for task_type, _ in levels],
        "p_priorities": [priority for _, priority in levels],
    }


def _after(request: ClaimRequest) -> dict[str, Any]:
    """Where each of the levels begins, in their order; null for its start."""
    levels = product(request.task_types, PRIORITIES)
    places = [request.after.get(level, (None, None)) for level in levels]
    return {"p_after_at": [at for at, _ in places], "p_after_id": [task_id for _, task_id in places]}


def _as_claim(task_types: tuple[str, ...], rows: Rows) -> Claim:
    snapshot, now, registered, first_id = rows[0][:4]
    tasks = [] if first_id is None else [ClaimedTask._make(row[3:]) for row in rows]
    if len(task_types) == 1:
        tasks.sort(key=lambda task: (task.priority, task.scheduled_at, task.id.bytes))
    else:
        order = {task_type: place for place, task_type in enumerate(task_types)}
        tasks.sort(key=lambda task: (order[task.task_type], task.priority, task.scheduled_at, task.id.bytes))
    return Claim(tasks, now, snapshot, registered)


def _by_id(outcome: Outcome) -> bytes:
    return outcome.id.bytes  # as Postgres orders uuids


def _fence(pool_id: UUID, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "p_pool_id": pool_id,
        "p_ids": [outcome.id for outcome in outcomes],
        "p_attempts": [outcome.attempt for outcome in outcomes],
    }


def _values(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "p_states": [str(outcome.state) for outcome in outcomes],
        "p_delays": [outcome.delay for outcome in outcomes],
        "p_charges": [outcome.charge for outcome in outcomes],
        "p_forget_crashes": [outcome.forgets_crashes for outcome in outcomes],
        "p_error_messages": [outcome.error_message for outcome in outcomes],
        "p_error_entries": [outcome.error_entry for outcome in outcomes],
        "p_notify": True,
    }


def _ids(rows: Rows) -> set[UUID]:
    return {row[0] for row in rows}


def _as_rescued(rows: Rows, *, was_stopping: bool) -> tuple[int, list[Rescued]]:
    back = [
        Rescued(task_id, kind, attempt, crashes, TaskState(state), was_stopping, charged)
        for _, task_id, kind, attempt, crashes, state, charged, _ in rows
        if task_id is not None
    ]
    return rows[0][0], back


def read_version(statement: Statement) -> Operation[Revision | None]:
    """The revision that the tables are at; None if their version table is empty."""
    return Operation(statement, {}, lambda rows: read_revision(*rows[0]) if rows else None)


def as_beat(rows: Rows) -> Beat:
    """What a statement that looks at all pools has brought."""
    pulses = [Pulse(*row[2:]) for row in rows if row[2] is not None]
    return Beat(rows[0][0], rows[0][1], pulses)


def _count(rows: Rows) -> int:
    return int(rows[0][0])


def _nothing(rows: Rows) -> None:
    return None
