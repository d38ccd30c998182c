"""Shows tasks: a page of a list, and the life of one; as JSON for programs, or as text for people."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fang_cli.json_text import plain
from fang_cli.tables import Number, print_table, stdout
from fang_cli.tasks.filtering import told
from fang_cli.texts import time_of
from fang_core.masking.keys import shown_key, without_key
from fang_core.masking.masks import Masks, masks_of
from fang_core.monitoring.explanation import Explanation
from fang_core.monitoring.listing import TaskPage
from fang_core.record import DEFAULT_MAX_RETRIES, Progress, Task
from fang_core.tasks.life import first_line_of, life, when
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.words.texts import counted, printable

_KEPT_BACK: Final = ("metadata", "errors", "conflict", "progress")

# A page ---------------------------------------------------------------------------------------------------------------


def page_as_object(page: TaskPage, words: frozenset[str]) -> dict[str, Any]:
    """Returns a page for JSON, without what these words mask."""
    return {
        "tasks": [task_as_object(masked(task, words)) for task in page.tasks],
        "cursor": page.cursor,
        "looked_at": page.looked_at,
        "stopped": page.stopped,
        "looked_to": plain(page.looked_to),
    }


def task_as_object(task: Task) -> dict[str, Any]:
    """Returns a task for JSON, without its payload and its errors."""
    return {name: plain(value) for name, value in task._asdict().items() if name not in _KEPT_BACK}


def masked(task: Task, words: frozenset[str]) -> Task:
    """Returns the task with its headers and its key masked, as the page shows them."""
    headers = task.headers and Masks(words).masked(task.headers)
    return task._replace(headers=headers, lane=shown_key(task, masks_of(task.kind, words)))


def masked_why(why: Explanation, words: frozenset[str]) -> Explanation:
    """Returns the explanation with the task's key masked."""
    return why if why.task is None else without_key(why, masks_of(why.task.kind, words))


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
            first_line_of(task.error_message),
        )
        for task in page.tasks
    ]
    print_table(console, "tasks", columns, rows, most=None)
    if page.stopped:
        down_to = "" if page.looked_to is None else f" down to {time_of(page.looked_to)}"
        console.print(f"looked at {counted(page.looked_at, 'task')}{down_to}, and the time for that was over")
    if page.cursor is not None:
        words = ["fang tasks list", told(which), f"--limit {limit}", f"--cursor {page.cursor}"]
        console.print(printable(f"go on with: {' '.join(filter(None, words))}"), soft_wrap=True, markup=False)


def _when(task: Task) -> str:
    verb, at = when(task)
    return f"{verb} {time_of(at)}"


# One task -------------------------------------------------------------------------------------------------------------


def one_as_object(
    task: Task, why: Explanation, payload: Mapping[str, Any] | None, *, tracebacks: bool
) -> dict[str, Any]:
    """Returns all that is known of a task for JSON; ``payload`` is null unless it was asked for."""
    errors = [
        {key: plain(value) for key, value in each.items() if tracebacks or key != "traceback"}
        for each in task.errors
        if isinstance(each, Mapping)
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
    for moment in life(task):
        yield f"  {time_of(moment.at)}  {printable(moment.text)}"
        if tracebacks and moment.traceback:
            yield from (f"      {printable(line)}" for line in moment.traceback.splitlines())


def _facts(task: Task, why: Explanation) -> Iterator[tuple[str, str]]:
    yield "kind", task.kind
    yield "type", f"{task.task_type}, priority {task.priority}"
    yield "state", task.state
    yield "why", why.text
    if why.remedy:
        yield "remedy", why.remedy
    most = DEFAULT_MAX_RETRIES if task.max_retries is None else task.max_retries
    crashes = counted(task.crashes, "crash", "crashes")
    yield "retries", f"{task.retries} of {most}{f', and {crashes}' if task.crashes else ''}"
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
