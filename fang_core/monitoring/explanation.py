"""Defines the answer to why a task is not running: ``queue.explain(id)``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from fang_core.record import Task


class Cause(StrEnum):
    """Says why a task is not running, or that it is. Causes are looked for in this order.

    New ones may be added; the values of these do not change.
    """

    GONE = "gone"
    """There is no such task: it was removed, as finished tasks are, or its insert has not been committed."""
    FINISHED = "finished"
    """Its run has returned."""
    FAILED = "failed"
    """It failed for good."""
    CANCELLED = "cancelled"
    """It was cancelled."""
    HOLDER_UNKNOWN = "holder_unknown"
    """It is held by a pool without a record: other pools take it back."""
    HOLDER_SILENT = "holder_silent"
    """The pool that holds it gives no sign of life: other pools take it back."""
    FETCHED_BY_HAND = "fetched_by_hand"
    """A queue has fetched it by hand, and its caller works on it."""
    CANCEL_REQUESTED = "cancel_requested"
    """It was asked to end, and goes on."""
    SUSPECT = "suspect"
    """Pools have died under it, so that it is tried apart from other suspects, or alone."""
    WAITS_FOR_WORKER = "waits_for_worker"
    """A pool has claimed it, and has no free worker yet."""
    RUNNING = "running"
    """It runs."""
    SET_ASIDE = "set_aside"
    """A move to another queue has set it aside, and has not ended."""
    EXPIRED = "expired"
    """The time for it to begin is over, or will be before it is due."""
    RETRIED_LATER = "retried_later"
    """It has failed, or its pool died, and it waits for its next run."""
    DUE_LATER = "due_later"
    """It is not due yet."""
    PAUSED = "paused"
    """Its task type is paused."""
    SETTLING = "settling"
    """The limits of its type are being changed."""
    UNSERVED_TYPE = "unserved_type"
    """No pool serves its task type."""
    UNKNOWN_KIND = "unknown_kind"
    """Pools serve its task type, and none of them knows its kind."""
    POOLS_SILENT = "pools_silent"
    """The pools that could run it give no sign of life."""
    POOLS_STOPPING = "pools_stopping"
    """The pools that could run it are stopping."""
    TABLE_LOCKED = "table_locked"
    """Another session has locked the whole table, so that no pool can claim."""
    LIMIT_FULL = "limit_full"
    """As many tasks of its type run as may."""
    KEY_LIMIT_FULL = "key_limit_full"
    """As many tasks of its key run as may."""
    RATE = "rate"
    """The rate of its type allows no start yet."""
    KEY_RATE = "key_rate"
    """The rate of its key allows no start yet."""
    WITHOUT_LANE = "without_lane"
    """Its type has limits, and it was inserted by a program that does not know of them: pools will find it."""
    BEHIND_OTHERS = "behind_others"
    """Other due tasks come before it."""
    LOCKED = "locked"
    """Another session has locked its row."""
    NO_FREE_WORKER = "no_free_worker"
    """All workers of the pools that could run it are busy."""
    OLDER_TRANSACTION = "older_transaction"
    """Nothing else stands in its way, and a transaction is open for long that makes claims slow."""
    STARTS_SOON = "starts_soon"
    """Nothing stands in its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Says why a task is not running, or that it is: the one cause that has to change first.

    Attributes:
        task_id: the task's id.
        task: its row; None if there is none.
        cause: why.
        text: a sentence that says so, with names and times.
        remedy: what would change that, often a command; ``""`` if there is nothing to do.
        at: when that was so, by the backend's clock.
        since: since when it is so, if that is known.
        until: until when it is so at the most, if that is known.
        details: names, ids and counts from the text, for programs; which they are depends on the cause.
    """

    task_id: UUID
    task: Task | None
    cause: Cause
    text: str
    remedy: str = ""
    at: datetime
    since: datetime | None = None
    until: datetime | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
