"""Tells a worker's cancellation from those that ``TaskGroup``s in its runs have left in its count."""

import asyncio
import sys
from types import FrameType
from typing import Any


class WorkerTask(asyncio.Task[None]):
    """Is the asyncio task of a worker, in which one run follows another.

    If a group's task fails while a run leaves the ``async with``, the group cancels the worker's task and swallows that
    cancellation. Before Python 3.13 it does not take it from the count: ``cancelling()`` says that the task is
    cancelled, though it is not.
    """

    _miscounted = 0

    def cancel(self, msg: Any | None = None) -> bool:
        """See ``asyncio.Task.cancel``."""
        if sys.version_info < (3, 13) and _is_left_group(sys._getframe(1)):
            self._miscounted += 1
        return super().cancel(msg)

    def is_cancelled(self) -> bool:
        """Takes from the count what groups of a run have left there; returns whether the task was really cancelled."""
        while self._miscounted:
            self._miscounted -= 1
            self.uncancel()
        return self.cancelling() > 0


def _is_left_group(caller: FrameType) -> bool:
    """Returns whether the caller is a ``TaskGroup`` that a run is leaving. One whose body goes on counts correctly."""
    if caller.f_code is not asyncio.TaskGroup._on_task_done.__code__:
        return False
    return bool(caller.f_locals["self"]._exiting)
