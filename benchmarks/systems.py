"""Lists what `make bench` compares: both modes of Fang and other libraries from PyPI, at their best and at ten at once.

The best setting is the fastest of those that were tried on the machine of docs/benchmarks.md, at up to 1,000 at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

TASKS: Final = 20_000
"""The tasks of one drain."""

HELD: Final = 300_000
"""The tasks of one drain under a held xmin."""


@dataclass(frozen=True)
class System:
    """A peer and one setting of it.

    Attributes:
        name: the name in tables and plots.
        peer: its file in ``benchmarks/peers``.
        setting: the arguments of its ``Peer``.
        requirement: the requirement to install from PyPI; None for ours, which this interpreter runs.
        python: the command of the Python that it needs, if that is another one.
        on_redis: whether it keeps its tasks in Redis.
        tasks: the tasks of one drain.
        held: the tasks of one drain under a held xmin; 0 if that is not measured in this setting.
        idles: whether its pick-up is measured in this setting.
        crosses: whether that is also measured from one process to another.
    """

    name: str
    peer: str
    setting: Mapping[str, Any]
    requirement: str | None = None
    python: str | None = None
    on_redis: bool = False
    tasks: int = TASKS
    held: int = 0
    idles: bool = False
    crosses: bool = False


OURS: Final = "fang async, 10 workers"
PGQUEUER: Final = "pgqueuer[asyncpg]"
SYSTEMS: Final = (
    System(OURS, "fang_async", {"workers": 10}, held=HELD, idles=True),
    System("fang threaded, 10 threads", "fang_threaded", {"workers": 10}, held=HELD, idles=True),
    System("pgqueuer, batch 1000", "pgqueuer", {"batch_size": 1000}, PGQUEUER, held=HELD, idles=True),
    System("pgqueuer, batch 10", "pgqueuer", {"batch_size": 10}, PGQUEUER),
    System("awa, 1000 workers", "awa", {"workers": 1000}, "awa-pg", held=HELD, idles=True),
    System("awa, 10 workers", "awa", {"workers": 10}, "awa-pg"),
    # Fewer tasks favour it: its table stays small.
    System(
        "procrastinate, 10", "procrastinate", {"concurrency": 10}, "procrastinate", tasks=5_000, held=20_000, idles=True
    ),
)

TASKIQ: Final = "taskiq-redis"
DRAMATIQ: Final = "dramatiq[redis]"
CELERY: Final = "celery[redis]"
MORE: Final = (
    System("oban, 200", "oban", {"limit": 200}, "oban", "python3.12", held=20_000, idles=True),
    System("oban, 10", "oban", {"limit": 10}, "oban", "python3.12"),
    System("chancy, 200", "chancy", {"concurrency": 200}, "chancy", held=20_000, idles=True),
    System("chancy, 10", "chancy", {"concurrency": 10}, "chancy"),
    System(
        "fang async on Redis, 10 workers", "fang_redis_async", {"workers": 10}, on_redis=True, idles=True, crosses=True
    ),
    System(
        "fang threaded on Redis, 10 threads",
        "fang_redis_threaded",
        {"workers": 10},
        on_redis=True,
        idles=True,
        crosses=True,
    ),
    System("taskiq on Redis, 100", "taskiq", {"tasks": 100}, TASKIQ, on_redis=True, idles=True),
    System("taskiq on Redis, 10", "taskiq", {"tasks": 10}, TASKIQ, on_redis=True),
    System("dramatiq on Redis, 128 threads", "dramatiq", {"threads": 128}, DRAMATIQ, on_redis=True),
    System("dramatiq on Redis, 10 threads", "dramatiq", {"threads": 10}, DRAMATIQ, on_redis=True, idles=True),
    System("huey on Redis, 10 threads", "huey", {"threads": 10}, "huey redis", on_redis=True, idles=True),
    System("celery on Redis, 10 threads", "celery", {"threads": 10}, CELERY, on_redis=True, tasks=5_000, idles=True),
)
"""The further systems of `make bench-all`."""


@dataclass
class Seen:
    """The results of one system: a value for each round."""

    version: str = ""
    drains: list[float] = field(default_factory=list)
    inserts: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    stops: list[float] = field(default_factory=list)
    latencies: list[list[float]] = field(default_factory=list)
    crossings: list[list[float]] = field(default_factory=list)
    held: list[tuple[int, float]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
