"""A store, or a heart, of the threaded mode, whose coroutines a test calls like functions."""

import inspect
from typing import Any

from fang_core.driving import drive


class Driven:
    """Runs each coroutine of its target to its end."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not inspect.isroutine(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            result = value(*args, **kwargs)
            if inspect.iscoroutine(result):
                return drive(result)
            return Driven(result) if name == "heart" else result

        return call
