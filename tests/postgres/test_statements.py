"""The SQL as it is sent: golden files to read, and what a Statement refuses."""

import os
from pathlib import Path

import pytest
from sqlalchemy import ARRAY, Enum, Integer, bindparam, column, select, table
from sqlalchemy.dialects.postgresql import JSONB

from fang_postgres.once import names_of
from fang_postgres.operations.bulk import STATEMENTS as BULK
from fang_postgres.operations.listing import STATEMENTS as LISTS
from fang_postgres.operations.moving import STATEMENTS as MOVING
from fang_postgres.schema import tables
from fang_postgres.statement import Statement
from fang_postgres.statements import Statements, statements

GOLDEN = Path(__file__).parent / "golden"
NAMES = names_of(Statements)


APART = {"lists": LISTS, "bulk": BULK, "moving": MOVING}
"""Those that few processes need, and that are made when they are first used; each has a folder of its own."""


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    is_golden(getattr(statements("fang"), name), GOLDEN / f"{name}.sql")


@pytest.mark.parametrize(("folder", "name"), [(folder, name) for folder, made in APART.items() for name in made])
def test_golden_apart(folder: str, name: str) -> None:
    is_golden(APART[folder][name](tables("fang")), GOLDEN / folder / f"{name}.sql")


def is_golden(statement: Statement, file: Path) -> None:
    numbered = " ".join(f"${place}={bind}" for place, bind in enumerate(statement.order, 1))
    lines = [line.rstrip() for line in statement.text.splitlines()]
    text = f"-- {numbered}".rstrip() + "\n" + "\n".join(lines) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), "read the difference as SQL, then run with UPDATE_GOLDEN=1"


def test_every_golden_file_has_its_statement() -> None:
    assert {file.stem for file in GOLDEN.glob("*.sql")} == set(NAMES)
    for folder, made in APART.items():
        assert {file.stem for file in (GOLDEN / folder).glob("*.sql")} == made.keys()


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
        _ = Statement("bad", core).text  # type: ignore[arg-type]
