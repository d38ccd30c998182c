"""Shows where the time goes: all kinds in comparison, and one with its times."""

from typing import Any, Final

from markupsafe import Markup
from starlette.responses import Response

from fang_core.monitoring.stats import KindStats
from fang_web.charts import by_time, heat_map, histogram, in_all, throughput
from fang_web.figures import Reader
from fang_web.parameters import SPANS
from fang_web.routing import Route, page
from fang_web.shortening import matching, shortened
from fang_web.view import View

SORTS: Final[dict[str, Any]] = {
    "time": lambda each: -each.run_seconds,
    "errors": lambda each: (-(each.retried + each.failed), -each.error_rate),
    "runs": lambda each: -each.started,
    "queue": lambda each: -each.queue.p95,
    "run": lambda each: -each.run.p95,
    "name": lambda each: (each.kind, each.task_type),
}
"""The orders of the table of kinds, by the parameter ``sort``."""


async def kinds(view: View) -> Response:
    """Shows all kinds."""
    name, since = view.parameters.since()
    sort = view.parameters.choice("sort", SORTS, default="time")
    reader = Reader(view)
    stats = await reader.stats(since)
    found: list[KindStats] = sorted(stats.kinds if stats else (), key=SORTS[sort])
    return view.render(
        "kinds.html",
        since=name,
        spans=list(SPANS),
        kinds=shortened(matching(found, view.parameters.text("q"), lambda each: each.kind)),
        sort=sort,
        sorts=list(SORTS),
        unread=reader.unread,
    )


async def kind(view: View) -> Response:
    """Shows one kind."""
    wanted = view.segment("kind")
    name, since = view.parameters.since()
    reader = Reader(view)
    stats = await reader.stats(since, kinds=[wanted])
    points = await reader.heat_map(wanted, since)
    charts: dict[str, Markup] = {}
    if stats is not None:
        queue, run = by_time(points, stats.since, stats.until)
        charts = {
            "ended": throughput(stats.points, stats.since, stats.until) if stats.points else Markup(""),
            "run": heat_map(run, "how long runs took, over time"),
            "queue": heat_map(queue, "how long tasks waited, over time"),
            "run_all": histogram(in_all(run), "how many runs took how long"),
            "queue_all": histogram(in_all(queue), "how many tasks waited how long"),
        }
    return view.render(
        "kind.html",
        kind=wanted,
        since=name,
        spans=list(SPANS),
        kinds=[each for each in stats.kinds if each.kind == wanted] if stats else [],
        charts=charts,
        unread=reader.unread,
    )


ROUTES: Final[list[Route]] = [page("/kinds", kinds), page("/kinds/{kind:path}", kind)]
