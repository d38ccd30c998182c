"""Defines how a backend wakes a waiting pool, and what it passes then."""

from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from fang_core.errors import BackendError


class LateRows(NamedTuple):
    """Says that rows of a lane are due that a cursor may have passed: from ``at`` on, or anywhere if it is None."""

    task_type: str
    priority: int
    at: datetime | None


ANYWHERE: Final = LateRows("", 0, None)

OnWake: TypeAlias = Callable[[LateRows | None], None]
"""Is called with None after ordinary inserts."""

OnTold: TypeAlias = Callable[[UUID], None]
"""Is called with the id of a pool that has a message from another process, which its next beat reads."""

OnListenLost: TypeAlias = Callable[[BackendError], None]
"""Is called with the reason if inserts cannot wake the pool for a while."""


SCHEDULES: Final = UUID(int=0)
"""What ``on_told`` is called with when schedules have changed: the id of no pool, so that older pools ignore it."""
