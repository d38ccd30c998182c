"""Shows how the queue does: what is wrong now, its task types, and what ran in the last hour."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

from markupsafe import Markup
from starlette.responses import Response

from fang_core.monitoring.problems import problems, silence
from fang_core.monitoring.stats import Stats, StatsPoint, TypeStats
from fang_core.record import PoolInfo
from fang_web.charts import sparkline, throughput
from fang_web.figures import Reader
from fang_web.parameters import SPANS
from fang_web.routing import Route, page
from fang_web.shortening import MOST_PROBLEMS, shortened
from fang_web.view import View


class TypeRow(NamedTuple):
    """Holds what the overview shows of a task type.

    Attributes:
        now: how it stands.
        started, errors: runs in the range, and those that ended in an error.
        share: the part of all busy time that its runs took.
    """

    now: TypeStats
    started: int
    errors: int
    share: float


async def overview(view: View) -> Response:
    """Shows the first page."""
    name, since = view.parameters.since()
    reader = Reader(view)
    stats = await reader.stats(since)
    pools: Sequence[PoolInfo] = await reader.read("pools", view.queue.pools(), [])
    types = await reader.read("task types", view.queue.limits.list(), [])
    schedules = await reader.read("schedules", view.queue.schedules.list(ticks=0), [])
    working = [pool for pool in pools if stats is None or silence(pool, stats.until) is None]
    return view.render(
        "overview.html",
        since=name,
        spans=list(SPANS),
        stats=stats,
        types=shortened(type_rows(stats)),
        chart=_chart(stats),
        rate=rate(stats.points) if stats else None,
        rate_seconds=_last_whole(stats.points).seconds if stats and stats.points else None,
        curve=_curve(stats),
        pools=pools,
        busy=sum(pool.busy or 0 for pool in working),
        workers=sum(pool.workers for pool in working if not pool.stopping),
        problems=shortened(problems(stats, pools, types, schedules), MOST_PROBLEMS),
        unread=reader.unread,
    )


def type_rows(stats: Stats | None) -> list[TypeRow]:
    """Returns the rows of the table of task types, those whose tasks wait longest first."""
    if stats is None:
        return []
    started: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    share: defaultdict[str, float] = defaultdict(float)
    for kind in stats.kinds:
        started[kind.task_type] += kind.started
        errors[kind.task_type] += kind.retried + kind.failed
        share[kind.task_type] += kind.share
    rows = [TypeRow(now, started[now.task_type], errors[now.task_type], share[now.task_type]) for now in stats.types]
    return sorted(rows, key=lambda row: (-row.now.oldest_due, row.now.task_type))


def rate(points: Sequence[StatsPoint]) -> float | None:
    """Returns how many runs end each second now: of the last whole minute or hour, if it is not over yet."""
    if not points:
        return None
    last = _last_whole(points)
    return (last.finished + last.retried + last.failed + last.cancelled) / last.seconds


def _last_whole(points: Sequence[StatsPoint]) -> StatsPoint:
    return points[-2] if len(points) > 1 else points[-1]


def _chart(stats: Stats | None) -> Markup:
    return Markup("") if stats is None or not stats.points else throughput(stats.points, stats.since, stats.until)


def _curve(stats: Stats | None) -> Markup:
    if stats is None:
        return Markup("")
    return sparkline(
        [min(1.0, point.busy_seconds / point.worker_seconds) * 100 for point in stats.points if point.worker_seconds]
    )


ROUTES: Final[list[Route]] = [page("/", overview)]
