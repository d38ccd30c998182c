"""What decides of limits, pauses and rates can fail: sound records pass, and those with an excess do not."""

from datetime import timedelta
from math import inf

import pytest

from fang_core.flow.limits import UNLIMITED, FlowSettings, Gcra
from tests.faults.audit import Step
from tests.faults.flowlog import Setting, Settings, excess_of_rate, excesses, left, most

TWO = FlowSettings(max_running=2)
ONE_OF_KEY = FlowSettings(max_running_per_key=1)
RATE = Gcra(timedelta(seconds=1), 2)


def steps(*each: tuple[float, str, int]) -> list[Step]:
    """Of each its time, its key, and whether it began or ceased; a claim begins 0.1 s before it writes."""
    return [Step(place, at, at - 0.1, "common", lane, delta) for place, (at, lane, delta) in enumerate(each)]


def held(*settings: Setting) -> Settings:
    return Settings("common", [Setting(-inf, -inf, UNLIMITED), *settings])


LIMITED = held(Setting(0, 0, TWO))
OF_KEYS = held(Setting(0, 0, ONE_OF_KEY))
LOWERED = held(Setting(0, 0, TWO), Setting(5, 6, FlowSettings(max_running=1)))
PAUSED = held(Setting(0, 0, TWO), Setting(5, 6, TWO, is_paused=True), Setting(8, 9, TWO))

SOUND = {
    "as many as allowed": (LIMITED, steps((1, "a", 1), (2, "a", 1), (3, "a", -1), (4, "b", 1))),
    "of other keys": (OF_KEYS, steps((1, "a", 1), (2, "b", 1), (3, "c", 1), (4, "a", -1), (5, "a", 1))),
    "before there was a limit": (held(Setting(5, 6, TWO)), steps((1, "a", 1), (2, "a", 1), (3, "a", 1))),
    "under way when it was lowered": (LOWERED, steps((1, "a", 1), (6.05, "a", 1))),
    "still running when it was lowered": (LOWERED, steps((1, "a", 1), (2, "a", 1), (7, "a", -1), (7, "a", -1))),
    "before and after a pause": (PAUSED, steps((5.5, "a", 1), (8.05, "a", 1))),
    "of another type": (LIMITED, [step._replace(task_type="other") for step in steps((1, "a", 1), (2, "a", 1))] * 2),
}
EXCEEDED = {
    "one too many": (LIMITED, steps((1, "a", 1), (2, "a", 1), (3, "b", 1))),
    "one too many of a key": (OF_KEYS, steps((1, "a", 1), (2, "b", 1), (3, "a", 1))),
    "a start while too many run": (LOWERED, steps((1, "a", 1), (2, "a", 1), (7, "a", -1), (8, "a", 1))),
    "in a pause": (PAUSED, steps((7, "a", 1))),
}


@pytest.mark.parametrize(("settings", "made"), SOUND.values(), ids=SOUND)
def test_what_is_allowed(settings: Settings, made: list[Step]) -> None:
    assert excesses(made, settings) == []


@pytest.mark.parametrize(("settings", "made"), EXCEEDED.values(), ids=EXCEEDED)
def test_what_is_not(settings: Settings, made: list[Step]) -> None:
    assert len(excesses(made, settings)) == 1


def test_how_many_ran_and_run() -> None:
    made = steps((1, "a", 1), (2, "b", 1), (3, "a", -1))
    assert (most(made, "common"), left(made, "common"), most(made, "other")) == (2, 1, 0)


@pytest.mark.parametrize(
    ("times", "is_exceeded"),
    [
        ([0.0, 0.0, 1.0, 2.0], False),  # the burst, and then one a second
        ([0.0, 0.0, 0.0], True),
        ([0.0, 0.0, 1.0, 1.5], True),
        ([0.0, 5.0, 5.0, 5.0], True),  # a quiet time saves up no more than a burst
        ([0.0, 5.0, 5.0, 6.0], False),
    ],
)
def test_rates(times: list[float], is_exceeded: bool) -> None:
    assert (excess_of_rate(steps(*((at, "a", 1) for at in times)), RATE) > 0) is is_exceeded
