"""Inserts a task with the form of its class: nothing is written that does not fit the class.

A kind whose class is not imported here has a form of JSON, which says that nothing checks it. A form brings the id that
its task gets, so that sending it twice, as by a double click, inserts one.
"""

from typing import Final
from uuid import UUID

from starlette.responses import Response

from fang_core.errors import IdInUse, TwinExists, UsageError
from fang_core.record import Task
from fang_core.tasks.registry import REGISTRY
from fang_web.audited import audited
from fang_web.auth import Role
from fang_web.errors import Forbidden
from fang_web.forms import ROOT
from fang_web.once import came_of, is_sent_already, new_task_id, sent_already
from fang_web.pages.tasks.form_page import FormPage, controls_of, form_of_new, told_of_checks
from fang_web.pages.tasks.options import options_of
from fang_web.routing import Route, action, page
from fang_web.view import View


async def new(view: View) -> Response:
    """Shows the kinds that this process knows, or the form of one."""
    if not view.may(Role.ADMIN):
        raise Forbidden("this needs the role admin, on a page that is not read only")
    kind = view.parameters.text("kind", most=500)
    if not kind:
        return view.render("task_kinds.html", kinds=_kinds())
    shown = _of_new(view, kind, new_task_id())
    return shown.response(shown.form.of_new())


async def insert(view: View) -> Response:
    """Inserts a task of what was typed; shows the form again, with what is wrong, if that is no task."""
    kind = view.form.required("kind")
    id = view.form.id("id") or new_task_id()
    shown = _of_new(view, kind, id)
    controls = controls_of(view.form)
    if "again" in view.form:
        return shown.response(controls)
    filled = shown.form.filled(controls)
    options, errors = options_of(view, filled.errors)
    if filled.task is None or errors:
        return shown.response(controls, errors)
    async with audited(view, "insert task", kind, told_of_checks(shown) or None) as change:
        try:
            if await is_sent_already(view, id) and await view.queue.find_task_by_id(id) is None:
                change.result = sent_already(id)
                why = f"{sent_already(id)} was inserted, and is gone since; insert again if you want another task"
                return _of_new(view, kind, new_task_id()).response(controls, {ROOT: [why]})
            task: Task = await view.queue.insert_task(filled.task, id=id, **options)
        except IdInUse:
            change.result = "refused"
            why = f"{sent_already(id)} has other fields than you send now; insert again if you want another task"
            return _of_new(view, kind, new_task_id()).response(controls, {ROOT: [why]})
        except (UsageError, TwinExists) as error:
            change.result = "refused"
            return shown.response(controls, {ROOT: [str(error)]})
        change.result = came_of(task, id)
    return view.redirect("tasks", task.id, done=change.id)


def _kinds() -> list[tuple[str, str]]:
    """Returns the kinds of tasks that can be inserted, each with the first line that its class says of itself."""
    known = {cls.__fang_options__.kind: cls for cls in REGISTRY.classes() if cls.__fang_insertable__}
    return [(kind, (cls.__doc__ or "").strip().partition("\n")[0]) for kind, cls in sorted(known.items())]


def _of_new(view: View, kind: str, id: UUID) -> FormPage:
    return FormPage(view, "task_new.html", form_of_new(view, kind), {"kind": kind, "id": id})


ROUTES: Final[list[Route]] = [page("/tasks/new", new), action("/actions/insert-task", insert, role=Role.ADMIN)]
