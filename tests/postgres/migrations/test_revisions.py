"""From one revision to the next, and back."""

from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.dialects import postgresql

from alembic import command
from fang_core.config import DEFAULT_LEASE, DEFAULT_MAX_CRASHES
from fang_core.errors import SchemaError
from fang_postgres import migrate
from fang_postgres.grants import FUNCTIONS, PRIVILEGES, Purpose
from fang_postgres.names import HEAD
from fang_postgres.schema import tables
from tests.postgres.migrations.applications import APPLICATIONS_REVISION
from tests.postgres.migrations.catalogs import RIGHTS, ROOT, rows, run

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
