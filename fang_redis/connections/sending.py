"""Makes the operations that several rooms share: reading tasks, and writing them if they are as they were read."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

from fang_core.backends.claims import Serves
from fang_core.errors import StaleTask
from fang_core.record import Task
from fang_redis.layout import Keys
from fang_redis.operations import Argument, Insert, Operation, as_it_is, script
from fang_redis.records import WAITING_HASH, entries_of, fields_of, microseconds, pairs, task_of, time_of

T = TypeVar("T")

TRIES: Final = 20
"""How often a verb reads and computes again because another client wrote in between."""


class Read(NamedTuple):
    """Holds what a script has read at one moment.

    Attributes:
        now: the server's clock.
        tasks: the tasks that are there, by id, in the order in which they were asked for.
        waiting_hashes: for tasks that are unique until they are claimed, the hash by which they are compared.
    """

    now: datetime
    tasks: Mapping[UUID, Task]
    waiting_hashes: Mapping[UUID, str]


class Write(NamedTuple):
    """One task to write, if it still is as it was read; see ``Sending.write``.

    Attributes:
        read: the task as it was read; None if none may be there.
        after: the task to write; None removes it.
        waiting_hash: the hash by which it is compared until it is claimed; None if it is not.
    """

    read: Task | None
    after: Task | None
    waiting_hash: str | None = None


class ScheduleWrite(NamedTuple):
    """A schedule to write, if it still is as it was read: its rows as JSON, empty if there is none.

    ``tells`` is whether pools are notified of it.
    """

    name: str = ""
    read: str = ""
    after: str = ""
    tells: bool = False


class Written(NamedTuple):
    """The answer to ``Sending.write``: all is written, or nothing.

    Attributes:
        stale: the task that has changed since it was read; ``NO_TASK`` if the schedule has.
        twin: the task that an equal one keeps out, and the id of that one.
        laned: the tasks that got the lane ``""``, since they wait in a managed type and had none.
    """

    stale: UUID | None = None
    twin: tuple[UUID, UUID] | None = None
    laned: frozenset[UUID] = frozenset()

    @property
    def is_done(self) -> bool:
        """Returns whether all was written."""
        return self.stale is None and self.twin is None

    def of(self, after: Task) -> Task:
        """Returns a task as it was written."""
        return after._replace(lane="") if after.id in self.laned else after


NO_SCHEDULE: Final = ScheduleWrite()
NO_TASK: Final = UUID(int=0)


class Sending:
    """Makes operations on the keys of one queue."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self._of_script = (keys.prefix, keys.channel)

    def script(self, name: str, *args: Argument, parse: Any = as_it_is) -> Operation[Any]:
        """Runs ``scripts/NAME.lua`` with these arguments."""
        return Operation(script(name), self._of_script, args, parse)

    def insert(self, args: Sequence[Argument], rows: Sequence[Serves], place: int) -> Insert[Any]:
        """Runs the script of inserts; see ``Insert``."""
        return Insert(script("insert"), self._of_script, args, rows=rows, place=place)

    def command(self, name: str, key: str, *args: Argument, parse: Any = as_it_is) -> Operation[Any]:
        """Runs a command on the key of this name."""
        return Operation(name, (self.keys(key),), args, parse)

    def say(self, text: str) -> Operation[Any]:
        """Publishes a message to all who listen to the queue; see ``layout.py``."""
        return Operation("PUBLISH", (self.keys.channel,), (text,))

    def read(self, ids: Sequence[UUID]) -> Operation[Read]:
        """Reads tasks."""
        return self.script("read", *map(str, ids), parse=read_of)

    def write(self, writes: Sequence[Write], schedule: ScheduleWrite = NO_SCHEDULE) -> Operation[Written]:
        """Writes tasks that pure functions have changed, with every index, and a schedule; all of it, or nothing.

        Nothing is written if one of them is not as it was read, a task by its state, attempt and time of change, or if
        a unique one meets an equal one. Give ``MOST_ROWS`` at most; ``later`` makes the time of a change another one.
        """
        return self.script("write", *values_of(writes, schedule), parse=written_of)


def values_of(writes: Sequence[Write], schedule: ScheduleWrite = NO_SCHEDULE) -> list[Argument]:
    """Returns what ``scripts/write.lua`` takes."""
    args: list[Argument] = [*schedule[:3], int(schedule.tells)]
    for read, after, waiting_hash in writes:
        task = after if read is None else read
        assert task is not None
        was = ("", "", "") if read is None else (read.state.value, str(read.attempt), microseconds(read.updated_at))
        args += (str(task.id), *was)
        if after is None:
            args.append(0)
            continue
        fields = fields_of(after, waiting_hash)
        args += (len(fields), *fields)
        if read is not None and read.errors == after.errors:
            args.append(-1)
        else:
            entries = entries_of(after)
            args += (len(entries), *entries)
    return args


def later(now: datetime, read: Task) -> datetime:
    """Returns the time of a change of this task: a clock that was set back must not make it the same as before."""
    return max(now, read.updated_at + timedelta(microseconds=1))


def read_of(reply: Sequence[Any]) -> Read:
    """Reads the reply of ``scripts/read.lua``."""
    now, *rows = reply
    tasks: dict[UUID, Task] = {}
    hashes: dict[UUID, str] = {}
    for task_id, fields, errors in rows:
        hash_ = pairs(fields)
        task = task_of(task_id, hash_, errors)
        tasks[task.id] = task
        if WAITING_HASH in hash_:
            hashes[task.id] = hash_[WAITING_HASH]
    return Read(time_of(now), tasks, hashes)


def written_of(reply: Sequence[str]) -> Written:
    """Reads the reply of ``scripts/write.lua``."""
    match reply:
        case ["stale", task_id]:
            return Written(stale=UUID(task_id) if task_id else NO_TASK)
        case ["twin", task_id, other]:
            return Written(twin=(UUID(task_id), UUID(other)))
    return Written(laned=frozenset(map(UUID, reply[1:])))


def stale(task_id: UUID) -> StaleTask:
    """Returns the error for a task that is not as it was read."""
    return StaleTask(f"task {task_id} has changed since it was read: read it again")
