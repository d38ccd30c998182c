"""Ticks of schedules in the database that meet others: other pools, and persons who change the schedule."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Final

import psycopg
import pytest

from fang_core import Every, Runnable, ScheduleInfo, TaskConfig
from fang_core.backends.scheduling import stored_tick
from fang_core.backends.ticking import tick_of
from fang_core.schedules.stored import Backfill, Verdict
from fang_core.tasks.insertion import Rules
from fang_postgres import scheduling
from fang_postgres.operations import Operations
from fang_postgres.statement import Operation
from fang_threaded import Queue
from fang_threaded.database import run_on, run_script
from tests.driven import Driven
from tests.patience import PATIENT
from tests.postgres.blocking import await_waiting, while_changed

POOLS: Final = 16
INSTANT: Final = timedelta(microseconds=1)
DAY: Final = timedelta(days=1)
OPS: Final = Operations("fang")


class Report(Runnable):
    """No pool serves its task type."""

    task_config = TaskConfig(kind="ticks.Report", task_type="ticks.reports")
    n: int = 0

    def run(self, queue: Any) -> None: ...


class Yearly(Runnable):
    task_config = TaskConfig(kind="ticks.Changed", task_type="ticks.reports", cron="@yearly")

    def run(self, queue: Any) -> None: ...


class Schedule:
    """A schedule in the database, and the store of a pool that makes its ticks."""

    def __init__(self, url: str, queue: Queue) -> None:
        self.url = url
        self.queue = queue
        self.store = Driven(queue.store())
        self.info: ScheduleInfo
        self.put()

    def put(self, **options: Any) -> None:
        self.queue.schedules.put("report", Report(), every=Every(timedelta(hours=1)), **options)
        (self.info,) = self.store.read_schedules([], ["ticks.reports"]).changed

    def tick(self, number: int) -> str:
        """Makes a tick of this number after the beginning; each of them is past."""
        return str(self.store.tick_stored(stored_tick(self.info, self.info.last_tick + number * INSTANT)))

    def rows(self, columns: str = "state::text") -> list[Any]:
        with psycopg.connect(self.url) as connection:
            found = connection.execute(f"SELECT {columns} FROM fang.fang_tasks ORDER BY scheduled_at".encode())
            return [row[0] for row in found.fetchall()]


@pytest.fixture
def schedule(url: str) -> Iterator[Schedule]:
    with Queue(url, max_pool_size=2 * POOLS) as queue:
        schedule = Schedule(url, queue)
        yield schedule
        schedule.store.close()


@pytest.fixture
def watcher(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("overlap", ["allow", "skip", "queue_one", "cancel_running"])
def test_many_pools_make_a_tick_once(
    url: str, schedule: Schedule, watcher: psycopg.Connection[Any], overlap: str
) -> None:
    """None of them waits for another."""
    schedule.put(overlap=overlap)
    with psycopg.connect(url) as holder, ThreadPoolExecutor(POOLS) as executor:
        holder.execute("SELECT FROM fang.fang_schedules FOR UPDATE")
        assert {pool.result(PATIENT) for pool in [executor.submit(schedule.tick, 1) for _ in range(POOLS)]} == {"waits"}
        holder.commit()
        pools = [executor.submit(schedule.tick, 1) for _ in range(POOLS)]
        verdicts = Counter(pool.result(PATIENT) for pool in pools)
    assert verdicts["ticked"] == 1
    assert verdicts.keys() <= {"ticked", "waits", "done"}
    assert schedule.tick(1) == "done"
    assert schedule.rows() == ["new"]


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("overlap", ["skip", "queue_one", "cancel_running"])
def test_a_tick_judges_by_the_task_of_the_one_before_even_if_it_began_earlier(
    url: str, schedule: Schedule, watcher: psycopg.Connection[Any], overlap: str, end: str
) -> None:
    """Its snapshot does not show that task."""
    schedule.put(overlap=overlap)
    first = stored_tick(schedule.info, schedule.info.last_tick + INSTANT)
    with psycopg.connect(url) as holder:
        assert run_on(holder, OPS.tick_stored(first, notify=True)) is Verdict.TICKED
        assert schedule.tick(2) == "waits"
        holder.execute(end.encode())
    if end == "ROLLBACK":
        assert schedule.tick(2) == "ticked"
        assert schedule.rows() == ["new"]
    else:
        assert schedule.tick(2) == ("ticked" if overlap == "cancel_running" else "skipped")
        assert schedule.rows() == (["cancelled", "new"] if overlap == "cancel_running" else ["new"])


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("overlap", ["skip", "queue_one"])
def test_a_backfill_judges_by_the_task_of_a_tick_that_it_has_met(
    url: str, schedule: Schedule, watcher: psycopg.Connection[Any], overlap: str, end: str
) -> None:
    first = stored_tick(schedule.info, schedule.info.last_tick + INSTANT)
    began = schedule.info.last_tick
    schedules = schedule.queue.schedules
    with psycopg.connect(url) as holder, ThreadPoolExecutor(1) as executor:
        assert run_on(holder, OPS.tick_stored(first, notify=True)) is Verdict.TICKED
        backfill = executor.submit(schedules.backfill, "report", began - DAY, began, overlap=overlap)
        await_waiting(watcher, 1)
        holder.execute(end.encode())
        assert backfill.result(PATIENT) == (0 if end == "COMMIT" else 1)
    assert schedule.rows() == ["new"]


def test_a_backfill_takes_few_statements_and_makes_only_what_is_not_there(url: str, schedule: Schedule) -> None:
    schedule.put(jitter=timedelta(minutes=30), expires=DAY)
    began = schedule.info.last_tick
    assert schedule.queue.schedules.backfill("report", began - timedelta(hours=1_200), began) == 1_200
    sent: list[str] = []

    def run(operation: Operation[Any]) -> Any:
        sent.append(operation.statement.name)
        return run_on(connection, operation)

    with psycopg.connect(url) as connection:
        period = Backfill(began - timedelta(hours=3_000), began)
        script = scheduling.backfill(OPS, "report", period, Rules(), notify=True)
        assert run_script(run, script) == 1_800
        assert sent.count("insert_past") <= 4
        assert len(sent) < 10
        due = "SELECT count(DISTINCT scheduled_at), count(*), count(expires_at) FROM fang.fang_tasks"
        assert connection.execute(due.encode()).fetchone() == (3_000, 3_000, 3_000)


CHANGES: Final = {
    "pause": "UPDATE fang.fang_schedules SET paused = true, changed_at = clock_timestamp()",
    "change": "UPDATE fang.fang_schedules SET every = '2 h', changed_at = clock_timestamp()",
    "remove": "DELETE FROM fang.fang_schedules",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_tick_that_meets_a_change_is_not_made(url: str, schedule: Schedule, change: str, end: str) -> None:
    with psycopg.connect(url) as changer:
        changer.execute(CHANGES[change].encode())
        assert (schedule.tick(1), schedule.rows()) == ("waits", [])
        changer.execute(end.encode())
    verdict = schedule.tick(1)
    assert (verdict, schedule.rows()) == (("stale", []) if end == "COMMIT" else ("ticked", ["new"]))


def test_the_tick_of_a_class_that_meets_a_pause_or_another_schedule_is_not_made(url: str, schedule: Schedule) -> None:
    name = "ticks.Changed"
    state = schedule.store.read_schedules([name])
    due = tick_of(Yearly(), state.last_ticks[name] + INSTANT, schedule.queue.rules)
    ahead = tick_of(Yearly(), state.now + timedelta(hours=1), schedule.queue.rules)
    for change in ("paused = true", "kind = 'ticks.Report'"):
        sql = f"UPDATE fang.fang_schedules SET {change} WHERE name = '{name}'"
        assert while_changed(url, sql, {}, lambda: schedule.store.tick(due)) is None
        assert schedule.store.tick(due) is False
        assert schedule.store.tick(ahead) is False
        assert schedule.rows() == []
        with psycopg.connect(url) as connection:
            connection.execute("UPDATE fang.fang_schedules SET paused = false, kind = NULL WHERE name = %s", [name])
    assert schedule.store.tick(due) is True


def test_the_tick_of_a_class_waits_for_no_lock(url: str, schedule: Schedule) -> None:
    name = "ticks.Changed"
    due = tick_of(Yearly(), schedule.store.read_schedules([name]).last_ticks[name] + INSTANT, schedule.queue.rules)
    with psycopg.connect(url) as changer:
        changer.execute("UPDATE fang.fang_schedules SET paused = true WHERE name = %s", [name])
        assert schedule.store.tick(due) is None
        assert schedule.rows() == []
        changer.rollback()
    assert schedule.store.tick(due) is True
    assert schedule.rows() == ["new"]


def test_a_tick_that_lies_ahead_by_the_clock_of_the_database_is_not_made(schedule: Schedule) -> None:
    """The clock of the pool, or of the database, may have jumped."""
    tick = stored_tick(schedule.info, schedule.info.last_tick + timedelta(minutes=5))
    assert schedule.store.tick_stored(tick) is Verdict.STALE
    assert schedule.rows() == []


def test_a_change_in_the_same_instant_is_another_one(url: str, schedule: Schedule) -> None:
    """The database's clock may go back."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE fang.fang_schedules SET changed_at = clock_timestamp() + interval '1 day'")
    (before,) = schedule.store.read_schedules([], ["ticks.reports"]).changed
    after = schedule.queue.schedules.pause("report")
    assert after.changed_at == before.changed_at + INSTANT


def test_a_twin_keeps_a_tick_out_and_is_not_its_task(url: str, schedule: Schedule) -> None:
    schedule.put(uniq=True, overlap="skip")
    twin = schedule.queue.insert_task(Report(), uniq=True)
    assert schedule.tick(1) == "ticked"
    assert schedule.rows("id") == [twin.id]
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT last_task_id FROM fang.fang_schedules").fetchone() == (None,)


def test_hand_edits_that_no_schedule_can_have_stop_nothing(url: str, schedule: Schedule) -> None:
    schedule.queue.schedules.put("other", Report(), every=timedelta(hours=1))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "UPDATE fang.fang_schedules SET until = 'infinity', jitter = '-1 s', missed_within = '9000 years', "
            "overlap = 'never', missed = 'maybe', options = '[]', metadata = '7' WHERE name = 'report'"
        )
    read = {info.name: info for info in schedule.store.read_schedules([], ["ticks.reports"]).changed}
    assert read.keys() == {"report", "other"}
    assert read["report"].options == {}
    schedule.info = read["other"]
    assert schedule.tick(1) == "ticked"
