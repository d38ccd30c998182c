"""Connections that an application has set up in its own way: whatever they decode and encode is nonsense."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import psycopg
import psycopg2
import psycopg2.extensions
from psycopg.adapt import Dumper, Loader

from fang_core import Unique

TYPES = (
    "uuid",
    "timestamptz",
    "int2",
    "int4",
    "int8",
    "bool",
    "text",
    "varchar",
    "json",
    "jsonb",
    "interval",
    "float8",
)
ARRAYS = ("uuid[]", "text[]", "int2[]")

SETTINGS = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "extra_float_digits": "-10",
    "bytea_output": "escape",
    "array_nulls": "off",
    "client_encoding": "LATIN1",
    "search_path": "",
}

ELSEWHERE: Final = {"schema_translate_map": {None: "tenant", "fang": "tenant"}}
"""Execution options with which SQLAlchemy sends the application's statements to other tables."""

STRANGE: Final = 'Ж — "\\x41" \\\\101 é \N{SLIGHTLY SMILING FACE}'
"""A text that most encodings lack, with what Postgres could take for bytes in hexadecimal or in octal."""


class Nonsense(Loader):
    def load(self, data: Any) -> object:
        return "nonsense"


class NonsenseDumper(Dumper):
    def dump(self, obj: Any) -> bytes:
        return b"nonsense"


def loaders_of_nonsense(connection: psycopg.Connection[Any]) -> None:
    for name in TYPES:
        connection.adapters.register_loader(name, Nonsense)


def dumpers_of_nonsense(connection: psycopg.Connection[Any]) -> None:
    for cls in (str, int, bool, UUID, datetime, timedelta):
        connection.adapters.register_dumper(cls, NonsenseDumper)


def type_casters_of_nonsense(connection: Any) -> None:
    oids = [psycopg.adapters.types[name].oid for name in TYPES]
    caster = psycopg2.extensions.new_type(tuple(oids), "NONSENSE", lambda value, cursor: "nonsense")
    psycopg2.extensions.register_type(caster, connection)


async def codecs_of_nonsense(connection: Any) -> None:
    for name in TYPES:
        await connection.set_type_codec(
            name, encoder=lambda value: "nonsense", decoder=lambda text: "nonsense", schema="pg_catalog"
        )


def settings_of(execute: Callable[[str], Any], **others: str) -> None:
    for name, value in (SETTINGS | others).items():
        execute(f"SET {name} = '{value}'")


async def settings_of_async(execute: Callable[[str], Awaitable[Any]], **others: str) -> None:
    for name, value in (SETTINGS | others).items():
        await execute(f"SET {name} = '{value}'")


class OwnRecord(asyncpg.Record):
    def __getitem__(self, key: Any) -> Any:
        return "nonsense"


SOON = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
"""Whose day and month another date style would take for each other."""

LONG_AGO = datetime(2001, 2, 3, 4, 5, 6, 789, tzinfo=UTC)

MINUTE: Final = timedelta(minutes=1)
TERMS: Final = (
    Unique(by="n", within=timedelta(days=1)),
    Unique(while_="waiting"),
    Unique(while_="always"),
    Unique(by="n", on_conflict="replace"),
    Unique(while_="waiting", within=timedelta(days=1), on_conflict="postpone"),
)
"""Unique tasks, for whose inserts other statements are sent."""
