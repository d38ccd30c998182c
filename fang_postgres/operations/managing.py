"""Makes the operations on task types that are paused, or have limits, rates or fairness."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from fang_core.flow.info import TypeInfo
from fang_core.flow.limits import FlowRule, FlowSettings, Gcra, rules_as_json, rules_from_json, weights_from_json
from fang_core.flow.settings import effective
from fang_core.record import HIGHEST_PRIORITY
from fang_core.remarks import Remark
from fang_core.tasks.managing import Pause
from fang_core.words.moments import EARLIEST
from fang_postgres.operations.base import OperationsBase
from fang_postgres.operations.rows import as_json, as_nothing, as_object
from fang_postgres.statement import Operation, Rows


class TypeRow(NamedTuple):
    """Holds the row of a managed type; ``declared`` and ``changed`` are as in the database, as JSON texts."""

    info: TypeInfo
    declared: str
    changed: str | None
    settling_until: datetime | None


class Place(NamedTuple):
    """Names a place among the waiting tasks of a type."""

    priority: int = HIGHEST_PRIORITY
    scheduled_at: datetime = EARLIEST
    id: UUID = UUID(int=0)


class Settled(NamedTuple):
    """Says what is to hold for a type, and by what."""

    declared: dict[str, tuple[FlowRule, ...]]
    changed: tuple[FlowRule, ...] | None

    @property
    def settings(self) -> FlowSettings:
        """What holds."""
        return effective(self.declared, self.changed)


class ManagedTypes(OperationsBase):
    """Makes the operations on managed types."""

    def list_types(
        self, task_types: Collection[str] | None = None, *, counts: bool = False
    ) -> Operation[list[TypeRow]]:
        """Returns the rows of managed types, of all or of these; with how many tasks run and wait if asked to."""
        params = {"p_task_types": None if task_types is None else list(task_types), "p_counts": counts}
        return Operation(self._statements.list_types, params, lambda rows: [as_type(row) for row in rows])

    def pause_type(self, task_type: str, pause: Pause) -> Operation[bool]:
        """Pauses a type; returns whether it has, and that time has not passed."""
        params = {"p_task_type": task_type, "p_until": pause.until, "p_lasts": pause.lasts} | _said(pause.remark)
        return Operation(self._statements.pause_type, params, bool)

    def resume_type(self, task_type: str, *, notify: bool) -> Operation[None]:
        """Ends the pause of a type."""
        return Operation(self._statements.resume_type, {"p_task_type": task_type, "p_notify": notify}, as_nothing)

    def drop_type(self, task_type: str) -> Operation[None]:
        """Removes the row of a type if it says nothing."""
        return Operation(self._statements.drop_type, {"p_task_type": task_type}, as_nothing)

    def settle_type(self, task_type: str, lasts: timedelta, enough: timedelta) -> Operation[datetime]:
        """Has no task of a type start for a while; returns until when."""
        params = {"p_task_type": task_type, "p_lasts": lasts, "p_enough": enough}
        return Operation(self._statements.settle_type, params, lambda rows: rows[0][0])

    def older_statements(self, since: datetime) -> Operation[tuple[int, int]]:
        """Returns how many other sessions use a snapshot from before, and how many hide whether they do."""
        return Operation(self._statements.older_statements, {"p_since": since}, lambda rows: (rows[0][0], rows[0][1]))

    def nap(self, seconds: float) -> Operation[None]:
        """Waits."""
        return Operation(self._statements.nap, {"p_seconds": seconds}, as_nothing)

    def write_limits(
        self,
        task_type: str,
        read: TypeRow | None,
        new: "Settled",
        remark: Remark | None,
        *,
        settled: bool,
        notify: bool,
    ) -> Operation[bool]:
        """Writes what holds for a type, if its row is still as it was read; returns whether it is written.

        ``settled`` says that it has been settled, which must not be over. ``remark`` is that of a person's change.
        """
        holds = new.settings
        params: dict[str, Any] = {
            "p_task_type": task_type,
            "p_max_running": holds.max_running,
            "p_max_running_per_key": holds.max_running_per_key,
            "p_fair": holds.fair,
            "p_weights": None if holds.weights is None else _json(dict(holds.weights)),
            "p_declared": _json({kind: rules_as_json(rules) for kind, rules in new.declared.items()}),
            "p_changed": None if new.changed is None else _json(rules_as_json(new.changed)),
            "p_was_there": read is not None,
            "p_was_declared": None if read is None else read.declared,
            "p_was_changed": None if read is None else read.changed,
            "p_was_settling": None if read is None else read.settling_until,
            "p_settled": settled,
            "p_is_change": remark is not None,
            "p_by": None,
            "p_reason": None,
            "p_notify": notify,
        }
        for name, rate in (("rate", holds.rate), ("key_rate", holds.key_rate)):
            params[f"p_{name}_interval"] = None if rate is None else rate.interval
            params[f"p_{name}_burst"] = None if rate is None else rate.burst
        if remark is not None:
            params |= _said(remark)
        return Operation(self._statements.write_limits, params, lambda rows: rows[0][0])

    def adopt_running(self, task_type: str) -> Operation[int]:
        """Gives a lane to the tasks of a type that are in progress without one; returns how many."""
        return Operation(self._statements.adopt_running, {"p_task_type": task_type}, lambda rows: rows[0][0])

    def adopt_waiting(
        self, task_type: str, after: Place, limit: int, *, notify: bool
    ) -> Operation[tuple[int, Place | None]]:
        """Does the same with those among the next waiting ones; returns how many, and the place that it reached."""
        params = {"p_task_type": task_type, "p_limit": limit, "p_notify": notify}
        params |= {"p_after_priority": after.priority, "p_after_at": after.scheduled_at, "p_after_id": after.id}

        def decode(rows: Rows) -> tuple[int, Place | None]:
            count, _, *place = rows[0]
            return count, None if place[0] is None else Place(*place)

        return Operation(self._statements.adopt_waiting, params, decode)

    def tell_types(self, task_types: Sequence[str]) -> Operation[None]:
        """Has the pools of these types look for tasks."""
        params = {"p_task_types": list(task_types), "p_notify": True}
        return Operation(self._statements.tell_types, params, as_nothing)


def managed_types(rows: Rows) -> list[TypeInfo]:
    """Returns the types of which there is something to say."""
    infos = (as_type(row).info for row in rows)
    return [info for info in infos if info.is_managed]


def as_type(row: Sequence[Any]) -> TypeRow:
    """Returns the row of a type: ``sql.managing.type_columns``, and how many of its tasks run and wait."""
    task_type, is_paused, until, at, by, reason, settling, running, per_key, *rates, fair, weights = row[:15]
    declared, changed, changed_at, changed_by, change_reason, count_running, count_waiting = row[15:]
    rate, key_rate = (None if each[0] is None else Gcra(*each) for each in (rates[:2], rates[2:]))
    holds = FlowSettings(running, per_key, rate, key_rate, fair, weights_from_json(as_json(weights)))
    info = TypeInfo(
        task_type=task_type,
        is_paused=is_paused,
        paused_until=until if is_paused else None,
        paused_at=at if is_paused else None,
        paused_by=by if is_paused else None,
        pause_reason=reason if is_paused else None,
        settings=holds,
        declared={kind: rules_from_json(rules) for kind, rules in as_object(declared).items()},
        changed=None if changed is None else rules_from_json(as_json(changed)),
        changed_at=changed_at,
        changed_by=changed_by,
        change_reason=change_reason,
        running=count_running,
        waiting=count_waiting,
    )
    return TypeRow(info, declared, changed, settling)


def _said(remark: Remark) -> dict[str, str | None]:
    return {"p_by": remark.by, "p_reason": remark.reason}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
