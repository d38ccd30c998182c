"""Ends tasks whose hashes cannot be read, since another client has written to them: no pool could ever run them.

A task that stayed would be claimed again and again. It stays as a failed one, as it is, until it is pruned or removed.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from fang_core.logs import SafeLogger
from fang_redis.connections.sending import Sending
from fang_redis.operations import Verb
from fang_redis.records import SPOILT, Spoilt

MOST_PASSES: Final = 10
"""How often one claim looks for tasks in place of those that it has failed."""

_LOGGER: Final = SafeLogger("fang_redis")
_MISPLACED: Final = SPOILT.format("it is not what its index says")
_FAILED: Final = 2


def fail_spoilt(sending: Sending, pool_id: UUID, spoilt: Sequence[Spoilt]) -> Verb[None]:
    """Fails tasks that the pool has claimed and cannot read, and logs a line for each."""
    if not spoilt:
        return
    failed = yield from sending.script("spoilt", str(pool_id), *(value for each in spoilt for value in each))
    for task_id, message in spoilt:
        what = "was failed" if task_id in failed else "is left out, and can only be removed by hand"
        _LOGGER.error("task %s %s: %s", task_id, what, message)


def mend(sending: Sending, task_type: str, priority: int, lane: str, task_id: UUID) -> Verb[bool]:
    """Fails a task that stands among the waiting ones of a type though its hash says otherwise, and logs that; returns
    whether it was so."""
    args = (task_type, priority, lane, str(task_id), _MISPLACED)
    found: int = yield from sending.script("mend", *args)
    if found == _FAILED:
        _LOGGER.error("task %s was failed: %s", task_id, _MISPLACED)
    return bool(found)
