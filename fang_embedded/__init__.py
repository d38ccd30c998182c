"""Runs a Postgres server from a wheel, for development and tests; it ends with the process that started it."""

from fang_embedded.launcher import EmbeddedPostgres, EmbeddedPostgresError

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]
