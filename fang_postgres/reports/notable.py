"""Reads what pools tell of their runs."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from fang_core.record import as_progress
from fang_postgres.reports.figures import NotableRun
from fang_postgres.statement import Rows


def as_notable_runs(rows: Rows) -> list[NotableRun]:
    """Returns the runs that hang, the oldest first, and then the others. What another version wrote may be left out."""
    runs = [run for pool_id, now, told in rows for run in _runs(pool_id, now, told)]
    return sorted(runs, key=lambda run: (not run.is_hung, run.since, run.task_id))


def _runs(pool_id: UUID, now: datetime, told: str) -> Iterator[NotableRun]:
    try:
        runs: Any = json.loads(told)
        items = list(runs.items())
    except (ValueError, RecursionError, AttributeError):
        return
    for task_id, run in items:
        try:
            since = datetime.fromisoformat(run["since"])
            place = run.get("hung")
            yield NotableRun(
                pool_id=pool_id,
                task_id=task_id,
                kind=str(run["kind"]),
                attempt=int(run["attempt"]),
                since=since,
                age=now - since,
                is_hung="hung" in run,
                place=place if isinstance(place, str) else None,
                progress=as_progress(run.get("progress")),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
