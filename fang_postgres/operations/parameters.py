"""Makes parameters that several groups of operations pass."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fang_core.record import PRIORITIES
from fang_core.tasks.selecting.filter import CONDITIONS, TaskFilter

LOOKED_AT: Final = 200
"""How many rows of a lane are searched for unknown kinds, or for the next due ones."""

_OF_LISTS: Final = ("kinds", "task_types", "states", "pool_ids")


def lane_parameters(task_types: Sequence[str]) -> dict[str, Any]:
    """Returns the parameters of ``fragments.lanes``: each of the task types with each priority."""
    return {
        "p_task_types": [task_type for task_type in task_types for _ in PRIORITIES],
        "p_priorities": [*PRIORITIES] * len(task_types),
    }


def filter_parameters(which: TaskFilter) -> dict[str, Any]:
    """Returns the parameters of ``filters.matching``."""
    params: dict[str, Any] = {}
    for name in CONDITIONS:
        value = getattr(which, name)
        if name in _OF_LISTS:
            params |= {f"p_has_{name}": value is not None, f"p_{name}": _as_sent(value or ())}
        elif name != "ids":
            params[f"p_{name}"] = json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else value
    return params


def _as_sent(values: Any) -> list[Any]:
    return [str(value) if isinstance(value, str) else value for value in values]  # a state is sent as plain text
