"""Decides which code may work on which tables.

The file of a revision names the oldest code that may still use the tables (``oldest_code``), by the revision that this
code was made for. ``fang migrate`` writes that into the comment on the version table. Code that does not know the
revision reads it there, with the right to read the version, which it needs anyway.
"""

import re
from typing import Final, NamedTuple

from fang_postgres.names import HEAD

_COMMENT: Final = "fang: revision={} oldest_code={}"
_READ: Final = re.compile(r"\brevision=(\w+) oldest_code=(\w+)")


class Revision(NamedTuple):
    """The revision that tables are at; ``oldest_code`` is None if their comment does not give it."""

    number: str
    oldest_code: str | None

    @property
    def may_be_used(self) -> bool:
        """Returns whether this version of the library may use the tables."""
        return self.number == HEAD or (self.number > HEAD and self.oldest_code is not None and self.oldest_code <= HEAD)


def comment_for(number: str, oldest_code: str) -> str:
    """Returns the comment to write on the version table."""
    return _COMMENT.format(number, oldest_code)


def read_revision(number: str, comment: str | None) -> Revision:
    """Reads a revision from the version table and its comment; a comment about another revision is ignored."""
    found = _READ.search(comment or "")
    return Revision(number, found[2] if found and found[1] == number else None)


def schema_problem(schema: str, found: Revision | None) -> str | None:
    """Returns a line that says what is wrong with the tables' revision and what to do; None if they may be used."""
    where = "" if schema == "fang" else f" --schema {schema}"
    if found is None:
        return f"table {schema}.fang_tasks is missing: run `fang migrate{where}`"
    if found.may_be_used:
        return None
    at = f"schema {schema} is at revision {found.number}"
    if found.number < HEAD:
        return f"{at}, this version needs {HEAD}: run `fang migrate{where}`"
    return f"{at}, which this version, made for {HEAD}, may not use: upgrade fang-tasks"
