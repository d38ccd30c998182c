"""Defines limits, rates and fairness as values: of a class's ``task_config``, of ``queue.limits``, and as JSON.

``FlowSettings`` combines them for one task type: the claims of all pools keep to it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from fang_core.errors import UsageError
from fang_core.flow.keys import By, by_name, checked_by, key_text
from fang_core.words.naming import names_arguments
from fang_core.words.spans import exact_span

_MOST: Final = 1_000_000_000
_SECOND: Final = timedelta(seconds=1)
_LATE: Final = timedelta(milliseconds=50)
"""How late a pool may wake without loss of a start, unless a burst is given."""
_SLOW: Final = timedelta(milliseconds=250)
"""If starts are so far apart, being late by some milliseconds does not matter: then they stay apart."""
_TICK: Final = timedelta(microseconds=1)
_LONGEST_INTERVAL: Final = timedelta(days=366)
_UNITS: Final = MappingProxyType(
    {_SECOND: "s", timedelta(minutes=1): "min", timedelta(hours=1): "h", timedelta(days=1): "d"}
)


@names_arguments
@dataclass(frozen=True, slots=True)
class Limit:
    """Limits how many tasks of a type run at once, in all processes together.

    Attributes:
        n: how many; 0 starts none, which only the limit of the whole type may be.
        by: counts the tasks of each key separately: the name of a field, several names, or a function that is called
            with the task when it is inserted. Without it, all tasks of the type count together.

    Raises ``UsageError``.
    """

    n: int
    _: KW_ONLY
    by: By | None = None

    def __post_init__(self) -> None:
        _check_number("Limit", "n", self.n, 0 if self.by is None else 1)
        if self.by is not None:
            object.__setattr__(self, "by", checked_by(self.by))

    def __str__(self) -> str:
        return f"{self.n} at once{_of_each(self.by)}"


@names_arguments
@dataclass(frozen=True, slots=True)
class Rate:
    """Limits how fast tasks of a type start, in all processes together: ``n`` in each ``per``, evenly spread.

    A start becomes possible each ``per / n``, and unused starts are kept, up to ``burst`` of them. So in any period
    there are at most ``burst`` starts more than the rate allows for it.

    Attributes:
        n, per: how many starts in how long.
        burst: how many starts may come at once after a quiet time. Unless given, it is 1 if starts are a quarter of a
            second apart or more; else one more than the rate has in 50 ms, so that pools that wake late lose no start.
        by: gives each key a rate of its own, see ``Limit``.

    Raises ``UsageError``.
    """

    n: int
    _: KW_ONLY
    per: timedelta = _SECOND
    burst: int | None = None
    by: By | None = None

    def __post_init__(self) -> None:
        _check_number("Rate", "n", self.n, 1)
        if not isinstance(self.per, timedelta):
            raise UsageError(f"Rate: per must be a timedelta, not {type(self.per).__name__}")
        if not self.n <= self.per // _TICK <= self.n * (_LONGEST_INTERVAL // _TICK):
            raise UsageError("Rate: starts must be between a microsecond and a year apart: change n or per")
        if self.burst is not None:
            _check_number("Rate", "burst", self.burst, 1)
        if self.by is not None:
            object.__setattr__(self, "by", checked_by(self.by))

    @property
    def gcra(self) -> "Gcra":
        """The rate as claims judge it. The interval is rounded up, so that no rounding exceeds the rate."""
        interval = -(-(self.per // _TICK) // self.n) * _TICK
        if self.burst is not None:
            return Gcra(interval, self.burst)
        return Gcra(interval, 1 if interval >= _SLOW else 1 - (-_LATE // interval))

    def __str__(self) -> str:
        speed = f"{self.n}/{_UNITS.get(self.per) or exact_span(self.per)}"
        return speed + _of_each(self.by) + ("" if self.burst is None else f", {self.burst} at first")


@names_arguments
@dataclass(frozen=True, slots=True)
class Fair:
    """Makes the keys of a task type take turns, however many tasks each of them has.

    Attributes:
        by: makes the key, see ``Limit``.
        weights: how many turns keys get that are to have more than one: 2 for twice as many tasks. A key that is not
            named has 1.

    Raises ``UsageError``.
    """

    by: By
    _: KW_ONLY
    weights: Mapping[Any, int] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by", checked_by(self.by))
        if not isinstance(self.weights, Mapping):
            raise UsageError("Fair: weights must be a dict of keys and whole numbers")
        for weight in self.weights.values():
            _check_number("Fair", "a weight", weight, 1, 1_000)
        object.__setattr__(self, "weights", {key_text(key): weight for key, weight in self.weights.items()})

    def __str__(self) -> str:
        weights = ", ".join(f"{key} {weight}" for key, weight in self.weights.items())
        return f"fair{_of_each(self.by)}" + (f" (weights: {weights})" if weights else "")


FlowRule = Limit | Rate | Fair
"""What ``queue.limits`` takes: a limit, a rate, or fairness."""


class Gcra(NamedTuple):
    """A rate: one start each ``interval``, and at most ``burst`` of them at once.

    The generic cell rate algorithm: ``tat`` is when the bucket is full again. A start moves it by one interval, and is
    allowed while it lies less than ``burst`` intervals ahead.
    """

    interval: timedelta
    burst: int

    def clamped(self, tat: datetime, now: datetime) -> datetime:
        """Returns the time as it counts: it is not in the past.

        If it is further ahead than starts can move it, the clock was set back: then one start is allowed now.
        """
        if tat <= now:
            return now
        ahead = -((now - tat) // self.interval)  # rounded up; the end of a large burst may be a time that no date tells
        return tat if ahead <= self.burst else now + (self.burst - 1) * self.interval

    def next_start(self, tat: datetime, now: datetime) -> datetime:
        """Returns when the next start is allowed, which may be now."""
        tat = self.clamped(tat, now)
        if (tat - now) // self.interval < self.burst - 1:
            return now
        return tat - (self.burst - 1) * self.interval

    def __str__(self) -> str:
        """Returns the speed in the unit in which it is a whole number, if there is one: ``10/s``, ``100/min``."""
        for unit, name in _UNITS.items():
            starts = round(unit / self.interval)  # the interval of 6/s was rounded to microseconds
            if starts and abs(starts * self.interval - unit) < starts * _TICK:
                return f"{starts}/{name}"
        return f"{_SECOND / self.interval:.6g}/s" if self.interval < _SECOND else f"1/{exact_span(self.interval)}"


class FlowSettings(NamedTuple):
    """Holds the rules that claims keep to for one task type.

    Attributes:
        max_running: how many of its tasks run at once.
        max_running_per_key: how many of each key.
        rate, key_rate: how fast its tasks start, and those of each key.
        fair: whether keys take turns. Claims that count by key have them take turns in any case.
        weights: how much of a turn the keys take that have more than 1.
    """

    max_running: int | None = None
    max_running_per_key: int | None = None
    rate: Gcra | None = None
    key_rate: Gcra | None = None
    fair: bool = False
    weights: Mapping[str, int] | None = None

    @property
    def is_limited(self) -> bool:
        """Returns whether there is anything to keep to."""
        return self != UNLIMITED


UNLIMITED: Final = FlowSettings()
"""The settings of a task type without any."""


def checked_rules(rules: Iterable[FlowRule]) -> tuple[FlowRule, ...]:
    """Returns the rules of one class or one task type, if they can hold together. Raises ``UsageError``."""
    if isinstance(rules, FlowRule | str | bytes | Mapping) or not isinstance(rules, Iterable):
        raise UsageError("limits must be a list, such as [Limit(5), Limit(2, by='tenant')]")
    checked = tuple(rules)
    slots = set()
    for rule in checked:
        if not isinstance(rule, FlowRule):
            name = rule.__name__ if isinstance(rule, type) else type(rule).__name__
            raise UsageError(f"limits takes Limit(...), Rate(...) and Fair(...), not {name}")
        slot = (type(rule), rule.by is None)
        if slot in slots:
            whose = "the whole type" if rule.by is None else "each key"
            raise UsageError(f"there are two of {type(rule).__name__} for {whose}: remove one")
        slots.add(slot)
    if len({by_name(rule.by) for rule in checked if rule.by is not None}) > 1:
        raise UsageError("a task has one key: write the same by= in all limits and rates, and in fair_by")
    return checked


def by_of(rules: Iterable[FlowRule]) -> By | None:
    """Returns what makes the keys of these rules; None if none counts by key."""
    return next((rule.by for rule in rules if rule.by is not None), None)


def settings_of(rules: Iterable[FlowRule]) -> FlowSettings:
    """Returns what these rules come to."""
    settings: dict[str, Any] = {}
    for rule in rules:
        match rule:
            case Limit(by=None):
                settings["max_running"] = rule.n
            case Limit():
                settings["max_running_per_key"] = rule.n
            case Rate(by=None):
                settings["rate"] = rule.gcra
            case Rate():
                settings["key_rate"] = rule.gcra
            case Fair():
                settings |= {"fair": True, "weights": dict(rule.weights) or None}
    return FlowSettings(**settings)


def rules_as_json(rules: Sequence[FlowRule]) -> list[dict[str, Any]]:
    """Returns the rules as the database keeps them; functions become their names."""
    return [_as_json(rule) for rule in rules]


def rules_from_json(written: object) -> tuple[FlowRule, ...]:
    """Returns the rules that the database keeps. What it does not know, as a newer release may write, is left out."""
    each_of_them = written if isinstance(written, list) else ()
    return tuple(rule for each in each_of_them if isinstance(each, Mapping) and (rule := _from_json(each)) is not None)


def weights_from_json(written: object) -> dict[str, int] | None:
    """Returns the weights that the database keeps; None if it keeps none, or its JSON is no such object."""
    try:
        return dict(Fair("key", weights=written).weights) or None  # type: ignore[arg-type]  # it checks
    except UsageError:
        return None


def _as_json(rule: FlowRule) -> dict[str, Any]:
    by: dict[str, Any] = {} if rule.by is None else {"by": by_name(rule.by)}
    if isinstance(by.get("by"), tuple):
        by["by"] = list(by["by"])
    match rule:
        case Limit():
            return {"limit": rule.n} | by
        case Rate():
            burst = {} if rule.burst is None else {"burst": rule.burst}
            return {"rate": rule.n, "per": rule.per.total_seconds()} | burst | by
        case Fair():
            return {"fair": True} | ({"weights": dict(rule.weights)} if rule.weights else {}) | by


def _from_json(written: Mapping[str, Any]) -> FlowRule | None:
    by: Any = written.get("by")
    if isinstance(by, list):
        by = tuple(by)
    try:
        match written:
            case {"limit": n}:
                return Limit(n, by=by)
            case {"rate": n, "per": per}:
                return Rate(n, per=timedelta(seconds=per), burst=written.get("burst"), by=by)
            case {"fair": True}:
                return Fair(by, weights=written.get("weights", {}))
    except (UsageError, TypeError, ValueError, OverflowError):
        return None
    return None


def _check_number(what: str, name: str, value: object, least: int, most: int = _MOST) -> None:
    if type(value) is not int or not least <= value <= most:
        raise UsageError(f"{what}: {name} must be a whole number from {least} to {most:_}, not {value!r:.40}")


def _of_each(by: By | None) -> str:
    if by is None:
        return ""
    name = by_name(by)
    return f" for each {name if isinstance(name, str) else ' and '.join(name)}"
