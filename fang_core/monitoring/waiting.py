"""Says why a task waits. Each function returns None unless its cause holds; ``explaining`` has their order."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from shlex import quote
from typing import Final

from fang_core.aside import ASIDE, released, route_of
from fang_core.crashes import MOST_GROUP, group_limit, is_suspect, runs_apart
from fang_core.errors import UsageError
from fang_core.monitoring.explanation import Cause
from fang_core.monitoring.facts import MOST_AHEAD, Facts, Found, PoolFacts
from fang_core.monitoring.wording import (
    ISOLATE,
    START_A_WORKER,
    able_pools,
    at,
    died,
    ids_of_pools,
    key_name,
    key_of,
    named,
    of_session,
    of_workers,
    others,
    pool_names,
    served_last,
    session_name,
    set_by,
    slot_details,
    slot_names,
    told_ago,
)
from fang_core.record import Task, TaskState
from fang_core.words.spans import span
from fang_core.words.texts import counted

_LOOKED_BACK_WITHIN: Final = timedelta(seconds=10)
"""How often a pool looks at all of its due tasks, whatever its cursor says: see the ladder of ``claims.cursor``."""

_OPEN_FOR: Final = timedelta(seconds=10)
"""How long a transaction must have been open to be named."""

# By themselves ---------------------------------------------------------------------------------------


def set_aside(facts: Facts, task: Task) -> Found | None:
    """It is on its way to another queue."""
    if task.task_type != ASIDE:
        return None
    try:
        (source, target), before = route_of(task), released(task)
    except UsageError as error:
        return Found(Cause.SET_ASIDE, f"{error}.".capitalize(), f"fang tasks cancel {task.id}")
    return Found(
        Cause.SET_ASIDE,
        f"A move from {named(source, 200)} to {named(target, 200)} has set it aside, and has not ended: no pool runs "
        f"it. Its task type is {named(before.task_type)}, and it is due at {at(before.scheduled_at)}.",
        "If no fang move is running, run the same one again: it goes on with this task.",
        since=task.updated_at,
        details={"from": source, "to": target, "task_type": before.task_type, "due_at": before.scheduled_at},
    )


def expired(facts: Facts, task: Task) -> Found | None:
    """No run may begin any more."""
    expires = task.expires_at
    if expires is None or expires > max(facts.now, task.scheduled_at):
        return None
    if expires <= facts.now:
        text = f"It expired at {at(expires)}, before a run began: it is cancelled when a pool comes to it."
    else:
        text = f"It expires at {at(expires)}, before it is due at {at(task.scheduled_at)}: it will be cancelled."
    return Found(
        Cause.EXPIRED, text, "Insert it again, with a later expires=.", since=expires, details={"expires_at": expires}
    )


def later(facts: Facts, task: Task) -> Found | None:
    """It is not due."""
    due = task.scheduled_at
    if due <= facts.now:
        return None
    when = f"at {at(due)}, in {span(due - facts.now)}"
    if task.state is not TaskState.RETRIED:
        now = f"To run it now: fang tasks edit {task.id} --in 0s"
        return Found(Cause.DUE_LATER, f"It is not due yet: it runs {when}.", now, until=due, details={"due_at": due})
    error = named((task.error_message or "").partition("\n")[0], 200)
    failed = counted(task.retries, "retry", "retries") if task.retries else counted(task.crashes, "crash", "crashes")
    return Found(
        Cause.RETRIED_LATER,
        f"It has failed ({failed}), and runs again {when}: {error or 'no error was given'}.",
        f"To run it now: fang tasks retry {task.id}",
        since=task.updated_at,
        until=due,
        details={"due_at": due, "retries": task.retries, "crashes": task.crashes, "error": error},
    )


# Their type, and its pools ------------------------------------------------------------------------


def paused(facts: Facts, task: Task) -> Found | None:
    """Its type is paused."""
    info = facts.type
    if info is None or not info.is_paused:
        return None
    by = f" by {named(info.paused_by)}" if info.paused_by else ""
    since = "" if info.paused_at is None else f" since {at(info.paused_at)}"
    until = "" if info.paused_until is None else f", until {at(info.paused_until)}"
    reason = f": {named(info.pause_reason, 200)}" if info.pause_reason else ""
    return Found(
        Cause.PAUSED,
        f"Its task type {named(task.task_type)} is paused{by}{since}{until}{reason}.",
        f"fang queues resume {quote(task.task_type)}",
        since=info.paused_at,
        until=info.paused_until,
        details={"task_type": task.task_type, "by": info.paused_by, "reason": info.pause_reason},
    )


def settling(facts: Facts, task: Task) -> Found | None:
    """The limits of its type are being changed."""
    until = facts.settling_until
    if until is None or until <= facts.now:
        return None
    text = f"The limits of its task type {named(task.task_type)} are being changed: nothing of it starts meanwhile."
    return Found(Cause.SETTLING, text, until=until, details={"task_type": task.task_type})


def unserved(facts: Facts, task: Task) -> Found | None:
    """No pool serves its type."""
    if facts.pools:
        return None
    return Found(
        Cause.UNSERVED_TYPE,
        f"No pool serves its task type {named(task.task_type)}{served_last(facts.type_served_at)}.",
        f"Start a worker whose pool has task_type={task.task_type!r}: fang worker MODULE:POOL",
        details={"task_type": task.task_type, "served_at": facts.type_served_at, "registered": facts.registered},
    )


def unknown(facts: Facts, task: Task) -> Found | None:
    """None of these pools knows its kind."""
    if any(pool.knows for pool in facts.pools):
        return None
    serve, know = ("serves", "knows") if len(facts.pools) == 1 else ("serve", "know")
    return Found(
        Cause.UNKNOWN_KIND,
        f"{pool_names(facts.pools)} {serve} its task type {named(task.task_type)}, and {know} no class of its kind "
        f"{named(task.kind)}{served_last(facts.served_at)}.",
        f"Have the module with the class of kind {task.kind!r} imported where the pool is made, and deploy that"
        f"{_other_mode(facts.pools)}.",
        details={"kind": task.kind, "task_type": task.task_type, "served_at": facts.served_at}
        | ids_of_pools(facts.pools),
    )


def _other_mode(pools: Sequence[PoolFacts]) -> str:
    """Returns what classes of the other mode need, if all of these pools are of one: they may be imported already."""
    needs = {"threaded": "an AsyncRunnable needs an AsyncWorkerPool", "async": "a Runnable needs a WorkerPool"}
    modes = {pool.mode for pool in pools}
    return "".join(f"; {needs[mode]}" for mode in modes & needs.keys() if len(modes) == 1)


def unusable(facts: Facts, task: Task) -> Found | None:
    """None of those works, or is going to."""
    knowing = [pool for pool in facts.pools if pool.knows]
    if any(not pool.stopping and not pool.signs.is_silent for pool in knowing):
        return None
    one = len(knowing) == 1
    silent = [pool for pool in knowing if pool.signs.is_silent]
    if silent:
        give = f"{'gives' if one else 'give'} no sign of life{told_ago(silent)}"
        text = f"{pool_names(knowing)} could run it, and {give}."
        return Found(Cause.POOLS_SILENT, text, START_A_WORKER, details=ids_of_pools(knowing))
    text = f"{pool_names(knowing)} could run it, and {'is' if one else 'are'} stopping."
    remedy = f"It waits for the next worker of task type {named(task.task_type)}: fang worker MODULE:POOL"
    return Found(Cause.POOLS_STOPPING, text, remedy, details=ids_of_pools(knowing))


def table_locked(facts: Facts, task: Task) -> Found | None:
    """No pool can claim."""
    session = facts.table_locked_by
    if session is None:
        return None
    return Found(
        Cause.TABLE_LOCKED,
        f"{session_name(facts, session)} has locked the whole table of tasks: no pool can claim until it ends.",
        f"SELECT pg_cancel_backend({session.pid})",
        since=session.since,
        details=of_session(session),
    )


def suspect(facts: Facts, task: Task) -> Found | None:
    """Pools have died under it."""
    able = able_pools(facts)
    if not is_suspect(task) or (runs_apart(task) and any(pool.isolates for pool in able)):
        return None
    limit = group_limit(task)
    together = f"with {counted(limit - 1, 'other')}"
    apart = "alone" if limit <= 1 else "apart from others like it" if limit == MOST_GROUP else together
    return Found(
        Cause.SUSPECT,
        f"{died(task)}, so it is tried {apart}: it waits until a pool has room for that.",
        ISOLATE,
        details={"crashes": task.crashes, "group_limit": None if limit == MOST_GROUP else limit},
    )


# Limits and rates ---------------------------------------------------------------------------------


def limit_full(facts: Facts, task: Task) -> Found | None:
    """Its type is full."""
    info = facts.type
    most = None if info is None else info.settings.max_running
    if info is None or most is None or facts.running < most:
        return None
    if most == 0:
        text = f"The limit of its task type {named(task.task_type)} is 0, so that nothing of it starts{set_by(info)}."
    else:
        text = (
            f"{counted(most, 'task')} of type {named(task.task_type)} may run at once{set_by(info)}, and as many run: "
            f"{slot_names(facts, facts.holders)}."
        )
    return Found(
        Cause.LIMIT_FULL,
        text,
        _more(task, str(most + 1), "It starts when fewer of them run; to allow more" if most else "To let some start"),
        details={"task_type": task.task_type, "limit": most, "running": facts.running} | slot_details(facts.holders),
    )


def key_limit_full(facts: Facts, task: Task) -> Found | None:
    """Its key is full."""
    info = facts.type
    most = None if info is None else info.settings.max_running_per_key
    if info is None or most is None or facts.key_running < most:
        return None
    text = (
        f"{counted(most, 'task')} of each key of type {named(task.task_type)} may run at once{set_by(info)}, and as "
        f"many of its key {key_name(task)} run: {slot_names(facts, facts.key_holders)}."
    )
    return Found(
        Cause.KEY_LIMIT_FULL,
        text,
        _more(task, f"--each {key_of(info)} {most + 1}", "It starts when fewer of them run; to allow more"),
        details={"task_type": task.task_type, "key": task.lane, "limit": most, "running": facts.key_running}
        | slot_details(facts.key_holders),
    )


def _more(task: Task, limits: str, what: str) -> str:
    return f"{what}, in place of all limits of the type: fang limits set {quote(task.task_type)} {limits}"


def rate(facts: Facts, task: Task) -> Found | None:
    """Its type is out of rate."""
    return _out_of_rate(facts, task, Cause.RATE, facts.start_at, f"its task type {named(task.task_type)}")


def key_rate(facts: Facts, task: Task) -> Found | None:
    """Its key is out of rate."""
    return _out_of_rate(facts, task, Cause.KEY_RATE, facts.key_start_at, f"its key {key_name(task)}")


def _out_of_rate(facts: Facts, task: Task, cause: Cause, start: datetime | None, of: str) -> Found | None:
    info = facts.type
    if info is None or start is None or start <= facts.now:
        return None
    gcra = info.settings.rate if cause is Cause.RATE else info.settings.key_rate
    assert gcra is not None
    ahead = f", and {others(facts.ahead)} before it" if facts.ahead else ""
    option = "--rate" if cause is Cause.RATE else f"--rate-each {key_of(info)}"
    return Found(
        cause,
        f"The rate of {of}, one start each {span(gcra.interval)}, allows the next one at {at(start)}, in "
        f"{span(start - facts.now)}{ahead}{set_by(info)}.",
        "It waits for its turn; to let more start, in place of all limits of the type: "
        f"fang limits set {quote(task.task_type)} {option} RATE",
        until=None if facts.ahead else start,
        details={"task_type": task.task_type, "next_start_at": start, "ahead": facts.ahead}
        | ({} if cause is Cause.RATE else {"key": task.lane}),
    )


def without_lane(facts: Facts, task: Task) -> Found | None:
    """Claims of its type do not see it yet."""
    info = facts.type
    if info is None or task.lane is not None or not info.settings.is_limited or not facts.needs_lane:
        return None
    return Found(
        Cause.WITHOUT_LANE,
        f"Its task type {named(task.task_type)} has limits, and it was inserted before that, or by a program that does "
        "not know of limits: the maintenance of a pool finds it within some seconds.",
        details={"task_type": task.task_type},
    )


# Nothing else is wrong ----------------------------------------------------------------------------


def behind(facts: Facts, task: Task) -> Found | None:
    """Others come before it."""
    if not facts.ahead:
        return None
    info = facts.type
    keys = info is not None and task.lane and info.settings.is_limited
    of = f"its key {key_name(task)}" if keys else f"its task type {named(task.task_type)}"
    come = f"{'come' if facts.ahead > 1 else 'comes'} before it{', and keys take turns' if keys else ''}"
    return Found(
        Cause.BEHIND_OTHERS,
        f"{others(facts.ahead)} of {of} {come}; {of_workers(facts)}.",
        "More workers get there sooner; a smaller priority= goes before the others.",
        details={"ahead": facts.ahead, "at_least": facts.ahead >= MOST_AHEAD} | ids_of_pools(able_pools(facts)),
    )


def locked(facts: Facts, task: Task) -> Found | None:
    """Its row is locked."""
    session = facts.locked_by
    if session is None:
        return None
    return Found(
        Cause.LOCKED,
        f"{session_name(facts, session)} has locked its row: pools pass it by until that ends.",
        f"SELECT pg_terminate_backend({session.pid})",
        since=session.since,
        details=of_session(session),
    )


def busy(facts: Facts, task: Task) -> Found | None:
    """All workers are busy."""
    able = able_pools(facts)
    if any(pool.free is None or pool.free for pool in able):
        return None
    return Found(
        Cause.NO_FREE_WORKER,
        f"It is the next of its task type {named(task.task_type)}, and {of_workers(facts)}.",
        "It begins when one is free; more workers: number_of_workers=, or one more process.",
        details=ids_of_pools(able),
    )


def older_transaction(facts: Facts, task: Task) -> Found | None:
    """A transaction is open for long."""
    session = facts.writer
    if session is None or session.since is None or facts.now - session.since < _OPEN_FOR:
        return None
    return Found(
        Cause.OLDER_TRANSACTION,
        f"{pool_names(able_pools(facts))} can run it, and will within {span(_LOOKED_BACK_WITHIN)}; "
        f"{session_name(facts, session, the='the')} has written something and not ended, which makes claims slow.",
        f"If it is not needed: SELECT pg_terminate_backend({session.pid})",
        since=session.since,
        until=facts.now + _LOOKED_BACK_WITHIN,
        details=of_session(session),
    )


def soon(facts: Facts, task: Task) -> Found | None:
    """Nothing holds it up."""
    able = able_pools(facts)
    runs = f"{pool_names(able, pool='pool')} can run it, and will within {span(_LOOKED_BACK_WITHIN)}"
    text = f"Nothing stands in its way: {runs}."
    return Found(Cause.STARTS_SOON, text, until=facts.now + _LOOKED_BACK_WITHIN, details=ids_of_pools(able))
