"""Shows who has changed what."""

from typing import Final

from starlette.responses import Response

from fang_core.monitoring.audit import AuditEntry
from fang_web.figures import Reader
from fang_web.routing import Route, page
from fang_web.view import View

SHOWN: Final = 100


async def audit(view: View) -> Response:
    """Shows the changes, the latest first."""
    before = view.parameters.whole("before", least=1, most=1 << 62, default=0)
    reader = Reader(view)
    entries: list[AuditEntry] = await reader.read(
        "changes", view.queue.audit.list(limit=SHOWN, before=before or None), []
    )
    older = entries[-1].id if len(entries) == SHOWN else None
    return view.render("audit.html", entries=entries, older=older, unread=reader.unread)


ROUTES: Final[list[Route]] = [page("/audit", audit)]
