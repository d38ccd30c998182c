"""What all groups of operations have: the statements of one schema name."""

from fang_postgres.pool.unheld import Unheld
from fang_postgres.statements import Statements, statements


class OperationsBase:
    """Holds the statements on the tables under one schema name."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self.unheld = Unheld()
        """The kinds and task types that pools leave out of their statements."""
        self._statements: Statements = statements(schema)
        self._fetched_last: dict[str, str] = {}  # by managed type: the key that the next fetch by hand begins behind
