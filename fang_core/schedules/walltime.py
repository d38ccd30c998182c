"""Converts between wall times and instants, with the times that a zone skips in spring and repeats in autumn.

A repeated wall time passes twice; Python tells the two apart by ``fold``, 0 and 1. A wall time that passes once has the
same instant for both folds. So for each fold alone, later wall times are later instants, which a search needs.
"""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

_TICK: Final = timedelta(microseconds=1)


class Change(NamedTuple):
    """Describes how a zone moves its clocks once.

    Attributes:
        at: the first instant with the new offset, in UTC.
        before: the last wall time with the old offset, a microsecond before ``at``.
        after: a microsecond before the wall time that the clocks show at ``at``.
    """

    at: datetime
    before: datetime
    after: datetime


def instant(wall: datetime, zone: tzinfo, fold: int) -> datetime | None:
    """Returns the instant at which ``wall`` passes, in UTC; None if the zone skips it."""
    moment = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
    return moment if wall_at(moment, zone) == wall else None


def wall_at(moment: datetime, zone: tzinfo) -> datetime:
    """Returns the time that clocks in the zone show at ``moment``."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def reached(moment: datetime, zone: tzinfo, fold: int) -> datetime:
    """Returns the last wall time that passes, for this ``fold``, not after ``moment``."""
    local = moment.astimezone(zone)
    lead = _offset(local.replace(fold=0)) - _offset(local.replace(fold=1))
    if local.fold == fold or not lead:
        return wall_at(moment, zone)
    # ``moment`` is a repeated time of the other fold: the first passing is over, or the second has not begun.
    return _change(moment - lead, moment, zone).before if fold == 0 else _change(moment, moment + lead, zone).after


def gap_around(wall: datetime, zone: tzinfo) -> Change:
    """Returns the change that skips ``wall``."""
    first, last = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (1, 0))
    return _change(first, last, zone)


def _change(low: datetime, high: datetime, zone: tzinfo) -> Change:
    """Returns the one change of offset after ``low`` and not after ``high``."""
    offset = _offset(low.astimezone(zone))
    while high - low > _TICK:
        middle = low + (high - low) / 2
        if _offset(middle.astimezone(zone)) == offset:
            low = middle
        else:
            high = middle
    return Change(high, before=wall_at(low, zone), after=wall_at(high, zone) - _TICK)


def _offset(local: datetime) -> timedelta:
    offset = local.utcoffset()
    assert offset is not None
    return offset
