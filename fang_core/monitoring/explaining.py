"""Decides why a task is not running, from facts of one moment: the first cause that holds. It is pure.

The order is that in which a claim meets them: what does not exist cannot run, what has ended needs no pool, what is not
due is no concern of limits. So the cause that is named is the one that has to change first; when it has, the next one
may hold.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from fang_core.monitoring import held, waiting
from fang_core.monitoring.explanation import Cause, Explanation
from fang_core.monitoring.facts import Facts, Found
from fang_core.monitoring.wording import at, named
from fang_core.record import Task, TaskState
from fang_core.words.texts import counted


def explained(facts: Facts) -> Explanation:
    """Returns the one cause that holds first."""
    task = facts.task
    found = _gone(facts) if task is None else next(_causes(facts, task))
    return Explanation(
        task_id=facts.task_id,
        task=task,
        cause=found.cause,
        text=found.text,
        remedy=found.remedy,
        at=facts.now,
        since=found.since,
        until=found.until,
        details=found.details,
    )


def _causes(facts: Facts, task: Task) -> Iterator[Found]:
    rules = _OF_HELD if task.state is TaskState.IN_PROGRESS else _OF_OTHERS
    return (found for rule in rules if (found := rule(facts, task)) is not None)


# Tasks that are no more -----------------------------------------------------------------------------------------------


def _gone(facts: Facts) -> Found:
    made = _made_at(facts.task_id)
    when = "" if made is None else f" (made at {at(made)}, by its id)"
    return Found(
        Cause.GONE,
        f"There is no task {facts.task_id}{when}: it has finished or was removed, or the transaction that inserts it "
        "is not committed.",
        "To keep finished tasks, give their pool retention_mode=RetentionMode.KEEP_ALL.",
        details={} if made is None else {"made_at": made},
    )


def _made_at(task_id: UUID) -> datetime | None:
    """Returns the time in a UUIDv7."""
    if task_id.version != 7:
        return None
    try:
        return datetime.fromtimestamp((task_id.int >> 80) / 1_000, UTC)
    except (OverflowError, ValueError):
        return None


def _ended(facts: Facts, task: Task) -> Found | None:
    when, again = at(task.updated_at), f"To run it once more: fang tasks retry {task.id}"
    error = named((task.error_message or "").partition("\n")[0], 200)
    if task.state is TaskState.FINISHED:
        return Found(Cause.FINISHED, f"It finished at {when}, in its run {task.attempt}.", since=task.updated_at)
    if task.state is TaskState.FAILED:
        text = f"It failed for good at {when}, after {counted(task.attempt, 'run')}: {error or 'no error was given'}."
        return Found(Cause.FAILED, text, again, since=task.updated_at, details={"error": error})
    if task.state is TaskState.CANCELLED:
        by = (task.cancel_request or {}).get("by")
        told = f"{f' by {named(by)}' if by else ''}{f': {error}' if error else ''}"
        details = {"by": by, "reason": task.error_message}
        return Found(
            Cause.CANCELLED, f"It was cancelled at {when}{told}.", again, since=task.updated_at, details=details
        )
    return None


Rule = Callable[[Facts, Task], Found | None]

_OF_HELD: Final[Sequence[Rule]] = (
    held.holder_unknown,
    held.holder_silent,
    held.by_hand,
    held.cancel_requested,
    held.suspect,
    held.waits_for_worker,
    held.running,
)
_OF_OTHERS: Final[Sequence[Rule]] = (
    _ended,
    waiting.set_aside,
    waiting.expired,
    waiting.later,
    waiting.paused,
    waiting.settling,
    waiting.unserved,
    waiting.unknown,
    waiting.unusable,
    waiting.table_locked,
    waiting.suspect,
    waiting.limit_full,
    waiting.key_limit_full,
    waiting.rate,
    waiting.key_rate,
    waiting.without_lane,
    waiting.behind,
    waiting.locked,
    waiting.busy,
    waiting.older_transaction,
    waiting.soon,
)
