"""Adds up what a pool has counted over its lives. No count ever goes down: Prometheus would take that for a restart."""

from collections.abc import Mapping
from typing import Any, Final

from fang_core.monitoring.history import Pair, StatsRow, Totals

_SUMS: Final = 12
"""How many fields of a row come before its histograms."""


class LastingTotals:
    """Takes the totals of each life of a pool, and returns those of all."""

    def __init__(self) -> None:
        self._life: object = None
        self._before: dict[Pair, StatsRow] = {}
        self._now: dict[Pair, StatsRow] = {}

    def with_life(self, life: object, totals: Totals) -> Mapping[Pair, StatsRow]:
        """Returns the totals of all lives; those of the present one, or the last, are now ``totals``."""
        if life is not self._life:
            self._before, self._now, self._life = self._sums(), {}, life
        for pair, row in totals.items():
            last = self._now.get(pair)
            self._now[pair] = row if last is None else _at_least(last, row)
        return self._sums()

    def _sums(self) -> dict[Pair, StatsRow]:
        sums = dict(self._before)
        for pair, row in self._now.items():
            sums[pair] = sums[pair].plus(row) if pair in sums else row
        return sums


def _at_least(last: StatsRow, row: StatsRow) -> StatsRow:
    """Returns the row, with no count below the last one: one that is read while runs end may be one too high."""
    highest: list[Any] = [max(then, now) for then, now in zip(last[:_SUMS], row[:_SUMS], strict=True)]
    return StatsRow._make([*highest, row.queue, row.run])
