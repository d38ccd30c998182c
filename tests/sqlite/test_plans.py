"""Hot statements find their rows by an index, in its order: none of them sorts, or reads what it does not take."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fang_sqlite import rows
from fang_sqlite.connections.file import File
from fang_sqlite.tasks import by_hand, claiming, completing, pruning

NAMED = {
    "task_type": "common",
    "priority": 0,
    "now": 1,
    "kinds": "[]",
    "isolated_kinds": "[]",
    "group_size": 1,
    "limit": 1,
    "pool_id": b"",
    "from_time": 0,
    "from_id": b"",
}


@pytest.fixture
def file(sqlite_path: Path) -> Iterator[File]:
    file = File(sqlite_path, "normal")
    file.open()
    yield file
    file.close()


def plan(file: File, sql: str) -> list[str]:
    """What SQLite says of a statement, without its lists of values."""
    values: Any = NAMED if ":" in sql else [1] * sql.count("?")
    with file.reading() as tx:
        return [row[3] for row in tx.rows(f"EXPLAIN QUERY PLAN {sql}", values)]


def steps(file: File, sql: str) -> list[str]:
    """The searches of a statement, and its sorts."""
    return [step for step in plan(file, sql) if step.startswith(("SEARCH", "SCAN", "USE")) and "json_each" not in step]


def test_a_claim_is_one_search_of_an_index_that_has_all_it_needs(file: File) -> None:
    in_order = "(task_type=? AND priority=? AND (scheduled_at,id)>(?,?) AND scheduled_at<?)"
    assert steps(file, claiming.CLAIM) == [
        "SEARCH fang_tasks USING INTEGER PRIMARY KEY (rowid=?)",
        f"SEARCH fang_tasks USING COVERING INDEX fang_tasks_due {in_order}",
    ]
    assert steps(file, claiming.FIRST) == [
        "SEARCH fang_tasks USING COVERING INDEX fang_tasks_due (task_type=? AND priority=? AND scheduled_at<?)"
    ]
    assert steps(file, claiming.CLAIM_RETRIED)[1:] == [
        "SEARCH fang_tasks USING COVERING INDEX fang_tasks_retried (task_type=? AND priority=? AND scheduled_at<?)"
    ]


def test_a_fetch_by_hand_is_too(file: File) -> None:
    assert steps(file, f"{rows.SELECT} {by_hand.FIRST_OF_TYPE}")[1:] == [
        "SEARCH fang_tasks USING COVERING INDEX fang_tasks_due (task_type=? AND priority=? AND scheduled_at<?)"
    ]


@pytest.mark.parametrize("sql", [completing.REMOVE, completing.FINISH, rows.WRITE])
def test_what_is_held_is_written_by_its_id(file: File, sql: str) -> None:
    assert steps(file, sql) == ["SEARCH fang_tasks USING INDEX sqlite_autoindex_fang_tasks_1 (id=?)"]


def test_what_has_ended_is_pruned_in_the_order_of_time(file: File) -> None:
    assert steps(file, pruning.PRUNE)[1:] == [
        "SEARCH fang_tasks USING COVERING INDEX fang_tasks_ended (state=? AND task_type=? AND updated_at<?)"
    ]


def test_lanes_are_found_by_a_search_for_each(file: File) -> None:
    found = steps(file, claiming.LANES)
    assert "SEARCH fang_tasks USING COVERING INDEX fang_tasks_due (task_type=? AND priority>?)" in found
    assert "SEARCH fang_tasks USING COVERING INDEX fang_tasks_due (task_type>?)" in found
    assert "SEARCH due USING COVERING INDEX fang_tasks_due (task_type=? AND priority=?)" in found
    assert not [step for step in found if step.startswith("USE TEMP")]
