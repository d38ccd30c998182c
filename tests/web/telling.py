"""A queue in memory that tells what a test wants it to: history, pools that live and hang."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from fang_core import AsyncMemoryQueue, PoolInfo
from fang_core.monitoring.stats import HeatPoint, KindStats, Stats, StatsPoint, Times, TypeStats
from fang_core.record import LiveRun, Progress

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
TASK_ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


def kind_stats(kind: str = "Mail", task_type: str = "mails", **fields: Any) -> KindStats:
    times = Times(100, 0.2, 0.1, 0.5, 1.5)
    zeros = dict.fromkeys(("retried", "failed", "cancelled", "lost", "rescued"), 0)
    some: dict[str, Any] = {
        "started": 100,
        "arrived": 100,
        "finished": 100,
        **zeros,
        "queue": times,
        "run": times,
        "run_seconds": 20.0,
        "cpu_seconds": 4.0,
        "share": 0.75,
        **fields,
    }
    return KindStats(task_type=task_type, kind=kind, **some)


def type_stats(task_type: str = "mails", **fields: Any) -> TypeStats:
    some = {"due": 3, "due_is_exact": True, "oldest_due": 2.5, "running": 1, "workers": 8, "paused": False, **fields}
    return TypeStats(task_type=task_type, **some)


def stats(*kinds: KindStats, types: Sequence[TypeStats] = (), until: datetime = NOW, **fields: Any) -> Stats:
    since = until - timedelta(hours=1)
    zeros = {"retried": 0, "failed": 0, "cancelled": 0}
    points = tuple(
        StatsPoint(
            **{
                "at": since + timedelta(minutes=n),
                "seconds": 60.0,
                "started": n,
                "finished": n,
                **zeros,
                "failed": n % 2,
            },
            run_seconds=30.0,
            busy_seconds=30.0,
            worker_seconds=480.0,
        )
        for n in range(60)
    )
    given = {"since": since, "until": until, "points": points, "utilisation": 0.4, **fields}
    return Stats(kinds=kinds, types=tuple(types), **given)


def pool(*live: LiveRun, **fields: Any) -> PoolInfo:
    some: dict[str, Any] = {
        "id": UUID(int=7),
        "mode": "async",
        "host": "host",
        "pid": 1,
        "task_types": ("mails",),
        "kinds": ("Mail",),
        "workers": 8,
        "started_at": NOW,
        "stopping": False,
        "runs": {},
        "busy": 2,
        "waiting": 1,
        "live": live,
        "seen_at": datetime.now(UTC),
        **fields,
    }
    return PoolInfo(**some)


def live_run(kind: str = "Mail", **progress: Any) -> LiveRun:
    return LiveRun(TASK_ID, kind, 12.0, 2, Progress(**progress) if progress else None)


class TellingQueue(AsyncMemoryQueue):
    """Tells what it was given; all else is as in memory."""

    def __init__(
        self, told: Stats | None = None, pools: Sequence[PoolInfo] = (), heat: Sequence[HeatPoint] = ()
    ) -> None:
        super().__init__()
        self.told = stats() if told is None else told
        self.pools_told = list(pools)
        self.heat = tuple(heat)

    async def stats(self, since: timedelta = timedelta(hours=1), /, **options: Any) -> Stats:
        return self.told

    async def heat_map(
        self, kind: str, since: timedelta = timedelta(hours=1), /, **options: Any
    ) -> tuple[HeatPoint, ...]:
        return self.heat

    async def pools(self) -> list[PoolInfo]:
        return self.pools_told
