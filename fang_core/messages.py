"""Defines the messages of ``queue.control`` to a pool, and the form in which they are sent: a kind, and a JSON object.

A pool ignores a message of a kind that it does not know: the sender may be of a later version.
"""

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Final, NamedTuple
from uuid import UUID

from fang_core.config import check_workers
from fang_core.errors import UnknownPool, UsageError

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
"""The levels that ``SetLogLevel`` takes."""


class PoolMessage:
    """Is the base of all messages to pools."""

    kind: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Stop(PoolMessage):
    """Stops the pool gracefully, as its own ``stop()`` does; its ``run()`` then returns."""

    kind: ClassVar[str] = "stop"


@dataclass(frozen=True, slots=True)
class Resize(PoolMessage):
    """Changes how many tasks the pool runs at once. Raises ``UsageError`` for a number that no pool can have."""

    kind: ClassVar[str] = "resize"
    workers: int

    def __post_init__(self) -> None:
        check_workers("workers", self.workers)


@dataclass(frozen=True, slots=True)
class SetLogLevel(PoolMessage):
    """Sets the level of the library's loggers in the pool's process, until that ends.

    Raises ``UsageError`` for a level that is not one of ``"DEBUG"``, ``"INFO"``, ``"WARNING"``, ``"ERROR"`` and
    ``"CRITICAL"``.
    """

    kind: ClassVar[str] = "set_log_level"
    level: str

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise UsageError(f"level must be one of {', '.join(LEVELS)}")


class Delivery(NamedTuple):
    """Holds a message as a backend delivers it.

    Attributes:
        id: increases from message to message.
        kind: names the class of the message.
        body: the fields of the message.
        sender: the process that sent it, as host and pid.
    """

    id: int
    kind: str
    body: Mapping[str, Any]
    sender: str

    @property
    def message(self) -> PoolMessage | None:
        """Returns the message; None if this version does not know its kind, or cannot use its fields."""
        cls = _CLASSES.get(self.kind)
        if cls is None:
            return None
        try:
            message: PoolMessage = cls(**{field.name: self.body[field.name] for field in fields(cls)})
        except (KeyError, TypeError, UsageError):  # it lacks a field, is no object, or has a wrong value
            return None
        return message


_CLASSES: Final[Mapping[str, type[Any]]] = {cls.kind: cls for cls in (Stop, Resize, SetLogLevel)}


def checked_message(message: PoolMessage) -> PoolMessage:
    """Returns the message, before it is sent. Raises ``UsageError`` if it is something else."""
    if type(message) not in _CLASSES.values():
        raise UsageError(f"a pool can be told Stop(), Resize(..) or SetLogLevel(..), not {type(message).__name__}")
    return message


def body_of(message: Any) -> dict[str, Any]:
    """Returns the fields of a message."""
    return asdict(message)


def this_process() -> str:
    """Returns the host and the pid of this process, as the sender of a message."""
    return f"{platform.node()}:{os.getpid()}"


def unknown_pool(pool_id: UUID) -> UnknownPool:
    """Returns the error for a message to a pool that is not registered."""
    return UnknownPool(f"no pool with the id {pool_id} is registered; pools() lists those that are")
