"""Reads tasks from the hashes of Redis, and writes them.

The fields of a hash have short names, since each task has them; those that are null are left out. Times are integers of
microseconds, and JSON is text.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

from pydantic_core import from_json

from fang_core.backends.live_runs import as_live, live_as_json
from fang_core.backends.pools import Live, PoolRecord
from fang_core.logs import SafeLogger
from fang_core.record import DEFAULT_MAX_RETRIES, ClaimedTask, Task, TaskState
from fang_core.tasks.insertion import NewTask
from fang_core.tasks.options import COLUMNS

_LOGGER: Final = SafeLogger("fang_redis")
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

    Raises ``ValueError`` if another client has written what cannot be read.
    """
    hash_ = pairs(reply)
    get = hash_.get
    state, timeout, expires, pool, claimed = TaskState(hash_["s"]), get("o"), get("X"), get("P"), get("C")
    max_retries, group_limit = get("x"), get("g")
    return Task(
        id=UUID(task_id),
        metadata=from_json(hash_["m"]),
        kind=hash_["k"],
        task_type=hash_["T"],
        state=state,
        priority=int(hash_["p"]),
        retries=int(get("r", 0)),
        max_retries=None if max_retries is None else int(max_retries),
        crashes=int(get("c", 0)),
        attempt=int(get("a", 0)),
        scheduled_at=time_of(hash_["d"]),
        created_at=time_of(hash_["n"]),
        updated_at=time_of(hash_["u"]),
        error_message=get("e"),
        errors=tuple(map(_entry_of, errors)),
        pool_id=None if pool is None else UUID(pool),
        claimed_at=None if claimed is None else time_of(claimed),
        uniq_hash=get("h"),
        headers=_json_in(get("H")),
        timeout=None if timeout is None else span_of(timeout),
        expires_at=None if expires is None else time_of(expires),
        cancel_request=_json_in(get("q")),
        group_limit=None if group_limit is None else int(group_limit),
        lane=get("L"),
    )


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


def _json_in(text: str | None) -> Any:
    return None if text is None else from_json(text)


def _entry_of(text: str) -> Mapping[str, Any]:
    entry: dict[str, Any] = from_json(text)
    time = entry.get("time")
    return {**entry, "time": time_of(time).isoformat()} if isinstance(time, int) else entry


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
    """Returns a claimed task from its id and the values that ``scripts/claim.lua`` has read."""
    metadata, kind, attempt, retries, most, crashes, priority, due, headers, timeout, *rest = values
    expires, cancel, group_limit, task_type, *_ = rest
    return ClaimedTask(
        UUID(task_id),
        kind,
        payload_in(metadata, kind),
        int(attempt),
        int(retries or 0),
        DEFAULT_MAX_RETRIES if most is None else int(most),
        int(crashes or 0),
        task_type,
        int(priority),
        time_of(due),
        _json_in(headers),
        None if timeout is None else span_of(timeout),
        None if expires is None else time_of(expires),
        _json_in(cancel),
        None if group_limit is None else int(group_limit),
    )


def all_claimed(rows: Sequence[Any]) -> list[ClaimedTask]:
    """Returns the tasks of a claim, from the id and the values of each.

    Those that cannot be read are left out. The pool gives them back when it next looks for what it holds and does not
    know; till then they keep no other task from being claimed.
    """
    tasks = []
    for task_id, values in zip(rows[::2], rows[1::2], strict=True):
        try:
            tasks.append(claimed_of(task_id, values))
        except (ValueError, TypeError):
            _LOGGER.error("task %s cannot be read: another client has written to its hash", task_id)
    return tasks


def payload_in(metadata: str, kind: str) -> str:
    """Returns the payload in the text of a row's metadata, without the kind, which inserts write first."""
    head = _head(kind)
    if metadata.startswith(head):
        return "{" + metadata[len(head) :]
    if metadata == head[:-1] + "}":
        return "{}"
    read = from_json(metadata)
    return as_json({key: value for key, value in read.items() if key != "type"} if isinstance(read, dict) else {})


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


class Told(NamedTuple):
    """What a pool has told of what it does now, and when."""

    at: datetime
    live: Live


def live_json(live: Live) -> str:
    """Returns what a pool does now as text; the script that writes it puts the time before it."""
    return f"{live.busy} {live.waiting} {live_as_json(live.runs)}"


def told_of(text: str) -> Told:
    """Returns what ``live_json`` has written, behind its time. Raises ``ValueError`` if it is something else."""
    at, busy, waiting, runs = text.split(" ", 3)
    return Told(time_of(at), Live(int(busy), int(waiting), as_live(runs)))
