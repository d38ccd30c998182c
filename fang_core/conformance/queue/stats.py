"""Tests ``queue.stats()`` and ``queue.heat_map()``, and what pools count."""

from datetime import timedelta
from typing import Any

import pytest

from fang_core.backends.pools import Live
from fang_core.conformance.backend import Backend
from fang_core.conformance.store.history import HOUR, MINUTE, PAIR, ROW, only_kind, stats
from fang_core.errors import UsageError
from fang_core.monitoring.history import POOL, Flush, StatsRow, hour_of, minute_of
from fang_core.monitoring.silence import SILENT_AFTER
from fang_core.monitoring.stats import HeatPoint, Stats, TypeStats


def heat(backend: Backend, *arguments: Any, **options: Any) -> tuple[HeatPoint, ...]:
    """Calls ``queue.heat_map``."""
    result: tuple[HeatPoint, ...] = backend.call(backend.queue.heat_map, *arguments, **options)
    return result


def type_of(backend: Backend, name: str) -> TypeStats:
    """Returns how a task type stands."""
    return next(each for each in stats(backend).types if each.task_type == name)


class StatsSuite:
    """Tests what is read of the history."""

    def test_without_pools_and_tasks_there_is_nothing(self, backend: Backend) -> None:
        found = stats(backend)
        assert (found.kinds, found.types, found.points, found.utilisation) == ((), (), (), None)
        assert timedelta(hours=1) <= found.until - found.since < timedelta(minutes=61)
        assert heat(backend, "A") == ()

    def test_a_pool_counts_its_runs_by_kind(self, backend: Backend) -> None:
        backend.insert_many([backend.note(n=n) for n in range(5)])
        backend.insert(backend.note(ending="fail"), max_retries=0)
        backend.insert(backend.note(), task_type="mail")
        assert backend.drain(task_type=["common", "mail"]) == 7
        found = stats(backend)
        by_type = {each.task_type: each for each in found.kinds}
        assert {each.kind for each in found.kinds} == {backend.note.__fang_options__.kind}
        assert by_type.keys() == {"common", "mail"}
        common, mail = by_type["common"], by_type["mail"]
        assert (common.started, common.arrived, common.finished, common.failed) == (6, 6, 5, 1)
        assert (mail.started, mail.finished, mail.failed) == (1, 1, 0)
        assert (common.queue.count, common.run.count) == (6, 6)
        assert common.share + mail.share == pytest.approx(1.0)
        assert common.error_rate == pytest.approx(1 / 6)
        assert sum(point.finished for point in found.points) == 6

    def test_a_pool_without_stats_counts_nothing(self, backend: Backend) -> None:
        backend.insert(backend.note())
        assert backend.drain(stats=False) == 1
        assert stats(backend).kinds == ()

    def test_the_kinds_that_take_most_time_come_first(self, backend: Backend) -> None:
        client = backend.client()
        minute = minute_of(client.tell_time())
        rows = {("common", name): ROW._replace(run_s=run_s) for name, run_s in (("A", 1.0), ("B", 6.0), ("C", 3.0))}
        client.flush_stats(Flush(minute, rows | {POOL: StatsRow(run_s=10.0, worker_s=40.0)}))
        found = stats(backend)
        assert [(each.kind, each.share) for each in found.kinds] == [("B", 0.6), ("C", 0.3), ("A", 0.1)]
        assert found.utilisation == 0.25
        assert len(found.points) == 1
        point = found.points[0]
        assert (point.at, point.seconds, point.started) == (minute, 60.0, 3 * ROW.started)
        assert (point.run_seconds, point.busy_seconds, point.worker_seconds) == (10.0, 10.0, 40.0)

    def test_only_the_kinds_and_types_that_were_asked_for_are_shown_with_their_share_of_all(
        self, backend: Backend
    ) -> None:
        client = backend.client()
        rows = {(type_, name): ROW._replace(run_s=1.0) for type_ in ("a", "b") for name in ("A", "B")}
        client.flush_stats(Flush(minute_of(client.tell_time()), rows))
        found: Stats = backend.call(backend.queue.stats, task_types="a", kinds=["B", "C"])
        assert [(each.task_type, each.kind, each.share) for each in found.kinds] == [("a", "B", 0.25)]
        assert [point.started for point in found.points] == [ROW.started]

    def test_a_long_range_is_in_hours_and_the_minutes_since(self, backend: Backend) -> None:
        client = backend.client()
        now = client.tell_time()
        hours = [hour_of(now - n * HOUR) for n in (5, 4)]
        backend.past_stats(PAIR, [(hour + n * MINUTE, ROW) for hour in hours for n in (0, 30, 59)])
        client.flush_stats(Flush(minute_of(now), {PAIR: ROW}))
        client.fold_stats()
        found = stats(backend, 12 * HOUR)
        assert [(point.at, point.seconds) for point in found.points] == [
            *((hour, 3_600.0) for hour in hours),
            (minute_of(now), 60.0),
        ]
        assert found.kinds[0].started == 7 * ROW.started
        assert found.since == hour_of(found.until - 12 * HOUR)

    def test_a_heat_map_has_the_times_of_a_kind_by_minute(self, backend: Backend) -> None:
        one, other = backend.client(), backend.client()
        minute = minute_of(one.tell_time())
        one.flush_stats(Flush(minute, {PAIR: ROW, ("common", "B"): ROW, ("mail", "A"): ROW}))
        other.flush_stats(Flush(minute, {PAIR: StatsRow(queue={0: 2, 3: 1})}))
        points = heat(backend, "A")
        assert len(points) == 2
        here, mail = points
        assert (here.at, here.kind, here.task_type) == (minute, "A", "common")
        assert here.queue == {0: 3, 3: 1, 17: 3, 84: 1}
        assert here.run == ROW.run
        assert (mail.task_type, mail.queue) == ("mail", ROW.queue)
        assert heat(backend, "A", task_type="mail") == (mail,)
        assert heat(backend, "C") == ()

    def test_a_type_stands_as_its_tasks_and_pools_do(self, backend: Backend) -> None:
        client = backend.client(workers=3)
        assert type_of(backend, "common") == TypeStats(
            task_type="common", due=0, due_is_exact=True, oldest_due=0.0, running=0, workers=3, paused=False
        )
        backend.insert_many([backend.note(n=n) for n in range(150)])
        backend.insert(backend.note(), task_type="mail", delay=HOUR)
        assert len(client.claim(2)) == 2
        backend.call(backend.queue.pause, "mail")
        common, mail = type_of(backend, "common"), type_of(backend, "mail")
        assert (common.due, common.due_is_exact, common.running) == (100, False, 2)
        assert common.oldest_due > 0
        assert (mail.due, mail.due_is_exact, mail.workers, mail.paused) == (0, True, 0, True)

    def test_workers_of_a_pool_that_is_silent_do_not_count(self, backend: Backend) -> None:
        """No pool removes the record of the last pool if that is killed: its type would look served forever."""
        killed, other = backend.client(workers=1), backend.client(workers=10)
        backend.client(workers=100)  # it never reports what it does, like pools of older releases
        for client in (killed, other):
            client.tell_live(Live(0, 0, ()))
        assert type_of(backend, "common").workers == 111
        backend.backdate_live(killed, SILENT_AFTER + timedelta(seconds=1))
        assert type_of(backend, "common").workers == 110
        backend.backdate_live(other, HOUR)
        assert type_of(backend, "common").workers == 100
        other.tell_live(Live(0, 0, ()))
        assert type_of(backend, "common").workers == 110

    def test_what_cannot_be_asked_for(self, backend: Backend) -> None:
        refused: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
            ((3_600,), {}),
            ((timedelta(0),), {}),
            ((timedelta(days=100_000),), {}),
            ((), {"task_types": 5}),
            ((), {"kinds": ["a", None]}),
            ((), {"kinds": "a\0b"}),
        ]
        for arguments, options in refused:
            with pytest.raises(UsageError):
                backend.call(backend.queue.stats, *arguments, **options)
        with pytest.raises(UsageError):
            heat(backend, "A", timedelta(0))

    def test_what_becomes_of_runs_is_counted(self, backend: Backend) -> None:
        """Checks a task that fails three times, one that cancels itself, and one that has expired."""
        for ending in ("fail", "cancel"):
            backend.insert(backend.note(ending=ending))
        backend.insert(backend.note(), expires=timedelta(microseconds=1))
        backend.drain()
        found = only_kind(backend)
        assert (found.arrived, found.started, found.finished) == (3, 4, 0)
        assert (found.retried, found.failed, found.cancelled) == (2, 1, 2)
        assert found.error_rate == 1.0
