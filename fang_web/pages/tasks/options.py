"""Shows the options of an insert or an edit in a form, and reads the input."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, timedelta
from typing import Any, Final

from fang_core.errors import UsageError
from fang_core.masking.masks import Masks
from fang_core.record import DEFAULT_MAX_RETRIES, PRIORITIES, Task
from fang_core.tasks.arguments import checked_headers
from fang_core.words.spans import length_of
from fang_web.errors import BadRequest
from fang_web.filters import time_of
from fang_web.parameters import Parameters, checked_name
from fang_web.view import View

Errors = dict[str, list[str]]
"""What is wrong, by the names of the fields."""

_MOST: Final = 20_000
"""Characters of an option; headers are the longest."""


def options_of(view: View, errors: Mapping[str, list[str]], task: Task | None = None) -> tuple[dict[str, Any], Errors]:
    """Returns the options that were typed, without those that the task has, and what is wrong in all of the form."""
    options: dict[str, Any] = {}
    wrong = {name: list(lines) for name, lines in errors.items()}
    typed, shown = texts_of_form(view), shown_options(view, task)
    for name, read in _READ.items():
        if name not in view.form or typed[name] == shown[name]:
            continue
        if not typed[name] and name not in _CLEARED:
            wrong[name] = [f"it cannot be taken away from a task: give another value, or the former one, {shown[name]}"]
            continue
        try:
            options.update(read(typed[name], view.form))
        except (BadRequest, UsageError) as error:
            wrong[name] = [str(error)]
    if "headers" in options:
        options["headers"] = hidden_headers(view, task) | options["headers"]
    return options, wrong


def texts_of_form(view: View) -> dict[str, str]:
    """Returns what was typed, by the names of the options."""
    return {name: view.form.text(name, most=_MOST).replace("\r\n", "\n") for name in _READ}


def shown_options(view: View, task: Task | None) -> dict[str, str]:
    """Returns the options of a task as the form shows them; empty ones for a new task."""
    if task is None:
        return dict.fromkeys(_READ, "")
    hidden = hidden_headers(view, task)
    headers = {name: value for name, value in (task.headers or {}).items() if name not in hidden}
    return {
        "due": task.scheduled_at.astimezone(UTC).isoformat(),
        "task_type": task.task_type,
        "priority": str(task.priority),
        "max_retries": str(DEFAULT_MAX_RETRIES if task.max_retries is None else task.max_retries),
        "timeout": "" if task.timeout is None else _seconds(task.timeout),
        "expires": "" if task.expires_at is None else task.expires_at.astimezone(UTC).isoformat(),
        "headers": json.dumps(headers, ensure_ascii=False, indent=1) if headers else "",
        "uniq": "",
    }


def hidden_headers(view: View, task: Task | None) -> dict[str, Any]:
    """Returns the headers of a task that are masked: an edit keeps them, unless it gives them other values."""
    masks = Masks(view.settings.masked)
    stored = {} if task is None or task.headers is None else task.headers
    return {name: value for name, value in stored.items() if name in masks}


def _seconds(length: timedelta) -> str:
    return f"{length.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"


# How each is read -----------------------------------------------------------------------------------------------------


def _due(text: str, form: Parameters) -> dict[str, Any]:
    length, moment = length_of(text), time_of(text)
    if length is None and moment is None:
        raise BadRequest("due is a length of time from now like 0s, 15m or 2h, or a time like 2026-11-29T08:00Z")
    return {"scheduled_at": moment} if length is None else {"delay": length}


def _timeout(text: str, form: Parameters) -> dict[str, Any]:
    length = length_of(text)
    if not length:
        raise BadRequest("the time limit of a run is a length of time like 30s, 15m or 2h")
    return {"timeout": length}


def _expires(text: str, form: Parameters) -> dict[str, Any]:
    length, moment = length_of(text), time_of(text)
    if not length and moment is None:
        raise BadRequest("it expires a length of time like 15m or 2h after it is due, or at a time")
    return {"expires": length or moment}


def _headers(text: str, form: Parameters) -> dict[str, Any]:
    try:
        given = json.loads(text or "{}")
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise BadRequest('headers are a JSON object of texts, like {"tenant": "acme"}')
    return {"headers": checked_headers(given)}


_READ: Final[Mapping[str, Callable[[str, Parameters], dict[str, Any]]]] = {
    "due": _due,
    "task_type": lambda text, _: {"task_type": checked_name(text, "type")},
    "priority": lambda _, form: {
        "priority": form.whole("priority", least=PRIORITIES[0], most=PRIORITIES[-1], default=0),
    },
    "max_retries": lambda _, form: {"max_retries": form.whole("max_retries", least=0, most=1_000_000, default=0)},
    "timeout": _timeout,
    "expires": _expires,
    "headers": _headers,
    "uniq": lambda _, form: {"uniq": form.choice("uniq", ("yes", "no"), default="no") == "yes"},
}
"""The options that a form has, and how each is read."""

_CLEARED: Final = frozenset(("headers",))
"""Those that an edit can take away."""
