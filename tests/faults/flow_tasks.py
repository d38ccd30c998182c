"""The tasks of F56 to F58: of a task type with limits, of one with rates, and of one without any. ``name`` is the key.

Only workers that are told to serve these types run them.
"""

from collections.abc import Mapping
from typing import Any, Final

from fang_core import Limit, Rate, TaskConfig
from fang_core.tasks.registry import Mode
from tests.faults.tasks import SOON, Blocking, Cooperative

LIMITED: Final = "limited"
RATED: Final = "rated"
OPEN: Final = "open"
TYPES: Final = ("common", LIMITED, RATED, OPEN)

LIMITS: Final = (Limit(12), Limit(2, by="name"))
RATES: Final = (Rate(50, burst=5), Rate(10, burst=2, by="name"))


class LimitedBlocking(Blocking):
    task_config = TaskConfig(kind="faults.LimitedBlocking", task_type=LIMITED, limits=LIMITS, backoff=SOON)


class LimitedCooperative(Cooperative):
    task_config = TaskConfig(kind="faults.LimitedCooperative", task_type=LIMITED, limits=LIMITS, backoff=SOON)


class RatedBlocking(Blocking):
    task_config = TaskConfig(kind="faults.RatedBlocking", task_type=RATED, limits=RATES, backoff=SOON)


class RatedCooperative(Cooperative):
    task_config = TaskConfig(kind="faults.RatedCooperative", task_type=RATED, limits=RATES, backoff=SOON)


class OpenBlocking(Blocking):
    task_config = TaskConfig(kind="faults.OpenBlocking", task_type=OPEN, backoff=SOON)


class OpenCooperative(Cooperative):
    task_config = TaskConfig(kind="faults.OpenCooperative", task_type=OPEN, backoff=SOON)


CLASSES: Final[Mapping[str, Mapping[Mode, Any]]] = {
    LIMITED: {"threaded": LimitedBlocking, "async": LimitedCooperative},
    RATED: {"threaded": RatedBlocking, "async": RatedCooperative},
    OPEN: {"threaded": OpenBlocking, "async": OpenCooperative},
}
"""The classes of each type, by mode."""
