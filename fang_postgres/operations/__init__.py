"""Makes operations: a statement, its parameters and the meaning of its rows. Each mode runs them in its own way."""

from typing import TYPE_CHECKING

from fang_core.interpreter.lazy import lazily

if TYPE_CHECKING:
    from fang_postgres.operations.every import Operations
else:
    # A report needs what some of them make of rows, and none of their statements.
    __getattr__ = lazily(__name__, {"Operations": "fang_postgres.operations.every"})

__all__ = ("Operations",)
