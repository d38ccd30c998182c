"""Asks the queue for the figures of several pages, and goes on without those that take too long."""

from collections.abc import Awaitable, Collection
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from fang_core.errors import BackendError, BackendUnavailable, SchemaError, UnreadablePayload
from fang_core.failure import describe, origin
from fang_core.logs import SafeLogger
from fang_core.monitoring.audit import AuditEntry
from fang_core.monitoring.explanation import Explanation
from fang_core.monitoring.stats import HeatPoint, Stats
from fang_web.view import View, new_id

T = TypeVar("T")

logger: Final = SafeLogger("fang_web")


class Reader:
    """Reads for one page.

    Attributes:
        unread: what could not be read, and why: one line each.
    """

    def __init__(self, view: View) -> None:
        self._queue = view.queue
        self.unread: list[str] = []

    async def read(self, what: str, answer: Awaitable[T], otherwise: T) -> T:
        """Returns the answer; ``otherwise`` if the database refuses, takes too long, or holds unreadable rows, which
        any program may have written.

        Raises ``BackendUnavailable`` and ``SchemaError``: then nothing else can be read either.
        """
        try:
            return await answer
        except (BackendUnavailable, SchemaError):
            raise
        except (BackendError, UnreadablePayload) as error:
            self.unread.append(f"{what}: {' '.join(str(error).split())}")
        except Exception as error:  # noqa: BLE001
            name = new_id()
            logger.error("%s cannot be read (%s): %s", what, name, origin(describe(error, "fang_web")))
            self.unread.append(f"{what}: there is a row that cannot be read; the log says more under {name}")
        return otherwise

    async def stats(
        self, since: timedelta, *, task_types: Collection[str] | None = None, kinds: Collection[str] | None = None
    ) -> Stats | None:
        """Returns what pools have counted, and how task types stand; None if it cannot be read."""
        options: dict[str, Any] = {"task_types": task_types, "kinds": kinds}
        given = {name: value for name, value in options.items() if value is not None}
        return await self.read("history", self._queue.stats(since, **given), None)

    async def heat_map(self, kind: str, since: timedelta) -> tuple[HeatPoint, ...]:
        """Returns the times of a kind."""
        return await self.read("times", self._queue.heat_map(kind, since), ())


async def backend_time(view: View) -> datetime:
    """Returns the time by the backend's clock, from which that of the page may differ. Raises like ``explain``."""
    of_no_task: Explanation = await view.queue.explain(UUID(int=0))
    return of_no_task.at


async def done_by(view: View) -> AuditEntry | None:
    """Returns the change that the user has just made, by the parameter ``done``."""
    entry = view.parameters.whole("done", least=1, most=(1 << 62), default=0)
    if not entry:
        return None
    found = await entry_of(view, entry)
    return found if found is not None and found.who == view.user.name else None


async def entry_of(view: View, number: int) -> AuditEntry | None:
    """Returns the row of the audit with this id; None if there is none."""
    found: list[AuditEntry] = await view.queue.audit.list(limit=1, before=number + 1)
    return next((each for each in found if each.id == number), None)
