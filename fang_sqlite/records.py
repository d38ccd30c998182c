"""Turns rows of ``fang_tasks`` into records, and back. See ``schema`` for the forms of ids, times and spans."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, NoReturn
from uuid import UUID

from fang_core.backends.json_forms import Unreadable
from fang_core.errors import UnreadablePayload
from fang_core.record import DEFAULT_MAX_RETRIES, ClaimedTask, Task, TaskState, payload_of
from fang_core.words import stored_json
from fang_core.words.moments import EARLIEST, LATEST

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
ID_BYTES: Final = 16
GREATEST: Final = 2**63 - 1
"""The largest integer of SQLite."""


class Undecodable(str):
    """A text that is not UTF-8, written by another program: it can be shown, with marks in place of such bytes.

    Attributes:
        raw: what the file has.
    """

    raw: bytes

    @classmethod
    def or_text(cls, raw: bytes) -> str:
        """Returns the text of these bytes, as the ``text_factory`` of a connection."""
        try:
            return raw.decode()
        except UnicodeDecodeError:
            text = cls(raw.decode(errors="replace"))
            text.raw = raw
            return text


COLUMNS: Final = (
    *("id", "metadata", "kind", "task_type", "state", "priority", "retries", "max_retries", "crashes", "attempt"),
    *("scheduled_at", "created_at", "updated_at", "error_message", "errors", "pool_id", "claimed_at", "uniq_hash"),
    *("headers", "timeout", "expires_at", "cancel_request", "group_limit", "lane"),
)
"""The columns of a task, without what only uniqueness knows of it."""

STATE_COLUMNS: Final = (
    *("id", "state", "retries", "crashes", "attempt", "scheduled_at", "created_at", "updated_at", "error_message"),
    *("errors", "pool_id", "claimed_at", "expires_at", "cancel_request", "group_limit"),
)
"""The columns that runs, and what becomes of them, change."""

CLAIMED: Final = (
    *("id", "kind", "metadata", "attempt", "retries", "max_retries", "crashes", "task_type", "priority"),
    *("scheduled_at", "headers", "timeout", "expires_at", "cancel_request", "group_limit"),
)
"""The columns of a claimed task."""


def micros(time: datetime) -> int:
    """Returns a time as microseconds."""
    return (time - EPOCH) // MICROSECOND


def micros_or_none(time: datetime | None) -> int | None:
    """Returns a time as microseconds, if there is one."""
    return None if time is None else (time - EPOCH) // MICROSECOND


def span(time: timedelta | None) -> int | None:
    """Returns a span as microseconds, if there is one."""
    return None if time is None else time // MICROSECOND


def moment(value: int) -> datetime:
    """Returns the time that microseconds stand for: the first or last one of all if they are beyond these."""
    try:
        return EPOCH + timedelta(microseconds=value)
    except OverflowError:  # other programs may write to the file
        return EARLIEST if value < 0 else LATEST


def moment_or_none(value: int | None) -> datetime | None:
    """Returns the time that microseconds stand for, if there are any."""
    return None if value is None else moment(value)


def span_of(value: int | None) -> timedelta | None:
    """Returns the span that microseconds stand for, if there are any."""
    return None if value is None else timedelta(microseconds=value)


def as_json(value: Any) -> str | None:
    """Returns a value as JSON text; None stays None."""
    return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def from_json(text: str | None) -> Any:
    """Returns what JSON text stands for. Raises ``ValueError``, also for what is deeper than any payload."""
    return None if text is None else stored_json.from_json(text)


def _object_or_none(text: str | None) -> dict[str, Any] | None:
    """Returns an object of JSON; None for another value, which only other programs write. Raises ``ValueError``."""
    found = from_json(text)
    return found if isinstance(found, dict) else None


def _object(text: str) -> dict[str, Any]:
    """Returns an object of JSON. Raises one of ``UNREADABLE``."""
    _check_decoded(text)
    found = from_json(text)
    if not isinstance(found, dict):
        raise TypeError("this is no object of JSON")
    return found


def entries_of(text: str) -> list[Any]:
    """Returns an error history; an empty one if another program has written another value."""
    found = seen_json(text)
    return found if isinstance(found, list) else []


def names_of(text: str) -> tuple[str, ...]:
    """Returns the texts in a list of JSON, for reading only; values of other programs may be left out."""
    found = seen_json(text)
    return tuple(each for each in found if isinstance(each, str)) if isinstance(found, list) else ()


def object_of(text: str | None) -> dict[str, Any]:
    """Returns an object of JSON, for reading only; an empty one in place of anything else."""
    found = seen_json(text)
    return found if isinstance(found, dict) else {}


def seen_json(text: str | None) -> Any:
    """Returns what JSON text stands for, for those who only look; None if that cannot be read."""
    try:
        return from_json(text)
    except UNREADABLE:
        return None


def unreadable(what: str, error: Exception) -> Unreadable:
    """Returns the error of a row whose settings cannot be read, and that must not be left out."""
    return Unreadable(f"the row of {what} cannot be read ({type(error).__name__}): another program has written it")


UNREADABLE: Final = (ValueError, TypeError, RecursionError, AttributeError, KeyError, OverflowError)
"""Raised for JSON that is none, that Python cannot read, or that has another form."""

_make_claimed: Final[Callable[[tuple[Any, ...]], ClaimedTask]] = partial(tuple.__new__, ClaimedTask)


def task_of(row: tuple[Any, ...]) -> Task:
    """Returns the task of a row of ``COLUMNS``. Raises ``UnreadablePayload``, for JSON that Python cannot read."""
    id_, metadata, kind, task_type, state, priority, retries, max_retries, crashes, attempt, *rest = row
    scheduled_at, created_at, updated_at, error_message, errors, pool_id, claimed_at, uniq_hash, *options = rest
    headers, timeout, expires_at, cancel_request, group_limit, lane = options
    task_id = UUID(bytes=id_)
    try:
        for value in row:
            _check_decoded(value)  # who changes the task would write another text
        return Task(
            id=task_id,
            metadata=from_json(metadata),
            kind=kind,
            task_type=task_type,
            state=TaskState(state),
            priority=priority,
            retries=retries,
            max_retries=max_retries,
            crashes=crashes,
            attempt=attempt,
            scheduled_at=moment(scheduled_at),
            created_at=moment(created_at),
            updated_at=moment(updated_at),
            error_message=error_message,
            errors=() if errors == "[]" else tuple(from_json(errors)),
            pool_id=None if pool_id is None else UUID(bytes=pool_id),
            claimed_at=moment_or_none(claimed_at),
            uniq_hash=uniq_hash,
            headers=_object_or_none(headers),
            timeout=span_of(timeout),
            expires_at=moment_or_none(expires_at),
            cancel_request=_object_or_none(cancel_request),
            group_limit=group_limit,
            lane=lane,
        )
    except (ValueError, TypeError, RecursionError) as error:
        _unreadable(task_id, kind, error)


def listed_task_of(row: tuple[Any, ...]) -> Task:
    """Returns the same for a list, also if its JSON cannot be read: it then has none, and of its payload the type."""
    try:
        return task_of(row)
    except UnreadablePayload:
        decoded = (str(value) if isinstance(value, Undecodable) else value for value in row)
        shown = dict(zip(COLUMNS, decoded, strict=True))
        shown |= {"metadata": "{}", "errors": "[]", "headers": None, "cancel_request": None}
        return task_of(tuple(shown.values()))._replace(metadata={"type": shown["kind"]})


def _check_decoded(value: object) -> None:
    """Raises ``UnicodeError``, one of ``UNREADABLE``, for a text that is no UTF-8."""
    if type(value) is Undecodable:
        raise UnicodeError


def _unreadable(task_id: UUID, kind: str, error: Exception) -> NoReturn:
    raise UnreadablePayload(f"the row of task {task_id} ({kind}) cannot be read: {type(error).__name__}") from None


def row_of(task: Task) -> tuple[Any, ...]:
    """Returns the row of a task, in the order of ``COLUMNS``."""
    return (
        task.id.bytes,
        as_json(task.metadata),
        task.kind,
        task.task_type,
        task.state.value,
        task.priority,
        task.retries,
        task.max_retries,
        task.crashes,
        task.attempt,
        micros(task.scheduled_at),
        micros(task.created_at),
        micros(task.updated_at),
        task.error_message,
        as_json(task.errors),
        None if task.pool_id is None else task.pool_id.bytes,
        micros_or_none(task.claimed_at),
        task.uniq_hash,
        as_json(task.headers),
        span(task.timeout),
        micros_or_none(task.expires_at),
        as_json(task.cancel_request),
        task.group_limit,
        task.lane,
    )


def named(id_: bytes) -> str:
    """Returns how a message names a row: by its id, also if that is none."""
    return str(UUID(bytes=id_)) if len(id_) == ID_BYTES else repr(id_.hex())[:80]


def state_of(row: tuple[Any, ...]) -> Task:
    """Returns a task without payload and headers, from ``STATE_COLUMNS`` and its kind, type, priority and limit.

    Errors that other programs have spoilt are left out.
    """
    id_, state, retries, crashes, attempt, scheduled_at, created_at, updated_at, error_message, *rest = row
    errors, pool_id, claimed_at, expires_at, cancel_request, group_limit, kind, task_type, priority, max_retries = rest
    return Task(
        id=UUID(bytes=id_),
        metadata={},
        kind=kind,
        task_type=task_type,
        state=TaskState(state),
        priority=priority,
        retries=retries,
        max_retries=max_retries,
        crashes=crashes,
        attempt=attempt,
        scheduled_at=moment(scheduled_at),
        created_at=moment(created_at),
        updated_at=moment(updated_at),
        error_message=error_message,
        errors=() if errors == "[]" else tuple(entries_of(errors)),
        pool_id=None if pool_id is None else UUID(bytes=pool_id),
        claimed_at=moment_or_none(claimed_at),
        expires_at=moment_or_none(expires_at),
        cancel_request=None if cancel_request is None else object_of(cancel_request),
        group_limit=group_limit,
    )


def state_row_of(task: Task) -> tuple[Any, ...]:
    """Returns what runs change of a task, in the order of ``STATE_COLUMNS``."""
    return (
        task.id.bytes,
        task.state.value,
        min(task.retries, GREATEST),
        task.crashes,
        task.attempt,
        micros(task.scheduled_at),
        micros(task.created_at),
        micros(task.updated_at),
        task.error_message,
        as_json(task.errors),
        None if task.pool_id is None else task.pool_id.bytes,
        micros_or_none(task.claimed_at),
        micros_or_none(task.expires_at),
        as_json(task.cancel_request),
        task.group_limit,
    )


def claimed_of(row: tuple[Any, ...]) -> ClaimedTask:
    """Returns the claimed task of a row of ``CLAIMED``. Raises one of ``UNREADABLE`` for a row of another program's."""
    id_, kind, metadata, attempt, retries, max_retries, crashes, task_type, priority, scheduled_at, *rest = row
    headers, timeout, expires_at, cancel_request, group_limit = rest
    return _make_claimed(
        (
            UUID(bytes=id_),
            kind,
            _payload_of(metadata, kind),
            attempt,
            retries,
            DEFAULT_MAX_RETRIES if max_retries is None else max_retries,
            crashes,
            task_type,
            priority,
            EPOCH + timedelta(microseconds=scheduled_at),
            # Nearly all tasks have none of these: a call for each would take a tenth of the time of a claim.
            None if headers is None else _object(headers),
            None if timeout is None else span_of(timeout),
            None if expires_at is None else moment(expires_at),
            None if cancel_request is None else _object(cancel_request),
            group_limit,
        )
    )


def _payload_of(metadata: str, kind: str) -> str:
    """Returns the metadata without its type, as the text of a claim."""
    # Nearly always the type stands first, as inserts write it: to read the JSON takes as long as the rest.
    _check_decoded(metadata)
    beginning = f'{{"type":"{kind}",'
    if metadata.startswith(beginning):
        return "{" + metadata[len(beginning) :]
    return json.dumps(payload_of(from_json(metadata)), ensure_ascii=False)
