"""Inserts tasks: up to ``MOST_ROWS`` of them in one script, more in several scripts between MULTI and EXEC."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID, uuid4

from pydantic_core import from_json

from fang_core.errors import IdInUse, TwinExists
from fang_core.record import Task
from fang_core.tasks.insertion import Bulk, NewTask, Overrides, in_chunks, refuse_equal
from fang_core.tasks.options import COLUMNS
from fang_redis.connections.sending import Sending
from fang_redis.layout import MOST_ROWS
from fang_redis.operations import Argument, Operation, Replicated, Together, Verb, as_it_is
from fang_redis.records import OPTION_FIELDS, microseconds, new_row, task_of, time_of

T = TypeVar("T")

_OPTIONS: Final = ",".join(OPTION_FIELDS)
_MOST_CHARS: Final = 16_000_000
_TYPE: Final = COLUMNS.index("task_type")
_MODE: Final = 3
_CLAIM: Final = 6
"""The places of two arguments of the script: how it inserts, and how many arguments it has if a claim's follow."""


class Due(NamedTuple):
    """Says when the tasks of an insert are due: at a time, or so long from now; ``is_given`` if the caller said so."""

    at: datetime | None = None
    delay: timedelta = timedelta(0)
    is_given: bool = True

    @property
    def args(self) -> tuple[Argument, ...]:
        """Returns the arguments of the script."""
        return ("" if self.at is None else microseconds(self.at), microseconds(self.delay), int(self.is_given))


class Inserting:
    """The verbs that insert."""

    def __init__(self, sending: Sending, replicas: int = 0) -> None:
        self._sending = sending
        self._replicas = replicas

    def insert(self, row: NewTask, overrides: Overrides, /) -> Verb[Task]:
        """See ``Verbs.insert``."""
        tasks = yield from self.insert_rows([row], _due(overrides))
        return tasks[0]

    def insert_many(self, bulk: Bulk, overrides: Overrides, /) -> Verb[list[Task]]:
        """See ``Verbs.insert_many``."""
        rows = list(bulk)
        return (yield from self.insert_rows(rows, _due(overrides))) if rows else []

    def insert_rows(
        self, rows: Sequence[NewTask], due: Due, times: Sequence[datetime] = (), *, whatever_they_hold: bool = False
    ) -> Verb[list[Task]]:
        """Inserts rows, all or none; each of them at a time of its own, if ``times`` are given.

        Raises ``TwinExists``, and ``IdInUse`` if the task with the id of one holds something else, unless
        ``whatever_they_hold``.
        """
        refuse_equal(rows)
        chunks = [rows] if len(rows) == 1 else list(in_chunks(rows, most_rows=MOST_ROWS, most_chars=_MOST_CHARS))
        if len(chunks) == 1:
            replies = [(yield from self._replicated(self._script("all", "", due, rows, times)))]
        else:
            replies = yield from self._together(chunks, due, times)
        return _tasks_of(chunks, replies, times, whatever_they_hold=whatever_they_hold)

    def _together(self, chunks: Sequence[Sequence[NewTask]], due: Due, times: Sequence[datetime]) -> Verb[list[Any]]:
        """Sends several scripts in one transaction. If a row may be refused, all are looked at before the first write,
        since what a script has written would stand; their replies take the place of those of the writes."""
        token = uuid4().hex
        parts = [(chunk, times[start : start + len(chunk)]) for start, chunk in _with_starts(chunks)]
        writes = [self._script("write", token, due, *part) for part in parts]
        if not any(row.on_conflict == "raise" for chunk in chunks for row in chunk):
            written: list[Any] = yield from self._replicated(Together(writes))
            return written
        looks = [self._script("look", token, due, *part) for part in parts]
        forgotten = self._sending.command("UNLINK", f"refused:{token}")
        replies: list[Any] = yield from self._replicated(Together([*looks, *writes, forgotten]))
        for chunk, look in zip(chunks, replies, strict=False):
            _raise_if_refused(look, chunk)
        return replies[len(looks) : -1]

    def confirmed(self, write: Operation[T]) -> Verb[T]:
        """Writes something that inserts a task, which replicas have to confirm."""
        return write.parse((yield from self._replicated(replace(write, parse=as_it_is))))

    def _replicated(self, step: Operation[Any] | Together[Any]) -> Verb[Any]:
        if not self._replicas:
            return (yield from step)
        return (yield from Replicated(step, self._replicas))

    def _script(
        self, mode: str, token: str, due: Due, rows: Sequence[NewTask], times: Sequence[datetime]
    ) -> Operation[Any]:
        args: list[Argument] = [*due.args, mode, token, _OPTIONS, ""]
        if times:
            for row, time in zip(rows, times, strict=True):
                args += new_row(row, str(microseconds(time)))
        else:
            for row in rows:
                args += new_row(row)
        if mode == "all" and len(rows) == 1 and not times and _is_plain(rows[0]):
            args[_MODE] = "plain"
        if mode != "all" or due.is_given or times:
            return self._sending.script("insert", *args)
        served = [(row.options[_TYPE], row.kind) for row in rows]
        return self._sending.insert(args, served, _CLAIM)


def _is_plain(row: NewTask) -> bool:
    return row.uniq_hash is None and row.expires is None and row.lane is None and row.terms is None


def _due(overrides: Overrides) -> Due:
    return Due(overrides.scheduled_at, overrides.delay or timedelta(0), overrides.gives_due_time)


def _with_starts(chunks: Sequence[Sequence[NewTask]]) -> Iterator[tuple[int, Sequence[NewTask]]]:
    start = 0
    for chunk in chunks:
        yield start, chunk
        start += len(chunk)


# Replies --------------------------------------------------------------------------------------------------------------


def _tasks_of(
    chunks: Sequence[Sequence[NewTask]], replies: Sequence[Any], times: Sequence[datetime], *, whatever_they_hold: bool
) -> list[Task]:
    """Returns the tasks of an insert, from the replies of its scripts. Raises ``IdInUse`` or ``TwinExists``."""
    tasks: list[Task] = []
    there: dict[UUID, Task] = {}  # as the last script has left them
    for (start, chunk), reply in zip(_with_starts(chunks), replies, strict=True):
        _raise_if_refused(reply, chunk)
        now, due, managed, *rest = reply
        now, due = time_of(now), time_of(due)
        met = dict(_met(rest, chunk, whatever_they_hold))
        there.update((task.id, task) for task in met.values())
        for number, row in enumerate(chunk):
            task = met.get(number)
            if task is None:
                task = row.inserted(times[start + number] if times else due, now)
                if task.lane is None and task.task_type in managed:
                    task = task._replace(lane="")
            tasks.append(task)
    if not there:
        return tasks
    return [there.get(task.id, task)._replace(conflict=task.conflict) for task in tasks]


def _met(rest: Sequence[Any], chunk: Sequence[NewTask], whatever_they_hold: bool) -> Iterator[tuple[int, Task]]:
    """Yields the tasks that are not simply new, with the numbers of their rows, from 0. Raises ``IdInUse``."""
    place = 0
    while place < len(rest):
        if rest[place] == "outlived":
            number, task_id, inserted = rest[place + 1 : place + 4]
            yield number - 1, chunk[number - 1].outlived(UUID(task_id), time_of(inserted))._replace(conflict=True)
            place += 4
            continue
        number, was_there, task_id, fields, errors = rest[place + 1 : place + 6]
        row, task = chunk[number - 1], task_of(task_id, fields, errors)
        is_itself = was_there and task.id == row.id
        if is_itself and not whatever_they_hold and task.metadata != from_json(row.metadata):
            raise IdInUse(f"another task has the id {row.id}")
        yield number - 1, task._replace(conflict=bool(was_there))
        place += 6


def _raise_if_refused(reply: Sequence[Any], chunk: Sequence[NewTask]) -> None:
    if len(reply) > 3 and reply[3] == "refused":
        row = chunk[reply[4] - 1]
        raise TwinExists(f"{row.kind}: an equal task has the id {reply[5]}, so that nothing was inserted")
