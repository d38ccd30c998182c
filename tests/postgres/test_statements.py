"""The SQL as it is sent: files to read, and what a Statement refuses."""

import os
import subprocess
import sys

import pytest
from sqlalchemy import ARRAY, Enum, Integer, Text, bindparam, column, select, table
from sqlalchemy.dialects.postgresql import JSONB

from fang_core.tasks.options import COLUMNS
from fang_postgres import texts
from fang_postgres.schema import tables
from fang_postgres.shapes import TEXTS
from fang_postgres.statement import Statement
from fang_postgres.statements import statements
from fang_postgres.textform import TextForm
from tests.postgres.filed import BUILDERS, write

if os.environ.get("UPDATE_GOLDEN"):
    write()


@pytest.mark.parametrize("name", BUILDERS)
def test_the_file_has_what_its_statement_is_compiled_to(name: str) -> None:
    file = (texts.FOLDER / f"{name}.sql").read_text()
    assert texts.as_file(BUILDERS[name](tables("fang"))) == file, "read it as SQL, then python -m tests.postgres.filed"


def test_every_file_has_its_statement() -> None:
    files = (file.relative_to(texts.FOLDER) for file in texts.FOLDER.rglob("*.sql"))
    assert {file.with_suffix("").as_posix() for file in files} == BUILDERS.keys()


@pytest.mark.parametrize("name", BUILDERS)
def test_the_file_serves_any_schema_name(name: str) -> None:
    is_sent_as_compiled(name, "order")  # a word of SQL, so that it needs quotes


def test_the_channel_of_a_long_schema_name_is_cut() -> None:
    is_sent_as_compiled("insert", "s" * 63)


def is_sent_as_compiled(name: str, schema: str) -> None:
    compiled = BUILDERS[name](tables(schema))
    sent = texts.StatementOfFile(name, schema, BUILDERS[name])
    assert sent.order == compiled.order
    assert sent.text.replace(f'"{schema}"', schema).split() == compiled.text.replace(f'"{schema}"', schema).split()
    assert sent.text.count(f'"{schema}".') >= compiled.text.count(f'"{schema}".')


def test_no_file_is_read_once_a_queue_is_imported() -> None:
    """By then it may be that of another version, or gone."""
    code = """
import sys
import fang_threaded.queue
from fang_postgres import texts
from tests.postgres.filed import BUILDERS

def refuse(event, args):
    if event == "open" and str(args[0]).endswith(".sql"):
        raise FileNotFoundError(args[0])

sys.addaudithook(refuse)
for name, build in BUILDERS.items():
    assert texts.StatementOfFile(name, "fang", build).text
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_both_drivers_are_sent_the_same() -> None:
    sent = statements("fang").claim
    assert sent.psycopg_text % {name: f"${place}" for place, name in enumerate(sent.order, 1)} == sent.text


@pytest.mark.parametrize("name", [name for name in BUILDERS if "/" not in name])  # commands send the others themselves
def test_on_a_callers_connection_each_parameter_crosses_as_a_text(name: str) -> None:
    """SQLAlchemy 2.0 does not look for parameters behind ON CONFLICT DO UPDATE."""
    sent = TextForm(BUILDERS[name](tables("fang")).core).psycopg_text
    assert sent.count("%(") == sent.count("CAST(CAST(%(") == sent.count(")s AS refcursor) AS TEXT)")


def test_the_text_follows_the_schema_name() -> None:
    assert '"jobs".fang_tasks' in statements("jobs").claim.text
    assert "fang.fang_tasks" not in statements("jobs").claim.text


def test_options_that_are_texts_are_known() -> None:
    assert {name for name in COLUMNS if isinstance(tables().tasks.c[name].type, Text)} == TEXTS


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
