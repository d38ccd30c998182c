"""Examines a backend for ``fang doctor``: what its engine says of itself, and then its pools and tasks."""

from collections.abc import Iterable, Iterator

from fang_backends.urls import Engine, engine_of, redis_url
from fang_cli.watching.status import read_status
from fang_core.errors import BackendError
from fang_core.monitoring import checks
from fang_core.monitoring.checks import Check, Level, unknown


def examine(url: str, schema: str) -> list[Check]:
    """Returns what each rule says, in the order in which things are best mended.

    It takes as long as ``read_status``, and up to 5 s more; longer if connections are slow to come.
    Raises ``UsageError``, ``AccessRefused`` or ``BackendUnavailable`` if it cannot connect.
    """
    found = list(_of_engine(url, schema))
    if any(check.name == "schema" and check.level is Level.ERROR for check in found):
        return found
    return [*found, *_tasks(url, schema)]


def _of_engine(url: str, schema: str) -> Iterable[Check]:
    match engine_of(url):
        case Engine.POSTGRES:
            from fang_cli.watching.tables_examining import examine_tables

            return examine_tables(url, schema)
        case Engine.SQLITE:
            from fang_sqlite.reading.health import examine as examine_file

            return examine_file(url)
        case Engine.REDIS:
            from fang_redis.reading.health import examine as examine_server

            return examine_server(redis_url(url))


def _tasks(url: str, schema: str) -> Iterator[Check]:
    """Gives the checks of what ``fang status`` shows."""
    try:
        status = read_status(url, schema)
    except BackendError as error:
        yield from (unknown(name, str(error)) for name in ("pools", "served", "schedules", "paused", "runs"))
        return
    yield checks.pools(status.lives, status.counts)
    yield checks.served(status.unserved_types, status.unknown_kinds)
    yield checks.schedules(status.unserved_schedules)
    yield checks.paused(status.types, status.paused_schedules)
    yield checks.runs(status.notable)
    if (moving := checks.aside(status.counts)) is not None:
        yield moving
    if status.unread:
        yield unknown("tasks", f"these statements took too long: {', '.join(status.unread)}")
