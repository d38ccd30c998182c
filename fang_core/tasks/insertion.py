"""Makes the rows of an insert: everything that the client decides about a new row is checked before it is sent."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from inspect import iscoroutinefunction
from operator import itemgetter
from typing import Any, Final, NamedTuple, Unpack
from uuid import UUID

from pydantic_core import from_json
from uuid_utils import uuid7

from fang_core.errors import PayloadError, TwinExists, UsageError
from fang_core.interpreter.collector import uncollected
from fang_core.record import Task, TaskState
from fang_core.tasks.arguments import check_flag, checked_id
from fang_core.tasks.insert_middleware import Insertion, InsertMiddleware, checked_insert_middleware
from fang_core.tasks.options import COLUMNS, InsertOptions, checked_options
from fang_core.tasks.payloads import codec
from fang_core.tasks.payloads.payload import path_of
from fang_core.tasks.runnable import BaseRunnable, Options
from fang_core.tasks.unique import uniq_hash
from fang_core.tasks.uniqueness import ALL_FIELDS, OnConflict, Terms, Unique
from fang_core.words.moments import LATEST

Inject = Callable[[dict[str, str]], object]
"""Adds to the headers of an insert, or changes them."""


class NewTask(NamedTuple):
    """Holds what an insert sends for one row; ``options`` are in the order of ``COLUMNS``.

    ``expires`` is counted from when the task is due unless it is a time. ``lane`` is None if the task's class has no
    limits and no fairness. ``terms`` are those of a unique row that needs more than its ``uniq_hash``.
    """

    id: UUID
    metadata: str
    kind: str
    options: tuple[Any, ...]
    uniq_hash: str | None = None
    expires: timedelta | datetime | None = None
    lane: str | None = None
    terms: Terms | None = None

    @property
    def on_conflict(self) -> OnConflict:
        """Returns what the insert does if an equal task keeps the row out."""
        return "return" if self.terms is None else self.terms.on_conflict

    def inserted(self, scheduled_at: datetime, created_at: datetime) -> Task:
        """Returns the row as the backend wrote it."""
        id_, metadata, kind, options, uniq_hash, expires, lane, _ = self
        if expires is not None:
            expires = expires_at(expires, scheduled_at)
        known = (id_, from_json(metadata), kind, uniq_hash, scheduled_at, created_at, created_at, expires, lane)
        return _make_task(_in_order_of_task(known + _AT_FIRST + options))

    def outlived(self, task_id: UUID, inserted_at: datetime) -> Task:
        """Returns the equal task that keeps this row out by its period, and whose own row is gone."""
        return self.inserted(inserted_at, inserted_at)._replace(id=task_id, state=TaskState.FINISHED)


def expires_at(expires: timedelta | datetime, scheduled_at: datetime) -> datetime:
    """Returns when a task that is due at this time expires."""
    if isinstance(expires, datetime):
        return expires
    # The sum of two valid values may lie behind all times that a backend keeps.
    return scheduled_at + expires if expires < LATEST - scheduled_at else LATEST


_KNOWN: Final = (
    *("id", "metadata", "kind", "uniq_hash", "scheduled_at", "created_at", "updated_at", "expires_at", "lane"),
)
_AT_FIRST: Final = (TaskState.NEW, 0, 0, 0, None, (), None, None, False, None, None, None)
_ALL: Final = (
    *_KNOWN,
    *("state", "retries", "crashes", "attempt", "error_message", "errors", "pool_id", "claimed_at", "conflict"),
    *("cancel_request", "group_limit", "progress"),
    *COLUMNS,
)
# A bulk insert makes a Task for each row: keyword arguments take twice as long as positional ones.
_in_order_of_task: Final = itemgetter(*map(_ALL.index, Task._fields))
_make_task: Final[Callable[[tuple[Any, ...]], Task]] = partial(tuple.__new__, Task)  # Task._make without its frame
_make_new_task: Final[Callable[[tuple[Any, ...]], NewTask]] = partial(tuple.__new__, NewTask)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The queue's settings for every insert.

    Attributes:
        max_payload_bytes: larger payloads are refused.
        duplicated_tasks: False makes every task unique unless its insert says otherwise.
        inject: called with the headers of each insert, which they may change, once for all of its tasks.
        insert_middleware: makes the context managers that go around each insert.

    Raises ``UsageError`` if ``duplicated_tasks`` is no bool, or what is to be called cannot be.
    """

    max_payload_bytes: int = codec.MAX_PAYLOAD_BYTES
    duplicated_tasks: bool = True
    inject: Sequence[Inject] = ()
    insert_middleware: Sequence[InsertMiddleware] = ()

    def __post_init__(self) -> None:
        check_flag("duplicated_tasks", self.duplicated_tasks)
        if isinstance(self.inject, str) or not isinstance(self.inject, Sequence) or not all(map(callable, self.inject)):
            raise UsageError("inject is a list of functions, each of which is called with the headers of an insert")
        if any(iscoroutinefunction(each) or iscoroutinefunction(type(each).__call__) for each in self.inject):
            raise UsageError("inject takes no async functions, since both modes call them")
        object.__setattr__(self, "inject", tuple(self.inject))  # what was given may change
        object.__setattr__(self, "insert_middleware", checked_insert_middleware(self.insert_middleware))

    def inserting(self, tasks: Iterable[BaseRunnable], options: InsertOptions, *, is_bulk: bool) -> Insertion:
        """Enters the middleware of an insert, which is left with the ``with`` that takes the result.

        Raises ``UsageError`` or ``DefinitionError`` if the tasks or the options cannot be used, and what middleware
        raises.
        """
        each = _listed(tasks)
        for task in each:
            codec.insertable_kind(task)
        return Insertion(each, options, is_bulk=is_bulk).inside(self.insert_middleware)

    def overrides(self, id: UUID | None = None, /, **options: Unpack[InsertOptions]) -> "Overrides":
        """Returns the options of one insert, with what ``inject`` adds. Raises ``UsageError``, or what that raises."""
        overrides = Overrides(id, **options)
        if not self.inject:
            return overrides
        headers = dict(options.get("headers") or {})
        for inject in self.inject:
            inject(headers)
        options["headers"] = headers
        return Overrides(id, **options)

    def hash_of_unique(self, task: BaseRunnable) -> str:
        """Returns the hash of the task as a unique one, whether its class, the insert or the queue makes it unique.

        Only the class decides which fields count.
        """
        text = codec.encode(task, max_bytes=self.max_payload_bytes)
        return uniq_hash(task, text, task.__fang_options__.unique.fields)


class Overrides:
    """Holds the options of one insert, which override those of its tasks' classes. Raises ``UsageError`` when made."""

    __slots__ = ("_columns", "_expires", "_options", "delay", "id", "scheduled_at", "uniq")

    def __init__(self, id: UUID | None = None, /, **options: Unpack[InsertOptions]) -> None:
        self.id = None if id is None else checked_id(id, "id")
        if options:
            options = checked_options(options)
        if "headers" in options:
            options["headers"] = options["headers"] or None
        self._options = options
        self._columns: dict[Options, tuple[Any, ...]] = {}
        self.scheduled_at = options.get("scheduled_at")
        self.delay = options.get("delay")
        self.uniq = options.get("uniq")
        self._expires = options.get("expires")
        if self.scheduled_at is not None and self.delay is not None:
            raise UsageError("give scheduled_at or delay, not both")

    @property
    def gives_due_time(self) -> bool:
        """Returns whether the insert says when its tasks are due; they are due now otherwise."""
        return self.scheduled_at is not None or self.delay is not None

    def new_task(self, task: BaseRunnable, rules: Rules) -> NewTask:
        """Encodes one task. Raises ``PayloadError``."""
        metadata = codec.encode(task, max_bytes=rules.max_payload_bytes)
        options = task.__fang_options__
        unique = self.uniqueness(task, rules)
        compared = terms = None
        if unique is not None:
            compared, terms = _compared(task, metadata, unique)
        return _make_new_task(
            (
                UUID(int=uuid7().int) if self.id is None else self.id,
                metadata,
                options.kind,
                self._columns.get(options) or self._columns_for(options),
                compared,
                self._expires or options.expires,
                None if options.lane_of is None else options.lane_of(task),
                terms,
            )
        )

    def _columns_for(self, options: Options) -> tuple[Any, ...]:
        """Returns the values of ``COLUMNS`` for tasks of a class with these options, and caches them."""
        columns = options.columns
        if self._options:
            given = [self._options.get(name) for name in COLUMNS]
            columns = tuple(own if value is None else value for value, own in zip(given, columns, strict=True))
        self._columns[options] = columns
        return columns

    def uniqueness(self, task: BaseRunnable, rules: Rules) -> Unique | None:
        """Returns how tasks of this one's class are inserted as unique; None if they are not."""
        options = task.__fang_options__
        uniq = (options.uniq or not rules.duplicated_tasks) if self.uniq is None else self.uniq
        if not uniq:
            return None
        return options.unique if uniq is True else uniq


def _compared(task: BaseRunnable, metadata: str, unique: Unique) -> tuple[str | None, Terms | None]:
    """Returns the ``uniq_hash`` and the terms of a unique row."""
    if unique is ALL_FIELDS:
        return uniq_hash(task, metadata), None
    compared = uniq_hash(task, metadata, unique.fields)
    return compared if unique.while_ == "unfinished" else None, unique.terms(compared)


def refuse_equal(rows: Iterable[NewTask]) -> None:
    """Raises ``TwinExists`` if one of the rows equals one before it, and its insert is to raise then."""
    seen: set[str] = set()
    for row in rows:
        if row.terms is not None:
            if row.terms.compared in seen and row.on_conflict == "raise":
                raise TwinExists(f"{row.kind}: two of the tasks are equal, so that nothing was inserted")
            seen.add(row.terms.compared)


def refuse_terms(row: NewTask) -> None:
    """Raises ``UsageError`` if the row, which is that of a schedule, has terms of its own."""
    if row.terms is not None:
        raise UsageError(
            f"{row.kind}: tasks of a schedule are unique while they wait or run, or not at all: "
            "give uniq=False, or a Unique with by= only"
        )


def twin_of(twin: Task) -> TwinExists:
    """Returns the error for an insert that meets an equal task, and is to raise then."""
    return TwinExists(f"{twin.kind}: an equal task has the id {twin.id}, so that nothing was inserted")


def name_unstorable(rows: Iterable[NewTask], character: str | None) -> None:
    """Raises ``PayloadError`` with the place of this character, which the database's encoding does not have.

    Does nothing if no payload holds it.
    """
    if character is None:
        return
    why = f"the character U+{ord(character):04X} is not in the database's encoding: use a database with ENCODING 'UTF8'"
    for row in rows:
        path = path_of(row.metadata, character)
        if path is not None:
            raise PayloadError(row.kind, path, why)


def _listed(tasks: Iterable[BaseRunnable]) -> list[BaseRunnable]:
    """Returns the tasks of a bulk insert as a list. Raises ``UsageError`` unless there may be several."""
    if isinstance(tasks, BaseRunnable):  # models are iterable: one without fields would insert nothing
        raise UsageError(f"give several tasks, or insert_task for one {type(tasks).__name__}")
    if not isinstance(tasks, Iterable):
        raise UsageError(f"give several tasks, not {type(tasks).__name__}")
    return list(tasks)


class Bulk:
    """Holds the tasks of one bulk insert. Iterating makes each task's row, once.

    Raises ``UsageError`` or ``DefinitionError`` when it is made, and ``PayloadError`` when a row is made.

    Attributes:
        rows: the rows made so far.
        is_unique: whether any of the tasks is unique.
        has_terms: whether any of them is unique on terms of its own.
    """

    def __init__(self, tasks: Iterable[BaseRunnable], overrides: Overrides, rules: Rules) -> None:
        self._tasks = _listed(tasks)
        self._overrides = overrides
        self._rules = rules
        self.rows: list[NewTask] = []
        one_of_each = {type(task): task for task in self._tasks}.values()
        for task in one_of_each:
            codec.insertable_kind(task)
        kinds_of_unique = [overrides.uniqueness(task, rules) for task in one_of_each]
        self.is_unique = any(unique is not None for unique in kinds_of_unique)
        self.has_terms = any(unique is not None and not unique.is_plain for unique in kinds_of_unique)

    def __len__(self) -> int:
        return len(self._tasks)

    def make_all(self) -> None:
        """Makes all rows, so that no task can be refused, and no code of a task runs, while they are sent."""
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
    """Yields the rows of a bulk insert in chunks of bounded size; it makes at most one row ahead of those it yields."""
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
