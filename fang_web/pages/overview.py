"""Shows how the queue does: what is wrong now, its task types, and what ran in the last hour."""

from typing import Final

from starlette.responses import Response

from fang_web.routing import Route, page
from fang_web.view import View


async def overview(view: View) -> Response:
    """Shows the first page."""
    return view.render("overview.html")


ROUTES: Final[list[Route]] = [page("/", overview)]
