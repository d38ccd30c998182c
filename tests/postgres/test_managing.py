"""Limits and pauses that are changed while pools claim: what was under way, what was there before, who else changes."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from fang_async import AsyncWorkerPool
from fang_core.backends.claims import ClaimRequest, LaneRequest
from fang_core.backends.pools import Declaration, manual_pool
from fang_core.errors import DefinitionError
from fang_core.flow.limits import Fair, FlowRule, Limit, Rate, rules_as_json
from fang_core.record import ClaimedTask
from fang_core.tasks.runnable import TaskConfig
from fang_postgres import managing
from fang_postgres.managing import declare, list_types
from fang_postgres.operations import Operations
from fang_postgres.statement import Operation
from fang_threaded import Queue, WorkerPool
from fang_threaded.database import run_on, run_script
from tests.modes import GATES, Database, Harness, eventually, ran
from tests.patience import PATIENT
from tests.postgres.claiming import claim_lanes

OPS: Final = Operations("fang")
KIND: Final = "tests.Claimed"
TYPE: Final = "exports"

INSERT: Final = """
    INSERT INTO fang.fang_tasks (metadata, task_type, lane, scheduled_at)
    SELECT '{"type": "tests.Claimed"}', 'exports', %s, now() - interval '1 hour' FROM generate_series(1, %s)
"""


class Claimer:
    """A pool that claims tasks of the type, on a connection of its own, as a pool does: plainly, or in lanes."""

    def __init__(self, url: str, *, autocommit: bool = True) -> None:
        self.connection = psycopg.connect(url, autocommit=autocommit)
        self.id = uuid4()
        run_on(self.connection, OPS.register(manual_pool(self.id)))
        if not autocommit:
            self.connection.commit()
        self.after_lane = ""

    def claim(self, limit: int = 5) -> tuple[datetime, list[ClaimedTask]]:
        """Returns when the claim began, and what it took."""
        plain = run_on(self.connection, OPS.claim(ClaimRequest(self.id, (TYPE,), (KIND,), limit, {})))
        if TYPE not in plain.managed:
            return plain.now, plain.tasks
        assert not plain.tasks
        lanes = claim_lanes(self.connection, LaneRequest(self.id, TYPE, (KIND,), limit, self.after_lane), OPS)
        self.after_lane = lanes.after_lane or ""
        return lanes.now, lanes.tasks

    def end(self, tasks: list[ClaimedTask]) -> None:
        self.connection.execute("DELETE FROM fang.fang_tasks WHERE id = ANY (%s)", [[task.id for task in tasks]])

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
def claimer(url: str) -> Iterator[Claimer]:
    made = Claimer(url)
    yield made
    made.close()


@contextmanager
def working(url: str, claimers: int, seen: Callable[[datetime, list[ClaimedTask]], Any]) -> Iterator[None]:
    """Claimers claim and end tasks all the time, until the block ends; ``seen`` is called for each claim."""
    over = threading.Event()

    def work(claimer: Claimer, chance: random.Random) -> None:
        while not over.is_set():
            began, tasks = claimer.claim(chance.randint(1, 5))
            seen(began, tasks)
            over.wait(chance.random() / 200)
            claimer.end(tasks)

    with ThreadPoolExecutor(claimers) as executor, ExitStack() as stack:
        made = [Claimer(url) for _ in range(claimers)]
        for each in made:
            stack.callback(each.close)
        futures = [executor.submit(work, each, random.Random(number)) for number, each in enumerate(made)]
        try:
            yield
        finally:
            over.set()
            for future in futures:
                future.result(PATIENT)


def settling(database: Database) -> bool:
    """Whether nothing of the type starts just now, since its limits change."""
    return bool(database.rows("SELECT 1 FROM fang.fang_types WHERE settling_until > clock_timestamp()"))


# What is under way ----------------------------------------------------------------------------------------------------


def test_a_claim_that_is_under_way_has_ended_before_a_limit_holds(
    harness: Harness, url: str, database: Database, claimer: Claimer
) -> None:
    database.execute(INSERT, None, 20)
    slow = Claimer(url, autocommit=False)
    _, tasks = slow.claim()
    assert len(tasks) == 5

    change = harness.begin(harness.queue(url).limits.set, TYPE, [Limit(6)])
    eventually(lambda: settling(database))
    assert claimer.claim()[1] == []  # it would be one of those who do not see the five
    assert not change.done()
    slow.connection.commit()
    slow.close()

    info = change.result(PATIENT)
    assert (info.settings.max_running, info.running) == (6, 5)
    assert not settling(database)
    assert len(claimer.claim()[1]) == 1
    assert claimer.claim()[1] == []


def test_who_stays_in_a_transaction_holds_a_change_up_for_a_bounded_time(
    harness: Harness, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managing, "_LONGEST_POLLS", 3)
    with psycopg.connect(url) as dump:
        dump.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        dump.execute("SELECT 1 FROM fang.fang_tasks")
        info = harness.call(harness.queue(url).limits.set, TYPE, [Limit(6)])
    assert info.settings.max_running == 6


def test_sessions_that_hide_what_they_do_are_told_of(url: str, database: Database) -> None:
    """A role sees no transactions of others, and so not whether a claim is under way."""

    def hidden_since(moment: datetime) -> int:
        _, hidden = run_on(database.connection, OPS.older_statements(moment))
        return hidden

    name = sql.Identifier(f"t_{uuid4().hex}")
    database.connection.execute(sql.SQL("CREATE ROLE {}").format(name))
    try:
        database.connection.execute(sql.SQL("SET ROLE {}").format(name))
        (now,) = database.rows("SELECT clock_timestamp()")[0]
        eventually(lambda: hidden_since(now) == 0)  # sessions that end, and the server's own, are hidden as well
        with psycopg.connect(url):
            assert hidden_since(now) >= 1
    finally:
        database.connection.execute("RESET ROLE")
        database.connection.execute(sql.SQL("DROP ROLE {}").format(name))


OVER: Final = """
    CREATE TABLE over (started integer, allowed integer);
    CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql VOLATILE AS $$
        DECLARE running integer; allowed integer;
        BEGIN
            -- Both by one snapshot: between two the limit may be removed, and others start.
            SELECT (SELECT max_running FROM fang.fang_types WHERE task_type = 'exports'), count(*)
                INTO allowed, running FROM fang.fang_tasks WHERE task_type = 'exports' AND state = 'in_progress';
            IF running > allowed THEN INSERT INTO over VALUES (running, allowed); END IF;
            RETURN NULL;
        END $$;
    CREATE TRIGGER counted AFTER UPDATE OF state ON fang.fang_tasks FOR EACH ROW
        WHEN (OLD.state IN ('new', 'retried') AND NEW.state = 'in_progress') EXECUTE FUNCTION counted();
"""


def test_limits_that_come_and_go_under_load_are_never_exceeded(harness: Harness, url: str, database: Database) -> None:
    """Each claim counts, at its end, what runs by then, and compares it with the limit that holds by then."""
    database.execute(INSERT, None, 4_000)
    database.execute(OVER)
    queue = harness.queue(url)
    claimed = [0]

    def seen(_: datetime, tasks: list[ClaimedTask]) -> None:
        claimed[0] += len(tasks)

    with working(url, 4, seen):
        for rules in ([Limit(3)], [Limit(3), Rate(500, burst=50)], [Limit(4)]) * 2:
            harness.call(queue.limits.set, TYPE, rules)
            before = claimed[0]
            eventually(lambda: claimed[0] > before + 5)  # noqa: B023 - called at once
            harness.call(queue.limits.remove, TYPE)
            before = claimed[0]
            eventually(lambda: claimed[0] > before + 5)  # noqa: B023
    assert database.rows("SELECT * FROM over") == []


# Pause ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", [[], [Fair("tenant")]], ids=["unlimited", "fair"])
def test_a_claim_that_starts_after_a_pause_takes_nothing(
    harness: Harness, url: str, database: Database, rules: list[FlowRule]
) -> None:
    database.execute(INSERT, "" if rules else None, 4_000)
    run_script_of(database, declare(OPS, [Declaration(TYPE, {KIND: rules_as_json(rules)})]))
    queue = harness.queue(url)
    claims: list[tuple[datetime, int]] = []
    paused = 0

    with working(url, 3, lambda began, tasks: claims.append((began, len(tasks)))):
        for _ in range(15):
            harness.call(queue.pause, TYPE)
            begin, looked = database.rows("SELECT clock_timestamp()")[0][0], len(claims)
            eventually(lambda: len(claims) > looked + 15)  # noqa: B023 - called at once
            of_pause = [count for began, count in claims[looked:] if began >= begin]  # and ended before the resume
            assert not any(of_pause)
            paused += len(of_pause)
            harness.call(queue.resume, TYPE)
            looked = len(claims)
            eventually(lambda: any(count for _, count in claims[looked:]))  # noqa: B023
    assert paused >= 150


def test_what_waited_is_found_at_once_whatever_the_pool_has_passed(
    harness: Harness, url: str, database: Database
) -> None:
    """The pool polls once an hour, and finds tasks of its other type all the time, also in later claims."""
    queue = harness.queue(url)
    harness.pool(queue, number_of_workers=2, task_type=[TYPE, "other"])
    harness.call(queue.insert_task, harness.note(n=1), task_type=TYPE)
    assert ran() == [1]
    harness.call(queue.pause, TYPE)
    for n in range(2, 5):
        harness.call(queue.insert_task, harness.note(n=n + 100), task_type=TYPE)
        harness.call(queue.insert_task, harness.note(n=n), task_type="other")
        assert ran() == [n]
    harness.call(queue.resume, TYPE)
    assert ran(3) == [102, 103, 104]


# What was there before, and who else changes --------------------------------------------------------------------------


def test_tasks_from_before_are_counted_and_claimed(
    harness: Harness, url: str, database: Database, claimer: Claimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rust, and releases before, insert without a lane."""
    monkeypatch.setattr(managing, "_BATCH", 3)
    database.execute(INSERT, None, 10)
    assert len(claimer.claim(2)[1]) == 2
    info = harness.call(harness.queue(url).limits.set, TYPE, [Limit(5)])
    assert (info.running, info.waiting) == (2, 8)
    assert database.rows("SELECT DISTINCT lane FROM fang.fang_tasks") == [("",)]
    assert len(claimer.claim(9)[1]) == 3


def test_what_a_change_that_died_has_left_ends_by_itself(
    harness: Harness, url: str, database: Database, claimer: Claimer
) -> None:
    database.execute(INSERT, None, 3)
    run_on(database.connection, OPS.settle_type(TYPE, timedelta(milliseconds=300), timedelta(0)))
    assert claimer.claim(1)[1] == []
    eventually(lambda: claimer.claim(1)[1])
    assert harness.call(harness.queue(url).limits.list) == []
    run_on(database.connection, OPS.settle_type(TYPE, managing.SETTLES_FOR, timedelta(0)))  # another one dies
    info = harness.call(harness.queue(url).limits.set, TYPE, [Limit(5)])
    assert info.settings.max_running == 5
    assert len(claimer.claim(1)[1]) == 1


def test_changes_at_the_same_time_lose_nothing(url: str, database: Database) -> None:
    """Eight pools of a release start at once, of which each knows a class of its own; and a person sets limits."""
    pools = [manual_pool(UUID(int=n))._replace(task_types=(TYPE,), kinds=(f"kind{n}",)) for n in range(1, 9)]
    for pool in pools:
        run_on(database.connection, OPS.register(pool))

    def start(n: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            rules: list[FlowRule] = [Limit(n), Limit(n, by="tenant")] if n % 2 else [Limit(10 + n)]
            declaration = Declaration(TYPE, {f"kind{n}": rules_as_json(rules)})
            run_script(lambda operation: run_on(connection, operation), declare(OPS, [declaration]))

    def set_limits() -> None:
        with Queue(url) as queue:
            queue.limits.set(TYPE, [Rate(10)], by="grace")

    with ThreadPoolExecutor(9) as executor:
        futures = [executor.submit(start, n) for n in range(1, 9)] + [executor.submit(set_limits)]
        for future in futures:
            future.result(PATIENT)
    [info] = run_script_of(database, list_types(OPS))
    assert sorted(info.declared) == [f"kind{n}" for n in range(1, 9)]
    assert (info.changed, info.changed_by, info.settings.rate) == ((Rate(10),), "grace", Rate(10).gcra)
    assert not settling(database)
    with Queue(url) as queue:
        left = queue.limits.remove(TYPE)
    assert left is not None
    assert (left.settings.max_running, left.settings.max_running_per_key) == (1, 1)


def test_a_change_that_another_one_has_made_meanwhile_leaves_no_settling(database: Database) -> None:
    """Two pools of one release start at once; both find that nothing is declared yet."""
    pool = manual_pool(UUID(int=1))._replace(task_types=(TYPE,), kinds=("kind",))
    run_on(database.connection, OPS.register(pool))
    declaration = Declaration(TYPE, {"kind": rules_as_json([Limit(5)])})
    has_met = False

    def run(operation: Operation[Any]) -> Any:
        nonlocal has_met
        if operation.statement.name == "settle_type" and not has_met:
            has_met = True
            run_script_of(database, declare(OPS, [declaration]))
        return run_on(database.connection, operation)

    run_script(run, declare(OPS, [declaration]))
    assert has_met
    assert not settling(database)


def test_a_pool_that_starts_again_with_the_same_code_writes_nothing(database: Database) -> None:
    declaration = Declaration(TYPE, {KIND: rules_as_json([Limit(5)])})
    run_on(database.connection, OPS.register(manual_pool(uuid4())._replace(task_types=(TYPE,), kinds=(KIND,))))
    run_script_of(database, declare(OPS, [declaration]))
    before = database.rows("SELECT xmin, * FROM fang.fang_types")
    run_script_of(database, declare(OPS, [declaration]))
    assert database.rows("SELECT xmin, * FROM fang.fang_types") == before


def run_script_of(database: Database, script: Any) -> Any:
    return run_script(lambda operation: run_on(database.connection, operation), script)


# What pools declare ---------------------------------------------------------------------------------------------------


def define(harness: Harness, name: str, **config: Any) -> Any:
    """A class of the mode, whose runs wait for the gate."""

    class Learned(harness.note):  # type: ignore[misc, name-defined]
        task_config = TaskConfig(kind=f"tests.{harness.mode}.{name}", **config)

    return Learned


def test_a_class_that_is_defined_later_has_its_limits_hold_from_its_first_claim_on(harness: Harness, url: str) -> None:
    queue = harness.queue(url)
    harness.pool(queue, number_of_workers=4, task_type="learned")
    learned = define(harness, "Learned", task_type="learned", limits=[Limit(1)])
    harness.call(queue.insert_tasks, [learned(n=n, waits=True) for n in range(3)])
    assert ran() == [0]
    [info] = harness.call(queue.limits.list)
    assert (info.settings.max_running, info.running, info.waiting) == (1, 1, 2)
    GATES["gate"].set()
    assert ran(2) == [1, 2]


def test_a_drain_runs_what_was_inserted_before_the_type_had_limits(
    harness: Harness, url: str, database: Database
) -> None:
    queue = harness.queue(url)
    learned = define(harness, "Late", task_type="late", limits=[Limit(2)])
    harness.call(queue.insert_tasks, [learned(n=n) for n in range(3)])
    database.execute("UPDATE fang.fang_tasks SET lane = NULL")
    pool = (WorkerPool if harness.mode == "threaded" else AsyncWorkerPool)(queue, task_type="late")
    assert harness.call(pool.drain) == 3


def test_a_pool_whose_classes_contradict_each_other_does_not_start(
    harness: Harness, url: str, database: Database
) -> None:
    define(harness, "Strict", task_type="contradiction", limits=[Limit(1)])
    define(harness, "Lax", task_type="contradiction")
    queue = harness.queue(url)
    with pytest.raises(DefinitionError, match="have the task type 'contradiction', whose limits hold for both"):
        harness.pool(queue, task_type="contradiction")
    assert database.rows("SELECT 1 FROM fang.fang_pools") == []
    assert harness.call(queue.limits.list) == []
