"""Says why a task that is in progress does not run, or that it does; see ``waiting``."""

from datetime import timedelta
from typing import Final

from fang_core.crashes import group_limit, is_suspect, runs_apart
from fang_core.monitoring.explanation import Cause
from fang_core.monitoring.facts import Facts, Found
from fang_core.monitoring.wording import (
    ISOLATE,
    START_A_WORKER,
    at,
    died,
    named,
    pool_ids,
    pool_name,
    since_when,
    told_ago,
    told_progress,
)
from fang_core.record import Task, as_time
from fang_core.words.spans import span

_ORPHANS_WITHIN: Final = timedelta(seconds=15)
"""How often pools look for tasks whose holder has no record: see ``SWEEP_EVERY``."""

_BEGINS_WITHIN: Final = timedelta(seconds=3)
"""How long after a claim a run may have begun without its pool having named it: runs that take less than a second are
not named, and pools tell once a second."""


def holder_unknown(facts: Facts, task: Task) -> Found | None:
    """A pool without a record holds it."""
    if facts.holder is not None:
        return None
    held = f"It is held by pool {task.pool_id}, which is not registered" if task.pool_id else "It is held by no pool"
    if facts.registered:
        back, remedy = f"another pool takes it back within {span(_ORPHANS_WITHIN)}", ""
    else:
        back, remedy = "a pool will take it back, and none is registered", START_A_WORKER
    if task.pool_id is None:
        back, remedy = "so that no pool takes it back", f"To have it run: fang tasks retry {task.id}"
    until = facts.now + _ORPHANS_WITHIN if task.pool_id and facts.registered else None
    details = {"pool_id": task.pool_id}
    return Found(Cause.HOLDER_UNKNOWN, f"{held}: {back}.", remedy, since=task.claimed_at, until=until, details=details)


def holder_silent(facts: Facts, task: Task) -> Found | None:
    """Its pool gives no sign of life."""
    holder = facts.holder
    if holder is None or not holder.signs.is_silent:
        return None
    others = facts.registered - 1
    back = "another pool takes it back when that one's lease is over" if others else "no other pool is registered"
    return Found(
        Cause.HOLDER_SILENT,
        f"It is held by pool {pool_name(holder)}, which gives no sign of life{told_ago([holder])}: {back}.",
        "" if others else START_A_WORKER,
        since=task.claimed_at,
        details=pool_ids(holder),
    )


def by_hand(facts: Facts, task: Task) -> Found | None:
    """A queue has fetched it."""
    holder = facts.holder
    if holder is None or holder.mode != "manual":
        return None
    return Found(
        Cause.FETCHED_BY_HAND,
        f"A queue in process {named(holder.place)} has fetched it by hand{since_when(facts, task.claimed_at)}.",
        "It waits for the program that fetched it: update_task_state(), fail_task(), schedule_retry() or closing its "
        "queue ends that.",
        since=task.claimed_at,
        details=pool_ids(holder),
    )


def cancel_requested(facts: Facts, task: Task) -> Found | None:
    """It was asked to end."""
    request, holder = task.cancel_request, facts.holder
    if request is None or holder is None:
        return None
    by, reason = named(request.get("by", "someone")), named(request.get("reason", ""))
    when = as_time(request.get("at"))
    asked = f"{by} asked{f' at {at(when)}' if when else ''} that it be cancelled{f' ({reason})' if reason else ''}"
    place = f" at {facts.run.place}" if facts.run.place else ""
    return Found(
        Cause.CANCEL_REQUESTED,
        f"{asked}, and its run in pool {pool_name(holder)} has not ended{place}.",
        "A run ends when it next lets itself be interrupted; one that never does ends with its process.",
        since=when or task.claimed_at,
        details=pool_ids(holder) | {"by": request.get("by"), "reason": request.get("reason")},
    )


def suspect(facts: Facts, task: Task) -> Found | None:
    """Its pool holds it until nothing else runs."""
    holder = facts.holder
    is_apart = holder is not None and holder.isolates and runs_apart(task)
    if holder is None or not is_suspect(task) or is_apart or not _has_not_begun(facts, task):
        return None
    return Found(
        Cause.SUSPECT,
        f"Pool {pool_name(holder)} has claimed it{since_when(facts, task.claimed_at)}, and begins it when its other "
        f"runs have ended. {died(task)}, so that it is tried apart.",
        ISOLATE,
        since=task.claimed_at,
        details=pool_ids(holder) | {"crashes": task.crashes, "group_limit": group_limit(task)},
    )


def waits_for_worker(facts: Facts, task: Task) -> Found | None:
    """Its pool has no free worker."""
    holder = facts.holder
    if holder is None or not _has_not_begun(facts, task):
        return None
    return Found(
        Cause.WAITS_FOR_WORKER,
        f"Pool {pool_name(holder)} has claimed it{since_when(facts, task.claimed_at)}, and has no "
        f"free worker of its {holder.workers:,}: it begins when one is free.",
        "Another pool takes it if it has nothing to do; more workers: number_of_workers=, or one more process.",
        since=task.claimed_at,
        details=pool_ids(holder) | {"busy": holder.busy, "waiting": holder.waiting, "workers": holder.workers},
    )


def _has_not_begun(facts: Facts, task: Task) -> bool:
    """Returns whether the pool that holds the task has tasks that wait, and the task is none of those that run."""
    holder, run = facts.holder, facts.run
    if holder is None or run.seconds is not None or not holder.waiting:
        return False
    return run.names_all or (task.claimed_at is not None and facts.now - task.claimed_at > _BEGINS_WITHIN)


def running(facts: Facts, task: Task) -> Found | None:
    """It runs."""
    holder, run = facts.holder, facts.run
    if holder is None:  # cannot be: HOLDER_UNKNOWN comes first
        return None
    since = task.claimed_at if run.seconds is None else facts.now - timedelta(seconds=run.seconds)
    where = f"{f' at {run.place}' if run.place else ''}{told_progress(run.progress)}"
    began = "It was claimed" if run.seconds is None else "It has been running"
    return Found(
        Cause.RUNNING,
        f"{began}{since_when(facts, since)}, in pool {pool_name(holder)}, in its run {task.attempt}{where}.",
        f"To have it interrupted: fang tasks cancel {task.id}" if run.place else "",
        since=since,
        details=pool_ids(holder) | {"place": run.place, "progress": run.progress, "attempt": task.attempt},
    )
