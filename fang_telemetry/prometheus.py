"""Shows pools and databases to Prometheus: collectors for a registry of prometheus_client.

A scrape reads what pools count anyway, so that runs cost nothing more. What the database says is read in the
background, at most every few seconds, and a scrape waits for it two seconds at most. Needs the extra ``prometheus``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, Final, Protocol

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fang_core.errors import UsageError
from fang_core.monitoring.buckets import BOUNDS, Histogram
from fang_core.monitoring.history import POOL, Pair, StatsRow
from fang_core.monitoring.stats import OTHERS
from fang_core.pool.telling.health import PoolHealth
from fang_core.pool.telling.stats import PoolStats
from fang_telemetry.exposition import CONTENT_TYPE
from fang_telemetry.http import Reply
from fang_telemetry.reading import Found, Reader

MOST_KINDS: Final = 200
"""How many pairs of task type and kind a collector shows apart; the others are added up under one kind."""

MOST_TYPES: Final = 500
"""How many task types a collector shows; those whose names come last are left out."""

EDGES: Final = tuple(range(0, 73, 4))
"""The buckets of history after which a bucket of Prometheus ends: two a decade, from 0.1 ms to 28 hours."""

NAMES_OF_EDGES: Final = (*(f"{BOUNDS[edge]:.3g}" for edge in EDGES), "+Inf")


class Counting(Protocol):
    """A pool of either mode."""

    options: Any

    def stats(self) -> PoolStats:
        """Counts what it does now."""
        ...

    def health(self) -> PoolHealth:
        """Says whether it lives and is ready."""
        ...

    def totals(self) -> Mapping[Pair, StatsRow]:
        """Returns what it has counted since it was made."""
        ...


# Pools ----------------------------------------------------------------------------------------------------------------


class PoolCollector(Collector):
    """Shows what pools of this process do, and what became of their runs.

    ``REGISTRY.register(PoolCollector(pool))``, once for all pools of the process. The label ``pool`` of their gauges is
    the pool's task types, or the name by which it is given: ``PoolCollector(mail=pool)``. Counters and histograms have
    the labels ``task_type`` and ``kind``.

    Args:
        most_kinds: how many pairs of these are shown separately; later ones are added up under the kind ``(others)``.

    Raises ``UsageError`` if two pools have the same name.
    """

    def __init__(self, *pools: Counting, most_kinds: int = MOST_KINDS, **named: Counting) -> None:
        self._pools: dict[str, Counting] = {}
        for name, pool in (*((",".join(pool.options.task_types), pool) for pool in pools), *named.items()):
            if name in self._pools:
                raise UsageError(
                    f"two pools are named {name}: give names, as in PoolCollector(first=pool, second=other)"
                )
            self._pools[name] = pool
        self._most_kinds = most_kinds

    def describe(self) -> Iterable[Metric]:
        """Returns the metrics without samples, so that a registry knows their names without asking the database."""
        return (*_gauges_of_pools({}), *_counts_of_kinds({}))

    def collect(self) -> Iterable[Metric]:
        """Returns the metrics as they are now."""
        kinds: dict[Pair, StatsRow] = {}
        for pool in self._pools.values():
            for pair, row in pool.totals().items():
                if pair == POOL:
                    continue
                if pair not in kinds and len(kinds) >= self._most_kinds:
                    pair = (pair[0], OTHERS)  # noqa: PLW2901
                kinds[pair] = kinds[pair].plus(row) if pair in kinds else row
        return (*_gauges_of_pools(self._pools), *_counts_of_kinds(kinds))


def _gauges_of_pools(pools: Mapping[str, Counting]) -> Iterator[Metric]:
    stats = {name: pool.stats() for name, pool in pools.items()}
    healths = {name: pool.health() for name, pool in pools.items()}

    def gauge(name: str, text: str, value: Callable[[str], float]) -> Metric:
        metric = GaugeMetricFamily(name, text, labels=["pool"])
        for pool in pools:
            metric.add_metric([pool], value(pool))
        return metric

    yield gauge("fang_pool_live", "Whether the pool's heart and event loop go on.", lambda name: healths[name].live)
    yield gauge("fang_pool_ready", "Whether the pool takes tasks, or is busy.", lambda name: healths[name].ready)
    yield gauge("fang_workers", "How many tasks the pool runs at once.", lambda name: stats[name].workers)
    yield gauge("fang_workers_busy", "Runs that go on.", lambda name: stats[name].running)
    yield gauge(
        "fang_tasks_waiting_for_worker", "Tasks claimed that wait for a worker.", lambda name: stats[name].waiting
    )
    yield gauge(
        "fang_outcomes_unwritten", "Runs ended whose outcome is not written.", lambda name: stats[name].unwritten
    )
    yield gauge("fang_runs_stuck", "Runs that were interrupted and go on.", lambda name: stats[name].stuck)


_COUNTS: Final[Sequence[tuple[str, str, str]]] = (
    ("fang_tasks_started", "started", "Runs that have begun."),
    ("fang_tasks_arrived", "arrived", "Tasks claimed for the first time."),
    ("fang_tasks_finished", "finished", "Runs that ended well."),
    ("fang_tasks_retried", "retried", "Runs that failed, and whose task runs again."),
    ("fang_tasks_failed", "failed", "Runs that failed, and with them their task."),
    ("fang_tasks_cancelled", "cancelled", "Tasks that were cancelled, or had expired."),
    ("fang_tasks_lost", "lost", "Runs whose outcome was refused, since another pool had taken the task."),
    ("fang_tasks_rescued", "rescued", "Tasks that this pool took back from dead pools."),
    ("fang_task_cpu_seconds", "cpu_s", "Seconds that threads have computed in runs."),
)
_TIMES: Final[Sequence[tuple[str, str, str, str]]] = (
    ("fang_task_queue_seconds", "queue", "queue_s", "From when a task is due until its run begins."),
    ("fang_task_run_seconds", "run", "run_s", "How long runs take."),
)
_KIND: Final = ("task_type", "kind")


def _counts_of_kinds(kinds: Mapping[Pair, StatsRow]) -> Iterator[Metric]:
    for name, field, text in _COUNTS:
        counter = CounterMetricFamily(name, text, labels=_KIND)
        for pair, row in kinds.items():
            counter.add_metric(pair, getattr(row, field))
        yield counter
    for name, field, total, text in _TIMES:
        histogram = HistogramMetricFamily(name, text, labels=_KIND)
        for pair, row in kinds.items():
            histogram.add_metric(pair, _cumulated(getattr(row, field)), getattr(row, total))
        yield histogram


def _cumulated(histogram: Histogram) -> list[tuple[str, float]]:
    """Returns the buckets as Prometheus counts them: each holds all that is not longer than its bound."""
    between = [0] * (len(EDGES) + 1)
    for bucket, count in histogram.items():
        between[min((bucket + 3) // 4, len(EDGES))] += count
    return list(zip(NAMES_OF_EDGES, accumulate(between), strict=True))


# The database ---------------------------------------------------------------------------------------------------------


class QueueCollector(Collector):
    """Shows how the task types in a database stand: gauges, each of which is the same in every process that shows it.

    ``REGISTRY.register(QueueCollector(queue))``. For an ``AsyncQueue`` it is made on the queue's event loop, or gets
    that loop. The database is asked when a scrape comes, in the background, and not again within ``keep_for``. A scrape
    waits for the answer as long as ``wait``, but not on an event loop; ``await refresh()`` first, there. If the
    database does not answer, ``fang_database_up`` is 0, and the others are absent.

    Args:
        queue: on the database.
        loop: the event loop of an ``AsyncQueue``.
        keep_for: for how many seconds an answer is shown again.
        wait: for how many seconds a scrape waits.
        **named: instead of ``queue``, queues on several databases; their names are the values of the label ``queue``.

    Raises ``UsageError`` if there is no queue, or an async one without a loop.
    """

    def __init__(
        self, queue: Any = None, /, *, loop: Any = None, keep_for: float = 5.0, wait: float = 2.0, **named: Any
    ) -> None:
        if (queue is None) is not bool(named):
            raise UsageError("give one queue, or several with their names: QueueCollector(first=queue, second=other)")
        queues = named or {"": queue}
        self._readers = {name: Reader(each, loop, keep_for=keep_for, wait=wait) for name, each in queues.items()}
        self._labels = ("queue",) if named else ()

    def describe(self) -> Iterable[Metric]:
        """Returns the metrics without samples, so that a registry knows their names without asking the database."""
        return tuple(self._gauges({}))

    def collect(self) -> Iterable[Metric]:
        """Returns the metrics as the databases said last."""
        asked = self._begin()  # all of them, before waiting for the first
        return tuple(self._gauges({name: reader.read(asked[name]) for name, reader in self._readers.items()}))

    async def refresh(self) -> None:
        """Asks the databases, unless that was done just now; the next scrape shows what they said. Never raises."""
        asked = self._begin()
        for name, reader in self._readers.items():
            await reader.wait(asked[name])

    def _begin(self) -> dict[str, Future[Found] | None]:
        return {name: reader.begin() for name, reader in self._readers.items()}

    def _gauges(self, found: Mapping[str, Found]) -> Iterator[Metric]:
        up = GaugeMetricFamily("fang_database_up", "Whether the database has answered.", labels=self._labels)
        took = GaugeMetricFamily("fang_database_read_seconds", "How long its last answer took.", labels=self._labels)
        for name, each in found.items():
            up.add_metric(self._values(name), each.stats is not None)
            if each.seconds is not None:
                took.add_metric(self._values(name), each.seconds)
        yield from (up, took)
        for metric_name, field, text in _TYPES:
            metric = GaugeMetricFamily(metric_name, text, labels=(*self._labels, "task_type"))
            for name, each in found.items():
                for of_type in () if each.stats is None else each.stats.types[:MOST_TYPES]:
                    metric.add_metric((*self._values(name), of_type.task_type), getattr(of_type, field))
            yield metric

    def _values(self, name: str) -> tuple[str, ...]:
        return (name,) if self._labels else ()


_TYPES: Final[Sequence[tuple[str, str, str]]] = (
    ("fang_tasks_due", "due", "Tasks that could start now; 100 stands for that many or more."),
    ("fang_task_oldest_due_seconds", "oldest_due", "For how long the task has been due that has waited longest."),
    ("fang_tasks_in_progress", "running", "Tasks that pools hold."),
    (
        "fang_task_type_workers",
        "workers",
        "Workers of all pools that serve the type, but for those that stop or are silent.",
    ),
    ("fang_task_type_paused", "paused", "Whether the type is paused."),
)


# The pages of fang worker ---------------------------------------------------------------------------------------------


@contextmanager
def pages(
    pools: Mapping[str, Any], *, loop: Any = None, is_supervised: bool = False
) -> Iterator[dict[str, Callable[[], Reply]]]:
    """Gives the pages of a process with these pools, by their paths.

    ``/metrics`` has what the application has in the default registry too. What the application has registered itself is
    not shown twice. Of a supervised process the database's part is a page of its own.
    """
    of_database = CollectorRegistry() if is_supervised else REGISTRY
    ours: tuple[tuple[CollectorRegistry, Collector], ...] = (
        (REGISTRY, PoolCollector(**pools)),
        (of_database, _of_databases(pools, loop)),
    )
    registered: list[tuple[CollectorRegistry, Collector]] = []
    try:
        for registry, collector in ours:
            try:
                registry.register(collector)
            except ValueError:  # the application has one
                continue
            registered.append((registry, collector))
        shown = {"/metrics": REGISTRY} | ({"/database": of_database} if is_supervised else {})
        yield {path: _page(registry) for path, registry in shown.items()}
    finally:
        for registry, collector in registered:
            registry.unregister(collector)


def _page(registry: CollectorRegistry) -> Callable[[], Reply]:
    return lambda: Reply(200, generate_latest(registry), CONTENT_TYPE)


def _of_databases(pools: Mapping[str, Any], loop: Any) -> QueueCollector:
    """Returns a collector of each database that pools work on; if there are several, each has the name of a pool."""
    queues: dict[object, tuple[str, Any]] = {}
    for name, pool in pools.items():
        queues.setdefault(_address(pool.queue), (name, pool.queue))
    if len(queues) == 1:
        ((_, queue),) = queues.values()
        return QueueCollector(queue, loop=loop)
    return QueueCollector(loop=loop, **dict(queues.values()))


def _address(queue: Any) -> object:
    """Returns what is equal for two queues on the same tables, or keys, as far as that can be seen."""
    recipe = getattr(queue, "recipe", None)
    if recipe is None:
        return id(queue)
    return str(recipe.args[0]), recipe.keywords.get("schema"), recipe.keywords.get("name")
