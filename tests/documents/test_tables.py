"""docs/tables.md names the columns that there are, in their order and with their types."""

import re
from pathlib import Path

import pytest
from sqlalchemy import TableClause
from sqlalchemy.dialects import postgresql

from fang_core import Task, TaskState
from fang_postgres.schema import tables

PAGE = (Path(__file__).parents[2] / "docs" / "tables.md").read_text("utf-8")
TABLES = tables()
RELATIONS: list[TableClause] = [*TABLES.metadata.tables.values(), TABLES.scaling]
NAMES = {"fang.fang_task_state": "fang_task_state", 'TEXT COLLATE "C"': "text"}
NOT_FIELDS = {"uniq_waiting"}


def documented(name: str) -> list[tuple[str, str]]:
    section = PAGE.split(f"\n## `{name}`\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", section, re.MULTILINE)


def type_of(column: object) -> str:
    written = column.type.compile(postgresql.dialect())  # type: ignore[attr-defined]
    return NAMES.get(written, written.lower())


@pytest.mark.parametrize("table", RELATIONS, ids=lambda table: table.name)
def test_the_page_has_the_columns_of_a_table(table: TableClause) -> None:
    assert documented(table.name) == [(column.name, type_of(column)) for column in table.columns]


def test_every_table_is_on_the_page() -> None:
    assert set(re.findall(r"^## `(\w+)`$", PAGE, re.MULTILINE)) == {table.name for table in RELATIONS}


def test_every_state_is_named() -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| `state` |"))
    assert set(TaskState) <= set(re.findall(r"`(\w+)`", row))


def test_a_task_has_a_field_for_each_column() -> None:
    """As the page on columns serves for ``Task``, too."""
    assert {name for name, _ in documented("fang_tasks")} == set(Task._fields) - {"conflict", "progress"} | NOT_FIELDS
