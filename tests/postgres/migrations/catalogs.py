"""What tests of migrations ask a database for, and do to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, NullPool, create_engine, make_url, text

from fang_postgres.names import VERSION_TABLE

ROOT = Path(__file__).parents[3]
DEADLINE = 30.0
IMPORTS = ("alembic.config", "fang_postgres.migrate", "psycopg", "sqlalchemy.dialects.postgresql.psycopg")
RIGHTS = ["SELECT", "INSERT", "UPDATE", "DELETE"]

# Everything of a schema that its definition decides, one line each.
CATALOG = """
SELECT 'table ' || c.relname || ' ' || coalesce(array_to_string(c.reloptions, ','), '')
  FROM pg_class c WHERE c.relnamespace = :n AND c.relkind = 'r'
UNION ALL
SELECT concat_ws(' ', 'column', c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
                 'not null', a.attnotnull, 'generated', a.attgenerated, pg_get_expr(d.adbin, d.adrelid))
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE c.relnamespace = :n AND c.relkind = 'r' AND a.attnum > 0
UNION ALL
SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid))
  FROM pg_constraint WHERE connamespace = :n
UNION ALL
SELECT concat_ws(' ', 'index', pg_get_indexdef(i.indexrelid))
  FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = :n
UNION ALL
SELECT concat_ws(' ', 'enum', t.typname, e.enumsortorder, e.enumlabel)
  FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid WHERE t.typnamespace = :n
UNION ALL
SELECT concat_ws(' ', 'comment', c.relname, d.description) FROM pg_description d JOIN pg_class c ON c.oid = d.objoid
  WHERE c.relnamespace = :n
UNION ALL
SELECT concat_ws(' ', 'other', relkind, relname) FROM pg_class
  WHERE relnamespace = :n AND relkind NOT IN ('r', 'i', 'v')
"""

EVERYTHING = """
SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_'
UNION ALL SELECT 'relation ' || c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
  WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
UNION ALL SELECT 'function ' || p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
  WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
UNION ALL SELECT 'type ' || t.oid::regtype FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace
  WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
"""

RUSTS_FANG = """
CREATE TYPE fang_task_state AS ENUM ('new', 'in_progress', 'failed', 'finished', 'retried');
CREATE TABLE fang_tasks (id uuid PRIMARY KEY, state fang_task_state NOT NULL DEFAULT 'new');
INSERT INTO fang_tasks VALUES (gen_random_uuid());
"""


def engine_for(database_url: str, settings: str = "") -> Engine:
    url = make_url(database_url).set(drivername="postgresql+psycopg")
    return create_engine(url, poolclass=NullPool, connect_args={"options": settings} if settings else {})


def rows(engine: Engine, query: str, **parameters: Any) -> list[Any]:
    with engine.begin() as connection:
        return list(connection.execute(text(query), parameters).scalars())


def run(engine: Engine, script: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(script)


def everything(engine: Engine) -> list[str]:
    return sorted(rows(engine, EVERYTHING))


def catalog(engine: Engine, schema: str) -> list[str]:
    namespace = rows(engine, "SELECT oid FROM pg_namespace WHERE nspname = :schema", schema=schema)[0]
    found = (line.replace(f"{schema}.", "") for line in rows(engine, CATALOG, n=namespace))
    return sorted(line for line in found if VERSION_TABLE not in line)


@contextmanager
def op_on(connection: Connection) -> Iterator[Operations]:
    with Operations.context(MigrationContext.configure(connection)) as operations:
        yield operations
