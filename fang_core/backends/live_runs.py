"""Writes what a pool tells of its runs as JSON, and reads it: a list for each run, without the names of its fields."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final
from uuid import UUID

from fang_core.failure import clean
from fang_core.record import LiveRun, as_progress
from fang_core.runs.run import LONGEST_TEXT

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
        entries = json.loads(text or "[]")
    except (ValueError, RecursionError):
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
