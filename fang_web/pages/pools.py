"""Shows the pools, and what runs in them now, since when."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from starlette.responses import Response

from fang_core.monitoring.figures import NotableRun
from fang_core.monitoring.notable import notable_runs
from fang_core.monitoring.problems import hung_runs, silence
from fang_core.record import LiveRun, PoolInfo
from fang_web.figures import Reader
from fang_web.routing import Route, page
from fang_web.shortening import MOST_POOLS, MOST_RUNS, Shown, shortened
from fang_web.view import View


class PoolRow(NamedTuple):
    """Holds what the page shows of a pool.

    Attributes:
        pool: its record.
        is_silent: whether it has reported nothing for long.
        runs: its runs that go on, each with the seconds since it began.
        hung: its runs that hang.
    """

    pool: PoolInfo
    is_silent: bool
    runs: Shown[tuple[LiveRun, float]]
    hung: list[NotableRun]


async def pools(view: View) -> Response:
    """Shows all pools."""
    reader = Reader(view)
    found: Sequence[PoolInfo] = await reader.read("pools", view.queue.pools(), [])
    stats = await reader.stats(timedelta(minutes=1))  # for the clock of the pools' ``seen_at``
    now = datetime.now(UTC) if stats is None else stats.until
    shown = shortened(found, MOST_POOLS)
    runs = max(5, MOST_RUNS // max(1, len(shown.rows)))
    return view.render(
        "pools.html", rows=[_row(pool, now, runs) for pool in shown.rows], shown=shown, unread=reader.unread
    )


def _row(pool: PoolInfo, now: datetime, most: int) -> PoolRow:
    age = 0.0 if pool.seen_at is None else max(0.0, (now - pool.seen_at).total_seconds())
    runs = shortened([(run, run.seconds + age) for run in pool.live], most)
    hung = hung_runs(notable_runs([(pool.id, now, pool.runs)]))
    return PoolRow(pool, silence(pool, now) is not None, runs, hung[:most])


ROUTES: Final[list[Route]] = [page("/pools", pools)]
