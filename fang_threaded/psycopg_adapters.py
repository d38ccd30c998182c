"""Keeps the queue's connections free of what an application registers with psycopg for its whole process."""

from functools import cache

from psycopg import postgres
from psycopg.adapt import AdaptersMap
from psycopg.types import TypesRegistry, array


@cache
def own_adapters() -> AdaptersMap:
    """Returns psycopg's loaders and dumpers as they are before an application registers any; for ``connect``."""
    types = TypesRegistry()
    postgres.register_default_types(types)
    adapters = AdaptersMap(types=types)
    postgres.register_default_adapters(adapters)
    array.register_all_arrays(adapters)
    return adapters
