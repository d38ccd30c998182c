"""The statements of rarer verbs find their rows by an index too: whatever a file holds, they read what they need."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from fang_core.backends.claims import LaneRequest
from fang_core.backends.pools import Declaration
from fang_core.backends.stats_rows import Key
from fang_core.flow.limits import Limit, Rate, rules_as_json
from fang_core.monitoring.history import Flush, StatsRow, minute_of
from fang_core.monitoring.reading import checked_range
from fang_core.record import TaskState
from fang_core.tasks.cancelling import Cancellation
from fang_core.tasks.selecting.filter import TaskFilter
from fang_sqlite.connections.file import File
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.reading import explaining, history, listing
from fang_sqlite.tasks import bulk, flow, lanes, uniques
from tests.sqlite.files import insert, opened, register

HOUR: Final = timedelta(hours=1)
WANTED: Final = Cancellation("no", "me")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    """A file with a managed type, a pool, and tasks in all states."""
    made = opened(tmp_path / "tasks.db")
    pool_id = register(made)
    states = [state for state in TaskState for _ in range(4)]
    for state in states:
        task_id = insert(made)
        with made.writing() as tx:
            held = pool_id.bytes if state is TaskState.IN_PROGRESS else None
            tx.run(
                "UPDATE fang_tasks SET state = ?, pool_id = ?, claimed_at = updated_at, lane = 'a' WHERE id = ?",
                (state.value, held, task_id.bytes),
            )
    with made.writing() as tx:
        rules = rules_as_json([Limit(50), Rate(50, by="n")])
        flow.declare(tx, [Declaration("common", {"note": rules})])
        history.flush(tx, uuid4(), Flush(minute_of(tx.now), {("common", "note"): StatsRow(started=1)}))
    yield made
    made.close()


def scans(file: File, verb: Callable[[Transaction], object]) -> list[str]:
    """Returns what SQLite reads from end to end, or sorts, for the statements of a verb."""
    statements: list[str] = []
    with file.writing() as tx:
        tx.connection.set_trace_callback(statements.append)
        verb(tx)
        tx.connection.set_trace_callback(None)
        plans = [
            step
            for statement in statements
            if statement.startswith(("SELECT", "UPDATE", "DELETE", "WITH"))
            for *_, step in tx.rows(f"EXPLAIN QUERY PLAN {statement}")
        ]
    assert plans
    return [step for step in plans if step.startswith(("SCAN fang_", "SCAN t", "USE TEMP"))]


def first(file: File, state: str) -> UUID:
    """Returns the id of a task in this state."""
    with file.reading() as tx:
        return UUID(bytes=tx.row("SELECT id FROM fang_tasks WHERE state = ?", (state,))[0])


def claim(tx: Transaction) -> Any:
    (pool_id,) = tx.row("SELECT id FROM fang_pools")
    return lanes.claim_lanes(tx, LaneRequest(UUID(bytes=pool_id), "common", ("note",), 2))


FILTERS: Final[dict[str, dict[str, Any]]] = {
    "all": {},
    "new": {"states": "new"},
    "new of types": {"states": "new", "task_types": ["common", "mail"], "due_after": datetime.now(UTC) - HOUR},
    "retried": {"states": "retried"},
    "ended": {"states": ["failed", "finished", "cancelled"]},
    "ended of a type": {"states": "finished", "task_types": "common", "updated_after": datetime.now(UTC) - HOUR},
    "failed of a kind": {"states": "failed", "kinds": "note"},
    "inserted": {"inserted_after": datetime.now(UTC) - HOUR},
    "ids": {"ids": [uuid4(), uuid4()]},
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_page_goes_along_an_index_and_sorts_nothing(file: File, name: str) -> None:
    found = scans(file, lambda tx: listing.list_tasks(tx, TaskFilter(**FILTERS[name]), 3, None))
    # The list of all goes along the ids.
    assert [step for step in found if step != "SCAN fang_tasks USING INDEX sqlite_autoindex_fang_tasks_1"] == []


def test_tasks_in_progress_are_the_only_ones_that_a_list_sorts(file: File) -> None:
    found = scans(file, lambda tx: listing.list_tasks(tx, TaskFilter(states="in_progress"), 3, None))
    assert found == ["USE TEMP B-TREE FOR ORDER BY"]


@pytest.mark.parametrize(
    "verb",
    [
        claim,
        lambda tx: bulk.cancel_batch(tx, TaskFilter(states="new", kinds="note"), WANTED, 2, None),
        lambda tx: bulk.retry_batch(tx, TaskFilter(states=["failed", "retried"]), 2, None),
        lambda tx: bulk.remove_batch(tx, TaskFilter(task_types="common"), 2, None),
        lambda tx: bulk.remove_scheduled_batch(tx, 2, None),
        lambda tx: uniques.prune(tx, 10),
        lambda tx: lanes.prune_rates(tx, 10),
        lambda tx: flow.adopt(tx, ["common"], 10),
    ],
    ids=["claim", "cancel", "retry", "remove", "remove scheduled", "periods", "rates", "adopt"],
)
def test_a_verb_reads_no_table_from_end_to_end(file: File, verb: Callable[[Transaction], object]) -> None:
    allowed = ("SCAN fang_pools", "SCAN fang_lanes", "SCAN fang_schedules")
    assert [step for step in scans(file, verb) if not step.startswith(allowed)] == []


@pytest.mark.parametrize("state", TaskState)
def test_an_explanation_reads_no_task_but_those_that_it_names(file: File, state: TaskState) -> None:
    task_id = first(file, state)
    found = scans(file, lambda tx: explaining.explain(tx, task_id))
    assert [step for step in found if step.startswith("SCAN fang_tasks")] == []


def test_a_look_at_a_type_that_can_start_nothing_says_so_without_writing(file: File) -> None:
    (pool_id,) = (UUID(bytes=id_) for id_ in _column(file, "SELECT id FROM fang_pools"))
    request = LaneRequest(pool_id, "common", ("note",), 2)
    for rules, finds in (([Limit(50)], True), ([Limit(4)], False), ([Limit(1, by="n")], False)):
        with file.writing() as tx:
            flow.declare(tx, [Declaration("common", {"note": rules_as_json(rules)})])
        with file.reading() as tx:
            claim, found = lanes.look(tx, request)
        assert (claim.tasks, claim.registered, found) == ([], True, finds)


def test_history_is_added_up_in_a_transaction_that_only_reads(file: File) -> None:
    past = datetime.now(UTC) - 3 * HOUR
    with file.writing() as tx:
        rows = {Key(60, minute_of(past), uuid4(), ("common", "note")): StatsRow(started=2) for _ in range(3)}
        history.write(tx, rows)
    with file.reading() as tx:
        folded = history.look(tx, None, 100)
    assert (folded.number, [row.started for row in folded.rows.values()]) == (2, [6, 6])
    for _ in range(2):  # as another pool does that has looked before
        with file.writing() as tx:
            history.fold(tx, folded)
    assert _column(file, "SELECT count(*) FROM fang_stats GROUP BY span") == [2, 1]
    with file.reading() as tx:
        assert not history.look(tx, None, 100).changes
        assert history.look(tx, HOUR, 100).changes


def _column(file: File, sql: str) -> list[Any]:
    with file.reading() as tx:
        return [value for (value,) in tx.rows(sql)]


def test_what_is_counted_of_tasks_is_counted_along_an_index(file: File) -> None:
    def verb(tx: Transaction) -> None:
        history.stats(tx, checked_range(HOUR))
        for which in FILTERS.values():
            listing.count_tasks(tx, TaskFilter(**which), 10)

    found = scans(file, verb)
    assert [step for step in found if step.startswith("SCAN fang_tasks") and "USING" not in step] == []
