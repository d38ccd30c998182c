"""Makes parameters that several groups of operations pass."""

from collections.abc import Sequence
from typing import Any, Final

from fang_core.record import PRIORITIES

LOOKED_AT: Final = 200
"""How many rows of a lane are searched for unknown kinds, or for the next due ones."""


def lane_parameters(task_types: Sequence[str]) -> dict[str, Any]:
    """Returns the parameters of ``fragments.lanes``: each of the task types with each priority."""
    return {
        "p_task_types": [task_type for task_type in task_types for _ in PRIORITIES],
        "p_priorities": [*PRIORITIES] * len(task_types),
    }
