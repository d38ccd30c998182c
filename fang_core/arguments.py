"""What callers hand to a queue, checked before anything is sent: a statement that fails costs them their transaction.

All of it raises ``UsageError``, in one line that repeats no value.
"""

import inspect
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field, TypeAdapter, ValidationError

from fang_core.errors import UsageError
from fang_core.registry import Mode
from fang_core.runnable import MaxRetries, Name, Priority

EARLIEST: Final = datetime(1, 1, 3, tzinfo=UTC)
LATEST: Final = datetime(9999, 12, 29, tzinfo=UTC)
"""What a datetime can hold in any zone; backends keep no other times."""

_LONGEST_DELAY: Final = timedelta(days=36_600)


def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config={"strict": True})


OPTIONS: Final[Mapping[str, TypeAdapter[Any]]] = MappingProxyType(
    {
        "priority": _adapter(Priority),
        "task_type": _adapter(Name),
        "max_retries": _adapter(MaxRetries),
        "uniq": _adapter(bool),
        "id": _adapter(UUID),
    }
)
"""Of an insert; times have checks of their own."""

_ID: Final = OPTIONS["id"]
# Rows that others wrote may have a task type that no insert of ours could give them.
_TASK_TYPE: Final = _adapter(Annotated[str, Field(pattern=r"^[^\x00]*$")])


def check_option(name: str, value: object) -> None:
    """One of ``OPTIONS``."""
    _apply(OPTIONS[name], name, value)


def checked_id(value: UUID) -> UUID:
    """The id of a task to be looked for."""
    _apply(_ID, "task_id", value)
    return value


def checked_task_type(value: str) -> str:
    """The type of tasks to be looked for."""
    _apply(_TASK_TYPE, "task_type", value)
    return value


def check_time(value: datetime) -> None:
    """When a task is due."""
    if not isinstance(value, datetime):
        raise UsageError(f"scheduled_at must be a datetime, not {type(value).__name__}")
    if value.tzinfo is None or value.utcoffset() is None:
        raise UsageError("scheduled_at needs a time zone: datetime.now(timezone.utc), or .astimezone()")
    try:
        is_good = EARLIEST <= value.astimezone(UTC) <= LATEST  # as drivers write it
    except OverflowError:
        is_good = False
    if not is_good:
        raise UsageError(f"scheduled_at must lie between {EARLIEST.date()} and {LATEST.date()}")


def check_delay(value: timedelta) -> None:
    """How long until a task is due."""
    if not isinstance(value, timedelta):
        raise UsageError(f"delay must be a timedelta, not {type(value).__name__}")
    if not timedelta(0) <= value <= _LONGEST_DELAY:
        raise UsageError("delay must be between zero and a hundred years")


def _apply(check: TypeAdapter[Any], name: str, value: object) -> None:
    try:
        check.validate_python(value)
    except ValidationError as error:
        message = error.errors(include_url=False, include_input=False, include_context=False)[0]["msg"]
        raise UsageError(f"{name}: {message}") from None


_POOLS: Final[Mapping[Mode, str]] = MappingProxyType({"threaded": "WorkerPool", "async": "AsyncWorkerPool"})
_QUEUES: Final[Mapping[Mode, str]] = MappingProxyType({"threaded": "Queue", "async": "AsyncQueue"})


def check_queue(queue: object, mode: Mode) -> None:
    """What a pool of this mode can run on is told by the colour of its ``store()``."""
    store = None if isinstance(queue, type) else getattr(queue, "store", None)
    pool, wanted, name = _POOLS[mode], _QUEUES[mode], type(queue).__name__
    if not callable(store):
        raise UsageError(f"{pool} takes a queue, not {name}: write {pool}({wanted}('postgresql://...'))")
    its_mode: Mode = "async" if inspect.iscoroutinefunction(store) else "threaded"
    if its_mode != mode:
        raise UsageError(f"{pool} cannot run on {name}: give it {wanted}, or take {_POOLS[its_mode]} for this one")
