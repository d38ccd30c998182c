"""Lists tasks: a form of conditions, and one page after the other, each of which costs the same."""

from datetime import UTC, datetime
from typing import Final

from starlette.responses import Response

from fang_core.record import TaskState
from fang_core.tasks.registry import REGISTRY
from fang_web.auth import Role
from fang_web.figures import done_by
from fang_web.filters import TIMES, chosen
from fang_web.pages.tasks.many import VERBS
from fang_web.pages.tasks.rows import rows_of
from fang_web.routing import Route, page
from fang_web.view import View

LIMIT: Final = 50
"""Tasks of one page."""


async def tasks(view: View) -> Response:
    """Shows a page of the list; if htmx asks for more rows, those alone."""
    parameters = view.parameters
    choice = chosen(parameters, view.settings.masked, datetime.now(UTC), besides=("cursor", "more", "done"))
    found = await view.queue.list_tasks(choice.which, limit=LIMIT, cursor=parameters.raw("cursor", most=8_192) or None)
    more = None if found.cursor is None else view.link("tasks", **{**choice.query, "cursor": found.cursor})
    is_more = parameters.flag("more") and view.is_fragment
    context = {
        "rows": rows_of(found.tasks, view.settings.masked),
        "more": more,
        "found": found,
    }
    if is_more:
        return view.render("tasks_more.html", **context)
    kinds = sorted({cls.__fang_options__.kind for cls in REGISTRY.classes() if cls.__fang_insertable__})
    return view.render(
        "tasks.html",
        **context,
        choice=choice,
        typed=parameters,
        typed_more=bool(set(choice.query) - {"state", "kind", "task_type"}),
        states=list(TaskState),
        times=TIMES,
        kinds=kinds[:500],
        can_insert=view.may(Role.ADMIN),
        is_first="cursor" not in parameters,
        verbs=[verb for verb in VERBS.values() if view.may(verb.role)],
        done=await done_by(view),
    )


ROUTES: Final[list[Route]] = [page("/tasks", tasks)]
