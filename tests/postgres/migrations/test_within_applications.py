"""Migrations inside an application's own."""

from pathlib import Path

import pytest
from alembic.config import Config
from sqlalchemy import Connection, Engine, NullPool, make_url
from sqlalchemy.exc import ProgrammingError

from alembic import command, op
from fang_postgres import migrate
from tests.postgres.migrations.applications import APPLICATIONS_REVISION
from tests.postgres.migrations.catalogs import everything, op_on, rows, run


def test_within_an_applications_revision(application: Config, engine: Engine) -> None:
    command.upgrade(application, "head")
    migrate.check(engine, schema="jobs")
    public = (
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1"
    )
    assert rows(engine, public) == ["alembic_version", "customers", "orders"]
    assert rows(engine, "SELECT version_num FROM public.alembic_version") == ["app1"]

    command.downgrade(application, "base")
    assert migrate.current(engine, schema="jobs") is None
    assert rows(engine, public) == ["alembic_version"]
    assert "schema jobs" not in everything(engine)


def test_within_a_revision_of_a_tenant(engine: Engine) -> None:
    of_tenant = engine.execution_options(schema_translate_map={"jobs": "tenant"})
    with of_tenant.begin() as connection, op_on(connection) as operations:
        migrate.upgrade_within(operations, schema="jobs")
        assert connection.get_execution_options()["schema_translate_map"] == {"jobs": "tenant"}
    migrate.check(engine, schema="jobs")
    with of_tenant.begin() as connection, op_on(connection) as operations:
        migrate.downgrade_within(operations, schema="jobs")
    assert migrate.current(engine, schema="jobs") is None


def test_within_a_revision_that_fails_nothing_stays(application: Config, engine: Engine, tmp_path: Path) -> None:
    before = everything(engine)
    broken = APPLICATIONS_REVISION.replace("CREATE TABLE customers (id int)", "CREATE TABLE orders ()")
    (tmp_path / "versions" / "app1.py").write_text(broken)
    with pytest.raises(ProgrammingError, match="orders"):
        command.upgrade(application, "head")
    assert everything(engine) == before


def test_within_an_applications_script(application: Config, engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(engine)
    command.upgrade(application, "head", sql=True)
    script = capsys.readouterr().out
    assert script.count("CREATE TYPE") == 1
    run(engine, script)
    migrate.check(engine, schema="jobs")

    command.downgrade(application, "head:base", sql=True)
    script = capsys.readouterr().out
    assert script.count("DROP TYPE") == 1
    run(engine, script + "DROP TABLE IF EXISTS alembic_version")
    assert everything(engine) == before


async def test_within_an_application_on_asyncpg(engine: Engine, database_url: str) -> None:
    asyncio_extension = pytest.importorskip("sqlalchemy.ext.asyncio")
    pytest.importorskip("greenlet")
    url = make_url(database_url).set(drivername="postgresql+asyncpg")
    applications = asyncio_extension.create_async_engine(url, poolclass=NullPool)

    def migrations(connection: Connection) -> None:
        with op_on(connection):
            migrate.upgrade_within(op)

    async with applications.begin() as connection:
        await connection.run_sync(migrations)
    migrate.check(engine)
