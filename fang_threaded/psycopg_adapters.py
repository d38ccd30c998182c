"""Keeps the queue's connections free of what an application registers with psycopg for its whole process."""

from datetime import timedelta
from functools import cache

from psycopg import postgres
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.types import TypesRegistry, array

from fang_postgres.shapes import as_text


class _Span(Dumper):
    """Sends a span in hours and seconds. psycopg's own one sends days, which are those of the session's zone; and
    ``PGTZ`` sets that zone even on Fang's connections."""

    oid = postgres.types["interval"].oid

    def dump(self, obj: timedelta) -> bytes:
        return str(as_text(obj)).encode()


@cache
def own_adapters() -> AdaptersMap:
    """Returns psycopg's loaders and dumpers as they are before an application registers any; for ``connect``."""
    types = TypesRegistry()
    postgres.register_default_types(types)
    adapters = AdaptersMap(types=types)
    postgres.register_default_adapters(adapters)
    array.register_all_arrays(adapters)
    adapters.register_dumper(timedelta, _Span)
    return adapters
