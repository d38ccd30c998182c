"""The alembic command, and migrations as scripts."""

import os
import subprocess

from sqlalchemy import Engine

from fang_postgres import migrate
from fang_postgres.names import HEAD
from tests import forking
from tests.postgres.migrations.catalogs import DEADLINE, IMPORTS, ROOT, catalog, everything, run


def alembic(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return forking.run(
        "-m",
        "alembic",
        *arguments,
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "FANG_DATABASE_URL"} | environment,
        timeout=DEADLINE,
        imports=IMPORTS,
    )


def test_the_alembic_command(engine: Engine, database_url: str) -> None:
    before = everything(engine)
    for arguments, at in (("upgrade", "head"), HEAD), (("check",), HEAD), (("downgrade", "base"), None):
        done = alembic(*arguments, FANG_DATABASE_URL=database_url)
        assert done.returncode == 0, done.stderr
        assert migrate.current(engine) == at
    assert everything(engine) == before

    assert alembic("current", FANG_DATABASE_URL=database_url).returncode == 0
    assert alembic("downgrade", "base", FANG_DATABASE_URL=database_url).returncode == 0
    assert everything(engine) == before


def test_the_alembic_command_under_another_schema(engine: Engine, database_url: str) -> None:
    settings = ("-x", f"url={database_url}", "-x", "schema=jobs")
    assert alembic(*settings, "upgrade", "head").returncode == 0
    assert migrate.current(engine, schema="jobs") == HEAD
    assert f"{HEAD} (head)" in alembic(*settings, "current").stdout


def test_the_alembic_command_says_in_one_line_what_is_wrong() -> None:
    assert "FAILED: no database: set FANG_DATABASE_URL" in alembic("upgrade", "head").stdout
    done = alembic("-x", "url=postgresql://me:hush@127.0.0.1:1/app", "upgrade", "head")
    assert "FAILED: the database does not answer" in done.stdout
    assert "Traceback" not in done.stderr
    assert "hush" not in done.stdout + done.stderr


def test_scripts_of_the_alembic_command(engine: Engine) -> None:
    before = everything(engine)
    run(engine, alembic("-x", "schema=jobs", "upgrade", "head", "--sql").stdout)
    assert migrate.current(engine, schema="jobs") == HEAD
    run(engine, alembic("-x", "schema=jobs", "downgrade", "head:base", "--sql").stdout)
    assert everything(engine) == before


def test_the_script_makes_the_same(engine: Engine) -> None:
    migrate.upgrade(engine, schema="migrated")
    run(engine, migrate.sql(schema="scripted"))
    assert catalog(engine, "scripted") == catalog(engine, "migrated")
    migrate.check(engine, schema="scripted")
    assert "CREATE" not in migrate.sql(from_revision=HEAD)
