"""Rows that somebody has spoilt with another client: pools log each once, and run all others."""

import asyncio
import logging
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar, Final
from uuid import UUID

import pytest

from fang_async import AsyncWorkerPool
from fang_core import AsyncRunnable, Cron, Limit, Queueable, Runnable, TaskConfig
from fang_core.backends.claims import ClaimRequest, LaneRequest
from fang_core.backends.json_forms import schedule_as_json, schedule_from_json
from fang_core.backends.pools import Declaration
from fang_core.backends.ticking import tick_of
from fang_core.config import RetentionMode
from fang_core.errors import UnreadablePayload
from fang_core.lifecycle import Outcome
from fang_core.liveness import BeatRequest
from fang_core.record import TaskState
from fang_core.schedules.stored import Verdict
from fang_core.words.moments import LATEST
from fang_sqlite import AsyncSqliteQueue, SqliteQueue
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.pools.heart import SqliteHeart
from fang_sqlite.pools.pools import list_pools
from fang_sqlite.pools.registering import is_served
from fang_sqlite.tasks.claiming import claim, look, reconcile, unknown_kinds, unserved_types, waiting_types
from fang_sqlite.tasks.completing import complete
from fang_sqlite.tasks.flow import adopt, declare
from fang_sqlite.tasks.lanes import claim_lanes
from fang_threaded import WorkerPool
from tests.sqlite.files import hold, insert, opened, register

pytestmark = pytest.mark.usefixtures("no_finalizers_in_depth")

LEAST, MOST = -(2**63), 2**63 - 1


class Text(bytes):
    """A text that is no UTF-8: a statement gets it as bytes, and makes a text of them."""


NO_UTF8: Final = Text(b"\xffsecret")
NO_UTF8_JSON: Final = Text(b'{"type":"spoiltrows.Threaded","n":1,"x":"\xffsecret"}')
DEEP: Final = "[" * 3_000 + "]" * 3_000
JSON: Final = ("", "no JSON", "null", "[]", "[null, 3]", '"text"', DEEP, "9" * 5_000)
SPOILT: Final[dict[str, tuple[Any, ...]]] = {
    "id": (b"", b"short", b"x" * 17),
    **dict.fromkeys(("retries", "max_retries", "crashes", "attempt", "group_limit", "timeout"), (LEAST, MOST)),
    **dict.fromkeys(("created_at", "updated_at", "expires_at"), (LEAST, MOST)),
    "scheduled_at": (LEAST,),
    "metadata": (*JSON, NO_UTF8, NO_UTF8_JSON, '{"type":"spoiltrows.Threaded",', '{"type":"spoiltrows.Async",'),
    **dict.fromkeys(("errors", "headers", "cancel_request"), (*JSON, NO_UTF8, NO_UTF8_JSON)),
    "error_message": (NO_UTF8,),
    "pool_id": (b"", b"x" * 17),
    "claimed_at": (LEAST, MOST),
    "uniq_hash": ("", "odd", NO_UTF8),
    "uniq_waiting": ("", "odd", NO_UTF8),
    "lane": ("", "odd", NO_UTF8, Text(b"a\xff")),
}
CASES: Final = [(name, value) for name, values in SPOILT.items() for value in values]
REFUSED: Final = {
    "scheduled_at": ("abc", b"x", None, 1.5),
    "attempt": ("abc", None),
    "timeout": ("abc", b"x"),
    "metadata": (None, b"{}"),
    "headers": (b"{}",),
    "uniq_hash": (b"x",),
    "id": ("text", None),
    "state": ("odd", None),
    "priority": (3, None),
}
GOOD: Final = 20


class SpoiltThreaded(Runnable):
    task_config = TaskConfig(kind="spoiltrows.Threaded", task_type="spoiltrows.threaded", max_retries=0)
    ran: ClassVar[set[int]] = set()
    n: int = -1

    def run(self, queue: Queueable) -> None:
        SpoiltThreaded.ran.add(self.n)


class SpoiltAsync(AsyncRunnable):
    task_config = TaskConfig(kind="spoiltrows.Async", task_type="spoiltrows.async", max_retries=0)
    ran: ClassVar[set[int]] = set()
    n: int = -1

    async def run(self, queue: Any) -> None:
        SpoiltAsync.ran.add(self.n)


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    SpoiltThreaded.ran.clear()
    SpoiltAsync.ran.clear()


def execute(path: Path, sql: str, *values: Any) -> list[Any]:
    """Runs a statement as a person with another client does."""
    with closing(sqlite3.connect(path)) as file, file:
        return file.execute(sql, values).fetchall()


def place(value: object) -> str:
    """Returns what stands for a value in a statement."""
    return "CAST(? AS TEXT)" if isinstance(value, Text) else "?"


def spoil(path: Path, ids: list[UUID]) -> None:
    """Spoils each task in one of the ways."""
    with closing(sqlite3.connect(path)) as file, file:
        for task_id, (column, value) in zip(ids, CASES, strict=True):
            file.execute(f"UPDATE fang_tasks SET {column} = {place(value)} WHERE id = ?", (value, task_id.bytes))


def left(path: Path) -> list[Any]:
    return execute(path, "SELECT state, count(*) FROM fang_tasks WHERE state <> 'failed' GROUP BY state")


def assert_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each row that was failed is named in an error of one line, and says why itself; none is told of twice."""
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    for id_, message in execute(path, "SELECT id, error_message FROM fang_tasks WHERE state = 'failed'"):
        name = str(UUID(bytes=id_)) if len(id_) == 16 else repr(id_.hex())
        assert message, name
        assert sum(name in line for line in errors) == 1, (name, errors)
    assert not [line for line in errors if "\n" in line or "Traceback" in line]
    assert "secret" not in caplog.text


@pytest.mark.parametrize("limited", [False, True], ids=["plain", "limited"])
@pytest.mark.parametrize("retention", [RetentionMode.REMOVE_FINISHED, RetentionMode.KEEP_ALL])
def test_threads_run_the_others(
    sqlite_path: Path, caplog: pytest.LogCaptureFixture, limited: bool, retention: RetentionMode
) -> None:
    with SqliteQueue(sqlite_path) as queue:
        if limited:
            queue.limits.set("spoiltrows.threaded", [Limit(1_000)])
        bad = queue.insert_tasks([SpoiltThreaded() for _ in CASES])
        queue.insert_tasks([SpoiltThreaded(n=n) for n in range(GOOD)])
        spoil(sqlite_path, [task.id for task in bad])
        pool = WorkerPool(queue, number_of_workers=4, task_type="spoiltrows.threaded", retention_mode=retention)
        pool.drain()
    assert SpoiltThreaded.ran >= {*range(GOOD)}
    assert {state for state, _ in left(sqlite_path)} <= {"finished", "cancelled"}
    assert_told(sqlite_path, caplog)


@pytest.mark.parametrize("limited", [False, True], ids=["plain", "limited"])
@pytest.mark.parametrize("retention", [RetentionMode.REMOVE_FINISHED, RetentionMode.KEEP_ALL])
async def test_asyncio_runs_the_others(
    sqlite_path: Path, caplog: pytest.LogCaptureFixture, limited: bool, retention: RetentionMode
) -> None:
    async with AsyncSqliteQueue(sqlite_path) as queue:
        if limited:
            await queue.limits.set("spoiltrows.async", [Limit(1_000)])
        bad = await queue.insert_tasks([SpoiltAsync() for _ in CASES])
        await queue.insert_tasks([SpoiltAsync(n=n) for n in range(GOOD)])
        spoil(sqlite_path, [task.id for task in bad])
        pool = AsyncWorkerPool(queue, number_of_workers=4, task_type="spoiltrows.async", retention_mode=retention)
        await pool.drain()
    assert SpoiltAsync.ran >= {*range(GOOD)}
    assert {state for state, _ in left(sqlite_path)} <= {"finished", "cancelled"}
    assert_told(sqlite_path, caplog)


def test_a_claim_takes_others_in_place_of_those_that_it_fails(sqlite_path: Path) -> None:
    file = opened(sqlite_path)
    pool, ids = register(file), [insert(file) for _ in range(8)]
    execute(sqlite_path, "UPDATE fang_tasks SET scheduled_at = rowid")
    for task_id in ids[:3]:
        execute(sqlite_path, "UPDATE fang_tasks SET headers = 'odd' WHERE id = ?", task_id.bytes)
    with file.writing() as tx:
        request = ClaimRequest(pool, ("common",), ("note",), 2)
        assert [task.id for task in claim(tx, request, look(tx, request)[1]).tasks] == ids[3:5]
    with SqliteQueue(sqlite_path) as queue:
        queue.limits.set("common", [Limit(10)])
    with file.writing() as tx:
        tx.run("UPDATE fang_tasks SET headers = 'odd' WHERE id IN (?, ?)", (ids[5].bytes, ids[6].bytes))
        claimed = claim_lanes(tx, LaneRequest(pool, "common", ("note",), 2))
        assert ([task.id for task in claimed.tasks], claimed.room) == (ids[7:], 2)
    file.close()


@pytest.mark.parametrize(("column", "value"), [(name, value) for name, each in REFUSED.items() for value in each])
def test_the_tables_refuse_other_types(sqlite_path: Path, column: str, value: object) -> None:
    with SqliteQueue(sqlite_path) as queue:
        queue.insert_task(SpoiltThreaded())
    with pytest.raises(sqlite3.IntegrityError):
        execute(sqlite_path, f"UPDATE fang_tasks SET {column} = ?", value)


# Rows of pools --------------------------------------------------------------------------------------------------------

OF_POOLS: Final = [
    ("fang_pools", "id", b"odd"),
    *(("fang_pools", name, "no JSON") for name in ("task_types", "kinds", "isolated_kinds", "runs")),
    *(("fang_pools", name, "[null, 3]") for name in ("task_types", "kinds", "isolated_kinds", "runs")),
    ("fang_tasks", "id", b"odd"),
    ("fang_tasks", "pool_id", b"odd"),
    *(("fang_pools", name, NO_UTF8) for name in ("task_types", "kinds", "isolated_kinds", "runs")),
    *(("fang_tasks", "errors", text) for text in (*JSON, NO_UTF8, NO_UTF8_JSON)),
    *(("fang_tasks", name, NO_UTF8) for name in ("kind", "task_type", "headers", "cancel_request", "lane")),
    *(("fang_tasks", name, value) for name in ("crashes", "scheduled_at", "attempt") for value in (LEAST, MOST)),
]


@pytest.mark.parametrize(("table", "column", "value"), OF_POOLS)
async def test_what_a_dead_pool_held_is_taken_back(sqlite_path: Path, table: str, column: str, value: object) -> None:
    file = opened(sqlite_path)
    dead, alive = register(file), register(file)
    ids = [insert(file) for _ in range(2)]
    for task_id in ids:
        hold(file, task_id, dead)
    key = "id" if table == "fang_pools" else "pool_id"
    where = f"rowid = (SELECT min(rowid) FROM fang_tasks WHERE {key} = ?)" if table == "fang_tasks" else f"{key} = ?"
    execute(sqlite_path, f"UPDATE {table} SET {column} = {place(value)} WHERE {where}", value, dead.bytes)
    heart = SqliteHeart(file, locks=True)
    beat = await heart.beat(BeatRequest(alive, False, []))
    await heart.rescue([pulse for pulse in beat.pulses if pulse.pool_id == dead])
    await heart.rescue_orphans(3)
    await heart.close()
    file.close()
    assert execute(sqlite_path, "SELECT count(*) FROM fang_tasks WHERE pool_id IS NOT NULL") == [(0,)]
    assert execute(sqlite_path, "SELECT count(*) FROM fang_pools") == [(1,)]


def test_what_a_pool_holds_and_does_not_know_is_given_back(sqlite_path: Path) -> None:
    file = opened(sqlite_path)
    pool = register(file)
    for column, value in CASES:
        task_id = insert(file)
        hold(file, task_id, pool)
        if column != "pool_id":
            execute(sqlite_path, f"UPDATE fang_tasks SET {column} = {place(value)} WHERE id = ?", value, task_id.bytes)
    with file.writing() as tx:
        assert reconcile(tx, pool, ()) == len(CASES)
    file.close()


def test_upkeep_goes_on_beside_spoilt_records_of_pools(sqlite_path: Path) -> None:
    file = opened(sqlite_path)
    pools = [register(file) for _ in JSON]
    insert(file)
    for pool, text in zip(pools, JSON, strict=True):
        execute(sqlite_path, "UPDATE fang_pools SET task_types = ?, kinds = ? WHERE id = ?", text, text, pool.bytes)
    with file.writing() as tx:
        assert unknown_kinds(tx, ["common"]) == ["note"]
        assert unserved_types(tx, tx.micros) == ["common"]
        assert not is_served(tx, pools, [("common", "note")])
        declare(tx, [Declaration("common", {"note": []})])
    file.close()


def test_tasks_get_lanes_though_the_place_is_spoilt_from_which_they_lack_them(sqlite_path: Path) -> None:
    file = opened(sqlite_path)
    for text in (*JSON, "[0, 0]", '[0, 0, "odd"]', "[null, null, null]"):
        insert(file)
        with file.writing() as tx:
            tx.run("INSERT OR REPLACE INTO fang_types VALUES ('common', '{}', 0, ?)", (text,))
            assert adopt(tx, ["common"], 1_000)
        assert execute(sqlite_path, "SELECT count(*) FROM fang_tasks WHERE lane IS NULL") == [(0,)]
    file.close()


@pytest.mark.parametrize("column", ["metadata", "errors", "headers", "cancel_request"])
def test_a_schedule_goes_on_though_the_task_of_its_last_tick_is_spoilt(sqlite_path: Path, column: str) -> None:
    with SqliteQueue(sqlite_path) as queue:
        queue.schedules.put("spoilt", SpoiltThreaded(), every=timedelta(hours=1), overlap="cancel_running")
        task = queue.schedules.run_now("spoilt")
        (info,) = queue.schedules.list()
        file = opened(sqlite_path)
        with file.writing() as tx:
            text = tx.row("SELECT info FROM fang_schedules")[0]
            last = schedule_from_json(text)._replace(last_task_id=task.id)
            tx.run("UPDATE fang_schedules SET info = ?", (schedule_as_json(last),))
        file.close()
        execute(sqlite_path, f"UPDATE fang_tasks SET {column} = 'odd' WHERE id = ?", task.id.bytes)
        queue.schedules.pause("spoilt")
        queue.schedules.resume("spoilt")
        ticks = (info.last_tick - timedelta(hours=3), info.last_tick)
        assert queue.schedules.backfill("spoilt", *ticks, overlap="cancel_running") > 0
    states = execute(sqlite_path, f"SELECT state, {column} FROM fang_tasks WHERE id = ?", task.id.bytes)
    assert states[0][0] == "cancelled"
    assert column not in ("metadata", "headers") or states[0][1] == "odd"


def test_upkeep_and_completions_go_on_beside_text_that_is_no_utf8(sqlite_path: Path) -> None:
    file = opened(sqlite_path)
    pool = register(file)
    ids = {column: insert(file) for column in ("kind", "task_type")}
    held = [insert(file) for _ in range(4)]
    names = ("headers", "errors", "error_message", "cancel_request")
    for column, task_id in (*ids.items(), *zip(names, held, strict=True)):
        execute(sqlite_path, f"UPDATE fang_tasks SET {column} = CAST(x'ff41' AS TEXT) WHERE id = ?", task_id.bytes)
        if column in names:
            hold(file, task_id, pool)
    with file.reading() as tx:
        assert waiting_types(tx, 100) == {"common": True, "\ufffdA": True}
        assert unserved_types(tx, tx.micros) == ["\ufffdA"]
        assert unknown_kinds(tx, ["common"]) == ["\ufffdA"]
        assert [each.id for each in list_pools(tx)] == [pool]
        outcomes = [Outcome(row[0], row[1], TaskState.FAILED) for row in _held(tx, pool)]
    with file.writing() as tx:
        assert complete(tx, pool, outcomes) == {*held}
    file.close()


def _held(tx: Transaction, pool: UUID) -> list[tuple[UUID, int]]:
    found = tx.rows("SELECT id, attempt FROM fang_tasks WHERE pool_id = ?", (pool.bytes,))
    return [(UUID(bytes=id_), attempt) for id_, attempt in found]


def test_an_error_does_not_show_text_that_cannot_be_decoded(sqlite_path: Path) -> None:
    with SqliteQueue(sqlite_path) as queue:
        task = queue.insert_task(SpoiltThreaded())
        execute(sqlite_path, "UPDATE fang_tasks SET metadata = CAST(x'ff736563726574' AS TEXT)")
        with pytest.raises(UnreadablePayload, match="cannot be read: UnicodeError") as raised:
            queue.find_task_by_id(task.id)
    assert "secret" not in str(raised.value)


# Schedules ------------------------------------------------------------------------------------------------------------

TICKED: Final[SimpleQueue[str]] = SimpleQueue()
SECOND: Final = timedelta(seconds=1)
BAD_INFO: Final = ("no JSON", "{}", "null", Text(b'{"name":"\xff"}'))
WAIT: Final = 60.0


class SpoiltTick(Runnable):
    task_config = TaskConfig(kind="spoiltrows.Tick", task_type="spoiltrows.threaded")
    name: str

    def run(self, queue: Queueable) -> None:
        TICKED.put(self.name)


class SpoiltAsyncTick(AsyncRunnable):
    task_config = TaskConfig(kind="spoiltrows.AsyncTick", task_type="spoiltrows.async")
    name: str

    async def run(self, queue: Any) -> None:
        TICKED.put(self.name)


class SpoiltCron(Runnable):
    task_config = TaskConfig(kind="spoiltrows.Cron", task_type="spoiltrows.cron", cron=Cron("* * * * *"))

    def run(self, queue: Queueable) -> None:
        """Does nothing."""


def spoil_schedules(path: Path) -> list[str]:
    """Spoils the row of each schedule but the good one; returns the names of these."""
    names = [f"bad{n}" for n in range(len(BAD_INFO))]
    for name, info in zip(names, BAD_INFO, strict=True):
        execute(path, f"UPDATE fang_schedules SET info = {place(info)} WHERE name = ?", info, name)
    return names


def assert_left_out(names: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """Each schedule is named in one line, and no turn has failed."""
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [sum(f"'{name}'" in line for line in lines) for name in names] == [1] * len(names)
    assert len(lines) == len(names)


def test_threads_tick_the_other_schedules(sqlite_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with SqliteQueue(sqlite_path) as queue:
        for name in ("good", *(f"bad{n}" for n in range(len(BAD_INFO)))):
            queue.schedules.put(name, SpoiltTick(name=name), every=SECOND)
        names = spoil_schedules(sqlite_path)
        with WorkerPool(queue, number_of_workers=1, task_type="spoiltrows.threaded"):
            assert [TICKED.get(timeout=WAIT) for _ in range(2)] == ["good"] * 2
    assert_left_out(names, caplog)


async def test_asyncio_ticks_the_other_schedules(sqlite_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with AsyncSqliteQueue(sqlite_path) as queue:
        for name in ("good", *(f"bad{n}" for n in range(len(BAD_INFO)))):
            await queue.schedules.put(name, SpoiltAsyncTick(name=name), every=SECOND)
        names = spoil_schedules(sqlite_path)
        async with AsyncWorkerPool(queue, number_of_workers=1, task_type="spoiltrows.async"):
            assert [await asyncio.to_thread(TICKED.get, timeout=WAIT) for _ in range(2)] == ["good"] * 2
    assert_left_out(names, caplog)


async def test_a_class_whose_schedule_is_spoilt_makes_no_tick(
    sqlite_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = "spoiltrows.Cron"
    async with AsyncSqliteQueue(sqlite_path) as queue:
        store = await queue.store()
        tick = tick_of(SpoiltCron(), datetime(2030, 1, 1, tzinfo=UTC), queue.rules)
        await store.read_schedules([name])
        execute(sqlite_path, "UPDATE fang_schedules SET info = 'no JSON' WHERE name = ?", name)
        await store.declare_schedules({name: {}, "other": {}}, [])
        state = await store.read_schedules([name, "other"])
        assert state.last_ticks[name] == LATEST
        assert state.last_ticks["other"] <= state.now
        assert (await store.read_schedules([name], (), state.version)).last_ticks == {name: LATEST}
        assert not await store.tick(tick)
        assert await store.tick_stored(tick) is Verdict.STALE
        await store.close()
    assert_left_out([name], caplog)


class SpoiltLimited(Runnable):
    task_config = TaskConfig(kind="spoiltrows.Limited", task_type="spoiltrows.limited", limits=[Limit(1)])

    def run(self, queue: Queueable) -> None:
        TICKED.put("limited")


def test_a_pool_starts_and_runs_others_though_what_holds_for_one_of_its_types_cannot_be_read(
    sqlite_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    types = ("spoiltrows.threaded", "spoiltrows.limited")
    with SqliteQueue(sqlite_path) as queue:
        with WorkerPool(queue, number_of_workers=1, task_type=types):
            pass
        queue.insert_task(SpoiltLimited())
        ((good,),) = execute(sqlite_path, "SELECT managed FROM fang_types")
        execute(sqlite_path, "UPDATE fang_types SET managed = 'no JSON'")
        with WorkerPool(queue, number_of_workers=1, task_type=types):
            queue.insert_task(SpoiltTick(name="other"))
            assert TICKED.get(timeout=WAIT) == "other"
            execute(sqlite_path, "UPDATE fang_types SET managed = ?", good)
            assert TICKED.get(timeout=WAIT) == "limited"
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert 1 <= sum("'spoiltrows.limited' in fang_types cannot be read" in line for line in lines) <= 4
