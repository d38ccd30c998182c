"""Reads what ``fang schedules put`` is given. Everything raises ``UsageError``, in one line."""

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any, Final

from fang_cli.arguments import in_zone
from fang_core.backends.scheduling import unknown_schedule
from fang_core.errors import UnknownSchedule, UsageError
from fang_core.schedules.schedule import Every, zone_of
from fang_core.schedules.stored import ScheduleInfo

_TIMES: Final = ("cron", "every", "at")
_KEPT: Final = ("overlap", "missed", "missed_within", "jitter", "until", "pause_on_failure")
_OF_CALL: Final = (*_TIMES, *_KEPT, "tz", "by", "reason")


def given_alone(*, tz: tzinfo | None, **given: Any) -> dict[str, Any]:
    """Returns the arguments of ``put``, without what was not given, and with times in the zone."""
    for name in ("at", "until"):
        given[name] = in_zone(f"--{name}", given[name], tz)
    return {name: value for name, value in {**given, "tz": tz}.items() if value is not None}


def changed(former: ScheduleInfo, *, fields: str | None, tz: tzinfo | None, **given: Any) -> dict[str, Any]:
    """Returns the arguments of ``put`` that change a schedule: it keeps what was not given."""
    new = given_alone(tz=zone_of(former.tz or "UTC") if tz is None else tz, **given)
    of_task = [f"--{name.replace('_', '-')}" for name in new if name not in _OF_CALL]
    if fields is not None:
        of_task.append("--args")
    if of_task:
        raise UsageError(f"{', '.join(of_task)}: name the class of the task too, as in app.tasks:Report")
    if not any(name in new for name in _TIMES):
        every = None if former.every is None else Every(former.every, former.anchor)
        new |= {"cron": former.cron, "every": every, "at": former.at}
    kept = {name: getattr(former, name) for name in _KEPT}
    if "missed" in new:
        del kept["missed_within"]  # it depends on that
    return kept | new


def named(infos: Sequence[ScheduleInfo], name: str) -> ScheduleInfo:
    """Returns the schedule of this name, whose task is in the database. Raises ``UnknownSchedule`` too."""
    for info in infos:
        if info.name == name:
            if not info.is_stored:
                raise UsageError(f"schedule {name!r:.100} is of a class: name that, as in app.tasks:Report")
            return info
    unknown = unknown_schedule(name, [info.name for info in infos])
    raise UnknownSchedule(f"{unknown}; a new one needs the class of its task, as in app.tasks:Report")
