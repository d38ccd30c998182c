"""Writes the audit: who changes what, before the change is made, and what came of it, after."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from fang_core.errors import FangError
from fang_core.failure import clean
from fang_core.logs import SafeLogger
from fang_web.view import View

logger: Final = SafeLogger("fang_web")

MOST: int = 500
"""Characters of a target and of a result."""

_ENDINGS: Final[set[asyncio.Future[Any]]] = set()
"""What is being written: an event loop does not keep its tasks alive."""


class Change:
    """Represents a change that is being made, and writes its result into the audit.

    Attributes:
        id: the id of its row in the audit.
        result: what came of it, in a few words: the handler sets it.
        by_then: how much of it was made, in a few words, if it fails.
    """

    def __init__(self, id: int) -> None:
        self.id = id
        self.result = "done"
        self.by_then = ""


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
        by_then = f", {change.by_then}" if change.by_then else ""
        await _end(view, change, f"failed: {type(error).__name__}{by_then}")
        raise
    await _end(view, change, change.result)


async def _end(view: View, change: Change, result: str) -> None:
    """Writes what came of a change, also if the request is cancelled meanwhile.

    If that cannot be written, the change is made or has failed nevertheless, and the response says which.
    """
    ending = asyncio.ensure_future(view.queue.audit.end(change.id, clean(result, MOST)))
    _ENDINGS.add(ending)
    ending.add_done_callback(_ENDINGS.discard)
    try:
        await asyncio.shield(ending)
    except FangError as error:
        logger.error("the audit does not say what came of change %s: %s", change.id, error)
