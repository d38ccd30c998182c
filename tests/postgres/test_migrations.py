"""The migrations against a real database: what they make, what they leave, who else may be at work."""

import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, NullPool, create_engine, make_url, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import ProgrammingError

from alembic import command, op
from fang_cli.commands import fang
from fang_core.config import DEFAULT_LEASE, DEFAULT_MAX_CRASHES
from fang_core.errors import AccessRefused, BackendError, BackendUnavailable, SchemaError, UsageError
from fang_embedded import EmbeddedPostgres
from fang_postgres import migrate
from fang_postgres.connections.connecting import TRANSACTION_TIMEOUT_SINCE
from fang_postgres.grants import FUNCTIONS, PRIVILEGES, Purpose
from fang_postgres.names import HEAD, VERSION_TABLE
from fang_postgres.schema import tables
from tests import clusters, forking
from tests.forking import Forked

ROOT = Path(__file__).parents[2]
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


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = engine_for(database_url)
    yield engine
    engine.dispose()


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


# Who else is at work --------------------------------------------------------------------------------------------------


def test_many_threads_upgrade_at_once(database_url: str) -> None:
    start = threading.Barrier(8)

    def deploy(_: int) -> None:
        start.wait(DEADLINE)
        migrate.upgrade(database_url)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(deploy, range(8)))
    assert migrate.current(database_url) == HEAD


def test_many_processes_upgrade_at_once(database_url: str) -> None:
    program = "import sys; from fang_postgres import migrate; print(flush=True); input(); migrate.upgrade(sys.argv[1])"
    deploys = [Forked("-c", program, database_url, imports=IMPORTS) for _ in range(4)]
    for deploy in deploys:
        deploy.stdout.readline()  # it is ready
    for deploy in deploys:
        deploy.stdin.write("\n")
        deploy.stdin.flush()
    for deploy in deploys:
        deploy.communicate(timeout=DEADLINE)
    assert [deploy.returncode for deploy in deploys] == [0] * 4
    assert migrate.current(database_url) == HEAD


def server_version(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()) // 10_000


# Whatever the role's defaults: a snapshot from before the wait, or a timeout while waiting, would fail the second.
@pytest.mark.parametrize(
    ("settings", "longer_than"),
    [
        ("", "1 ms"),
        ("-c default_transaction_isolation=serializable -c default_transaction_read_only=on", "1 ms"),
        ("-c lock_timeout=2s -c statement_timeout=2s", "2.1 s"),  # time enough for what comes before the wait
        ("-c transaction_timeout=2s", "2.1 s"),
    ],
)
def test_an_upgrade_waits_for_one_under_way(engine: Engine, database_url: str, settings: str, longer_than: str) -> None:
    waiting = f"""SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
        WHERE datname = current_database() AND locktype = 'advisory'
        AND waitstart < clock_timestamp() - interval '{longer_than}'"""
    if "transaction_timeout" in settings and server_version(engine) < TRANSACTION_TIMEOUT_SINCE:
        pytest.skip("this server has none")
    second = engine_for(database_url, settings)
    with ThreadPoolExecutor(1) as threads:
        with engine.begin() as first:
            with op_on(first) as first_op:
                migrate.upgrade_within(first_op)
            waits = threads.submit(migrate.upgrade, second)
            deadline = time.monotonic() + DEADLINE
            while not first.scalar(text(waiting)):
                assert time.monotonic() < deadline
                assert not waits.done(), waits.exception()
                first.execute(text("SELECT pg_sleep(0.01)"))
        waits.result(DEADLINE)
    assert migrate.current(engine) == HEAD
    migrate.upgrade(second, schema="jobs")
    migrate.check(engine, schema="jobs")


# The alembic command and scripts --------------------------------------------------------------------------------------


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


# Inside an application's own migrations -------------------------------------------------------------------------------

APPLICATIONS_ENV = """
from alembic import context
from sqlalchemy import create_engine

if context.is_offline_mode():
    context.configure(dialect_name="postgresql")
    with context.begin_transaction():
        context.run_migrations()
else:
    with context.config.attributes["engine"].connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
"""
APPLICATIONS_REVISION = """
from alembic import context, op
from fang_postgres.migrate import downgrade_within, upgrade_within

revision, down_revision = "app1", None

def upgrade():
    op.execute("CREATE TABLE orders (id int)")
    upgrade_within(op, schema="jobs")
    upgrade_within(op, schema="jobs")
    op.execute("CREATE TABLE customers (id int)")
    context.get_context()  # the proxies are still the application's

def downgrade():
    op.execute("DROP TABLE customers")
    downgrade_within(op, schema="jobs")
    downgrade_within(op, schema="jobs")
    op.execute("DROP TABLE orders")
"""


@pytest.fixture
def application(tmp_path: Path, engine: Engine) -> Config:
    (tmp_path / "versions").mkdir()
    (tmp_path / "env.py").write_text(APPLICATIONS_ENV)
    (tmp_path / "versions" / "app1.py").write_text(APPLICATIONS_REVISION)
    config = Config(attributes={"engine": engine})
    config.set_main_option("script_location", str(tmp_path).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


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


# From revision to revision --------------------------------------------------------------------------------------------

AT_0001 = """
INSERT INTO fang.fang_pools (id, mode, host, pid, task_types, kinds, workers, beats)
    VALUES (gen_random_uuid(), 'async', 'there', 7, '{common}', '{A}', 1, 9);
INSERT INTO fang.fang_tasks (metadata, state) VALUES ('{"type": "A"}', 'finished'), ('{"type": "B"}', 'new');
"""
DEFINED = """
SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default) FROM information_schema.columns
    WHERE table_schema = 'fang' UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'fang' ORDER BY 1
"""


@pytest.mark.parametrize("by_script", [False, True])
def test_the_second_revision_keeps_what_is_there(engine: Engine, by_script: bool) -> None:
    migrate.upgrade(engine, revision="0001")
    before = rows(engine, DEFINED)
    run(engine, AT_0001)
    if by_script:
        run(engine, migrate.sql(from_revision="0001").replace("%", "%%"))
    else:
        migrate.upgrade(engine)
    migrate.check(engine)
    pool = "SELECT concat_ws(' ', host, beats, lease, max_crashes) FROM fang.fang_pools"
    assert rows(engine, pool) == ["there 9 00:01:00 3"]
    kept = "SELECT kind || ' ' || state FROM fang.fang_tasks ORDER BY 1"
    assert rows(engine, kept) == ["A finished", "B new"]

    migrate.downgrade(engine, revision="0001")
    assert rows(engine, DEFINED) == before
    assert rows(engine, "SELECT host FROM fang.fang_pools") == ["there"]
    assert rows(engine, kept) == ["A finished", "B new"]
    migrate.upgrade(engine)
    assert rows(engine, pool) == ["there 9 00:01:00 3"]


def test_the_defaults_are_those_of_a_pool(engine: Engine) -> None:
    """Of a record that was written before, or by hand."""
    migrate.upgrade(engine)
    run(engine, AT_0001)
    defaults = f"SELECT lease = '{DEFAULT_LEASE}' AND max_crashes = {DEFAULT_MAX_CRASHES} FROM fang.fang_pools"
    assert rows(engine, defaults) == [True]


def test_the_third_revision_gives_roles_of_workers_their_rights_on_its_table(engine: Engine) -> None:
    """An upgrade must not stop pools whose role has its rights from before."""
    migrate.upgrade(engine, revision="0002")
    run(engine, 'CREATE ROLE "a worker"; CREATE ROLE a_web_application')
    try:
        run(
            engine,
            """GRANT SELECT, INSERT, UPDATE, DELETE ON fang.fang_pools TO "a worker";
            GRANT SELECT ON fang.fang_pools TO a_web_application""",
        )
        migrate.upgrade(engine)
        allowed = """SELECT r || ' ' || p FROM unnest(ARRAY['a worker', 'a_web_application']) r,
            unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p
            WHERE has_table_privilege(r, 'fang.fang_messages', p) ORDER BY p"""
        assert rows(engine, allowed) == ["a worker DELETE", "a worker INSERT", "a worker SELECT"]
    finally:
        run(engine, 'DROP OWNED BY "a worker", a_web_application; DROP ROLE "a worker", a_web_application')


def test_the_fifth_revision_gives_roles_the_rights_that_they_need_to_go_on(engine: Engine) -> None:
    had: dict[Purpose, str] = {
        "web": "SELECT, INSERT ON fang.fang_tasks",
        "worker": "SELECT, INSERT, UPDATE, DELETE ON fang.fang_tasks, fang.fang_pools",
        "status": "SELECT ON fang.fang_tasks",
    }
    migrate.upgrade(engine, revision="0004")
    for purpose, rights in had.items():
        run(engine, f'CREATE ROLE "t {purpose}"; GRANT {rights} TO "t {purpose}"')
    try:
        migrate.upgrade(engine)
        asked = """SELECT privilege FROM unnest(CAST(:privileges AS text[])) AS privilege
            WHERE has_table_privilege(:role, :table, privilege)"""
        for purpose in had:
            for table in ("fang_types", "fang_turns", "fang_lanes", "fang_uniques"):
                found = rows(engine, asked, role=f"t {purpose}", table=f"fang.{table}", privileges=RIGHTS)
                assert found == list(PRIVILEGES[purpose].get(table, ())), (purpose, table)
            for function in FUNCTIONS["worker"]:
                may = "SELECT has_function_privilege(:role, :function, 'EXECUTE')"
                found = rows(engine, may, role=f"t {purpose}", function=f"fang.{function}")
                assert found == [function in FUNCTIONS[purpose]]
    finally:
        for purpose in had:
            run(engine, f'DROP OWNED BY "t {purpose}"; DROP ROLE "t {purpose}"')


def test_the_sixth_revision_gives_roles_the_rights_that_they_need_to_go_on(engine: Engine) -> None:
    had: dict[Purpose, str] = {
        "web": "SELECT, INSERT ON fang.fang_tasks",
        "worker": "SELECT, INSERT, UPDATE, DELETE ON fang.fang_tasks, fang.fang_pools",
        "status": "SELECT ON fang.fang_tasks",
    }
    migrate.upgrade(engine, revision="0005")
    for purpose, rights in had.items():
        run(engine, f'CREATE ROLE "t {purpose}"; GRANT {rights} TO "t {purpose}"')
    try:
        migrate.upgrade(engine, revision="0006")
        asked = """SELECT privilege FROM unnest(CAST(:privileges AS text[])) AS privilege
            WHERE has_table_privilege(:role, :table, privilege)"""
        for purpose in had:
            for table in ("fang_stats", "fang_live", "fang_audit", "fang_scaling"):
                found = rows(engine, asked, role=f"t {purpose}", table=f"fang.{table}", privileges=RIGHTS)
                assert found == list(PRIVILEGES[purpose].get(table, ())), (purpose, table)
    finally:
        for purpose in had:
            run(engine, f'DROP OWNED BY "t {purpose}"; DROP ROLE "t {purpose}"')


def test_the_view_for_autoscalers_has_the_columns_that_are_described(engine: Engine) -> None:
    migrate.upgrade(engine)
    columns = """SELECT a.attname || ' ' || format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
        WHERE a.attrelid = 'fang.fang_scaling'::regclass AND a.attnum > 0 ORDER BY a.attnum"""
    described = [f"{c.name} {c.type.compile(postgresql.dialect())}".lower() for c in tables().scaling.columns]
    assert rows(engine, columns) == described


def test_claims_read_with_new_snapshots_in_functions(engine: Engine) -> None:
    """In a stable function they would not see what others have committed since the claim began."""
    migrate.upgrade(engine)
    functions = (
        "SELECT concat_ws(' ', proname, provolatile) FROM pg_proc WHERE pronamespace = 'fang'::regnamespace ORDER BY 1"
    )
    assert rows(engine, functions) == ["fang_lane_tat_1 v", "fang_running_1 v", "fang_running_each_1 v", "fang_tat_1 v"]


# A revision to come ---------------------------------------------------------------------------------------------------

LATER = """
from alembic import op

revision, down_revision = "later", "HEAD"

def upgrade(schema):
    op.execute(f'ALTER TABLE "{schema}".fang_tasks ADD later int')

def downgrade(schema):
    op.execute(f'ALTER TABLE "{schema}".fang_tasks DROP later')
"""


@pytest.fixture
def _later_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = tmp_path / "later"
    later.mkdir()
    (later / "later.py").write_text(LATER.replace("HEAD", HEAD))
    scripts = ScriptDirectory(ROOT / "alembic", version_locations=[ROOT / "alembic" / "versions", later])
    monkeypatch.setattr(migrate, "_scripts", lambda: scripts)


@pytest.mark.usefixtures("_later_version")
def test_step_by_step(engine: Engine) -> None:
    migrate.upgrade(engine, revision="0001")
    assert migrate.current(engine) == "0001"
    with pytest.raises(SchemaError, match="is at revision 0001, this version needs"):
        migrate.check(engine)
    migrate.upgrade(engine)
    assert migrate.current(engine) == "later"
    migrate.upgrade(engine, revision="0001")  # an older revision of an application's, run on a newer library
    assert migrate.current(engine) == "later"
    with pytest.raises(SchemaError, match="upgrade fang-tasks"):
        migrate.check(engine)
    migrate.downgrade(engine, revision=HEAD)
    migrate.check(engine)
    migrate.downgrade(engine, revision=HEAD)
    migrate.check(engine)


@pytest.mark.usefixtures("_later_version")
def test_a_script_goes_on_where_it_was(engine: Engine) -> None:
    migrate.upgrade(engine, revision="0001")
    script = migrate.sql(from_revision="0001")
    assert "CREATE TYPE" not in script
    run(engine, script)
    assert migrate.current(engine) == "later"


@pytest.mark.usefixtures("_later_version")
def test_several_revisions_in_one_script(engine: Engine, application: Config, tmp_path: Path, capsys: Any) -> None:
    steps = """upgrade_within(op, "0001")
    upgrade_within(op)
    upgrade_within(op, "0001")
    upgrade_within(op, "later")"""
    revision = APPLICATIONS_REVISION.replace('upgrade_within(op, schema="jobs")', steps, 1)
    (tmp_path / "versions" / "app1.py").write_text(revision.replace('    upgrade_within(op, schema="jobs")\n', ""))
    command.upgrade(application, "head", sql=True)
    script = capsys.readouterr().out
    assert script.count("CREATE TYPE") == script.count("ADD later") == 1
    run(engine, script)
    assert migrate.current(engine) == "later"


def test_a_newer_schema_is_not_touched(engine: Engine) -> None:
    migrate.upgrade(engine)
    run(engine, "UPDATE fang.fang_alembic_version SET version_num = '9999'")
    for call in (migrate.check, migrate.upgrade, migrate.downgrade):
        with pytest.raises(SchemaError, match=r"9999.*upgrade fang-tasks"):
            call(engine)
    assert migrate.current(engine) == "9999"


# What goes wrong ------------------------------------------------------------------------------------------------------


def test_missing_tables_say_what_to_run(engine: Engine) -> None:
    with pytest.raises(SchemaError, match=r"^table fang\.fang_tasks is missing: run `fang migrate`$"):
        migrate.check(engine)
    with pytest.raises(SchemaError, match=r"run `fang migrate --schema jobs`$"):
        migrate.check(engine, schema="jobs")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg"])
def test_any_spelling_of_the_url(database_url: str, scheme: str) -> None:
    migrate.upgrade(database_url.replace("postgresql", scheme, 1))
    migrate.check(make_url(database_url))


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://me:hush@host/app"])
def test_an_unusable_url(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        migrate.upgrade(url)
    assert "hush" not in str(caught.value)


def test_unusable_names(engine: Engine) -> None:
    for call in (migrate.upgrade, migrate.downgrade, migrate.current):
        with pytest.raises(UsageError, match="schema"):
            call(engine, schema='x"; DROP TABLE y')
    with pytest.raises(UsageError, match="revision"):
        migrate.upgrade(engine, revision="nonsense")
    with pytest.raises(UsageError, match="revision"):
        migrate.sql(from_revision="nonsense")


def test_a_database_that_is_down(tmp_path: Path) -> None:
    for where in ("127.0.0.1:1/app", f"/app?host={tmp_path}"):
        with pytest.raises(BackendUnavailable, match=r"^the database does not answer: ") as caught:
            migrate.upgrade(f"postgresql://me:hush@{where}")
        assert_one_quiet_line(caught.value)


@pytest.mark.parametrize("what", ["username", "database"])
def test_a_role_or_a_database_that_does_not_exist(database_url: str, what: str) -> None:
    changed: dict[str, Any] = {what: "nothing_of_that_name"}
    with pytest.raises(AccessRefused, match=r"check the URL's user, password and database$") as caught:
        migrate.check(make_url(database_url).set(password="hush", **changed))
    assert_one_quiet_line(caught.value)


def test_a_wrong_password() -> None:
    with (
        server_that_refuses('password authentication failed for user "me"') as port,
        pytest.raises(AccessRefused, match="password authentication failed") as caught,
    ):
        migrate.check(f"postgresql://me:hush@127.0.0.1:{port}/app?sslmode=disable&gssencmode=disable")
    assert_one_quiet_line(caught.value)


def test_rights(engine: Engine, database_url: str) -> None:
    role = f"fang_test_{os.getpid()}_{time.monotonic_ns()}"
    run(engine, f"CREATE ROLE {role}")
    without_rights = engine_for(database_url, f"-c role={role}")
    try:
        with pytest.raises(AccessRefused, match="grant the role its rights on schema fang") as caught:
            migrate.upgrade(without_rights)
        assert_one_quiet_line(caught.value)
        migrate.upgrade(engine)
        with pytest.raises(AccessRefused, match="grant"):
            migrate.check(without_rights)

        # A schema made for it beforehand is enough: it may not create any, and need not.
        run(engine, f"CREATE SCHEMA jobs; GRANT ALL ON SCHEMA jobs TO {role}")
        migrate.upgrade(without_rights, schema="jobs")
        migrate.check(without_rights, schema="jobs")
        migrate.downgrade(without_rights, schema="jobs")
        assert [found for found in everything(engine) if "jobs" in found] == ["schema jobs"]
    finally:
        run(engine, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_without_alembic() -> None:
    program = "import sys; sys.modules['alembic'] = None; import fang_postgres.migrate"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stderr.endswith("MissingExtra: alembic is missing: pip install 'fang-tasks[cli]'\n")


def test_an_installed_copy_finds_its_migrations_and_has_the_files_of_the_page_and_the_scripts_of_redis(
    tmp_path: Path,
) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    installed = tmp_path / "installed"
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(installed)
    assert not (installed / "alembic").exists()
    page = [path.relative_to(ROOT) for kind in ("static", "templates") for path in (ROOT / "fang_web" / kind).iterdir()]
    assert page
    scripts = [path.relative_to(ROOT) for path in (ROOT / "fang_redis" / "scripts").iterdir()]
    assert [str(path) for path in [*page, *scripts] if not (installed / path).is_file()] == []
    program = "from fang_postgres import migrate; print(migrate.__file__); print(migrate.sql())"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert printed.startswith(str(installed))
    assert printed.partition("\n")[2].strip() == migrate.sql().strip()


def assert_one_quiet_line(error: BackendError) -> None:
    assert "\n" not in str(error)
    assert "hush" not in str(error)


@contextmanager
def server_that_refuses(message: str) -> Iterator[int]:
    """Listens as Postgres does, and answers every startup message with a FATAL error."""
    fields = b"SFATAL\0VFATAL\0C28P01\0M" + message.encode() + b"\0\0"
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(4096)
            client.sendall(b"E" + (len(fields) + 4).to_bytes(4) + fields)

    thread = threading.Thread(target=refuse)
    thread.start()
    with listener:
        yield listener.getsockname()[1]
        thread.join(DEADLINE)


def test_a_standby_can_be_asked() -> None:
    """It takes no writes; what is there can be read, and is good enough."""
    with TemporaryDirectory(prefix="fang-standby-") as directory:
        where = Path(directory) / "cluster"
        Path(directory).chmod(0o755)  # the server may run as another user
        with EmbeddedPostgres(directory=where, bin_dir=clusters.bin_dir()) as primary:
            migrate.upgrade(primary.url)
        (where / "data" / "standby.signal").touch()
        with EmbeddedPostgres(directory=where, bin_dir=clusters.bin_dir()) as standby:
            migrate.check(standby.url)
            assert migrate.current(standby.url) == HEAD
            assert not fang.main(["migrate", "--check", "--database-url", standby.url], standalone_mode=False)
            assert not fang.main(["status", "--database-url", standby.url], standalone_mode=False)
            with pytest.raises(BackendError, match="connect to a server that takes writes"):
                migrate.upgrade(standby.url)
