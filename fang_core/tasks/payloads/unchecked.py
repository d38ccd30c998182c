"""Makes classes that stand in for those of kinds that this process does not know: nothing checks their fields."""

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict

from fang_core.errors import UsageError
from fang_core.record import Task
from fang_core.tasks.runnable import BaseRunnable, TaskConfig


def stand_in(kind: str) -> type[BaseRunnable]:
    """Returns a class of this kind that takes any fields, for one insert or edit. Raises ``DefinitionError``.

    It has no mode, so that the registry does not take it up: the kind stays unknown here, and no pool runs it by this.
    """
    body: Mapping[str, Any] = {
        "__module__": __name__,
        "__doc__": None,
        "model_config": ConfigDict(extra="allow"),
        "task_config": TaskConfig(kind=kind),
    }
    cls: type[BaseRunnable] = type("Unchecked", (BaseRunnable,), dict(body))
    cls.__fang_insertable__ = True
    return cls


def stand_in_for(task: Task) -> type[BaseRunnable]:
    """Returns a class that stands in for that of a task. Raises ``UsageError`` if the real one writes more than fields.

    The class of a unique task says what is compared, and that of a task with a key how the key is made.
    """
    if task.uniq_hash is not None or task.lane:
        what = "tasks are equal" if task.uniq_hash is not None else "tasks share a limit"
        raise UsageError(f"the class of {task.kind!r:.60} says which {what}, and it is not imported here")
    return stand_in(task.kind)
