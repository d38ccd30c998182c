"""Makes the operations on schedules and their ticks."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from fang_core.backends.scheduling import replaced
from fang_core.backends.ticks import ScheduleState, Tick
from fang_core.record import Task
from fang_core.remarks import Remark
from fang_core.schedules.schedule import Cron, Every, ScheduleOnce
from fang_core.schedules.stored import ScheduleInfo, Schedules, ScheduleSpec, Verdict
from fang_core.tasks.insertion import NewTask
from fang_core.tasks.managing import Pause
from fang_core.tasks.stored import stored_options
from fang_postgres.operations.base import OperationsBase
from fang_postgres.operations.inserts import as_inserted, row_parameters
from fang_postgres.operations.rows import as_count, as_nothing, as_schedule
from fang_postgres.statement import Operation, Rows


class Stored(NamedTuple):
    """Holds the schedules in the database that concern a pool; None if they are as it knows them."""

    now: datetime
    version: str
    infos: list[ScheduleInfo] | None


class ScheduleOperations(OperationsBase):
    """Reads the last ticks, and inserts the tasks of ticks. ``notify`` is false if the transaction must not notify."""

    def clock(self) -> Operation[datetime]:
        """Returns the time of the database's clock."""
        return Operation(self._statements.clock, {}, lambda rows: rows[0][0])

    def read_schedules(self, names: Sequence[str]) -> Operation[ScheduleState]:
        """Returns the last ticks. A schedule that no pool has seen begins now; one whose name the database cannot hold
        begins now each time."""
        held = self.unheld.without(names)

        def decode(rows: Rows) -> ScheduleState:
            now = rows[0][0]
            last = {name: last for _, name, last in rows if name is not None}
            return ScheduleState(now, last if len(held) == len(names) else dict.fromkeys(names, now) | last)

        return Operation(self._statements.read_schedules, {"p_names": held}, decode)

    def tick(self, tick: Tick, *, notify: bool, by_hand: bool = False) -> Operation[tuple[bool | None, Task | None]]:
        """Inserts a tick's task; returns whether the schedule's last tick was raised, and the inserted task.

        The former is None if another process is just writing to the schedule.
        """
        params = row_parameters(tick.row) | {
            "p_name": tick.name,
            "p_at": tick.at,
            "p_notify": notify,
            "p_by_hand": by_hand,
        }
        return Operation(
            self._statements.tick,
            params,
            lambda rows: (rows[0][0], None if rows[0][1] is None else as_inserted(tick.row, *rows[0][1:4])),
        )

    # Schedules in the database ----------------------------------------------------------------------------------------

    def declare_schedules(
        self, declared: Mapping[str, Mapping[str, str]], dropped: Sequence[str], again: bool
    ) -> list[Operation[None]]:
        """Writes what classes say of their schedules, and that other classes have none; without what the database
        cannot hold."""
        held = {name: each for name, each in declared.items() if self._holds(name, *each.values())}
        dropped = self.unheld.without(dropped)
        declaring = {"p_names": list(held), "p_declared": [json.dumps(each) for each in held.values()]} | {
            "p_again": again
        }
        operations = []
        if held:
            operations.append(Operation(self._statements.declare_schedules, declaring, as_nothing))
        if dropped:
            operations.append(Operation(self._statements.drop_schedules, {"p_names": dropped}, as_nothing))
        return operations

    def _holds(self, *names: str) -> bool:
        return len(self.unheld.without(names)) == len(names)

    def read_stored(self, names: Sequence[str], task_types: Sequence[str], known: str) -> Operation[Stored]:
        """Returns the schedules of these task types, and those of these names that were changed; see ``Stored``."""

        def decode(rows: Rows) -> Stored:
            now, version = rows[0][:2]
            infos = [as_schedule(row[2:]) for row in rows if row[2] is not None]
            return Stored(now, version, None if version == known else infos)

        params = {
            "p_names": self.unheld.without(names),
            "p_task_types": self.unheld.without(task_types),
            "p_known": known,
        }
        return Operation(self._statements.read_stored, params, decode)

    def list_schedules(self, name: str | None = None) -> Operation[Schedules]:
        """Returns all schedules, or the one of this name."""

        def decode(rows: Rows) -> Schedules:
            return Schedules(rows[0][0], [as_schedule(row[1:]) for row in rows if row[1] is not None])

        return Operation(self._statements.list_schedules, {"p_name": name}, decode)

    def put_schedule(
        self, spec: ScheduleSpec, row: NewTask, said: Remark, *, notify: bool
    ) -> Operation[ScheduleInfo | None]:
        """Stores a schedule; returns None if the same is stored already."""
        options, schedule = stored_options(row), spec.schedule
        params = {
            "p_name": spec.name,
            "p_kind": row.kind,
            "p_task_type": options["task_type"],
            "p_metadata": row.metadata,
            "p_options": json.dumps(options),
            "p_cron": schedule.pattern if isinstance(schedule, Cron) else None,
            "p_every": schedule.interval if isinstance(schedule, Every) else None,
            "p_anchor": schedule.anchor if isinstance(schedule, Every) else None,
            "p_at": schedule.at if isinstance(schedule, ScheduleOnce) else None,
            **{f"p_{name}": getattr(spec, name) for name in ("tz", "missed_within", "jitter", "until")},
            **{f"p_{name}": str(getattr(spec, name)) for name in ("overlap", "missed")},
            "p_pause_on_failure": spec.pause_on_failure,
        }
        return Operation(self._statements.put_schedule, params | _who(said, notify), _as_first)

    def pause_schedule(self, name: str, pause: Pause, *, notify: bool) -> Operation[ScheduleInfo | None]:
        """Pauses a schedule; returns None if there is none of this name, or the pause would have ended before."""
        params = {"p_name": name, "p_until": pause.until, "p_lasts": pause.lasts} | _who(pause.remark, notify)
        return Operation(self._statements.pause_schedule, params, _as_first)

    def resume_schedule(self, name: str, said: Remark, *, notify: bool) -> Operation[ScheduleInfo | None]:
        """Ends a pause; returns None if there is nothing to resume."""
        return Operation(self._statements.resume_schedule, {"p_name": name} | _who(said, notify), _as_first)

    def remove_schedule(self, name: str, *, notify: bool) -> Operation[int]:
        """Removes a schedule, or gives it back to the class that declares it; returns whether there was one."""
        return Operation(self._statements.remove_schedule, {"p_name": name, "p_notify": notify}, as_count)

    def hold_schedule(self, info: ScheduleInfo, last_tick: datetime | None = None) -> Operation[bool]:
        """Locks a schedule, if it has neither changed nor ticked since it was read, and raises its last tick to this
        one; returns whether it has not."""
        params = {
            "p_name": info.name,
            "p_changed_at": info.changed_at,
            "p_last_tick": info.last_tick,
            "p_at": last_tick,
        }
        return Operation(self._statements.hold_schedule, params, bool)

    def tick_stored(self, tick: Tick, *, notify: bool) -> Operation[Verdict]:
        """Makes a tick of a schedule in the database; returns what became of it."""
        params = row_parameters(tick.row) | {
            "p_name": tick.name,
            "p_at": tick.at,
            "p_due": tick.due or tick.at,
            "p_changed_at": tick.changed_at,
            "p_notify": notify,
        }
        params |= dict(zip(("p_reason", "p_by"), replaced(tick.name), strict=True))
        return Operation(self._statements.tick_stored, params, lambda rows: Verdict(rows[0][0]))


def _as_first(rows: Rows) -> ScheduleInfo | None:
    return as_schedule(rows[0]) if rows else None


def _who(said: Remark, notify: bool) -> dict[str, Any]:
    return {"p_by": said.by, "p_reason": said.reason, "p_notify": notify}
