"""Describes a managed task type: one that is paused, or has limits, rates or fairness."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

from fang_core.flow.limits import FlowRule, FlowSettings


class TypeInfo(NamedTuple):
    """Describes a task type that is paused, or has limits, rates or fairness.

    Attributes:
        task_type: its name.
        is_paused: whether no task of it starts now.
        paused_until: when the pause ends by itself; None if it does not.
        paused_at, paused_by, pause_reason: when it was paused, by whom and why; None unless it is.
        settings: the limits that hold: ``changed`` if any were set, else the strictest of ``declared``.
        declared: what the classes in the code of pools declare, by kind.
        changed: the limits that were set at run time, an empty tuple for no limits; None if none were set.
        changed_at, changed_by, change_reason: when, by whom and why; None if none were set.
        running: how many of its tasks are in progress.
        waiting: how many wait, due or not; ``MOST_COUNTED`` stands for that many or more.
    """

    task_type: str
    is_paused: bool
    paused_until: datetime | None
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    settings: FlowSettings
    declared: Mapping[str, tuple[FlowRule, ...]]
    changed: tuple[FlowRule, ...] | None
    changed_at: datetime | None
    changed_by: str | None
    change_reason: str | None
    running: int
    waiting: int

    @property
    def rules(self) -> tuple[FlowRule, ...]:
        """Returns the rules that were set at run time, else those that the classes declare, each once."""
        if self.changed is not None:
            return self.changed
        return tuple(dict.fromkeys(rule for rules in self.declared.values() for rule in rules))

    @property
    def is_managed(self) -> bool:
        """Returns whether there is anything to say of it."""
        return self.is_paused or bool(self.declared) or self.changed is not None


MOST_COUNTED: Final = 10_000
"""How far the waiting tasks of a type are counted."""
