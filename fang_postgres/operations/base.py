"""Defines the base of all groups of operations: the statements of one schema name."""

from typing import TYPE_CHECKING

from fang_postgres.pool.unheld import Unheld

if TYPE_CHECKING:
    from fang_postgres.statements import Statements


class OperationsBase:
    """Holds the statements on the tables under one schema name."""

    def __init__(self, schema: str) -> None:
        # With SQLAlchemy, which those need not have who only read rows as operations do.
        from fang_postgres.statements import statements

        self.schema = schema
        self.unheld = Unheld()
        """The kinds and task types that pools leave out of their statements."""
        self._statements: Statements = statements(schema)
        self._fetched_last: dict[str, str] = {}  # by managed type: the key that the next fetch by hand begins behind
