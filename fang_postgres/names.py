"""Names what is in the database, for those who need no SQLAlchemy, which takes time to import."""

import re
from typing import Final

from fang_core.errors import UsageError
from fang_core.record import Task

HEAD: Final = "0006"
"""The revision that this version of the library was made for."""

VERSION_TABLE: Final = "fang_alembic_version"
DEFAULT_SCHEMA: Final = "fang"
TASK_COLUMNS: Final = tuple(name for name in Task._fields if name not in {"conflict", "progress"})
"""The fields of ``Task`` that are columns."""

COUNTERS: Final = ("started", "arrived", "finished", "retried", "failed", "cancelled", "lost", "rescued")
SUMS: Final = ("queue_s", "run_s", "cpu_s", "worker_s")
HISTOGRAMS: Final = ("queue", "run")
"""The columns of ``fang_stats`` besides its key."""


def channel(schema: str) -> str:
    """Returns the channel that pools LISTEN on; Postgres allows a name of 63 bytes."""
    return f"fang_{schema}"[:63]


def checked_schema(name: str) -> str:
    """Returns the name, or raises ``UsageError`` unless it is a schema name that never needs quotes."""
    if not isinstance(name, str) or not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name) or name.startswith("pg_"):
        raise UsageError(f"schema {name!r:.80}: use lower-case letters, digits and underscores, 63 at most, no pg_")
    return name
