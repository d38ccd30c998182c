"""What the conformance tests of the history cannot bring about on a database."""

from datetime import timedelta
from uuid import UUID

from fang_core.monitoring.history import Flush, StatsRow, hour_of, minute_of
from tests.modes import Database, Harness

DAY = timedelta(days=1)
HOUR_ROW = """INSERT INTO fang.fang_stats SELECT 3600, %s, %s, task_type, kind, started, arrived, finished, retried,
    failed, cancelled, lost, rescued, queue_s, run_s, cpu_s, worker_s, queue, run FROM fang.fang_stats"""


def test_an_hour_to_come_hides_nothing(harness: Harness, url: str) -> None:
    """The clock was three days ahead: for three days, a long range would have shown nothing that came after."""
    queue = harness.queue(url)
    store = harness.call(queue.store)
    database = Database(url)
    try:
        now = harness.call(store.tell_time)
        to_come = hour_of(now) + 3 * DAY
        harness.call(store.flush_stats, UUID(int=1), Flush(to_come, {("common", "A"): StatsRow(finished=7)}))
        database.execute(HOUR_ROW, to_come, UUID(int=0))
        harness.call(store.flush_stats, UUID(int=1), Flush(minute_of(now), {("common", "A"): StatsRow(finished=5)}))
        for since in (DAY / 24, 7 * DAY):
            assert [kind.finished for kind in harness.call(queue.stats, since).kinds] == [12]
    finally:
        database.close()
        harness.call(store.close)
