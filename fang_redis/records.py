"""Reads tasks from the hashes of Redis, and writes them.

The fields of a hash have short names, since each task has them; those that are null are left out. Times are integers of
microseconds, and JSON is text.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple, overload
from uuid import UUID

from pydantic_core import from_json

from fang_core.backends.json_forms import Unreadable
from fang_core.backends.live_runs import as_live, live_as_json
from fang_core.backends.pools import Live, PoolRecord
from fang_core.crashes import MOST_CRASHES
from fang_core.record import (
    DEFAULT_MAX_RETRIES,
    HIGHEST_PRIORITY,
    LOWEST_PRIORITY,
    ClaimedTask,
    Task,
    TaskState,
)
from fang_core.tasks.insertion import NewTask
from fang_core.tasks.options import COLUMNS
from fang_core.words.moments import LATEST

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

FIELDS: Final[Mapping[str, str]] = {
    "metadata": "m",
    "kind": "k",
    "task_type": "T",
    "state": "s",
    "priority": "p",
    "retries": "r",
    "max_retries": "x",
    "crashes": "c",
    "attempt": "a",
    "scheduled_at": "d",
    "created_at": "n",
    "updated_at": "u",
    "error_message": "e",
    "pool_id": "P",
    "claimed_at": "C",
    "uniq_hash": "h",
    "headers": "H",
    "timeout": "o",
    "expires_at": "X",
    "cancel_request": "q",
    "group_limit": "g",
    "lane": "L",
}
"""The field of a task's hash for each column. A hash has two more: ``E`` if the task has errors, and ``w``, the hash of
a task that is unique until it is claimed."""

WAITING_HASH: Final = "w"
_HAS_ERRORS: Final = "E"
_COUNTS: Final = ("retries", "crashes", "attempt")

SPOILT: Final = "its row cannot be read ({}): another client has written to it"
"""Says why a task was failed; with the name of an error."""

UNREADABLE: Final = (ValueError, TypeError, RecursionError, OverflowError, AttributeError, KeyError)
"""What is raised for what another client has written."""

_STATES: Final = {state.value: state for state in TaskState}
_WHOLE: Final = re.compile(r"0|-?[1-9][0-9]{0,17}")
_FIRST_TIME: Final = -62_135_596_800_000_000  # in the year 1; the bounds of scripts/prelude.lua
_LAST_TIME: Final = 253_402_300_799_999_999
_MOST_ATTEMPT: Final = 10**14 - 1
_MOST_COUNT: Final = 2**31 - 1


def unreadable(what: str, error: Exception) -> Unreadable:
    """Returns the error of a value that cannot be read, and must not be left out."""
    return Unreadable(f"{what} cannot be read ({type(error).__name__}): another client has written to it")


def field_of(column: str) -> str:
    """Returns the name of a column's field."""
    return FIELDS.get(column, column)


# Values ---------------------------------------------------------------------------------------------------------------


def microseconds(value: datetime | timedelta) -> int:
    """Returns a time since 1970, or a span, in microseconds."""
    return (value - _EPOCH if isinstance(value, datetime) else value) // _MICROSECOND


def time_of(text: str | int) -> datetime:
    """Returns the time in a field."""
    return _EPOCH + timedelta(microseconds=int(text))


def span_of(text: str) -> timedelta:
    """Returns the span in a field."""
    return timedelta(microseconds=int(text))


def as_json(value: Any) -> str:
    """Returns the JSON text of a value."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def written(value: Any) -> str:
    """Returns a value as the text of its field."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):  # before it is asked whether it is a Mapping, which takes ten times as long
        return str(value)
    if isinstance(value, datetime | timedelta):
        return str(microseconds(value))
    if isinstance(value, Mapping):
        return as_json(value)
    return str(value)


# Tasks ----------------------------------------------------------------------------------------------------------------


def pairs(reply: Sequence[str] | Mapping[str, str]) -> Mapping[str, str]:
    """Returns the fields that a script has read with HGETALL."""
    return reply if isinstance(reply, Mapping) else dict(zip(reply[::2], reply[1::2], strict=True))


def task_of(task_id: str, reply: Sequence[str] | Mapping[str, str], errors: Iterable[str] = ()) -> Task:
    """Returns the task in a hash, with these entries of its list of errors.

    What another client has spoilt gets the value that scripts take for it: see ``look`` in
    ``scripts/prelude.lua``. So it can be listed, changed and removed; claims are strict.
    """
    hash_ = pairs(reply)
    get = hash_.get
    kind = get("k", "")
    metadata = _seen(get("m"))
    return Task(
        id=UUID(task_id),
        metadata=metadata if isinstance(metadata, dict) else {"type": kind},
        kind=kind,
        task_type=get("T", ""),
        state=_STATES.get(get("s", ""), TaskState.FAILED),
        priority=_whole(get("p"), 0, HIGHEST_PRIORITY, LOWEST_PRIORITY),
        retries=_whole(get("r"), 0, 0, _MOST_COUNT),
        max_retries=_whole(get("x"), None, 0, _MOST_COUNT),
        crashes=_whole(get("c"), 0, 0, MOST_CRASHES),
        attempt=_whole(get("a"), 0, 0, _MOST_ATTEMPT),
        scheduled_at=_moment(get("d"), _EPOCH),
        created_at=_moment(get("n"), _EPOCH),
        updated_at=_moment(get("u"), _EPOCH),
        error_message=get("e"),
        errors=tuple(filter(None, map(_entry_of, errors))),
        pool_id=id_in(get("P", "")),
        claimed_at=_moment(get("C"), None),
        uniq_hash=get("h"),
        headers=_object_or_none(get("H")),
        timeout=None
        if (timeout := _whole(get("o"), None, 1, _LAST_TIME // 10)) is None
        else timedelta(microseconds=timeout),
        expires_at=_moment(get("X"), None),
        cancel_request=_object_or_none(get("q")),
        group_limit=_whole(get("g"), None, 0, MOST_CRASHES),
        lane=get("L"),
    )


def id_in(text: str) -> UUID | None:
    """Returns the id in a text; None if another client has written something else."""
    try:
        return UUID(text)
    except ValueError:
        return None


@overload
def _whole(text: str | None, otherwise: int, least: int, most: int) -> int: ...
@overload
def _whole(text: str | None, otherwise: None, least: int, most: int) -> int | None: ...
def _whole(text: str | None, otherwise: int | None, least: int, most: int) -> int | None:
    """Returns the whole number in a text if it lies between these, as scripts read it; else the other value."""
    if text is None or _WHOLE.fullmatch(text) is None:
        return otherwise
    number = int(text)
    return number if least <= number <= most else otherwise


@overload
def _moment(text: str | None, otherwise: datetime) -> datetime: ...
@overload
def _moment(text: str | None, otherwise: None) -> datetime | None: ...
def _moment(text: str | None, otherwise: datetime | None) -> datetime | None:
    """Returns the time in a text; the other value if there is none of Python's."""
    number = _whole(text, None, _FIRST_TIME, _LAST_TIME)
    return otherwise if number is None else _EPOCH + timedelta(microseconds=number)


def moment_or_none(text: str | None) -> datetime | None:
    """Returns the time in a text; None if there is none."""
    return _moment(text, None)


def object_in(text: str | None) -> dict[str, Any]:
    """Returns an object of JSON, for reading only; an empty one in place of anything else."""
    return _object_or_none(text) or {}


def moment_in(score: str) -> datetime:
    """Returns the time that is the score of a task in an index."""
    return _moment(score, LATEST)


def _seen(text: str | None) -> Any:
    """Returns what JSON text stands for; None if that cannot be read."""
    try:
        return None if text is None else from_json(text)
    except ValueError:
        return None


def _object_or_none(text: str | None) -> dict[str, Any] | None:
    found = _seen(text)
    return found if isinstance(found, dict) else None


def fields_of(task: Task, waiting_hash: str | None = None) -> list[str]:
    """Returns the fields and values of a task's hash, in turn."""
    fields: list[str] = []
    for column, name in FIELDS.items():
        value = getattr(task, column)
        if value is not None and not (column in _COUNTS and value == 0):
            fields += (name, written(value))
    if task.errors:
        fields += (_HAS_ERRORS, "1")
    if waiting_hash is not None:
        fields += (WAITING_HASH, waiting_hash)
    return fields


def entries_of(task: Task) -> list[str]:
    """Returns the entries of the list of a task's errors."""
    return [as_json({**each, "time": _time_in(each.get("time"))}) for each in task.errors]


def _object_in(text: str | None) -> Any:
    """Returns an object of JSON, if there is any. Raises one of ``UNREADABLE``."""
    found = None if text is None else from_json(text)
    if text is not None and not isinstance(found, dict):
        raise TypeError("this is no object of JSON")
    return found


def _entry_of(text: str) -> Mapping[str, Any] | None:
    """Returns an entry of the errors; None if it is none."""
    entry = _seen(text)
    if not isinstance(entry, dict):
        return None
    time = entry.get("time")
    return {**entry, "time": _moment(str(time), _EPOCH).isoformat()} if isinstance(time, int) else entry


def _time_in(time: Any) -> Any:
    return microseconds(datetime.fromisoformat(time)) if isinstance(time, str) else time


# New tasks ------------------------------------------------------------------------------------------------------------

_INDEXED: Final = ("task_type", "priority")
_PLAIN: Final = tuple(name for name in COLUMNS if name not in _INDEXED)
_PLACES: Final = tuple(map(COLUMNS.index, _PLAIN))
_NAMES: Final = tuple(map(field_of, _PLAIN))
_TYPE, _PRIORITY = map(COLUMNS.index, _INDEXED)

OPTION_FIELDS: Final = ("m", *_NAMES)
"""The fields of a hash that an insert writes as they are; a task that is replaced loses those that it has no more."""


def new_row(row: NewTask, due: str = "") -> list[str]:
    """Returns what the script of inserts takes for one row: see ``scripts/insert.lua``."""
    options, expires, terms = row.options, row.expires, row.terms
    plain = ["m", row.metadata]
    for name, place in zip(_NAMES, _PLACES, strict=True):
        value = options[place]
        if value is not None:
            plain += (name, written(value))
    lasts = ""
    if expires is not None:
        lasts = ("=" if isinstance(expires, datetime) else "+") + written(expires)
    agreed = ""
    if terms is not None:
        within = None if terms.within is None else microseconds(terms.within)
        known = {**terms._asdict(), "within": within}
        agreed = as_json({name: value for name, value in known.items() if value is not None})
    return [
        str(row.id),
        row.kind,
        options[_TYPE],
        str(options[_PRIORITY]),
        row.uniq_hash or "",
        "" if row.lane is None else f"={row.lane}",
        lasts,
        agreed,
        due,
        str(len(plain)),
        *plain,
    ]


# Claimed tasks --------------------------------------------------------------------------------------------------------


def claimed_of(task_id: str, values: Sequence[Any]) -> ClaimedTask:
    """Returns a claimed task from its id and the values that ``scripts/claim.lua`` has read. Raises ``UNREADABLE``."""
    metadata, kind, attempt, retries, most, crashes, priority, due, headers, timeout, *rest = values
    expires, cancel, group_limit, task_type, *_ = rest
    if not isinstance(kind, str):
        raise TypeError("there is no kind")
    return ClaimedTask(
        UUID(task_id),
        kind,
        payload_in(metadata, kind),
        int(attempt),
        0 if retries is None else _count(retries),
        DEFAULT_MAX_RETRIES if most is None else _count(most),
        0 if crashes is None else _count(crashes),
        task_type,
        int(priority),
        time_of(due),
        _object_in(headers),
        None if timeout is None else span_of(timeout),
        None if expires is None else time_of(expires),
        _object_in(cancel),
        None if group_limit is None else int(group_limit),
    )


def _count(text: str | int) -> int:
    number = int(text)
    if not 0 <= number <= _MOST_COUNT:
        raise ValueError("this is no count")
    return number


class Spoilt(NamedTuple):
    """A claimed task that cannot be read, since another client has written to its hash, and what there is to say."""

    task_id: str
    message: str


def of_kinds(
    tasks: list[ClaimedTask], kinds: Collection[str] | None, spoilt: Sequence[Spoilt]
) -> tuple[list[ClaimedTask], Sequence[Spoilt]]:
    """Takes tasks out of a claim whose kinds were not asked for, due to a wrong index; None asks for any."""
    others = () if kinds is None else {task.kind for task in tasks}.difference(kinds)
    if not others:
        return tasks, spoilt
    message = SPOILT.format("its kind is not what its index says")
    spoilt = [*spoilt, *(Spoilt(str(task.id), message) for task in tasks if task.kind in others)]
    return [task for task in tasks if task.kind not in others], spoilt


def all_claimed(rows: Sequence[Any]) -> tuple[list[ClaimedTask], list[Spoilt]]:
    """Returns the tasks of a claim, from the id and the values of each, and those that cannot be read."""
    tasks, spoilt = [], []
    for task_id, values in zip(rows[::2], rows[1::2], strict=True):
        try:
            tasks.append(claimed_of(task_id, values))
        except UNREADABLE as error:
            spoilt.append(Spoilt(task_id, SPOILT.format(type(error).__name__)))
    return tasks, spoilt


def payload_in(metadata: str, kind: str) -> str:
    """Returns the payload in the text of a row's metadata, without the kind, which inserts write first. Raises one of
    ``UNREADABLE``."""
    head = _head(kind)
    if metadata.startswith(head):
        return "{" + metadata[len(head) :]
    if metadata == head[:-1] + "}":
        return "{}"
    read = from_json(metadata)
    if not isinstance(read, dict):
        raise TypeError("this is no object of JSON")
    return as_json({key: value for key, value in read.items() if key != "type"})


@lru_cache(maxsize=1024)
def _head(kind: str) -> str:
    return f'{{"type":{json.dumps(kind, ensure_ascii=False)},'


# Pools ----------------------------------------------------------------------------------------------------------------


def pool_json(pool: PoolRecord) -> str:
    """Returns a pool's record as JSON; its id is the field of the hash that holds it."""
    record = pool._asdict()
    del record["id"]
    return as_json({**record, "lease": pool.lease.total_seconds()})


def pool_of(pool_id: str, text: str) -> PoolRecord:
    """Returns the record in a JSON text. Raises ``ValueError``, ``KeyError`` or ``TypeError`` if it is none."""
    record: dict[str, Any] = from_json(text)
    record["lease"] = timedelta(seconds=record["lease"])
    for name in ("task_types", "kinds", "isolated_kinds"):
        record[name] = tuple(record[name])
    return PoolRecord(UUID(pool_id), **record)


def record_in(text: str) -> Mapping[str, Any] | None:
    """Returns the record of a pool, for those who only look; None if another client has written something else."""
    found = _object_or_none(text) or {}
    is_ours = all(isinstance(found.get(name), type_) for name, type_ in _OF_POOL.items())
    return found if is_ours else None


_OF_POOL: Final = {
    **dict.fromkeys(("task_types", "kinds", "isolated_kinds"), list),
    **dict.fromkeys(("mode", "host"), str),
    **dict.fromkeys(("pid", "workers"), int),
}


def records_in(texts: Iterable[str]) -> list[Mapping[str, Any]]:
    """Returns the records of pools that can be read."""
    return [record for text in texts if (record := record_in(text)) is not None]


def count_in(text: str | None) -> int:
    """Returns a count; 0 in place of anything else."""
    return _whole(text, 0, 0, _MOST_COUNT)


def workers_in(text: str | None, otherwise: int) -> int:
    """Returns how many tasks a pool runs at once, as it has said since; the other number if it has not."""
    return _whole(text, otherwise, 0, _MOST_COUNT)


class Told(NamedTuple):
    """Holds what a pool has last reported about itself, and when."""

    at: datetime
    live: Live


def live_json(live: Live) -> str:
    """Returns what a pool does now as text; the script that writes it puts the time before it."""
    return f"{live.busy} {live.waiting} {live_as_json(live.runs)}"


def told_of(text: str) -> Told:
    """Returns what ``live_json`` has written, behind its time. Raises one of ``UNREADABLE`` for something else."""
    at, busy, waiting, runs = text.split(" ", 3)
    return Told(time_of(at), Live(int(busy), int(waiting), as_live(runs)))


def seen_told(text: str) -> Told | None:
    """Returns the same; None if it is something else."""
    try:
        return told_of(text)
    except UNREADABLE:
        return None
