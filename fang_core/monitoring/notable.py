"""Reads the reports of pools on their runs: those that hang, and those that report their progress."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from fang_core.monitoring.figures import NotableRun
from fang_core.record import as_progress, as_time


def notable_runs(told: Iterable[tuple[UUID, datetime, Mapping[str, Any]]]) -> list[NotableRun]:
    """Returns the runs that hang, the oldest first, and then the rest. Runs that another version wrote may be left
    out."""
    found = [run for pool_id, now, runs in told for run in _runs(pool_id, now, runs)]
    return sorted(found, key=lambda run: (not run.is_hung, run.since, run.task_id))


def _runs(pool_id: UUID, now: datetime, runs: Mapping[str, Any]) -> Iterator[NotableRun]:
    for task_id, run in runs.items():
        try:
            since = as_time(run["since"])
            if since is None:
                continue
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
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            continue
