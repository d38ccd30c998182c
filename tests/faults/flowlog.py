"""Decides from the audit whether limits, pauses and rates held. Pure.

A claim goes by the settings of its own snapshot, so what was in force is known up to the moments at which a change was
asked for and was told to have been made: a claim that lies in between may go by either.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from fang_core.flow.limits import UNLIMITED, FlowSettings, Gcra
from tests.faults.audit import Step


class Setting(NamedTuple):
    """What holds for a type: from some moment between these two on, until the next one holds."""

    asked: float
    told: float
    settings: FlowSettings
    is_paused: bool = False


@dataclass
class Settings:
    """What has held for one task type, in order."""

    task_type: str
    held: list[Setting] = field(default_factory=lambda: [Setting(-inf, -inf, UNLIMITED)])

    def possible(self, step: Step) -> Iterator[Setting]:
        """All that a claim of that time may have gone by."""
        ends = [setting.told for setting in self.held[1:]] + [inf]
        for setting, end in zip(self.held, ends, strict=True):
            if setting.asked <= step.at and step.began <= end:
                yield setting


def excesses(steps: Iterable[Step], settings: Settings) -> list[str]:
    """The claims that took more than the limits of a type allowed, or took anything while it was paused.

    What runs in excess since a limit was lowered is none; a start is.
    """
    running, of_keys = 0, Counter[str | None]()
    found = []
    for step in steps:
        if step.task_type != settings.task_type:
            continue
        running += step.delta
        of_keys[step.lane] += step.delta
        if step.delta < 0:
            continue
        possible = list(settings.possible(step))
        if all(setting.is_paused for setting in possible):
            found.append(f"{step.place}: claimed during a pause")
        if running > max(_or_any(setting.settings.max_running) for setting in possible):
            found.append(f"{step.place}: {running} tasks in progress")
        if of_keys[step.lane] > max(_or_any(setting.settings.max_running_per_key) for setting in possible):
            found.append(f"{step.place}: {of_keys[step.lane]} tasks of the key {step.lane!r} in progress")
    return found


def most(steps: Iterable[Step], task_type: str) -> int:
    """How many tasks of a type were ever in progress at once."""
    running = highest = 0
    for step in steps:
        running += step.delta if step.task_type == task_type else 0
        highest = max(highest, running)
    return highest


def left(steps: Iterable[Step], task_type: str) -> int:
    """How many are in progress at the end."""
    return sum(step.delta for step in steps if step.task_type == task_type)


def excess_of_rate(starts: Sequence[Step], rate: Gcra) -> float:
    """By how many starts the worst span of time exceeded the rate; negative if none came near it.

    A span from one claim to another is at most as long as from the beginning of the first to what the second wrote.
    """
    interval = rate.interval.total_seconds()
    worst, least = -inf, inf
    for number, step in enumerate(sorted(starts, key=lambda step: step.at)):
        least = min(least, number - step.began / interval)
        worst = max(worst, number + 1 - step.at / interval - least)
    return worst - rate.burst


def _or_any(limit: int | None) -> float:
    return inf if limit is None else limit
