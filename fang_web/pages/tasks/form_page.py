"""Shows the form of a task, and reads what was typed into it: the payload, and the options of an insert or an edit."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any, Final, NamedTuple

from starlette.responses import Response

from fang_core.record import DEFAULT_MAX_RETRIES, PRIORITIES, Task
from fang_core.tasks.registry import REGISTRY
from fang_core.tasks.runnable import BaseRunnable
from fang_core.words.spans import length_of
from fang_web.errors import BadRequest, NotFound
from fang_web.filters import time_of
from fang_web.forms import PayloadForm
from fang_web.parameters import Parameters
from fang_web.view import View

MOST_TEXT: Final = 1 << 20
"""Characters of one field."""

Errors = dict[str, list[str]]
"""What is wrong, by the names of the fields."""


class FormPage(NamedTuple):
    """A form as a page: its template, what it says beside the fields, and the task that it edits, if there is one."""

    view: View
    template: str
    form: PayloadForm
    context: Mapping[str, Any]
    task: Task | None = None

    def response(self, controls: Mapping[str, str], errors: Errors | None = None) -> Response:
        """Returns the page, with what is wrong beside each field."""
        return self.view.render(
            self.template,
            422 if errors else 200,
            **self.context,
            root=self.form.fields(controls, errors),
            errors=errors or {},
            options=_shown_texts(self.view, self.task),
            priorities=[str(each) for each in PRIORITIES],
        )


def class_of(kind: str) -> type[BaseRunnable]:
    """Returns the class of a kind. Raises ``NotFound`` if this process has not imported it."""
    cls = REGISTRY.get(kind)
    if cls is None or not cls.__fang_insertable__:
        raise NotFound(
            f"the class of the kind {kind:.80} is not imported where this page runs: import it there, so that what is "
            "typed can be checked before it is written"
        )
    return cls


def controls_of(form: Parameters) -> dict[str, str]:
    """Returns the texts of the payload's controls."""
    controls = {name: value for name, value in form.items() if re.match(r"payload(?:[.~]|$)", name)}
    for value in controls.values():
        if len(value) > MOST_TEXT:
            raise BadRequest(f"a field has {MOST_TEXT:,} characters at most")
    return controls


def options_of(view: View, errors: Mapping[str, list[str]], task: Task | None = None) -> tuple[dict[str, Any], Errors]:
    """Returns the options that were typed, without those that the task has, and what is wrong in all of the form."""
    options: dict[str, Any] = {}
    wrong = {name: list(lines) for name, lines in errors.items()}
    for name, read in _READ.items():
        text = view.form.text(name, most=500)
        if text and (task is None or text != shown_options(task)[name]):
            try:
                options.update(read(view.form))
            except BadRequest as error:
                wrong[name] = [str(error)]
    return options, wrong


def _due(form: Parameters) -> dict[str, Any]:
    text = form.text("due", most=40)
    length, moment = length_of(text), time_of(text)
    if length is None and moment is None:
        raise BadRequest("due is a length of time from now like 0s, 15m or 2h, or a time like 2026-11-29T08:00Z")
    return {"scheduled_at": moment} if length is None else {"delay": length}


_READ: Final[Mapping[str, Callable[[Parameters], dict[str, Any]]]] = {
    "due": _due,
    "task_type": lambda form: {"task_type": form.text("task_type", most=500)},
    "priority": lambda form: {
        "priority": form.whole("priority", least=PRIORITIES[0], most=PRIORITIES[-1], default=0),
    },
    "max_retries": lambda form: {"max_retries": form.whole("max_retries", least=0, most=1_000_000, default=0)},
}
"""The options that a form has, and how each is read."""


def shown_options(task: Task) -> dict[str, str]:
    """Returns the options of a task as the form shows them."""
    return {
        "due": task.scheduled_at.astimezone(UTC).isoformat(),
        "task_type": task.task_type,
        "priority": str(task.priority),
        "max_retries": str(DEFAULT_MAX_RETRIES if task.max_retries is None else task.max_retries),
    }


def _shown_texts(view: View, task: Task | None) -> dict[str, str]:
    if view.request.method == "POST":
        return {name: view.form.text(name, most=500) for name in _READ}
    return dict.fromkeys(_READ, "") if task is None else shown_options(task)
