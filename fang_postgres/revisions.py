"""Which code may work on which tables.

A revision says in its file which is the oldest code that may go on beside it (``oldest_code``), as the revision that
this code was made for. ``fang migrate`` writes that into the comment on the version table, where code that does not
know the revision reads it with the right to read the version, which it needs anyway.
"""

import re
from typing import Final, NamedTuple

from fang_postgres.schema import HEAD

_COMMENT: Final = "fang: revision={} oldest_code={}"
_READ: Final = re.compile(r"\brevision=(\w+) oldest_code=(\w+)")


class Revision(NamedTuple):
    """What tables are at; ``oldest_code`` is None where they do not say it."""

    number: str
    oldest_code: str | None

    @property
    def may_be_used(self) -> bool:
        """Whether this version of the library may insert and work on them."""
        return self.number == HEAD or (self.number > HEAD and self.oldest_code is not None and self.oldest_code <= HEAD)


def comment_for(number: str, oldest_code: str) -> str:
    """What is written on the version table."""
    return _COMMENT.format(number, oldest_code)


def read_revision(number: str, comment: str | None) -> Revision:
    """As the version table and its comment say; a comment that is another revision's says nothing."""
    found = _READ.search(comment or "")
    return Revision(number, found[2] if found and found[1] == number else None)


def schema_problem(schema: str, found: Revision | None) -> str | None:
    """What is wrong with the tables' revision, in one line that says what to do; None if this version may use them."""
    where = "" if schema == "fang" else f" --schema {schema}"
    if found is None:
        return f"table {schema}.fang_tasks is missing: run `fang migrate{where}`"
    if found.may_be_used:
        return None
    at = f"schema {schema} is at revision {found.number}"
    if found.number < HEAD:
        return f"{at}, this version needs {HEAD}: run `fang migrate{where}`"
    return f"{at}, which this version, made for {HEAD}, may not use: upgrade fang-tasks"
