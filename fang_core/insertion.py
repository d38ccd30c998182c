"""An insert, ready to be sent: all that the client decides about a new row, checked before that is sent."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple
from uuid import UUID

from uuid_utils import uuid7

from fang_core import arguments, codec
from fang_core.collector import uncollected
from fang_core.errors import PayloadError, UsageError
from fang_core.payload import path_of
from fang_core.runnable import BaseRunnable
from fang_core.unique import uniq_hash


class NewTask(NamedTuple):
    """A row to be: what an insert sends for it."""

    id: UUID
    metadata: str
    kind: str
    task_type: str
    priority: int
    max_retries: int
    uniq_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a queue asks of every insert.

    Attributes:
        max_payload_bytes: larger payloads are refused.
        duplicated_tasks: False makes every task unique whose insert does not say otherwise.
    """

    max_payload_bytes: int = codec.MAX_PAYLOAD_BYTES
    duplicated_tasks: bool = True

    def hash_of_unique(self, task: BaseRunnable) -> str:
        """The hash that the task has where it is inserted as unique, be it by its class, one insert, or the queue."""
        return uniq_hash(task, codec.encode(task, max_bytes=self.max_payload_bytes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What one insert says instead of the task's class. Raises ``UsageError`` where it is made."""

    priority: int | None = None
    scheduled_at: datetime | None = None
    delay: timedelta | None = None
    task_type: str | None = None
    max_retries: int | None = None
    uniq: bool | None = None
    id: UUID | None = None

    def __post_init__(self) -> None:
        for name in arguments.OPTIONS:
            value = getattr(self, name)
            if value is not None:
                arguments.check_option(name, value)
        if self.scheduled_at is not None:
            arguments.check_time(self.scheduled_at)
        if self.delay is not None:
            arguments.check_delay(self.delay)
            if self.scheduled_at is not None:
                raise UsageError("give scheduled_at or delay, not both")

    def new_task(self, task: BaseRunnable, rules: Rules) -> NewTask:
        """Encodes one task. Raises ``PayloadError``."""
        metadata = codec.encode(task, max_bytes=rules.max_payload_bytes)
        options = task.__fang_options__
        return NewTask(
            UUID(int=uuid7().int) if self.id is None else self.id,
            metadata,
            options.kind,
            options.task_type if self.task_type is None else self.task_type,
            options.priority if self.priority is None else self.priority,
            options.max_retries if self.max_retries is None else self.max_retries,
            uniq_hash(task, metadata) if self.are_unique(task, rules) else None,
        )

    def are_unique(self, task: BaseRunnable, rules: Rules) -> bool:
        """Whether tasks like this one are inserted as unique."""
        return (task.__fang_options__.uniq or not rules.duplicated_tasks) if self.uniq is None else self.uniq


def name_unstorable(rows: Iterable[NewTask], character: str | None) -> None:
    """Raises ``PayloadError`` with the place of this character, which the database's encoding does not have.

    Returns where no payload holds it.
    """
    if character is None:
        return
    why = f"the character U+{ord(character):04X} is not in the database's encoding: use a database with ENCODING 'UTF8'"
    for row in rows:
        path = path_of(row.metadata, character)
        if path is not None:
            raise PayloadError(row.kind, path, why)


class Bulk:
    """The tasks of one bulk insert. Their rows are made while one iterates over them, each once.

    Raises ``UsageError`` or ``DefinitionError`` where it is made, and ``PayloadError`` where a row is.

    Attributes:
        rows: those that were made.
        is_unique: whether any of the tasks is.
    """

    def __init__(self, tasks: Iterable[BaseRunnable], overrides: Overrides, rules: Rules) -> None:
        if isinstance(tasks, BaseRunnable):  # a model can be iterated over: one without fields would insert nothing
            raise UsageError(f"give several tasks, or insert_task for one {type(tasks).__name__}")
        if not isinstance(tasks, Iterable):
            raise UsageError(f"give several tasks, not {type(tasks).__name__}")
        self._tasks = list(tasks)
        self._overrides = overrides
        self._rules = rules
        self.rows: list[NewTask] = []
        one_of_each = {type(task): task for task in self._tasks}.values()
        for task in one_of_each:
            codec.insertable_kind(task)
        self.is_unique = any(overrides.are_unique(task, rules) for task in one_of_each)

    def __len__(self) -> int:
        return len(self._tasks)

    def make_all(self) -> None:
        """Makes all rows: nothing is left to go wrong, and no code of tasks left to run, while they are sent."""
        uncollected(lambda: deque(self, maxlen=0))

    def __iter__(self) -> Iterator[NewTask]:
        yield from self.rows
        for task in self._tasks[len(self.rows) :]:
            row = self._overrides.new_task(task, self._rules)
            self.rows.append(row)
            yield row


def in_chunks(
    rows: Iterable[NewTask], *, most_rows: int = 5_000, most_chars: int = 16_000_000
) -> Iterator[list[NewTask]]:
    """Cuts a bulk insert into statements of bounded size; asks for no more rows than it yields, but for one."""
    chunks = _chunks(rows, most_rows, most_chars)
    while chunk := uncollected(partial(next, chunks, None)):
        yield chunk


def _chunks(rows: Iterable[NewTask], most_rows: int, most_chars: int) -> Iterator[list[NewTask]]:
    chunk: list[NewTask] = []
    chars = 0
    for row in rows:
        if chunk and (len(chunk) >= most_rows or chars + len(row.metadata) > most_chars):
            yield chunk
            chunk, chars = [], 0
        chunk.append(row)
        chars += len(row.metadata)
    if chunk:
        yield chunk
