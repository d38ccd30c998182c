"""Writes the audit: who changes what, before the change is made, and what came of it, after."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fang_core.failure import clean
from fang_web.view import View

MOST: int = 500
"""Characters of a target and of a result."""


class Change:
    """A change that is being made: tells the audit what came of it.

    Attributes:
        id: the id of its row in the audit.
        result: what came of it, in a few words: the handler sets it.
    """

    def __init__(self, id: int) -> None:
        self.id = id
        self.result = "done"


@asynccontextmanager
async def audited(
    view: View, action: str, target: str, details: Mapping[str, Any] | None = None
) -> AsyncIterator[Change]:
    """Has the change in its block stand in the audit; nothing is changed if that cannot be written.

    ::

        async with audited(view, "pause", task_type) as change:
            await view.queue.pause(task_type, by=view.user.name)
            change.result = "paused"
        return view.redirect("queues", done=change.id)

    Args:
        view: the request; its user is who makes the change.
        action: what is done, in one or two words.
        target: to what: the name of a task type, the id of a task, the conditions of a filter.
        details: what else was said, such as a reason. No payload: the audit is shown to all viewers.
    """
    change = Change(await view.queue.audit.begin(view.user.name, action, clean(target, MOST), details))
    try:
        yield change
    except BaseException as error:
        # An error's text may quote a payload, so that the row names its type only.
        await view.queue.audit.end(change.id, f"failed: {type(error).__name__}")
        raise
    await view.queue.audit.end(change.id, clean(change.result, MOST))
