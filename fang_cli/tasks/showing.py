"""Shows tasks: a page of a list, and the life of one; as JSON for programs, or as text for people."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from fang_cli.json_text import plain
from fang_cli.tables import Number, print_table, stdout
from fang_cli.tasks.filtering import told
from fang_cli.texts import printable, time_of
from fang_core.lifecycle import TERMINAL_STATES
from fang_core.monitoring.explanation import Explanation
from fang_core.monitoring.listing import TaskPage
from fang_core.record import DEFAULT_MAX_RETRIES, Progress, Task, TaskState
from fang_core.tasks.filter import TaskFilter

_KEPT_BACK: Final = ("metadata", "errors", "conflict", "progress")

# A page ---------------------------------------------------------------------------------------------------------------


def page_as_object(page: TaskPage) -> dict[str, Any]:
    """Returns a page for JSON."""
    return {
        "tasks": [task_as_object(task) for task in page.tasks],
        "cursor": page.cursor,
        "looked_at": page.looked_at,
        "stopped": page.stopped,
        "looked_to": plain(page.looked_to),
    }


def task_as_object(task: Task) -> dict[str, Any]:
    """Returns a task for JSON, without its payload and its errors."""
    return {name: plain(value) for name, value in task._asdict().items() if name not in _KEPT_BACK}


def show_page(page: TaskPage, which: TaskFilter, limit: int) -> None:
    """Prints a page as a table, and how to go on."""
    console = stdout()
    columns = ("id", "kind", "task type", "state", "priority", "retries", "when", "error")
    rows = [
        (
            task.id,
            task.kind,
            task.task_type,
            task.state,
            Number(task.priority, False),
            Number(task.retries, False),
            _when(task),
            _first_line(task.error_message),
        )
        for task in page.tasks
    ]
    print_table(console, "tasks", columns, rows, most=None)
    if page.stopped:
        down_to = "" if page.looked_to is None else f" down to {time_of(page.looked_to)}"
        console.print(f"looked at {page.looked_at:,} tasks{down_to}, and the time for a page was over")
    if page.cursor is not None:
        words = ["fang tasks list", told(which), f"--limit {limit}", f"--cursor {page.cursor}"]
        console.print(printable(f"go on with: {' '.join(filter(None, words))}"), soft_wrap=True, markup=False)


def _when(task: Task) -> str:
    """Returns the time that says most of a task in its state."""
    if task.state is TaskState.IN_PROGRESS:
        return f"since {time_of(task.claimed_at)}"
    if task.state in TERMINAL_STATES:
        return time_of(task.updated_at)
    return f"due {time_of(task.scheduled_at)}"


def _first_line(text: str | None) -> str:
    return "" if text is None else text.strip().partition("\n")[0]


# One task -------------------------------------------------------------------------------------------------------------


class Event(NamedTuple):
    """Something that happened in the life of a task, or will."""

    at: datetime
    what: str
    traceback: str | None = None


def one_as_object(
    task: Task, why: Explanation, payload: Mapping[str, Any] | None, *, tracebacks: bool
) -> dict[str, Any]:
    """Returns all that is known of a task for JSON; ``payload`` is null unless it was asked for."""
    errors = [
        {key: plain(value) for key, value in each.items() if tracebacks or key != "traceback"} for each in task.errors
    ]
    return {
        **task_as_object(task),
        "errors": errors,
        "progress": plain(task.progress),
        "why": explanation_as_object(why),
        "payload": plain(payload),
    }


def explanation_as_object(why: Explanation) -> dict[str, Any]:
    """Returns an explanation for JSON, without the task's row."""
    told = plain({name: getattr(why, name) for name in ("task_id", "cause", "text", "remedy", "at", "since", "until")})
    return {**told, "details": plain(why.details)}


def one_as_text(task: Task, why: Explanation, payload: Mapping[str, str] | None, *, tracebacks: bool) -> Iterator[str]:
    """Yields the lines that tell of a task."""
    yield f"task {task.id}"
    for name, text in _facts(task, why):
        yield f"  {name:9} {printable(text)}"
    for key, text in (task.headers or {}).items():
        yield f"  {'header':9} {printable(f'{key}={text}')}"
    for key, text in (payload or {}).items():
        yield f"  {'payload':9} {printable(f'{key} = {text}')}"
    yield "life"
    for event in life(task):
        yield f"  {time_of(event.at)}  {printable(event.what)}"
        if tracebacks and event.traceback:
            yield from (f"      {printable(line)}" for line in event.traceback.splitlines())


def _facts(task: Task, why: Explanation) -> Iterator[tuple[str, str]]:
    yield "kind", task.kind
    yield "type", f"{task.task_type}, priority {task.priority}"
    yield "state", task.state
    yield "why", why.text
    if why.remedy:
        yield "remedy", why.remedy
    most = DEFAULT_MAX_RETRIES if task.max_retries is None else task.max_retries
    yield "retries", f"{task.retries} of {most}{f', and {task.crashes} crashes' if task.crashes else ''}"
    if task.timeout is not None:
        yield "timeout", str(task.timeout)
    if task.uniq_hash is not None:
        yield "unique", "an equal one is not inserted while it waits or runs"
    if task.lane:
        yield "key", task.lane
    if task.progress is not None:
        yield "progress", progress_in_words(task.progress)


def progress_in_words(progress: Progress) -> str:
    """Returns how far a run is."""
    done, total, text = progress
    return f"{done:g}{'' if total is None else f' of {total:g}'} {text}".rstrip()


def life(task: Task) -> list[Event]:
    """Returns what is known of a task's life, in order; what is yet to come is the last."""
    events = [Event(task.created_at, "inserted")]
    for each in task.errors:
        at = _time(each.get("time"))
        if at is not None:
            what = f"attempt {each.get('number', '?')} failed: {_first_line(str(each.get('error') or ''))}"
            events.append(Event(at, what.rstrip(": "), each.get("traceback")))
    asked = task.cancel_request
    if asked is not None and (at := _time(asked.get("at"))) is not None:
        by, reason = asked.get("by"), asked.get("reason")
        events.append(Event(at, f"asked to end{f' by {by}' if by else ''}{f': {reason}' if reason else ''}"))
    if task.claimed_at is not None:
        events.append(Event(task.claimed_at, f"attempt {task.attempt} claimed by pool {task.pool_id}"))
    if task.state in TERMINAL_STATES:
        message = "" if task.state is TaskState.FAILED and task.errors else _first_line(task.error_message)
        events.append(Event(task.updated_at, f"{task.state}{f': {message}' if message else ''}"))
    events.sort(key=lambda event: event.at)
    if task.state in (TaskState.NEW, TaskState.RETRIED):
        events.append(Event(task.scheduled_at, f"due, for attempt {task.attempt + 1}"))
    if task.expires_at is not None and task.state not in TERMINAL_STATES:
        events.append(Event(task.expires_at, "no run begins later"))
    return events


def _time(text: object) -> datetime | None:
    """Returns a time from a row, which any client may have written."""
    if isinstance(text, datetime):
        return text
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return None if found.tzinfo is None else found
