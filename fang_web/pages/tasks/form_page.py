"""Shows the form of a task, and reads what was typed into it."""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from starlette.responses import Response

from fang_core.record import PRIORITIES, Task, payload_of
from fang_core.tasks.payloads.unchecked import stand_in, stand_in_for
from fang_core.tasks.registry import REGISTRY
from fang_web.errors import BadRequest
from fang_web.forms import PayloadForm, RawForm
from fang_web.pages.tasks.options import Errors, hidden_headers, shown_options, texts_of_form
from fang_web.parameters import Parameters
from fang_web.view import View

MOST_TEXT: Final = 1 << 20
"""Characters of one field."""


class FormPage(NamedTuple):
    """Shows a form as a page: its template, its messages next to fields, and the task that it edits, if any."""

    view: View
    template: str
    form: PayloadForm | RawForm
    context: Mapping[str, Any]
    task: Task | None = None

    def response(self, controls: Mapping[str, str], errors: Errors | None = None) -> Response:
        """Returns the page, with the errors next to the fields."""
        return self.view.render(
            self.template,
            422 if errors else 200,
            **self.context,
            is_raw=isinstance(self.form, RawForm),
            root=self.form.fields(controls, errors),
            errors=errors or {},
            options=self._options(),
            hidden_headers=sorted(hidden_headers(self.view, self.task)),
            priorities=[str(each) for each in PRIORITIES],
        )

    def _options(self) -> dict[str, str]:
        if self.view.request.method == "POST":
            return texts_of_form(self.view)
        return shown_options(self.view, self.task)


def form_of_new(view: View, kind: str) -> PayloadForm | RawForm:
    """Returns the form of a kind: that of its class, or one that nothing checks if this process has not imported it."""
    cls = REGISTRY.get(kind)
    if cls is not None and cls.__fang_insertable__:
        return PayloadForm(cls, view.settings.masked)
    return RawForm(stand_in(kind), view.settings.masked)


def form_of_stored(view: View, task: Task) -> PayloadForm | RawForm:
    """Returns the form of a task. Raises ``UsageError`` if its class is needed, and not imported here."""
    cls = REGISTRY.get(task.kind)
    if cls is not None and cls.__fang_insertable__:
        return PayloadForm(cls, view.settings.masked)
    return RawForm(stand_in_for(task), view.settings.masked, payload_of(task.metadata))


def told_of_checks(shown: FormPage) -> dict[str, str]:
    """Returns the audit's note on a payload that no class has checked; an empty one if a class has."""
    return {"checked": "by no class"} if isinstance(shown.form, RawForm) else {}


def controls_of(form: Parameters) -> dict[str, str]:
    """Returns the texts of the payload's controls."""
    controls = {name: value for name, value in form.items() if re.match(r"payload(?:[.~]|$)", name)}
    for value in controls.values():
        if len(value) > MOST_TEXT:
            raise BadRequest(f"a field has {MOST_TEXT:,} characters at most")
    return controls
