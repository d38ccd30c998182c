"""A rolling deploy: processes whose code is older than the tables, where the migration says that they may go on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from alembic.script import ScriptDirectory

from fang_cli.commands import fang
from fang_core.errors import SchemaError
from fang_postgres import migrate
from fang_postgres.names import HEAD
from fang_postgres.revisions import comment_for, read_revision, schema_problem
from tests.modes import Harness, ran

FUTURE: Final = f'''
from alembic import op

revision = "{int(HEAD) + 1:04}"
down_revision = "{HEAD}"
branch_labels = None
depends_on = None
oldest_code = "OLDEST"


def upgrade(schema):
    op.execute(f'ALTER TABLE "{{schema}}".fang_tasks ADD tenant text')


def downgrade(schema):
    op.execute(f'ALTER TABLE "{{schema}}".fang_tasks DROP tenant')
'''
NEXT: Final = f"{int(HEAD) + 1:04}"


@pytest.fixture
def by_the_future(tmp_path: Path) -> Callable[..., Any]:
    """Calls something as a later version of the library would, whose next revision lets code of ``oldest`` go on."""
    versions = tmp_path / "alembic"
    shutil.copytree(migrate._scripts().dir, versions, ignore=shutil.ignore_patterns("__pycache__"))

    def call(function: Callable[..., Any], *arguments: Any, oldest: str = HEAD, **options: Any) -> Any:
        (versions / "versions" / f"{NEXT}_future.py").write_text(FUTURE.replace("OLDEST", oldest))
        with pytest.MonkeyPatch.context() as patch:
            scripts = ScriptDirectory(versions)
            patch.setattr(migrate, "_scripts", lambda: scripts)
            return function(*arguments, **options)

    return call


def test_older_code_works_where_the_migration_allows_it(
    harness: Harness, url: str, by_the_future: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    by_the_future(migrate.upgrade, url)
    queue = harness.queue(url)
    harness.call(queue.open)
    harness.pool(queue)
    harness.call(queue.insert_task, harness.note(n=3))
    assert ran() == [3]
    # What a container does before it starts.
    for arguments in ([], ["--check"]):
        assert not fang.main(["migrate", *arguments, "--database-url", url], standalone_mode=False)
        told = f"the tables in schema fang are at revision {NEXT}; this version, made for {HEAD}, may use them\n"
        assert capsys.readouterr().out == told
    assert not fang.main(["status", "--database-url", url], standalone_mode=False)
    assert migrate.current(url) == NEXT


def test_older_code_stops_where_the_migration_does_not_allow_it(
    harness: Harness, url: str, by_the_future: Callable[..., Any]
) -> None:
    by_the_future(migrate.upgrade, url, oldest=NEXT)
    refused = f"^schema fang is at revision {NEXT}, which this version, .*, may not use: upgrade fang-tasks$"
    queue = harness.queue(url)
    with pytest.raises(SchemaError, match=refused):
        harness.call(queue.open)
    with pytest.raises(SchemaError, match=refused):
        harness.pool(queue)
    harness._pools.clear()
    with pytest.raises(SchemaError, match=refused):
        migrate.check(url)
    with pytest.raises(SchemaError, match="upgrade fang-tasks"):
        migrate.upgrade(url)


def test_older_code_never_takes_newer_tables_back(url: str, by_the_future: Callable[..., Any]) -> None:
    by_the_future(migrate.upgrade, url)
    with pytest.raises(SchemaError, match="unknown to this version: upgrade fang-tasks"):
        migrate.downgrade(url)


def test_the_way_back_says_again_what_the_former_revision_allows(url: str, by_the_future: Callable[..., Any]) -> None:
    before = comment_of(url)
    by_the_future(migrate.upgrade, url)
    assert comment_of(url) == comment_for(NEXT, HEAD)
    by_the_future(migrate.downgrade, url, revision=HEAD)
    assert comment_of(url) == before == comment_for(HEAD, oldest_codes()[HEAD])


def test_a_script_says_it_too(database_url: str, by_the_future: Callable[..., Any]) -> None:
    script = by_the_future(migrate.sql)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(script)
    assert comment_of(database_url) == comment_for(NEXT, HEAD)
    migrate.check(database_url)


def test_no_more_than_the_rights_of_the_version_are_needed(url: str, by_the_future: Callable[..., Any]) -> None:
    by_the_future(migrate.upgrade, url)
    role = "t_reader"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN")
        try:
            connection.execute(f"GRANT USAGE ON SCHEMA fang TO {role}")
            connection.execute(f"GRANT SELECT ON fang.fang_alembic_version TO {role}")
            migrate.check(f"{url}&options=-c role={role}")
        finally:
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("number", "comment", "is_allowed"),
    [
        (HEAD, None, True),
        (HEAD, comment_for(HEAD, NEXT), True),
        (NEXT, comment_for(NEXT, HEAD), True),
        (NEXT, comment_for(NEXT, "0001"), True),
        (NEXT, comment_for(NEXT, NEXT), False),
        (NEXT, comment_for(HEAD, HEAD), False),
        (NEXT, None, False),
        (NEXT, "somebody's own words", False),
        ("0001", comment_for("0001", "0001"), False),
    ],
)
def test_who_may_use_what(number: str, comment: str | None, is_allowed: bool) -> None:
    found = read_revision(number, comment)
    assert found.may_be_used is is_allowed
    assert (schema_problem("fang", found) is None) is is_allowed


def test_every_revision_says_which_code_may_go_on() -> None:
    """What an earlier one has taken away no later one gives back."""
    allowed = sorted(oldest_codes().items())
    assert all(oldest <= number for number, oldest in allowed)
    assert [oldest for _, oldest in allowed] == sorted(oldest for _, oldest in allowed)
    assert allowed[-1][0] == HEAD


def oldest_codes() -> dict[str, str]:
    return {script.revision: script.module.oldest_code for script in migrate._scripts().walk_revisions()}


def comment_of(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT obj_description('fang.fang_alembic_version'::regclass, 'pg_class')").fetchone()
        return str(row and row[0])
