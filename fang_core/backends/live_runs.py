"""Writes a pool's report on its runs as JSON, and reads it: a list for each run, without the names of its fields."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from fang_core.failure import clean
from fang_core.monitoring.facts import RunFacts
from fang_core.record import LiveRun, Task, as_progress, as_time
from fang_core.runs.run import LONGEST_TEXT
from fang_core.words.stored_json import from_json

_NO_PROGRESS: Final = (None, None, None)
_LONGEST: Final = 100 * 366 * 86_400.0
"""Seconds for which no run goes on."""


def live_as_json(runs: Iterable[LiveRun]) -> str:
    """Returns the text of these runs."""
    # No \u escapes: a database in SQL_ASCII takes any text, but refuses these.
    return json.dumps([_entry(run) for run in runs], ensure_ascii=False)


def _entry(run: LiveRun) -> list[object]:
    told = run.progress
    progress = _NO_PROGRESS if told is None else (told.done, told.total, clean(told.text[:LONGEST_TEXT], 800))
    return [str(run.id), run.kind, round(run.seconds, 3), run.attempt, *progress]


def as_live(text: str | None) -> tuple[LiveRun, ...]:
    """Returns the runs that a pool has written. What another version wrote may be left out."""
    try:
        entries = from_json(text or "[]")
    except ValueError:
        return ()
    return tuple(_runs(entries)) if isinstance(entries, list) else ()


def _runs(entries: Iterable[Any]) -> Iterator[LiveRun]:
    for entry in entries:
        try:
            yield as_live_run(entry)
        except (TypeError, ValueError, AttributeError, OverflowError):  # an integer is never infinite, and JSON may be
            continue


def as_live_run(entry: Any) -> LiveRun:
    """Returns a run of the list.

    Raises ``TypeError``, ``ValueError``, ``AttributeError`` or ``OverflowError`` for anything else.
    """
    task_id, kind, seconds, attempt, done, total, text = entry
    told = {"done": done, "total": total, "text": str(text or "")}
    return LiveRun(UUID(task_id), str(kind), _seconds(seconds), int(attempt), as_progress(told))


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not 0 <= seconds <= _LONGEST:
        raise ValueError("no run has gone on for so long")
    return seconds


def told_of_run(
    task: Task, now: datetime, notable: Any, runs: Sequence[LiveRun], *, busy: int | None, told_at: datetime | None
) -> RunFacts:
    """Returns the report of a task's holder on its run.

    Args:
        notable: what its record says of the run of the task, if anything: that it hangs, and its progress.
        runs: those that it named at ``told_at``, when ``busy`` of its workers were. It names none in its first second.
    """
    run = next((run for run in runs if run.id == task.id), None)
    names_all = task.claimed_at is not None and told_at is not None and told_at >= task.claimed_at
    ago = timedelta() if told_at is None else now - told_at
    return run_facts(task, now, notable, run, ago, names_all=names_all and busy == len(runs))


def run_facts(
    task: Task, now: datetime, notable: Any, run: LiveRun | None, ago: timedelta, *, names_all: bool
) -> RunFacts:
    """Returns the same; ``run`` is what the holder reported ``ago``. Reports on another attempt are left out."""
    seconds = progress = place = None
    if run is not None and run.attempt == task.attempt:
        seconds, progress = run.seconds + ago.total_seconds(), run.progress
    if isinstance(notable, Mapping) and notable.get("attempt") == task.attempt:
        place, progress = notable.get("hung"), as_progress(notable.get("progress")) or progress
        since = as_time(notable.get("since"))
        seconds = seconds if since is None or seconds is not None else (now - since).total_seconds()
    return RunFacts(seconds, place if isinstance(place, str) else None, progress, names_all)
