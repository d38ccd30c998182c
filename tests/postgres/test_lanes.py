"""The claim of a managed type: what it takes, in which order, what it says of when to look again."""

import uuid
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from fang_core.backends.claims import TURN_TAKEN, ClaimRequest, LaneClaim, LaneRequest
from fang_core.backends.pools import manual_pool
from fang_core.backends.verbs import Fetched
from fang_core.claims.suspects import NO_SUSPECTS
from fang_core.record import TaskState
from fang_postgres import scripts
from fang_postgres.operations import Operations
from fang_threaded.database import run_on, run_script
from tests.modes import Database, Harness
from tests.postgres.claiming import claim_lanes

OPS = Operations("fang")
POOL, OTHER = uuid.UUID(int=7), uuid.UUID(int=8)
LONG_AGO = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)


class Flow:
    """A managed type on the server, its rows and its claims."""

    def __init__(self, database: Database, task_type: str = "common") -> None:
        self.database = database
        self.task_type = task_type
        self.inserted = 0
        for pool_id in (POOL, OTHER):
            run_on(database.connection, OPS.register(manual_pool(pool_id)))

    def settings(self, **columns: Any) -> None:
        self.database.execute("DELETE FROM fang.fang_types WHERE task_type = %s", self.task_type)
        names = ", ".join(["task_type", *columns])
        values = ", ".join(["%s"] * (len(columns) + 1))
        self.database.execute(
            f"INSERT INTO fang.fang_types ({names}) VALUES ({values})", self.task_type, *columns.values()
        )
        if "rate_interval" in columns:
            self.database.execute("INSERT INTO fang.fang_turns (task_type) VALUES (%s)", self.task_type)

    def insert(self, lane: str | None, count: int = 1, **columns: Any) -> list[uuid.UUID]:
        """Rows that have been due for long, each a millisecond after the one before."""
        ids = []
        for _ in range(count):
            self.inserted += 1
            values = {
                "id": uuid.UUID(int=self.inserted),
                "metadata": '{"type": "A"}',
                "task_type": self.task_type,
                "lane": lane,
                "scheduled_at": LONG_AGO + timedelta(milliseconds=self.inserted),
            } | columns
            self.database.execute(
                f"INSERT INTO fang.fang_tasks ({', '.join(values)}) VALUES ({', '.join(['%s'] * len(values))})",
                *values.values(),
            )
            ids.append(values["id"])
        return ids

    def claim(self, limit: int = 100, connection: psycopg.Connection[Any] | None = None, **request: Any) -> LaneClaim:
        request = {"pool_id": POOL, "task_type": self.task_type, "kinds": ("A",), "limit": limit} | request
        return claim_lanes(connection or self.database.connection, LaneRequest(**request), OPS)

    def lanes(self, claim: LaneClaim) -> Counter[str]:
        ids = [task.id for task in claim.tasks]
        rows = self.database.rows("SELECT lane FROM fang.fang_tasks WHERE id = ANY (%s)", ids)
        return Counter(lane for (lane,) in rows)

    def end(self, claim: LaneClaim) -> None:
        self.database.execute("DELETE FROM fang.fang_tasks WHERE id = ANY (%s)", [task.id for task in claim.tasks])

    def running(self) -> int:
        return int(self.database.rows("SELECT count(*) FROM fang.fang_tasks WHERE state = 'in_progress'")[0][0])


@pytest.fixture
def flow(database: Database) -> Flow:
    return Flow(database)


# What is managed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "is_managed", "is_stopped"),
    [
        ({}, False, False),
        ({"max_running": 5}, True, False),
        ({"max_running_per_key": 5}, True, False),
        ({"rate_interval": timedelta(seconds=1), "rate_burst": 5}, True, False),
        ({"key_rate_interval": timedelta(seconds=1), "key_rate_burst": 5}, True, False),
        ({"fair": True}, True, False),
        ({"paused": True}, True, True),
        ({"paused": True, "paused_until": LONG_AGO}, False, False),
        ({"paused": True, "paused_until": datetime(2200, 1, 1, tzinfo=UTC)}, True, True),
        ({"paused_until": datetime(2200, 1, 1, tzinfo=UTC)}, False, False),
        ({"fair": True, "paused": True}, True, True),
        ({"fair": True, "paused": True, "paused_until": LONG_AGO}, True, False),
        ({"settling_until": datetime(2200, 1, 1, tzinfo=UTC)}, True, True),
        ({"settling_until": LONG_AGO}, False, False),
        ({"fair": True, "settling_until": datetime(2200, 1, 1, tzinfo=UTC)}, True, True),
    ],
)
def test_a_type_is_claimed_plainly_or_in_lanes_or_not_at_all(
    flow: Flow, settings: dict[str, Any], is_managed: bool, is_stopped: bool
) -> None:
    flow.settings(**settings)
    flow.insert("a")
    in_lanes = flow.claim()
    assert (in_lanes.is_managed, len(in_lanes.tasks)) == (is_managed, is_managed and not is_stopped)
    assert (in_lanes.room is None) is (is_stopped or not is_managed)
    assert in_lanes.registered
    plain = run_on(flow.database.connection, OPS.claim(ClaimRequest(POOL, ("mail", "common"), ("A",), 10)))
    assert (plain.managed, len(plain.tasks)) == (("common",) if is_managed else (), 0 if is_managed else 1)


@pytest.mark.parametrize(
    ("settings", "look_in"),
    [
        ("paused = true", None),
        ("paused = true, paused_until = now() + interval '1 hour'", 3_600),
        ("paused = true, paused_until = 'infinity'", None),
        ("settling_until = now() + interval '10 s'", 10),
        ("settling_until = now() + interval '10 s', paused = true", None),
        ("settling_until = now() + interval '10 s', paused = true, paused_until = now() + interval '5 s'", 10),
        ("settling_until = now() + interval '10 s', paused = true, paused_until = now() + interval '60 s'", 60),
    ],
)
def test_a_stop_says_when_it_ends(flow: Flow, settings: str, look_in: float | None) -> None:
    flow.settings(fair=True)
    flow.database.execute(f"UPDATE fang.fang_types SET {settings}")
    found = flow.claim().look_in
    assert found == (None if look_in is None else pytest.approx(look_in, abs=3))


def test_other_types_are_claimed_as_ever(flow: Flow) -> None:
    flow.settings(paused=True)
    flow.insert("a", task_type="mail")
    flow.insert(None, task_type="mail")
    plain = run_on(flow.database.connection, OPS.claim(ClaimRequest(POOL, ("common", "mail"), ("A",), 10)))
    assert len(plain.tasks) == 2


def test_a_pool_without_a_record_claims_nothing(flow: Flow) -> None:
    flow.settings(max_running=5)
    flow.insert("a")
    claim = flow.claim(pool_id=uuid.UUID(int=9))
    assert (claim.tasks, claim.registered, claim.is_managed, claim.room) == ([], False, True, None)


# Limits ---------------------------------------------------------------------------------------------------------------


def test_a_limit_of_the_type(flow: Flow) -> None:
    flow.settings(max_running=5)
    flow.insert("", 8)
    first = flow.claim(3)
    assert [task.id.int for task in first.tasks] == [1, 2, 3]
    assert (first.room, first.is_counted) == (3, True)
    second = flow.claim()
    assert [task.id.int for task in second.tasks] == [4, 5]
    assert second.room == 2
    full = flow.claim()
    assert (full.tasks, full.room, full.look_in) == ([], 0, None)
    flow.end(first)
    assert [task.id.int for task in flow.claim().tasks] == [6, 7, 8]


def test_a_limit_for_each_key(flow: Flow) -> None:
    flow.settings(max_running_per_key=2)
    for lane in ("b", "a", ""):
        flow.insert(lane, 5)
    claim = flow.claim()
    assert flow.lanes(claim) == {"": 2, "a": 2, "b": 2}
    assert flow.claim().after_lane is None
    flow.database.execute("DELETE FROM fang.fang_tasks WHERE id = %s", claim.tasks[0].id)
    assert flow.lanes(flow.claim()) == {"b": 1}


def test_a_key_in_two_priorities_has_one_sum(flow: Flow) -> None:
    flow.settings(max_running_per_key=3)
    flow.insert("a", 2, priority=0)
    flow.insert("a", 5, priority=-2)
    flow.insert("a", 5, priority=2)
    assert [task.priority for task in flow.claim().tasks] == [-2, -2, -2]
    flow.database.execute("DELETE FROM fang.fang_tasks WHERE state = 'in_progress' OR priority = -2")
    assert [task.priority for task in flow.claim().tasks] == [0, 0, 2]


def test_a_limit_for_all_and_for_each_key(flow: Flow) -> None:
    flow.settings(max_running=5, max_running_per_key=2)
    for lane in "abcd":
        flow.insert(lane, 5)
    assert flow.lanes(flow.claim()) == {"a": 2, "b": 2, "c": 1}
    assert flow.claim().room == 0


def test_rows_without_a_lane_are_not_seen(flow: Flow) -> None:
    flow.settings(max_running=5)
    flow.insert(None)
    assert flow.claim().after_lane is None


def test_suspects_kinds_and_rows_not_yet_due_are_left_out(flow: Flow) -> None:
    flow.settings(max_running_per_key=10)
    flow.insert("a", metadata='{"type": "Foreign"}')
    flow.insert("a", crashes=2, group_limit=1)
    flow.insert("a", crashes=2, group_limit=3)
    flow.insert("a", crashes=2, group_limit=2)
    flow.insert("b", scheduled_at=datetime(2200, 1, 1, tzinfo=UTC))
    assert [task.id.int for task in flow.claim(group_size=3).tasks] == [3]
    assert [task.id.int for task in flow.claim(group_size=3, isolated_kinds=("A",)).tasks] == [4]
    assert [task.id.int for task in flow.claim(group_size=1, isolated_kinds=("A",)).tasks] == [2]


# Order ----------------------------------------------------------------------------------------------------------------


def test_keys_take_turns(flow: Flow) -> None:
    flow.settings(fair=True)
    flow.insert("big", 300)
    for lane in ("a", "m", "z"):
        flow.insert(lane, 3)
    first = flow.claim(8)
    assert flow.lanes(first) == {"a": 3, "big": 4} or flow.lanes(first) == {"a": 3, "big": 5}
    assert not first.is_counted
    second = flow.claim(8, after_lane=first.after_lane)
    assert flow.lanes(second) == {"m": 3, "z": 3}
    third = flow.claim(8, after_lane=second.after_lane)
    assert flow.lanes(third) == {"big": 8}


def test_no_key_starves_though_the_last_ones_of_a_claim_get_nothing(flow: Flow) -> None:
    """24 keys for 100 tasks: each may have 5, so the first 20 take all. The next claim begins with the 21st."""
    flow.settings(fair=True)
    names = [f"{n:02}" for n in range(24)]
    for name in names:
        flow.insert(name, 20)
    first = flow.claim(100)
    assert first.after_lane == "19"
    second = flow.lanes(flow.claim(100, after_lane=first.after_lane))
    assert {"20", "21", "22", "23"} <= set(second)


def test_the_order_within_a_key_is_kept(flow: Flow) -> None:
    flow.settings(fair=True)
    ids = flow.insert("a", 10)
    claimed: list[uuid.UUID] = []
    while tasks := flow.claim(3).tasks:
        claimed += [task.id for task in tasks]
    assert claimed == ids


def test_priorities_come_before_keys(flow: Flow) -> None:
    flow.settings(fair=True)
    flow.insert("a", 10, priority=1)
    flow.insert("b", 10, priority=-1)
    assert flow.lanes(flow.claim(10)) == {"b": 10}


@pytest.mark.parametrize("after", ["", "a", "b", "bb", "é", "zz", "\U0001f600", "\U0001f601"])
def test_the_walk_goes_round_from_any_place(flow: Flow, after: str) -> None:
    """In the order of UTF-8 bytes, also from a key that is gone; each key once, and ``''`` is a key."""
    flow.settings(max_running_per_key=1)
    names = sorted(["", "a", "b", "c", "é", "z", "\U0001f600"], key=str.encode)
    for name in names:
        flow.insert(name, 2)
    in_turn = [name for name in names if name.encode() > after.encode()]
    in_turn += [name for name in names if name.encode() <= after.encode()]
    for name in in_turn:
        claim = flow.claim(1, after_lane=after)
        assert flow.lanes(claim) == {name: 1}
        assert claim.after_lane == name
        after = name
    assert flow.claim(1, after_lane=after).after_lane is None


def test_a_claim_that_looks_at_few_keys_comes_round_in_the_end(flow: Flow) -> None:
    """Nine keys are full; each claim looks at three. It stops at the last one it has looked at."""
    flow.settings(max_running_per_key=1)
    for name in "abcdefghi":
        flow.insert(name, 2)
    held = flow.claim()
    assert len(held.tasks) == 9
    flow.insert("j", 1)
    after: str | None = ""
    seen = []
    for _ in range(4):
        claim = flow.claim(after_lane=after, most_lanes=3)
        seen += list(flow.lanes(claim))
        after = claim.after_lane
        assert after is not None
    assert seen == ["j"]


def test_looks_on_in_a_priority_where_more_keys_may_be_though_a_lower_one_was_served(flow: Flow) -> None:
    flow.settings(max_running_per_key=1)
    for name in "abcdef":
        flow.insert(name, 2, priority=0)
    assert len(flow.claim().tasks) == 6
    flow.insert("a", 5, priority=2)
    flow.insert("zz", 1, priority=2)
    claim = flow.claim(most_lanes=3, after_lane="y")
    assert flow.lanes(claim) == {"zz": 1}
    assert claim.after_lane == "c"


def test_weights(flow: Flow) -> None:
    flow.settings(fair=True, weights='{"b": 3, "c": "three", "d": 0.1}')
    for name in "abcd":
        flow.insert(name, 100)
    assert flow.lanes(flow.claim(24)) == {"a": 4, "b": 12, "c": 4, "d": 4}


@pytest.mark.parametrize("limit", [1, 4])
def test_a_weight_counts_in_small_claims_too(flow: Flow, limit: int) -> None:
    """By chance: of 300 claims of one key each, three quarters on the average, with a deviation of 13."""
    flow.settings(fair=True, weights='{"b": 3}')
    flow.database.execute(
        'INSERT INTO fang.fang_tasks (metadata, lane) SELECT \'{"type": "A"}\', chr(97 + n %% 2)'
        " FROM generate_series(1, 3200) n"
    )
    started: Counter[str] = Counter()
    after: str | None = ""
    for _ in range(300):
        claim = flow.claim(limit, after_lane=after or "")
        started += flow.lanes(claim)
        after = claim.after_lane
    assert 225 - 65 < started["b"] / limit < 225 + 65


# Rates ----------------------------------------------------------------------------------------------------------------


def test_a_rate(flow: Flow) -> None:
    flow.settings(rate_interval=timedelta(seconds=100), rate_burst=3)
    flow.insert("", 10)
    first = flow.claim(2)
    assert (len(first.tasks), first.room, first.look_in) == (2, 2, None)
    second = flow.claim()
    assert (len(second.tasks), second.room) == (1, 1)
    assert second.look_in == pytest.approx(100, abs=5)
    third = flow.claim()
    assert (third.tasks, third.room) == ([], 0)
    assert third.look_in == pytest.approx(100, abs=5)
    flow.database.execute("UPDATE fang.fang_turns SET tat = tat - interval '100 s'")
    assert len(flow.claim().tasks) == 1
    flow.database.execute("UPDATE fang.fang_turns SET tat = tat - interval '1 hour'")
    assert len(flow.claim().tasks) == 3


def test_what_was_not_claimed_is_not_charged(flow: Flow) -> None:
    flow.settings(rate_interval=timedelta(seconds=100), rate_burst=3)
    flow.insert("", 1)
    flow.claim()
    assert flow.database.rows("SELECT tat <= clock_timestamp() + interval '100 s' FROM fang.fang_turns") == [(True,)]


def test_a_rate_without_its_turn_starts_nothing(flow: Flow) -> None:
    flow.settings(rate_interval=timedelta(seconds=100), rate_burst=3)
    flow.database.execute("DELETE FROM fang.fang_turns")
    flow.insert("", 1)
    assert flow.claim().room == 0


@pytest.mark.parametrize("rate", ["rate", "key_rate"])
def test_a_clock_that_was_set_back_holds_starts_up_for_an_interval(flow: Flow, rate: str) -> None:
    flow.settings(**{f"{rate}_interval": timedelta(seconds=100), f"{rate}_burst": 3})
    flow.insert("a", 10)
    assert len(flow.claim().tasks) == 3
    for table in ("fang_turns", "fang_lanes"):
        flow.database.execute(f"UPDATE fang.{table} SET tat = tat + interval '1 year'")
    assert len(flow.claim().tasks) == 1
    held_up = flow.claim()
    assert held_up.tasks == []
    assert held_up.look_in == pytest.approx(100, abs=5)


@pytest.mark.parametrize(
    ("interval", "burst"), [(timedelta(days=366), 2**31 - 1), (timedelta(microseconds=1), 2**31 - 1)]
)
def test_rates_at_the_limits_of_their_values(flow: Flow, interval: timedelta, burst: int) -> None:
    flow.settings(rate_interval=interval, rate_burst=burst, key_rate_interval=interval, key_rate_burst=burst)
    flow.insert("a", 3)
    assert len(flow.claim().tasks) == 3


def test_a_rate_of_each_key(flow: Flow) -> None:
    flow.settings(key_rate_interval=timedelta(seconds=100), key_rate_burst=2)
    flow.insert("a", 5)
    flow.insert("b", 1)
    first = flow.claim()
    assert flow.lanes(first) == {"a": 2, "b": 1}
    second = flow.claim()
    assert (second.tasks, second.after_lane) == ([], None)
    assert second.room == 100
    assert second.look_in == pytest.approx(100, abs=5)
    flow.insert("b", 5)
    assert flow.lanes(flow.claim()) == {"b": 1}
    flow.database.execute("UPDATE fang.fang_lanes SET tat = tat - interval '100 s' WHERE lane = 'a'")
    assert flow.lanes(flow.claim()) == {"a": 1}
    assert flow.database.rows("SELECT lane FROM fang.fang_lanes ORDER BY lane") == [("a",), ("b",)]


def test_a_key_in_two_priorities_is_charged_once_for_each_start(flow: Flow) -> None:
    flow.settings(key_rate_interval=timedelta(seconds=100), key_rate_burst=3)
    flow.insert("a", 2, priority=-2)
    flow.insert("a", 2, priority=1)
    assert len(flow.claim().tasks) == 3
    assert flow.claim().tasks == []


# A slot is a row in progress ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end",
    [
        "DELETE FROM fang.fang_tasks WHERE state = 'in_progress'",
        "UPDATE fang.fang_tasks SET state = 'retried', pool_id = NULL, scheduled_at = now() + interval '1 hour'"
        " WHERE state = 'in_progress'",
        "UPDATE fang.fang_tasks SET state = 'failed', pool_id = NULL WHERE state = 'in_progress'",
        "UPDATE fang.fang_tasks SET state = 'cancelled', pool_id = NULL WHERE state = 'in_progress'",
    ],
)
@pytest.mark.parametrize("settings", [{"max_running": 1}, {"max_running_per_key": 1}])
def test_however_a_task_stops_its_slot_is_free_at_once(flow: Flow, settings: dict[str, int], end: str) -> None:
    flow.settings(**settings)
    first, second = flow.insert("a", 2)
    assert [task.id for task in flow.claim().tasks] == [first]
    assert flow.claim().tasks == []
    flow.database.execute(end)
    assert [task.id for task in flow.claim().tasks] == [second]


# Turns ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"max_running": 5}, {"rate_interval": timedelta(seconds=1), "rate_burst": 9}])
def test_one_claim_at_a_time_has_the_turn_of_a_type(flow: Flow, url: str, settings: dict[str, Any]) -> None:
    flow.settings(**settings)
    flow.insert("", 3)
    with psycopg.connect(url) as other:
        assert len(flow.claim(1, connection=other, pool_id=OTHER).tasks) == 1
        taken = flow.claim()
        assert (taken.tasks, taken.room, taken.look_in) == ([], TURN_TAKEN, None)
        other.commit()
        assert len(flow.claim().tasks) == 2


def test_claims_with_limits_by_key_go_side_by_side(flow: Flow, url: str) -> None:
    flow.settings(max_running_per_key=1)
    for n in range(300):
        flow.insert(str(n), 2)
    with psycopg.connect(url) as other:
        assert len(flow.claim(20, connection=other, pool_id=OTHER).tasks) == 20
        assert len(flow.claim(20).tasks) == 20


def test_claims_of_many_types_leave_half_of_the_lock_table_to_others(database: Database, url: str) -> None:
    """Locks by type and key would fill the server's lock table, and then others fail, too."""
    half = database.rows("""SELECT greatest(1024, current_setting('max_locks_per_transaction')::int
        * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int) / 2)""")[0][0]
    with ExitStack() as stack:
        for n in range(half // 1_000 + 2):
            flow = Flow(database, f"type {n}")
            flow.settings(max_running_per_key=1)
            database.execute(
                """INSERT INTO fang.fang_tasks (id, metadata, task_type, lane)
                SELECT gen_random_uuid(), '{"type": "A"}', %s, n FROM generate_series(1, 1000) n""",
                flow.task_type,
            )
            assert flow.claim(1_000, stack.enter_context(psycopg.connect(url))).tasks
        locks = "SELECT DISTINCT classid, objid FROM pg_locks WHERE locktype = 'advisory' AND database ="
        held = database.rows(f"{locks} (SELECT oid FROM pg_database WHERE datname = current_database())")
        assert half / 2 < len(held) <= half


def test_a_key_from_which_another_claim_takes_tasks_is_looked_at_again(flow: Flow, url: str) -> None:
    flow.settings(max_running_per_key=2)
    flow.insert("a", 2)
    with psycopg.connect(url) as other:
        assert len(flow.claim(1, other).tasks) == 1
        taken = flow.claim()
        assert (taken.tasks, taken.room) == ([], TURN_TAKEN)
        flow.insert("b")
        served = flow.claim()
        assert (flow.lanes(served), served.room) == ({"b": 1}, 100)
    assert flow.lanes(flow.claim()) == {"a": 1}
    assert flow.claim().room == 100  # the key is full, and nobody has its turn


def test_a_claim_tells_how_many_locked_keys_it_passed_and_looks_no_further_for_it(flow: Flow, url: str) -> None:
    flow.settings(max_running_per_key=1)
    for n in range(100, 200):
        flow.insert(str(n), 2)
    flow.insert("0", priority=-1)
    with psycopg.connect(url) as other, psycopg.connect(url) as another:
        assert len(flow.claim(30, connection=other, pool_id=OTHER).tasks) == 30
        claimed = flow.claim(20, connection=another, after_lane="110")
        assert len(claimed.tasks) == 20
        assert 19 <= claimed.locked < 40  # more than 19 if keys share a stripe
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid ="
        assert flow.database.rows(f"{locks} {another.info.backend_pid}")[0][0] <= 20
    assert flow.claim(20).locked == 0


def test_two_schemas_do_not_share_a_turn(flow: Flow, url: str) -> None:
    flow.settings(max_running=5)
    flow.insert("", 1)
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_try_advisory_xact_lock(hashtextextended('other.common', 1718513255))")
        assert len(flow.claim().tasks) == 1


# By hand --------------------------------------------------------------------------------------------------------------


def test_fetched_by_hand_within_the_limits(harness: Harness, url: str, flow: Flow) -> None:
    flow.settings(max_running=3, max_running_per_key=2)
    for lane in ("a", "b"):
        flow.insert(lane, 3)
    queue = harness.queue(url)
    fetched = [harness.call(queue.fetch_and_touch_task) for _ in range(4)]
    assert [task and task.lane for task in fetched] == ["a", "b", "a", None]
    assert all(task.state is TaskState.IN_PROGRESS for task in fetched[:3])
    flow.settings(paused=True)
    flow.end(LaneClaim(fetched[:3], LONG_AGO, None, True))  # type: ignore[arg-type]
    assert harness.call(queue.fetch_and_touch_task) is None
    flow.database.execute("DELETE FROM fang.fang_types")
    assert harness.call(queue.fetch_and_touch_task).lane == "a"


def test_fetching_waits_for_nobody_who_has_the_turn(flow: Flow, url: str) -> None:
    flow.settings(max_running=3)
    flow.insert("", 3)
    with psycopg.connect(url) as other:
        flow.claim(1, connection=other, pool_id=OTHER)
        fetch = scripts.fetch(OPS, "common", POOL, notify=True)
        assert run_script(partial(run_on, flow.database.connection), fetch) == Fetched(None)


# What is left behind, and told ----------------------------------------------------------------------------------------


def test_what_the_rates_of_keys_have_left_behind_is_pruned(flow: Flow) -> None:
    flow.settings(key_rate_interval=timedelta(seconds=100), key_rate_burst=2)
    for lane in "abc":
        flow.insert(lane)
    assert len(flow.claim().tasks) == 3
    flow.database.execute("UPDATE fang.fang_lanes SET tat = now() - interval '2 hours' WHERE lane = 'b'")
    flow.database.execute("UPDATE fang.fang_lanes SET tat = now() - interval '1 minute' WHERE lane = 'c'")
    for task_types in (["other"], ["common"]):
        run_on(flow.database.connection, OPS.prune_lanes(task_types))
        left = [lane for (lane,) in flow.database.rows("SELECT lane FROM fang.fang_lanes ORDER BY lane")]
        assert left == (["a", "b", "c"] if task_types == ["other"] else ["a", "c"])


def test_pruning_waits_for_no_claim_which_may_come_to_wait_for_it(flow: Flow, url: str) -> None:
    flow.settings(key_rate_interval=timedelta(seconds=100), key_rate_burst=2)
    for lane in "ab":
        flow.insert(lane)
        flow.database.execute("INSERT INTO fang.fang_lanes VALUES ('common', %s, now() - interval '2 hours')", lane)
    with psycopg.connect(url) as other:
        assert flow.lanes(flow.claim(1, other, after_lane="a")) == {"b": 1}
        with psycopg.connect(url, options="-c lock_timeout=1ms", autocommit=True) as pruner:
            run_on(pruner, OPS.prune_lanes(["common"]))
        assert flow.database.rows("SELECT lane FROM fang.fang_lanes") == [("b",)]
        assert flow.lanes(flow.claim(1, other)) == {"a": 1}


@pytest.mark.parametrize(("lane", "is_told"), [("a", True), (None, False)])
def test_a_slot_that_somebody_frees_is_told(harness: Harness, url: str, flow: Flow, lane: str, is_told: bool) -> None:
    (task_id,) = flow.insert(lane)
    flow.database.execute("UPDATE fang.fang_tasks SET state = 'in_progress', attempt = 1, pool_id = %s", POOL)
    queue = harness.queue(url)
    task = harness.call(queue.find_task_by_id, task_id)
    flow.database.execute("LISTEN fang_fang")
    harness.call(queue.fail_task, task, "by hand")
    told = [each.payload for each in flow.database.connection.notifies(timeout=0.5, stop_after=1)]
    assert told == (["common,0,0"] if is_told else [])


# What a pool cannot run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [{"metadata": '{"type": "B"}'}, {"crashes": 9}], ids=["unknown kinds", "suspects"])
@pytest.mark.parametrize("settings", [{"max_running_per_key": 5}, {"fair": True}], ids=["limit", "fair"])
def test_tasks_that_a_pool_cannot_take_hide_no_task_of_a_lower_priority_from_a_close_look(
    flow: Flow, settings: dict[str, Any], other: dict[str, Any]
) -> None:
    flow.settings(**settings)
    for lane in ("a", "b", "c"):
        flow.insert(lane, priority=-1, **other)
    flow.insert("d")
    for place, last in (("", "a"), ("a", "b"), ("b", "c"), ("c", "a")):
        claim = flow.claim(1, after_lane=place, group_size=NO_SUSPECTS)
        assert (claim.tasks, claim.after_lane) == ([], last)
    assert flow.lanes(flow.claim(1, group_size=NO_SUSPECTS, looks_closely=True)) == {"d": 1}
    claim = flow.claim(1, group_size=NO_SUSPECTS, looks_closely=True)
    assert (claim.tasks, claim.room, claim.after_lane) == ([], 1, None)
