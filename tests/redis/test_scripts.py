"""What scripts may not do: stop half way, write when the memory is full and pools need them not to, be unknown."""

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any
from uuid import uuid4

import pytest
import redis

from fang_core import BackendError, Every, Overlap, TaskState, TwinExists, Unique
from fang_core.conformance.tasks import ThreadedNote, ThreadedYearlyNote
from fang_core.tasks.insertion import in_chunks
from fang_redis import RedisQueue
from fang_redis.connections.connecting import server_of
from fang_redis.connections.links import Links
from fang_redis.connections.runner import Runner
from fang_redis.connections.sending import NO_TASK, ScheduleWrite, Sending, Write, Written
from fang_redis.layout import MOST_ROWS, Keys
from fang_redis.operations import Operation, Verb, script
from fang_redis.tasks import inserting
from fang_threaded import WorkerPool
from tests.redisserver import RedisServer

MANY = 2 * MOST_ROWS + 1
"""Tasks that take three scripts."""


@pytest.fixture
def queue(redis_url: str) -> Iterator[RedisQueue]:
    with RedisQueue(redis_url) as queue:
        yield queue


@pytest.fixture
def full() -> Iterator[RedisServer]:
    """A server with a limit of memory, which a test may lower."""
    with RedisServer({"maxmemory": "100mb"}) as server:
        yield server


def fill(server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("maxmemory", 1)


def notes(count: int) -> list[ThreadedNote]:
    return [ThreadedNote(n=n) for n in range(count)]


# Texts ----------------------------------------------------------------------------------------------------------------

NAMES = sorted(each.name.removesuffix(".lua") for each in (files("fang_redis") / "scripts").iterdir())


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"prelude"}))
def test_a_script_has_what_it_uses_of_the_prelude_and_has_it_first(name: str) -> None:
    prelude = (files("fang_redis") / "scripts" / "prelude.lua").read_text()
    code = re.sub("--.*", "", script(name).text)
    for names in re.findall(r"(?m)^local (?:function )?([\w, ]+)", prelude):
        for defined in re.findall(r"\w+", names):
            first = re.search(rf"(?m)^.*?\b{defined}\b", code)
            assert first is None or first[0].startswith("local ")


# Inserts of several scripts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, MOST_ROWS, MANY - 1])
def test_of_many_tasks_none_is_inserted_if_any_of_them_is_refused(queue: RedisQueue, place: int) -> None:
    tasks, once = notes(MANY), Unique(on_conflict="raise")
    there = queue.insert_task(tasks[place], uniq=once)
    with pytest.raises(TwinExists, match=str(there.id)):
        queue.insert_tasks(tasks, uniq=once)
    assert queue.count_tasks().count == 1


def test_of_many_tasks_those_that_are_there_are_returned_in_their_places(queue: RedisQueue) -> None:
    tasks = notes(MANY)
    there = {n: queue.insert_task(tasks[n], uniq=True).id for n in (3, MOST_ROWS + 3, MANY - 1)}
    rows = queue.insert_tasks(tasks, uniq=True)
    assert [row.metadata["n"] for row in rows] == list(range(MANY))
    assert {n: row.id for n, row in enumerate(rows) if row.conflict} == there
    assert queue.count_tasks().count == MANY


def test_a_task_that_a_later_script_of_the_insert_replaces_is_returned_as_it_is_then(queue: RedisQueue) -> None:
    by_n = Unique(by="n", on_conflict="replace")
    tasks = [*notes(MANY), ThreadedNote(n=0, ending="fail")]
    first, *_, last = queue.insert_tasks(tasks, uniq=by_n)
    assert (first.id, first.conflict, last.conflict) == (last.id, False, True)
    assert first.metadata["ending"] == last.metadata["ending"] == "fail"


def test_many_large_tasks_are_sent_in_smaller_scripts() -> None:
    limit = inserting._MOST_CHARS
    rows = [row._replace(metadata="x" * (limit // 3)) for row in _rows(5)]
    assert [len(chunk) for chunk in in_chunks(rows, most_rows=MOST_ROWS, most_chars=limit)] == [3, 2]


def _rows(count: int) -> list[inserting.NewTask]:
    return [inserting.NewTask(uuid4(), "", "kind", ()) for _ in range(count)]


# A server that knows no script ----------------------------------------------------------------------------------------


def test_a_server_that_has_forgotten_the_scripts_gets_them_again(queue: RedisQueue, redis_client: redis.Redis) -> None:
    for count in (1, MANY):
        redis_client.script_flush()
        queue.insert_tasks(notes(count), uniq=Unique(on_conflict="raise"))
        redis_client.script_flush()
        assert queue.remove_all_tasks() == count


# A server whose memory is full ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, MANY])
def test_when_the_memory_is_full_inserts_are_refused_whole(full: RedisServer, count: int) -> None:
    with RedisQueue(full.url) as queue:
        fill(full)
        with pytest.raises(BackendError, match="maxmemory"):
            queue.insert_tasks(notes(count))
        assert queue.count_tasks().count == 0


def test_when_the_memory_is_full_tasks_are_claimed_moved_cancelled_and_removed(full: RedisServer) -> None:
    with RedisQueue(full.url) as queue:
        running, ended, waiting, *_ = queue.insert_tasks(notes(4))
        assert queue.fetch_and_touch_task() == queue.find_task_by_id(running.id)  # the queue's own pool is registered
        fill(full)
        held = queue.fetch_and_touch_task()
        assert held is not None
        assert held.id == ended.id
        assert queue.update_task_state(held, TaskState.FAILED).state is TaskState.FAILED
        for task in (running, waiting):
            assert queue.cancel_task(task.id) is not None
        assert queue.remove_task(held.id) == 1
        assert queue.remove_all_tasks() == 3


def test_when_the_memory_is_full_tasks_of_ticks_and_of_other_queues_are_refused_as_well(full: RedisServer) -> None:
    with RedisQueue(full.url) as queue:
        queue.schedules.put("hourly", ThreadedNote(n=1), every=Every(timedelta(hours=1)))
        task = queue.insert_task(ThreadedNote(n=1))
        parcels = queue.moving.read([task.id])
        queue.remove_task(task.id)
        fill(full)
        with pytest.raises(BackendError, match="maxmemory"):
            queue.schedules.run_now("hourly")
        with pytest.raises(BackendError, match="maxmemory"):
            queue.moving.put(parcels)
        until = datetime.now(UTC)
        with pytest.raises(BackendError, match="maxmemory"):
            queue.schedules.backfill("hourly", until - timedelta(hours=1), until, overlap=Overlap.SKIP)
        assert queue.count_tasks().count == 0


def test_when_the_memory_is_full_a_pool_that_starts_runs_what_waits(full: RedisServer) -> None:
    assert ThreadedYearlyNote.__fang_options__.cron is not None  # a schedule, which the pool declares
    with RedisQueue(full.url) as queue:
        queue.insert_tasks(notes(20))
        fill(full)
        assert WorkerPool(queue, number_of_workers=2).drain() == 20
        with WorkerPool(queue, number_of_workers=2) as pool:
            assert [info.id for info in queue.pools()] == [pool.id]


def test_a_schedule_that_has_changed_since_it_was_read_is_not_written_nor_the_task_of_its_tick(
    queue: RedisQueue, redis_url: str
) -> None:
    task = queue.insert_task(ThreadedNote(n=1))
    queue.remove_task(task.id)
    sending = Sending(Keys("fang"))

    def sent(operation: Operation[Any]) -> Verb[Any]:
        return (yield from operation)

    with closing(Links(server_of(redis_url))) as links:

        def write(read: str, after: str, *writes: Write) -> Written:
            written: Written = Runner(links).run(sent(sending.write(writes, ScheduleWrite("nightly", read, after))))
            return written

        def row() -> Any:
            return links.send([("HGET", "{fang}:schedules", "nightly")])[0]

        assert write("", "first").is_done
        for read, after in (("", "second"), ("other", "second"), ("other", "")):
            assert write(read, after, Write(None, task)).stale == NO_TASK
            assert (row(), queue.find_task_by_id(task.id)) == ("first", None)
        assert write("first", "second", Write(None, task)).is_done
        assert (row(), queue.find_task_by_id(task.id)) == ("second", task)


# Schedules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", list(Overlap))
def test_a_backfill_of_one_tick_cancels_and_inserts_in_one_script(
    queue: RedisQueue, monkeypatch: pytest.MonkeyPatch, overlap: Overlap
) -> None:
    began = datetime.now(UTC)
    queue.schedules.put("hourly", ThreadedNote(n=1), every=Every(timedelta(hours=1), began - timedelta(hours=9)))
    sent: list[str] = []
    send, names = Links.send, {script(name).sha: name for name in ("insert", "write")}

    def noted(self: Links, commands: Any) -> Any:
        sent.extend(names[command[1]] for command in commands if command[1] in names)
        return send(self, commands)

    monkeypatch.setattr(Links, "send", noted)
    args = ("hourly", began - timedelta(hours=3, minutes=30), began - timedelta(hours=2, minutes=30))
    assert queue.schedules.backfill(*args, overlap=overlap) == 1
    assert sent == ["insert" if overlap is Overlap.ALLOW else "write"]
    assert queue.schedules.backfill(*args, overlap=overlap) == 0
    assert queue.count_tasks().count == 1


# Rows that another client has spoilt ----------------------------------------------------------------------------------

FIELDS_SPOILT = ("n", "p", "d", "u", "T", "k", "a", "c", "r", "L", "s")


@pytest.fixture(
    params=[*(f"without {each}" for each in FIELDS_SPOILT), *(f"odd {each}" for each in FIELDS_SPOILT), "string"]
)
def spoilt(request: pytest.FixtureRequest, queue: RedisQueue, redis_client: redis.Redis) -> int:
    """Five tasks, of which the third one is spoilt; returns how many the others are."""
    rows = queue.insert_tasks(notes(5))
    key, (how, _, field) = Keys("fang").task(rows[2].id), request.param.partition(" ")
    if how == "string":
        redis_client.delete(key)
        redis_client.set(key, "spoilt")
    elif how == "odd":
        redis_client.hset(key, field, "odd")
    else:
        redis_client.hdel(key, field)
    return len(rows) - 1


def test_a_spoilt_row_keeps_none_of_the_others_from_being_removed(queue: RedisQueue, spoilt: int) -> None:
    assert queue.remove_all_tasks() >= spoilt
    assert queue.insert_task(ThreadedNote(n=9)).conflict is False
    assert queue.remove_all_tasks() >= 1


def test_a_spoilt_row_keeps_none_of_the_others_from_being_run(queue: RedisQueue, spoilt: int) -> None:
    assert WorkerPool(queue, number_of_workers=2).drain() >= spoilt
    assert queue.remove_all_tasks() <= 1
