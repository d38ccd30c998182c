"""Makes SQLAlchemy engines on psycopg, for the command and for migrations."""

from typing import Any

from sqlalchemy import URL, Engine, create_engine

from fang_core.errors import MissingExtra
from fang_postgres.urls.urls import address


def engine_for(url: str | URL, *, application_name: str = "fang", **options: Any) -> Engine:
    """Returns an engine that connects as the URL says; ``options`` are those of ``create_engine``.

    Raises ``UsageError`` if the URL cannot be honoured, ``AccessRefused`` if a file that it names is missing, and
    ``MissingExtra`` if psycopg is not installed.
    """
    there = address(url)
    there.refuse_what_is_missing()
    arguments = there.for_psycopg(application_name=application_name)
    try:
        return create_engine("postgresql+psycopg://", connect_args=arguments, **options)
    except ImportError:
        raise MissingExtra("psycopg is missing: pip install 'fang-tasks[cli]'") from None
