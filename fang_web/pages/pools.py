"""Shows the pools, and what runs in them now, since when."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from starlette.responses import Response

from fang_core.record import LiveRun, PoolInfo
from fang_web.figures import Reader
from fang_web.problems import SILENT_AFTER, HungRun, hung_runs
from fang_web.routing import Route, page
from fang_web.view import View


class PoolRow(NamedTuple):
    """What the page shows of a pool.

    Attributes:
        pool: its record.
        is_silent: whether it has told nothing for long.
        runs: its runs that go on, each with the seconds since it began.
        hung: its runs that hang.
    """

    pool: PoolInfo
    is_silent: bool
    runs: list[tuple[LiveRun, float]]
    hung: list[HungRun]


async def pools(view: View) -> Response:
    """Shows all pools."""
    reader = Reader(view)
    found: Sequence[PoolInfo] = await reader.read("pools", view.queue.pools(), [])
    now = datetime.now(UTC)
    return view.render("pools.html", rows=[_row(pool, now) for pool in found], unread=reader.unread)


def _row(pool: PoolInfo, now: datetime) -> PoolRow:
    age = 0.0 if pool.seen_at is None else max(0.0, (now - pool.seen_at).total_seconds())
    is_silent = pool.seen_at is not None and age > SILENT_AFTER.total_seconds()
    return PoolRow(pool, is_silent, [(run, run.seconds + age) for run in pool.live], hung_runs(pool))


ROUTES: Final[list[Route]] = [page("/pools", pools)]
