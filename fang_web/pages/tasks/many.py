"""Changes tasks: one, or all that a filter chooses, after a preview that says how many they are.

A change of many goes on after its response if it takes long: its page says how far it is, and the audit what came of
it.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from starlette.responses import Response

from fang_core.lifecycle import TERMINAL_STATES
from fang_core.monitoring.listing import MOST_COUNTED, in_words
from fang_core.record import TaskState
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.words.texts import counted
from fang_web.audited import audited
from fang_web.auth import Role
from fang_web.errors import BadRequest, NotFound
from fang_web.figures import backend_time, entry_of
from fang_web.filters import Chosen, chosen, in_states, until
from fang_web.lasting import LastingChange
from fang_web.pages.tasks.rows import rows_of
from fang_web.routing import Handler, Route, action, page
from fang_web.view import View

PATIENCE: Final = 3.0
"""Seconds for which a response waits for a change of many tasks."""
SAMPLE: Final = 10
"""Tasks that a preview shows."""

Make = Callable[[View, TaskFilter, str, Callable[[int], None]], Awaitable[int]]


class Verb(NamedTuple):
    """One way to change tasks.

    Attributes:
        name: as addresses have it.
        done: what was done to the tasks, in a word.
        says: what it does, in a sentence.
        states: the states of the tasks that it can change.
        unasked: those that it changes if no state was chosen.
        role: who may do it.
        since: the time by which tasks that came after the preview are left out.
        make: does it, and returns how many tasks it changed.
    """

    name: str
    done: str
    says: str
    states: frozenset[TaskState]
    unasked: frozenset[TaskState]
    role: Role
    since: str
    make: Make


async def _retry(view: View, which: TaskFilter, reason: str, on_progress: Callable[[int], None]) -> int:
    changed: int = await view.queue.retry_tasks(which, by=view.user.name, on_progress=on_progress)
    return changed


async def _cancel(view: View, which: TaskFilter, reason: str, on_progress: Callable[[int], None]) -> int:
    changed: int = await view.queue.cancel_tasks(which, reason, by=view.user.name, on_progress=on_progress)
    return changed


async def _remove(view: View, which: TaskFilter, reason: str, on_progress: Callable[[int], None]) -> int:
    changed: int = await view.queue.remove_tasks(which, on_progress=on_progress)
    return changed


VERBS: Final = {
    verb.name: verb
    for verb in (
        Verb(
            "retry",
            "retried",
            "Ended tasks start over, and are due now; tasks that wait for a retry are due now.",
            frozenset({*TERMINAL_STATES, TaskState.RETRIED}),
            frozenset({TaskState.FAILED, TaskState.RETRIED}),
            Role.OPERATOR,
            "updated_before",
            _retry,
        ),
        Verb(
            "cancel",
            "cancelled",
            "Tasks that wait are cancelled; the runs of those in progress are asked to end.",
            frozenset(TaskState) - {*TERMINAL_STATES},
            frozenset(TaskState) - {*TERMINAL_STATES},
            Role.OPERATOR,
            "inserted_before",
            _cancel,
        ),
        Verb(
            "remove",
            "removed",
            "Their rows are deleted, and nothing is left of them; a run that is under way goes on, and loses its task.",
            frozenset(TaskState),
            frozenset(TaskState),
            Role.ADMIN,
            "updated_before",
            _remove,
        ),
    )
}


# One task -------------------------------------------------------------------------------------------------------------


def _of_one(verb: Verb) -> Handler:
    async def change(view: View) -> Response:
        task_id = _required_id(view)
        which = TaskFilter(ids=[task_id], states=list(verb.states))
        reason = view.form.text("reason", most=500)
        async with audited(view, f"{verb.name} task", str(task_id), {"reason": reason}) as change:
            changed = await verb.make(view, which, reason, lambda _: None)
            change.result = verb.done if changed else f"not {verb.done}: its state has changed, or it is gone"
        if verb.name == "remove":
            return view.redirect("tasks", done=change.id)
        return view.redirect("tasks", task_id, done=change.id)

    return change


def _required_id(view: View) -> UUID:
    task_id = view.form.id("id")
    if task_id is None:
        raise BadRequest("id is missing")
    return task_id


# All tasks of a filter ------------------------------------------------------------------------------------------------


async def preview(view: View) -> Response:
    """Shows how many tasks a change would be about, and some of them, and asks."""
    verb = VERBS[view.parameters.choice("action", VERBS, default="retry")]
    if not view.may(verb.role):
        raise NotFound("there is no such change for you here")
    # Times of rows are of the database's clock: by one that is behind it, all of these tasks would come too late.
    now = await backend_time(view)
    choice = _narrowed(chosen(view.parameters, view.settings.masked, now, besides=("action",)), verb)
    count = await view.queue.count_tasks(choice.which, up_to=MOST_COUNTED)
    found = await view.queue.list_tasks(choice.which, limit=SAMPLE)
    return view.render(
        "tasks_change.html",
        verb=verb,
        choice=choice,
        count=count,
        counted=in_words(count),
        rows=rows_of(found.tasks, view.settings.masked),
        query=until(choice.query, verb.since, now),
        previewed=count.count if count.is_exact else None,
    )


def _narrowed(choice: Chosen, verb: Verb) -> Chosen:
    """Returns the tasks of a choice that the verb can change. Raises ``BadRequest`` for all tasks of the table."""
    if choice.is_empty:
        raise BadRequest("choose by a condition first which tasks are meant: this would be all of them")
    return in_states(choice, verb.unasked if choice.which.states is None else verb.states)


_ASKED: Final = ("reason", "sure", "previewed")
"""What the form of a change says besides which tasks are meant."""


def _of_many(verb: Verb) -> Handler:
    async def change(view: View) -> Response:
        choice = _narrowed(chosen(view.form, view.settings.masked, datetime.now(UTC), besides=_ASKED), verb)
        reason = view.form.text("reason", most=500)
        if verb.name == "remove" and not view.form.flag("sure"):
            raise BadRequest("tick the box if these tasks are to be removed")
        # Tasks may have changed their states since the preview: its number is shown next to the number of changed
        # tasks.
        previewed = view.form.whole("previewed", least=0, most=MOST_COUNTED, default=-1)

        async def make(lasting: LastingChange) -> None:
            async with audited(view, f"{verb.name} tasks", f"tasks {choice.target}", {"reason": reason}) as entry:
                lasting.begin(entry.id)

                def note(number: int) -> None:
                    lasting.note(number)
                    entry.by_then = _said(number, verb) + " by then"

                number = await verb.make(view, choice.which, reason, note)
                entry.result = _said(number, verb)
                if previewed not in {-1, number}:
                    entry.result += f"; the preview had {previewed:,}, and tasks have changed since"

        entry, lasting = await view.lasting.start(make)
        await lasting.wait(PATIENCE)
        return view.redirect("tasks", "changes", entry)

    return change


def _said(number: int, verb: Verb) -> str:
    return f"{counted(number, 'task')} {verb.done}"


async def change_of_many(view: View) -> Response:
    """Shows a change of many tasks: how far it is, or what came of it."""
    number = view.request.path_params["entry"]
    if number >= 1 << 62:
        raise NotFound("there is no such change")
    entry = await entry_of(view, number)
    if entry is None:
        raise NotFound("there is no such change")
    lasting = view.lasting.find(number)
    return view.render("tasks_changed.html", entry=entry, so_far=None if lasting is None else lasting.so_far)


def _routes() -> list[Route]:
    routes = [page("/tasks/change", preview), page("/tasks/changes/{entry:int}", change_of_many)]
    for verb in VERBS.values():
        routes.append(action(f"/actions/{verb.name}-task", _of_one(verb), role=verb.role))
        routes.append(action(f"/actions/{verb.name}-tasks", _of_many(verb), role=verb.role))
    return routes


ROUTES: Final[list[Route]] = _routes()
