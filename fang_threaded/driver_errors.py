"""Turns errors of psycopg, and SQLAlchemy's around them, into typed ones. Imports no SQLAlchemy, which takes time."""

from typing import TYPE_CHECKING

import psycopg
from typing_extensions import TypeIs

from fang_core.errors import BackendError, StatementRefused
from fang_core.interpreter.imported import is_of
from fang_postgres.connections.diagnosis import code_of_connect_failure, diagnose

if TYPE_CHECKING:
    from sqlalchemy.exc import SQLAlchemyError


def is_of_driver(error: BaseException) -> "TypeIs[SQLAlchemyError | psycopg.Error]":
    """Returns whether it is an error of psycopg's or SQLAlchemy's."""
    return isinstance(error, psycopg.Error) or is_of(error, "sqlalchemy.exc", "SQLAlchemyError")


def sqlstate_of(error: "SQLAlchemyError | psycopg.Error") -> str | None:
    """Returns the SQLSTATE, or None if the database gave none."""
    return getattr(error if isinstance(error, psycopg.Error) else getattr(error, "orig", None), "sqlstate", None)


def typed(error: "SQLAlchemyError | psycopg.Error", schema: str) -> BackendError:
    """Returns the typed error for an error of SQLAlchemy or psycopg."""
    original = error if isinstance(error, psycopg.Error) else getattr(error, "orig", None)
    if not isinstance(original, psycopg.Error) and not is_of(error, "sqlalchemy.exc", "InterfaceError"):
        return StatementRefused(f"the statement could not be run: {type(error).__name__}")
    sqlstate = getattr(original, "sqlstate", None)
    diagnostic = getattr(original, "diag", None)
    message = (diagnostic and diagnostic.message_primary) or str(original)
    if sqlstate is None and not isinstance(original, psycopg.OperationalError):
        return StatementRefused(f"the driver refused the statement: {type(original).__name__}")
    severity = diagnostic and diagnostic.severity_nonlocalized
    return diagnose(sqlstate or code_of_connect_failure(message), message, schema=schema, severity=severity)


def driver_error(error: BaseException, schema: str) -> BackendError | None:
    """Returns the typed error for an error of psycopg, and None for any other error."""
    return typed(error, schema) if isinstance(error, psycopg.Error) else None
