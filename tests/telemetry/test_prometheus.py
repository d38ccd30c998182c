"""What the collectors show, of pools and databases that are told what to say, and of real pools."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fang_async import AsyncMemoryQueue
from fang_core.errors import BackendUnavailable, UsageError
from fang_core.monitoring.buckets import BOUNDS, bucket
from fang_core.monitoring.history import POOL, Pair, StatsRow
from fang_core.monitoring.stats import OTHERS, Stats, TypeStats
from fang_core.pool.telling.health import PoolHealth
from fang_core.pool.telling.stats import PoolStats
from fang_redis import RedisQueue
from fang_telemetry import prometheus
from fang_telemetry.prometheus import NAMES_OF_EDGES, PoolCollector, QueueCollector
from fang_threaded import MemoryQueue, Queueable, Runnable, WorkerPool

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Counted(Runnable):
    fails: bool = False

    def run(self, queue: Queueable) -> None:
        if self.fails:
            raise ValueError


def samples(*collectors: Any) -> Samples:
    """Each sample by its name and labels, as Prometheus reads them."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return parsed(generate_latest(registry).decode())


def parsed(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of_kind(found: Samples, name: str, kind: str = "Counted", **labels: str) -> float:
    return found[name, tuple(sorted({"task_type": "common", "kind": kind, **labels}.items()))]


class Told:
    """A pool that counts what it is told to."""

    def __init__(self, totals: Mapping[Pair, StatsRow], **stats: int) -> None:
        self.options = SimpleNamespace(task_types=("mail", "reports"))
        self._totals = totals
        self._stats = PoolStats(**{"workers": 4, **stats})  # type: ignore[arg-type]

    def stats(self) -> PoolStats:
        return self._stats

    def health(self) -> PoolHealth:
        return PoolHealth(True, False, "it stops")

    def totals(self) -> Mapping[Pair, StatsRow]:
        return self._totals


# Pools ----------------------------------------------------------------------------------------------------------------


def test_gauges_of_a_pool() -> None:
    found = samples(PoolCollector(Told({}, running=3, waiting=2, unwritten=1, stuck=5)))
    shown = {name: value for (name, labels), value in found.items() if labels == (("pool", "mail,reports"),)}
    assert shown == {
        "fang_pool_live": 1,
        "fang_pool_ready": 0,
        "fang_workers": 4,
        "fang_workers_busy": 3,
        "fang_tasks_waiting_for_worker": 2,
        "fang_outcomes_unwritten": 1,
        "fang_runs_stuck": 5,
    }


def test_counts_of_several_pools_are_added_up_by_task_type_and_kind() -> None:
    pair = ("common", "Counted")
    first = StatsRow(started=7, finished=5, retried=2, run_s=1.5, run={bucket(0.2): 7})
    second = StatsRow(started=1, finished=1, run_s=30.0, run={bucket(30): 1})
    found = samples(PoolCollector(a=Told({pair: first, POOL: StatsRow(worker_s=9.0)}), b=Told({pair: second})))
    assert of_kind(found, "fang_tasks_started_total") == 8
    assert of_kind(found, "fang_tasks_retried_total") == 2
    assert of_kind(found, "fang_task_run_seconds_sum") == 31.5
    assert of_kind(found, "fang_task_run_seconds_count") == 8
    assert of_kind(found, "fang_task_run_seconds_bucket", le="0.1") == 0
    assert of_kind(found, "fang_task_run_seconds_bucket", le="0.316") == 7
    assert of_kind(found, "fang_task_run_seconds_bucket", le="31.6") == 8
    assert not [labels for _, labels in found if ("kind", "") in labels]


def test_each_bucket_ends_where_its_name_says() -> None:
    for edge, name in zip(prometheus.EDGES, NAMES_OF_EDGES, strict=False):
        assert float(name) == pytest.approx(BOUNDS[edge], rel=0.002)
        below, above = StatsRow(run={edge: 1}), StatsRow(run={edge + 1: 1})
        assert dict(prometheus._cumulated(below.run))[name] == 1
        assert dict(prometheus._cumulated(above.run))[name] == 0
    assert prometheus._cumulated({84: 3})[-1] == ("+Inf", 3)
    assert [count for _, count in prometheus._cumulated({0: 1, 84: 3})] == [1] * len(prometheus.EDGES) + [4]


def test_kinds_beyond_the_bound_are_added_up_under_one() -> None:
    totals = {("common", f"K{n}"): StatsRow(started=n) for n in range(1, 6)}
    found = samples(PoolCollector(Told(totals), most_kinds=2))
    shown = {
        dict(labels)["kind"]: value for (name, labels), value in found.items() if name == "fang_tasks_started_total"
    }
    assert shown == {"K1": 1, "K2": 2, OTHERS: 3 + 4 + 5}


def test_two_pools_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="two pools are named mail,reports: give names"):
        PoolCollector(Told({}), Told({}))


def test_a_pool_counts_over_its_lives_and_never_less() -> None:
    queue = MemoryQueue()
    pool = WorkerPool(queue)
    collector = PoolCollector(pool)
    assert ("fang_workers", (("pool", "common"),)) in samples(collector)
    for lives in (1, 2, 3):
        queue.insert_tasks([Counted(), Counted(), Counted(fails=True)], max_retries=0)
        assert pool.drain() == 3
        found = samples(collector)
        assert of_kind(found, "fang_tasks_started_total") == 3 * lives
        assert of_kind(found, "fang_tasks_finished_total") == 2 * lives
        assert of_kind(found, "fang_tasks_failed_total") == lives
        assert of_kind(found, "fang_task_run_seconds_count") == 3 * lives


# The database ---------------------------------------------------------------------------------------------------------


NOW = datetime(2026, 1, 1, tzinfo=UTC)
MAIL = TypeStats(task_type="mail", due=100, due_is_exact=False, oldest_due=12.5, running=3, workers=8, paused=True)


def stats(*types: TypeStats) -> Stats:
    return Stats(since=NOW, until=NOW, kinds=(), types=types, points=(), utilisation=None)


class Database:
    """A queue whose answers wait for ``gate``, and fail if there are none."""

    def __init__(self, *answers: Stats) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()

    def stats(self, since: timedelta) -> Stats:
        self.asked += 1
        self.gate.wait()
        if not self.answers:
            raise BackendUnavailable("away")
        return self.answers.pop(0)


@pytest.fixture
def opened() -> Iterator[Database]:
    database = Database(stats(MAIL))
    yield database
    database.gate.set()


def up(found: Samples) -> float:
    return found["fang_database_up", ()]


def test_gauges_of_the_database() -> None:
    found = samples(QueueCollector(Database(stats(MAIL))))
    assert up(found) == 1
    assert found["fang_database_read_seconds", ()] >= 0
    shown = {name: value for (name, labels), value in found.items() if labels == (("task_type", "mail"),)}
    assert shown == {
        "fang_tasks_due": 100,
        "fang_task_oldest_due_seconds": 12.5,
        "fang_tasks_in_progress": 3,
        "fang_task_type_workers": 8,
        "fang_task_type_paused": 1,
    }


def test_it_is_not_asked_again_at_once_and_types_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "MOST_TYPES", 1)
    database = Database(stats(MAIL, MAIL))
    collector = QueueCollector(database, keep_for=1e9)
    assert samples(collector) == samples(collector)
    assert database.asked == 1
    QueueCollector(database).describe()
    assert database.asked == 1


def test_a_database_that_fails_is_not_up_and_has_no_other_gauges() -> None:
    database = Database()
    collector = QueueCollector(database, keep_for=0.0)
    assert samples(collector) == {("fang_database_up", ()): 0}
    database.answers.append(stats(MAIL))
    assert up(samples(collector)) == 1


def test_a_scrape_does_not_wait_for_a_database_that_hangs_and_asks_once(opened: Database) -> None:
    opened.gate.clear()
    collector = QueueCollector(opened, keep_for=0.0, wait=0.01)
    assert up(samples(collector)) == 0
    assert up(samples(collector)) == 0
    assert opened.asked == 1
    opened.gate.set()
    assert up(samples(QueueCollector(opened, wait=60.0))) in (0, 1)  # whichever took the answer


async def test_a_scrape_on_an_event_loop_does_not_wait_but_refresh_does(opened: Database) -> None:
    opened.gate.clear()
    collector = QueueCollector(opened, wait=60.0)
    assert up(samples(collector)) == 0
    asyncio.get_running_loop().call_soon(opened.gate.set)
    await collector.refresh()
    assert up(samples(collector)) == 1
    await collector.refresh()
    assert opened.asked == 1


async def test_an_async_queue_is_read_on_its_loop_from_any_thread() -> None:
    queue = AsyncMemoryQueue()
    collector = QueueCollector(queue)
    found = await asyncio.to_thread(samples, collector)
    assert up(found) == 1
    await collector.refresh()


@pytest.mark.parametrize("queues", [((), {}), ((Database(),), {"other": Database()})])
def test_a_collector_has_one_queue_or_named_ones(queues: Any) -> None:
    with pytest.raises(UsageError, match="give one queue, or several with their names"):
        QueueCollector(*queues[0], **queues[1])


def test_databases_are_told_apart_by_their_names() -> None:
    found = samples(QueueCollector(a=Database(stats(MAIL)), b=Database()))
    assert found["fang_database_up", (("queue", "a"),)] == 1
    assert found["fang_database_up", (("queue", "b"),)] == 0
    assert found["fang_tasks_due", (("queue", "a"), ("task_type", "mail"))] == 100


def test_an_async_queue_needs_its_loop() -> None:
    with pytest.raises(UsageError, match="made on its event loop, or told it"):
        QueueCollector(AsyncMemoryQueue())


# The page of a worker -------------------------------------------------------------------------------------------------


def page(found: Any, path: str = "/metrics") -> Samples:
    return parsed(found[path]().body.decode())


def test_the_page_of_a_worker_has_all_of_it_and_leaves_the_registry_as_it_was() -> None:
    pools: dict[str, Any] = {"app:a": WorkerPool(MemoryQueue()), "app:b": WorkerPool(MemoryQueue())}
    before = set(parsed(generate_latest().decode()))
    with prometheus.pages(pools) as pages:
        found = page(pages)
    assert before <= set(found)
    assert ("fang_workers", (("pool", "app:a"),)) in found
    # The queues are two databases: each has its name.
    assert found["fang_database_up", (("queue", "app:a"),)] == found["fang_database_up", (("queue", "app:b"),)] == 1
    assert set(parsed(generate_latest().decode())) == before


def test_what_the_application_has_registered_is_not_shown_twice() -> None:
    pool = WorkerPool(MemoryQueue())
    collector = PoolCollector(mine=pool)
    REGISTRY.register(collector)
    try:
        with prometheus.pages({"app:pool": pool}) as pages:
            found = page(pages)
        assert ("fang_workers", (("pool", "mine"),)) in found
        assert ("fang_workers", (("pool", "app:pool"),)) not in found
        assert up(found) == 1
    finally:
        REGISTRY.unregister(collector)


def test_the_database_has_a_page_of_its_own_in_a_supervised_process() -> None:
    queue = MemoryQueue()
    with prometheus.pages({"a:a": WorkerPool(queue), "a:b": WorkerPool(queue)}, is_supervised=True) as pages:
        assert ("fang_database_up", ()) not in page(pages)
        assert page(pages, "/database")["fang_database_up", ()] == 1


def test_queues_of_other_names_on_one_server_are_counted_apart() -> None:
    one, same, other = (RedisQueue("redis://localhost/0", name=name) for name in ("mail", "mail", "reports"))
    address = prometheus._address
    assert address(one) == address(same) != address(other)
