"""What migrations make in a real database, and what they leave alone."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine

from fang_core.errors import SchemaError
from fang_postgres import migrate
from fang_postgres.names import HEAD
from fang_postgres.schema import tables
from tests.hostile import ELSEWHERE
from tests.postgres.migrations.catalogs import RUSTS_FANG, catalog, everything, rows, run

# What they make -------------------------------------------------------------------------------------------------------


def test_the_librarys_revision_is_the_last_one() -> None:
    assert migrate._scripts().get_heads() == [HEAD]


@pytest.mark.parametrize("schema", ["fang", "public", "order"])
def test_there_and_back_leaves_nothing(engine: Engine, database_url: str, schema: str) -> None:
    before = everything(engine)

    migrate.upgrade(database_url, schema=schema)
    assert migrate.current(database_url, schema=schema) == HEAD
    migrate.check(database_url, schema=schema)
    run(engine, f"""INSERT INTO "{schema}".fang_tasks (metadata) VALUES ('{{"type": "A"}}')""")
    migrate.upgrade(database_url, schema=schema)  # again: nothing happens
    assert rows(engine, f'SELECT kind FROM "{schema}".fang_tasks') == ["A"]

    migrate.downgrade(database_url, schema=schema)
    assert everything(engine) == before
    assert migrate.current(database_url, schema=schema) is None
    migrate.downgrade(database_url, schema=schema)  # again: nothing happens
    assert everything(engine) == before


def test_migrations_make_what_the_metadata_describe(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA described")
        tables("described").metadata.create_all(connection)
    migrate.upgrade(engine, schema="migrated")

    assert catalog(engine, "migrated") == catalog(engine, "described")
    assert len(catalog(engine, "migrated")) > 40


def test_the_catalog_comparison_sees_differences(engine: Engine) -> None:
    for schema in ("one", "other"):
        migrate.upgrade(engine, schema=schema)
    run(engine, "ALTER TABLE other.fang_tasks ALTER priority SET DEFAULT 1")
    assert catalog(engine, "one") != catalog(engine, "other")


# Older versions of Alembic say so of every generated column; the catalog comparison above judges its expression.
@pytest.mark.filterwarnings("ignore:Computed default on fang_tasks.kind cannot be modified")
def test_autogenerate_of_our_own_metadata_proposes_nothing(engine: Engine) -> None:
    migrate.upgrade(engine)
    options = migrate.options("fang") | {
        "include_schemas": True,
        "include_name": lambda name, type_, _parents: type_ != "schema" or name == "fang",
        "compare_server_default": True,
    }
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), tables().metadata) == []


def test_two_schemas_live_side_by_side(engine: Engine) -> None:
    migrate.upgrade(engine, schema="one")
    migrate.upgrade(engine, schema="two")
    migrate.downgrade(engine, schema="one")
    assert migrate.current(engine, schema="one") is None
    assert migrate.current(engine, schema="two") == HEAD


# What they leave alone ------------------------------------------------------------------------------------------------


def test_an_engine_of_a_tenant_has_the_tables_of_all(engine: Engine) -> None:
    of_tenant = engine.execution_options(**ELSEWHERE)
    migrate.upgrade(of_tenant)
    migrate.check(engine)
    assert migrate.current(of_tenant) == migrate.current(engine)
    migrate.downgrade(of_tenant)
    assert migrate.current(engine) is None


def test_rusts_fang_in_public_is_left_alone(engine: Engine) -> None:
    run(engine, RUSTS_FANG)
    before = everything(engine)
    migrate.upgrade(engine)
    migrate.downgrade(engine)
    assert everything(engine) == before
    assert rows(engine, "SELECT state::text FROM public.fang_tasks") == ["new"]


def test_a_name_that_is_taken_is_said(engine: Engine) -> None:
    run(engine, RUSTS_FANG)
    before = everything(engine)
    with pytest.raises(SchemaError, match="schema public already has an object of that name") as caught:
        migrate.upgrade(engine, schema="public")
    assert "\n" not in str(caught.value)
    assert everything(engine) == before


def test_a_schema_that_holds_more_stays(engine: Engine) -> None:
    migrate.upgrade(engine)
    run(engine, "CREATE TABLE fang.theirs ()")
    migrate.downgrade(engine)
    assert rows(engine, "SELECT relname::text FROM pg_class WHERE relnamespace = 'fang'::regnamespace") == ["theirs"]
