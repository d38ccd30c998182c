"""Decides which limits hold for a task type: those set at run time, else the strictest of those that pools declare."""

from collections.abc import Iterable, Mapping, Sequence

from fang_core.errors import UsageError
from fang_core.flow.keys import by_name
from fang_core.flow.limits import FlowRule, FlowSettings, Gcra, by_of, settings_of

Declared = Mapping[str, Sequence[FlowRule]]
"""What the classes of a task type declare, by kind."""


def effective(declared: Declared, changed: Sequence[FlowRule] | None) -> FlowSettings:
    """Returns what holds: ``changed`` if a person has set limits, even none, else what classes declare.

    Of each class there is only what the pool declares that started last. Classes of a type may differ if pools of
    several releases or applications run: then the strictest holds.
    """
    if changed is not None:
        return settings_of(changed)
    of_kinds = [settings_of(rules) for _, rules in sorted(declared.items())]
    return FlowSettings(
        max_running=_least(each.max_running for each in of_kinds),
        max_running_per_key=_least(each.max_running_per_key for each in of_kinds),
        rate=_slowest(each.rate for each in of_kinds),
        key_rate=_slowest(each.key_rate for each in of_kinds),
        fair=any(each.fair for each in of_kinds),
        weights=next((each.weights for each in of_kinds if each.weights), None),
    )


def _least(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _slowest(values: Iterable[Gcra | None]) -> Gcra | None:
    given = [value for value in values if value is not None]
    if not given:
        return None
    return Gcra(max(each.interval for each in given), min(each.burst for each in given))


def needs_settling(old: FlowSettings, new: FlowSettings) -> bool:
    """Returns whether claims that are under way must have ended before new settings hold, so that none is exceeded.

    They have to when something begins to be counted, or the locks under which it is counted change. A claim that was
    under way while a number changed keeps to the old number.
    """
    counted = new._replace(fair=False, weights=None)
    return counted.is_limited and _counts(old) != _counts(new)


def _counts(settings: FlowSettings) -> list[bool]:
    limits = (settings.max_running, settings.max_running_per_key, settings.rate, settings.key_rate)
    return [limit is not None for limit in limits]


def check_key(task_type: str, rules: Iterable[FlowRule], declared: Declared) -> None:
    """Raises ``UsageError`` if rules that are set at run time count by a key that tasks of the type do not have.

    The key of a task is made when it is inserted, by its class.
    """
    by = by_of(rules)
    if by is None:
        return
    keys = {by_name(key) for each in declared.values() if (key := by_of(each)) is not None}
    if by_name(by) in keys:
        return
    if keys:
        raise UsageError(f"tasks of type {task_type!r:.100} have the key {_told(keys)}, not {by_name(by)!r:.100}")
    raise UsageError(
        f"tasks of type {task_type!r:.100} have no key: set fair_by={by_name(by)!r:.100} in their class, and start a "
        "pool with it first"
    )


def _told(keys: Iterable[str | tuple[str, ...]]) -> str:
    return " or ".join(sorted(f"{key!r:.100}" for key in keys))
