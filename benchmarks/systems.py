"""What `make bench` compares: both modes of ours and others from PyPI, each at its best setting and at ten at once.

The best setting is the fastest of those that were tried on the machine of docs/benchmarks.md, at up to 1,000 at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True)
class System:
    """A peer and one setting of it.

    Attributes:
        name: as it is shown.
        peer: its file in ``benchmarks/peers``.
        setting: what its ``Peer`` is made with.
        requirement: what is installed from PyPI; None for ours.
        share: of the tasks that a drain is given, so that a slow one takes seconds and not minutes. Fewer tasks are in
            its favour: a smaller table.
        held: tasks under a held xmin.
        idles: whether it is measured idle, too: at its best setting.
    """

    name: str
    peer: str
    setting: Mapping[str, Any]
    requirement: str | None = None
    share: float = 1.0
    held: int = 0
    idles: bool = True


TASKS: Final = 20_000
"""Of one drain."""

OURS: Final = "fang async, 10 workers"
PGQUEUER: Final = "pgqueuer[asyncpg]"
SYSTEMS: Final = (
    System(OURS, "fang_async", {"workers": 10}, held=300_000),
    System("fang threaded, 10 threads", "fang_threaded", {"workers": 10}, held=300_000),
    System("pgqueuer, batch 1000", "pgqueuer", {"batch_size": 1000}, PGQUEUER, held=100_000),
    System("pgqueuer, batch 10", "pgqueuer", {"batch_size": 10}, PGQUEUER, share=0.25, idles=False),
    System("awa, 1000 workers", "awa", {"workers": 1000}, "awa-pg", held=100_000),
    System("awa, 10 workers", "awa", {"workers": 10}, "awa-pg", share=0.25, idles=False),
    System("procrastinate, 20", "procrastinate", {"concurrency": 20}, "procrastinate", share=0.1, held=5_000),
    System("procrastinate, 10", "procrastinate", {"concurrency": 10}, "procrastinate", share=0.1, idles=False),
)


@dataclass
class Seen:
    """What one system came to: a value for each round."""

    version: str = ""
    drains: list[float] = field(default_factory=list)
    inserts: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    latencies: list[list[float]] = field(default_factory=list)
    held: list[list[tuple[int, float]]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
