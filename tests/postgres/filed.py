"""The statements that ``fang_postgres.texts`` has in files, as SQLAlchemy builds them.

``python -m tests.postgres.filed`` writes the files anew.
"""

from collections.abc import Callable
from typing import Final

import pytest

from fang_postgres import texts
from fang_postgres.once import OfSchema, builders_of
from fang_postgres.operations.bulk import STATEMENTS as BULK
from fang_postgres.operations.listing import ListingStatements
from fang_postgres.operations.moving import MovingStatements
from fang_postgres.reports.reports import ReportStatements
from fang_postgres.schema import Tables, tables
from fang_postgres.statement import Statement
from fang_postgres.statements import Statements, statements

CLASSES: Final[tuple[type[OfSchema], ...]] = (Statements, ListingStatements, MovingStatements, ReportStatements)

BUILDERS: Final[dict[str, Callable[[Tables], Statement]]] = {
    **{f"{each.folder}{name}": build for each in CLASSES for name, build in builders_of(each).items()},
    **{f"bulk/{name}": build for name, build in BULK.items()},
}
"""What builds each, by the name of its file."""


def write() -> None:
    for name, build in BUILDERS.items():
        file = texts.FOLDER / f"{name}.sql"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(texts.as_file(build(tables("fang"))))


def build_anew(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Has these statements be built, with what has been patched, instead of read from their files. Whoever undoes the
    patch clears the cache of ``statements``."""
    for name in names:
        patch.setattr(Statements, name, BUILDERS[name](tables("fang")))
    statements.cache_clear()


if __name__ == "__main__":
    write()
