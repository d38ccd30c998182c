"""Shows pools to Prometheus: a collector for a registry of prometheus_client.

A scrape reads what pools count anyway, so that runs cost nothing more. Needs the extra ``prometheus``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fang_core.errors import UsageError
from fang_core.pool.health import PoolHealth
from fang_core.pool.stats import PoolStats
from fang_telemetry.exposition import CONTENT_TYPE
from fang_telemetry.http import Reply


class Counting(Protocol):
    """A pool of either mode."""

    options: Any

    def stats(self) -> PoolStats:
        """Counts what it does now."""
        ...

    def health(self) -> PoolHealth:
        """Says whether it lives and is ready."""
        ...


# Pools ----------------------------------------------------------------------------------------------------------------


class PoolCollector(Collector):
    """Shows what pools of this process do, and what became of their runs.

    ``REGISTRY.register(PoolCollector(pool))``, once for all pools of the process. The label ``pool`` of their gauges is
    the pool's task types, or the name by which it is given: ``PoolCollector(mail=pool)``.

    Raises ``UsageError`` if two pools have the same name.
    """

    def __init__(self, *pools: Counting, **named: Counting) -> None:
        self._pools: dict[str, Counting] = {}
        for name, pool in (*((",".join(pool.options.task_types), pool) for pool in pools), *named.items()):
            if name in self._pools:
                raise UsageError(
                    f"two pools are named {name}: give names, as in PoolCollector(first=pool, second=other)"
                )
            self._pools[name] = pool

    def describe(self) -> Iterable[Metric]:
        """Returns the metrics without samples, so that a registry knows their names and asks nobody."""
        return tuple(_gauges_of_pools({}))

    def collect(self) -> Iterable[Metric]:
        """Returns the metrics as they are now."""
        return tuple(_gauges_of_pools(self._pools))


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


# The pages of fang worker ---------------------------------------------------------------------------------------------


@contextmanager
def pages(pools: Mapping[str, Any]) -> Iterator[dict[str, Callable[[], Reply]]]:
    """Gives the pages of a process with these pools, by their paths.

    ``/metrics`` has what the application has in the default registry too. What the application has registered itself is
    not shown twice.
    """
    collector = PoolCollector(**pools)
    try:
        REGISTRY.register(collector)
    except ValueError:  # the application has one
        yield {"/metrics": _page(REGISTRY)}
        return
    try:
        yield {"/metrics": _page(REGISTRY)}
    finally:
        REGISTRY.unregister(collector)


def _page(registry: CollectorRegistry) -> Callable[[], Reply]:
    return lambda: Reply(200, generate_latest(registry), CONTENT_TYPE)
