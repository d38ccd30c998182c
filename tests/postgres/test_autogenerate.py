"""An application's Alembic autogenerate, with its own tables in ``public``, does not see ours."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Engine, Integer, MetaData, NullPool, Table, create_engine, make_url

from fang_postgres import migrate


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def application(engine: Engine) -> MetaData:
    """An application whose tables are up to date, under Alembic's own version table."""
    metadata = MetaData()
    Table("orders", metadata, Column("id", Integer, primary_key=True))
    with engine.begin() as connection:
        metadata.create_all(connection)
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    return metadata


def proposals(engine: Engine, metadata: MetaData, **options: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def test_our_schema_is_not_seen_by_default(engine: Engine, application: MetaData) -> None:
    migrate.upgrade(engine)
    assert proposals(engine, application) == []


def test_our_schema_is_hidden_by_the_hook(engine: Engine, application: MetaData) -> None:
    migrate.upgrade(engine)
    assert proposals(engine, application, include_schemas=True, include_name=migrate.include_name) == []


@pytest.mark.parametrize("schema", ["jobs", "public"])
def test_another_schema_is_hidden_by_its_hook(engine: Engine, application: MetaData, schema: str) -> None:
    migrate.upgrade(engine, schema=schema)
    hook = migrate.include_name_for(schema)
    assert proposals(engine, application, include_name=hook) == []
    assert proposals(engine, application, include_schemas=True, include_name=hook) == []


def test_our_schema_on_the_search_path_is_hidden_by_the_hook(engine: Engine, application: MetaData) -> None:
    migrate.upgrade(engine)
    on_path = create_engine(engine.url, poolclass=NullPool, connect_args={"options": "-c search_path=fang,public"})
    assert proposals(on_path, application) != []
    assert proposals(on_path, application, include_name=migrate.include_name) == []


@pytest.mark.parametrize("hook", [migrate.include_name, migrate.include_name_for("public")])
def test_the_hook_hides_nothing_else(engine: Engine, application: MetaData, hook: Callable[..., bool]) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE leftover ()")
        connection.exec_driver_sql("CREATE SCHEMA theirs")
        connection.exec_driver_sql("CREATE TABLE theirs.fang_tasks ()")
    found = proposals(engine, application, include_schemas=True, include_name=hook)
    assert sorted((kind, str(table)) for kind, table in found) == [
        ("remove_table", "leftover"),
        ("remove_table", "theirs.fang_tasks"),
    ]


def test_without_the_hook_it_would_propose_to_drop_them(engine: Engine, application: MetaData) -> None:
    migrate.upgrade(engine)
    dropped = {str(p[1]) for p in proposals(engine, application, include_schemas=True) if p[0] == "remove_table"}
    assert "fang.fang_tasks" in dropped
