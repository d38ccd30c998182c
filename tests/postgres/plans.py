"""EXPLAIN ANALYZE of an operation, under a custom or a generic plan, and what is wrong with the plan."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import psycopg

from fang_postgres.statement import Operation

MODES: Final = ("force_custom_plan", "force_generic_plan")

ROWS_PER_TASK: Final = 4
"""Rows that a node of a plan may handle for each task dealt with. Measured: 2; bitmaps count dead versions as well."""

PAGES_PER_TASK: Final = 10
"""Pages that a scan may touch for each task dealt with. Measured: 7; index pages, and the versions of a row."""

PAGES_TO_DESCEND: Final = 30
"""Pages that a scan may touch beside those: ten lanes of the due index, three pages deep."""

Node = dict[str, Any]


def explain(
    connection: psycopg.Connection[Any],
    operation: Operation[Any],
    mode: str,
    guard: Mapping[str, str] | None = None,
    *,
    was_unguarded: bool = True,
) -> list[Node]:
    """The nodes of the plan, the root first; the statement ran and was undone. The connection has client-side cursors.

    PREPARE and EXECUTE, because an EXPLAIN with parameters plans with their values whatever ``plan_cache_mode`` says.
    With a guard, the plan of the mode is cached before the guard is set, as in a pool that runs into trouble; unless
    the statement never runs unguarded.
    """
    arguments = operation.statement.arguments(operation.params)
    values = f"({', '.join(['%s'] * len(arguments))})" if arguments else ""
    execute = f"EXECUTE explained{values}"
    with connection.transaction(force_rollback=True):
        _set_local(connection, {"plan_cache_mode": mode})
        connection.execute("DEALLOCATE ALL")
        connection.execute(f"PREPARE explained AS {operation.statement.text}".encode())
        if guard is not None:
            if was_unguarded:
                connection.execute(f"EXPLAIN {execute}".encode(), arguments)
            _set_local(connection, guard)
        look = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {execute}"
        rows = connection.execute(look.encode(), arguments).fetchall()
    return list(_nodes(rows[0][0][0]["Plan"]))


def faults(plan: list[Node], indexes: set[str], tasks: int, returned: int) -> list[str]:
    """What is wrong with a plan that should deal with so many tasks, found by these indexes and in no other way."""
    found = []
    if plan[0]["Actual Rows"] != returned:
        found.append(f"returns {plan[0]['Actual Rows']} rows, not {returned}")
    ways = {str(node.get("Index Name", node["Node Type"])) for node in plan if _reads_tasks(node)}
    if ways != indexes:
        found.append(f"goes by {', '.join(sorted(ways))}")
    for node in plan:
        if _rows(node) > ROWS_PER_TASK * tasks:
            found.append(f"{node['Node Type']} handles {_rows(node):.0f} rows")
        if _reads_tasks(node) and _pages(node) > PAGES_TO_DESCEND + PAGES_PER_TASK * tasks:
            found.append(f"{node['Node Type']} touches {_pages(node)} pages")
    return found


def _set_local(connection: psycopg.Connection[Any], settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        connection.execute(f"SET LOCAL {name} = {value}".encode())


def _nodes(plan: Node) -> Iterator[Node]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _reads_tasks(node: Node) -> bool:
    """A bitmap's heap scan does not count: the index scan below it names the way."""
    of_tasks = node.get("Relation Name") == "fang_tasks" or node.get("Index Name", "").startswith("fang_tasks")
    return bool(of_tasks and node["Node Type"].endswith("Scan") and node["Node Type"] != "Bitmap Heap Scan")


def _rows(node: Node) -> float:
    discarded = sum(value for key, value in node.items() if key.startswith("Rows Removed by"))
    return float((node["Actual Rows"] + discarded) * node["Actual Loops"])


def _pages(node: Node) -> int:
    return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])
