"""Tests how a backend keeps what pools have counted: flushes, and what adds up and removes rows."""

from datetime import datetime, timedelta
from uuid import uuid4

from fang_core.conformance.backend import Backend
from fang_core.conformance.clients import Client
from fang_core.monitoring.history import POOL, Flush, StatsRow, hour_of, minute_of, total
from fang_core.monitoring.stats import KindStats, Stats

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
PAIR = ("common", "A")
ROW = StatsRow(9, 8, 7, 6, 5, 4, 3, 2, 4.5, 2.5, 1.5, 0.0, {0: 1, 17: 3, 84: 1}, {20: 4, 22: 5})


def stats(backend: Backend, since: timedelta = HOUR) -> Stats:
    """Calls ``queue.stats``."""
    result: Stats = backend.call(backend.queue.stats, since)
    return result


def kind(backend: Backend, since: timedelta = HOUR) -> KindStats | None:
    """Returns the stats of the only kind; None if there is none."""
    kinds = stats(backend, since).kinds
    assert len(kinds) <= 1
    return kinds[0] if kinds else None


def only_kind(backend: Backend, since: timedelta = HOUR) -> KindStats:
    """Returns the stats of the only kind."""
    found = kind(backend, since)
    assert found is not None
    return found


def finished(backend: Backend, since: timedelta = HOUR) -> int:
    """Returns how many runs of the only kind have finished."""
    found = kind(backend, since)
    return 0 if found is None else found.finished


def write(client: Client, at: datetime, row: StatsRow = ROW) -> bool:
    """Flushes a row under a minute, as a writer of its own; returns whether the backend took it."""
    return client.flush_stats(Flush(minute_of(at), {PAIR: row}), uuid4()).is_written


class HistorySuite:
    """Tests ``HistoryStore``."""

    def test_a_flush_tells_the_time_and_is_read_as_it_was_written(self, backend: Backend) -> None:
        client = backend.client()
        before = client.tell_time()
        reply = client.flush_stats(Flush(minute_of(before), {PAIR: ROW, POOL: StatsRow(run_s=3.0, worker_s=6.0)}))
        assert reply.is_written
        assert before <= reply.now <= client.tell_time()
        only = only_kind(backend)
        assert (only.task_type, only.kind) == PAIR
        assert tuple(getattr(only, name) for name in StatsRow._fields[:8]) == ROW[:8]
        assert (only.queue.count, only.queue.mean) == (5, 0.9)
        assert (only.run.count, only.run_seconds, only.cpu_seconds) == (9, 2.5, 1.5)
        assert (only.share, stats(backend).utilisation) == (1.0, 0.5)

    def test_a_repeated_flush_changes_nothing(self, backend: Backend) -> None:
        client = backend.client()
        flush = Flush(minute_of(client.tell_time()), {PAIR: ROW})
        client.flush_stats(flush)
        before = kind(backend)
        client.flush_stats(flush)
        assert kind(backend) == before

    def test_a_flush_overwrites_its_own_rows_and_no_others(self, backend: Backend) -> None:
        one, other = backend.client(), backend.client()
        minute = minute_of(one.tell_time())
        for client, count in ((one, 1), (other, 10), (one, 3)):
            client.flush_stats(Flush(minute, {PAIR: StatsRow(finished=count)}))
        assert finished(backend) == 13

    def test_a_minute_that_may_have_been_added_up_is_not_written_to(self, backend: Backend) -> None:
        client = backend.client()
        now = client.tell_time()
        assert not write(client, now - 6 * MINUTE)
        assert write(client, now - 2 * MINUTE)
        assert write(client, now + HOUR)  # the backend's clock may have been set back
        assert finished(backend) == 2 * ROW.finished

    def test_adding_up_changes_no_sum(self, backend: Backend) -> None:
        """Adds up pools' minutes by two at once, and hours more than once."""
        client, other = backend.client(), backend.client()
        row = StatsRow(started=5, finished=4, queue_s=0.5, run_s=0.25, queue={2: 1}, run={3: 2, 40: 1})
        now = client.tell_time()
        times = [now - 8 * MINUTE, now - 9 * MINUTE, now - 70 * MINUTE, now - 3 * HOUR]
        rows = [(at, each) for at in times for each in (row, ROW, row)]
        backend.past_stats(PAIR, rows)
        before = stats(backend, 2 * HOUR)
        backend.call_together(lambda: client.store.fold_stats(None, 1_000), lambda: other.store.fold_stats(None, 1_000))
        for _ in range(2):
            client.fold_stats()
        after = stats(backend, 2 * HOUR)
        assert (after.kinds, after.points) == (before.kinds, before.points)
        whole = only_kind(backend, 5 * HOUR)
        summed = total(each for _, each in rows)
        assert (whole.started, whole.run_seconds, whole.queue.count) == (summed.started, summed.run_s, 7 * len(times))
        assert whole.run.count == sum(summed.run.values())

    def test_it_does_no_more_at_once_than_it_was_asked_to(self, backend: Backend) -> None:
        client = backend.client()
        now = client.tell_time()
        backend.past_stats(PAIR, [(now - n * MINUTE, ROW) for n in range(10, 15)])
        assert client.fold_stats(limit=2) == 2
        assert finished(backend) == 5 * ROW.finished

    def test_a_minute_that_came_late_is_in_its_hour_all_the_same(self, backend: Backend) -> None:
        """A pool may write one while the backend's clock is set back."""
        client = backend.client()
        hour = hour_of(client.tell_time() - 4 * HOUR)
        backend.past_stats(PAIR, [(hour + MINUTE, ROW)])
        client.fold_stats()
        backend.past_stats(PAIR, [(hour + MINUTE, ROW), (hour + 2 * MINUTE, ROW)])
        fresh = backend.client()  # a pool that has added up nothing yet looks at all minutes
        fresh.fold_stats()
        assert finished(backend, 6 * HOUR) == 3 * ROW.finished

    def test_old_minutes_and_hours_are_removed(self, backend: Backend) -> None:
        client = backend.client()
        now = client.tell_time()
        for days in (1, 3, 20):
            backend.past_stats(PAIR, [(now - timedelta(days=days), ROW)])
        client.fold_stats(timedelta(days=10))
        month = timedelta(days=30)
        assert finished(backend, month) == 2 * ROW.finished
        client.fold_stats(timedelta(days=2))
        assert finished(backend, month) == ROW.finished
        client.fold_stats(HOUR)
        assert kind(backend, month) is None
