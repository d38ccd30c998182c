"""Runs migrations for the ``alembic`` command. ``fang migrate`` and applications use only ``fang_postgres.migrate``."""

import os
from logging.config import fileConfig

from alembic.util import CommandError

from alembic import context
from fang_core.errors import FangError
from fang_postgres import migrate
from fang_postgres.names import DEFAULT_SCHEMA, checked_schema
from fang_postgres.schema import tables


def main() -> None:
    if context.config.config_file_name is not None:
        fileConfig(context.config.config_file_name, disable_existing_loggers=False)
    settings = context.get_x_argument(as_dictionary=True)
    try:
        schema = checked_schema(settings.get("schema", DEFAULT_SCHEMA))
        if context.is_offline_mode():
            offline(schema)
        else:
            online(settings.get("url") or os.environ.get("FANG_DATABASE_URL", ""), schema)
    except FangError as error:
        raise CommandError(str(error)) from None


def offline(schema: str) -> None:
    context.configure(dialect_name="postgresql", **migrate.options(schema))
    with context.begin_transaction():
        if context.get_starting_revision_argument() is None:
            migrate.prepare(context.get_context(), schema)
        context.run_migrations(schema=schema)
        if context.get_revision_argument() is None:
            migrate.remove_traces(context.get_context(), schema)


def online(url: str, schema: str) -> None:
    if not url:
        raise CommandError("no database: set FANG_DATABASE_URL, or pass -x url=postgresql://user@host/database")
    with migrate.transaction(url, schema) as connection:
        context.configure(
            connection=connection,
            target_metadata=tables(schema).metadata,
            include_schemas=True,
            include_name=lambda name, type_, _parents: type_ != "schema" or name == schema,
            compare_server_default=True,
            **migrate.options(schema),
        )
        migrations = context.get_context()
        changes = not migrations.opts.get("dont_mutate", False)
        if changes:
            migrate.prepare(migrations, schema)
        context.run_migrations(schema=schema)
        if changes and not migrations.get_current_heads():
            migrate.remove_traces(migrations, schema)


main()
