"""EXPLAIN of every statement on a pool's path: by the index, whatever the statistics say, also under generic plans.

Statistics lie in ways that trials found harmful: none at all; taken of an empty table; taken while every row was new.
"""

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import asyncpg
import psycopg
import pytest

from fang_core.insertion import Overrides
from fang_core.lifecycle import Outcome
from fang_core.record import TaskState
from fang_core.runnable import Runnable
from fang_core.store import ClaimRequest, PoolRecord, PruneRequest
from fang_postgres.operations import Operations
from fang_postgres.statement import Operation
from tests.fixtures import database

ROWS = 100_000
POOL = uuid.UUID(int=7)
OPS = Operations("fang")


class Planned(Runnable):
    def run(self, queue: Any) -> None: ...


def fill(state: str, count: int, pool: uuid.UUID | None = None, age: str = "0") -> str:
    return f"""
        INSERT INTO fang.fang_tasks (id, metadata, state, attempt, pool_id, scheduled_at, updated_at)
        SELECT gen_random_uuid(), '{{"type": "Planned"}}', '{state}', 1, {f"'{pool}'" if pool else "NULL"},
               now() - interval '1 hour' + n * interval '1 millisecond', now() - interval '{age}'
        FROM generate_series(1, {count}) n"""


HELD = fill("in_progress", 2_000, POOL)
SCENARIOS: dict[str, list[str]] = {
    "no statistics": [fill("new", ROWS), HELD],
    "statistics of an empty table": ["ANALYZE fang.fang_tasks", fill("new", ROWS), HELD],
    "statistics of when all were new": [fill("new", ROWS), "ANALYZE fang.fang_tasks", HELD],
    "fresh statistics": [fill("new", ROWS), HELD, "ANALYZE fang.fang_tasks"],
    "many kept rows": [fill("finished", ROWS, age="1 day"), fill("new", 5_000), HELD, "ANALYZE fang.fang_tasks"],
}


@pytest.fixture(scope="module", params=SCENARIOS)
def table(request: pytest.FixtureRequest, server_url: str, template: str) -> Iterator[str]:
    for url in database(server_url, template):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER TABLE fang.fang_tasks SET (autovacuum_enabled = off)")
            for statement in SCENARIOS[request.param]:
                connection.execute(statement.encode())
        yield url


async def operations(connection: asyncpg.Connection) -> dict[str, Operation[Any]]:
    held = await connection.fetch("SELECT id FROM fang.fang_tasks WHERE pool_id = $1 LIMIT 1000", POOL)
    ids = [row["id"] for row in held]
    new = Overrides().new_tasks([Planned()] * 500, max_bytes=1_000)
    return {
        "register": OPS.register(PoolRecord(POOL, "threaded", "h", 1, ("common",), ("Planned",), 1)),
        "claim": OPS.claim(ClaimRequest(POOL, ("common", "other"), ("Planned",), 500)),
        "remove": OPS.complete(POOL, [Outcome(id_, 1, None) for id_ in ids[:300]])[0],
        "finish": OPS.complete(POOL, [Outcome(id_, 1, TaskState.FINISHED) for id_ in ids[300:600]])[0],
        "settle": OPS.complete(POOL, [Outcome(id_, 1, TaskState.FAILED, error_entry="{}") for id_ in ids[600:]])[0],
        "insert": OPS.insert(new[0], Overrides()),
        "insert_many": OPS.insert_many(new[1:], Overrides())[0],
        "find": OPS.find(ids[0]),
        "prune_finished": OPS.prune(PruneRequest(timedelta(hours=1), None, 1_000))[0],
        "prune_failed": OPS.prune(PruneRequest(None, timedelta(hours=1), 1_000))[0],
        "unregister": OPS.unregister(POOL),
    }


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_no_statement_scans_the_table_or_turns_quadratic(table: str, mode: str) -> None:
    connection = await asyncpg.connect(table, server_settings={"plan_cache_mode": mode})
    transaction = connection.transaction()
    await transaction.start()
    try:
        await check_plans(connection)
    finally:
        await transaction.rollback()
        await connection.close()


async def check_plans(connection: asyncpg.Connection) -> None:
    for name, operation in (await operations(connection)).items():
        statement = operation.statement
        arguments = statement.arguments(operation.params)
        [row] = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.text}", *arguments)
        [explained] = json.loads(row[0])
        found = list(nodes(explained["Plan"]))
        seq = [node for node in found if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "fang_tasks"]
        assert not seq, f"{name} scans the table: {seq}"
        # Each row that is dealt with may cost some index and heap pages, but never a share of the table.
        touched = explained["Plan"].get("Shared Hit Blocks", 0) + explained["Plan"].get("Shared Read Blocks", 0)
        dealt_with = max(10, *(node["Actual Rows"] * node["Actual Loops"] for node in found))
        assert touched < 60 * dealt_with, f"{name} touches {touched} pages for {dealt_with} rows"
        removed = sum(node.get("Rows Removed by Filter", 0) * node["Actual Loops"] for node in found)
        assert removed <= 3_000, f"{name} reads {removed} rows in vain"
