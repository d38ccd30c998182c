"""Reads the reports of pools on their runs."""

from fang_core.monitoring.figures import NotableRun
from fang_core.monitoring.notable import notable_runs
from fang_postgres.operations.rows import as_object
from fang_postgres.statement import Rows


def as_notable_runs(rows: Rows) -> list[NotableRun]:
    """Returns the runs that hang, the oldest first, and then the rest. What another version wrote may be left out."""
    return notable_runs((pool_id, now, as_object(told)) for pool_id, now, told in rows)
