"""Edits a task that waits with the form of its class: nothing is written that does not fit the class.

A kind whose class is not imported here has a form of JSON, which says that nothing checks it.
"""

import json
from datetime import UTC, timedelta
from typing import Final
from uuid import UUID

from starlette.responses import Response

from fang_core.errors import FangError, StaleTask, TwinExists, UsageError
from fang_core.failure import clean
from fang_core.lifecycle import DUE_STATES
from fang_core.record import Task, payload_of
from fang_core.tasks.payloads.codec import decode, encode
from fang_core.tasks.payloads.unchecked import stand_in_for
from fang_core.tasks.registry import REGISTRY
from fang_core.tasks.runnable import BaseRunnable
from fang_web.audited import audited
from fang_web.auth import Role
from fang_web.errors import BadRequest, Forbidden, NotFound
from fang_web.forms import ROOT
from fang_web.pages.tasks.form_page import FormPage, controls_of, form_of_stored, told_of_checks
from fang_web.pages.tasks.one import found_task
from fang_web.pages.tasks.options import options_of
from fang_web.routing import Route, action, page
from fang_web.view import View

MOST_NAMES: Final = 2_000
"""Bytes of the names of changed fields in the audit, which takes no details that are larger than 8,000."""


async def edit(view: View) -> Response:
    """Shows the form of a task."""
    if not view.may(Role.ADMIN):
        raise Forbidden("this needs the role admin, on a page that is not read only")
    task = await found_task(view)
    _refuse_unless_waiting(task)
    shown = _of_stored(view, task)
    return shown.response(shown.form.of_stored(payload_of(task.metadata)))


async def change(view: View) -> Response:
    """Changes a task to the input, if it has not changed since the form was shown."""
    task = await _task_of_form(view)
    shown = _of_stored(view, task)
    controls = controls_of(view.form)
    if "again" in view.form:
        return shown.response(controls)
    filled = shown.form.filled(controls, payload_of(task.metadata))
    options, errors = options_of(view, filled.errors, task)
    if filled.task is None or errors:
        return shown.response(controls, errors)
    changed = clean(", ".join([*_changed_fields(task, filled.task), *options]), MOST_NAMES)
    async with audited(view, "edit task", str(task.id), {"changed": changed} | told_of_checks(shown)) as entry:
        try:
            await view.queue.update_task(task, filled.task, **options)
        except (UsageError, TwinExists) as error:
            entry.result = "refused"
            return shown.response(controls, {ROOT: [str(error)]})
        entry.result = "edited"
    return view.redirect("tasks", task.id, done=entry.id)


async def run_now(view: View) -> Response:
    """Makes a task due now that waits for its time. One that waits for a retry is due by a retry."""
    task = await _task_of_form(view, is_form=False)
    same = _as_it_is(task)
    async with audited(view, "run task now", str(task.id)) as entry:
        await view.queue.update_task(task, same, delay=timedelta())
        entry.result = "due now"
    return view.redirect("tasks", task.id, done=entry.id)


def _as_it_is(task: Task) -> BaseRunnable:
    """Returns the task of a row. Raises ``BadRequest`` if writing it would change more than when it is due."""
    cls = REGISTRY.get(task.kind) or stand_in_for(task)
    try:
        same = decode(cls, json.dumps(payload_of(task.metadata)))
        is_same = json.loads(encode(same)) == task.metadata
    except FangError:
        is_same = False
    if not is_same:
        raise BadRequest("the class of this kind would not write the payload as it is: edit the task instead")
    return same


async def _task_of_form(view: View, *, is_form: bool = True) -> Task:
    """Returns the task that the form names. Raises ``StaleTask`` if it is not as it was when the form was shown."""
    task_id: UUID | None = view.form.id("id")
    task: Task | None = None if task_id is None else await view.queue.find_task_by_id(task_id)
    if task is None:
        raise NotFound("the task is gone")
    if is_form and view.form.text("seen", most=100) != seen(task):
        raise StaleTask("the task was changed since this form was shown: open its form again")
    _refuse_unless_waiting(task)
    return task


def _refuse_unless_waiting(task: Task) -> None:
    if task.state not in DUE_STATES:
        raise BadRequest(f"only tasks that wait can be edited, and this one is {task.state.replace('_', ' ')}")


def seen(task: Task) -> str:
    """Returns what distinguishes this version of a task's row from later ones."""
    return f"{task.updated_at.astimezone(UTC).isoformat()} {task.attempt}"


def _changed_fields(task: Task, edited: BaseRunnable) -> list[str]:
    """Returns the names of the fields that were changed, for the audit: never their values."""
    old, new = task.metadata, json.loads(encode(edited))
    return sorted(name for name in {*old, *new} if old.get(name) != new.get(name))


def _of_stored(view: View, task: Task) -> FormPage:
    context = {"task": task, "seen": seen(task)}
    return FormPage(view, "task_edit.html", form_of_stored(view, task), context, task)


ROUTES: Final[list[Route]] = [
    page("/tasks/{id:uuid}/edit", edit),
    action("/actions/edit-task", change, role=Role.ADMIN),
    action("/actions/run-task", run_now, role=Role.OPERATOR),
]
