"""A slot is free in the next claim, whatever ends the run that had it; pauses and changes of limits under load."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from fang_core import Limit
from fang_core.backends.claims import LaneRequest
from fang_core.backends.pools import Declaration
from fang_core.errors import RowsLocked
from fang_core.lifecycle import Outcome
from fang_core.liveness import Pulse
from fang_core.record import ClaimedTask, TaskState
from tests.modes import Database, Harness
from tests.postgres.test_lanes import OTHER, POOL, Flow

SOON = timedelta(hours=1)


class Held:
    """A task that a pool holds in the only slot of its type, while another one waits."""

    def __init__(self, harness: Harness, url: str, database: Database, settings: dict[str, int]) -> None:
        self.call = harness.call
        self.queue = harness.queue(url)
        self.store = harness.call(self.queue.store)
        self.flow = Flow(database)
        self.flow.settings(**settings)
        self.first, self.second = self.flow.insert("a", 2)
        (self.task,) = self.claim()
        assert self.task.id == self.first
        assert not self.claim()

    def claim(self, pool_id: UUID = POOL) -> list[ClaimedTask]:
        request = LaneRequest(pool_id, "common", ("A",), 10)
        tasks: list[ClaimedTask] = self.call(self.store.claim_lanes, request).tasks
        return tasks

    def complete(self, state: TaskState | None, **outcome: Any) -> None:
        written = Outcome(self.first, self.task.attempt, state, **outcome)
        assert self.call(self.store.complete, POOL, [written]) == {self.first}

    def by_hand(self, method: str, *arguments: Any) -> None:
        task = self.call(self.queue.find_task_by_id, self.first)
        self.call(getattr(self.queue, method), task, *arguments)

    def rescue(self) -> None:
        heart = self.store.heart(True)
        [(beats,)] = self.flow.database.rows("SELECT beats FROM fang.fang_pools WHERE id = %s", POOL)
        assert len(self.call(heart.rescue, [Pulse(POOL, beats, False, False, SOON)])) == 1
        self.call(heart.close)
        self.put_off()

    def give_back(self) -> None:
        assert self.call(self.store.reconcile, POOL, ()) == 1
        self.put_off()

    def put_off(self) -> None:
        later = "UPDATE fang.fang_tasks SET scheduled_at = now() + interval '1 hour' WHERE id = %s"
        self.flow.database.execute(later, self.first)


ENDS: dict[str, Callable[[Held], None]] = {
    "removed": lambda held: held.complete(None),
    "finished": lambda held: held.complete(TaskState.FINISHED),
    "failed": lambda held: held.complete(TaskState.FAILED, error_message="no"),
    "retried": lambda held: held.complete(TaskState.RETRIED, delay=SOON, charge=1),
    "snoozed": lambda held: held.complete(TaskState.NEW, delay=SOON),
    "cancelled": lambda held: held.complete(TaskState.CANCELLED, error_message="withdrawn"),
    "cancelled by hand": lambda held: held.by_hand("update_task_state", TaskState.CANCELLED),
    "failed by hand": lambda held: held.by_hand("fail_task", "no"),
    "retried by hand": lambda held: held.by_hand("schedule_retry", SOON, "no"),
    "removed by hand": lambda held: held.call(held.queue.remove_task, held.first),
    "removed by its state": lambda held: held.flow.database.execute(
        "DELETE FROM fang.fang_tasks WHERE state = 'in_progress'"
    ),
    "rescued": Held.rescue,
    "given back": Held.give_back,
}


@pytest.mark.parametrize("settings", [{"max_running": 1}, {"max_running_per_key": 1}], ids=["type", "key"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_its_slot_is_free_in_the_next_claim(
    harness: Harness, url: str, database: Database, settings: dict[str, int], end: Callable[[Held], None]
) -> None:
    held = Held(harness, url, database, settings)
    end(held)
    assert [task.id for task in held.claim(OTHER)] == [held.second]
    harness.call(held.store.close)


@contextmanager
def working(work: Callable[[UUID], None]) -> Iterator[Callable[[Callable[[], Any]], None]]:
    """Two pools do some ``work`` again and again, until the block ends; yields what waits until something is so.

    What a pool's work raises ends the wait and the block: a pool that has ended would be waited for, and its tasks held
    for ever.
    """
    stop = threading.Event()

    def go_on(pool_id: UUID) -> None:
        while not stop.is_set():
            work(pool_id)

    with ThreadPoolExecutor(2) as executor:
        pools = [executor.submit(go_on, pool_id) for pool_id in (POOL, OTHER)]

        def until(holds: Callable[[], Any]) -> None:
            while not holds():
                for pool in wait(pools, 0.001, FIRST_COMPLETED).done:
                    pool.result()

        try:
            yield until
        finally:
            stop.set()
        for pool in pools:
            pool.result()


def test_no_claim_that_begins_in_a_pause_takes_anything(harness: Harness, url: str, database: Database) -> None:
    """While two claim and the type is paused and resumed; a claim counts that has ended before the type is resumed."""
    flow = Flow(database)
    flow.settings(max_running_per_key=1_000)
    flow.insert("a", 400)
    stores = {pool_id: harness.call(harness.queue(url).store) for pool_id in (POOL, OTHER)}
    claimed: list[tuple[Any, float, int]] = []

    def work(pool_id: UUID) -> None:
        claim = harness.call(stores[pool_id].claim_lanes, LaneRequest(pool_id, "common", ("A",), 1))
        claimed.append((claim.now, time.monotonic(), len(claim.tasks)))

    def taken() -> int:
        return sum(count for *_, count in claimed)

    pauses = []
    with working(work) as until:
        for _ in range(10):
            database.execute("UPDATE fang.fang_types SET paused = true")
            [(begin,)] = database.rows("SELECT clock_timestamp()")
            before = len(claimed)
            until(lambda before=before: len(claimed) >= before + 10)
            pauses.append((begin, time.monotonic()))
            database.execute("UPDATE fang.fang_types SET paused = false")
            before = taken()
            until(lambda before=before: taken() >= before + 5 or before >= 350)
    for store in stores.values():
        harness.call(store.close)
    in_pauses = [count for now, ended, count in claimed for begin, end in pauses if begin < now and ended < end]
    assert len(in_pauses) >= 50
    assert sum(in_pauses) == 0
    assert taken() > 50


def test_limits_hold_while_they_are_changed_under_load(harness: Harness, url: str, database: Database) -> None:
    """A trigger counts with a snapshot of its own in each claim: five of a key, then three in all, then both, and back.

    What it counts is compared with the limits that hold for the claim. Some rows have no lane at first: the type was
    managed before, so that the changes leave them to the pools, which adopt them meanwhile.
    """
    Flow(database)
    queue = harness.queue(url)
    store = harness.call(queue.store)
    by_n = {"fair": True, "by": "n"}
    harness.call(store.declare, [Declaration("common", {"A": [by_n]})])
    database.execute(COUNTER)
    database.execute(
        "INSERT INTO fang.fang_tasks (metadata, lane)"
        " SELECT '{\"type\": \"A\"}', CASE WHEN n %% 5 > 0 THEN 'k' || n %% 5 END FROM generate_series(1, 3000) n"
    )
    stores = {pool_id: harness.call(harness.queue(url).store) for pool_id in (POOL, OTHER)}
    after_lane = dict.fromkeys(stores, "")
    ran = dict.fromkeys(stores, 0)

    def work(pool_id: UUID) -> None:
        request = LaneRequest(pool_id, "common", ("A",), 4, after_lane[pool_id])
        claim = harness.call(stores[pool_id].claim_lanes, request)
        after_lane[pool_id] = claim.after_lane or after_lane[pool_id]
        ran[pool_id] += len(claim.tasks)
        for task in claim.tasks:
            complete(pool_id, Outcome(task.id, task.attempt, None))

    def complete(pool_id: UUID, outcome: Outcome) -> None:
        """Writes it as a completer does: a claim whose snapshot is older than this one's may have locked the row."""
        while True:
            try:
                assert harness.call(stores[pool_id].complete, pool_id, [outcome]) == {outcome.id}
            except RowsLocked:
                continue
            return

    def adopt() -> bool:
        """As the maintenance of a pool does. Returns whether it has come to the end."""
        is_over: bool = harness.call(store.adopt, ["common"], 100)
        return is_over

    def has_run(count: int) -> bool:
        adopt()
        return sum(ran.values()) >= count

    changes = [[Limit(5, by="n")], [Limit(3)], [Limit(4), Limit(2, by="n")], [Limit(2, by="n")], [Limit(1)]]
    with working(work) as until:
        for rules in changes:
            harness.call(queue.limits.set, "common", rules)
            until(partial(has_run, sum(ran.values()) + 30))
        until(adopt)
    for each in (store, *stores.values()):
        harness.call(each.close)
    assert database.rows("SELECT * FROM public.excess") == []
    assert database.rows("SELECT count(*) FROM fang.fang_tasks WHERE lane IS NULL") == [(0,)]
    assert database.rows("SELECT count(*) < 600 FROM fang.fang_tasks WHERE lane = ''") == [(True,)]  # adopted ones ran
    assert database.rows("SELECT count(*) FROM fang.fang_tasks") == [(3_000 - sum(ran.values()),)]


COUNTER = """
CREATE TABLE public.excess (what text, n int, most int);
CREATE FUNCTION public.count_running() RETURNS trigger LANGUAGE plpgsql VOLATILE AS $$
DECLARE s record; n int; r record;
BEGIN
    IF NOT EXISTS (SELECT FROM new WHERE claimed_at = now()) THEN RETURN NULL; END IF;  -- nothing started
    SELECT * INTO s FROM fang.fang_types WHERE task_type = 'common';
    SELECT count(*) INTO n FROM fang.fang_tasks WHERE task_type = 'common' AND state = 'in_progress';
    IF n > s.max_running THEN INSERT INTO public.excess VALUES ('all', n, s.max_running); END IF;
    FOR r IN SELECT lane, count(*) AS n FROM fang.fang_tasks
        WHERE task_type = 'common' AND state = 'in_progress'
            AND lane IN (SELECT lane FROM new WHERE claimed_at = now())  -- others may have begun under another limit
        GROUP BY lane HAVING count(*) > s.max_running_per_key LOOP
        INSERT INTO public.excess VALUES (r.lane, r.n, s.max_running_per_key);
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER count_running AFTER UPDATE ON fang.fang_tasks REFERENCING NEW TABLE AS new
    FOR EACH STATEMENT EXECUTE FUNCTION public.count_running();
"""


def test_the_counter_sees_an_excess(database: Database) -> None:
    flow = Flow(database)
    flow.settings(max_running=5, max_running_per_key=1)
    database.execute(COUNTER)
    flow.insert("a", 6)
    database.execute("UPDATE fang.fang_tasks SET state = 'in_progress', claimed_at = now()")
    assert database.rows("SELECT * FROM public.excess ORDER BY what") == [("a", 6, 1), ("all", 6, 5)]


def test_the_counter_leaves_out_keys_of_which_nothing_starts(database: Database) -> None:
    """What runs of them may have begun before the limit was lowered."""
    flow = Flow(database)
    flow.settings(max_running_per_key=2)
    flow.insert("a", 2)
    assert len(flow.claim().tasks) == 2
    database.execute("UPDATE fang.fang_types SET max_running_per_key = 1")
    database.execute(COUNTER)
    flow.insert("b")
    assert len(flow.claim().tasks) == 1
    assert database.rows("SELECT * FROM public.excess") == []
