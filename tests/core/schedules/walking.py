"""Walks from tick to tick, in both directions."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from fang_core import Cron

MICROSECOND: Final = timedelta(microseconds=1)


def ticks(cron: Cron, after: datetime, until: datetime) -> Iterator[datetime]:
    while (tick := cron.next_after(after)) is not None and tick <= until:
        yield tick
        after = tick


def ticks_back(cron: Cron, after: datetime, until: datetime) -> Iterator[datetime]:
    while (tick := cron.latest(after, until)) is not None:
        yield tick
        until = tick - MICROSECOND
