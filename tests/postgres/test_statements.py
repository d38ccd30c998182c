"""The SQL as it is sent: golden files to read, and what a Statement refuses."""

import dataclasses
import os
from pathlib import Path

import pytest
from sqlalchemy import ARRAY, Enum, Integer, bindparam, column, select, table
from sqlalchemy.dialects.postgresql import JSONB

from fang_postgres.statement import Statement
from fang_postgres.statements import Statements, statements

GOLDEN = Path(__file__).parent / "golden"
NAMES = [field.name for field in dataclasses.fields(Statements)]


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    statement = getattr(statements("fang"), name)
    numbered = " ".join(f"${place}={bind}" for place, bind in enumerate(statement.order, 1))
    lines = [line.rstrip() for line in statement.text.splitlines()]
    text = f"-- {numbered}".rstrip() + "\n" + "\n".join(lines) + "\n"
    file = GOLDEN / f"{name}.sql"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), "read the difference as SQL, then run with UPDATE_GOLDEN=1"


def test_every_golden_file_has_its_statement() -> None:
    assert {file.stem for file in GOLDEN.glob("*.sql")} == set(NAMES)


def test_the_text_follows_the_schema_name() -> None:
    assert "jobs.fang_tasks" in statements("jobs").claim.text
    assert "fang.fang_tasks" not in statements("jobs").claim.text


T = table("t", column("a", Integer))


@pytest.mark.parametrize(
    ("core", "why"),
    [
        (select(T).where(T.c.a == 5), "a value in the text"),
        (select(T).where(T.c.a == bindparam("a", type_=Integer)), "a value in the text"),
        (select(T).where(T.c.a.in_(bindparam("p_a", expanding=True))), "depends on values"),
        (select(bindparam("p_a", type_=JSONB)), "cross as text"),
        (select(bindparam("p_a", type_=Enum("x", name="e"))), "cross as text"),
        (select(bindparam("p_a", type_=ARRAY(JSONB))), "cross as text"),
    ],
)
def test_what_breaks_silently_is_refused(core: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Statement("bad", core)  # type: ignore[arg-type]
