"""Checks the arguments of a queue's methods before anything is sent: a failed statement costs a caller's transaction.

Every check raises ``UsageError``, in one line that repeats no value.
"""

import inspect
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from uuid import UUID

from fang_core.errors import UsageError
from fang_core.tasks.registry import Mode
from fang_core.words.moments import check_range

if TYPE_CHECKING:
    from pydantic import ValidationError

LONGEST: Final = timedelta(days=36_600)
"""The longest delay, timeout or time until a task expires."""

MOST_HEADERS: Final = 8_192
"""The most bytes of a task's headers, keys and values together, in UTF-8."""


def checked_id(value: UUID, name: str = "task_id") -> UUID:
    """Returns the id of a task, for a lookup or for a new task."""
    if not isinstance(value, UUID):
        hint = ": write UUID('...')" if isinstance(value, str) else ""
        raise UsageError(f"{name} must be a UUID, not {type(value).__name__}{hint}")
    return value


def checked_task_type(value: str) -> str:
    """Returns a task type, for a lookup: rows that another program wrote may have one that our inserts refuse."""
    if not isinstance(value, str):
        raise UsageError(f"task_type must be a str, not {type(value).__name__}")
    if "\0" in value:
        raise UsageError("task_type must not have NUL characters, which Postgres does not hold")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UsageError("task_type must not have lone surrogates, which no database holds") from None
    return value


def checked_time(value: datetime) -> datetime:
    """Returns the time at which a task is due."""
    return checked_moment("scheduled_at", value)


def checked_moment(name: str, value: datetime) -> datetime:
    """Returns a time with a zone, within those that backends keep."""
    if not isinstance(value, datetime):
        raise UsageError(f"{name} must be a datetime, not {type(value).__name__}")
    return _in_range(name, value)


def checked_expiry(value: timedelta | datetime) -> timedelta | datetime:
    """Returns when a task expires, counted from when it is due, or as a time."""
    if isinstance(value, datetime):
        return _in_range("expires", value)
    if not isinstance(value, timedelta):
        raise UsageError(f"expires must be a timedelta or a datetime, not {type(value).__name__}")
    return checked_span("expires", value)


def checked_span(name: str, value: timedelta) -> timedelta:
    """Returns a length of time that may not be zero."""
    if not isinstance(value, timedelta):
        raise UsageError(f"{name} must be a timedelta, not {type(value).__name__}")
    if not timedelta(0) < value <= LONGEST:
        raise UsageError(f"{name} must be more than zero, and a hundred years at most")
    return value


def checked_headers(value: dict[str, str]) -> dict[str, str]:
    """Returns a copy of the headers of a task, in which keys and values of derived classes are plain ``str``."""
    if not isinstance(value, dict):
        raise UsageError(f"headers must be a dict, not {type(value).__name__}")
    headers = {_plain(key): _plain(each) for key, each in dict.items(value)}
    length = 0
    for text in (*headers, *headers.values()):
        try:
            length += len(text.encode())
        except UnicodeEncodeError:
            raise UsageError("headers must not have lone surrogates, which no database holds") from None
        if "\0" in text:
            raise UsageError("headers must not have NUL characters, which Postgres does not hold")
    if length > MOST_HEADERS:
        raise UsageError(f"headers must have {MOST_HEADERS} bytes at most, all together, not {length}")
    return headers


def _plain(text: str) -> str:
    if not issubclass(type(text), str):
        raise UsageError(f"headers must have only str as keys and values, not {type(text).__name__}")
    return str.__str__(text)


def check_flag(name: str, value: object) -> None:
    """Raises ``UsageError`` unless the value is a bool: a text such as "false" would count as true."""
    if not isinstance(value, bool):
        raise UsageError(f"{name} must be True or False, not {value!r:.100}")


def _in_range(name: str, value: datetime) -> datetime:
    if value.tzinfo is None or value.utcoffset() is None:
        raise UsageError(f"{name} needs a time zone: datetime.now(timezone.utc), or .astimezone()")
    check_range(name, value)
    return value


def checked_delay(value: timedelta) -> timedelta:
    """Returns the time until a task is due."""
    if not isinstance(value, timedelta):
        raise UsageError(f"delay must be a timedelta, not {type(value).__name__}")
    if not timedelta(0) <= value <= LONGEST:
        raise UsageError("delay must be between zero and a hundred years")
    return value


def usage_error(error: "ValidationError", name: str | None = None) -> UsageError:
    """Returns the error for the first refused value: the one its check raised, or its name with pydantic's message."""
    first = error.errors(include_url=False, include_input=False)[0]
    of_check = first.get("ctx", {}).get("error")
    if isinstance(of_check, UsageError):
        return of_check
    return UsageError(f"{name or first['loc'][0]}: {first['msg']}")


_POOLS: Final[Mapping[Mode, str]] = MappingProxyType({"threaded": "WorkerPool", "async": "AsyncWorkerPool"})
_OF_OTHERS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "sqlite": ("SqliteQueue", "tasks.db"),
        **{scheme: ("RedisQueue", f"{scheme}://...") for scheme in ("redis", "rediss", "valkey", "unix")},
    }
)
"""The queues of other backends than Postgres, by the schemes of their URLs, and what these take."""


def check_queue(queue: object, mode: Mode) -> None:
    """Raises ``UsageError`` if a pool of this mode cannot run on the queue; ``store()`` shows the queue's mode."""
    store = None if isinstance(queue, type) else getattr(queue, "store", None)
    pool, name = _POOLS[mode], f"the class {queue.__name__}" if isinstance(queue, type) else type(queue).__name__
    if not callable(store):
        scheme = queue.partition(":")[0].partition("+")[0] if isinstance(queue, str) else ""
        made, of = _OF_OTHERS.get(scheme, ("Queue", "postgresql://..."))
        wanted = f"Async{made}" if mode == "async" else made
        raise UsageError(f"{pool} takes a queue, not {name}: write {pool}({wanted}('{of}'))")
    its_mode: Mode = "async" if inspect.iscoroutinefunction(store) else "threaded"
    if its_mode != mode:
        counterpart = _in_mode(type(queue), mode)
        raise UsageError(f"{pool} cannot run on {name}: give it {counterpart}, or take {_POOLS[its_mode]} for this one")


def _in_mode(queue: type, mode: Mode) -> str:
    """Returns the name of the queue of this mode that keeps tasks where a queue of the other one does."""
    ours = (each.__name__ for each in queue.__mro__ if each.__module__.startswith("fang_"))
    name = next(ours, "Queue").removeprefix("Async")
    return f"Async{name}" if mode == "async" else name
