"""Makes and changes the tables: runs the migrations with Alembic, under any schema name.

``upgrade`` and ``downgrade`` work in a transaction of their own, ``upgrade_within`` and ``downgrade_within`` in that of
an application's revision. The version table is in Fang's schema; nothing of the application's is touched, and a
downgrade to base leaves nothing of Fang's behind.

Raises, each with a text of one line and without the URL: ``UsageError`` (an unusable URL, schema name or revision),
``SchemaError`` (the tables are missing, or of a version that this one does not know), ``AccessRefused``,
``BackendUnavailable``.
"""

import hashlib
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import URL, Connection, Engine, NullPool
from sqlalchemy.exc import DBAPIError

from fang_core.errors import BackendError, MissingExtra, SchemaError, UsageError
from fang_postgres.connections.connecting import TRANSACTION_TIMEOUT_SINCE
from fang_postgres.connections.diagnosis import code_of_connect_failure, diagnose
from fang_postgres.connections.engine import engine_for
from fang_postgres.lock_waits import told
from fang_postgres.names import DEFAULT_SCHEMA, VERSION_TABLE, checked_schema
from fang_postgres.revisions import Revision, comment_for, read_revision, schema_problem
from fang_postgres.schema import tables

try:
    from alembic.operations import Operations
    from alembic.runtime.environment import IncludeNameFn, NameFilterParentNames, NameFilterType
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError
except ImportError:
    raise MissingExtra("alembic is missing: pip install 'fang-tasks[cli]'") from None

UrlOrEngine = str | URL | Engine

# alembic.op is one proxy for the whole process: two threads must not migrate through it at once.
_alembic_op: Final = threading.Lock()
# CREATE SCHEMA IF NOT EXISTS needs the right to create even if there is nothing to create.
_CREATE_SCHEMA: Final = """DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{0}')
    THEN CREATE SCHEMA "{0}"; END IF; END $$"""
_DROP_EMPTY_SCHEMA: Final = """DO $$ BEGIN DROP SCHEMA IF EXISTS "{0}" RESTRICT;
    EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN NULL; END $$"""


class Op(Protocol):
    """The part of ``alembic.op`` that Fang uses: pass the module itself."""

    def get_context(self) -> MigrationContext: ...


# In a transaction of our own ------------------------------------------------------------------------------------------


def upgrade(database: UrlOrEngine, *, schema: str = DEFAULT_SCHEMA, revision: str = "head") -> None:
    """Makes or changes the tables; does nothing if they are at ``revision`` or beyond.

    "Beyond" includes a revision that this version does not know, if that revision lets this version use the tables.

    Several processes may call this at once: one migrates, the others wait for it. ``database`` is a URL or an Engine.
    Inside a revision of the application call ``upgrade_within`` instead.
    """
    with _own_op(database, schema) as op:
        upgrade_within(op, revision, schema=schema)


def downgrade(database: UrlOrEngine, *, schema: str = DEFAULT_SCHEMA, revision: str = "base") -> None:
    """Takes the tables back to ``revision``. Base drops them with all rows, and the schema if it is then empty."""
    with _own_op(database, schema) as op:
        downgrade_within(op, revision, schema=schema)


def current(database: UrlOrEngine, *, schema: str = DEFAULT_SCHEMA) -> str | None:
    """Returns the revision that the tables are at, or None if there are no tables. Works on a standby as well."""
    found = _found(database, schema)
    return found and found.number


def check(database: UrlOrEngine, *, schema: str = DEFAULT_SCHEMA) -> None:
    """Raises ``SchemaError``, which says what to run, unless this version may use the tables; see ``current``."""
    if problem := schema_problem(schema, _found(database, schema)):
        raise SchemaError(problem)


def sql(*, schema: str = DEFAULT_SCHEMA, from_revision: str | None = None) -> str:
    """Returns a script that brings tables from ``from_revision`` (None: no tables) to this version, for ``psql``."""
    script = StringIO()
    context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "output_buffer": script})
    with _typed(schema), _alembic_op, Operations.context(context) as op, context.begin_transaction():
        upgrade_within(op, schema=schema, from_revision=from_revision)
    return script.getvalue()


# In a revision, or the env.py, of the application's -------------------------------------------------------------------


def upgrade_within(
    op: Op, revision: str = "head", *, schema: str = DEFAULT_SCHEMA, from_revision: str | None = None
) -> None:
    """Makes or changes the tables inside ``upgrade()`` of an application's revision: ``upgrade_within(op)``.

    Joins the revision's transaction, and its ``--sql`` mode. Skips revisions of Fang that are applied already. A script
    (``--sql``) cannot see those: it starts at the revision that an earlier call in the script ended at, or else at
    ``from_revision`` (None: no tables). Errors of the database are raised unchanged.
    """
    _run(op, schema, revision, from_revision or "base", _upgrade)


def downgrade_within(
    op: Op, revision: str = "base", *, schema: str = DEFAULT_SCHEMA, from_revision: str | None = None
) -> None:
    """Takes the tables back inside ``downgrade()`` of an application's revision. A script starts at this version unless
    told otherwise."""
    _run(op, schema, revision, from_revision or "head", _downgrade)


def include_name_for(schema: str) -> IncludeNameFn:
    """Returns a hook that hides this schema (in ``public``: Fang's tables) from an application's autogenerate.

    Pass it to ``context.configure(include_name=...)`` in its env.py, if that says ``include_schemas=True``, or if the
    schema is ``public`` or on the search_path (as ``fang`` is for a role of that name). ``include_name`` is the hook
    for ``fang``.
    """
    ours = {table.name for table in tables(schema).metadata.tables.values()} | {VERSION_TABLE}

    def include_name(name: str | None, type_: NameFilterType, parent_names: NameFilterParentNames) -> bool:
        if type_ == "schema":
            return name != schema or schema == "public"
        return type_ != "table" or name not in ours or parent_names.get("schema_name") not in {None, schema}

    return include_name


include_name: Final = include_name_for(DEFAULT_SCHEMA)


# How (env.py, which serves the alembic command, uses the public ones) -------------------------------------------------


def options(schema: str) -> dict[str, Any]:
    """Returns Alembic's options: Fang's own version table, whose comment says which older code may use the tables."""

    def say_oldest_code(ctx: MigrationContext, heads: Collection[str], **_: Any) -> None:
        for head in heads:  # one, or none when the table goes
            script = ctx.script and ctx.script.get_revision(head)
            text = comment_for(head, getattr(script and script.module, "oldest_code", head))
            ctx.execute(f"COMMENT ON TABLE \"{schema}\".{VERSION_TABLE} IS '{text}'")

    return {"version_table": VERSION_TABLE, "version_table_schema": schema, "on_version_apply": (say_oldest_code,)}


@contextmanager
def transaction(database: UrlOrEngine, schema: str, *, writes: bool = True) -> Iterator[Connection]:
    """Begins a transaction in which a migration can run: it may write and has no timeout, whatever the role's defaults.

    With ``writes=False`` it works on a standby too. If ``database`` is a URL, a warning in the log says for which
    sessions it waits; an Engine may have no connection to spare for that.
    """
    with _typed(checked_schema(schema)), (engine := _engine(database)).connect() as connection:
        connection.execution_options(isolation_level="READ COMMITTED")
        with _untranslated(connection), connection.begin():
            # Not SELECT pg_is_in_recovery(): after a query the transaction could no longer be made one that writes.
            if writes and connection.exec_driver_sql("SHOW in_hot_standby").scalar_one() == "on":
                raise BackendError("the database is a standby: connect to a server that takes writes")
            connection.exec_driver_sql(f"SET TRANSACTION READ {'WRITE' if writes else 'ONLY'}")
            for timeout in _timeouts(connection):
                connection.exec_driver_sql(f"SET LOCAL {timeout} = 0")
            connection.exec_driver_sql("SET LOCAL jit = off")
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            with nullcontext() if isinstance(database, Engine) else told(engine, pid):
                yield connection


def prepare(context: MigrationContext, schema: str) -> None:
    """Waits for other processes that migrate this schema, and makes it if it is missing; call it before the version is
    read."""
    if not context.as_sql:
        key = int.from_bytes(hashlib.sha256(f"fang_migrate {schema}".encode()).digest()[:8], signed=True)
        context.execute(f"SELECT pg_advisory_xact_lock({key})")
    context.execute(_CREATE_SCHEMA.format(schema))


def remove_traces(context: MigrationContext, schema: str) -> None:
    """Drops the version table after a downgrade to base, and the schema if it is then empty."""
    context.execute(f'DROP TABLE IF EXISTS "{schema}".{VERSION_TABLE}')
    if schema != "public":
        context.execute(_DROP_EMPTY_SCHEMA.format(schema))


def _found(database: UrlOrEngine, schema: str) -> Revision | None:
    with transaction(database, schema, writes=False) as connection:
        return _read(MigrationContext.configure(connection, opts=options(schema)), schema)


def _read(context: MigrationContext, schema: str) -> Revision | None:
    number = context.get_current_revision()
    if number is None or context.connection is None:
        return None
    asked = f"SELECT obj_description('{schema}.{VERSION_TABLE}'::regclass, 'pg_class')"
    return read_revision(number, context.connection.exec_driver_sql(asked).scalar_one())


def _upgrade(wanted: str, heads: Any) -> Any:
    return _scripts()._upgrade_revs(wanted, heads)


def _downgrade(wanted: str, heads: Any) -> Any:
    return _scripts()._downgrade_revs(wanted, heads)


def _run(op: Op, schema: str, revision: str, start: str, steps: Callable[..., Any]) -> None:
    # Fang's revisions import alembic.op, which is this op while the block lasts. A context of their own keeps Fang's
    # version table. It is not an EnvironmentContext: leaving one would take the application's proxies away.
    outer = op.get_context()
    opts = options(checked_schema(schema)) | {"script": _scripts(), "fn": lambda heads, _: steps(revision, heads)}
    if outer.as_sql:
        _write(outer, opts, schema, revision, start)
    else:
        assert outer.connection is not None  # it is None in a script alone
        with _untranslated(outer.connection) as connection:
            _apply(MigrationContext.configure(connection, opts=opts), schema, is_upgrade=steps is _upgrade)


def _apply(context: MigrationContext, schema: str, *, is_upgrade: bool) -> None:
    prepare(context, schema)
    found = _read(context, schema)
    if found is not None and found.number not in {script.revision for script in _scripts().walk_revisions()}:
        if is_upgrade and found.may_be_used:
            return
        raise SchemaError(f"schema {schema} is at revision {found.number}, unknown to this version: upgrade fang-tasks")
    context.run_migrations(schema=schema)
    if context.get_current_revision() is None:
        remove_traces(context, schema)


def _write(outer: MigrationContext, opts: dict[str, Any], schema: str, revision: str, start: str) -> None:
    ends = outer.opts.setdefault("fang_ends", {})  # of earlier calls in the same script
    first, last = (_scripts().as_revision_number(name) or "base" for name in (ends.get(schema, start), revision))
    if first == last:
        return
    opts |= {"as_sql": True, "output_buffer": outer.output_buffer, "starting_rev": first}
    opts["on_version_apply"] += (lambda heads, **_: ends.update({schema: next(iter(heads), "base")}),)
    context = MigrationContext.configure(dialect=outer.dialect, opts=opts)
    if first == "base":
        prepare(context, schema)
    context.run_migrations(schema=schema)
    if last == "base":
        remove_traces(context, schema)


@contextmanager
def _untranslated(connection: Connection) -> Iterator[Connection]:
    """Has Alembic find Fang's version table, whatever map of schemas the application has set for its own tables."""
    schemas = connection.get_execution_options().get("schema_translate_map")
    connection.execution_options(schema_translate_map=None)
    try:
        yield connection
    finally:
        connection.execution_options(schema_translate_map=schemas)


@cache
def _scripts() -> ScriptDirectory:
    here = Path(__file__).parent  # in a wheel the revisions are next to this file, in a checkout at the project's root
    return ScriptDirectory(next(p for p in (here / "alembic", here.parent / "alembic") if (p / "env.py").is_file()))


@contextmanager
def _own_op(database: UrlOrEngine, schema: str) -> Iterator[Operations]:
    with _alembic_op, transaction(database, schema) as connection:
        context = MigrationContext.configure(connection)
        with Operations.context(context) as op:
            yield op


def _engine(database: UrlOrEngine) -> Engine:
    if isinstance(database, Engine):
        return database
    return engine_for(database, application_name="fang migrate", poolclass=NullPool)


def _timeouts(connection: Connection) -> list[str]:
    timeouts = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"]
    version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
    if version // 10_000 >= TRANSACTION_TIMEOUT_SINCE:
        timeouts.append("transaction_timeout")
    return timeouts


@contextmanager
def _typed(schema: str) -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        raise UsageError(" ".join(str(error).split())) from None
    except DBAPIError as error:
        raise _diagnosed(error.orig, schema) from error


def _diagnosed(error: BaseException | None, schema: str) -> BackendError:
    sqlstate = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    message = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
    if sqlstate in {"42P07", "42710"}:
        taken = " ".join(message.split())
        return SchemaError(f"schema {schema} already has an object of that name ({taken}): choose another schema")
    return diagnose(sqlstate or code_of_connect_failure(message), message, schema=schema)
